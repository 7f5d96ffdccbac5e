"""The reference engine: NumPy and central differences in float64. Slow, simple, and independent of every framework."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from wrt.engines.base import Array, Arrays, Capabilities, Facts, Function, Optimizer
from wrt.engines.layout import Claims
from wrt.errors import OptionError
from wrt.rules import Rule, Switch

# Four points: f' = (8 (f(h) - f(-h)) - (f(2h) - f(-2h))) / 12h + O(h^4)
STENCIL = ((1, 8 / 12), (-1, -8 / 12), (2, -1 / 12), (-2, 1 / 12))
NO_RULES = (
    "rules: a function of NumPy arrays is differentiated by differences, which know no activation; use a framework's"
)


class ReferenceEngine:
    """push is a four-point central difference; pull assembles the Jacobian from pushes."""

    name = "reference"
    capabilities = Capabilities(
        compiles=False, pull_cost=1e3, push_cost=4.0, pull_again_cost=1e3, unroll=1 << 30, transposes=True
    )

    def __init__(self, step: float = 1e-3) -> None:
        self.step = step

    def push(self, f: Function, primals: Arrays, tangents: Arrays) -> tuple[Arrays, Arrays]:
        points = [[p + k * self.step * v for p, v in zip(primals, tangents, strict=True)] for k, _ in STENCIL]
        columns = zip(*map(f, points), strict=True)
        weights = [w / self.step for _, w in STENCIL]
        return f(primals), [sum(w * np.asarray(y) for w, y in zip(weights, c, strict=True)) for c in columns]

    def pull(
        self, f: Function, primals: Arrays, graph: bool = False, once: bool = False
    ) -> tuple[Arrays, Callable[[Arrays], Arrays]]:
        y = f(primals)
        count = sum(math.prod(p.shape[1:]) for p in primals)
        columns = self.map(lambda r: self.push(f, primals, self.unit(r, primals))[1], count, 1)

        def back(cotangents: Arrays) -> Arrays:
            flat = sum(
                np.einsum("rni,ni->nr", c.reshape(*c.shape[:2], -1), np.reshape(u, (len(u), -1)))
                for c, u in zip(columns, cotangents, strict=True)
            )
            sizes = [math.prod(p.shape[1:]) for p in primals]
            parts = np.split(flat, np.cumsum(sizes)[:-1], axis=1)
            return [part.reshape(p.shape) for part, p in zip(parts, primals, strict=True)]

        return y, back

    def map(self, f: Callable[[Array], Arrays], count: int, chunk: int) -> Arrays:
        if count == 0:
            return [np.asarray(a)[None][:0] for a in f(0)]
        return [np.stack(column) for column in zip(*map(f, range(count)), strict=True)]

    def compile(self, f: Callable[..., Any]) -> Callable[..., Any]:
        return f

    def apart(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def generators_kept(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def once(self, f: Callable[..., Any]) -> Callable[..., Any]:
        return f

    def own_rules(self, f: Function, primals: Arrays) -> list[str]:
        return []

    def with_backward(self, h: Callable[[Array], Array], rule: Rule, switch: Switch) -> Callable[[Array], Array]:
        raise OptionError(NO_RULES)

    def with_rules(self, f: Function, rules: Mapping[str, Rule], seen: set[str], switch: Switch) -> Function:
        raise OptionError(NO_RULES)

    def inspect(self, f: Function, primals: Arrays) -> Facts:
        y = [np.asarray(a) for a in f(primals)]
        moved = [_moved(f, primals, k, y) for k in range(len(primals))]
        connected = tuple(zip(*moved, strict=True)) if primals else ((),) * len(y)
        return Facts(tuple(a.shape for a in y), connected, sum(a.nbytes for a in y))

    def push_problem(self, f: Function, primals: Arrays) -> str:
        return ""

    def channels(self, f: Function, primals: Arrays) -> tuple[list[Claims], list[tuple[Claims, Claims]]]:
        return [frozenset()] * len(primals), [(frozenset(), frozenset())] * len(f(primals))  # NumPy shows nothing

    def trial(self, f: Function, arrays: Arrays) -> Arrays | None:
        return f(arrays)

    def owns(self, value: Any) -> bool:
        return False  # NumPy arrays are the common currency, no engine's own

    def is_traced(self, value: Any) -> bool:
        return False

    def carries_graph(self, value: Any) -> bool:
        return False

    def is_recording(self) -> bool:
        return False

    def is_out_of_memory(self, error: BaseException) -> bool:
        return isinstance(error, MemoryError)

    def free_memory(self, like: Array | None) -> int | None:
        return None

    def asarray(self, value: Any, dtype: str | None = None, like: Array | None = None) -> Array:
        value = np.asarray(value, dtype)
        return value.astype(np.float64) if value.dtype.kind == "f" else value

    def numpy(self, value: Array) -> np.ndarray:
        return np.asarray(value)

    def dtype(self, value: Array) -> str:
        return str(value.dtype)

    def unit(self, r: Array, like: Sequence[Array]) -> Arrays:
        seeds, start = [], 0
        for leaf in like:
            size = math.prod(leaf.shape[1:])
            row = (np.arange(start, start + size) == r).astype(leaf.dtype)
            seeds.append(np.broadcast_to(row.reshape(leaf.shape[1:]), leaf.shape))
            start += size
        return seeds

    def gather(self, value: Array, index: Array) -> Array:
        rows = np.arange(value.shape[0]).reshape((-1,) + (1,) * (index.ndim - 1))
        return value[rows, index]

    def top(self, value: Array, k: int) -> Array:
        return np.argsort(-value, axis=1, kind="stable")[:, :k]

    def zeros(self, like: Array, shape: Sequence[int], dtype: str) -> Array:
        return np.zeros((like.shape[0], *shape), dtype)

    def zeros_like(self, value: Array) -> Array:
        return np.zeros_like(value)

    def reshape(self, value: Array, shape: Sequence[int]) -> Array:
        return np.reshape(value, tuple(shape))

    def moveaxis(self, value: Array, source: int, target: int) -> Array:
        return np.moveaxis(value, source, target)

    def concatenate(self, values: Sequence[Array], axis: int = 0) -> Array:
        return np.concatenate(list(values), axis)

    def sum(self, value: Array, axes: Sequence[int]) -> Array:
        return np.sum(value, tuple(axes))

    def mean(self, value: Array, axes: Sequence[int]) -> Array:
        return np.mean(value, tuple(axes))

    def log_softmax(self, value: Array) -> Array:
        shifted = value - np.max(value, -1, keepdims=True)
        return shifted - np.log(np.sum(np.exp(shifted), -1, keepdims=True))

    def where(self, mask: Array, value: Array, other: Array) -> Array:
        return np.where(mask, value, other)

    def exp(self, value: Array) -> Array:
        return np.exp(value)

    def log(self, value: Array) -> Array:
        return np.log(value)

    def optimizer(self, name: str, rate: float, params: Arrays) -> Optimizer:
        raise OptionError(
            "the model is a function of NumPy arrays, which have no optimisers; write it for the tensors of torch, JAX "
            "or TensorFlow and pass init= or like= as such a tensor"
        )

    def detach(self, value: Array) -> Array:
        return value


def _moved(f: Function, primals: Arrays, k: int, y: Arrays) -> tuple[bool, ...]:
    """Which outputs change with input k, near and far from the primals; all of them where `f` refuses to say."""
    moved = (False,) * len(y)
    for scale in (0.0, 1e-2, 1.0, 30.0):
        rng = np.random.default_rng(0)
        here = [p + scale * rng.normal(size=np.shape(p)) for p in primals]
        there = [p + max(scale, 1e-2) * rng.normal(size=np.shape(p)) if i == k else p for i, p in enumerate(here)]
        try:
            with np.errstate(all="ignore"):
                pairs = list(zip(moved, f(here), f(there), strict=True))
        except (ArithmeticError, ValueError):
            return (True,) * len(y)
        moved = tuple(before or not np.array_equal(a, b, equal_nan=True) for before, a, b in pairs)
    return moved
