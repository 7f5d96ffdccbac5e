"""Some samples of a first batch: their derivatives against differences, their values against a fresh evaluation."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from wrt.derive import findings
from wrt.derive.differences import Function, pick, precision, take, typical
from wrt.derive.findings import Finding
from wrt.derive.flat import join
from wrt.derive.job import Job
from wrt.derive.lines import STEPS, STRANGERS, Allowed, Gap, Trial, cross, eps_of, strangers, walk
from wrt.derive.mixtures import Part, hosts, probes
from wrt.derive.programs import ORDERS
from wrt.engines.reference import ReferenceEngine

MOST = 64  # samples
LINES, FEW = 8, 2  # through all samples together, at least; and where a call costs little beside them
POINTS = 5  # evaluations for each line
SHARE = 0.1  # of the forward passes of the call
FREE = 4 << 20  # bytes of intermediate values that cost nothing beside the call itself,
FREE_COMPILED = 8 << 20  # and beside a call that compiles
WIDE, SLOW = 2, 6  # float64 to float32: bytes, and time where a convolution has no quick form of it
CALLS = 5  # evaluations, and a last one for the names of what is wrong
LARGE = 20_000_000  # numbers of a result, or weights, that are looked at
# how far apart the values, and the derivatives, of right programs may be, by what they are computed in
VALUES = {"float64": 1e-6, "float32": 2e-5, "half": 5e-2}
SLOPES = {
    "float64": Allowed(1e-6, 1e-6, 1e-6),
    "float32": Allowed(5e-4, 5e-4, 5e-4),
    "half": Allowed(0.3, 0.08, 0.025),
}
FAMILY = 20.0  # derivatives may be off by so many times what the values are, unless these are halves
AGAIN = 4.0  # times less than along the first lines is enough along the second
ROUNDINGS = 4.0  # of the values, that a derivative may be off by
LARGEST = 20.0  # times the rounding at half of all places
TWICE = 2.0  # one rounding, and another one
MORE = 5.0  # times the difference of two evaluations that should agree: more than that says something


class Unjudged(Exception):
    """There is nothing to hold the result against."""


class Examination:
    """A few samples of a first batch, their results, and the function along lines through them."""

    def __init__(self, job: Job, rows: slice, result: Any) -> None:
        self.job, self.start = take(job, rows), rows.start or 0
        blocks, self.outputs = hosts(job, result.blocks), join(hosts(job, result.outputs))
        given = hosts(job, (*self.job.inputs.leaves, *self.job.extra))
        fine = np.logical_and.reduce([_finite(a) for a in (self.outputs, *blocks, *given) if a.dtype.kind == "f"])
        count, self.lines = _room(job, len(self.outputs), sum(b[:1].size for b in blocks))
        self.numbers = _striking(np.flatnonzero(fine), blocks, count)
        if not len(self.numbers):
            raise Unjudged
        self.part = self.part_of(result)
        self.kind, self.family = precision(job), 0.0
        self.function = self._best_function()
        self.trials: dict[tuple[int, str], Trial] = {}
        self.smooth = np.ones(len(self.numbers), bool)
        self.crossed: set[int] = set()  # orders of derivatives for which kinks have been looked for
        self.calls = 0  # evaluations of the function
        # to see the kinks that its rounding may have passed, or since fine steps drown in rounding
        self.wide = self.kind == "half" or not self.function.exact

    def part_of(self, result: Any) -> Part:
        """The samples looked at, with a result."""
        part = pick(self.job, self.numbers)
        blocks = [a[self.numbers] for a in hosts(self.job, result.blocks)]
        width = self.job.recipe.shapes.outputs
        return Part(part, blocks, self.outputs[self.numbers, :width], typical(self.job), join(_chosen(part)))

    def finding(self) -> Finding | None:
        """What is wrong, if anything is."""
        try:
            trial = self.trial(0)
        except Exception:  # the function does not work in this precision
            if self.function.dtype is None:
                raise
            self.function, self.wide = Function(self.part.job, fresh=True), True
            trial = self.trial(0)
        found = self._values(trial)
        if found is not None or isinstance(self.job.engine, ReferenceEngine):  # which is made of differences itself
            return found
        gap = self.gap(self.part)
        return None if gap is None else findings.of_gap(self.job, gap, self._named(gap.sample))

    def gap(self, part: Part) -> Gap | None:
        """A disagreement that shows along two sets of lines; a third one where the second lies on kinks."""
        found = None
        for seed in (0, 1, 2):
            gap, judged = self._compare(part, seed)
            if not (judged or seed or self.wide):
                self.wide = True
                gap, judged = self._compare(part, seed)
            if gap is not None and found is None and gap.order not in self.crossed:
                self._leave_kinks_out(gap.order)
                gap, judged = self._compare(part, seed)
            if gap is not None and found is not None:
                return gap
            found = found or gap
            if found is None or (judged and gap is None) or self.calls >= CALLS:
                return None
        return None

    def _compare(self, part: Part, seed: int) -> tuple[Gap | None, bool]:
        allowed = SLOPES[self.kind]
        if self.kind != "half":
            more = FAMILY * self.family
            allowed = Allowed(*(max(a, more) for a in dataclasses.astuple(allowed)))
        if seed:  # what is there shows in other mixtures too, if not as much in each
            allowed = Allowed(*(a / AGAIN for a in dataclasses.astuple(allowed)))
        return self.trial(seed).compare(part, self.smooth, allowed, ROUNDINGS * eps_of(self.kind))

    def _leave_kinks_out(self, order: int) -> None:
        """Samples without a derivative, though differences along each line by itself look as if there were one."""
        self.crossed.add(order)
        if order <= 2 and self.kind != "half":
            self.calls += 1
            fans = cross(self.part.base, self.part.scale, order, 0)
            trial = walk(self.function, fans, self.job.recipe.shapes.outputs, STEPS[self._reach()], 0)
            self.smooth &= trial.smooth(order)

    def _reach(self) -> str:
        return ("half" if self.kind == "half" else "wide") if self.wide else "fine"

    def trial(self, seed: int) -> Trial:
        """Lines with these random directions, walked once."""
        reach = self._reach()
        if (seed, reach) not in self.trials:
            self.calls += 1
            asked = probes(self.part, self.lines, seed)
            width = self.job.recipe.shapes.outputs
            self.trials[seed, reach] = walk(self.function, asked, width, STEPS[reach], seed)
        return self.trials[seed, reach]

    def _named(self, sample: int) -> int:
        return int(self.numbers[sample]) + self.start

    def _best_function(self) -> Function:
        """In float64 where that is to be had at no great cost, otherwise in the model's own precision."""
        network, engine = self.job.adapted.network, self.job.engine
        weights = sum(int(np.prod(w.shape)) for w in self.job.adapted.state(False))
        can = engine.capabilities.retypes or network.kind == "keras" or self.kind == "float64"
        return Function(self.part.job, "float64" if can and weights <= LARGE else None, fresh=True)

    def _values(self, trial: Trial) -> Finding | None:
        """The outputs that came with the derivative, against those of the samples among others."""
        if trial.here.shape != self.part.y.shape:
            return findings.of_samples(self._named(0), None)
        apart = _apart(trial.here, self.part.y, trial.change())
        if apart.max() <= VALUES[self.kind]:
            self.family = float(np.linalg.norm(apart) / np.sqrt(len(apart)))
            return None
        return self._explained(trial)

    def _explained(self, trial: Trial) -> Finding | None:
        """Another function, samples that mix, or the model's rounding: what the same batch says, and another one.

        Raises:
            Unjudged: the function gives other values each time, or rounding alone does as much to them.
        """
        own = Function(self.job, fresh=True)
        self.calls += 2
        width, everyone = self.job.recipe.shapes.outputs, np.arange(len(self.outputs))
        same = own(own.base, everyone)[:, :width]
        program, rounding, least = self.outputs[:, :width], 0.0, trial.change()
        if self.function.dtype is not None:
            rounding = float(_apart(same[self.numbers], trial.here, least).max())
        stale = _apart(same, program, least)
        if stale.max() > VALUES[self.kind]:
            noise = float(_apart(own(own.base, everyone)[:, :width], same, least).max())
            if max(MORE * noise, LARGEST * trial.noise()) > stale.max():
                raise Unjudged
            if rounding * MORE > stale.max() and rounding < 1:
                self._use_halves()
                return None
            return findings.of_values(int(np.argmax(stale)) + self.start, float(stale.max()))
        mixed = _apart(self._among(own)[:, :width], same, least)
        least_mixed = max(VALUES[self.kind], MORE * float(stale.max()))
        if mixed.max() > least_mixed and mixed.max() > TWICE * self._rounding(trial, same):
            worst = int(np.argmax(mixed))
            return findings.of_samples(worst + self.start, float(mixed[worst]))
        self._use_halves()
        return None

    def _rounding(self, trial: Trial, same: np.ndarray) -> float:
        """What rounding does to the values of the same batch, which may differ from place to place in it."""
        if self.function.dtype is None:
            return LARGEST * trial.noise()
        self.calls += 1
        exact = Function(self.job, self.function.dtype, fresh=True)
        values = exact(exact.base, np.arange(len(exact.base)))[:, : same.shape[1]]
        return float(_apart(values, same, trial.change()).max())

    def _use_halves(self) -> None:
        """The model computes with fewer digits than its dtypes tell."""
        self.kind, self.wide = "half", True

    def _among(self, own: Function) -> np.ndarray:
        """The values of all samples, in the opposite order and behind strangers."""
        others, owners = strangers(own.base, 0)
        order = np.arange(len(own.base))[::-1]
        points, numbers = np.concatenate([others, own.base[order]]), np.append(owners, order)
        return own(points, numbers, np.arange(len(points)) < len(others))[len(others) :][order]


