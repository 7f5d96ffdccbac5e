"""Every engine against the same NumPy truth, and against the frameworks' own Jacobians."""

import keras
import numpy as np
import pytest
import torch
from conftest import ENGINE
from subjects import array, close, function_net, points, tensor

import wrt

RNG = np.random.default_rng(21)
X = RNG.normal(size=(3, 6, 5, 2))
KERNEL, BIAS = RNG.normal(size=(3, 2, 2, 4)), RNG.normal(size=4)
DENSE, LAST = RNG.normal(size=(48, 3)) * 0.2, RNG.normal(size=3)


def network():
    """Convolution with strides (1, 2), a smooth activation, dense: weights by a seeded generator."""
    inputs = keras.Input((6, 5, 2), dtype="float64")
    y = keras.layers.Conv2D(4, (3, 2), strides=(1, 1), activation="sigmoid", dtype="float64")(inputs)
    y = keras.layers.AveragePooling2D((1, 2), strides=(1, 1), dtype="float64")(y)
    y = keras.layers.Flatten(dtype="float64")(y)
    model = keras.Model(inputs, keras.layers.Dense(3, dtype="float64")(y))
    model.set_weights([KERNEL, BIAS, DENSE, LAST])
    return model


def by_hand(x):
    """The forward pass and its Jacobian (N, 3, 6, 5, 2), loop by loop."""
    n = len(x)
    hidden, slope = np.zeros((n, 4, 4, 4)), np.zeros((n, 4, 4, 4, 6, 5, 2))
    for i in range(4):
        for j in range(4):
            z = np.einsum("nabc,abco->no", x[:, i : i + 3, j : j + 2], KERNEL) + BIAS
            hidden[:, i, j] = 1 / (1 + np.exp(-z))
            inner = hidden[:, i, j] * (1 - hidden[:, i, j])
            slope[:, i, j, :, i : i + 3, j : j + 2] = np.einsum("no,abco->noabc", inner, KERNEL)
    pooled = (hidden[:, :, 1:] + hidden[:, :, :-1]) / 2
    pooled_slope = (slope[:, :, 1:] + slope[:, :, :-1]) / 2
    jacobian = np.einsum("nkabc,ko->noabc", pooled_slope.reshape(n, 48, 6, 5, 2), DENSE)
    return pooled.reshape(n, 48) @ DENSE + LAST, jacobian


TOLERANCE = 1e-4 if ENGINE == "torch" else 1e-10
OWN = 1e-6 if ENGINE == "torch" else 1e-10  # Keras multiplies in float32 there


def test_the_truth_holds_against_differences():
    step, jacobian = 1e-6, by_hand(X)[1]
    for index in [(0, 0, 0), (3, 2, 1), (5, 4, 0)]:
        up, down = X.copy(), X.copy()
        up[(slice(None), *index)] += step
        down[(slice(None), *index)] -= step
        slope = (by_hand(up)[0] - by_hand(down)[0]) / (2 * step)
        np.testing.assert_allclose(jacobian[(..., *index)], slope, atol=1e-8)


@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_the_same_weights_give_the_same_numbers_on_every_engine(mode):
    value, jacobian = by_hand(X)
    found, y = wrt.jacobian(network(), X, mode=mode, with_output=True)
    close(y, value, TOLERANCE)
    close(found, jacobian, TOLERANCE)


@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_against_the_frameworks_own_jacobian(mode):
    model, x = network(), tensor(X)
    if ENGINE == "torch":
        own = torch.func.jacrev(lambda t: model(t).sum(0), chunk_size=1)(x).movedim(1, 0)
    elif ENGINE == "jax":
        import jax

        own = jax.vmap(jax.jacrev(lambda t: model(t[None])[0]))(x)
    else:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(x)
            y = model(x)
        own = tape.batch_jacobian(y, x)
    close(wrt.jacobian(model, x, mode=mode), array(own), OWN)
    close(wrt.jacobian(model, X, mode=mode), array(own), OWN)


def test_the_comparison_can_fail():
    with pytest.raises(AssertionError):
        close(wrt.jacobian(network(), X), by_hand(X)[1] + 3 * TOLERANCE, TOLERANCE)


def test_against_the_reference_engine():
    """Differences of the NumPy function are another way to the same numbers."""
    x = points(4)
    inner = lambda t: np.tanh(t) * t[:, :1]
    exact = wrt.jacobian(function_net(), tensor(x))
    differences = wrt.jacobian(lambda t: array(function_net()(tensor(t))), x)
    close(differences, array(exact), 1e-8)
    assert wrt.jacobian(inner, x).shape == (4, 3, 3)
