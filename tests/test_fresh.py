"""The derivatives are those of the weights as they are now; nothing of the user's is touched; nothing leaks."""

import gc
import random
import weakref

import keras
import numpy as np
import psutil
import pytest
import torch
from conftest import ENGINE
from subjects import (
    B1,
    B2,
    W1,
    W2,
    close,
    function_net,
    keras_net,
    keras_tolerance,
    math,
    points,
    tensor,
    torch_net,
    truth,
)

import wrt
import wrt.errors
from wrt.engines import adapt

X = points(5)
OTHER = (W1 * 1.5, B1 - 1, W2[::-1].copy(), B2)
TOLERANCE = keras_tolerance()


def weights_of(model):
    return [np.asarray(keras.ops.convert_to_numpy(v)) for v in model.variables]


def assign(model, weights):
    for variable, value in zip(model.variables, weights, strict=True):
        variable.assign(tensor(value, "float64"))


def test_keras_after_a_manual_change():
    model = keras_net()
    plan = wrt.plan_jacobian(model, X)
    close(plan(X), truth(X), TOLERANCE)
    assign(model, OTHER)
    close(plan(X), truth(X, OTHER), TOLERANCE)
    close(wrt.jacobian(model, X), truth(X, OTHER), TOLERANCE)


def test_keras_after_fit_and_predict():
    model = keras_net()
    plan = wrt.plan_jacobian(model, X)
    plan(X)
    model.compile("sgd", "mse")
    model.fit(X, np.ones((5, 4)), epochs=2, verbose=0)
    model.predict(X, verbose=0)
    assert not np.allclose(weights_of(model)[0], W1)
    close(plan(X), truth(X, weights_of(model)), TOLERANCE)
    model.fit(X, np.ones((5, 4)), verbose=0)
    model.evaluate(X, np.ones((5, 4)), verbose=0)
    close(plan(X), truth(X, weights_of(model)), TOLERANCE)


def test_keras_after_load_weights(tmp_path):
    keras_net(weights=OTHER).save_weights(tmp_path / "w.weights.h5")
    model = keras_net()
    plan = wrt.plan_jacobian(model, X)
    plan(X)
    model.load_weights(tmp_path / "w.weights.h5")
    close(plan(X), truth(X, OTHER), max(TOLERANCE, 1e-6))


def test_keras_activation_changed():
    model = keras_net()
    close(wrt.jacobian(model, X), truth(X), TOLERANCE)
    model.get_layer("hidden").activation = keras.activations.linear
    close(wrt.jacobian(model, X), np.tile((W1 @ W2).T, (5, 1, 1)), TOLERANCE)


def test_torch_after_an_optimiser_step():
    model = torch_net()
    plan = wrt.plan_jacobian(model, X)
    close(plan(X), truth(X), 1e-10)
    optimiser = torch.optim.SGD(model.parameters(), 0.1)
    model(torch.from_numpy(X)).pow(2).sum().backward()
    optimiser.step()
    now = [p.detach().numpy() for p in model.parameters()]
    assert not np.allclose(now[0], W1.T)
    close(plan(X), truth(X, (now[0].T, now[1], now[2].T, now[3])), 1e-10)


def test_a_function_over_rebound_weights():
    """`f` reads a name that is bound to new weights: the compiled program must not keep the old ones."""
    w = tensor(W1)
    sin = math().sin

    def f(x):
        return sin(x @ w)

    close(wrt.jacobian(f, tensor(X)), np.einsum("no,io->noi", np.cos(X @ W1), W1), 1e-10)
    w = tensor(W1 * 2)
    close(wrt.jacobian(f, tensor(X)), np.einsum("no,io->noi", np.cos(X @ W1 * 2), W1 * 2), 1e-10)


def test_a_keras_model_inside_a_function():
    model = keras_net()
    f = lambda x: model(x) * 2.0
    close(wrt.jacobian(f, tensor(X)), 2 * truth(X), TOLERANCE)
    assign(model, OTHER)
    close(wrt.jacobian(f, tensor(X)), 2 * truth(X, OTHER), TOLERANCE)


