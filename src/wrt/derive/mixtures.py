"""Random mixtures of a result, and of what the same mixtures are made of in differences along lines."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from wrt.derive.flat import join
from wrt.derive.job import Job
from wrt.derive.programs import ORDERS
from wrt.derive.slope import sorted_tuples

Mixed = tuple[np.ndarray, np.ndarray]  # a mixture `(S, D, k)` and the size of what was mixed


@dataclass(frozen=True)
class Part:
    """Some samples of a first batch, on the host: their results, outputs and inputs, flat."""

    job: Job  # of these samples only
    blocks: list[np.ndarray]
    y: np.ndarray  # (S, m)
    scale: np.ndarray  # (n,), a typical size of every input
    base: np.ndarray  # (S, n)


@dataclass(frozen=True)
class Probe:
    """One mixture: derivatives of `order` along lines `(S, L, n)`, put together in the same way from either side.

    `free`: the lines may be moved a little, to where both ends are numbers that the model takes.
    """

    order: int
    lines: np.ndarray
    derivative: Callable[[Part, np.ndarray], Mixed]
    difference: Callable[[np.ndarray], np.ndarray]
    free: bool = True


def probes(part: Part, count: int, seed: int) -> list[Probe]:
    """The mixtures by which a result of this kind is judged; `count` lines for each sample."""
    random, what = np.random.default_rng(seed), part.job.what
    if what in ("jvp", "hvp"):
        return [_along(part, random, count) if what == "hvp" else _pushed(part)]
    if what == "diagonal":
        return [_diagonal(part, random, count)]
    lines, order = _random_lines(part, random, count), ORDERS.get(what, 1)
    if what == "vjp":
        u = join(hosts(part.job, part.job.extra))
        return [Probe(1, lines, _pulled, lambda d: (d * u[:, None]).sum(2, keepdims=True))]
    if what.startswith("taylor"):
        return [Probe(k, lines, _term(k), _same) for k in range(1, order + 1)]
    return [Probe(order, lines, _term(order), _same)]


def _same(differences: np.ndarray) -> np.ndarray:
    return differences


def _random_lines(part: Part, random: np.random.Generator, count: int) -> np.ndarray:
    """Half of the directions stay where the inputs are zero, and so on one side of what happens there."""
    samples, n = part.base.shape
    number = np.arange(samples)[:, None] + np.arange(count)
    own = np.abs(part.base)[:, None]
    relative = (number % 2 == 1)[:, :, None] & (own.max(2, keepdims=True) > 0)
    return random.standard_normal((samples, count, n)) * np.where(relative, own, part.scale)


def hosts(job: Job, arrays: Any) -> list[np.ndarray]:
    """Arrays or tensors on the host."""
    return [np.asarray(a) if isinstance(a, np.ndarray) else job.engine.numpy(job.engine.detach(a)) for a in arrays]


def _tensor(part: Part, level: int, blocks: list[np.ndarray]) -> np.ndarray:
    """Blocks, outputs first and then inputs `level` times, as one array `(S, m, n, ...)`."""
    shapes = part.job.recipe.shapes
    outs, ins = [math.prod(s) for s in shapes.outs], [math.prod(s) for s in shapes.ins]
    stream = iter(blocks)

    def inner(sizes: tuple[int, ...], left: int) -> np.ndarray:
        if not left:
            return np.reshape(next(stream), (-1, *sizes))
        return np.concatenate([inner((*sizes, n), left - 1) for n in ins], axis=len(sizes) + 1)

    return np.concatenate([inner((m,), level) for m in outs], axis=1).astype(np.float64, copy=False)


def _term(order: int) -> Callable[[Part, np.ndarray], Mixed]:
    """The derivative of some order along each line, from a tensor of that order."""

    def measured(part: Part, v: np.ndarray) -> Mixed:
        if part.job.what.startswith("taylor"):
            return _of_tuples(part, order, v)
        tensor = _tensor(part, order, part.blocks)
        if order == 1:
            return np.einsum("smn,sln->slm", tensor, v), _size("smn,sln->slm", tensor, v)
        return np.einsum("smab,sla,slb->slm", tensor, v, v, optimize=True), _size("smab,sla,slb->slm", tensor, v, v)

    return measured


def _size(path: str, *arrays: np.ndarray) -> np.ndarray:
    """The root of the sum of squares of what a mixture adds up."""
    return np.sqrt(np.einsum(path, *map(np.square, arrays), optimize=True))


def _of_tuples(part: Part, order: int, v: np.ndarray) -> Mixed:
    """From derivatives along sorted tuples of features: `(S, T, *out, n)`, the last index free."""
    n = v.shape[2]
    block = part.blocks[order - 1]
    tensor = block.reshape(len(block), block.shape[1], -1, n).astype(np.float64)
    tuples = sorted_tuples(n, order - 1)
    times = [math.factorial(order - 1) / math.prod(map(math.factorial, np.bincount(t, minlength=1))) for t in tuples]
    weights = np.prod(v[:, :, tuples], axis=3) * np.array(times)
    path = "stmn,slt,sln->slm"
    return np.einsum(path, tensor, weights, v, optimize=True), _size(path, tensor, weights, v)


def _pulled(part: Part, v: np.ndarray) -> Mixed:
    g = join(part.blocks)
    return np.einsum("sn,sln->sl", g, v)[:, :, None], _size("sn,sln->sl", g, v)[:, :, None]


def _unit_length(part: Part, extra: np.ndarray) -> np.ndarray:
    """What a direction of the user's is times that, to be as long as typical inputs; zero where it is zero."""
    length = np.sqrt(np.square(extra / part.scale).mean(1))
    return np.divide(1.0, length, out=np.zeros_like(length), where=length > 0)


