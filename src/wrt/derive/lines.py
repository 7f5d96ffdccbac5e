"""Differences of a function along lines through samples, with the doubt that kinks and rounding leave."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wrt.derive.differences import Function
from wrt.derive.mixtures import Mixed, Part, Probe

STRANGERS = 4  # samples that are none of the user's, at most, among which the others are evaluated
UNCLEAR = 6.0  # doubts, where there is too much doubt for anything but the grossest errors
EXPLAINED = 4.0  # an error of at most so many doubts is put down to kinks and rounding
ROUNDINGS = 16.0  # of a value, that a difference may be off by
CANCELLED, MOSTLY = 8.0, 0.1  # times the rounding of a value that is little else, for each order of a derivative
CROSS, FANS = ((1, 0), (0, 1), (1, 1), (1, -1)), 2  # directions made of two, and how many such twos
BENT = 1e-2  # of the size: differences that far from those of one derivative are those of none
COARSE = 8.0  # spacings between numbers, of which a step is a multiple: up to four steps, and two of them together
JUDGED = 5e-2  # of the size of a mixture: with more doubt than that nothing can be judged
FOURTH = 70**0.5  # that of independent errors of size one
ENOUGH, CHANCE = 8, 6.0  # numbers, and standard errors, for what is off in common
CLEARLY = 2e-3  # of the size: with more doubt than that at half of the samples, other steps may show more
# steps per typical size of an input, for each highest order of derivative: fine, where the fine ones drown in rounding,
# and as far as the kinks that numbers with half the digits may have passed
STEPS = {
    "fine": {1: 1e-5, 2: 1e-3, 3: 1e-2, 4: 2e-2},
    "wide": {1: 2e-3, 2: 3e-2, 3: 5e-2, 4: 1e-1},
    "half": {1: 8e-3, 2: 3e-2, 3: 5e-2, 4: 1e-1},
}


@dataclass(frozen=True)
class Gap:
    """The worst disagreement: of which sample (among those looked at), the two values, and the relative error."""

    sample: int
    order: int
    derivative: float
    difference: float
    error: float


@dataclass(frozen=True)
class Allowed:
    """How far off right derivatives may be, relative to their size: one sample, all, and all in common."""

    single: float
    all: float
    common: float


@dataclass
class Trial:
    """Values along lines at `step` times each offset, and at the samples themselves."""

    probes: list[Probe]
    lines: np.ndarray  # (S, L, n), as they were walked
    step: float
    there: dict[int, np.ndarray]  # (S, L, m)
    here: np.ndarray  # (S, m)
    eps: float

    def compare(self, part: Part, smooth: np.ndarray, allowed: Allowed, rounding: float) -> tuple[Gap | None, bool]:
        """The gap between a result and differences, if there is one, and whether there was anything to judge.

        Samples that are not `smooth` are left out.
        """
        found = [self._compare(probe, part, smooth, allowed, rounding) for probe in self.probes]
        return next((gap for gap, _ in found if gap), None), any(judged for _, judged in found)

    def _compare(
        self, probe: Probe, part: Part, smooth: np.ndarray, allowed: Allowed, rounding: float
    ) -> tuple[Gap | None, bool]:
        value, doubt = self._differences(probe.order)
        slope = _largest(self._differences(1)[0]) if probe.order > 1 else 0.0
        floor = rounding * (self._size() + slope) + CANCELLED**probe.order * self._cancelled(part.y)
        mixed = probe.derivative(part, self.lines)
        differences = np.where(smooth[:, None, None], probe.difference(value), np.nan)
        return _judge(probe.order, mixed, differences, _mixed_doubt(probe, doubt), allowed, floor)

    def smooth(self, order: int) -> np.ndarray:
        """Where differences along v, w, v + w and v - w belong to one derivative, `(S,)`.

        The middle one of three equal values, say, has a slope along every line, and a different one along each.
        """
        value, doubt = self._differences(order)
        v, w, more, less = (value[:, k :: len(CROSS)] for k in range(len(CROSS)))
        bent = more + less - 2 * v - (2 * w if order == 2 else 0)
        size = np.maximum.reduce([np.abs(a) for a in (v, w, more, less)])
        unclear = EXPLAINED * doubt.reshape(len(v), -1, len(CROSS), v.shape[2]).sum(2)
        return (np.abs(bent) <= BENT * size.max((1, 2), keepdims=True) + unclear).all((1, 2))

    def _size(self) -> float:
        """The largest value; what is 0 everywhere may be equal terms cancelled, of the size of the inputs."""
        return max(map(_largest, (self.here, *self.there.values()))) or _largest(self.lines)

    def _cancelled(self, y: np.ndarray) -> float:
        """The rounding of the model's own values, where these are little else."""
        return max(0.0, _largest(y - self.here) - MOSTLY * _largest(self.here))

    def change(self) -> float:
        """By how much the values of a sample change, as a vector, when its inputs change by their size."""
        slopes = np.linalg.norm(self._differences(1)[0], axis=2)
        return float(np.median(np.sqrt(np.mean(np.square(slopes), axis=1)))) if np.isfinite(slopes).all() else 0.0

    def noise(self) -> float:
        """The rounding of values, relative to them: what fourth differences leave, at half of all places."""
        y = {**self.there, 0: self.here[:, None]}
        left = np.abs(y[2] - 4 * y[1] + 6 * y[0] - 4 * y[-1] + y[-2]) / FOURTH
        size = np.abs(self.here).max(1)[:, None, None]
        return float(np.median(np.divide(left, size, out=np.zeros_like(left), where=size > 0)))

    def _differences(self, order: int) -> tuple[np.ndarray, np.ndarray]:
        y = {**self.there, 0: np.broadcast_to(self.here[:, None], self.there[1].shape)}
        near, far = _stencil(y, order, 1) / self.step**order, _stencil(y, order, 2) / self.step**order
        doubt = np.abs(near - far) + _bend(y, order) / self.step**order
        rounding = ROUNDINGS * self.eps * self._size() / self.step**order
        value = (4 * near - far) / 3 if order < 3 else near
        return value, doubt + rounding


