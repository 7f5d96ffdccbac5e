"""Derivative models as files: what they compute, with and without rules, is what is in the file."""

import keras
import numpy as np
import pytest
import torch
from conftest import ENGINE
from exported import error, run
from keras import layers as L

import wrt
from wrt.errors import ExportError

SUFFIX = {"jax": ".stablehlo", "torch": ".onnx", "tensorflow": ""}[ENGINE]
GUIDED = {"relu": wrt.rules.guided}


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def keras_mlp(activation="relu"):
    dense = [L.Dense(8, activation=activation), L.Dense(7, activation=activation), L.Dense(2)]
    return keras.Sequential([keras.Input((3,)), *dense])


def torch_mlp():
    nn = torch.nn
    return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 7), nn.ReLU(inplace=True), nn.Linear(7, 2))


U = drawn(6, 2, seed=4)
KINDS = {
    "backward": (wrt.backward_model, lambda m, x: wrt.vjp(m, x, U[: len(x)])),
    "guided": (lambda m: wrt.backward_model(m, rules=GUIDED), lambda m, x: wrt.vjp(m, x, U[: len(x)], rules=GUIDED)),
    "gradient": (lambda m: wrt.backward_model(m, of=1), lambda m, x: wrt.gradient(m, x, 1)),
    "jacobian": (wrt.jacobian_model, wrt.jacobian),
    "augmented": (wrt.AugNet.from_model, lambda m, x: m.predict(x, verbose=0)),
    "penalised": (lambda m: wrt.penalize(m, wrt.penalties.InputGradient()), lambda m, x: m.predict(x, verbose=0)),
}
CASES = [(keras_mlp, kind) for kind in KINDS]
CASES += [(torch_mlp, kind) for kind in ("guided", "jacobian")] if ENGINE == "torch" else []


@pytest.mark.parametrize(("net", "kind"), CASES)
def test_models(tmp_path, net, kind):
    torch.manual_seed(1)
    make, wanted = KINDS[kind]
    model = net()
    made = make(model)
    path = wrt.export(made, tmp_path / f"file{SUFFIX}", drawn(4, 3))
    for count in (1, 6):
        x = drawn(count, 3, seed=count)
        found = run(path, {"x": x, "cotangent": U[:count]} if kind in ("backward", "guided") else {"x": x})
        assert [error(value, wanted(model, x)) < 1e-5 for value in found.values()] == [True]


def test_rules_are_in_the_file(tmp_path):
    """Guided backpropagation lets nothing negative through, and is not the gradient."""
    model = keras_mlp()
    path = wrt.export(wrt.backward_model(model, of=1, rules=GUIDED), tmp_path / f"file{SUFFIX}", drawn(4, 3))
    x = drawn(6, 3, seed=2)
    assert error(run(path, {"x": x})["gradient"], wrt.gradient(model, x, 1)) > 0.1


def test_weights_are_those_of_the_export(tmp_path):
    """A file follows no training; the next one does."""
    model, x = keras_mlp("tanh"), drawn(4, 3)
    backward = wrt.backward_model(model, of=1)
    before = wrt.gradient(model, x, 1)
    first = wrt.export(backward, tmp_path / f"first{SUFFIX}", x)
    model.layers[-1].kernel.assign(3 * model.layers[-1].kernel)
    second = wrt.export(backward, tmp_path / f"second{SUFFIX}", x)
    assert error(run(first, {"x": x})["gradient"], before) < 1e-5
    assert error(run(second, {"x": x})["gradient"], 3 * before) < 1e-5


def test_second_derivatives(tmp_path):
    """The Jacobian of a gradient; only TensorFlow can leave the number of samples open twice."""
    model, x = keras_mlp("tanh"), drawn(4, 3)
    gradient, path = wrt.backward_model(model, of=1), tmp_path / f"hessian{SUFFIX}"
    if ENGINE != "tensorflow":
        with pytest.raises(ExportError, match="holds a derivative model inside"):
            wrt.export(gradient, path, x, what="jacobian")
        assert not any(tmp_path.iterdir())
        return
    wrt.export(gradient, path, x, what="jacobian")
    wanted = wrt.AugNet.from_model(model).return_hessian(x, of=1)
    assert error(run(path, {"x": x})["jacobian"], wanted) < 1e-5
