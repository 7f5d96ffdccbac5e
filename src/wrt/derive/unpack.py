"""From the products of the kernel to the blocks of the Jacobian."""

from __future__ import annotations

import math
from collections.abc import Sequence

from wrt.engines.base import Array, Arrays, Engine

Shape = tuple[int, ...]


def unpack(
    engine: Engine, products: Arrays, mode: str, outs: Sequence[Shape], ins: Sequence[Shape]
) -> list[list[Array]]:
    """Block `[j][k]` is `(N, *out_j, *in_k)`; shapes are per sample."""
    if mode == "reverse":
        return [
            [_block(engine, part, 1, (*out, *in_)) for part, in_ in zip(parts, ins, strict=True)]
            for out, parts in zip(outs, zip(*[_split(p, outs) for p in products], strict=True), strict=True)
        ]
    return [
        [_block(engine, part, -1, (*out, *in_)) for part, in_ in zip(_split(p, ins), ins, strict=True)]
        for out, p in zip(outs, products, strict=True)
    ]


def _split(products: Array, shapes: Sequence[Shape]) -> list[Array]:
    parts, start = [], 0
    for shape in shapes:
        stop = start + math.prod(shape)
        parts.append(products[start:stop])
        start = stop
    return parts


def _block(engine: Engine, part: Array, axis: int, shape: Shape) -> Array:
    """The axis of the seeds goes behind the samples (reverse) or to the end (forward)."""
    moved = engine.moveaxis(part, 0, axis if axis >= 0 else len(part.shape) - 1)
    if len(moved.shape) == len(shape) + 1:  # nothing to split up, and sizes may be open
        return moved
    return engine.reshape(moved, (moved.shape[0], *shape))
