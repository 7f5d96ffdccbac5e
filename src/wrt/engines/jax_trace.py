"""JAX programs as values: what a Python function computes now, found by tracing it, whatever it has read."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import types
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from wrt.engines.base import Array, Arrays, Trace
from wrt.engines.identity import SIMPLE
from wrt.engines.jax_rewrite import alone, variables
from wrt.engines.reach import captured, content

CALLS = ("jit", "pjit", "closed_call")  # whose programs may hold arrays of their own
RULED = ("custom_jvp_call", "custom_vjp_call")  # whose derivatives are Python functions
OURS = tuple(os.path.join(os.path.dirname(p), "") for p in (jax.__file__, __file__))  # code that reads no state


def trace(f: Callable[..., Any], arguments: tuple[Any, ...]) -> Trace:
    """The program of `f` now; arrays that it has read come out as constants, to be passed as arguments.

    Captured weights would otherwise be constants of the compiled program: slow to compile, and stale after the next
    training step.
    """
    with _own_scope():
        # a new function each time: JAX itself remembers the program of one that it has seen
        closed, tree = jax.make_jaxpr(lambda *a: f(*a), return_shape=True)(*arguments)
    reader, structure = _Reader(), jax.tree.structure(tree)
    key = reader.closed(closed), structure, jax.tree.structure(arguments)
    shapes = tuple(tuple(leaf.shape) for leaf in jax.tree.leaves(tree))
    return Trace(key, reader.constants, _evaluator(_emptied(closed.jaxpr), structure), shapes, whole=not reader.ruled)


def seal(found: Trace, most: int) -> Trace | None:
    """The trace with its constants in the key, where they are not too large and it says all."""
    if not found.whole or sum(getattr(c, "nbytes", most + 1) for c in found.constants) > most:
        return None
    return Trace((found.key, *map(_bytes, found.constants)), [], found.function, found.shapes, sealed=True)


def _own_scope() -> contextlib.AbstractContextManager[Any]:
    """Where what Keras layers write while they are traced is dropped; a variable would hold a tracer for ever."""
    keras = sys.modules.get("keras")
    return (
        keras.StatelessScope() if keras is not None and keras.backend.backend() == "jax" else contextlib.nullcontext()
    )


def _evaluator(jaxpr: Jaxpr, structure: Any) -> Callable[..., Any]:
    """The program as a function of its constants and its arguments; it holds none of the constants."""

    def function(constants: Arrays, *arguments: Any) -> Any:
        stream = iter(constants)
        leaves = jax.tree.leaves(arguments)
        return jax.tree.unflatten(structure, _evaluate(jaxpr, [next(stream) for _ in jaxpr.constvars], leaves, stream))

    return function


def _emptied(jaxpr: Jaxpr) -> Jaxpr:
    """The program without the arrays of the programs that it calls, which would be kept alive with it."""
    if not any(map(holds_arrays, jaxpr.eqns)):
        return jaxpr

    def emptied(equation: Any) -> Any:
        if not holds_arrays(equation):
            return equation
        inner = equation.params["jaxpr"]
        empty = ClosedJaxpr(_emptied(inner.jaxpr), [None] * len(inner.consts))
        return equation.replace(params={**equation.params, "jaxpr": empty})

    return jaxpr.replace(eqns=list(map(emptied, jaxpr.eqns)))


def _evaluate(jaxpr: Jaxpr, constants: Arrays, arguments: Arrays, stream: Iterator[Array]) -> Arrays:
    if not any(map(holds_arrays, jaxpr.eqns)):
        return jax.core.eval_jaxpr(jaxpr, constants, *arguments)
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*constants, *arguments), strict=True))

    def read(variable: Any) -> Any:
        return variable.val if isinstance(variable, Literal) else values[variable]

    for equation in jaxpr.eqns:
        if holds_arrays(equation):  # they are arguments too, so that the call is done here
            inner = equation.params["jaxpr"]
            own = [next(stream) for _ in inner.consts]
            found = _evaluate(inner.jaxpr, own, list(map(read, equation.invars)), stream)
        else:
            found = alone(equation)(*map(read, variables(equation)))
        values.update(zip(equation.outvars, found, strict=True))
    return list(map(read, jaxpr.outvars))


def holds_arrays(equation: Any) -> bool:
    """Whether an equation calls a program with arrays of its own, as that of a jitted function over weights."""
    if equation.primitive.name not in CALLS:
        return False
    inner = equation.params["jaxpr"]
    return bool(inner.consts) or any(map(holds_arrays, inner.jaxpr.eqns))


@dataclass
class _Reader:
    """Writes programs down: equal keys for programs that differ in the names of their variables and in arrays only."""

    constants: Arrays = field(default_factory=list)
    ruled: bool = False  # a derivative rule may read what the key does not show

    def closed(self, closed: ClosedJaxpr) -> Hashable:
        self.constants += closed.consts
        return self.program(closed.jaxpr)

    def program(self, jaxpr: Jaxpr) -> Hashable:
        numbers: dict[Any, int] = {}
        outside = (*jaxpr.constvars, *jaxpr.invars)
        for variable in outside:
            numbers[variable] = len(numbers)

        def name(variable: Any) -> Hashable:
            return _literal(variable) if isinstance(variable, Literal) else numbers[variable]

        rows: list[Hashable] = [tuple(v.aval for v in outside)]
        for equation in jaxpr.eqns:
            rows.append((equation.primitive, *map(name, equation.invars), self._params(equation)))
            for variable in equation.outvars:
                numbers[variable] = len(numbers)
        return tuple(rows), tuple(map(name, jaxpr.outvars))

    def _params(self, equation: Any) -> Hashable:
        params = equation.params
        if equation.primitive.name in RULED:
            rules = _foreign(tuple(params.values()), set())
            self.ruled = self.ruled or bool(rules)
            return self._value(params["call_jaxpr"]), tuple(map(_rule, rules))  # to be proved each by itself
        if holds_arrays(equation):
            return tuple((k, self.closed(v) if k == "jaxpr" else self._value(v)) for k, v in sorted(params.items()))
        return tuple((k, self._value(v)) for k, v in sorted(params.items()))

    def _value(self, value: Any) -> Hashable:
        if isinstance(value, ClosedJaxpr):
            return self.program(value.jaxpr), tuple(map(_bytes, value.consts))
        if isinstance(value, Jaxpr):
            return self.program(value)
        if isinstance(value, (tuple, list)):
            return type(value).__name__, tuple(map(self._value, value))
        if isinstance(value, (np.ndarray, jax.Array)):
            return _bytes(value)
        return value if _hashable(value) else _Itself(value)


def _literal(literal: Any) -> Hashable:
    return literal.aval, _bytes(literal.val)  # not the value: NaN is unequal to itself


def _bytes(value: Any) -> Hashable:
    if isinstance(value, jax.core.Tracer) or jax.dtypes.issubdtype(getattr(value, "dtype", None), jax.dtypes.extended):
        return _Itself(value)
    array = np.asarray(value)
    return array.shape, str(array.dtype), array.tobytes()


def _hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


class _Itself:
    """Equal to itself only."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self.value is other.value


def _rule(function: types.FunctionType) -> Hashable:
    """The code of a rule and the plain values that it reads; arrays are found when the derivative is traced."""
    return function.__code__, tuple((type(v), v) for v in captured(function) if isinstance(v, SIMPLE))


def _foreign(value: Any, seen: set[int]) -> list[types.FunctionType]:
    """The Python functions that `value` leads to, but for JAX's own and ours, whose rules read no state."""
    if id(value) in seen:
        return []
    seen.add(id(value))
    if not isinstance(value, types.FunctionType):
        return [f for part in _parts(value) for f in _foreign(part, seen)]
    if not value.__code__.co_filename.startswith(OURS):
        return [value]
    return [f for cell in value.__closure__ or () for f in _foreign(content(cell), seen)]


def _parts(value: Any) -> list[Any]:
    if isinstance(value, (tuple, list)):
        return list(value)
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, (jax.custom_jvp, jax.custom_vjp)):
        return list(vars(value).values())
    if type(value).__name__ == "WrappedFun":  # of JAX's own, without a public name
        return [value.f, *value.transforms]
    return []
