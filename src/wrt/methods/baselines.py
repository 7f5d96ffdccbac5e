"""Where paths begin: baselines and backgrounds, checked against the tensors that `wrt` chooses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from wrt.derive.job import Job
from wrt.engines import registry
from wrt.errors import InputError
from wrt.trees import flatten


@dataclass(frozen=True)
class Sources:
    """For each tensor `(B, N, *in)` host arrays, or `(B, 1, *in)` where all samples share them."""

    arrays: tuple[np.ndarray, ...]

    @property
    def count(self) -> int:
        return len(self.arrays[0])

    def pick(self, which: np.ndarray, rows: np.ndarray) -> list[np.ndarray]:
        """The starts `(S, n or 1, *in)` of these draws `(S, n or 1)` at these rows."""
        return [a[which, rows if a.shape[1] > 1 else np.zeros(1, int)] for a in self.arrays]


def baselines_of(job: Job, baseline: Any) -> Sources:
    """The baselines of `wrt.methods.integrated_gradients`.

    Raises:
        InputError: wrong nesting or shape, sets of different sizes, or values that are not finite.
    """
    arrays = []
    for leaf, shape in zip(_leaves(job, baseline, "baseline"), job.recipe.shapes.ins, strict=True):
        value = _array(leaf, "baseline")
        arrays.append(value.reshape((1, 1, *(1,) * len(shape))) if value.ndim == 0 else _placed(job, value, shape))
    sizes = {len(a) for a in arrays}
    if len(sizes) > 1:
        raise InputError(f"baseline holds sets of {sorted(sizes)} for the inputs; expected as many for each")
    pairs = zip(arrays, job.recipe.shapes.ins, strict=True)
    return Sources(tuple(np.broadcast_to(a, (*a.shape[:2], *shape)) for a, shape in pairs))


def _placed(job: Job, value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """As `(B, N or 1, *in)`."""
    samples, rank = job.inputs.samples, len(shape)
    whole = value[(None,) * max(rank + 2 - value.ndim, 0)]
    fits = whole.ndim == rank + 2 and whole.shape[2:] == shape and whole.shape[1] in (1, samples) and len(whole)
    if not fits:
        size = ", ".join(map(str, shape))
        raise InputError(
            f"baseline has shape {value.shape}; expected a number, one sample ({size}), one for each sample "
            f"({samples}, {size}), or a set of B of them, (B, 1, {size}) or (B, {samples}, {size})"
        )
    return whole


def background_of(job: Job, background: Any) -> Sources:
    """The data of `wrt.methods.expected_gradients`.

    Raises:
        InputError: wrong nesting or shape, nothing in it, or values that are not finite.
    """
    arrays = []
    for leaf, shape in zip(_leaves(job, background, "background"), job.recipe.shapes.ins, strict=True):
        value = _array(leaf, "background")
        if value.shape[1:] != shape or not value.shape or not len(value):
            size = ", ".join(map(str, shape))
            raise InputError(f"background has shape {value.shape}; expected some samples, (B, {size})")
        arrays.append(value[:, None])
    sizes = {len(a) for a in arrays}
    if len(sizes) > 1:
        raise InputError(f"background holds {sorted(sizes)} rows for the inputs; expected as many for each")
    return Sources(tuple(arrays))


def _leaves(job: Job, tree: Any, name: str) -> list[Any]:
    """One for each chosen tensor; a number, or nothing, stands for all of them."""
    wanted = job.recipe.problem.wrt.structure
    count = len(job.recipe.shapes.ins)
    if tree is None and name == "baseline":
        tree = 0.0
    if isinstance(tree, int | float | np.number):
        return [tree] * count
    leaves, found = flatten(tree)
    if found.kind == "dict" and wanted.kind == "dict" and set(found.keys) == set(wanted.keys):
        leaves = flatten({key: tree[key] for key in wanted.keys})[0]
    if len(leaves) != count:
        raise InputError(f"{name} holds {len(leaves)} array(s); expected {count}, nested as the tensors of wrt=")
    return leaves


def _array(leaf: Any, name: str) -> np.ndarray:
    owner = registry.owner(leaf)
    if owner is not None and owner.is_traced(leaf):
        raise InputError(f"{name} has no values yet: inside a transformation give it as a NumPy array")
    value = registry.host(leaf)
    if value.dtype.kind not in "fiub" or not np.isfinite(value).all():
        raise InputError(f"{name} is of dtype {value.dtype} or not finite everywhere; expected finite real numbers")
    return value
