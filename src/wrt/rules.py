"""Modified backward rules: what takes the place of an activation's derivative, the forward pass staying as it is.

A rule is a function `rule(u, x, back)` of the cotangent `u` of the activation's output, its input `x`, and its
ordinary pullback `back(u)`; it returns the cotangent of `x`. The rules here use nothing but arithmetic, so that they
work on the tensors of every engine; a rule of one's own may use the functions of the model's framework.

Which activations get it: `rules={"relu": wrt.rules.guided}` (an activation, wherever it is used),
`rules={"dense_1": ...}` (the activation of a layer, by the layer's name), `rules={"Dense": ...}` (of all
layers of a type).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from wrt.errors import OptionError

Array = Any
Rule = Callable[[Array, Array, Callable[[Array], Array]], Array]
Rules = tuple[tuple[str, Rule], ...]

# the names that torch, JAX, TensorFlow and Keras share, without underscores
ACTIVATIONS = frozenset(
    "celu elu gelu glu hardsigmoid hardswish hardtanh leakyrelu logsigmoid mish relu relu6 selu sigmoid silu softplus "
    "softsign tanh".split()
)
SYNONYMS = {"swish": "silu", "hardsilu": "hardswish", "expit": "sigmoid", "logistic": "sigmoid"}


class Switch:
    """On while a pullback runs: whoever differentiates its result meets the ordinary derivatives."""

    def __init__(self) -> None:
        self.on = False

    def __enter__(self) -> None:
        self.on = True

    def __exit__(self, *_: object) -> None:
        self.on = False


def guided(u: Array, x: Array, back: Callable[[Array], Array]) -> Array:
    """Guided backpropagation: only positive cotangents pass, and only where the activation lets them.

    `back(max(u, 0))`; for a ReLU `max(u, 0) * (x > 0)`.

    Example:
        >>> import wrt
        >>> wrt.rules.guided(-2.0, 1.0, lambda u: u), wrt.rules.guided(2.0, 1.0, lambda u: u)
        (0.0, 2.0)

    Source: Springenberg et al., Striving for simplicity: the all convolutional net, ICLR workshop 2015.
    """
    return back(positive_part(u))


def deconvnet(u: Array, x: Array, back: Callable[[Array], Array]) -> Array:
    """Deconvolutional network: positive cotangents pass, whatever the input was.

    `max(u, 0)`.

    Example:
        >>> import wrt
        >>> wrt.rules.deconvnet(-2.0, 1.0, lambda u: u), wrt.rules.deconvnet(2.0, -1.0, lambda u: 0 * u)
        (0.0, 2.0)

    Source: Zeiler and Fergus, Visualizing and understanding convolutional networks, ECCV 2014.
    """
    return positive_part(u)


def straight_through(u: Array, x: Array, back: Callable[[Array], Array]) -> Array:
    """Straight-through estimator: the activation counts as the identity.

    `u`.

    Example:
        >>> import wrt
        >>> wrt.rules.straight_through(-2.0, 1.0, lambda u: 0 * u)
        -2.0

    Source: Bengio, Léonard and Courville, arXiv:1308.3432.
    """
    return u


@dataclass(frozen=True)
class Squareplus:
    """Smooth surrogate of a ReLU: the derivative of squareplus, a hyperbola around the kink.

    `u * (1 + x / sqrt(x² + b)) / 2`; `b` is in squared units of `x`: the smaller, the closer to the ReLU.

    Example:
        >>> import wrt
        >>> wrt.rules.Squareplus(b=1.0)(1.0, 0.0, lambda u: u)
        0.5

    Source: Barron, Squareplus: a softplus-like algebraic rectifier, arXiv:2112.11687.
    """

    b: float = 1.0

    def __post_init__(self) -> None:
        if not self.b > 0:
            raise OptionError(f"Squareplus(b={self.b!r}): b must be positive")

    def __call__(self, u: Array, x: Array, back: Callable[[Array], Array]) -> Array:
        return u * (1 + x * (x * x + self.b) ** -0.5) / 2


def positive_part(value: Array) -> Array:
    """relu, by arithmetic that every engine knows."""
    return (value + abs(value)) / 2


def canonical(name: str) -> str:
    """`"leakyrelu"` for `"LeakyReLU"`, `"leaky_relu"` and `"leaky_relu_"`."""
    plain = name.replace("_", "").lower()
    return SYNONYMS.get(plain, plain)


def parse(rules: Mapping[str, Rule] | None) -> Rules:
    """`rules=` as pairs, which can be a key.

    Raises:
        OptionError: not a dict of names to functions.
    """
    if rules is None:
        return ()
    if not isinstance(rules, Mapping) or not rules:
        raise OptionError(f"rules={rules!r}; expected a dict such as {{'relu': wrt.rules.guided}}")
    for name, rule in rules.items():
        if not isinstance(name, str) or not callable(rule) or isinstance(rule, type):
            raise OptionError(
                f"rules={{{name!r}: {rule!r}}}; expected the name of a layer, of a layer's type or of an activation, "
                "and a function rule(u, x, back) such as wrt.rules.guided"
            )
    return tuple(rules.items())
