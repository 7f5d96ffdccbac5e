"""All arrays of a sample as one flat vector, on the host."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def split(flat: np.ndarray, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """`(N, n)` as arrays `(N, *shape)`, in order."""
    stops = np.cumsum([math.prod(s) for s in shapes])[:-1]
    return [p.reshape(len(flat), *s) for p, s in zip(np.split(flat, stops, axis=1), shapes, strict=True)]


def join(leaves: Sequence[np.ndarray]) -> np.ndarray:
    """Arrays `(N, *shape)` as one `(N, n)` in float64."""
    return np.concatenate([np.reshape(a, (len(a), math.prod(a.shape[1:]))) for a in leaves], axis=1).astype(np.float64)
