"""Products with the Jacobians of all samples, as flat vectors on the host, and sums over their entries."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from wrt.derive.differences import take
from wrt.derive.flat import join, split
from wrt.derive.job import Job
from wrt.derive.problem import Shapes
from wrt.derive.run import run
from wrt.derive.spectrum import Triplets, triplets
from wrt.engines.base import Array, Arrays
from wrt.errors import OptionError, PlanMismatchError
from wrt.progress import progress_bar

STEPS = 300  # Lanczos steps before it gives up, unless told otherwise
TYPICAL_STEPS = 40  # for which memory is set aside
PRECISION = 10  # units of rounding of the model's dtype below which no residual can be expected


class Products:
    """N Jacobians `(m, n)`; the jobs are prepared when first needed and kept."""

    def __init__(self, make: Callable[[str], Job], whole: Products | None = None) -> None:
        self._make, self._whole = make, whole
        self._jobs: dict[str, Job] = {}
        self.outputs: Arrays | None = None  # of the last run
        self._shapes: Shapes | None = None
        self._shapes = self.job("vjp").recipe.shapes  # errors of the question come here

    @property
    def any(self) -> Job:
        """Some job of this question."""
        return next(iter(self._jobs.values()), None) or self.job("vjp")

    def now(self) -> Products:
        """The same, of what the model computes now; products before the next call of this are of one function."""
        if not self.any.engine.capabilities.traces:  # Python runs each time, and reads the weights then
            return self
        self._jobs.clear()
        if self._whole is not None:
            self._whole.now()
        return self

    def job(self, what: str) -> Job:
        """One of the jobs.

        Raises:
            PlanMismatchError: the model has other outputs or inputs than when it was first looked at.
        """
        if what not in self._jobs:
            self._jobs[what] = self._make(what)
            now, first = self._jobs[what].recipe.shapes, self._shapes
            if first and (now.outs, now.ins) != (first.outs, first.ins):
                raise PlanMismatchError(
                    f"the model has outputs {now.outs} and inputs {now.ins} per sample now, and had {first.outs} and "
                    f"{first.ins} when it was linearized; call wrt.linearize again"
                )
        return self._jobs[what]

    @property
    def shape(self) -> tuple[int | None, int, int]:
        shapes = self.any.recipe.shapes
        return self.any.inputs.samples, shapes.outputs, shapes.inputs

    @property
    def samples(self) -> int:
        return self.shape[0] or 0

    @property
    def dtype(self) -> np.dtype[Any]:
        """The precision of the products."""
        kinds = [d for d in self.any.inputs.dtypes if "float" in d]
        name = kinds[0] if kinds else self.any.adapted.network.dtype or "float32"
        return np.dtype("float32" if name == "bfloat16" else name)

    def run(self, what: str, extra: Sequence[Array] = (), progress: bool | None = False) -> list[Any]:
        job = self.job(what)
        options = dataclasses.replace(job.options, progress=progress)
        result = run(dataclasses.replace(job, extra=tuple(extra), options=options))
        self.outputs = result.outputs
        return result.blocks

    def forth(self, v: np.ndarray) -> np.ndarray:
        """`J v`, `(N, n)` to `(N, m)` in float64."""
        return self.flat(self.run("jvp", self.tensors(split(v, self.any.recipe.shapes.ins))))

    def back(self, u: np.ndarray) -> np.ndarray:
        """`Jᵀ u`, `(N, m)` to `(N, n)` in float64."""
        return self.flat(self.run("vjp", self.tensors(split(u, self.any.recipe.shapes.outs))))

    def tensors(self, arrays: Sequence[np.ndarray]) -> Arrays:
        """Host arrays as what `x` is made of, and where it is."""
        if self.any.inputs.host:
            return list(arrays)
        return [self.any.engine.asarray(a, str(self.dtype), self.any.inputs.leaves[0]) for a in arrays]

    def hosts(self, leaves: Sequence[Array]) -> list[np.ndarray]:
        return list(leaves) if self.any.inputs.host else [self.any.engine.numpy(a) for a in leaves]

    def flat(self, leaves: Sequence[Array]) -> np.ndarray:
        return join(self.hosts(leaves))

    def result(self, value: np.ndarray) -> Any:
        """A host result in the model's precision, as what `x` is made of."""
        return self.tensors([value.astype(self.dtype)])[0]

    def rows(self, rows: slice) -> Products:
        """The same for some of the samples."""
        return Products(lambda what: take(self.job(what), rows), self)

    def groups(self, size: int) -> Iterator[tuple[slice, Products]]:
        """Groups of samples, overlapping at the end so that all are equal and one program serves them."""
        samples = self.samples
        size = max(1, min(size, samples))
        for stop in range(size, samples + size, size):
            start = max(0, min(stop, samples) - size)
            rows = slice(start, start + size)
            yield rows, self if size == samples else self.rows(rows)

    def need_values(self, what: str) -> None:
        """Refuse where there are no values, or where a graph would be lost."""
        job = self.any
        if not job.inputs.host and any(map(job.engine.is_traced, job.inputs.leaves)):
            raise OptionError(
                f"{what} needs the values of x, which a transformation (jit, grad, vmap, tf.function) hides; call it "
                "outside, or use J.matvec, J.rmatvec or J.dense() here"
            )
        if job.graph:
            raise OptionError(
                f"{what} is computed on the host and would lose the graph of x; pass x without one (x.detach(), "
                "differentiable=False), or build it from J.matvec, J.rmatvec or J.dense()"
            )

    def squares(self) -> np.ndarray:
        """Sum of squares per sample, batch by batch; seed by seed where one sample's matrix is too large to keep."""
        total = np.zeros(self.samples)
        if self._is_large:
            for vectors in self._swept():
                total += np.square(vectors).sum(axis=1)
            return total
        with progress_bar(self.samples, self.any.options.progress, "norm") as advance:
            for rows, part in self.groups(self.job("rows").recipe.plan.batch):
                blocks = part.hosts(part.run("rows"))
                total[rows] = sum(np.square(b, dtype=np.float64).reshape(len(b), -1).sum(1) for b in blocks)
                advance(rows.stop - rows.start)
        return total

    def magnitudes(self, axis: int) -> np.ndarray:
        """The largest sum of `|J|` per sample: of a column (axis 0, over outputs) or of a row (axis 1, over inputs)."""
        if self._is_large:
            return self._swept_magnitudes(axis)
        largest = np.zeros(self.samples)
        with progress_bar(self.samples, self.any.options.progress, "norm") as advance:
            for rows, part in self.groups(self.job("rows").recipe.plan.batch):
                largest[rows] = np.abs(part.matrices()).sum(1 + axis).max(1)
                advance(rows.stop - rows.start)
        return largest

    def matrices(self) -> np.ndarray:
        """The matrices themselves, `(N, m, n)` in float64."""
        shapes, width = self.any.recipe.shapes, len(self.any.recipe.shapes.ins)
        blocks = self.hosts(self.run("rows"))
        sizes = [(math.prod(out), math.prod(in_)) for out in shapes.outs for in_ in shapes.ins]
        flat = [np.reshape(b, (len(b), *size)) for b, size in zip(blocks, sizes, strict=True)]
        rows = [np.concatenate(flat[k : k + width], axis=2) for k in range(0, len(flat), width)]
        return np.concatenate(rows, axis=1).astype(np.float64)

    @property
    def _is_large(self) -> bool:
        """Whether one sample's matrix does not fit into memory."""
        plan = self.job("rows").recipe.plan
        return plan.bytes > plan.max_memory and plan.batch == 1

    def _swept_magnitudes(self, axis: int) -> np.ndarray:
        """A row or column at a time is a sum of its own, or one more term of all sums."""
        along = (self.job("rows").recipe.plan.mode == "reverse") == (axis == 1)
        parts = map(np.abs, self._swept())
        if along:
            return np.maximum.reduce([part.sum(1) for part in parts])
        total = next(parts)
        for part in parts:
            total += part
        return np.asarray(total.max(1))

    def _swept(self) -> Iterator[np.ndarray]:
        """The rows `(N, n)` of all samples one after the other, or the columns `(N, m)` where these are fewer."""
        _, m, n = self.shape
        size, product = (m, self.back) if self.job("rows").recipe.plan.mode == "reverse" else (n, self.forth)
        seed = np.zeros((self.samples, size))
        with progress_bar(size, self.any.options.progress, "norm") as advance:
            for number in range(size):
                seed[:, number] = 1.0
                yield product(seed)
                seed[:, number] = 0.0
                advance(1)

    def spectrum(self, k: int, tol: float, steps: int | None, seed: int) -> Triplets:
        """The `k` largest singular triplets of every sample, in groups that fit into memory."""
        samples, (_, m, n) = self.samples, self.shape
        shapes = ((samples, m, k), (samples, k), (samples, k, n), (samples,))
        whole = Triplets(*(np.zeros(shape) for shape in shapes))
        tol = max(tol, PRECISION * float(np.finfo(self.dtype).eps))
        likely = min(m, n, steps or STEPS, TYPICAL_STEPS + 2 * k)
        room = self.job("jvp").recipe.plan.max_memory // (16 * (m + n) * likely)
        with progress_bar(samples, self.any.options.progress, "svd") as advance:
            for rows, part in self.groups(room):
                found = triplets(part.forth, part.back, (part.samples, m, n), k, tol, steps or STEPS, seed)
                for name in ("u", "s", "vh", "residual"):
                    getattr(whole, name)[rows] = getattr(found, name)
                advance(rows.stop - rows.start)
        return whole
