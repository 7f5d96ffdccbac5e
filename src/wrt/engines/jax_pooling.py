"""Max pooling whose derivative is fast on CPUs: the same numbers, without XLA's select-and-scatter."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from wrt.engines.base import Function
from wrt.engines.jax_rewrite import rewritten, same_call

LARGEST_WINDOW = 64  # one pass over the output for each position in the window


def fast_pooling(f: Function) -> Function:
    """`f` with every max pooling replaced by one with the quick derivative; `f` itself where there is none."""

    return rewritten(f, _replaced)


def _replaced(equation: Any) -> Any:
    if equation.primitive.name != "reduce_window_max":
        return equation
    params = equation.params
    plain = all(d == 1 for d in params["base_dilation"])
    value = equation.invars[0].aval
    if not plain or math.prod(params["window_dimensions"]) > LARGEST_WINDOW or not _floating(value.dtype):
        return equation
    pool = functools.partial(max_pool, *(tuple(params[k]) for k in _KEYS))
    return same_call(equation, pool)


_KEYS = ("window_dimensions", "window_strides", "padding", "window_dilation")


def _floating(dtype: Any) -> bool:
    return bool(jnp.issubdtype(dtype, jnp.floating))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2, 3))
def max_pool(window: tuple, strides: tuple, padding: tuple, dilation: tuple, x: jax.Array) -> jax.Array:
    """The largest entry of every window."""
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, strides, padding, window_dilation=dilation)


@max_pool.defjvp
def _max_pool_jvp(window: tuple, strides: tuple, padding: tuple, dilation: tuple, primals: tuple, tangents: tuple):
    """The tangent of the first largest entry, as XLA chooses it."""
    (x,), (t,) = primals, tangents
    y = max_pool(window, strides, padding, dilation, x)
    x = jax.lax.pad(x, jnp.array(-jnp.inf, x.dtype), [(low, high, 0) for low, high in padding])
    t = jax.lax.pad(t, jnp.zeros((), t.dtype), [(low, high, 0) for low, high in padding])
    parts = list(_positions(window, strides, dilation, y.shape))
    first = _first(x, parts)
    if window == strides and max(dilation) == 1:
        return y, _of_blocks(window, first, t)
    return y, functools.reduce(jnp.add, [jnp.where(first == n, part(t), 0) for n, part in enumerate(parts)])


def _first(x: jax.Array, parts: list[Callable[[jax.Array], jax.Array]]) -> jax.Array:
    """Number of the first position that holds the largest entry, for every window."""
    largest = parts[0](x)
    first = jnp.zeros(largest.shape, jnp.int32)
    for number, part in enumerate(parts[1:], 1):
        larger = ~(part(x) <= largest)
        largest, first = jnp.where(larger, part(x), largest), jnp.where(larger, number, first)
    return first


def _of_blocks(window: tuple, first: jax.Array, t: jax.Array) -> jax.Array:
    """Windows that tile the input: its transpose is one pass over the input, without putting pieces together."""
    covered = tuple(slice(0, n * w) for n, w in zip(first.shape, window, strict=True))
    split = [size for pair in zip(first.shape, window, strict=True) for size in pair]
    axes = tuple(range(1, len(split), 2))
    place = jnp.arange(math.prod(window)).reshape([size for w in window for size in (1, w)])
    return jnp.sum(jnp.where(jnp.expand_dims(first, axes) == place, t[covered].reshape(split), 0), axes)


def _positions(
    window: tuple, strides: tuple, dilation: tuple, shape: tuple
) -> Iterator[Callable[[jax.Array], jax.Array]]:
    """For every position in the window, the function that cuts out that entry of all windows."""
    for offset in itertools.product(*map(range, window)):
        start = [o * d for o, d in zip(offset, dilation, strict=True)]
        stop = [s + (n - 1) * k + 1 for s, n, k in zip(start, shape, strides, strict=True)]
        yield functools.partial(jax.lax.slice, start_indices=start, limit_indices=stop, strides=strides)
