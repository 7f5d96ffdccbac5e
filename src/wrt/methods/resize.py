"""Maps and images at another size: linear interpolation between the centres of the cells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wrt.engines.base import Array, Engine


def resized(engine: Engine, value: Array, sizes: Sequence[int], where: int | Sequence[int]) -> Array:
    """`value` with `sizes` in place of the axes from number `where` on, or of these ones.

    Beyond the outermost centres it is constant.
    """
    axes = range(where, where + len(sizes)) if isinstance(where, int) else where
    for axis, size in zip(axes, sizes, strict=True):
        if value.shape[axis] != size:
            value = mixed(engine, value, axis, matrix(value.shape[axis], size))
    return value


def mirrored(engine: Engine, value: Array, axis: int) -> Array:
    """`value` with one axis the other way round."""
    return mixed(engine, value, axis, np.eye(value.shape[axis])[::-1])


def mixed(engine: Engine, value: Array, axis: int, weights: np.ndarray) -> Array:
    """The entries along an axis combined by weights (old, new)."""
    last = engine.moveaxis(value, axis, len(value.shape) - 1)
    if isinstance(value, np.ndarray):
        found = last @ weights.astype(value.dtype if value.dtype.kind == "f" else float)
    else:
        found = last @ engine.asarray(weights, engine.dtype(value), value)
    return engine.moveaxis(found, len(value.shape) - 1, axis)


def matrix(old: int, new: int) -> np.ndarray:
    """(old, new) weights of the old cells in the new ones."""
    place = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    low = np.floor(place).astype(int)
    weights = np.zeros((old, new))
    np.add.at(weights, (low, np.arange(new)), 1 - (place - low))
    np.add.at(weights, (np.minimum(low + 1, old - 1), np.arange(new)), place - low)
    return weights
