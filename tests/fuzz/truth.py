"""Derivatives by differences of the function itself, with their errors, and where they can be judged by."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

Arrays = list[np.ndarray]
Values = Callable[[Arrays], np.ndarray]
STEPS = (1e-4, 1e-2)  # the second for what is computed in float32 whatever it is given
SECOND_STEP = 4e-3
SIXTH = {-3: -1 / 60, -2: 9 / 60, -1: -45 / 60, 1: 45 / 60, 2: -9 / 60, 3: 1 / 60}
FOURTH = {-2: 1 / 12, -1: -8 / 12, 1: 8 / 12, 2: -1 / 12}
AHEAD = {0: -11 / 6, 1: 3.0, 2: -3 / 2, 3: 1 / 3}
BEHIND = {-k: -c for k, c in AHEAD.items()}
JUMP = 1e-4  # of the largest entry: one-sided differences farther apart than this are a kink


@dataclasses.dataclass
class Truth:
    """Per input a block of derivatives, `(N, outputs, inputs)`; the errors of the differences; samples to judge by."""

    matrix: np.ndarray
    error: np.ndarray
    judged: np.ndarray


def _moved(x: Arrays, shifts: np.ndarray) -> Arrays:
    """All samples at all shifts `(S, inputs)` of the flat input, one after another: `(S * N, *in)` per input."""
    parts = np.split(shifts, np.cumsum([a[0].size for a in x])[:-1], axis=1)
    return [
        (a[None] + p.reshape(len(shifts), 1, *a.shape[1:])).reshape(-1, *a.shape[1:])
        for a, p in zip(x, parts, strict=True)
    ]


def _evaluate(values: Values, x: Arrays, shifts: np.ndarray) -> np.ndarray:
    """`(S, N, outputs)`."""
    with np.errstate(all="ignore"):
        y = values(_moved(x, shifts))
    return y.reshape(len(shifts), len(x[0]), -1)


def size(x: Arrays) -> int:
    return sum(a[0].size for a in x)


def first(values: Values, x: Arrays) -> Truth:
    """The Jacobian of every sample, by the better one of two steps."""
    found = [_first(values, x, step) for step in STEPS]
    better = np.argmin([np.where(t.judged, t.error.max((1, 2), initial=0), np.inf) for t in found], axis=0)
    rows = np.arange(len(better))
    pick = lambda name: np.stack([getattr(t, name) for t in found])[better, rows]
    true = Truth(pick("matrix"), pick("error"), pick("judged"))
    true.judged &= _linear(values, x, true.matrix)
    return true


def _linear(values: Values, x: Arrays, matrix: np.ndarray) -> np.ndarray:
    """Where slopes to either side of slanting directions are those of the matrix: a tie has them along axes only."""
    directions = np.random.default_rng(0).normal(size=(3, size(x)))
    y = _evaluate(values, x, np.concatenate([k * STEPS[0] * directions for k in range(-3, 4)])).reshape(
        7, 3, len(x[0]), -1
    )
    right = np.ones(len(x[0]), bool)
    wanted = np.einsum("noi,ki->kno", matrix, directions)
    with np.errstate(all="ignore"):
        scale = np.maximum(np.abs(wanted).max((0, 2), initial=0), 1e-2)
        for stencil in (AHEAD, BEHIND):
            along = np.einsum("k,kino->ino", list(stencil.values()), y[[k + 3 for k in stencil]]) / STEPS[0]
            right &= np.abs(along - wanted).max((0, 2), initial=0) <= 0.02 * scale
    return right


def _first(values: Values, x: Arrays, step: float) -> Truth:
    count = size(x)
    shifts = np.concatenate([k * step * np.eye(count) for k in range(-3, 4)])
    y = _evaluate(values, x, shifts).reshape(7, count, len(x[0]), -1)
    along = lambda stencil: np.einsum("k,kinm->nmi", list(stencil.values()), y[[k + 3 for k in stencil]]) / step
    with np.errstate(all="ignore"):
        matrix = along(SIXTH)
        error = np.abs(matrix - along(FOURTH)) + _rounding(y) / step
        jump = np.abs(along(AHEAD) - along(BEHIND))
        scale = np.abs(matrix).max((1, 2), initial=0)
        smooth = jump.max((1, 2), initial=0) <= JUMP * np.maximum(scale, 1e-2) + 30 * error.max((1, 2), initial=0)
    return Truth(matrix, error, smooth & np.isfinite(y).all((0, 1, 3)) & _precise(error, scale))


def second(values: Values, x: Arrays) -> Truth:
    """The Hessian of a scalar per sample, `(N, inputs, inputs)`, from two steps; kinks of the slope are noticed."""
    coarse, fine = (_second(values, x, step) for step in (SECOND_STEP, SECOND_STEP / 2))
    with np.errstate(all="ignore"):
        matrix, error = (4 * fine[0] - coarse[0]) / 3, np.abs(fine[0] - coarse[0]) + fine[2]
        scale = np.abs(matrix).max((1, 2), initial=0)
        floor = 1e-3 * np.maximum(scale, 1e-2)[:, None]
        smooth = (fine[1] <= 0.75 * coarse[1] + floor).all(1)  # the two sides of a smooth function come together
    return Truth(matrix, error, smooth & np.isfinite(matrix).all((1, 2)) & _precise(error, scale))


def _second(values: Values, x: Arrays, step: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Mixed differences, how far those ahead and behind along each axis are apart, and what rounding does to them."""
    count, units = size(x), np.eye(size(x)) * step
    pairs = [(i, j) for i in range(count) for j in range(i, count)]
    corners = [units[i] * a + units[j] * b for i, j in pairs for a, b in ((1, 1), (1, -1), (-1, 1), (-1, -1))]
    y = _evaluate(values, x, np.array([*corners, 0 * units[0], *units, *-units]))[..., 0]
    mixed = np.einsum("pkn,k->np", y[: 4 * len(pairs)].reshape(len(pairs), 4, -1), [1, -1, -1, 1]) / (4 * step**2)
    hessian = np.zeros((len(x[0]), count, count))
    for p, (i, j) in enumerate(pairs):
        hessian[:, i, j] = hessian[:, j, i] = mixed[:, p]
    middle, ahead, behind = (y[4 * len(pairs) :][k] for k in (slice(0, 1), slice(1, count + 1), slice(count + 1, None)))
    twice = [4 * p for p, (i, j) in enumerate(pairs) if i == j]
    sides = [(y[twice] - 2 * ahead + middle), (y[[t + 3 for t in twice]] - 2 * behind + middle)]
    return hessian, np.abs(sides[0] - sides[1]).T / step**2, _rounding(y) / step**2


def _rounding(y: np.ndarray) -> float:
    """How far values are off that some function computes in float32, whatever it is given."""
    finite = y[np.isfinite(y)]
    single = np.array_equal(finite, finite.astype(np.float32))
    return float(np.abs(finite).max(initial=0)) * (6e-8 if single else 1e-16)


def _precise(error: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Where the differences are good enough to judge by."""
    return error.max((1, 2), initial=0) <= 1e-4 * np.maximum(scale, 1e-2)
