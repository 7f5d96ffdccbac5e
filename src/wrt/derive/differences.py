"""Differences of the function under test: the oracle that `wrt.check` holds derivatives against."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from wrt.derive.flat import join, split
from wrt.derive.job import Job
from wrt.engines.base import Array, Arrays
from wrt.engines.network import Taps
from wrt.engines.reference import STENCIL
from wrt.trees import unflatten

ROWS = 256  # points evaluated at a time, at most
SMALLER = 0.75  # what a fixed input is times that, to be another one that is as possible
AGREE, AGREE_HALF = 1e-2, 2e-1  # how near float64 must be to the model's own precision to be the same function
OFFSETS = (0.5, -0.5, 1.0, -1.0, 2.0, -2.0)
FOURTH = np.array([1.0, -4.0, 6.0, -4.0, 1.0])  # a difference that leaves only rounding; its variance is 70 times that


@dataclass(frozen=True)
class Differences:
    """`J v` from values alone, `(Q, m)`, and by how much it may be wrong where the function is not smooth."""

    value: np.ndarray
    doubt: np.ndarray


class Function:
    """The chosen outputs as a function of flat host vectors, at the samples of a job and in a precision of choice.

    `fresh`: made for a few calls, beside whatever the job has compiled.
    """

    def __init__(self, job: Job, dtype: str | None = None, fresh: bool = False) -> None:
        engine, network = job.engine, job.adapted.network
        self.job, self.dtype, self.fresh = job, dtype, fresh
        self.exact = dtype == "float64" and network.kind != "keras"  # Keras rounds inputs, and products inside
        self.problem = dataclasses.replace(job.recipe.problem, precision=dtype)
        with engine.apart():
            self.state = [self._cast(w) for w in job.adapted.state(False)]
        hosts = [_rounded(job, a, d) for a, d in zip(job.inputs.leaves, job.inputs.dtypes, strict=True)]
        self.device = network.like() if job.inputs.host else job.inputs.leaves[0]
        sites, chosen, dtypes = job.recipe.shapes.sites, job.recipe.problem.wrt.chosen, job.inputs.dtypes
        diff, self.fixed = _host_diff(job, hosts)
        self.kinds = [dtypes[c] if isinstance(c, int) else sites[c][1] for c in chosen]
        self.rest = [d for i, d in enumerate(dtypes) if i not in job.recipe.problem.wrt.inputs]
        self.base = join(diff)
        self.labels = None if job.labels is None else (job.labels if job.inputs.host else engine.numpy(job.labels))
        self.kind = ""  # dtype of the last values
        make = engine.once if fresh else engine.compile
        self.program = make(self._evaluate) if fresh or job.recipe.plan.compiled else self._evaluate

    def _cast(self, weight: Array) -> Array:
        engine = self.job.engine
        wanted = self.dtype is not None and "float" in engine.dtype(weight) and self.job.adapted.network.kind != "keras"
        return engine.asarray(weight, self.dtype, weight) if wanted else weight

    def _evaluate(self, state: Arrays, diff: Arrays, fixed: Arrays, labels: Array | None) -> Arrays:
        return self.problem.function(state, fixed, labels)(diff)

    def __call__(self, points: np.ndarray, samples: np.ndarray, moved: np.ndarray | None = None) -> np.ndarray:
        """Values `(Q, m)` at `points (Q, n)`, the q-th in place of sample `samples[q]`.

        Where `moved` is true the inputs that `wrt=` leaves out are those of the next sample, and smaller.
        """
        size, moved = self._rows(len(points)), np.zeros(len(points), bool) if moved is None else moved
        slices = [slice(a, a + size) for a in range(0, len(points), size)]
        with self.job.engine.apart():
            return np.concatenate([self._piece(points[s], samples[s], moved[s], size) for s in slices])

    def _rows(self, count: int) -> int:
        plan, fixed = self.job.recipe.plan, self.job.adapted.network.batch
        cost = max(1, plan.bytes // plan.batch)
        if self.fresh:
            return fixed or count
        return fixed or max(1, min(ROWS, len(OFFSETS) * len(self.base), plan.max_memory // cost))

    def _piece(self, points: np.ndarray, samples: np.ndarray, moved: np.ndarray, size: int) -> np.ndarray:
        engine, count = self.job.engine, len(points)
        if engine.capabilities.static_batch or self.job.adapted.network.batch:
            number = np.minimum(np.arange(size), count - 1)
            points, samples, moved = points[number], samples[number], moved[number]
        parts = split(points, self.job.recipe.shapes.ins)
        diff = [self._load(p, k) for p, k in zip(parts, self.kinds, strict=True)]
        fixed = [self._load(_other(a, samples, moved), k) for a, k in zip(self.fixed, self.rest, strict=True)]
        labels = None if self.labels is None else engine.asarray(self.labels[samples], None, self.device)
        y = self.program(self.state, diff, fixed, labels)
        self.kind = engine.dtype(y[0])
        return join([engine.numpy(engine.detach(a)) for a in y])[:count]

    def _load(self, value: np.ndarray, kind: str) -> Array:
        wanted = self.dtype if self.dtype is not None and "float" in kind else kind
        return self.job.engine.asarray(value, wanted, self.device)


def is_half(kind: str) -> bool:
    """Whether a dtype has half the digits of float32, or fewer."""
    return kind in ("bfloat16", "float16")


def precision(job: Job) -> str:
    """`"float64"`, `"float32"` or `"half"`: the coarsest of what inputs, weights and layers compute in."""
    weights = map(job.engine.dtype, job.adapted.state(False))
    kinds = {d for d in (*job.inputs.dtypes, *weights, *job.adapted.network.computes()) if "float" in d}
    if any(map(is_half, kinds)):
        return "half"
    return "float64" if kinds == {"float64"} else "float32"


def _other(value: np.ndarray, samples: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """Rows of a fixed input; where `moved`, those of the next sample, and smaller if they are no integers."""
    rows = value[np.where(moved, (samples + 1) % len(value), samples)]
    if not moved.any() or value.dtype.kind in "iub":
        return rows
    return np.where(moved.reshape(-1, *(1,) * (rows.ndim - 1)), SMALLER * rows, rows).astype(value.dtype)


def _rounded(job: Job, leaf: Array, dtype: str) -> np.ndarray:
    """The input on the host, as exact as the model takes it."""
    engine = job.engine
    if job.inputs.host and (str(leaf.dtype) == dtype or "float" not in dtype):
        return np.asarray(leaf)
    with engine.apart():
        return engine.numpy(engine.asarray(leaf, dtype) if "float" in dtype else leaf)


def _host_diff(job: Job, hosts: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """What is differentiated (zeros to be added, for layers) and what stays fixed, on the host."""
    chosen, fixed = job.recipe.problem.split(hosts)
    stream, sites, samples = iter(chosen), job.recipe.shapes.sites, len(hosts[0])
    return [
        next(stream) if isinstance(c, int) else np.zeros((samples, *sites[c][0])) for c in job.recipe.problem.wrt.chosen
    ], fixed


@dataclass(frozen=True)
class Oracle:
    """Differences along directions: `scale` is a typical size of each input, `noise` the rounding of each output."""

    function: Function
    scale: np.ndarray
    step: float
    noise: np.ndarray  # (m,)
    values: np.ndarray  # (N, m), at the samples themselves

    def along(self, directions: np.ndarray, samples: np.ndarray) -> Differences:
        """Central differences of four points along `directions (Q, n)`, at two steps.

        Where the two disagree, or the slopes left and right of the sample do, the function has a kink or too much
        noise there: their distance is the doubt. (Four points: the reference engine's formula, error O(step⁴).)
        """
        base, h = self.function.base[samples], self.step
        points = np.concatenate([base + k * h * directions for k in OFFSETS])
        found = self.function(points, np.tile(samples, len(OFFSETS))).reshape(len(OFFSETS), len(samples), -1)
        y = dict(zip(OFFSETS, found, strict=True))
        near, far = (np.add.reduce([w * y[k * r] for k, w in STENCIL]) / (r * h) for r in (0.5, 1.0))
        middle = 2 * self.values[samples]
        bends = [(y[r] - middle + y[-r]) / (r * h) for r in (0.5, 1.0)]  # falls with the step unless there is a kink
        return Differences(near, np.abs(near - far) + np.abs(2 * bends[0] - bends[1]))


def oracle(own: Function, scale: np.ndarray, seed: int) -> Oracle:
    """The oracle in float64 if the function works in it, in the model's own precision otherwise."""
    everything = np.arange(len(own.base))
    function, values = own, own(own.base, everything)
    if own.kind != "float64":
        function, values = _double(own.job, everything, values) or (own, values)
    noise = _noise(function, values, scale, seed)
    magnitude = np.abs(values).max(axis=0, initial=0.0)
    ratio = np.divide(noise, magnitude, out=np.zeros_like(noise), where=magnitude > 0)
    level = max(float(np.quantile(ratio, 0.9)), float(np.finfo(_numpy_kind(function.kind)).eps))
    return Oracle(function, scale, level**0.25, np.maximum(noise, level * magnitude), values)


def _numpy_kind(kind: str) -> str:
    return "float32" if kind == "bfloat16" else kind


def _double(job: Job, everything: np.ndarray, wanted: np.ndarray) -> tuple[Function, np.ndarray] | None:
    try:
        function = Function(job, "float64")
        values = function(function.base, everything)
    except Exception:  # whatever a framework says to another dtype: the model's own it is
        return None
    size = np.abs(wanted).max(initial=0.0)
    agree = AGREE_HALF if precision(job) == "half" else AGREE
    same = np.abs(values - wanted).max(initial=0.0) <= agree * size
    return (function, values) if function.kind == "float64" and same else None


def _noise(function: Function, values: np.ndarray, scale: np.ndarray, seed: int) -> np.ndarray:
    """The rounding of each output, from fourth differences over a distance in which nothing else changes."""
    samples = np.arange(len(values))
    direction = np.random.default_rng(seed).choice([-1.0, 1.0], size=function.base.shape) * scale
    points = np.concatenate([function.base + k * 1e-6 * direction for k in range(len(FOURTH))])
    found = function(points, np.tile(samples, len(FOURTH))).reshape(len(FOURTH), *values.shape)
    return np.median(np.abs(np.tensordot(FOURTH, found, 1)), axis=0) / np.sqrt((FOURTH**2).sum())


def scales(job: Job, subset: Job) -> np.ndarray:
    """A typical size of every input `(n,)`: of its column in a table, of the whole where neighbours share a unit.

    `job` has all samples; layers, which have to be evaluated, are looked at for those of `subset`.
    """
    found, layers = [], _layer_values(subset)
    for chosen in job.recipe.problem.wrt.chosen:
        if isinstance(chosen, int):
            leaf = job.inputs.leaves[chosen]
            value = np.asarray(leaf) if job.inputs.host else job.engine.numpy(leaf)
        else:
            value = layers[chosen]
        found.append(_scale(value.astype(np.float64)).ravel())
    return np.concatenate(found)


def _scale(value: np.ndarray) -> np.ndarray:
    finite = np.where(np.isfinite(value), value, 0.0)
    columns = np.sqrt(np.square(finite).mean(axis=0))
    if value.ndim > 2:
        columns = np.full_like(columns, np.sqrt(np.square(finite).mean()))
    typical = float(np.median(columns[columns > 0])) if (columns > 0).any() else 1.0
    return np.where(columns > 0, np.maximum(columns, 1e-2 * typical), typical)


def typical(job: Job, rows: int = 64) -> np.ndarray:
    """`scales` from the first samples; 1 for layers, which have not been evaluated."""
    found = []
    for chosen in job.recipe.problem.wrt.chosen:
        if isinstance(chosen, int):
            leaf = job.inputs.leaves[chosen][:rows]
            value = np.asarray(leaf) if job.inputs.host else job.engine.numpy(leaf)
            found.append(_scale(value.astype(np.float64)).ravel())
        else:
            found.append(np.ones(int(np.prod(job.recipe.shapes.sites[chosen][0]))))
    return np.concatenate(found)


def _layer_values(job: Job) -> dict[Any, np.ndarray]:
    problem, engine = job.recipe.problem, job.engine
    if not problem.wrt.sites:
        return {}
    like = job.adapted.network.like() if job.inputs.host else job.inputs.leaves[0]
    leaves = [engine.asarray(a, d, like) for a, d in zip(job.inputs.leaves, job.inputs.dtypes, strict=True)]
    taps = Taps(watch=problem.wrt.sites)
    problem.network.apply(job.adapted.state(False), unflatten(problem.structure, leaves), taps)
    return {site: engine.numpy(engine.detach(value)) for site, value in taps.seen.items()}


def pick(job: Job, samples: np.ndarray) -> Job:
    """The job for samples chosen by number; no verb for that is asked of an engine."""
    engine = job.engine

    def some(value: Any) -> Any:
        if value is None or isinstance(value, np.ndarray):
            return value if value is None else value[samples]
        return engine.asarray(engine.numpy(value)[samples], engine.dtype(value), value)

    inputs = dataclasses.replace(job.inputs, leaves=tuple(map(some, job.inputs.leaves)))
    extra = tuple(map(some, job.extra))
    return dataclasses.replace(job, inputs=inputs, labels=some(job.labels), extra=extra)


def take(job: Job, rows: Any) -> Job:
    """The same job for some of its samples."""
    leaves = tuple(leaf[rows] for leaf in job.inputs.leaves)
    labels = None if job.labels is None else job.labels[rows]
    extra = tuple(e[rows] for e in job.extra)
    return dataclasses.replace(job, inputs=dataclasses.replace(job.inputs, leaves=leaves), labels=labels, extra=extra)


def shift(job: Job, amount: float, seed: int) -> Job:
    """The job at neighbours of its samples: every floating input moved at random by `amount` of its typical size."""
    engine, random = job.engine, np.random.default_rng(seed)

    def moved(leaf: Any, dtype: str) -> Any:
        if "float" not in dtype:
            return leaf
        value = np.asarray(leaf) if job.inputs.host else engine.numpy(leaf)
        there = value + amount * _scale(value.astype(np.float64)) * random.standard_normal(value.shape)
        return there.astype(value.dtype) if job.inputs.host else engine.asarray(there, dtype, leaf)

    leaves = tuple(moved(a, d) for a, d in zip(job.inputs.leaves, job.inputs.dtypes, strict=True))
    return dataclasses.replace(job, inputs=dataclasses.replace(job.inputs, leaves=leaves))
