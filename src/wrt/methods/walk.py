"""Weighted sums of gradients along lines that end at the input, in parts that fit into memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from wrt.derive.choose import resized
from wrt.derive.compress import Sweep, compress
from wrt.derive.first import check_scalar, squeezed
from wrt.derive.job import Job, Options, nest, prepare
from wrt.derive.losses import wide
from wrt.derive.problem import diff_of
from wrt.derive.programs import kept
from wrt.derive.run import Result, run
from wrt.engines.base import Array, Arrays, Engine, Function
from wrt.methods.baselines import Sources, baselines_of
from wrt.methods.values import layer_values, settled
from wrt.progress import progress_bar
from wrt.trees import unflatten

ROWS = 64  # points of all samples at a time, unless asked for: larger parts leave the caches of a CPU


@dataclass(frozen=True)
class Course:
    """S points: `nodes (S, N or 1)` on lines from the sources that `which (S, N or 1)` names; 1 is the input."""

    nodes: np.ndarray
    weights: np.ndarray
    which: np.ndarray
    sources: Sources

    def part(self, start: int, size: int, rows: np.ndarray) -> Course:
        """Some of the points, for some samples; filled up with points of weight 0 at the input."""
        some = slice(start, start + size)
        more = max(0, start + size - len(self.weights))
        nodes, which = (_columns(a, rows)[some] for a in (self.nodes, self.which))
        nodes, which = np.pad(nodes, ((0, more), (0, 0)), constant_values=1), np.pad(which, ((0, more), (0, 0)))
        return Course(nodes, np.pad(self.weights[some], (0, more)), which, self.sources)


def _columns(value: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return value[:, rows] if value.shape[1] > 1 else value


def walk(
    model: Any,
    x: Any,
    of: Any,
    wrt: Any,
    course: Callable[[Job], Course],
    options: Options,
    what: str,
    *,
    with_output: bool = False,
    with_gap: bool = False,
) -> Any:
    """Maps `sum_s w_s (x - b_s) dy/dx(b_s + t_s (x - b_s))`, nested; then the outputs at x, then the gap, as wanted."""
    chosen = settled(model, x, of, wrt, options)
    job = prepare(model, x, chosen, wrt, "rows", options)
    check_scalar(job, of)
    steps = course(job) if job.inputs.samples != 0 else _nothing(job)
    total = (job.inputs.samples or 1) * len(steps.weights)
    with progress_bar(total, options.progress, what) as advance:
        walker = Walker(job, steps, with_output or with_gap, with_gap, advance)
        result = run(walker.job())
    width = len(job.recipe.shapes.outs)
    ends = squeezed(job, of, Result(result.outputs, result.blocks))
    found = [nest(job, ends.blocks)]
    if with_output:
        found.append(unflatten(job.recipe.shapes.out_structure, ends.outputs[:width]))
    if with_gap:
        gaps = _gaps(job.engine, ends, width)
        found.append(unflatten(job.recipe.shapes.out_structure, gaps))
    return found[0] if len(found) == 1 else tuple(found)


def _nothing(job: Job) -> Course:
    """For no samples: one point."""
    return Course(np.ones((1, 1)), np.ones(1), np.zeros((1, 1), int), baselines_of(job, None))


def _gaps(engine: Engine, ends: Result, width: int) -> list[Any]:
    """For each output the sum of its maps minus the difference between the two ends."""
    across = len(ends.blocks) // width
    gaps = []
    for j in range(width):
        high, low = ends.outputs[j], ends.outputs[width + j]
        gap = low - high
        for block in ends.blocks[j * across : (j + 1) * across]:
            axes = tuple(range(len(high.shape), len(block.shape)))
            gap = gap + (block.sum(axes) if isinstance(block, np.ndarray) else engine.sum(block, axes))
        gaps.append(gap)
    return gaps


class Walker:
    """The program of a job whose products are sums along the course; runs it part by part."""

    def __init__(self, job: Job, course: Course, ends: bool, starts: bool, advance: Callable[[int], None]) -> None:
        self.base, self.course, self.ends, self.starts, self.advance = job, course, ends, starts, advance
        samples, fixed = job.inputs.samples, job.adapted.network.batch
        count = (samples or 1) * len(course.weights)
        self.capacity = fixed or resized(job.recipe.plan, count, job.options.request).batch

    def job(self) -> Job:
        """The job for `run`, which hands over rows and their numbers."""
        plan = dataclasses.replace(self.base.recipe.plan, chunk=1)  # only batches are left to halve
        recipe = dataclasses.replace(self.base.recipe, program=self, plan=plan)
        request = self.base.options.request
        if any(map(self.base.engine.is_traced, self.base.inputs.leaves)):  # numbers of rows have no values then
            request = dataclasses.replace(request, batch_size=None)
        options = dataclasses.replace(self.base.options, request=request, progress=False)
        samples = self.base.inputs.samples
        extra = () if samples is None else (np.arange(samples),)
        return dataclasses.replace(self.base, recipe=recipe, options=options, extra=extra, remember=lambda _: None)

    def __call__(self, state: Arrays, leaves: Arrays, labels: Array | None, extra: Arrays) -> tuple[Arrays, Arrays]:
        here = self._here(state, leaves)
        rows = self._rows(extra, leaves[0])
        data = (state, leaves, labels, here)
        totals: Arrays = []
        start, size, ends = 0, self._size(leaves, here), None
        while start < len(self.course.weights):
            part = self.course.part(start, size, rows)
            try:
                ends, sums = self._gradients(data, part, rows)
            except Exception as error:
                if size == 1 or not self.base.engine.is_out_of_memory(error):
                    raise
                size = -(-size // 2)
                self.capacity = size * leaves[0].shape[0]
                continue
            totals = [a + b for a, b in zip(totals, self._free(sums), strict=True)] if start else self._free(sums)
            self.advance(size * len(rows))
            start += size
        known = ends if (part.nodes[-1] == 1).all() else None
        return self._outputs(data, rows, known), [self._like(t, h) for t, h in zip(totals, here, strict=True)]

    def _here(self, state: Arrays, leaves: Arrays) -> Arrays:
        """The values of the chosen tensors."""
        values = iter(layer_values(self.base, state, leaves))
        return [leaves[c] if isinstance(c, int) else next(values) for c in self.base.recipe.problem.wrt.chosen]

    def _rows(self, extra: Arrays, leaf: Array) -> np.ndarray:
        if not extra or self.base.engine.is_traced(leaf):  # all of them, or an open number
            return np.arange(leaf.shape[0] or 1)
        return np.asarray(self.base.engine.numpy(extra[0]))

    def _size(self, leaves: Arrays, here: Arrays) -> int:
        """Points at a time, in nearly equal parts; one where a size is open."""
        steps = len(self.course.weights)
        if any(None in a.shape for a in (*leaves, *here)):
            return 1
        most = self.capacity if self.base.options.request.batch_size else min(self.capacity, ROWS)
        largest = max(1, min(steps, most // leaves[0].shape[0]))
        return -(-steps // -(-steps // largest))

    def _line(self, part: Course, rows: np.ndarray, here: Arrays) -> Arrays:
        """Nodes and starts of some points on the device."""
        asarray, dtype = self.base.engine.asarray, self.base.engine.dtype
        starts = part.sources.pick(part.which, rows)
        nodes = asarray(part.nodes, dtype(here[0]), here[0])
        return [nodes, *(asarray(b, dtype(h), h) for b, h in zip(starts, here, strict=True))]

    def _gradients(self, data: tuple[Any, ...], part: Course, rows: np.ndarray) -> tuple[Arrays, Arrays]:
        engine, here, count = self.base.engine, data[-1], len(part.weights)
        program = kept(self.base, f"gradients at {count} points", lambda: _gradients(self.base, count))
        weights = engine.asarray(part.weights, engine.dtype(here[0]), here[0])
        return program(*data, self._line(part, rows, here), weights)

    def _outputs(self, data: tuple[Any, ...], rows: np.ndarray, known: Arrays | None) -> Arrays:
        """The outputs at the input and, where asked for, their means at the starts."""
        if not self.ends:
            return []
        end = known or self._at(data, rows, 1.0, 0)
        if not self.starts:
            return end
        count = self.course.sources.count
        found = [self._at(data, rows, 0.0, number) for number in range(count)]
        return [*end, *(sum(column[1:], column[0]) / count for column in zip(*found, strict=True))]

    def _at(self, data: tuple[Any, ...], rows: np.ndarray, node: float, number: int) -> Arrays:
        program = kept(self.base, "values on lines", lambda: _values(self.base))
        course = Course(np.full((1, 1), node), np.ones(1), np.full((1, 1), number), self.course.sources)
        return self._free(program(*data, self._line(course, rows, data[-1])))

    def _free(self, arrays: Arrays) -> Arrays:
        return arrays if self.base.graph else [self.base.engine.detach(a) for a in arrays]

    def _like(self, value: Array, here: Array) -> Array:
        return self.base.engine.asarray(value, self.base.engine.dtype(here), here)


def _gradients(job: Job, count: int) -> Callable[..., tuple[Arrays, Arrays]]:
    """Weighted sums of the gradients at `count` points, and the outputs at the last of them."""
    engine, plan = job.engine, job.recipe.plan
    sweep = Sweep("reverse", plan.seeds, plan.chunk, job.graph)

    def program(
        state: Arrays, leaves: Arrays, labels: Array | None, here: Arrays, line: Arrays, weights: Array
    ) -> tuple[Arrays, Arrays]:
        f, points, deltas = _on_lines(job, count, state, leaves, labels, here, line)
        y, products = compress(engine, f, points, lambda r, like: engine.unit(r, like), sweep)
        scaled = [wide(engine, engine.reshape(weights, (count, *_ones(a)[1:])) * a) for a in deltas]
        found = [_split(engine, wide(engine, p), count) * a[None] for p, a in zip(products, scaled, strict=True)]
        return [_split(engine, a[None], count)[0, -1] for a in y], [engine.sum(a, (1,)) for a in found]

    return program


def _values(job: Job) -> Callable[..., Arrays]:
    """The outputs at one point of each line."""

    def program(state: Arrays, leaves: Arrays, labels: Array | None, here: Arrays, line: Arrays) -> Arrays:
        f, points, _ = _on_lines(job, 1, state, leaves, labels, here, line)
        return f(points)

    return program


def _on_lines(
    job: Job, count: int, state: Arrays, leaves: Arrays, labels: Array | None, here: Arrays, line: Arrays
) -> tuple[Function, Arrays, Arrays]:
    """The function, points `(count * n, *in)` on the lines, and the lines themselves, `(count, n, *in)`.

    `line` holds the nodes and then the starts.
    """
    nodes, *starts = line
    engine, problem = job.engine, job.recipe.problem
    diff, fixed = diff_of(problem, leaves, job.recipe.shapes.sites)
    deltas = [h[None] - b for h, b in zip(here, starts, strict=True)]
    times = [engine.reshape(nodes, (count, -1, *_ones(a)[2:])) for a in deltas]
    points = [_merged(engine, d[None] + (t - 1) * a, count) for d, t, a in zip(diff, times, deltas, strict=True)]
    more = [engine.concatenate([a] * count) for a in fixed]
    units = None if labels is None else engine.concatenate([labels] * count)
    return problem.function(state, more, units), points, deltas


def _ones(value: Array) -> tuple[int, ...]:
    return (1,) * len(value.shape)


def _merged(engine: Engine, value: Array, count: int) -> Array:
    """`(count * n, ...)` from `(count, n, ...)`; sizes may be open where the count is 1."""
    return value[0] if count == 1 else engine.reshape(value, (-1, *value.shape[2:]))


def _split(engine: Engine, value: Array, count: int) -> Array:
    """`(K, count, n, ...)` from `(K, count * n, ...)`."""
    if count == 1:
        return value[:, None]
    return engine.reshape(value, (value.shape[0], count, -1, *value.shape[2:]))
