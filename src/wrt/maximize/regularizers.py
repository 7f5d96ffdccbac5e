"""What an image should be besides exciting: penalties `(N, *in) -> (N,)`, added to the loss with a weight.

All are means over the entries of an image, so that a weight means the same for images of any size.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np

from wrt.engines.base import Array, Engine
from wrt.engines.identity import identity
from wrt.errors import InputError, OptionError, SelectionError
from wrt.maximize.image import Axes, Channel, axes_of, finite
from wrt.maximize.objectives import place


@dataclass(frozen=True, eq=False)
class Regularizer:
    """A penalty and its weight; made by the functions of `wrt.regularizers`."""

    name: str
    weight: float
    penalty: Callable[[Engine, Array, Axes | None, Array | None], Array]
    images: bool = False  # whether it needs height and width
    reference: np.ndarray | None = None
    options: tuple[Any, ...] = ()
    layer: Any = None  # whose activations are meant, in place of the image

    @property
    def key(self) -> Hashable:
        return self.name, self.weight, self.options, self.layer is not None


def l1(weight: float) -> Regularizer:
    """The mean of the absolute values.

    r(x) = weight mean |x|, `(N,)`.

    Example:
        >>> import wrt
        >>> wrt.regularizers.l1(0.1).weight
        0.1
    """
    return Regularizer("l1", _weight(weight), lambda engine, x, axes, data: _mean(engine, abs(x)))


def l2(weight: float) -> Regularizer:
    """The mean of the squares.

    r(x) = weight mean x², `(N,)`.

    Example:
        >>> import wrt
        >>> wrt.regularizers.l2(0.1).name
        'l2'
    """
    return Regularizer("l2", _weight(weight), lambda engine, x, axes, data: _mean(engine, x * x))


def total_variation(weight: float) -> Regularizer:
    """Absolute differences between neighbours.

    r(x) = weight (mean |x_{i+1,j} - x_{i,j}| + mean |x_{i,j+1} - x_{i,j}|), `(N,)`, for images.

    Example:
        >>> import wrt
        >>> wrt.regularizers.total_variation(1.0).images
        True

    Source: Mahendran and Vedaldi, Understanding deep image representations by inverting them, CVPR 2015, section 3.
    """
    return Regularizer("total_variation", _weight(weight), _variation, images=True)


def blur(weight: float, width: float = 1.0) -> Regularizer:
    """The distance of an image to itself blurred, which high frequencies make large.

    r(x) = weight mean (x - G x)², `(N,)`, with G a Gaussian of standard deviation `width` pixels.

    Example:
        >>> import wrt
        >>> wrt.regularizers.blur(1.0, width=2.0).options
        (2.0,)

    Source: Yosinski et al., Understanding neural networks through deep visualization, 2015, section 3.2.
    """
    if not is_positive(width):
        raise OptionError(f"blur(width={width!r}): expected a number of pixels above 0")

    def penalty(engine: Engine, x: Array, axes: Axes | None, _: Array | None) -> Array:
        gap = x
        for axis in axes.plane if axes else ():
            gap = _blurred(engine, gap, axis, float(width))
        return _mean(engine, (x - gap) * (x - gap))

    return Regularizer("blur", _weight(weight), penalty, images=True, options=(float(width),))


def near(reference: Any, weight: float = 1.0, norm: int = 2) -> Regularizer:
    """The distance to a reference, for counterfactuals: change as little as possible.

    r(x) = weight mean |x - reference|^norm, `(N,)`.

    Args:
        reference: an array `(N, *in)`, or `(1, *in)` for all.
        weight: of the penalty.
        norm: 1, which changes few entries, or 2.

    Raises:
        OptionError: another norm, or a weight that is none.
        InputError: the reference is no array of finite numbers.

    Example:
        >>> import numpy as np, wrt
        >>> wrt.regularizers.near(np.zeros((1, 4)), weight=2.0).weight
        2.0

    Source: Wachter, Mittelstadt and Russell, Counterfactual explanations without opening the black box, 2018, III.
    """
    if norm not in (1, 2):
        raise OptionError(f"near(norm={norm!r}): expected 1 or 2")
    values = finite(reference, "near(reference)", "(N, *in)")

    def penalty(engine: Engine, x: Array, _: Axes | None, data: Array | None) -> Array:
        gap = x - data
        return _mean(engine, gap * gap if norm == 2 else abs(gap))

    return Regularizer("near", _weight(weight), penalty, reference=values, options=(norm,))


def diversity(weight: float, layer: Any = None) -> Regularizer:
    """How alike the images of a batch are, so that the same unit in several rows gives several solutions.

    r(x_n) = weight mean over m ≠ n of (g_n · g_m) / (|g_n| |g_m|), `(N,)`, with g the image; or, where a layer is
    named, the Gram matrix of its channels, g = Σ_p a_p a_pᵀ over the places p: which channels go together, wherever.

    Args:
        weight: of the penalty.
        layer: its name, or what `wrt.layer` returns; by default the images themselves are compared. The layer is read
            as the model sees the images, after transforms.

    Raises:
        OptionError: a weight that is none.
        SelectionError: no layer, or a unit of one.

    Example:
        >>> import wrt
        >>> wrt.regularizers.diversity(0.5, "conv").layer
        Layer(name='conv', unit=None, call=None)

    Source: Olah, Mordvintsev and Schubert, Feature visualization, Distill 2017, diversity.
    """
    return Regularizer("diversity", _weight(weight), _likeness, layer=place(layer, "diversity"))


def listed(regularizers: Any) -> tuple[Any, ...]:
    """The regularisers as a tuple.

    Raises:
        OptionError: something that is none.
    """
    given = regularizers if isinstance(regularizers, list | tuple) else (regularizers,)
    for found in given:
        if not isinstance(found, Regularizer) and (not callable(found) or isinstance(found, type)):
            raise OptionError(f"regularizers= holds {found!r}; expected those of wrt.regularizers, or functions of x")
    return tuple(given)


def layers_of(given: tuple[Any, ...]) -> list[Any]:
    """The layers that regularisers look at, in their order."""
    return [found.layer for found in given if isinstance(found, Regularizer) and found.layer is not None]


def prepared(given: tuple[Any, ...], shape: tuple[int, ...], rows: int, channel: Channel) -> Axes | None:
    """The axes of images of this shape where a regulariser needs them; all regularisers are checked.

    Raises:
        OptionError: one that needs what there is not.
        InputError: a reference of another shape.
    """
    for found in given:
        if getattr(found, "name", "") == "diversity" and rows < 2:
            raise OptionError("diversity needs several images: ask for more than one unit, as of=[3, 3, 3]")
        reference = getattr(found, "reference", None)
        if reference is not None and (reference.shape[1:] != shape or len(reference) not in (1, rows)):
            raise InputError(f"near(reference): shape {reference.shape}; expected {(1, *shape)}, or {rows} of them")
    images = [found.name for found in given if getattr(found, "images", False)]
    return axes_of(shape, channel, images[0]) if images else None


def added(
    engine: Engine, given: tuple[Any, ...], axes: Axes | None, image: Array, data: list[Array], seen: list[Array]
) -> Array | None:
    """(N,) the sum of all penalties; `seen` holds (N, places, channels) of every layer that one of them names."""
    total, rest, layers = None, iter(data), iter(seen)
    for found in given:
        if isinstance(found, Regularizer):
            reference = None if found.reference is None else next(rest)
            x = image if found.layer is None else _gram(engine, next(layers), image.shape[0])
            value = found.penalty(engine, x, axes, reference) * found.weight
        else:
            value = found(image)
            if tuple(getattr(value, "shape", ())) != (image.shape[0],):
                shape = tuple(value.shape) if hasattr(value, "shape") else type(value).__name__
                raise SelectionError(
                    f"a function of regularizers= returned {shape}; expected one number per image, (N,)"
                )
        total = value if total is None else total + value
    return total


def key_of(given: tuple[Any, ...]) -> Hashable:
    """What a compiled program may be kept for."""
    return tuple(found.key if isinstance(found, Regularizer) else identity(found) for found in given)


def _weight(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not np.isfinite(value):
        raise OptionError(f"weight={value!r} of a regulariser; expected a finite number")
    return float(value)


def is_positive(value: Any) -> bool:
    """Whether it is a finite number above 0."""
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return bool(number and 0 < value < np.inf)


def _mean(engine: Engine, value: Array) -> Array:
    return engine.mean(value, tuple(range(1, len(value.shape))))


def _variation(engine: Engine, x: Array, axes: Axes | None, _: Array | None) -> Array:
    total = None
    for axis in axes.plane if axes else ():
        if x.shape[axis] < 2:
            continue
        before = (slice(None),) * axis
        value = _mean(engine, abs(x[(*before, slice(1, None))] - x[(*before, slice(None, -1))]))
        total = value if total is None else total + value
    return _mean(engine, 0 * x) if total is None else total


def _blurred(engine: Engine, x: Array, axis: int, width: float) -> Array:
    """One axis blurred, as a product with a matrix whose rows add up to one."""
    count, last = x.shape[axis], len(x.shape) - 1
    gaps = np.subtract.outer(np.arange(count), np.arange(count)) / width
    matrix = np.exp(-(gaps**2) / 2)
    turned = engine.asarray((matrix / matrix.sum(1, keepdims=True)).T, engine.dtype(x), x)
    return engine.moveaxis(engine.moveaxis(x, axis, last) @ turned, last, axis)


def _gram(engine: Engine, value: Array, rows: int) -> Array:
    """(N, C * C): the products of all pairs of channels, summed over the places."""
    found = engine.moveaxis(value, 1, 2) @ value
    return engine.reshape(found, (rows, value.shape[2] ** 2))


def _likeness(engine: Engine, x: Array, _axes: Axes | None, _data: Array | None) -> Array:
    flat = engine.reshape(x, (x.shape[0], -1))
    length = (engine.sum(flat * flat, (1,)) + 1e-12) ** 0.5
    flat = flat / length[:, None]
    every = flat @ engine.moveaxis(flat, 0, 1)
    own = engine.sum(flat * flat, (1,))
    return (engine.sum(every, (1,)) - own) / (x.shape[0] - 1)
