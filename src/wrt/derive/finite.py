"""Derivatives that are not finite where the values are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import numpy as np

from wrt.derive.job import NAMED, Job
from wrt.errors import NonFiniteWarning, warn

_unsaid: ContextVar[bool] = ContextVar("unsaid", default=False)


@contextlib.contextmanager
def unsaid() -> Iterator[None]:
    """Inside, nothing is said of derivatives that are not finite: the caller does, in words of its own."""
    token = _unsaid.set(True)
    try:
        yield
    finally:
        _unsaid.reset(token)


def warn_derivatives(job: Job, outputs: list[Any], blocks: list[Any]) -> None:
    """Count NaN and infinity in derivatives that have values, of samples whose inputs and outputs are finite."""
    engine, tensors = job.engine, [*job.inputs.leaves, *outputs, *blocks]
    if _unsaid.get() or job.recipe.program is not job.recipe.derivative or job.graph:
        return
    if not job.inputs.host:
        if any(map(engine.is_traced, tensors)) or engine.free_memory(job.inputs.leaves[0]) is not None:
            return  # without values, or in the memory of a device, where a look would wait for it
        outputs, blocks = ([engine.numpy(a) for a in part] for part in (outputs, blocks))
    if all(map(_all_finite, blocks)):
        return
    arrays = [a if isinstance(a, np.ndarray) else engine.numpy(a) for a in (*job.inputs.leaves, *job.extra, *outputs)]
    given = [a for a in arrays if a.dtype.kind == "f"]
    fine = np.logical_and.reduce([np.isfinite(a.reshape(len(a), -1)).all(1) for a in given if a.size])
    count = 0
    first: tuple[int, tuple[int, ...]] | None = None
    for block in blocks:
        for sample in np.flatnonzero(fine):
            bad = np.asarray(~np.isfinite(_dense(block[int(sample)])))
            count += int(bad.sum())
            if bad.any() and (first is None or sample < first[0]):
                first = int(sample), tuple(map(int, np.argwhere(bad)[0]))
    if first is not None:
        warn(_text(job, count, *first), NonFiniteWarning)


def _all_finite(block: Any) -> bool:
    if isinstance(block, list):  # of sparse matrices
        return all(np.isfinite(row.data).all() for row in block)
    return bool(np.isfinite(block).all())


def _dense(row: Any) -> np.ndarray:
    found: np.ndarray = row.toarray() if hasattr(row, "toarray") else np.asarray(row)
    return found


def _text(job: Job, count: int, sample: int, place: tuple[int, ...]) -> str:
    return (
        f"{NAMED.get(job.what, 'Taylor')}: {count} entries are NaN or infinite though x and the outputs are "
        f"finite, first at sample {sample}, entry {place}. A norm or root has no derivative at 0, nor has a singular "
        "value that repeats, and `where` passes on the NaN of the branch that it leaves out: add a small number under "
        "the root, or use `where` on what goes in, f(where(ok, x, 1)), and not only on what comes out"
    )
