"""From a job to its result: in batches, halved when memory runs out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from wrt.derive.finite import warn_derivatives
from wrt.derive.job import NAMED, Job, by_plan
from wrt.derive.known import padded, smaller
from wrt.derive.unpack import unpack
from wrt.derive.verify import Instead, settled, verify
from wrt.engines import registry
from wrt.engines.base import Array, Arrays, Engine
from wrt.progress import progress_bar


@dataclass(frozen=True)
class Result:
    """Outputs and blocks, as lists; nesting is the caller's."""

    outputs: Arrays
    blocks: list[Any]


def run(job: Job) -> Result:
    """Run the job on its data, in batches where that is possible; proved when it runs for the first time."""
    job = settled(job)
    try:
        result = _run_host(job) if job.inputs.host else _run_tensors(job)
    except Instead as found:
        return run(found.job)
    warn_derivatives(job, result.outputs, result.blocks)
    return result


def _run_tensors(job: Job) -> Result:
    samples, batch = job.inputs.samples, job.recipe.plan.batch
    if samples == 0:
        return _of_no_tensor(job)
    whole = job.graph or any(map(job.engine.is_traced, job.inputs.leaves))
    asked = job.options.request.batch_size is not None
    if samples is None or samples <= batch or (whole and not asked):
        return _piece(job, job.engine, slice(None), None)
    parts = [_piece(job, job.engine, slice(s, s + batch), None) for s in range(0, samples, batch)]
    join = job.engine.concatenate
    outputs = [join(column) for column in zip(*(p.outputs for p in parts), strict=True)]
    return Result(outputs, [join(column) for column in zip(*(p.blocks for p in parts), strict=True)])


def _of_no_tensor(job: Job) -> Result:
    """One sample of zeros and none of its results: some operators cannot bear an empty batch."""

    def one(value: Array) -> Array:
        shape = (job.adapted.network.batch or 1, *value.shape[1:])
        owner = registry.owner(value)
        dtype = owner.dtype(value) if owner else str(value.dtype)
        return job.engine.asarray(np.zeros(shape, "float32" if dtype == "bfloat16" else dtype), dtype)

    inputs = dataclasses.replace(job.inputs, leaves=tuple(map(one, job.inputs.leaves)))
    labels = None if job.labels is None else one(job.labels)
    part = _piece(
        dataclasses.replace(job, inputs=inputs, labels=labels, extra=tuple(map(one, job.extra))),
        job.engine,
        slice(None),
        None,
    )
    return Result([a[:0] for a in part.outputs], [b[:0] for b in part.blocks])


def _run_host(job: Job) -> Result:
    samples = job.inputs.samples or 0
    sink = SparseSink(samples) if job.options.sparse else Sink(samples)
    numpy = registry.engine("reference")
    if samples == 0:
        return Result(*sink.of_nothing(_piece(job, numpy, slice(0, 0), job.adapted.network.batch or 1)))
    with progress_bar(samples, job.options.progress, NAMED.get(job.what, "Taylor")) as advance:
        for start, stop, part in _parts(job, samples, numpy):
            sink.put(start, stop, part)
            advance(stop - start)
    return Result(sink.outputs, sink.blocks)


def _parts(job: Job, samples: int, numpy: Engine) -> Iterator[tuple[int, int, Result]]:
    """One batch after the other; on an out-of-memory error halve and go on where it failed."""
    start = 0
    while start < samples:
        plan = job.recipe.plan
        stop = min(start + plan.batch, samples)
        try:
            size = padded(job.adapted.network, plan, min(plan.batch, samples))
            part = _piece(job, numpy, slice(start, stop), size)
        except Exception as error:
            if not job.engine.is_out_of_memory(error):
                raise
            job = _smaller(job, error)
            continue
        yield start, stop, part
        start = stop


def _smaller(job: Job, error: BaseException) -> Job:
    plan, recipe = smaller(job.recipe.plan, job.adapted.network, error), job.recipe
    if recipe.program is recipe.derivative:
        recipe = by_plan(job, plan, recipe.proof)
    recipe = dataclasses.replace(recipe, plan=plan)
    job.remember(recipe)
    return dataclasses.replace(job, recipe=recipe)


def _piece(job: Job, home: Engine, rows: slice, pad: int | None) -> Result:
    """The result for some rows; `home` is where it ends up: NumPy, or the engine itself."""
    result = _found(job, home, rows, pad)
    verify(job, rows, result, lambda other: _found(other, home, rows, pad))
    return job.reduce(result) if job.reduce else result


