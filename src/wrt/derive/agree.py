"""Whether a push agrees with a pull: u·(J v) against (Jᵀ u)·v, on a few samples and once per plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from wrt.derive.compress import Seeds, Sweep, compress
from wrt.derive.problem import Problem, Shapes, diff_of
from wrt.engines.base import Array, Arrays, Engine, Function
from wrt.errors import reason

# Relative to what a sum of such terms comes to. Inside, both may be rounded more than their dtype says: Keras
# multiplies in float32 on torch whatever the model's dtype.
TOLERANCE = {"float64": 1e-5, "float32": 2e-3, "float16": 0.05, "bfloat16": 0.2}
GROUPS = 4  # vectors at most; where there are more tensors some share one

Shape = tuple[int, ...]
Vectors = list[np.ndarray]  # of every tensor (count, N, ...)
Values = list[tuple[str, np.ndarray]]  # dtypes and values


def disagreement(
    problem: Problem, shapes: Shapes, state: Arrays, example: Arrays, labels: Array | None, again: bool, compiled: bool
) -> str:
    """What is wrong with a push of this problem, or, if `again`, of its gradient; empty when it agrees with a pull.

    It is evaluated as the plan would be: compiled where that is. What has no values or other ones each time is not
    judged.
    """
    engine, samples, rng = problem.network.engine, example[0].shape[0], np.random.default_rng(0)
    if engine.capabilities.transposes:
        return ""
    v, w = (_vectors(samples, s, rng) for s in (shapes.ins, shapes.outs))
    u = _with_first_sample(v if again else w)
    vectors = [v, u, [a.sum(0, keepdims=True) for a in w]]
    program = _program(problem, shapes, again)
    run = engine.compile(program) if compiled else program

    def evaluate(arrays: Arrays) -> Arrays:
        first, count = arrays[0], len(state)
        seeds = [[engine.asarray(a, None, first) for a in part] for part in vectors]
        known = None if labels is None else engine.asarray(np.zeros(tuple(labels.shape)), engine.dtype(labels), first)
        return run(arrays[:count], arrays[count:], known, *seeds)

    try:
        found = engine.trial(evaluate, [*state, *example])
        found = [[_on_host(engine, a) for a in part] for part in found or []]
    except Exception as error:
        if engine.is_out_of_memory(error):
            raise
        traced = any(map(engine.is_traced, [*state, *example]))  # perhaps random values do not fit the model
        return "" if traced else reason(error)
    return _judged(found, v, u) if found else ""


def _program(problem: Problem, shapes: Shapes, again: bool) -> Callable[..., list[Arrays]]:
    """Pushes, pulls, and the outputs as both of them saw them."""
    engine = problem.network.engine

    def program(state: Arrays, leaves: Arrays, labels: Array | None, v: Arrays, u: Arrays, mix: Arrays) -> list[Arrays]:
        diff, fixed = diff_of(problem, leaves, shapes.sites)
        f = problem.function(state, fixed, labels)
        g = _mixed(engine, f, mix) if again else f
        y, pushed = compress(engine, g, diff, _numbered(engine, v), Sweep("forward", v[0].shape[0], 1))
        same, pulled = compress(engine, g, diff, _numbered(engine, u), Sweep("reverse", u[0].shape[0], 1))
        return [pushed, pulled, y, same]

    return program


def _mixed(engine: Engine, f: Function, mix: Arrays) -> Function:
    """The gradient of a random mixture of all outputs: what bends a part of them bends it."""

    def gradient(primals: Arrays) -> Arrays:
        sweep = Sweep("reverse", 1, 1, True)
        return [a[0] for a in compress(engine, f, primals, lambda _, like: _numbered(engine, mix)(0, like), sweep)[1]]

    return gradient


def _numbered(engine: Engine, vectors: Arrays) -> Seeds:
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
    worst = max(_difference(pushed[: len(u)], pulled, v, u, i, k) for i in range(len(v[0])) for k in range(len(u[0])))
    if worst <= tolerance:
        return ""
    return f"its products disagree with those of reverse mode, by {worst:.2g} of their size, as no right ones can"


def _difference(pushed: Vectors, pulled: Vectors, v: Vectors, u: Vectors, i: int, k: int) -> float:
    """Of u·(J v) and (Jᵀ u)·v, relative to what sums of such terms come to."""
    forward = np.concatenate([(a[k] * b[i]).ravel() for a, b in zip(u, pushed, strict=True)])
    reverse = np.concatenate([(a[i] * b[k]).ravel() for a, b in zip(v, pulled, strict=True)])
    if not np.isfinite(reverse).all():
        return 0.0
    if not np.isfinite(forward).all():
        return np.inf
    size = np.linalg.norm(forward) + np.linalg.norm(reverse)
    return float(np.abs(forward.sum() - reverse.sum()) / size) if size else 0.0