if ENGINE == "jax":
    import equinox
    import jax
    import jax.numpy as jnp
    from flax import nnx

    PARAMS = {"w": jnp.asarray(W1)}

    def global_net(x):
        return jnp.sin(x @ PARAMS["w"])

    def test_jax_global_parameters_rebound():
        global PARAMS
        for factor in (1.0, 3.0):
            PARAMS = {"w": jnp.asarray(W1 * factor)}
            wanted = np.einsum("no,io->noi", np.cos(X @ W1 * factor), W1 * factor)
            close(wrt.jacobian(global_net, X), wanted, 1e-10)

    @pytest.mark.parametrize("lift", [lambda f: f, jax.jit, lambda f: jax.vmap(jax.jit(f))])
    def test_jax_lambda_over_new_parameters_is_not_compiled_again(lift, compilations):
        counts = []
        for factor in (1.0, 2.0, 3.0):
            params = jnp.asarray(W1 * factor)
            wanted = np.einsum("no,io->noi", np.cos(X @ W1 * factor), W1 * factor)
            close(wrt.jacobian(lift(lambda x, params=params: jnp.sin(x @ params)), tensor(X)), wanted, 1e-10)
            counts.append(len(compilations))
        assert 0 < counts[0] == counts[1] == counts[2]

    def test_nnx_after_an_update():
        model = nnx.Linear(3, 2, rngs=nnx.Rngs(0), param_dtype=jnp.float64, dtype=jnp.float64)
        plan = wrt.plan_jacobian(model, X)
        for factor in (1.0, 2.0):
            model.kernel[...] = jnp.asarray(W1[:, :2] * factor)
            close(plan(X), np.tile(W1[:, :2].T * factor, (5, 1, 1)), 1e-10)

    def test_equinox_new_module_is_not_compiled_again(compilations):
        class Net(equinox.Module):
            w: jax.Array

            def __call__(self, x):
                return jnp.sin(x @ self.w)

        wanted = lambda w: np.einsum("no,io->noi", np.cos(X @ w), w)
        close(wrt.jacobian(Net(jnp.asarray(W1)), X), wanted(W1), 1e-10)
        before = len(compilations)
        assert before > 0
        close(wrt.jacobian(Net(jnp.asarray(W1 + 1)), X), wanted(W1 + 1), 1e-10)
        assert len(compilations) == before


def run_everything(model, x=X):
    for of in (1, "max", wrt.top(2), lambda y: y[:, 0], wrt.layer("hidden", 1), wrt.logit(1)):
        wrt.gradient(model, x, of=of)
    wrt.jacobian(model, x, mode="forward")
    wrt.jacobian(model, x, wrt=wrt.layer("hidden"))
    wrt.jvp(model, x, x)
    wrt.vjp(model, x, np.ones((len(x), 4)))


def regular_net():
    """With layers that behave otherwise in training."""
    inputs = keras.Input((3,))
    y = keras.layers.BatchNormalization(name="norm")(keras.layers.Dense(5, activation="sigmoid", name="hidden")(inputs))
    return keras.Model(inputs, keras.layers.Dense(4)(keras.layers.Dropout(0.5, name="drop")(y)))


def test_keras_model_is_untouched():
    model = regular_net()
    layers = model.layers
    model(X.astype("float32"))
    before = [w.copy() for w in weights_of(model)]
    attributes = [set(vars(layer)) for layer in layers]
    flags = [layer.trainable for layer in layers]
    x = X.copy()
    run_everything(model, x)
    assert np.array_equal(x, X)
    assert all(np.array_equal(a, b) for a, b in zip(before, weights_of(model), strict=True))
    assert [set(vars(layer)) for layer in layers] == attributes
    assert all("call" not in vars(layer) for layer in layers)
    assert [layer.trainable for layer in layers] == flags
    if ENGINE == "torch":
        assert all(p.grad is None and p.requires_grad for v in model.trainable_variables for p in [v.value])
        assert not any(layer._forward_hooks for layer in layers)


def test_keras_model_is_untouched_after_an_error():
    model = regular_net()
    attributes = [set(vars(layer)) for layer in model.layers]
    for of in (99, wrt.layer("hidden", 99), wrt.layer("nothing", 0), lambda y: 1 / 0):
        with pytest.raises((wrt.errors.WrtError, ZeroDivisionError)):
            wrt.gradient(model, X, of=of)
    assert [set(vars(layer)) for layer in model.layers] == attributes


def test_inference_mode_is_used():
    """Dropout and batch statistics would make the samples differ between calls and from each other's company."""
    model = regular_net()
    whole = wrt.jacobian(model, X)
    close(wrt.jacobian(model, X), whole, 1e-12)
    close(wrt.jacobian(model, X[2:3]), whole[2:3], 1e-5)


def test_torch_module_is_untouched():
    model = torch.nn.Sequential(
        torch.nn.Linear(3, 4),
        torch.nn.BatchNorm1d(4),
        torch.nn.ReLU(inplace=True),
        torch.nn.Dropout(),
        torch.nn.Linear(4, 4),
    )
    model.train()
    model[1].eval()
    model[0].weight.requires_grad_(False)
    flags = [m.training for m in model.modules()]
    wants = [p.requires_grad for p in model.parameters()]
    before = {k: v.clone() for k, v in model.state_dict().items()}
    x = torch.from_numpy(X.astype("float32"))
    kept = x.clone()
    for mode in ("reverse", "forward"):
        wrt.jacobian(model, x, mode=mode)
    wrt.gradient(model, x, of="max")
    wrt.gradient(model, X, of=1, wrt=wrt.layer("1"), batch_size=2)
    with pytest.raises(wrt.errors.SelectionError):
        wrt.gradient(model, x, of=99)
    assert torch.equal(x, kept)
    assert x.grad is None
    assert [m.training for m in model.modules()] == flags
    assert [p.requires_grad for p in model.parameters()] == wants
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in model.modules())


