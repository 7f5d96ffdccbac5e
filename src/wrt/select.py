"""The values that `of=` and `wrt=` take: which output, unit or layer is meant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any

from wrt.errors import SelectionError


class Composable:
    """What can be added, subtracted and weighted, to be maximised; each result is a new objective."""

    __array_ufunc__ = None  # so that a NumPy number leaves the product to us

    def __add__(self, other: Any) -> Objective:
        return Objective((*_terms(self), *_terms(other)))

    def __radd__(self, other: Any) -> Objective:
        return Objective((*_terms(other), *_terms(self)))

    def __neg__(self) -> Objective:
        return self * -1

    def __sub__(self, other: Any) -> Objective:
        return self + Objective(_terms(other)) * -1

    def __rsub__(self, other: Any) -> Objective:
        return -self + other

    def __mul__(self, factor: Any) -> Objective:
        if isinstance(factor, bool) or not isinstance(factor, Real):
            raise SelectionError(f"an objective times {factor!r}; expected a number")
        return Objective(tuple((weight * float(factor), of) for weight, of in _terms(self)))

    __rmul__ = __mul__


@dataclass(frozen=True, eq=False)
class Objective(Composable):
    """A weighted sum of selections, for `wrt.maximize`; made by `+`, `-`, `*` and `wrt.objective`."""

    terms: tuple[tuple[float, Any], ...]


def _terms(value: Any) -> tuple[tuple[float, Any], ...]:
    if isinstance(value, Objective):
        return value.terms
    if isinstance(value, Composable) or callable(value):
        return ((1.0, value),)
    raise SelectionError(f"an objective plus or minus {value!r}; a unit becomes one by wrt.objective({value!r})")


@dataclass(frozen=True, eq=False)
class Layer(Composable):
    """A named layer's output; made by `wrt.layer`."""

    name: str
    unit: Any = None
    call: int | None = None


@dataclass(frozen=True, eq=False)
class Output(Composable):
    """A named output; made by `wrt.output`."""

    name: str | int
    unit: Any = None


@dataclass(frozen=True, eq=False)
class Logit(Composable):
    """The value before a final softmax or sigmoid; made by `wrt.logit`."""

    unit: Any = None


@dataclass(frozen=True)
class Top:
    """The highest outputs of each sample; made by `wrt.top`."""

    k: int = 1


@dataclass(frozen=True, eq=False)
class Loss:
    """The loss of each sample against `y`, (N,): `function(output, y)`, or what fits the output and `y`."""

    y: Any
    function: Callable[[Any, Any], Any] | None = None


@dataclass(frozen=True)
class LogProbabilities:
    """The sum over the classes of the logarithms of their probabilities, (N,)."""


def top(k: int = 1) -> Top:
    """The `k` highest outputs of each sample, highest first.

    `k=1` selects one scalar per sample, `(N,)`; a larger `k` selects `(N, k)`.

    Example:
        >>> import wrt
        >>> wrt.top(2)
        Top(k=2)
    """
    return Top(k)


def logit(unit: Any = None) -> Logit:
    """The value before a final softmax, log-softmax or sigmoid; `unit` in any form that `of=` takes.

    Example:
        >>> import wrt
        >>> wrt.logit(3)
        Logit(unit=3)
    """
    return Logit(unit)


def objective(of: Any) -> Objective:
    """`of` in any form as something that can be added, subtracted and weighted, for `wrt.maximize`.

    What `wrt.layer`, `wrt.logit` and `wrt.output` return needs no wrapping.

    Example:
        >>> import wrt
        >>> wrt.objective(3) - 0.5 * wrt.objective(7)
        Objective(terms=((1.0, 3), (-0.5, 7)))
    """
    return of if isinstance(of, Objective) else Objective(((1.0, of),))


def output(name: str | int, unit: Any = None) -> Output:
    """One output of a model with several, by name or position; `unit` in any form that `of=` takes.

    Example:
        >>> import wrt
        >>> wrt.output("price", 0)
        Output(name='price', unit=0)
    """
    return Output(name, unit)


def layer(name: str, unit: Any = None, *, call: int | None = None) -> Layer:
    """The output of a named layer, for `of=` (with `unit`) and for `wrt=`.

    Keras: a layer's name, nested models as `"outer/inner"`; torch: as in `named_modules()`.
    `call` counts from 0 and is needed only where the layer is used more than once.

    Example:
        >>> import wrt
        >>> wrt.layer("embedding")
        Layer(name='embedding', unit=None, call=None)
    """
    return Layer(name, unit, call)
