"""What penalties are made of: a model's gradients that stay differentiable, as tensors, and measures of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from wrt.derive.first import gradient
from wrt.derive.inputs import accept, engine_of
from wrt.derive.job import Options, prepare
from wrt.derive.losses import wide
from wrt.engines import adapt, registry
from wrt.engines.base import Array, Arrays, Engine
from wrt.errors import InputError
from wrt.select import Layer, Logit, Loss, Output
from wrt.trees import flatten, unflatten

ZERO = 1e-30  # of a squared length: what is shorter has no direction in single precision


def tensors(model: Any, x: Any) -> tuple[Engine, Any]:
    """The engine of `model`, and `x` as its tensors.

    Raises:
        InputError: there is no sample, and so no mean.
    """
    if any(tuple(leaf.shape[:1]) == (0,) for leaf in flatten(x)[0] if hasattr(leaf, "shape")):
        raise InputError("x holds no sample, and a penalty is a mean over samples; leave empty batches out")
    kind = engine_of(x)
    if kind is not None:
        return kind, x
    network = adapt.adapt(model, x, None).network
    inputs = accept(network, x, None)
    pairs = zip(inputs.leaves, inputs.dtypes, strict=True)
    leaves = [network.engine.asarray(leaf, dtype, network.like()) for leaf, dtype in pairs]
    return network.engine, unflatten(inputs.structure, leaves)


def gradients(engine: Engine, model: Any, x: Any, y: Any, of: Any, wrt: Any) -> Arrays:
    """The gradient of every input, in single precision at least; `of` may be "loss" or "label", which need `y`."""
    if is_word(of, "loss"):
        of = Loss(y)
    unit = of.unit if isinstance(of, (Layer, Logit, Output)) else of
    if is_word(unit, "label"):
        labels, width = _labels(engine, y)
        of = labels if unit is of else dataclasses.replace(of, unit=labels)
        if width is not None:
            _check_width(model, x, of, wrt, width)
    return [wide(engine, g) for g in flatten(gradient(model, x, of, wrt=wrt, differentiable=True))[0]]


def is_word(of: Any, word: str) -> bool:
    """Whether `of` is this word; arrays are not."""
    return isinstance(of, str) and of == word


def _labels(engine: Engine, y: Any) -> tuple[Array, int | None]:
    """(N,) labels from (N,), (N, 1) or one-hot rows, and the length of those."""
    if y is None:
        raise InputError("y is missing: of='label' needs the labels, penalty(model, x, y) with y integers (N,)")
    owner = registry.owner(y)
    value = y if owner else np.asarray(y)
    shape = tuple(value.shape)
    if len(shape) == 2 and shape[1] != 1:
        return _hottest(engine, value), shape[1]
    if len(shape) not in (1, 2) or "int" not in str(value.dtype):
        raise InputError(
            f"y has shape {shape} and dtype {value.dtype}; of='label' needs integer labels (N,) or (N, 1), or one-hot "
            "rows (N, K); for targets that are no labels choose of='loss' or a unit"
        )
    return (value[:, 0] if len(shape) == 2 else value), None


def _hottest(engine: Engine, rows: Array) -> Array:
    if not isinstance(rows, np.ndarray):
        return engine.top(engine.asarray(rows, "float32"), 1)[:, 0]
    if not (rows.max(1, initial=0) == 1).all() or not (rows.sum(1) == 1).all():
        raise InputError(f"y has shape {rows.shape} but its rows are not one-hot: one label per sample is needed")
    return rows.argmax(1)


def _check_width(model: Any, x: Any, of: Any, wrt: Any, width: int) -> None:
    units = prepare(model, x, of, wrt, "rows", Options(differentiable=True)).recipe.shapes.unit_shape
    if units != (width,):
        raise InputError(f"y has one-hot rows of {width}, but the output has {units[-1]} units")


def flat(engine: Engine, leaves: Arrays) -> Array:
    """All numbers of a sample in one row, (N, D)."""
    rows = [engine.reshape(a, (a.shape[0], math.prod(a.shape[1:]))) for a in leaves]
    return rows[0] if len(rows) == 1 else engine.concatenate(rows, 1)


def split(engine: Engine, rows: Array, shapes: Sequence[tuple[int, ...]]) -> Arrays:
    """The inverse of `flat`."""
    parts, start = [], 0
    for shape in shapes:
        size = math.prod(shape)
        parts.append(engine.reshape(rows[:, start : start + size], (rows.shape[0], *shape)))
        start += size
    return parts


def power_sum(engine: Engine, rows: Array, p: float) -> Array:
    """(N,) sums of |.|^p, the largest |.| for p = inf; flat at zero."""
    if p == 2:
        return engine.sum(rows * rows, (1,))
    sizes = abs(rows)
    if p == math.inf:
        return engine.gather(sizes, engine.top(sizes, 1))[:, 0]
    return engine.sum(sizes if p == 1 else sizes**p, (1,))


def variation(engine: Engine, value: Array, axis: int) -> Array:
    """(N,) sums of absolute differences along one axis."""
    before = (slice(None),) * axis
    steps = abs(value[(*before, slice(1, None))] - value[(*before, slice(None, -1))])
    return engine.sum(steps, tuple(range(1, len(value.shape))))


def not_zero(engine: Engine, squares: Array) -> tuple[Array, Array]:
    """Squared lengths, 1 in place of zero, and 0 where that was; so that roots and quotients have derivatives."""
    known = engine.asarray(squares > ZERO, engine.dtype(squares))
    return squares * known + (1 - known), known


def alike(engine: Engine, name: str, given: Any, x: Any, leaves: Arrays) -> Arrays:
    """An array, or what a function of x returns, as tensors in the shape of the gradients.

    Raises:
        InputError: another shape or nesting.
    """
    values = flatten(given(x) if callable(given) else given)[0]
    if len(values) != len(leaves):
        raise InputError(f"{name} holds {len(values)} array(s); expected {len(leaves)}, nested as the gradient")
    return [_expanded(engine, name, value, leaf) for value, leaf in zip(values, leaves, strict=True)]


def _expanded(engine: Engine, name: str, value: Any, leaf: Array) -> Array:
    value = value if registry.owner(value) else np.asarray(value)
    wanted, found = tuple(leaf.shape), tuple(value.shape)
    row = found if len(found) == len(wanted) else (1, *found)
    if len(row) != len(wanted) or any(a not in (1, b) and None not in (a, b) for a, b in zip(row, wanted, strict=True)):
        raise InputError(f"{name} has shape {found}; expected {wanted[1:]}, as a sample, or {wanted}, as the gradient")
    return engine.asarray(value, engine.dtype(leaf), leaf) + engine.zeros_like(leaf)


def draw(seed: int | None, shape: Sequence[Any]) -> np.ndarray:
    """Normally distributed numbers.

    Raises:
        InputError: the number of samples is not known yet.
    """
    if None in shape:
        raise InputError("the number of samples is not known here: pass probes=, (projections, N, *out)")
    return np.random.default_rng(seed).normal(size=tuple(shape))


def unit_rows(engine: Engine, like: Array, probes: Any, wanted: Sequence[Any]) -> Arrays:
    """For each projection a direction per sample, (N, C): uniform on the sphere where `probes` are normal.

    Raises:
        InputError: `probes` do not hold this number of projections, samples and outputs.
    """
    projections, samples, count = wanted
    shape = tuple(probes.shape)
    found = (*shape[:2], math.prod(s or 1 for s in shape[2:])) if len(shape) > 1 else shape
    if len(found) != 3 or any(None not in pair and pair[0] != pair[1] for pair in zip(found, wanted, strict=True)):
        raise InputError(f"probes have shape {shape}; expected {tuple(wanted)}: projections, samples, outputs")
    probes = engine.asarray(probes, "float64" if engine.dtype(like) == "float64" else "float32", like)
    rows = [engine.reshape(probes[r], (samples, count)) for r in range(projections)]
    return [row / engine.reshape(engine.sum(row * row, (1,)), (samples, 1)) ** 0.5 for row in rows]
