"""When do two Python functions compute the same? What a compiled program may be kept for."""

from __future__ import annotations

import types
from collections.abc import Hashable, Iterator
from typing import Any

SIMPLE = (str, bytes, int, float, complex, bool, type(None))


def identity(value: Any) -> Hashable:
    """A key for `value`: equal for functions with the same code over the same captured values.

    A lambda that is written anew in every turn of a loop keeps its key, and a function over a variable that has
    changed gets another one. Captured numbers and strings count by value, everything else by identity.
    """
    if not isinstance(value, types.FunctionType):
        return value if isinstance(value, SIMPLE) else Held(value)
    cells = [_contents(cell) for cell in value.__closure__ or ()]
    scope = value.__globals__
    outside = [scope[name] for name in sorted(set(_names(value.__code__))) if name in scope]
    defaults = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
    return value.__code__, tuple(map(_captured, (*cells, *outside, *defaults)))


def _captured(value: Any) -> Hashable:
    return (type(value), value) if isinstance(value, SIMPLE) else Held(value)


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
    """Equal to itself only; keeps the value alive, so that no other takes its identity."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Held) and self.value is other.value
