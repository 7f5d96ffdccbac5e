"""When do two Python functions compute the same? What a compiled program may be kept for."""

from __future__ import annotations

import types
import weakref
from collections.abc import Callable, Hashable, Iterator
from typing import Any

SIMPLE = (str, bytes, int, float, complex, bool, type(None))


def identity(value: Any, seen: frozenset[int] = frozenset()) -> Hashable:
    """A key for `value`: equal for functions with the same code over the same captured values.

    A lambda that is written anew in every turn of a loop keeps its key, and a function over a variable that has
    changed gets another one. Captured numbers and strings count by value, everything else by identity.
    """
    if isinstance(value, SIMPLE):
        return type(value), value
    if id(value) in seen:
        return "itself"
    if isinstance(value, types.FunctionType):
        return value.__code__, tuple(identity(v, seen | {id(value)}) for v in _captured(value))
    if type(value) in (list, tuple, dict):
        items = [*value.items()] if type(value) is dict else value
        return type(value), tuple(identity(v, seen | {id(value)}) for v in items)
    return Held(value)


def _captured(function: types.FunctionType) -> list[Any]:
    """What the function reads besides its arguments: its closure, globals and defaults."""
    scope = function.__globals__
    outside = [scope[name] for name in sorted(set(_names(function.__code__))) if name in scope]
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    return [*map(_contents, function.__closure__ or ()), *outside, *defaults]


def _contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None


def _names(code: types.CodeType) -> Iterator[str]:
    """Global names that the code, or a function inside it, may read."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


class Held:
    """Equal to itself only. Weak where that is possible: once the value is gone, equal to nothing any more."""

    def __init__(self, value: Any) -> None:
        self.hash = id(value)
        try:
            self.get: Callable[[], Any] = weakref.ref(value)
        except TypeError:
            self.get = lambda: value

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Held):
            return False
        value = self.get()
        return self is other or (value is not None and value is other.get())
