"""What a file is compared on before it counts: new samples, and how far they may be off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wrt.errors import ExportError
from wrt.models.portable import Port, Portable, drawn, host_dtype


def fresh(model: Portable, count: int, seed: int) -> list[np.ndarray]:
    """`count` samples that are not among those of `like`, but like them; cotangents are random."""
    rng = np.random.default_rng(seed)
    rows = [_mixed(rng, count, a, port) for a, port in zip(model.like, model.inputs, strict=False)]
    return [*rows, *(drawn(rng, count, port) for port in model.inputs[len(rows) :])]


def _mixed(rng: np.random.Generator, count: int, like: np.ndarray, port: Port) -> np.ndarray:
    """Floats: somewhere between two samples, each number up to 30 % off. Integers: each from some sample's place."""
    if "float" not in str(like.dtype):
        return _shuffled(rng, count, like).astype(port.dtype)
    a, b = like[rng.integers(len(like), size=(2, count))]
    share = rng.uniform(size=(count,) + (1,) * (like.ndim - 1))
    mixed = (share * a + (1 - share) * b) * rng.uniform(0.7, 1.3, a.shape)
    if not np.any(like):
        mixed = rng.normal(size=a.shape)
    return mixed.astype(host_dtype(port.dtype))


def _shuffled(rng: np.random.Generator, count: int, like: np.ndarray) -> np.ndarray:
    flat = like.reshape(len(like), -1)
    places = np.arange(flat.shape[1])
    found = flat[rng.integers(len(flat), size=(count, len(places))), places]
    if (flat == flat[0]).all():  # one sample says nothing of what its places may hold but that these numbers occur
        found = rng.permuted(found, axis=1)
    return found.reshape(count, *like.shape[1:])


def dtypes(model: Any, source: Portable) -> set[str]:
    """Those of inputs and weights, and those that the layers of a Keras model compute in."""
    parts: Any = getattr(model, "_flatten_layers", list)()
    computed = {getattr(part, "compute_dtype", "") for part in parts}
    return computed | {port.dtype for port in source.inputs} | set(map(source.engine.dtype, source.weights))


def nudged(arrays: Sequence[np.ndarray], size: float, seed: int) -> list[np.ndarray]:
    """The same arrays, floats moved by `size` of themselves."""
    rng = np.random.default_rng(seed)
    moves = [size * rng.choice((-1, 1), a.shape) if "float" in str(a.dtype) else 0 for a in arrays]
    return [(a * (1 + m)).astype(a.dtype) for a, m in zip(arrays, moves, strict=True)]


def compare(found: Mapping[str, np.ndarray], true: Sequence[np.ndarray], names: Sequence[str]) -> tuple[float, str]:
    """The worst error relative to the largest number of its output, and the name of that output.

    Raises:
        ExportError: other outputs, or another shape.
    """
    if set(found) != set(names):
        raise ExportError(f"the file gives the outputs {sorted(found)}; expected {sorted(names)}")
    errors = []
    for name, b in zip(names, true, strict=True):
        if found[name].shape != b.shape:
            raise ExportError(f"output {name!r} of the file has shape {found[name].shape}; expected {b.shape}")
        errors.append((_error(found[name], b), name))
    return max(errors)


def _error(found: np.ndarray, true: np.ndarray) -> float:
    a, b = np.asarray(found, np.float64), np.asarray(true, np.float64)
    odd = ~np.isfinite(b)
    if odd.all() and b.size:
        raise ExportError("the model gives no finite number on inputs like those of like; nothing can be compared")
    if not np.array_equal(a[odd], b[odd], equal_nan=True) or not np.isfinite(a[~odd]).all():
        return float("inf")
    difference, size = (np.abs(v[~odd]).max(initial=0.0) for v in (a - b, b))
    return float(difference / size if size else difference)
