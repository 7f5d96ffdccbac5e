"""JAX functions, flax.nnx and equinox modules as pure functions."""

from __future__ import annotations

import contextlib
import functools
import sys
import types
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from wrt.engines import registry
from wrt.engines.base import Array, Arrays
from wrt.engines.identity import Held
from wrt.engines.network import Network, Taps, arguments, weak
from wrt.errors import SelectionError

LIBRARIES = {"jax", "jaxlib", "numpy", "scipy", "flax", "equinox", "optax", "builtins", "functools"}


@dataclass(frozen=True)
class Hoisted:
    """A callable taken apart: a hashable description, its weights, and how to put it together again.

    Two callables with equal descriptions differ in their weights only and share their compiled functions: successive
    states of an equinox training do, and so does the same lambda over new parameters. Captured weights would be
    constants of the compiled program, slow to compile and stale after the next training step.
    """

    description: Hashable
    weights: Arrays
    rebuild: Callable[[Stream], Any]


@dataclass(frozen=True)
class Walk:
    """The functions on the way to here, and those found to hold no weights, which need no second look."""

    path: frozenset[int] = frozenset()
    plain: set[int] = field(default_factory=set)

    def knows(self, function: types.FunctionType) -> bool:
        return id(function) in self.path or id(function) in self.plain

    def note(self, function: types.FunctionType, parts: Hoisted) -> Hoisted:
        if not parts.weights:
            self.plain.add(id(function))
        return parts


class Stream(Iterator[Array]):
    """Weights in order, and those among them that Keras layers read from their variables."""

    def __init__(self, weights: Arrays) -> None:
        self.weights = iter(weights)
        self.variables: list[tuple[Any, Array]] = []

    def __next__(self) -> Array:
        return next(self.weights)

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """Where the layers see these weights."""
        if not self.variables:
            return contextlib.nullcontext()
        return sys.modules["keras"].StatelessScope(state_mapping=self.variables)


def adapt(function: Any) -> tuple[Hashable, Network, Arrays]:
    """Description, network and current weights of anything that can be called on JAX arrays."""
    parts = hoist(function)
    rebuild = parts.rebuild

    def apply(state: Arrays, x: Any, taps: Taps) -> Any:
        for name in taps.names:
            raise SelectionError(
                f"layer {name!r}: a JAX function has no named layers; return the value from the function, "
                "or make it an input"
            )
        stream = Stream(state)
        rebuilt = rebuild(stream)
        args, kwargs = arguments(rebuilt, x)
        with stream.scope():
            return rebuilt(*args, **kwargs)

    return parts.description, Network(registry.engine("jax"), apply), parts.weights


def hoist(value: Any, walk: Walk | None = None) -> Hoisted:
    """Take apart functions, methods, partials, modules and trees of them, down to arrays and constants."""
    if isinstance(value, (jax.Array, np.ndarray)):
        return _hoist_array(value)
    nnx = sys.modules.get("flax.nnx")
    if nnx is not None and isinstance(value, nnx.Module):
        return _hoist_nnx(nnx, value)
    keras = sys.modules.get("keras")
    if keras is not None and isinstance(value, keras.layers.Layer):
        return _hoist_keras(value)
    walk = walk or Walk()
    if isinstance(value, types.FunctionType) and not walk.knows(value):
        return walk.note(value, _hoist_function(value, Walk(walk.path | {id(value)}, walk.plain)))
    if isinstance(value, types.MethodType):
        pieces = [value.__func__, value.__self__]
        return _join("method", pieces, walk, lambda parts: types.MethodType(*parts))
    if isinstance(value, functools.partial):
        pieces = [value.func, value.args, value.keywords]
        return _join("partial", pieces, walk, lambda parts: functools.partial(parts[0], *parts[1], **parts[2]))
    if isinstance(value, (jax.custom_jvp, jax.custom_vjp)):
        return Hoisted(_Constant(value), [], lambda weights: value)  # taken apart it would lose its rule
    if callable(value) and isinstance(getattr(value, "__wrapped__", None), types.FunctionType):
        return hoist(value.__wrapped__, walk)  # jax.jit: it is compiled as part of the whole
    leaves, treedef = jax.tree.flatten(value)
    if len(leaves) == 1 and leaves[0] is value:
        return Hoisted(_Constant(value), [], lambda weights: value)
    equinox = sys.modules.get("equinox")
    if equinox is not None and isinstance(value, equinox.Module):
        value = equinox.nn.inference_mode(value)
        leaves, treedef = jax.tree.flatten(value)
    return _join(treedef, leaves, walk, lambda parts: jax.tree.unflatten(treedef, parts))


