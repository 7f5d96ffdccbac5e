"""Balls about inputs: the steepest way up in them, the nearest of their points, and points drawn from them."""

from __future__ import annotations

import math

import numpy as np

from wrt.engines.base import Array, Engine

NORMS = (math.inf, 2)


def steepest(engine: Engine, gradient: Array, norm: float) -> tuple[Array, Array]:
    """The step of length 1 along which a function rises most, `(N, *in)`, and the mean of |gradient|, `(N,)`.

    The sign of the gradient in the maximum norm, the gradient by its length in the Euclidean one; zeros where the
    gradient is zero or not finite.
    """
    zero = engine.zeros_like(gradient)
    axes = tuple(range(1, len(gradient.shape)))
    size = engine.mean(abs(gradient), axes) if axes else abs(gradient)
    known = _spread((size > 0) & (size < math.inf), gradient)
    if norm == 2:  # by the mean first, so that no square leaves the range of the numbers
        scaled = engine.where(known, gradient, zero) / engine.where(known, _spread(size, gradient), zero + 1)
        return scaled / engine.where(known, _length(engine, scaled), zero + 1), size
    sign = engine.where(gradient > 0, zero + 1, engine.where(gradient < 0, zero - 1, zero))
    return engine.where(known, sign, zero), size


def projected(engine: Engine, delta: Array, radius: Array, norm: float) -> Array:
    """The nearest points to `delta (N, *in)` in the ball about zero."""
    if norm == 2:
        length, one = _length(engine, delta), engine.zeros_like(delta) + 1
        return delta * engine.where(length > radius, radius / engine.where(length > radius, length, one), one)
    delta = engine.where(delta > radius, radius, delta)
    return engine.where(delta < -radius, -radius, delta)


def drawn(shape: tuple[int, ...], radius: float, norm: float, seed: int) -> np.ndarray:
    """Points `(N, *in)` of the ball about zero, uniform in its volume; those of a row do not depend on N."""
    rng = np.random.default_rng(seed)
    if norm != 2:
        return rng.uniform(-radius, radius, shape)
    points = rng.normal(size=(shape[0], math.prod(shape[1:])))
    length = np.linalg.norm(points, axis=1)
    share = np.random.default_rng([seed, 1]).uniform(size=shape[0]) ** (1 / points.shape[1])
    return (points * (radius * share / length)[:, None]).reshape(shape)


def distances(x: np.ndarray, other: np.ndarray, norm: float) -> np.ndarray:
    """How far each row of one is from that of the other, `(N,)`."""
    pairs = zip(x, other, strict=True)
    return np.array([np.linalg.norm(np.subtract(a, b, dtype=float).ravel(), norm) for a, b in pairs])


def _length(engine: Engine, value: Array) -> Array:
    """Euclidean lengths, `(N, 1, ...)`."""
    axes = tuple(range(1, len(value.shape)))
    squares = value * value
    return _spread(engine.sum(squares, axes) if axes else squares, value) ** 0.5


def _spread(rows: Array, like: Array) -> Array:
    """`(N, 1, ...)` from `(N,)`."""
    return rows[(slice(None), *(None,) * (len(like.shape) - 1))]
