"""The JAX engine."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from wrt.engines import jax_apart, jax_layout, jax_rules, jax_trace
from wrt.engines.base import Array, Arrays, Capabilities, Facts, Function, Optimizer, Trace
from wrt.engines.jax_missing import named
from wrt.engines.jax_pooling import fast_pooling
from wrt.rules import Rule, Switch
from wrt.trees import NODES

for _kind in NODES:
    jax.tree_util.register_dataclass(_kind)


class JaxEngine(jax_apart.JaxApart):
    """push is `jax.jvp`, pull is `jax.vjp`, compilation is `jax.jit`."""

    name = "jax"
    capabilities = Capabilities(
        compiles=True,
        pull_cost=2.0,
        push_cost=2.0,
        push_again_cost=3.0,
        unroll=32,
        static_batch=True,
        transposes=True,
        traces=True,
    )
    channels = staticmethod(jax_layout.channels)

    def pull(
        self, f: Function, primals: Arrays, graph: bool = False, once: bool = False
    ) -> tuple[Arrays, Callable[[Arrays], Arrays]]:
        with named():
            y, pulled = jax.vjp(fast_pooling(f), primals)

        def back(cotangents: Arrays) -> Arrays:
            with named():
                return list(pulled([u.astype(a.dtype) for u, a in zip(cotangents, y, strict=True)])[0])

        return y, back

    def push(self, f: Function, primals: Arrays, tangents: Arrays) -> tuple[Arrays, Arrays]:
        with named():
            return jax.jvp(fast_pooling(f), (primals,), (list(tangents),))

    def map(self, f: Callable[[Array], Arrays], count: int, chunk: int) -> Arrays:
        if count == 0:
            return [jnp.zeros((0, *s.shape), s.dtype) for s in jax.eval_shape(f, jnp.int32(0))]
        if chunk >= count > 1:
            return jax.vmap(f)(jnp.arange(count))
        steps = -(-count // chunk)
        if steps > self.capabilities.unroll:
            return jax.lax.map(f, jnp.arange(count), batch_size=chunk if chunk > 1 else None)
        return self._unrolled(f, np.array_split(np.arange(count), steps), chunk)

    def _unrolled(self, f: Callable[[Array], Arrays], parts: list[np.ndarray], chunk: int) -> Arrays:
        # A loop in XLA on a CPU loses the threaded convolutions; repeating the program keeps them.
        # The barrier makes one part wait for the last, so that memory holds one part at a time.
        pieces: list[Arrays] = []
        for part in parts:
            index = jnp.asarray(part)
            if pieces:
                index, pieces[-1] = jax.lax.optimization_barrier((index, pieces[-1]))
            piece = jax.vmap(f)(index) if chunk > 1 else [a[None] for a in f(index[0])]
            pieces.append(piece)
        return [jnp.concatenate(column) for column in zip(*pieces, strict=True)]

    def compile(self, f: Callable[..., Any]) -> Callable[..., Any]:
        program = jax.jit(f)

        def run(*args: Any) -> Any:
            with named():  # some derivatives are found to be missing only where a program is lowered
                return program(*args)

        return run

    def trace(self, f: Callable[..., Any], arguments: tuple[Any, ...]) -> Trace:
        return jax_trace.trace(f, arguments)

    def seal(self, trace: Trace, most: int) -> Trace | None:
        return jax_trace.seal(trace, most)

    def spec(self, shape: Sequence[int | None], dtype: str) -> Array:
        return jax.ShapeDtypeStruct(tuple(shape), jax.dtypes.canonicalize_dtype(dtype))

    def with_backward(self, h: Callable[[Array], Array], rule: Rule, switch: Switch) -> Callable[[Array], Array]:
        return jax_rules.with_backward(h, rule)

    def with_rules(self, f: Function, rules: Mapping[str, Rule], seen: set[str], switch: Switch) -> Function:
        return jax_rules.with_rules(f, rules, seen)

    def inspect(self, f: Function, primals: Arrays) -> Facts:
        def transpose(primals: Arrays, cotangents: Arrays) -> Arrays:
            return jax.vjp(f, primals)[1](cotangents)[0]

        forward, shapes = jax.make_jaxpr(f, return_shape=True)(primals)
        with named():
            jaxpr = jax.make_jaxpr(transpose)(primals, shapes).jaxpr
        connected = _reachable(jaxpr, len(primals))
        return Facts(tuple(s.shape for s in shapes), connected, _size(forward.jaxpr))

    def push_problem(self, f: Function, primals: Arrays) -> str:
        try:
            jaxpr = jax.make_jaxpr(lambda p: jax.jvp(f, (p,), (p,)))(primals).jaxpr
        except TypeError as error:
            return str(error).splitlines()[0]
        return "a jax.custom_vjp has no forward derivative" if "custom_lin" in _primitives(jaxpr) else ""

    def trial(self, f: Function, arrays: Arrays) -> Arrays | None:
        rng = np.random.default_rng(0)
        with jax.ensure_compile_time_eval():
            return f([jnp.asarray(rng.normal(size=a.shape), a.dtype) if self.is_traced(a) else a for a in arrays])

    def owns(self, value: Any) -> bool:
        return isinstance(value, jax.Array)

    def is_traced(self, value: Any) -> bool:
        return isinstance(value, jax.core.Tracer)

    def carries_graph(self, value: Any) -> bool:
        return self.is_traced(value)

    def is_recording(self) -> bool:
        return False

    def is_out_of_memory(self, error: BaseException) -> bool:
        return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error) or "Out of memory" in str(error)

    def free_memory(self, like: Array | None) -> int | None:
        stats = next(iter(like.devices())).memory_stats() if like is not None and not self.is_traced(like) else None
        return stats["bytes_limit"] - stats["bytes_in_use"] if stats and "bytes_limit" in stats else None

    def asarray(self, value: Any, dtype: str | None = None, like: Array | None = None) -> Array:
        return jnp.asarray(value, dtype=None if dtype is None else jax.dtypes.canonicalize_dtype(dtype))

    def numpy(self, value: Array) -> np.ndarray:
        return np.asarray(value.astype(jnp.float32) if value.dtype == jnp.bfloat16 else value)

    def dtype(self, value: Array) -> str:
        return str(value.dtype)

    def unit(self, r: Array, like: Sequence[Array]) -> Arrays:
        seeds, start = [], 0
        for leaf in like:
            size = math.prod(leaf.shape[1:])
            row = (jnp.arange(start, start + size) == r).astype(leaf.dtype)
            seeds.append(jnp.broadcast_to(row.reshape(leaf.shape[1:]), leaf.shape))
            start += size
        return seeds

    def gather(self, value: Array, index: Array) -> Array:
        rows = jnp.arange(value.shape[0]).reshape((-1,) + (1,) * (index.ndim - 1))
        return value[rows, index]

    def top(self, value: Array, k: int) -> Array:
        return jax.lax.top_k(jax.lax.stop_gradient(value), k)[1]

    def zeros(self, like: Array, shape: Sequence[int], dtype: str) -> Array:
        return jnp.zeros((like.shape[0], *shape), dtype)

    def zeros_like(self, value: Array) -> Array:
        return jnp.zeros_like(value)

    def reshape(self, value: Array, shape: Sequence[int]) -> Array:
        return jnp.reshape(value, tuple(shape))

    def moveaxis(self, value: Array, source: int, target: int) -> Array:
        return jnp.moveaxis(value, source, target)

    def concatenate(self, values: Sequence[Array], axis: int = 0) -> Array:
        return jnp.concatenate(list(values), axis)

    def sum(self, value: Array, axes: Sequence[int]) -> Array:
        return jnp.sum(value, tuple(axes))

    def mean(self, value: Array, axes: Sequence[int]) -> Array:
        return jnp.mean(value, tuple(axes))

    def log_softmax(self, value: Array) -> Array:
        return jax.nn.log_softmax(value)

    def where(self, mask: Array, value: Array, other: Array) -> Array:
        return jnp.where(mask, value, other)

    def exp(self, value: Array) -> Array:
        return jnp.exp(value)

    def log(self, value: Array) -> Array:
        return jnp.log(value)

    def optimizer(self, name: str, rate: float, params: Arrays) -> Optimizer:
        try:
            from wrt.engines.jax_optim import OptaxOptimizer
        except ImportError:  # of optax
            from wrt.engines.keras_optim import KerasOptimizer

            return KerasOptimizer(name, rate, params, self.name)
        return OptaxOptimizer(name, rate, params)

    def detach(self, value: Array) -> Array:
        return value


def _reachable(jaxpr: Any, inputs: int) -> tuple[tuple[bool, ...], ...]:
    """`[j][k]`: does input gradient k read cotangent j? Inputs come first in `jaxpr.invars`."""
    reads: dict[Any, set[int]] = {var: {j} for j, var in enumerate(jaxpr.invars[inputs:])}
    for equation in jaxpr.eqns:
        found: set[int] = set().union(*(reads.get(v, set()) for v in equation.invars if not hasattr(v, "val")))
        reads.update(dict.fromkeys(equation.outvars, found))
    gradients = [set() if hasattr(v, "val") else reads.get(v, set()) for v in jaxpr.outvars]
    return tuple(tuple(j in found for found in gradients) for j in range(len(jaxpr.invars) - inputs))


def _size(jaxpr: Any) -> int:
    """Bytes of all intermediate values, nested programs included."""
    total = 0
    for equation in jaxpr.eqns:
        inner = _inner(equation)
        if inner:
            total += sum(map(_size, inner))
        else:
            total += sum(math.prod(v.aval.shape) * v.aval.dtype.itemsize for v in equation.outvars)
    return total


def _primitives(jaxpr: Any) -> set[str]:
    """Names of all operators, nested programs included."""
    own = {equation.primitive.name for equation in jaxpr.eqns}
    return own.union(*(_primitives(p) for equation in jaxpr.eqns for p in _inner(equation)))


def _inner(equation: Any) -> list[Any]:
    found = [p for p in jax.tree.leaves(equation.params, is_leaf=_is_jaxpr) if _is_jaxpr(p)]
    return [getattr(p, "jaxpr", p) for p in found]


def _is_jaxpr(value: Any) -> bool:
    return hasattr(value, "eqns") or hasattr(getattr(value, "jaxpr", None), "eqns")
