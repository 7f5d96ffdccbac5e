"""What is seen without differences: dead, saturated and non-finite values, samples that influence one another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from wrt.derive.job import Job
from wrt.derive.products import Products
from wrt.engines.base import Array, Arrays
from wrt.engines.network import Taps
from wrt.errors import DerivativeError, WrtError
from wrt.trees import Path, path_name, unflatten

SATURATED = 1 - 1e-6
DRAWS = 2  # random products whose common zeros are taken for zeros of the Jacobian


@dataclass
class Survey:
    """Counts over all samples; `alive_*` and `saturated` are per flat input or output."""

    alive_inputs: np.ndarray
    alive_outputs: np.ndarray | None  # None where there is no forward derivative
    saturated: np.ndarray
    finite: np.ndarray  # (N,) samples without NaN or infinity anywhere
    non_finite: list[str] = field(default_factory=list)


def survey(products: Products, seed: int) -> Survey:
    """One evaluation and a few products with random directions, at every sample."""
    samples, (_, m, n) = products.samples, products.shape
    found = Survey(np.zeros(n, bool), np.zeros(m, bool), np.zeros(m, int), np.zeros(samples, bool))
    x_finite = _finite_inputs(products.any)
    bad: dict[str, np.ndarray] = {}
    done = 0
    for rows, part in products.groups(products.any.recipe.plan.batch):
        keep = x_finite[rows] & (np.arange(samples)[rows] >= done)
        values = _look(part, found, np.random.default_rng(seed), keep)
        for what, value in values.items():
            bad.setdefault(what, _where(value, rows.start, keep))
            bad[what] = bad[what] if len(bad[what]) else _where(value, rows.start, keep)
        found.finite[rows] = x_finite[rows] & np.logical_and.reduce([np.isfinite(v).all(1) for v in values.values()])
        done = rows.stop
    found.non_finite += _describe_inputs(products.any) + _describe(products, bad)
    return found


def _look(part: Products, found: Survey, random: np.random.Generator, keep: np.ndarray) -> dict[str, np.ndarray]:
    """Add what a group of samples shows; the outputs, and a random mixture of the rows of their Jacobians."""
    _, m, n = part.shape
    for _ in range(DRAWS):
        pulled = part.back(random.standard_normal((part.samples, m)))
        found.alive_inputs |= (pulled[keep] != 0).any(axis=0)
        if found.alive_outputs is not None:
            found.alive_outputs = _pushed(part, random.standard_normal((part.samples, n)), found.alive_outputs, keep)
    y = part.flat(part.outputs or [])
    if _is_probability(part.any, y[keep]):
        found.saturated += (y[keep] > SATURATED).sum(axis=0)
    return {"output": y, "derivative": pulled}


def _pushed(part: Products, v: np.ndarray, alive: np.ndarray, keep: np.ndarray) -> np.ndarray | None:
    pushed = push_or_none(part, v)
    return None if pushed is None else alive | (pushed[keep] != 0).any(axis=0)


def push_or_none(products: Products, v: np.ndarray) -> np.ndarray | None:
    """`J v`, or `None` where the model has no forward derivative of any kind."""
    try:
        return products.forth(v)
    except DerivativeError:  # nor one made of two pulls
        return None
    except WrtError:
        raise
    except Exception as error:  # an operator without a forward rule, in the words of any framework
        if products.any.engine.is_out_of_memory(error):
            raise
        return None


def _is_probability(job: Job, y: np.ndarray) -> bool:
    """A softmax or sigmoid was seen, or rows that sum to one."""
    if job.recipe.shapes.probability:
        return True
    sums = y.sum(axis=1)
    return y.shape[1] > 1 and y.size > 0 and y.min() >= 0 and bool((np.abs(sums - 1) < 1e-4).all())


def _where(values: np.ndarray, start: int, keep: np.ndarray) -> np.ndarray:
    """(sample, flat index) of what is not finite though x is."""
    return np.argwhere(~np.isfinite(values) & keep[:, None]) + np.array([start, 0])


def _hosts(job: Job) -> list[np.ndarray]:
    return [np.asarray(a) if job.inputs.host else job.engine.numpy(a) for a in job.inputs.leaves]


def _finite_inputs(job: Job) -> np.ndarray:
    fine = [np.isfinite(a.reshape(len(a), -1)).all(1) for a in _hosts(job) if a.dtype.kind == "f"]
    return np.logical_and.reduce([np.ones(job.inputs.samples or 0, bool), *fine])


def _describe_inputs(job: Job) -> list[str]:
    found = []
    for name, value in zip(job.inputs.names, _hosts(job), strict=True):
        bad = np.argwhere(~np.isfinite(value)) if value.dtype.kind == "f" else np.zeros((0, 0))
        if len(bad):
            first = tuple(map(int, bad[0]))
            found.append(f"x (input {name!r}): {len(bad)} values, the first at sample {first[0]}, index {first[1:]}")
    return found


def _describe(products: Products, bad: dict[str, np.ndarray]) -> list[str]:
    """Where values that are not finite first appear: in a layer, in the output, or only in the derivative."""
    shapes = products.any.recipe.shapes
    if len(bad["output"]):
        sample, index = bad["output"][0]
        where = named_index(int(index), shapes.outs, shapes.out_structure.paths())
        layer = _first_layer(products.rows(slice(int(sample), int(sample) + 1)).any)
        start = [f"layer {layer!r} is the first whose output is not finite, at sample {sample}"] if layer else []
        return [*start, f"output: first at sample {sample}, index {where}"]
    if len(bad["derivative"]):
        sample, index = bad["derivative"][0]
        where = named_index(int(index), shapes.ins, products.any.recipe.problem.wrt.structure.paths())
        return [f"derivative: finite output, but first not finite at sample {sample}, input {where}"]
    return []


def named_index(number: int, shapes: Sequence[tuple[int, ...]], paths: Sequence[Path]) -> tuple[Any, ...]:
    """The place of a flat index in the nested arrays: keys first, then the index into the array."""
    for shape, path in zip(shapes, paths, strict=True):
        size = math.prod(shape)
        if number < size:
            return (*path, *(int(i) for i in np.unravel_index(number, shape)))
        number -= size
    raise IndexError(number)


class _Listening(Taps):
    """Reads layers in the order of their calls, and lets be what is never called or gives several arrays."""

    def several(self, name: str) -> None:
        """Such a layer has no one output to look at."""

    def finish(self) -> None:
        return


def _first_layer(job: Job) -> str | None:
    """The first layer, in the order of execution, whose output is not finite at the job's samples."""
    for (name, _), value in _listen(job, job.adapted.network.layers()).items():
        if not np.isfinite(job.engine.numpy(job.engine.detach(value))).all():
            return name
    return None


def _listen(job: Job, names: list[str]) -> dict[Any, Array]:
    network, engine = job.adapted.network, job.engine
    like = network.like() if job.inputs.host else job.inputs.leaves[0]
    hosts = [np.resize(a, (network.batch or len(a), *a.shape[1:])) for a in _hosts(job)]
    leaves: Arrays = [engine.asarray(a, d, like) for a, d in zip(hosts, job.inputs.dtypes, strict=True)]
    taps = _Listening(watch=tuple((name, 0) for name in names))
    network.apply(job.adapted.state(False), unflatten(job.recipe.problem.structure, leaves), taps)
    return {site: v for site, v in taps.seen.items() if "float" in engine.dtype(v)}


def describe_path(path: tuple[Any, ...]) -> str:
    """`"(2, 3)"`, or `"a/0 (2, 3)"` where keys come first."""
    keys = tuple(p for p in path if isinstance(p, str))
    rest = tuple(p for p in path if not isinstance(p, str))
    return f"{path_name(keys)} {rest}" if keys else str(rest)
