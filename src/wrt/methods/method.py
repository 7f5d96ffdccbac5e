"""The record of a method, and the table of them.

A method is a plain function `f(model, x, of=None, *, wrt=None, with_output=False, ...)` that returns maps: one number
for every entry of `x` (or of a layer), `(N, *in)`, or `(N, K, *in)` where `of` chooses K units. With
`with_output=True` it returns `(maps, outputs)`: the chosen outputs as well, `(N,)` or `(N, K)`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, TypeVar, get_args

from wrt.errors import OptionError, suggest

Function = TypeVar("Function", bound=Callable[..., Any])
Invariant = Literal["completeness", "symmetry", "implementation invariance", "zero on constants"]


class Common(TypedDict, total=False):
    """The options that methods hand on to `wrt.gradient`."""

    batch_size: int | None
    max_memory: int | None
    compile: bool | None
    progress: bool | None
    differentiable: bool


@dataclass(frozen=True)
class Method:
    """A method, where it was described, and what its maps promise.

    The invariants: "completeness" (contributions add up to the difference of two outputs), "symmetry" (inputs that
    the model treats alike and that are alike get the same), "implementation invariance" (models that compute the same
    get the same), "zero on constants" (an input on which the output does not depend gets zero).
    """

    name: str
    function: Callable[..., Any]
    paper: str
    invariants: frozenset[Invariant]
    postprocess: str = "absolute_normalize"  # what `wrt.explain` does with the maps unless told otherwise


METHODS: dict[str, Method] = {}


def register(
    *,
    paper: str,
    invariants: set[Invariant] | frozenset[Invariant] = frozenset(),
    postprocess: str = "absolute_normalize",
) -> Callable[[Function], Function]:
    """Note a function in `METHODS` under its name; the function stays as it is.

    Raises:
        OptionError: an unknown invariant, or a name that is taken by another function.
    """
    for invariant in invariants:
        if invariant not in get_args(Invariant):
            raise OptionError(f"unknown invariant {invariant!r}.{suggest(invariant, get_args(Invariant))}")

    def note(function: Function) -> Function:
        name = function.__name__
        if name in METHODS and METHODS[name].function is not function:
            raise OptionError(f"there is a method {name!r} already; give the function another name")
        METHODS[name] = Method(name, function, paper, frozenset(invariants), postprocess)
        return function

    return note
