"""Whether a push agrees with a pull: u·(J v) against (Jᵀ u)·v, on a few samples and once per plan."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from wrt.derive.compress import Seeds, Sweep, compress
from wrt.derive.problem import Problem, Shapes, diff_of
from wrt.engines.base import Array, Arrays, Engine, Function
from wrt.errors import reason

# Relative to what a sum of such terms comes to. Inside, both may be rounded more than their dtype says: Keras
# multiplies in float32 on torch whatever the model's dtype.
TOLERANCE = {"float64": 1e-5, "float32": 2e-3, "float16": 0.05, "bfloat16": 0.2}
EPS = {"float64": 1e-15, "float32": 5e-7, "float16": 4e-3, "bfloat16": 3e-2}  # a few roundings of a value
GROUPS = 4  # vectors at most; where there are more tensors some share one

Shape = tuple[int, ...]
Vectors = list[np.ndarray]  # of every tensor (count, N, ...)
Values = list[tuple[str, np.ndarray]]  # dtypes and values


@dataclass(frozen=True)
class Trial:
    """A problem on a few samples, to be evaluated as plans are: compiled where they are."""

    problem: Problem
    shapes: Shapes
    state: Arrays
    example: Arrays
    labels: Array | None
    compiled: bool

    @property
    def engine(self) -> Engine:
        return self.problem.network.engine

    def vectors(self) -> tuple[Vectors, Vectors]:
        """Random ones along inputs and along outputs."""
        rng, samples = np.random.default_rng(0), self.example[0].shape[0]
        return _vectors(samples, self.shapes.ins, rng), _vectors(samples, self.shapes.outs, rng)

    def run(self, what: Callable[..., list[Arrays]], *vectors: Vectors) -> list[Values]:
        """`what(f, primals, *vectors)` with values; nothing where there are none.

        Raises:
            Exception: whatever the model raises where it is given its own values.
        """
        engine, count = self.engine, len(self.state)

        def program(state: Arrays, leaves: Arrays, labels: Array | None, vectors: list[Arrays]) -> list[Arrays]:
            diff, fixed = diff_of(self.problem, leaves, self.shapes.sites)
            return what(self.problem.function(state, fixed, labels), diff, *vectors)

        run = engine.compile(program) if self.compiled else program

        def evaluate(arrays: Arrays) -> Arrays:
            seeds = [[engine.asarray(a, None, arrays[0]) for a in part] for part in vectors]
            return run(arrays[:count], arrays[count:], self._labels(arrays[0]), seeds)

        arrays = [*self.state, *self.example]
        try:
            found = engine.trial(evaluate, arrays) or []
            return [[_on_host(engine, a) for a in part] for part in found]
        except Exception as error:
            if engine.is_out_of_memory(error) or not any(map(engine.is_traced, arrays)):
                raise
            return []  # random values in place of traced ones need not suit the model

    def _labels(self, like: Array) -> Array | None:
        if self.labels is None:
            return None
        return self.engine.asarray(np.zeros(tuple(self.labels.shape)), self.engine.dtype(self.labels), like)


def disagreement(trial: Trial, again: bool, mode: str = "forward") -> str:
    """What is wrong with pushes, or, if `again`, with those of the gradient; empty where they agree with pulls.

    With `mode="double"` pushes are made of two pulls. What has no values or other ones each time is not judged.
    """
    engine = trial.engine
    if engine.capabilities.transposes and mode == "forward":
        return ""
    v, w = trial.vectors()
    u = _with_first_sample(v if again else w)
    mix = [a.sum(0, keepdims=True) for a in w]

    def both(f: Function, primals: Arrays, v: Arrays, u: Arrays, mix: Arrays) -> list[Arrays]:
        g = mixed(engine, f, mix) if again else f
        y, pushed = compress(engine, g, primals, numbered(engine, v), Sweep(mode, v[0].shape[0], 1))
        same, pulled = compress(engine, g, primals, numbered(engine, u), Sweep("reverse", u[0].shape[0], 1))
        return [pushed, pulled, y, same]

    try:
        found = trial.run(both, v, u, mix)
    except Exception as error:
        if engine.is_out_of_memory(error):
            raise
        return reason(error)
    return _judged(found, v, u) if found else ""


def mixed(engine: Engine, f: Function, mix: Arrays) -> Function:
    """The gradient of a random mixture of all outputs: what bends a part of them bends it."""

    def gradient(primals: Arrays) -> Arrays:
        sweep = Sweep("reverse", 1, 1, True)
        return [a[0] for a in compress(engine, f, primals, lambda _, like: numbered(engine, mix)(0, like), sweep)[1]]

    return gradient


def numbered(engine: Engine, vectors: Arrays) -> Seeds:
    """Vector number `r` of each tensor, as its dtype; what comes behind those tensors gets none."""

    def seeds(r: Array, like: Arrays) -> Arrays:
        chosen = [engine.asarray(a[r], engine.dtype(b)) for a, b in zip(vectors, like, strict=False)]
        return [*chosen, *map(engine.zeros_like, like[len(vectors) :])]

    return seeds


def _vectors(samples: int, shapes: Sequence[Shape], rng: np.random.Generator) -> Vectors:
    """A random vector along every tensor by itself, so that a large one does not hide a small one."""
    count = min(len(shapes), GROUPS)
    vectors = [np.zeros((count, samples, *s), np.float32) for s in shapes]
    for k, a in enumerate(vectors):
        a[k % count] = rng.normal(size=a.shape[1:])
    return vectors


def _with_first_sample(vectors: Vectors) -> Vectors:
    """And one along all tensors of one sample: a sum over samples says less of each."""
    firsts = [np.where(np.arange(a.shape[1]) == 0, a.sum(0).T, 0).T for a in vectors]
    return [np.concatenate([a, first[None]]) for a, first in zip(vectors, firsts, strict=True)]


def _on_host(engine: Engine, value: Array) -> tuple[str, np.ndarray]:
    """With the dtype that it had."""
    return engine.dtype(value), engine.numpy(value).astype(np.float64)


def _judged(found: list[Values], v: Vectors, u: Vectors) -> str:
    tolerance = max(TOLERANCE.get(dtype, 0) for part in found[:2] for dtype, _ in part)
    pushed, pulled, y, same = [[value for _, value in part] for part in found]
    if any(np.abs(a - b).max(initial=0) > tolerance * np.abs(a).max(initial=0) for a, b in zip(y, same, strict=True)):
        return ""
    rounding = max(EPS.get(dtype, 0) for part in found[:2] for dtype, _ in part)
    room = rounding * max(1.0, *(np.abs(a).max(initial=0) for a in y)) / tolerance
    pairs = [(i, k) for i in range(len(v[0])) for k in range(len(u[0]))]
    worst = max(_difference(pushed[: len(u)], pulled, v, u, *pair, room) for pair in pairs)
    if worst <= tolerance:
        return ""
    return f"its products disagree with those of reverse mode, by {worst:.2g} of their size"


def _difference(pushed: Vectors, pulled: Vectors, v: Vectors, u: Vectors, i: int, k: int, room: float) -> float:
    """Of u·(J v) and (Jᵀ u)·v, relative to what sums of such terms come to; `room` is for equal terms that cancel."""
    forward = np.concatenate([(a[k] * b[i]).ravel() for a, b in zip(u, pushed, strict=True)])
    reverse = np.concatenate([(a[i] * b[k]).ravel() for a, b in zip(v, pulled, strict=True)])
    if not np.isfinite(reverse).all():
        return 0.0
    if not np.isfinite(forward).all():
        return np.inf
    lengths = (np.sqrt(sum(np.square(a[j]).sum() for a in part)) for part, j in ((v, i), (u, k)))
    size = np.linalg.norm(forward) + np.linalg.norm(reverse) + room * math.prod(lengths)
    return float(np.abs(forward.sum() - reverse.sum()) / size) if size else 0.0