def _largest(values: np.ndarray) -> float:
    return float(np.abs(values[np.isfinite(values)]).max(initial=0.0))


def _mixed_doubt(probe: Probe, doubt: np.ndarray) -> np.ndarray:
    """As if the doubts of all lines and outputs that a mixture is made of were independent."""
    again = [probe.difference(doubt * signs) for signs in np.random.default_rng(0).choice([-1, 1], (8, *doubt.shape))]
    return np.sqrt(np.mean(np.square(again), axis=0))


def _stencil(y: dict[int, np.ndarray], order: int, u: int) -> np.ndarray:
    """Central differences of some order, of points `u` steps apart."""
    if order == 1:
        return (y[u] - y[-u]) / (2 * u)
    if order == 2:
        return (y[u] - 2 * y[0] + y[-u]) / u**2
    if order == 3:
        return (y[2 * u] - 2 * y[u] + 2 * y[-u] - y[-2 * u]) / (2 * u**3)
    return (y[2 * u] - 4 * y[u] + 6 * y[0] - 4 * y[-u] + y[-2 * u]) / u**4


def _bend(y: dict[int, np.ndarray], order: int) -> np.ndarray:
    """What falls with the step unless there is a kink: the slopes, or the curvatures, of the two sides."""
    if order == 1:
        near, far = y[1] - 2 * y[0] + y[-1], (y[2] - 2 * y[0] + y[-2]) / 2
        return np.abs(2 * near - far)
    sides = [y[2 * s] - 2 * y[s] + y[0] for s in (1, -1)]
    return np.abs(sides[0] - sides[1]) / 2


def _judge(
    order: int, mixed: Mixed, difference: np.ndarray, doubt: np.ndarray, allowed: Allowed, floor: float
) -> tuple[Gap | None, bool]:
    """Sample by sample, all together, and what all are off by in common.

    A single number may be small by chance, the length of several is not. Samples with too much doubt are left out.
    """
    derivative, size = mixed
    fine = np.isfinite(derivative) & np.isfinite(difference) & np.isfinite(doubt) & np.isfinite(size)
    error, size, doubt = (np.where(fine, a, 0.0) for a in (derivative - difference, size, doubt))
    e, s, d = (np.sqrt(np.square(a).sum(axis=(1, 2))) for a in (error, size, doubt))
    judged = (d <= JUDGED * np.maximum(s, e)) & ((s > 0) | (e > 0))
    d = np.maximum(d, np.median(d[judged])) if judged.any() else d
    beyond = np.sign(error) * np.maximum(np.abs(error) - floor, 0.0)
    floor = floor * np.sqrt(max(1, error[0].size))
    reach = allowed.single * s + np.where(judged, EXPLAINED, UNCLEAR) * d + floor
    rest = (allowed.all - allowed.single) * np.linalg.norm(s[judged])
    wrong = e > reach
    together = np.linalg.norm(e[judged]) > np.linalg.norm(reach[judged]) + rest
    common = _in_common(beyond[judged], np.where(fine, derivative, 0.0)[judged], size[judged]) > allowed.common
    clear = (d <= CLEARLY * np.maximum(s, e)) & ((s > 0) | (e > 0))
    enough = 2 * np.count_nonzero(clear) >= np.count_nonzero((s > 0) | (e > 0))  # also where all is zero
    if not (wrong.any() or together or common):
        return None, bool(enough)
    sample = int(np.argmax(np.where(wrong if wrong.any() else judged, e / np.maximum(reach, 1e-300), -1.0)))
    place = np.unravel_index(int(np.argmax(np.abs(error[sample]))), error[sample].shape)
    ratio = float(e[sample] / max(s[sample], np.linalg.norm(difference[sample]), 1e-300))
    return Gap(sample, order, float(derivative[sample][place]), float(difference[sample][place]), ratio), True


