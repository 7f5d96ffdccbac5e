"""What a Python function leads to: the modules that it holds, as far as they can be seen."""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable, Hashable, Iterator
from typing import Any

DEPTH = 6  # from a function over objects to what they hold
MOST = 10_000  # objects looked at
LIBRARIES = {"jax", "jaxlib", "numpy", "scipy", "flax", "equinox", "optax", "torch", "tensorflow", "keras", "wrt"}
LIBRARIES |= sys.stdlib_module_names | {"builtins"}


def held(function: Any, found: Callable[[Any], bool]) -> list[Any]:
    """The objects for which `found` is true among all that `function` leads to, each once; nothing inside them."""
    seen: set[int] = set()
    result = []
    level = [function]
    for _ in range(DEPTH):
        below = []
        for value in level:
            if id(value) in seen or len(seen) > MOST:
                continue
            seen.add(id(value))
            if found(value):
                result.append(value)
            else:
                below += _parts(value)
        level = below
    return result


def _parts(value: Any) -> list[Any]:
    if isinstance(value, (str, bytes, int, float, complex, type, types.ModuleType)) or hasattr(value, "dtype"):
        return []
    if isinstance(value, types.FunctionType):
        return [] if _root(value) in LIBRARIES and not value.__closure__ else captured(value)
    if isinstance(value, types.MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, (list, tuple, set, frozenset)):
        return list(value)
    own = list(getattr(value, "__dict__", {}).values())
    wrapped = getattr(value, "__wrapped__", None)  # of jitted functions, which show nothing else
    return own if wrapped is None else [*own, wrapped]


def captured(function: types.FunctionType) -> list[Any]:
    """What the function reads besides its arguments: its closure, globals and defaults, as they are now."""
    scope = function.__globals__
    outside = [scope[name] for name in sorted(set(_names(function.__code__))) if name in scope]
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    return [*map(content, function.__closure__ or ()), *outside, *defaults]


def content(cell: Any) -> Any:
    """What a variable of a closure holds; `None` where nothing has been assigned yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _names(code: types.CodeType) -> Iterator[str]:
    """Global names that the code, or a function inside it, may read."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _root(function: types.FunctionType) -> str:
    return (function.__module__ or "").split(".")[0]


def site(function: Any) -> Hashable:
    """Where a function is written: its code and that of those that it wraps, or the type of a module."""
    found: list[Any] = []
    while function is not None and len(found) < 8:
        if isinstance(function, functools.partial):
            function = function.func
        elif isinstance(function, types.MethodType):
            function = function.__func__
        else:
            found.append(getattr(function, "__code__", None) or type(function))
            function = getattr(function, "__wrapped__", None)
    return tuple(found)
