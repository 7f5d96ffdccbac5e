"""What is maximised of all the activations of a layer; each can be added to the others and to units.

The layer is a name, as in `wrt.layer(name)`, or what `wrt.layer(name, call=1)` and `wrt.output(name)` return; `None` is
the model's output, as of a function, which has no layers.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from wrt.derive import target as targets
from wrt.derive.job import Job
from wrt.derive.layout import output_axis
from wrt.derive.losses import wide
from wrt.engines.base import Array, Engine
from wrt.errors import InputError, OptionError, SelectionError
from wrt.maximize.image import finite
from wrt.select import Composable, Layer, Logit, Output

Selection = (Layer, Logit, Output)
FLOOR = 0.1  # of a cosine that is raised to a power: below it the dot product alone leads on
SMALL = 1e-12  # under a root, where an activation of zero would have no derivative


@dataclass(frozen=True)
class Settled:
    """A measure of a layer whose shape is known: `measure(engine, activations, data)` is (N,)."""

    measure: Callable[[Engine, Array, Any], Array]
    key: Hashable
    data: Any = None


@dataclass(frozen=True, eq=False)
class Measure(Composable):
    """A measure of what a layer gives; made by the functions of `wrt.objectives`."""

    name: str
    layer: Any  # Layer, Output or Logit without a unit; None for the model's output
    settle: Callable[[Job], Settled] = field(repr=False)
    rows: int | None = field(default=None, repr=False)  # how many images it asks for


def deep_dream(layer: Any) -> Measure:
    """All that a layer gives, squared: what is in an image already is made stronger.

    o(x) = mean a(x)², `(N,)`, a the activations of the layer.

    Example:
        >>> import wrt
        >>> wrt.objectives.deep_dream("conv") - 0.5 * wrt.logit(3)  # doctest: +ELLIPSIS
        Objective(terms=((1.0, Measure(name='deep_dream', layer=Layer(name='conv', ...

    Source: Mordvintsev, Olah and Tyka, Inceptionism: going deeper into neural networks, 2015.
    """
    return Measure("deep_dream", place(layer, "deep_dream"), lambda _: Settled(_squares, "squares"))


def direction(layer: Any, vector: Any, power: float = 0, axis: int | None = None) -> Measure:
    """A direction in the space of a layer's channels.

    o(x) = mean over places of (a·v) max(cos(a, v), 0.1)^power, `(N,)`, a the channels of the layer at a place.

    Args:
        layer: its name; `None` for the model's output.
        vector: v, `(C,)`, or `(N, C)` for one image each.
        power: 0 for the dot product; above it, other directions than v count for less.
        axis: of the channels, counted with that of the samples; by default where the layer puts them or the next one
            takes them.

    Raises:
        InputError: the vector is no array of finite numbers, or of another length than the channels.
        OptionError: a negative power, or an axis that the layer does not have.

    Example:
        >>> import numpy as np, wrt
        >>> wrt.objectives.direction("conv", np.array([1.0, 0.0, -1.0]), power=1).name
        'direction'

    Source: Olah et al., The building blocks of interpretability, Distill 2018; Carter et al., Activation atlas,
    Distill 2019 (cosines to a power).
    """
    values, power = finite(vector, "direction(vector)", "(C,) or (N, C)"), _power(power, "direction")
    if values.ndim > 2:
        raise InputError(f"direction(vector): shape {values.shape}; expected (C,) or (N, C), C the layer's channels")

    def settle(job: Job) -> Settled:
        shape = _shape(job, "direction")
        channel = output_axis(job) if axis is None else _axis(axis, shape)
        if values.shape[-1] != shape[channel - 1]:
            raise InputError(
                f"direction(vector): shape {values.shape} for {shape[channel - 1]} channels, axis {channel} of "
                f"(N, {str(shape)[1:]}; expected ({shape[channel - 1]},), or axis= for other channels"
            )
        along = functools.partial(_along, shape=shape, axis=channel, power=power)
        return Settled(along, ("along", shape, channel, power), _put(job, np.atleast_2d(values)))

    return Measure("direction", place(layer, "direction"), settle, _rows(values) if values.ndim == 2 else None)


def caricature(layer: Any, reference: Any, power: float = 1) -> Measure:
    """What a layer sees in a reference image, exaggerated.

    o(x) = (a(x)·b) max(cos(a(x), b), 0.1)^power, `(N,)`, a the activations of the layer, b those of the reference.

    Args:
        layer: its name; `None` for the model's output.
        reference: an image `(1, *in)`, or `(N, *in)` for one image each.
        power: 0 for the dot product, which grows in whatever direction; above it, looking like the reference counts.

    Raises:
        InputError: the reference is no array of finite numbers, or has another shape than the images.
        OptionError: a negative power.

    Example:
        >>> import numpy as np, wrt
        >>> wrt.objectives.caricature("conv", np.zeros((1, 8, 8, 3))).name
        'caricature'

    Source: Olah et al., The building blocks of interpretability, Distill 2018; Lucid, caricatures (`dot_compare`).
    """
    values, power = finite(reference, "caricature(reference)", "(N, *in)"), _power(power, "caricature")

    def settle(job: Job) -> Settled:
        image = job.inputs.leaves[0]
        if values.shape[1:] != tuple(image.shape[1:]) or len(values) not in (1, image.shape[0]):
            raise InputError(
                f"caricature(reference): shape {values.shape}; expected {tuple(image.shape)} or {(1, *image.shape[1:])}"
            )
        rows = image.shape[0] if job.adapted.network.batch else len(values)
        function = job.recipe.problem.function(job.adapted.state(False), [], None)
        (seen,) = function([_put(job, np.resize(values, (rows, *values.shape[1:])))])
        shape = (math.prod(job.recipe.shapes.outs[0]),)
        along = functools.partial(_along, shape=shape, axis=1, power=power)
        return Settled(along, ("along", shape, 1, power), job.engine.detach(job.engine.reshape(seen, (-1, *shape))))

    return Measure("caricature", place(layer, "caricature"), settle, _rows(values))


def units(layer: Any, given: Any, what: str) -> Measure:
    """One unit for each image: integers on the last axis, or tuples of integers from the first axis on."""

    def settle(job: Job) -> Settled:
        shape, index = _shape(job, what), list(given)
        depth = len(index[0]) if isinstance(index[0], tuple) else 0
        if not depth and len(shape) > 1 and output_axis(job) != len(shape):
            raise SelectionError(
                f"{what}={index}: an integer is a place on the last axis of (N, {str(shape)[1:]}, whose channels come "
                f"first; give channels as tuples: [{', '.join(f'({unit},)' for unit in index)}]"
            )
        flat = _numbers(index, shape, depth)
        flat = np.repeat(flat, job.inputs.leaves[0].shape[0]) if len(flat) == 1 else flat
        # (N, units, the rest), or the rest before them
        view = (-1, math.prod(shape[:depth] if depth else shape[:-1]), math.prod(shape[depth:]) if depth else shape[-1])
        rest = 2 if depth else 1
        return Settled(functools.partial(_unit, view=view, rest=rest), ("unit", view, rest), flat)

    return Measure("units", layer, settle, len(given))


def place(layer: Any, what: str) -> Any:
    """The layer that is meant, without a unit; `None`, the model's output, as it is.

    Raises:
        SelectionError: neither a name nor a selection, or one with a unit.
    """
    found = Layer(layer) if isinstance(layer, str) else layer
    if found is not None and (not isinstance(found, Selection) or found.unit is not None):
        raise SelectionError(
            f"{what}(layer={layer!r}): expected the name of a layer, or wrt.layer(name) without a unit"
        )
    return found


def channels_last(engine: Engine, value: Array, shape: tuple[int, ...], axis: int) -> Array:
    """(N, places, channels) of activations `(N, *shape)`, in single precision at least."""
    value = engine.moveaxis(wide(engine, value), axis, len(shape))
    return engine.reshape(value, (-1, math.prod(shape) // max(shape[axis - 1], 1), shape[axis - 1]))


def per_row(engine: Engine, value: Array) -> Array:
    """(N,): the mean over whatever else there is, such as the places of a channel."""
    axes = tuple(range(1, len(value.shape)))
    return engine.mean(wide(engine, value), axes) if axes else value


def _squares(engine: Engine, value: Array, _data: Any) -> Array:
    value = wide(engine, value)
    return per_row(engine, value * value)


def _along(engine: Engine, value: Array, data: Any, *, shape: tuple[int, ...], axis: int, power: float) -> Array:
    value = channels_last(engine, value, shape, axis)
    vector = engine.asarray(data, engine.dtype(value))[:, None]
    dot = engine.sum(value * vector, (2,))
    if power:
        lengths = (engine.sum(value * value, (2,)) + SMALL) * (engine.sum(vector * vector, (2,)) + SMALL)
        cosine = dot / lengths**0.5
        dot = dot * engine.where(cosine > FLOOR, cosine, FLOOR + engine.zeros_like(cosine)) ** power
    return engine.mean(dot, (1,))


def _unit(engine: Engine, value: Array, index: Any, *, view: tuple[int, ...], rest: int) -> Array:
    return engine.gather(engine.mean(engine.reshape(wide(engine, value), view), (rest,)), index)


def _numbers(index: list[Any], shape: tuple[int, ...], depth: int) -> np.ndarray:
    """(N,): the numbers of units in the first `depth` axes, or in the last one, counted through."""
    sizes = shape[:depth] if depth else shape[-1:]
    for unit in index:
        target = targets.Target("output", None, None, unit if depth else int(unit))
        targets.check_range(target, shape if depth else sizes)
    table = np.array(index).reshape(len(index), len(sizes)) % np.array(sizes)
    return np.ravel_multi_index(tuple(table.T), sizes)


def _shape(job: Job, what: str) -> tuple[int, ...]:
    shape = job.recipe.shapes.outs[0]
    if not shape:
        raise SelectionError(f"{what}: {job.recipe.problem.target.describe()} is one number per image, without units")
    return shape


def _axis(axis: Any, shape: tuple[int, ...]) -> int:
    """The axis, counted from the front."""
    rank, integer = len(shape) + 1, isinstance(axis, int | np.integer) and not isinstance(axis, bool)
    if not integer or not (1 <= axis < rank or 1 - rank <= axis <= -1):
        raise OptionError(f"direction(axis={axis!r}): expected one of 1 to {rank - 1}, an axis of (N, {str(shape)[1:]}")
    return int(axis) % rank


def _power(power: Any, what: str) -> float:
    number = isinstance(power, int | float | np.number) and not isinstance(power, bool)
    if not number or not 0 <= power < np.inf:
        raise OptionError(f"{what}(power={power!r}): expected a number of at least 0")
    return float(power)


def _rows(values: np.ndarray) -> int | None:
    return len(values) if len(values) > 1 else None


def _put(job: Job, values: np.ndarray) -> Array:
    image = job.inputs.leaves[0]
    return job.engine.asarray(values, job.engine.dtype(image), image)
