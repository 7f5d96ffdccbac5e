"""When do two Python functions compute the same? What a compiled program may be kept for."""

from __future__ import annotations

import types
import weakref
from collections.abc import Callable, Hashable
from typing import Any

from wrt.engines.reach import captured

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
    if isinstance(value, types.MethodType):  # a new object at every access
        return identity(value.__func__, seen), identity(value.__self__, seen)
    if isinstance(value, types.FunctionType):
        return value.__code__, tuple(identity(v, seen | {id(value)}) for v in captured(value))
    if type(value) in (list, tuple, dict):
        items = [*value.items()] if type(value) is dict else value
        return type(value), tuple(identity(v, seen | {id(value)}) for v in items)
    return Held(value), attributes(value)


def attributes(value: Any) -> tuple[tuple[str, Any], ...]:
    """The plain values among the attributes of an object, which its methods may read."""
    return tuple((name, own) for name, own in getattr(value, "__dict__", {}).items() if isinstance(own, SIMPLE))


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
