"""The chosen outputs at changed versions of one input: what perturbation methods are made of."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from wrt.derive.first import check_scalar
from wrt.derive.job import Job, Options, prepare
from wrt.derive.layout import input_axis
from wrt.derive.values import outputs_of
from wrt.engines import registry
from wrt.engines.base import Array
from wrt.errors import InputError, OptionError, SelectionError
from wrt.methods.values import settled
from wrt.progress import progress_bar
from wrt.select import Layer, Logit, Output
from wrt.trees import unflatten

ROOM = 1 << 20  # bytes of changed inputs at a time: what caches hold; measured on CPUs
ROWS = 32  # of them at least; copies with noise at most


class Subject:
    """A model at `x`, of which one input will be changed; the units are chosen at `x` as it came."""

    def __init__(self, model: Any, x: Any, of: Any, wrt: Any, options: Options) -> None:
        options = Options(options.request, options.progress, options.differentiable, data_format=options.data_format)
        job = prepare(model, x, of, wrt, "rows", options)
        check_scalar(job, of)
        if len(job.recipe.shapes.outs) != 1:
            raise SelectionError(f"of={of!r} chooses from several outputs; choose one with wrt.output(name, unit)")
        self.number = _input(job, wrt)
        self.respect = self.number if isinstance(job.recipe.problem.wrt.chosen[0], int) else wrt
        self.leaves, self.structure = job.inputs.leaves, job.inputs.structure
        self.model, self.options = model, dataclasses.replace(options, progress=False)
        self.host, self.samples, self.progress = job.inputs.host, job.inputs.samples, options.progress
        self.home = registry.engine("reference") if self.host else job.engine
        self._job = job
        self.of = settled(model, x, of, self.respect, self.options)
        self.leaf = self._floating(job.inputs.leaves[self.number], job.inputs.dtypes[self.number])
        self.shape = tuple(self.leaf.shape[1:])
        if not self.shape:
            raise InputError("x has one number per sample, so no part of it can be changed; expected (N, *in)")
        self.whole = "int" in job.inputs.dtypes[self.number]
        units = job.recipe.shapes.outs[0]
        self.units = () if of is None else units  # one scalar that nobody had to choose has no axis

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes of a sample along which positions lie: all but that of the channels, if there are any."""
        job = self._job
        return places(self.shape, input_axis(job.adapted, job.inputs, self.number, self.options.data_format))

    def _floating(self, leaf: Array, dtype: str) -> Array:
        if self.host:
            return np.asarray(leaf, "float32" if dtype == "bfloat16" else dtype)
        return self.home.asarray(leaf, dtype, leaf)

    def __call__(self, versions: Array, count: int) -> Array:
        """(count, N, K) outputs at `versions (count, N, *in)` of the input, all else as it is."""
        leaves = [self.home.concatenate([leaf] * count) for leaf in self.leaves]
        leaves[self.number] = self.home.reshape(versions, (-1, *self.shape))
        x, of = unflatten(self.structure, leaves), repeated(self.of, count)
        found = outputs_of(self.model, x, of, self.respect, self.options)
        return self.home.reshape(found, (count, -1, math.prod(self.units)))

    def here(self) -> Array:
        """(N, K) outputs at `x` itself."""
        return self(self.leaf, 1)[0]

    def parts(self, total: int, what: str) -> Iterator[slice]:
        """As many versions at a time as there is room for, in parts of nearly one size; with a bar."""
        samples = max(self.samples or 1, 1)
        batch = self.options.request.batch_size
        room = max(ROWS, ROOM // (4 * math.prod(self.shape) or 1))
        most = (batch or room) // samples
        ends = np.linspace(0, total, -(-total // max(1, most)) + 1).astype(int)
        with progress_bar(total, self.progress, what) as advance:
            for start, stop in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
                yield slice(start, stop)
                advance(stop - start)

    def tensor(self, array: np.ndarray, like: Array | None = None) -> Array:
        """NumPy values in the kind of the input, or of another array."""
        like = self.leaf if like is None else like
        return array.astype(like.dtype) if self.host else self.home.asarray(array, self.home.dtype(like), like)

    def shaped(self, rows: Array, sizes: Sequence[int]) -> Array:
        """From (N, K, S) to `(N, *units, *in)`: one value for all channels, whose size is 1 in `sizes`."""
        maps = self.home.reshape(rows, (-1, *self.units, *sizes))
        return maps * self.tensor(np.ones(self.shape), maps)

    def outputs(self, values: Array) -> Array:
        """From (N, K) to `(N, *units)`."""
        return self.home.reshape(values, (-1, *self.units))


def _input(job: Job, wrt: Any) -> int:
    """The number of the input that is changed; token ids are named by the embedding layer that they go through."""
    chosen = job.recipe.problem.wrt.chosen
    if len(chosen) != 1:
        raise SelectionError(f"x has {len(chosen)} inputs; say which one is changed by wrt=, its index or name")
    if isinstance(chosen[0], int):
        return chosen[0]
    if [True] != ["int" in dtype for dtype in job.inputs.dtypes]:
        raise SelectionError(f"wrt={wrt!r} is a layer; only inputs can be changed: choose an input's index or name")
    return 0


def repeated(of: Any, count: int) -> Any:
    """`of` for `count` copies of the samples, one after the other."""
    if isinstance(of, (Layer, Logit, Output)):
        return dataclasses.replace(of, unit=repeated(of.unit, count))
    owner = registry.owner(of)
    if owner is not None and len(of.shape):
        return owner.concatenate([of] * count)
    if isinstance(of, (list, np.ndarray)) and np.ndim(of):
        return np.concatenate([np.asarray(of)] * count)
    return of


def covers(subject: Subject, baseline: Any) -> Array:
    """What takes the place of parts of the input.

    Raises:
        InputError: a baseline of another shape, or of fractions where the input holds integers.
    """
    value = baseline if registry.owner(baseline) else np.asarray(baseline, float)
    if subject.whole and isinstance(value, np.ndarray) and (value % 1).any():
        raise InputError(
            f"baseline={baseline!r}: the input holds integers; expected such, as the id of a padding token"
        )
    shape, wanted = tuple(value.shape), (subject.samples, *subject.shape)
    if shape not in ((), subject.shape, wanted):
        raise InputError(f"baseline has shape {shape}; expected a number, {subject.shape} or {wanted}")
    return subject.tensor(value) if isinstance(value, np.ndarray) else value


def per_axis(name: str, value: Any, count: int) -> tuple[int, ...]:
    """An integer for every axis, from one for all of them or a tuple.

    Raises:
        OptionError: not integers of at least 1, or not one for each axis.
    """
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * count
    if not all(isinstance(v, (int, np.integer)) and not isinstance(v, bool) and v >= 1 for v in values):
        raise OptionError(f"{name}={value!r}; expected an integer of at least 1, or one for each axis")
    if len(values) != count:
        raise OptionError(f"{name}={value!r} has {len(values)} numbers; expected {count}, one for each axis")
    return tuple(map(int, values))


def places(shape: Sequence[int], axis: int | None) -> tuple[int, ...]:
    """The axes of a sample without that of the channels, which counts the samples; all of them where there is none."""
    return tuple(a for a in range(len(shape)) if a + 1 != axis)
