"""The record of a method, and the table of them.

A method is a plain function `f(model, x, of=None, *, wrt=None, with_output=False, ...)` that returns maps: one number
for every entry of `x` (or of a layer), `(N, *in)`, or `(N, K, *in)` where `of` chooses K units. With
`with_output=True` it returns `(maps, outputs)`: the chosen outputs as well, `(N,)` or `(N, K)`.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, TypeVar, get_args

from wrt.derive.choose import Request
from wrt.derive.job import Options
from wrt.derive.layout import check_format
from wrt.errors import OptionError, suggest
from wrt.rules import Rule

Function = TypeVar("Function", bound=Callable[..., Any])
Invariant = Literal["completeness", "symmetry", "implementation invariance", "zero on constants"]


class Common(TypedDict, total=False):
    """The options that methods hand on to `wrt.gradient`, and where channels are."""

    batch_size: int | None
    max_memory: int | None
    chunk: int | None
    compile: bool | None
    progress: bool | None
    differentiable: bool
    data_format: str | None


def plain(options: Mapping[str, Any]) -> Options:
    """Those among the options of a method that every evaluation takes."""
    return options_of({k: v for k, v in options.items() if k in Common.__annotations__})  # type: ignore[arg-type]


def options_of(given: Common, rules: Mapping[str, Rule] | None = None) -> Options:
    """The options as `wrt.derive` takes them; the mode is reverse, which all methods are made of.

    Raises:
        OptionError: one of them is unknown, or has a value that cannot be honoured.
    """
    for name in given:
        if name not in Common.__annotations__:
            raise OptionError(f"unknown option {name!r}.{suggest(name, Common.__annotations__)}")
    own = ("progress", "differentiable", "data_format")
    request = Request(mode="reverse", **{k: v for k, v in given.items() if k not in own})  # type: ignore[arg-type]
    check_format(given.get("data_format"))
    options = Options(request, given.get("progress"), given.get("differentiable", False), rules=rules)
    return dataclasses.replace(options, data_format=given.get("data_format"))


def parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """What a function takes, by name; nothing where it does not say."""
    try:
        return dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # a function without a signature, as some built-in ones are
        return {}


def takes(function: Callable[..., Any], name: str) -> bool:
    """Whether a function takes an option of this name."""
    found = parameters(function)
    return name in found or any(p.kind is inspect.Parameter.VAR_KEYWORD for p in found.values())


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


def find(method: Any) -> Callable[..., Any]:
    """The function of this name, or the function itself.

    Raises:
        OptionError: an unknown name, or something that cannot be called.
    """
    if isinstance(method, str):
        if method not in METHODS:
            raise OptionError(f"method={method!r} is not a choice.{suggest(method, METHODS)}")
        return METHODS[method].function
    if not callable(method) or isinstance(method, type):
        raise OptionError(f"method={method!r}; expected a name, or a function such as wrt.methods.gradient")
    return method


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
