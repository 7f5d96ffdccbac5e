"""Second order: the kernel over a gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence

from wrt.derive.compress import Seeds, Sweep, Take, compress
from wrt.derive.problem import Shapes
from wrt.derive.unpack import unpack
from wrt.engines.base import Array, Arrays, Engine, Function


def slopes(engine: Engine, f: Function, shapes: Shapes) -> Function:
    """The gradients `(N, *out, *in)` of all outputs, outputs first, as a function; the outputs come behind them."""
    sweep = Sweep("reverse", shapes.outputs, 1 if shapes.outputs <= engine.capabilities.unroll else 64, True)

    def gradients(primals: Arrays) -> Arrays:
        y, rows = compress(engine, f, primals, engine.unit, sweep)
        return [*(b for row in unpack(engine, rows, "reverse", shapes.outs, shapes.ins) for b in row), *y]

    return gradients


def slope(engine: Engine, f: Function, unit: Array) -> Function:
    """The gradient `(N, *in)` of one output as a function; all outputs come behind it."""

    def gradient(primals: Arrays) -> Arrays:
        y, rows = compress(engine, f, primals, lambda _, like: engine.unit(unit, like), Sweep("reverse", 1, 1, True))
        return [*(row[0] for row in rows), *y]

    return gradient


def bend(
    engine: Engine, f: Function, primals: Arrays, directions: Seeds, sweep: Sweep, shapes: Shapes, diagonal: bool
) -> tuple[Arrays, Arrays, Arrays]:
    """`(y, g, B)`: outputs, gradients, and for every direction v the products H v with the Hessians of all outputs.

    `B` is `(count, N, *out, *in)`, outputs first; for the diagonal `(count, N, *out)`, the numbers vᵀ H v. Forward: a
    push of all gradients per direction. Reverse: unit by unit, a pull of its gradient, which is the same by symmetry.
    """
    if sweep.mode == "reverse":
        return _by_units(engine, f, primals, directions, sweep, shapes, diagonal)
    count = len(shapes.outs) * len(shapes.ins)
    take = _taken(engine, primals, directions, shapes, diagonal)
    y, products = compress(engine, slopes(engine, f, shapes), primals, directions, sweep, take)
    return y[count:], y[:count], products


def _by_units(
    engine: Engine, f: Function, primals: Arrays, directions: Seeds, sweep: Sweep, shapes: Shapes, diagonal: bool
) -> tuple[Arrays, Arrays, Arrays]:
    width, outs = len(shapes.ins), shapes.outs
    take = _taken(engine, primals, directions, Shapes(((),), shapes.ins, shapes.out_structure, 0), diagonal)

    def seeds(r: Array, like: Arrays) -> Arrays:
        return [*directions(r, like[:width]), *map(engine.zeros_like, like[width:])]

    def unit(k: Array) -> Arrays:
        y, products = compress(engine, slope(engine, f, k), primals, seeds, sweep, take)
        return [*y, *products]

    found = engine.map(unit, shapes.outputs, 1)
    rows, y, products = found[:width], found[width : width + len(outs)], found[width + len(outs) :]
    gradients = [b for row in unpack(engine, rows, "reverse", outs, shapes.ins) for b in row]
    return [a[0] for a in y], gradients, [_behind(engine, p, out) for out, ps in _parts(products, outs) for p in ps]


def _parts(products: Arrays, outs: Sequence[tuple[int, ...]]) -> list[tuple[tuple[int, ...], Arrays]]:
    """The products `(units, ...)` of each output."""
    parts, start = [], 0
    for out in outs:
        stop = start + math.prod(out)
        parts.append((out, [p[start:stop] for p in products]))
        start = stop
    return parts


def _behind(engine: Engine, products: Array, out: tuple[int, ...]) -> Array:
    """`(units, count, N, ...)` as `(count, N, *out, ...)`."""
    moved = engine.moveaxis(products, 0, 2)
    return moved if len(out) == 1 else engine.reshape(moved, (*moved.shape[:2], *out, *moved.shape[3:]))


def _taken(engine: Engine, primals: Arrays, directions: Seeds, shapes: Shapes, diagonal: bool) -> Take:
    """What is kept of a product: all but that of the outputs, or its component along the direction."""
    width = len(shapes.ins)
    count = len(shapes.outs) * width
    if not diagonal:
        return lambda _, product: product[:count]

    def component(r: Array, product: Arrays) -> Arrays:
        along = directions(r, primals)
        parts = [_dot(engine, p, along[i % width]) for i, p in enumerate(product[:count])]
        return [sum(parts[i + 1 : i + width], parts[i]) for i in range(0, count, width)]

    return component


def _dot(engine: Engine, product: Array, along: Array) -> Array:
    """`(N, *out)` from `(N, *out, *in)` and `(N, *in)`."""
    extra = len(product.shape) - len(along.shape)
    samples, *rest = along.shape
    along = engine.reshape(along, (samples, *(1,) * extra, *rest)) if extra else along
    axes = tuple(range(1 + extra, len(product.shape)))
    return engine.sum(product * along, axes) if axes else product * along
