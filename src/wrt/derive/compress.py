"""THE kernel: the only place where an engine's push and pull are called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from wrt.engines.base import Array, Arrays, Engine, Function

Seeds = Callable[[Array, Arrays], Arrays]  # (number of the seed, arrays of the space) -> one seed
Take = Callable[[Array, Arrays], Arrays]  # (number of the seed, its product) -> what is kept of it


@dataclass(frozen=True)
class Sweep:
    """How the seeds are run: `mode` is "reverse", "forward" or "double" (a push made of two pulls)."""

    mode: str
    count: int
    chunk: int
    graph: bool = False


def compress(
    engine: Engine, f: Function, primals: Arrays, seeds: Seeds, sweep: Sweep, take: Take = lambda _, product: product
) -> tuple[Arrays, Arrays]:
    """`(y, B)`: the outputs and, for every seed, one product with the Jacobian, stacked on axis 0.

    Reverse: `B[k]` is `(count, N, *in_k)`, one transposed product per seed of the outputs' space.
    Forward: `B[j]` is `(count, N, *out_j)`, one product per seed of the inputs' space.
    """
    if sweep.mode == "reverse":
        y, back = engine.pull(f, primals, sweep.graph, sweep.count == 1)
        return y, engine.map(lambda r: take(r, back(seeds(r, y))), sweep.count, sweep.chunk)
    if sweep.mode == "double":
        return _double(engine, f, primals, seeds, sweep, take)

    def column(r: Array) -> Arrays:
        return take(r, engine.push(f, primals, seeds(r, primals))[1])

    columns = engine.map(column, sweep.count, sweep.chunk)
    return f(primals), columns


def _double(
    engine: Engine, f: Function, primals: Arrays, seeds: Seeds, sweep: Sweep, take: Take
) -> tuple[Arrays, Arrays]:
    """J v as the derivative of u -> Jᵀu, which is linear, in direction v."""
    y, back = engine.pull(f, primals, True)
    _, forth = engine.pull(back, [engine.zeros_like(a) for a in y], sweep.graph)
    columns = engine.map(lambda r: take(r, forth(seeds(r, primals))), sweep.count, sweep.chunk)
    return y if sweep.graph else [engine.detach(a) for a in y], columns
