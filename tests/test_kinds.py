"""What goes in comes out: NumPy or tensors, their dtypes, graphs, and the frameworks' own transformations around it."""

import numpy as np
import pytest
import torch
from conftest import ENGINE
from subjects import (
    B1,
    B2,
    W1,
    W2,
    array,
    close,
    function_net,
    keras_net,
    keras_tolerance,
    points,
    tensor,
    torch_net,
    truth,
)

import wrt
from wrt.engines import registry

X = points(5)
J = truth(X)
V = np.random.default_rng(5).normal(size=(5, 3))


def squared(x, weights=(W1, B1, W2, B2)):
    """Sum of the squared gradients of unit 1, what a penalty would be."""
    return float((truth(x, weights)[:, 1] ** 2).sum())


def differences(function, value, step=1e-5):
    """Central differences of a scalar function of one array."""
    found = np.zeros_like(value)
    for index in np.ndindex(*value.shape):
        up, down = value.copy(), value.copy()
        up[index] += step
        down[index] -= step
        found[index] = (function(up) - function(down)) / (2 * step)
    return found


SLOPE = differences(squared, X)  # d squared / dx
IN_W1 = differences(lambda w: squared(X, (w, B1, W2, B2)), W1)
IN_W2 = differences(lambda w: squared(X, (W1, B1, w, B2)), W2)


@pytest.mark.parametrize("make", [function_net, keras_net])
def test_numpy_in_numpy_out(make):
    for found in (wrt.jacobian(make(), X), wrt.gradient(make(), X, of=1), wrt.jvp(make(), X, V)):
        assert type(found) is np.ndarray
        assert found.dtype == np.float64


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float16", 2e-2)])
def test_dtype_is_the_models(dtype, tolerance):
    found = wrt.jacobian(function_net(dtype=dtype), tensor(X, dtype))
    assert registry.engine(ENGINE).dtype(found) == dtype
    close(array(found).astype("float64"), J, tolerance)
    host = wrt.jacobian(keras_net("float32"), X.astype(dtype))
    assert host.dtype == np.float32
    assert wrt.jacobian(keras_net("float64"), X.astype("float32")).dtype == np.float64


def test_bfloat16_becomes_float32_in_numpy():
    model = keras_net("bfloat16")
    found = wrt.jacobian(model, X.astype("float32"))
    assert found.dtype == np.float32
    close(found.astype("float64"), J, 5e-2)


@pytest.mark.parametrize("make", [function_net, keras_net])
def test_tensor_in_same_kind_out(make):
    engine = registry.engine(ENGINE)
    x = tensor(X)
    found = {
        "jacobian": (wrt.jacobian(make(), x), J),
        "gradient": (wrt.gradient(make(), x, of=2), J[:, 2]),
        "jvp": (wrt.jvp(make(), x, tensor(V)), np.einsum("noi,ni->no", J, V)),
        "vjp": (wrt.vjp(make(), x, tensor(J[..., 0])), np.einsum("noi,no->ni", J, J[..., 0])),
    }
    for value, wanted in found.values():
        assert engine.owns(value)
        close(value, wanted, 1e-10 if make is function_net else keras_tolerance())
        assert not engine.carries_graph(value)


def test_extra_arrays_follow_x():
    close(wrt.jvp(function_net(), X, tensor(V)), np.einsum("noi,ni->no", J, V), 1e-10)
    close(wrt.jvp(function_net(), tensor(X), V), np.einsum("noi,ni->no", J, V), 1e-10)


if ENGINE == "torch":

    def test_torch_graph_only_where_x_has_one():
        x = torch.from_numpy(X)
        assert not wrt.gradient(torch_net(), x, of=1).requires_grad
        assert wrt.gradient(torch_net(), x, of=1, differentiable=True).requires_grad
        leaf = x.clone().requires_grad_()
        for mode in ("reverse", "forward"):
            g = wrt.gradient(torch_net(), leaf, of=1, mode=mode)
            close(torch.autograd.grad((g**2).sum(), leaf)[0], SLOPE, 1e-6)
        assert leaf.grad is None

    @pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
    def test_torch_contexts_without_gradients(context):
        model = torch_net()
        with context():
            x = torch.from_numpy(X) * 1.0
            for mode in ("reverse", "forward"):
                close(wrt.jacobian(model, x, mode=mode), J, 1e-10)
                close(wrt.jacobian(model, X, mode=mode), J, 1e-10)
            close(wrt.gradient(keras_net(), x, of=1), J[:, 1], 1e-4)
        assert not torch.is_inference_mode_enabled()

    @pytest.mark.parametrize("make", [function_net, torch_net])
    def test_torch_func_around_wrt(make):
        model, x = make(), torch.from_numpy(X)
        total = lambda t: (wrt.gradient(model, t, of=1) ** 2).sum()
        close(torch.func.grad(total)(x), SLOPE, 1e-6)
        close(torch.func.jacrev(total)(x), SLOPE, 1e-6)
        rows = torch.func.vmap(lambda t: wrt.gradient(model, t[None], of=1)[0])(x)
        close(rows, J[:, 1], 1e-10)
        close(torch.func.vmap(lambda t: wrt.jacobian(model, t[None])[0])(x), J, 1e-10)
        close(torch.func.jvp(lambda t: wrt.gradient(model, t, of=1), (x,), (torch.from_numpy(V),))[0], J[:, 1], 1e-10)

    def test_torch_weight_gradients():
        model, x = torch_net(), torch.from_numpy(X)
        (wrt.gradient(model, x, of=1, differentiable=True) ** 2).sum().backward()
        close(model[0].weight.grad.T, IN_W1, 1e-6)
        close(model[2].weight.grad.T, IN_W2, 1e-6)

    def test_keras_on_torch_weight_gradients():
        model = keras_net()
        (wrt.gradient(model, torch.from_numpy(X), of=1, differentiable=True) ** 2).sum().backward()
        close(model.get_layer("hidden").kernel.value.grad, IN_W1, 1e-4)
        close(model.get_layer("last").kernel.value.grad, IN_W2, 1e-4)


