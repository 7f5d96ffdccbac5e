"""Compiled programs belong to what a function computes now, and keep nothing of what it has read."""

import gc
import types
import weakref

import keras
import numpy as np
import pytest
from conftest import ENGINE
from subjects import close, keras_net, keras_tolerance, math, points, tensor, truth

import wrt
from wrt.errors import ModelError, PlanMismatchError

X = points(4)


def dense(last):
    """A Keras model with the identity in front of a layer."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, use_bias=False), last])
    model.layers[0].set_weights([np.eye(3)])
    return model


def test_an_operator_of_other_outputs_says_so():
    settings = types.SimpleNamespace(count=2)
    jacobian = wrt.linearize(lambda x: x[:, : settings.count] * 2.0, tensor(X))
    settings.count = 1
    with pytest.raises(PlanMismatchError, match=r"call wrt\.linearize again"):
        jacobian.matvec(tensor(X))


def test_a_function_of_the_output_is_followed_and_compiled_once_for_each(compilations):
    model, settings = keras_net(), types.SimpleNamespace(factor=1.0)
    of = lambda y: y[:, 0] * settings.factor
    counts = []
    for factor in (1.0, 2.0, 1.0, 2.0):
        settings.factor = factor
        close(wrt.gradient(model, X, of), factor * truth(X)[:, 0], keras_tolerance())
        counts.append(len(compilations))
    assert counts[1] == counts[3]


def test_a_large_head_in_a_function_of_the_output():
    """Its weights are too many for a key: the whole is traced, and follows all the same."""
    head = np.zeros((4, 40_000))
    model, weights = keras_net(), {"now": tensor(head)}
    of = lambda y: math().tanh(y @ weights["now"])[:, 1]
    wrt.gradient(model, X, of)
    head[2, 1] = 1e-3  # nearly linear
    weights["now"] = tensor(head)
    close(wrt.gradient(model, X, of) / 1e-3, truth(X)[:, 2], max(keras_tolerance(), 1e-5))


@pytest.mark.parametrize("make", [lambda f: keras.layers.Lambda(f), lambda f: keras.layers.Dense(3, f)])
def test_users_code_in_a_keras_model_is_followed(make):
    settings = types.SimpleNamespace(factor=1.0)
    last = make(lambda x: keras.ops.sin(x) * settings.factor)
    model = dense(last)
    if last.weights:
        last.set_weights([np.eye(3), np.zeros(3)])
    for factor in (1.0, 3.0):
        settings.factor = factor
        close(np.diagonal(wrt.jacobian(model, X), axis1=1, axis2=2), factor * np.cos(X), 1e-5)


def test_an_attribute_of_one_of_keras_own_layers_is_followed():
    model = dense(keras.layers.LeakyReLU(0.5))
    close(wrt.jacobian(model, -np.abs(X))[0], 0.5 * np.eye(3), 1e-6)
    model.layers[1].negative_slope = 0.25
    close(wrt.jacobian(model, -np.abs(X))[0], 0.25 * np.eye(3), 1e-6)


def test_a_regulariser_that_reads_something_is_followed():
    settings = types.SimpleNamespace(weight=0.0)
    pull = lambda image: settings.weight * (image**2).sum(-1) if ENGINE == "torch" else settings.weight * total(image)
    total = lambda image: math().sum(image**2, -1) if ENGINE == "jax" else math().reduce_sum(image**2, -1)
    options = {"init": np.ones((1, 3)), "steps": 1, "learning_rate": 1.0, "regularizers": [pull], "optimizer": "sgd"}
    model = dense(keras.layers.Dense(1, use_bias=False))
    model.layers[1].set_weights([np.ones((3, 1))])
    start = {"of": 0, **options}
    close(wrt.maximize(model, **start).x, np.full((1, 3), 2.0), 1e-5)  # x + d/dx sum(x)
    settings.weight = 0.5
    close(wrt.maximize(model, **start).x, np.full((1, 3), 1.0), 1e-5)  # x + 1 - 2 weight x


if ENGINE == "jax":
    import jax
    import jax.numpy as jnp
    from flax import nnx

    def test_a_rule_that_reads_something_is_followed():
        slope = {"now": 2.0}

        @jax.custom_vjp
        def f(x):
            return jnp.sin(x)

        f.defvjp(lambda x: (f(x), None), lambda _, u: (slope["now"] * u,))
        for value in (2.0, 5.0, 2.0):
            slope["now"] = value
            close(wrt.jacobian(f, tensor(X), mode="reverse")[0], value * np.eye(3), 1e-12)

    def test_a_rule_over_arrays_is_followed_and_compiled_once(compilations):
        scale = {"now": jnp.ones(3)}

        @jax.custom_jvp
        def f(x):
            return jnp.sin(x)

        f.defjvp(lambda x, t: (f(*x), t[0] * scale["now"]))
        for factor in (1.0, 2.0, 3.0):
            scale["now"] = factor * jnp.arange(1.0, 4.0)
            close(wrt.jacobian(f, tensor(X))[1], factor * np.diag([1.0, 2.0, 3.0]), 1e-12)
        assert len(compilations) == 1

    def test_nothing_that_a_function_read_stays_alive():
        w = jnp.ones((3, 3)) * 2
        f = lambda x: jax.jit(lambda x: jnp.sin(x @ w))(x)
        wrt.jacobian(f, tensor(X))
        wrt.jacobian(f, tensor(X))
        held = weakref.ref(w), weakref.ref(f)
        del w, f
        gc.collect()
        assert [reference() for reference in held] == [None, None]

    def test_what_a_program_may_hold():
        """Keys, loops, branches, nothing defined: all of it is written down, and equal when it is made again."""
        key = jax.random.key(3)

        def make(factor):
            def f(x):
                x = jax.lax.scan(lambda h, _: (jnp.tanh(h) * factor, None), x, None, length=3)[0]
                x = jax.lax.cond(x.sum() > 0, lambda x: x, lambda x: -x, x) + jax.random.normal(key, x.shape)
                return jnp.where(x > 1e6, jnp.nan, jax.nn.gelu(x)) + jax.nn.relu(x)

            return f

        engine = wrt.engines.registry.engine("jax")
        traces = [engine.trace(make(factor), (tensor(X),)) for factor in (2.0, 2.0, 3.0)]
        assert traces[0].key == traces[1].key != traces[2].key
        assert traces[0].whole
        close(traces[1].function(traces[0].constants, tensor(X)), make(2.0)(tensor(X)), 1e-12)

    def test_an_nnx_module_that_a_function_holds_is_left_as_it_is():
        model = nnx.Sequential(nnx.Linear(3, 5, rngs=nnx.Rngs(0)), nnx.BatchNorm(5, rngs=nnx.Rngs(0)))
        model.train()
        holder = types.SimpleNamespace(models=[model])
        x = X.astype("float32")
        before = [np.array(a) for a in jax.tree.leaves(nnx.state(model))]
        found = wrt.jacobian(lambda z: holder.models[0](z), x)
        close(found, wrt.jacobian(model, x), 1e-6)
        scale = 1 / np.sqrt(1 + model.layers[1].epsilon)  # of the statistics that it began with
        close(found[0], scale * np.asarray(model.layers[0].kernel[...]).T, 1e-5)
        after = [np.array(a) for a in jax.tree.leaves(nnx.state(model))]
        assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
        assert model.layers[1].use_running_average is False

    def test_state_that_moves_says_what_to_do():
        model = nnx.BatchNorm(3, rngs=nnx.Rngs(0))

        class Hidden:
            __slots__ = ("model",)

        hidden = Hidden()
        hidden.model = model
        with pytest.raises(ModelError, match=r"call eval\(\) on the module"):
            wrt.jacobian(lambda z: hidden.model(z, use_running_average=False), tensor(X, "float32"))


if ENGINE == "tensorflow":
    import tensorflow as tf

    def test_a_rule_that_reads_something_is_followed():
        slope = {"now": 2.0}

        @tf.custom_gradient
        def f(x):
            return tf.sin(x), lambda u: slope["now"] * u

        for value in (2.0, 5.0, 2.0):
            slope["now"] = value
            close(wrt.jacobian(f, tensor(X), mode="reverse")[0], value * np.eye(3), 1e-12)

    def test_loops_branches_and_calls_have_equal_keys_when_they_are_made_again():
        matrix = tf.Variable(np.eye(3))
        inner = tf.function(lambda x: tf.tanh(x))

        def make(factor):
            def f(x):
                x = tf.while_loop(lambda i, _: i < 3, lambda i, x: (i + 1, inner(x @ matrix) * factor), [0, x])[1]
                x = tf.map_fn(lambda row: row * 2.0, x)
                return tf.cond(tf.reduce_sum(x) > 0, lambda: x, lambda: -x)

            return f

        engine = wrt.engines.registry.engine("tensorflow")
        traces = [engine.trace(make(factor), (tensor(X),)) for factor in (2.0, 2.0, 3.0)]
        assert traces[0].key == traces[1].key != traces[2].key
        assert traces[0].whole