def _in_common(error: np.ndarray, derivative: np.ndarray, size: np.ndarray) -> float:
    """By what part all derivatives are off, as far as chance does not explain it: a regression of errors on them."""
    weight = np.divide(1.0, np.square(size), out=np.zeros_like(size), where=size > 0)
    total = (weight * np.square(derivative)).sum()
    if not total or error.size < ENOUGH:
        return 0.0
    part = (weight * error * derivative).sum() / total
    left = weight * (error - part * derivative) * derivative
    spread = max(np.square(left).sum(), np.square(left.sum(axis=(1, 2))).sum() * (len(left) > 1)) ** 0.5 / total
    return float(abs(part) - CHANCE * spread)


def walk(function: Function, probes: list[Probe], outputs: int, steps: dict[int, float], seed: int) -> Trial:
    """Evaluate a function along the lines of probes: all points, and a few strangers before them, as one batch."""
    highest = max(probe.order for probe in probes)
    step, base = steps[highest], function.base
    lines = _exact(probes[0].lines, base, step) if probes[0].free else probes[0].lines
    offsets = (1, -1, 2, -2) if highest < 3 else (1, -1, 2, -2, 4, -4)
    samples, count, n = lines.shape
    moved = np.concatenate([(base[:, None] + k * step * lines).reshape(-1, n) for k in offsets])
    others, owners = strangers(base, seed)
    order = np.arange(samples)[::-1]  # nobody is where the call had it
    points = np.concatenate([others, moved, base[order]])
    numbers = np.concatenate([owners, np.tile(np.repeat(np.arange(samples), count), len(offsets)), order])
    y = function(points, numbers, np.arange(len(points)) < len(others))[:, :outputs]
    along = y[len(others) : -samples].reshape(len(offsets), samples, count, -1)
    eps = eps_of("float32" if _is_single(y) else function.kind)
    return Trial(probes, lines, step, dict(zip(offsets, along, strict=True)), y[-samples:][order], eps)


def cross(base: np.ndarray, scale: np.ndarray, order: int, seed: int) -> list[Probe]:
    """Lines by which `Trial.smooth` sees whether there is a derivative of that order."""
    random = np.random.default_rng(seed)
    v, w = (random.standard_normal((len(base), FANS, 1, len(scale))) * scale for _ in range(2))
    lines = np.concatenate([a * v + b * w for a, b in CROSS], axis=2).reshape(len(base), -1, len(scale))
    return [Probe(order, lines, lambda part, v: (v, v), lambda d: d, free=False)]


def _is_single(y: np.ndarray) -> bool:
    """Numbers of float32: some functions compute in it whatever they are given."""
    finite = y[np.isfinite(y)]
    return np.array_equal(finite, finite.astype(np.float32))


def eps_of(kind: str) -> float:
    """The spacing of numbers at 1."""
    return {"float64": 2.2e-16, "float32": 1.2e-7, "float16": 9.8e-4}.get(kind, 7.8e-3)


def _exact(lines: np.ndarray, base: np.ndarray, step: float) -> np.ndarray:
    """Lines whose points, a few steps either way, are numbers in float32: what is walked is what is meant."""
    reach = np.abs(base)[:, None] + step * np.abs(lines)
    unit = COARSE * np.spacing(reach.astype(np.float32)).astype(np.float64)
    return np.round(step * lines / unit) * unit / step


def strangers(base: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Samples made of others, entry by entry, and smaller, so that they are as possible as those."""
    random = np.random.default_rng(seed)
    owners = random.integers(0, len(base), min(STRANGERS, len(base)))
    mixed = base[random.integers(0, len(base), (len(owners), base.shape[1])), np.arange(base.shape[1])]
    return mixed * random.uniform(0.5, 1.0, mixed.shape), owners