if ENGINE == "jax":
    import equinox
    import jax
    import jax.numpy as jnp

    @pytest.mark.parametrize("make", [function_net, keras_net])
    def test_jax_transformations_around_wrt(make):
        model, x = make(), jnp.asarray(X)
        g = lambda t: wrt.gradient(model, t, of=1)
        close(jax.jit(g)(x), J[:, 1], 1e-10)
        close(jax.jit(lambda t: wrt.jacobian(model, t, mode="forward"))(x), J, 1e-10)
        close(jax.grad(lambda t: (g(t) ** 2).sum())(x), SLOPE, 1e-6)
        close(jax.jit(jax.grad(lambda t: (g(t) ** 2).sum()))(x), SLOPE, 1e-6)
        close(jax.vmap(lambda t: wrt.gradient(model, t[None], of=1)[0])(x), J[:, 1], 1e-10)
        close(jax.jvp(g, (x,), (jnp.asarray(V),))[0], J[:, 1], 1e-10)

    def test_jax_labels_that_are_traced():
        f, labels = function_net(), np.array([3, 0, 1, 1, 2])
        found = jax.jit(lambda t, k: wrt.gradient(f, t, of=k))(jnp.asarray(X), jnp.asarray(labels))
        close(found, J[np.arange(5), labels], 1e-10)

    def test_jax_values_are_not_leaked_from_a_trace():
        f = function_net()
        jax.jit(lambda t: wrt.gradient(f, t, of=1))(jnp.asarray(X))
        close(wrt.gradient(f, jnp.asarray(X), of=1), J[:, 1], 1e-10)
        with jax.checking_leaks():
            close(jax.jit(lambda t: wrt.gradient(f, t, of=2))(jnp.asarray(X)), J[:, 2], 1e-10)

    def test_equinox_weight_gradients():
        class Net(equinox.Module):
            w1: jax.Array
            w2: jax.Array

            def __call__(self, x):
                return jax.nn.sigmoid(x @ self.w1 + B1) @ self.w2 + B2

        def penalty(model):
            return (wrt.gradient(model, jnp.asarray(X), of=1, differentiable=True) ** 2).sum()

        net = Net(jnp.asarray(W1), jnp.asarray(W2))
        for found in (equinox.filter_grad(penalty)(net), equinox.filter_jit(equinox.filter_grad(penalty))(net)):
            close(found.w1, IN_W1, 1e-6)
            close(found.w2, IN_W2, 1e-6)


if ENGINE == "tensorflow":
    import tensorflow as tf

    @pytest.mark.parametrize("jit_compile", [None, True])
    @pytest.mark.parametrize("make", [function_net, keras_net])
    def test_tf_function_around_wrt(make, jit_compile):
        model, x = make(), tf.constant(X)
        for mode in ("reverse", "forward"):
            g = tf.function(lambda t, mode=mode: wrt.jacobian(model, t, mode=mode), jit_compile=jit_compile)
            close(g(x), J, 1e-10)

    @pytest.mark.parametrize("make", [function_net, keras_net])
    def test_tf_function_of_an_unknown_batch(make):
        model = make()
        g = tf.function(lambda t: wrt.gradient(model, t, of=1), input_signature=[tf.TensorSpec((None, 3), tf.float64)])
        close(g(tf.constant(X)), J[:, 1], 1e-10)
        close(g(tf.constant(X[:2])), J[:2, 1], 1e-10)

    @pytest.mark.parametrize("make", [function_net, keras_net])
    def test_tape_around_wrt(make):
        model, x = make(), tf.constant(X)
        with tf.GradientTape() as tape:
            tape.watch(x)
            total = tf.reduce_sum(wrt.gradient(model, x, of=1, differentiable=True) ** 2)
        close(tape.gradient(total, x), SLOPE, 1e-6)

    def test_tf_weight_gradients():
        model, x = keras_net(), tf.constant(X)
        weights = [model.get_layer(n).kernel.value for n in ("hidden", "last")]
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(wrt.gradient(model, x, of=1, differentiable=True) ** 2)
        first, second = tape.gradient(total, weights)
        close(first, IN_W1, 1e-6)
        close(second, IN_W2, 1e-6)


def test_structures_of_tensors():
    f = function_net()
    found = wrt.jacobian(lambda d: {"y": f(d["a"]) + f(d["b"])}, {"a": tensor(X), "b": tensor(V)})
    close(found["y"]["a"], J, 1e-10)
    close(found["y"]["b"], truth(V), 1e-10)


def test_sparse_returns_scipy_per_sample():
    found = wrt.jacobian(keras_net(), X, sparse=True, batch_size=2)
    assert len(found) == 5
    close(np.stack([s.toarray() for s in found]), J, keras_tolerance())