def _hoist_array(value: Any) -> Hoisted:
    if np.issubdtype(value.dtype, np.inexact) or value.dtype == jax.numpy.bfloat16:
        return Hoisted(_kind(value), [value], next)
    return Hoisted(_Constant(value), [], lambda weights: value)  # integers may be needed as Python values


def _hoist_keras(layer: Any) -> Hoisted:
    alive = weak(layer)
    weights = [variable.value for variable in layer.variables]

    def rebuild(stream: Stream) -> Any:
        stream.variables += [(variable, next(stream)) for variable in alive().variables]
        return alive()

    return Hoisted(("keras", Held(layer), *map(_kind, weights)), weights, rebuild)


def _hoist_nnx(nnx: Any, module: Any) -> Hoisted:
    graphdef, state = nnx.split(module)
    leaves, treedef = jax.tree.flatten(state)
    count = len(leaves)

    def rebuild(weights: Stream) -> Any:
        rebuilt = nnx.merge(graphdef, jax.tree.unflatten(treedef, [next(weights) for _ in range(count)]))
        rebuilt.eval()
        return rebuilt

    return Hoisted(("nnx", graphdef, treedef, *map(_kind, leaves)), leaves, rebuild)


def _kind(weight: Any) -> Hashable:
    """Shapes belong to the description: a function over other weights may have another output."""
    return "array", tuple(np.shape(weight)), str(getattr(weight, "dtype", type(weight)))


def _hoist_function(function: types.FunctionType, walk: Walk) -> Hoisted:
    if not function.__closure__ and _root(function) in LIBRARIES:
        return Hoisted(_Constant(function), [], lambda weights: function)
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    names = [n for n in function.__code__.co_names if _own(function) and _is_variable(function, n)]
    pieces = [cells, {n: function.__globals__[n] for n in names}, function.__defaults__]
    # not the function itself, whose cells would keep the first weights alive
    made = functools.partial(_rebuilt, function.__code__, function.__globals__, function.__kwdefaults__)
    return _join((function.__code__, tuple(names)), pieces, walk, made)


def _rebuilt(code: Any, scope: dict[str, Any], kwdefaults: Any, parts: list[Any]) -> Any:
    cells, variables, defaults = parts
    closure = tuple(map(types.CellType, cells))
    copy = types.FunctionType(code, {**scope, **variables}, code.co_name, defaults, closure)
    copy.__kwdefaults__ = kwdefaults
    return copy


def _is_variable(function: types.FunctionType, name: str) -> bool:
    scope = function.__globals__
    return name in scope and not isinstance(scope[name], (types.ModuleType, type))


def _own(function: types.FunctionType) -> bool:
    return function.__globals__.get("__name__", "").split(".")[0] not in LIBRARIES


def _root(function: types.FunctionType) -> str:
    return (function.__module__ or "").split(".")[0]


def _join(key: Any, pieces: list[Any], walk: Walk, build: Callable[[list[Any]], Any]) -> Hoisted:
    parts = [hoist_tree(piece, walk) for piece in pieces]
    description = (key, tuple(p.description for p in parts))
    weights = [w for p in parts for w in p.weights]
    return Hoisted(description, weights, lambda stream: build([p.rebuild(stream) for p in parts]))


def hoist_tree(value: Any, walk: Walk) -> Hoisted:
    """`hoist`, also for plain containers, whose leaves may be functions."""
    if isinstance(value, dict):
        keys = list(value)
        return _join(("dict", *map(str, keys)), list(value.values()), walk, lambda p: dict(zip(keys, p, strict=True)))
    if type(value) in (list, tuple):
        return _join(type(value).__name__, list(value), walk, type(value))
    return hoist(value, walk)


class _Constant:
    """Compares simple values by value and everything else by identity."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.simple = isinstance(value, (str, bytes, int, float, complex, bool, type(None), np.dtype, type))

    def __hash__(self) -> int:
        return hash((type(self.value), self.value)) if self.simple else id(self.value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Constant):
            return False
        same = self.value is other.value
        return same or (self.simple and type(self.value) is type(other.value) and self.value == other.value)