def _finite(value: np.ndarray) -> np.ndarray:
    return np.isfinite(value.reshape(len(value), -1)).all(1)


def _chosen(part: Job) -> list[np.ndarray]:
    sites = part.recipe.shapes.sites
    leaves = hosts(part, part.inputs.leaves)
    return [
        leaves[c] if isinstance(c, int) else np.zeros((len(leaves[0]), *sites[c][0]))
        for c in part.recipe.problem.wrt.chosen
    ]


def _apart(a: np.ndarray, b: np.ndarray, least: float) -> np.ndarray:
    """How far apart the values of each sample are, relative to their size; small samples beside large ones.

    `least` is by how much values change with the inputs, of which a value near zero has the rounding.
    """
    size = np.linalg.norm(b, axis=1)
    size = np.maximum(size, max(0.1 * size.max(initial=0.0), least))
    distance = np.linalg.norm(a - b, axis=1)
    return np.divide(distance, size, out=np.where(distance > 0, np.inf, 0.0), where=size > 0)


def _room(job: Job, samples: int, numbers: int) -> tuple[int, int]:
    """How many samples are looked at, along how many lines each."""
    plan, shapes = job.recipe.plan, job.recipe.shapes
    cost = max(1, WIDE * shapes.bytes)
    share = SHARE * samples * (1 + 2 * plan.seeds) * 2 ** (ORDERS.get(job.what, 1) - 1) / SLOW
    free = (FREE_COMPILED if plan.compiled else FREE) // cost
    rows = min(max(share, free), plan.max_memory // cost)
    count = int(min(samples, MOST, max(1, rows // POINTS), max(1, LARGE // max(1, numbers))))
    least = LINES if rows >= LINES * POINTS else min(FEW, max(1, rows // POINTS))
    fits = numbers <= LARGE and plan.max_memory // cost >= FEW * POINTS + STRANGERS
    lines = max(-(-least // count), 2 if rows >= 2 * POINTS * count else 1)  # one mixture may be small by chance
    return (count if fits else 0), lines


def _striking(numbers: np.ndarray, blocks: list[np.ndarray], count: int) -> np.ndarray:
    """At most so many samples: those with the smallest and the largest derivatives, and some at random."""
    if len(numbers) <= count:
        return numbers
    size = sum(np.square(b.reshape(len(b), -1), dtype=np.float64).sum(1) for b in blocks)[numbers]
    order = np.argsort(size, kind="stable")
    ends = [order[0], order[-1]][:count]
    rest = np.random.default_rng(0).permutation(order[1:-1])[: count - len(ends)]
    return np.sort(numbers[np.concatenate([ends, rest]).astype(int)])