def _pushed(part: Part) -> Probe:
    extra = join(hosts(part.job, part.job.extra))
    factor = _unit_length(part, extra)[:, None]

    def measured(part: Part, _: np.ndarray) -> Mixed:
        pushed = (factor * join(part.blocks))[:, None]
        rms = np.sqrt(np.square(pushed).mean())
        return pushed, np.maximum(np.abs(pushed), rms)

    return Probe(1, (factor * extra)[:, None], measured, _same, free=False)


def _along(part: Part, random: np.random.Generator, count: int) -> Probe:
    """`w·(H v)` of the user's v, a quarter of the difference of the curvatures along v + w and v - w."""
    extra = join(hosts(part.job, part.job.extra))
    factor = _unit_length(part, extra)
    v, w = (factor[:, None] * extra)[:, None], _random_lines(part, random, count)
    lines = np.concatenate([v + w, v - w], axis=1)

    def measured(part: Part, _: np.ndarray) -> Mixed:
        product = _tensor(part, 1, part.blocks) * factor[:, None, None]
        return np.einsum("smn,sln->slm", product, w), _size("smn,sln->slm", product, w)

    return Probe(2, lines, measured, lambda d: (d[:, :count] - d[:, count:]) / 4, free=False)


def _diagonal(part: Part, random: np.random.Generator, count: int) -> Probe:
    """Single entries: of each sample the largest, and others at random."""
    diagonal = _tensor(part, 1, part.blocks)
    samples, _, n = diagonal.shape
    heavy = (np.abs(diagonal).sum(1) * np.square(part.scale)).argmax(1)
    chosen = random.integers(0, n, (samples, count))
    chosen[:, 0] = heavy
    lines = (np.arange(n) == chosen[:, :, None]) * part.scale

    def measured(part: Part, v: np.ndarray) -> Mixed:
        found = np.einsum("smn,sln->slm", _tensor(part, 1, part.blocks), np.square(v))
        return found, np.abs(found)

    return Probe(2, lines, measured, _same)
