"""The values that `of=` and `wrt=` take: which output, unit or layer is meant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class Layer:
    """A named layer's output; made by `wrt.layer`."""

    name: str
    unit: Any = None
    call: int | None = None


@dataclass(frozen=True, eq=False)
class Output:
    """A named output; made by `wrt.output`."""

    name: str | int
    unit: Any = None


@dataclass(frozen=True, eq=False)
class Logit:
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