def test_existing_grads_are_kept():
    model = torch_net()
    model(torch.from_numpy(X)).sum().backward()
    before = [p.grad.clone() for p in model.parameters()]
    wrt.jacobian(model, X)
    assert all(torch.equal(a, p.grad) for a, p in zip(before, model.parameters(), strict=True))


def surroundings():
    found = {
        "numpy": str(np.random.get_state()[1].tolist()),
        "python": random.getstate(),
        "torch": torch.get_rng_state().tolist(),
        "default": torch.get_default_dtype(),
        "grad": torch.is_grad_enabled(),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "floatx": keras.config.floatx(),
        "policy": keras.config.dtype_policy().name,
    }
    if ENGINE == "tensorflow":
        tf = math()
        found["eager"] = tf.executing_eagerly(), tf.config.functions_run_eagerly()
    if ENGINE == "jax":
        found["x64"] = jax.config.jax_enable_x64, jax.config.jax_debug_nans
    return found


def test_surroundings_are_untouched():
    models = [keras_net(), regular_net()]  # Dropout draws from a seed of its own, made here
    before = surroundings()
    for model in models:
        run_everything(model)
    assert surroundings() == before


def test_no_leak_over_a_thousand_calls():
    model = keras_net()
    calls = {
        "label": lambda: wrt.gradient(model, X, of=np.random.default_rng().integers(4, size=5)),
        "lambda": lambda: wrt.gradient(model, X, of=lambda y: y[:, 0]),
        "function": lambda: wrt.jacobian(model, X, batch_size=2),
    }
    for call in calls.values():
        for _ in range(5):
            call()
    gc.collect()
    entries, start = len(adapt._per_model.of(model)), psutil.Process().memory_info().rss
    for _ in range(334):
        for call in calls.values():
            call()
    gc.collect()
    assert len(adapt._per_model.of(model)) == entries
    assert psutil.Process().memory_info().rss - start < 48 << 20


def test_choices_that_never_come_again_are_forgotten():
    model = torch_net()
    for n in range(200):
        wrt.gradient(model, X, of=lambda y, n=n: y[:, 0] * n)
    assert len(adapt._per_model.of(model)) <= 64
    close(wrt.gradient(model, X, of=1), truth(X)[:, 1], 1e-10)


def test_models_and_functions_die():
    for make in (keras_net, torch_net, function_net):
        model = make()
        if make is function_net:
            wrt.gradient(model, tensor(X), of=1)
        else:
            wrt.gradient(model, X, of=1)
            wrt.jacobian(model, X, mode="forward")
        reference = weakref.ref(model)
        del model
        gc.collect()
        assert reference() is None, make.__name__


def test_a_deleted_models_cache_entry_is_gone():
    model = torch_net()
    wrt.gradient(model, X, of=1)
    before = len(adapt._per_model)
    del model
    gc.collect()
    assert len(adapt._per_model) < before


def test_a_plan_keeps_its_model():
    plan = wrt.plan_jacobian(keras_net(), X)
    gc.collect()
    close(plan(X), truth(X), TOLERANCE)


if ENGINE == "torch":

    def tied():
        """y = W'ᵀ W x with one matrix for both, as in autoencoders with tied weights."""
        module = torch.nn.Sequential(torch.nn.Linear(3, 3, bias=False), torch.nn.Linear(3, 3, bias=False)).double()
        module[1].weight = module[0].weight
        return module

    def test_tied_weights_count_twice():
        module = tied()
        weight = module[0].weight
        close(wrt.jacobian(module, X), np.broadcast_to((weight @ weight).detach().numpy(), (5, 3, 3)), 1e-12)
        penalty = wrt.gradient(module, torch.from_numpy(X), 0, differentiable=True).square().sum()
        expected = torch.autograd.grad((weight @ weight)[0].square().sum() * len(X), weight)[0]
        close(torch.autograd.grad(penalty, weight)[0].numpy(), expected.numpy(), 1e-12)

    def test_another_layer_in_its_place_is_seen():
        module = tied()
        plan = wrt.plan_jacobian(module, X)
        module[1] = torch.nn.Linear(3, 3, bias=False).double()  # no longer tied: two tensors in place of one
        close(plan(X), np.broadcast_to((module[1].weight @ module[0].weight).detach().numpy(), (5, 3, 3)), 1e-12)
        module[1] = torch.nn.Tanh()
        close(wrt.jacobian(module, X), torch.func.vmap(torch.func.jacrev(module))(torch.from_numpy(X)).detach(), 1e-12)
