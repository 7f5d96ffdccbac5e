"""The loss of every sample: what is differentiated where `of=` is a `wrt.select.Loss`."""

from __future__ import annotations

from typing import Any

import numpy as np

from wrt.engines import registry
from wrt.engines.base import Array, Engine
from wrt.errors import InputError, SelectionError
from wrt.select import LogProbabilities, Loss

OWN = "or give a loss of your own: loss=lambda output, y: ..., one number per sample"


def data_of(y: Any) -> Array:
    """`y` as an array: integers, floats or booleans, axis 0 being samples.

    Raises:
        InputError: missing, not one array, or not numbers.
    """
    if y is None:
        raise InputError("y is missing: the loss of a sample needs what the output should be, (N,) labels or (N, *out)")
    if isinstance(y, (dict, list, tuple)) and any(
        hasattr(v, "shape") for v in (y.values() if isinstance(y, dict) else y)
    ):
        raise InputError("y holds several arrays; expected one, for the model's one output")
    value = y if registry.owner(y) else np.asarray(y)
    if not value.shape or not (is_integer(value) or "float" in str(value.dtype)):
        raise InputError(
            f"y has shape {tuple(value.shape)} and dtype {value.dtype}; expected one row of numbers per sample"
        )
    return value


def is_integer(value: Array) -> bool:
    """Whether `y` holds labels (integers or booleans) rather than values."""
    return any(kind in str(value.dtype) for kind in ("int", "bool"))


def empty(labels: Array) -> np.ndarray:
    """The form of `y` without its values."""
    return np.zeros((0, *labels.shape[1:]), np.int64 if is_integer(labels) else np.float64)


def per_sample(engine: Engine, unit: Loss | LogProbabilities, value: Any, activation: str, y: Array | None) -> Array:
    """(N,) losses; `value` is the output, or what its softmax or sigmoid (`activation`) was given.

    Raises:
        InputError: `y` does not fit the output.
    """
    if isinstance(unit, LogProbabilities):
        return _all_log_probabilities(engine, wide(engine, value), activation)
    if unit.function is not None:
        return _called(engine, unit, value, y)
    value = wide(engine, value)
    form = form_of(activation, tuple(value.shape[1:]), tuple(y.shape[1:]), is_integer(y))  # type: ignore[union-attr]
    if form == "label":
        label = engine.reshape(engine.asarray(y, "int32"), value.shape[:1])
        return -engine.gather(engine.log_softmax(value), label)
    wanted = engine.reshape(engine.asarray(y, engine.dtype(value)), tuple(value.shape))
    if form == "distribution":
        return -engine.sum(wanted * engine.log_softmax(value), (1,))
    if form == "units":
        logs = _binary(engine, value)
        return -_rows(engine, wanted * logs[..., 1] + (1 - wanted) * logs[..., 0])
    return _rows(engine, (value - wanted) * (value - wanted))


def form_of(activation: str, out: tuple[int, ...], y: tuple[int, ...], integer: bool) -> str:
    """Which loss: "label" or "distribution" (cross-entropy of a softmax), "units" (of sigmoids), or "squared"."""
    if len(out) == 1 and out[0] > 1 and integer and y in ((), (1,)):
        if activation == "sigmoid":
            raise InputError(
                f"y holds one label per sample, but the output is {out[0]} sigmoids, which are no distribution over "
                f"classes; give y in the shape of the output, (N, {out[0]}), {OWN}"
            )
        return "label"
    if y != out and not {y, out} <= {(), (1,)}:
        labels = "integer labels (N,) or " if len(out) == 1 and out[0] > 1 else ""
        raise InputError(f"y has shape {_shape(y)}; expected {labels}the shape of the output, {_shape(out)}; {OWN}")
    if activation == "softmax" and len(out) != 1:
        raise InputError(
            f"the softmax of an output {_shape(out)} may be along any axis, so its loss is not known; {OWN}"
        )
    return {"softmax": "distribution", "sigmoid": "units"}.get(activation, "squared")


def check_range(labels: np.ndarray, unit: Loss, out: tuple[int, ...]) -> None:
    """Labels lie in 0 ... K - 1."""
    if unit.function is not None or not (is_integer(labels) and labels.shape[1:] in ((), (1,))):
        return
    if len(out) == 1 and out[0] > 1 and labels.size and not 0 <= labels.min() <= labels.max() < out[0]:
        wrong = labels.min() if labels.min() < 0 else labels.max()
        raise InputError(f"y: label {wrong} is out of range; the output has {out[0]} classes, 0 to {out[0] - 1}")


def look_normalized(values: np.ndarray) -> bool:
    """Whether rows of outputs must be probabilities of several classes: they add up to one."""
    rows = values.reshape(len(values), -1).astype(np.float64)
    several = rows.size > 0 and rows.shape[1] > 1
    return bool(several and rows.min() >= 0 and np.allclose(rows.sum(1), 1, atol=1e-3))


def _called(engine: Engine, unit: Loss, value: Any, y: Array | None) -> Array:
    if y is not None and not is_integer(y) and hasattr(value, "shape"):
        y = engine.asarray(y, engine.dtype(value))
    loss = unit.function(value, y)  # type: ignore[misc]
    shape = getattr(loss, "shape", None)
    if shape is None or len(shape) != 1:
        found = type(loss).__name__ if shape is None else f"shape {tuple(shape)}"
        raise SelectionError(f"loss(output, y) returned {found}; expected (N,), one number per sample, not their mean")
    return loss


def _all_log_probabilities(engine: Engine, value: Array, activation: str) -> Array:
    if activation == "sigmoid" or tuple(value.shape[1:]) in ((), (1,)):
        return _rows(engine, engine.sum(_binary(engine, value), (len(value.shape),)))
    if len(value.shape) != 2:
        raise SelectionError(f"the output is {_shape(tuple(value.shape[1:]))}; expected the logits of classes, (N, K)")
    return engine.sum(engine.log_softmax(value), (1,))


def _binary(engine: Engine, value: Array) -> Array:
    """Logarithms of 1 - p and p for p = sigmoid(value), on a new last axis."""
    column = value[..., None]
    return engine.log_softmax(engine.concatenate([engine.zeros_like(column), column], len(value.shape)))


def _rows(engine: Engine, value: Array) -> Array:
    axes = tuple(range(1, len(value.shape)))
    return engine.sum(value, axes) if axes else value


def wide(engine: Engine, value: Array) -> Array:
    """In single precision at least, which sums need."""
    return engine.asarray(value, "float32") if engine.dtype(value) in ("float16", "bfloat16") else value


def _shape(shape: tuple[int, ...]) -> str:
    return f"({', '.join(['N', *map(str, shape)])})" if shape else "(N,)"
