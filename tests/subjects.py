"""Models and functions under test, on the engine that WRT_TEST_ENGINE names, and truth by hand in NumPy."""

import importlib

import keras
import numpy as np
import torch
from conftest import ENGINE

from wrt.engines import registry
from wrt.testing import scenarios

_DRAWN = np.random.default_rng(24)  # the highest unit differs between samples
_SIZES = (((3, 5), 1.2), ((5,), 0.7), ((5, 4), 1.5), ((4,), 0.7))
W1, B1, W2, B2 = (_DRAWN.normal(size=shape) * scale for shape, scale in _SIZES)


def tensor(value, dtype=None):
    """A tensor of the engine under test."""
    return registry.engine(ENGINE).asarray(np.asarray(value), dtype)


def array(value):
    """The values of a tensor or array."""
    owner = registry.owner(value)
    return owner.numpy(value) if owner else np.asarray(value)


def math():
    """The engine's own sin, tanh, exp, ..."""
    return importlib.import_module({"jax": "jax.numpy"}.get(ENGINE, ENGINE))


def scenario(name):
    return next(s for s in scenarios() if s.name == name)


def points(count, seed=0):
    """Inputs of the network below, (count, 3)."""
    return np.random.default_rng(seed).normal(size=(count, 3))


def truth(x, weights=(W1, B1, W2, B2)):
    """Jacobian (N, 4, 3) of s(x W1 + b1) W2 + b2 by hand, s the logistic function."""
    w1, b1, w2, _ = weights
    h = 1 / (1 + np.exp(-(x @ w1 + b1)))
    return np.einsum("ho,nh,ih->noi", w2, h * (1 - h), w1)


def value(x, weights=(W1, B1, W2, B2)):
    w1, b1, w2, b2 = weights
    return 1 / (1 + np.exp(-(x @ w1 + b1))) @ w2 + b2


def keras_net(dtype="float64", weights=(W1, B1, W2, B2)):
    """The same network in Keras. Keras multiplies in float32 on torch (tanh would be float32 on JAX)."""
    inputs = keras.Input((3,), dtype=dtype, name="x")
    hidden = keras.layers.Dense(5, activation="sigmoid", dtype=dtype, name="hidden")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(4, dtype=dtype, name="last")(hidden))
    for variable, w in zip(model.variables, weights, strict=True):
        variable.assign(tensor(w, dtype))
    return model


def torch_net(dtype=torch.float64):
    """The same network in torch."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Sigmoid(), torch.nn.Linear(5, 4)).to(dtype)
    with torch.no_grad():
        for parameter, w in zip(model.parameters(), (W1.T, B1, W2.T, B2), strict=True):
            parameter.copy_(torch.from_numpy(w))
    return model


def function_net(weights=(W1, B1, W2, B2), dtype="float64"):
    """The same network as a function of the engine's tensors."""
    exp = math().exp
    w1, b1, w2, b2 = (tensor(w, dtype) for w in weights)
    return lambda x: 1 / (1 + exp(-(x @ w1 + b1))) @ w2 + b2


def keras_tolerance():
    return 1e-4 if ENGINE == "torch" else 1e-10


def nets():
    """Every form of the network that this engine has: (name, make, tolerance)."""
    found = [("function", function_net, 1e-10), ("keras", keras_net, keras_tolerance())]
    return found + ([("torch", torch_net, 1e-10)] if ENGINE == "torch" else [])


def close(found, wanted, tolerance):
    """Same shape, and equal to `tolerance` relative to the largest entry."""
    found, wanted = array(found), np.asarray(wanted)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * max(1.0, np.abs(wanted).max(initial=0)))