def _found(job: Job, home: Engine, rows: slice, pad: int | None) -> Result:
    engine, inputs = job.engine, job.inputs
    leaves = [_load(job, leaf, rows, pad, dtype) for leaf, dtype in zip(inputs.leaves, inputs.dtypes, strict=True)]
    labels = None if job.labels is None else _load(job, job.labels, rows, pad, None)
    kind = None if job.what == "rows" else cotangent_dtype(job)  # cotangents and tangents are of the model's kind
    extra = [_load(job, e, rows, pad, kind) for e in job.extra]
    outputs, products = job.recipe.program(job.adapted.state(job.graph), leaves, labels, extra)
    if not job.graph:
        outputs, products = list(map(engine.detach, outputs)), list(map(engine.detach, products))
    if inputs.host:
        count = rows.stop - rows.start
        outputs = [engine.numpy(a)[:count] for a in outputs]
        products = [engine.numpy(a)[:, :count] for a in products]
    return Result(outputs, _blocks(job, home, products))


def _load(job: Job, value: Array, rows: slice, pad: int | None, dtype: str | None) -> Array:
    """Some rows of an array, as a tensor where the model is; filled up with zeros where one size is compiled."""
    part = value[rows] if rows != slice(None) else value
    if pad is not None and isinstance(part, np.ndarray) and len(part) < pad:
        part = np.concatenate([part, np.zeros((pad - len(part), *part.shape[1:]), part.dtype)])
    return job.engine.asarray(part, dtype, job.adapted.network.like())


def cotangent_dtype(job: Job) -> str:
    """That of the inputs, or of the model where these are integers."""
    return next((d for d in job.inputs.dtypes if "float" in d), job.adapted.network.dtype or "float32")


def _blocks(job: Job, home: Engine, products: Arrays) -> Arrays:
    shapes, mode = job.recipe.shapes, job.recipe.plan.mode
    if job.what in ("jvp", "vjp", "hvp"):
        return [p[0] for p in products]
    if job.what.startswith("taylor"):  # (directions, N, *out, *in)
        return [home.moveaxis(p, 0, 1) for p in products]
    outs = shapes.outs
    if job.what == "hessian":
        outs = tuple((*out, *in_) for out in outs for in_ in shapes.ins)
    rows = unpack(home, products, mode if job.what == "rows" else "forward", outs, shapes.ins)
    blocks = [block for row in rows for block in row]
    if not job.options.sparse:
        return blocks
    sizes = [(math.prod(out), math.prod(in_)) for out in shapes.outs for in_ in shapes.ins]
    return [home.reshape(b, (b.shape[0], *size)) for b, size in zip(blocks, sizes, strict=True)]


class Sink:
    """Collects batches into arrays of the full length, allocated once."""

    def __init__(self, samples: int) -> None:
        self.samples = samples
        self.outputs: Arrays = []
        self.blocks: list[Any] = []

    def put(self, start: int, stop: int, part: Result) -> None:
        if not self.blocks:
            self.outputs = [self.room(a) for a in part.outputs]
            self.blocks = [self.room(a) for a in part.blocks]
        for whole, piece in zip((*self.outputs, *self.blocks), (*part.outputs, *part.blocks), strict=True):
            whole[start:stop] = piece

    def room(self, part: np.ndarray) -> np.ndarray:
        return np.empty((self.samples, *part.shape[1:]), part.dtype)

    def of_nothing(self, part: Result) -> tuple[Arrays, list[Any]]:
        return part.outputs, part.blocks


class SparseSink(Sink):
    """Keeps only the non-zero entries of each sample's Jacobian."""

    def put(self, start: int, stop: int, part: Result) -> None:
        from scipy import sparse

        if not self.blocks:
            self.outputs = [self.room(a) for a in part.outputs]
            self.blocks = [[] for _ in part.blocks]
        for whole, piece in zip(self.outputs, part.outputs, strict=True):
            whole[start:stop] = piece
        for rows, piece in zip(self.blocks, part.blocks, strict=True):
            rows += [sparse.csr_array(sample) for sample in piece]

    def of_nothing(self, part: Result) -> tuple[Arrays, list[Any]]:
        return part.outputs, [[] for _ in part.blocks]
