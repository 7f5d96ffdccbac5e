"""Every layer of Keras: first and second derivatives against central differences, inside compiled functions."""

from __future__ import annotations

import inspect

import keras
import numpy as np
import pytest

import wrt

from . import battery
from .cases import CASES, ENGINE, Case
from .refused import EXCEPTIONS, REFUSED


def set_dtype(dtype: str) -> None:
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)


@pytest.fixture(autouse=True)
def _double():
    before = keras.config.floatx()
    set_dtype("float64")
    yield
    set_dtype(before)


def randomise(model: keras.Model) -> None:
    """Weights away from their initial zeros and ones; variances stay positive."""
    rng = np.random.default_rng(2)
    for weight in model.weights:
        if "float" in weight.dtype:
            weight.assign(keras.ops.convert_to_numpy(weight) + rng.uniform(0.05, 0.3, weight.shape))


def precision(case: Case) -> tuple[battery.Differences, float]:
    """Steps and tolerance: Keras on torch multiplies matrices in float32, whatever it is told."""
    if case.kink:
        return (
            (battery.Differences("narrow", 2e-3), 2e-3) if case.single else (battery.Differences("narrow", 1e-5), 1e-6)
        )
    if case.single or ENGINE == "torch":
        return battery.Differences("wide", 2e-2), 1e-3 if case.single else 1e-4
    return battery.Differences("narrow", 1e-5), 1e-6


# no forward derivative inside a compiled function, where it is not put right: loops
NO_PUSH = {
    "tensorflow": ("SimpleRNN-loop", "LSTM-loop", "GRU-loop", "ConvLSTM"),
    "torch": ("MixUp",),
}

# piecewise linear, with a first derivative that torch itself cannot differentiate again
NO_SECOND = {("torch", "Activation-hard_sigmoid"): "hardsigmoid"}


@pytest.mark.parametrize("case", [c for c in CASES if ENGINE in c.engines], ids=lambda c: c.name)
def test_layer(case: Case):
    if case.single:
        set_dtype("float32")
    model = case.model()
    randomise(model)
    differences, tolerance = precision(case)
    x = battery.separated(list(case.shapes))
    plan = battery.check_first(model, x, differences, case.loose * tolerance, case.chunk)
    fallback = any(map(case.name.startswith, NO_PUSH.get(ENGINE, ())))
    assert plan.mode == ("reverse" if fallback else "forward"), plan
    assert fallback == ("forward mode is not available" in plan.why[0])
    if (ENGINE, case.name) in NO_SECOND:
        with pytest.raises(RuntimeError, match=NO_SECOND[ENGINE, case.name]):
            battery.second(model, x, x)
    else:
        battery.check_second(model, x, differences, case.loose * tolerance)


@pytest.mark.parametrize("refusal", REFUSED, ids=lambda r: r.layer.__name__)
def test_no_derivative_is_an_error(refusal):
    model = refusal.make()
    for call in (lambda: wrt.jacobian(model, refusal.x), lambda: wrt.gradient(model, refusal.x, 0)):
        with pytest.raises(refusal.error, match=refusal.says):
            call()


def exported() -> set[type]:
    """Every layer class of `keras.layers`; several names of one class count once."""
    found = (value for _, value in inspect.getmembers(keras.layers, inspect.isclass))
    return {value for value in found if issubclass(value, keras.layers.Layer)}


def test_every_layer_has_a_case():
    have = {case.layer for case in CASES} | {refusal.layer for refusal in REFUSED}
    missing = exported() - have - set(EXCEPTIONS)
    assert not missing, f"layers without a case: {sorted(c.__name__ for c in missing)}"


def test_a_layer_without_a_case_is_noticed(monkeypatch):
    monkeypatch.setattr(keras.layers, "Unheard", type("Unheard", (keras.layers.Layer,), {}), raising=False)
    with pytest.raises(AssertionError, match="Unheard"):
        test_every_layer_has_a_case()
