"""Second order and higher: the kernel over a gradient."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

from wrt.derive.compress import Seeds, Sweep, Take, compress
from wrt.derive.problem import Shapes
from wrt.derive.unpack import unpack
from wrt.engines.base import Array, Arrays, Engine, Function

CHUNK = 64  # seeds at a time where they are many
Higher = Callable[[Function], Arrays]  # of a gradient as a function: products of higher order


def slopes(engine: Engine, f: Function, shapes: Shapes) -> Function:
    """The gradients `(N, *out, *in)` of all outputs, outputs first, as a function; the outputs come behind them."""
    sweep = Sweep("reverse", shapes.outputs, 1 if shapes.outputs <= engine.capabilities.unroll else CHUNK, True)

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
    engine: Engine,
    f: Function,
    primals: Arrays,
    directions: Seeds,
    sweep: Sweep,
    shapes: Shapes,
    diagonal: bool = False,
    higher: Higher = lambda _: [],
) -> tuple[Arrays, Arrays, Arrays]:
    """`(y, g, B)`: outputs, gradients, and for every direction v the products H v with the Hessians of all outputs.

    `B` is `(count, N, *out, *in)`, outputs first; for the diagonal `(count, N, *out)`, the numbers vᵀ H v. Forward: a
    push of all gradients per direction. Reverse: unit by unit, a pull of its gradient, which is the same by symmetry.
    What `higher` makes of the gradients comes behind.
    """
    if sweep.mode == "reverse":
        return _by_units(engine, f, primals, directions, sweep, shapes, diagonal, higher)
    count = len(shapes.outs) * len(shapes.ins)
    take = _taken(engine, primals, directions, shapes, diagonal)
    gradients = slopes(engine, f, shapes)
    y, products = compress(engine, gradients, primals, directions, sweep, take)
    return y[count:], y[:count], [*products, *higher(lambda p: gradients(p)[:count])]


def _by_units(
    engine: Engine,
    f: Function,
    primals: Arrays,
    directions: Seeds,
    sweep: Sweep,
    shapes: Shapes,
    diagonal: bool,
    higher: Higher,
) -> tuple[Arrays, Arrays, Arrays]:
    width, outs = len(shapes.ins), shapes.outs
    take = _taken(engine, primals, directions, Shapes(((),), shapes.ins, shapes.out_structure, 0), diagonal)

    def seeds(r: Array, like: Arrays) -> Arrays:
        return [*directions(r, like[:width]), *map(engine.zeros_like, like[width:])]

    def unit(k: Array) -> Arrays:
        gradient = slope(engine, f, k)
        y, products = compress(engine, gradient, primals, seeds, sweep, take)
        return [*y, *products, *higher(lambda p: gradient(p)[:width])]

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


def sorted_tuples(count: int, length: int) -> np.ndarray:
    """All `(T, length)` tuples of numbers below `count` that do not fall, in order."""
    tuples = list(itertools.combinations_with_replacement(range(count), length))
    return np.array(tuples, np.int32).reshape(len(tuples), length)


def turns(engine: Engine, gradient: Function, primals: Arrays, order: int, sweep: Sweep, batched: bool) -> Arrays:
    """Derivatives of a gradient `(N, *out, F)` along the units of every sorted tuple of `order - 1` features.

    `(T, N, *out, F)`: all derivatives of this order, each tuple of directions once.
    """
    tuples = sorted_tuples(math.prod(primals[0].shape[1:]), order - 1)
    table = engine.asarray(tuples, "int32", primals[0])

    def row(number: Array) -> Arrays:
        g = gradient
        for level in range(order - 1):
            last = dataclasses.replace(sweep, count=1, chunk=1, graph=sweep.graph or level < order - 2)
            g = _along(engine, g, table[number, level], last)
        return g(primals)

    chunk = 1 if not batched and len(tuples) <= engine.capabilities.unroll else CHUNK
    return engine.map(row, len(tuples), min(chunk, len(tuples)))


def _along(engine: Engine, g: Function, number: Array, sweep: Sweep) -> Function:
    """The derivative of a gradient along one unit vector, as a function."""

    def turned(primals: Arrays) -> Arrays:
        return [b[0] for b in compress(engine, g, primals, lambda _, like: engine.unit(number, like), sweep)[1]]

    return turned
