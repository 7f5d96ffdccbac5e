"""What is done to maps before they are looked at; for arrays of every kind, and nested ones.

Each filter takes maps `(N, *map)` or, with `lead=2`, `(N, K, *map)`: so many axes number the maps, and every map is
treated by itself. Maps that are constant stay free of NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from wrt.derive.layout import check_format
from wrt.engines import registry
from wrt.engines.base import Array, Engine
from wrt.errors import InputError, OptionError
from wrt.trees import map_leaves

Reduction = Literal["max", "sum", "norm"]


def normalize(maps: Any, lead: int = 1) -> Any:
    """Every map stretched to the range from 0 to 1.

    `(m - min m) / (max m - min m)`, in the shape of the maps; 0 where a map is constant.

    Args:
        maps: `(N, *map)`, or with `lead=2` `(N, K, *map)`; or a nest of them.
        lead: the number of axes that number the maps.

    Example:
        >>> import numpy as np, wrt
        >>> wrt.filters.normalize(np.array([[-1.0, 1.0, 3.0], [2.0, 2.0, 2.0]]))
        array([[0. , 0.5, 1. ],
               [0. , 0. , 0. ]])
    """
    return _each(_normalize, maps, lead)


def signed_normalize(maps: Any, lead: int = 1) -> Any:
    """Every map divided by its largest magnitude: from -1 to 1, zero staying zero.

    `m / max |m|`, in the shape of the maps; 0 where a map is 0.

    Args:
        maps: `(N, *map)`, or with `lead=2` `(N, K, *map)`; or a nest of them.
        lead: the number of axes that number the maps.

    Example:
        >>> import numpy as np, wrt
        >>> wrt.filters.signed_normalize(np.array([[-1.0, 0.0, 2.0]]))
        array([[-0.5,  0. ,  1. ]])
    """
    return _each(_scaled, maps, lead)


def positive(maps: Any) -> Any:
    """The positive entries; 0 elsewhere.

    `max(m, 0)`.

    Example:
        >>> import numpy as np, wrt
        >>> wrt.filters.positive(np.array([[-1.0, 2.0]]))
        array([[0., 2.]])
    """
    return map_leaves(lambda m: m / 2 + abs(m) / 2, maps)


def negative(maps: Any) -> Any:
    """The negative entries, with their sign; 0 elsewhere.

    `min(m, 0)`.

    Example:
        >>> import numpy as np, wrt
        >>> wrt.filters.negative(np.array([[-1.0, 2.0]]))
        array([[-1.,  0.]])
    """
    return map_leaves(lambda m: m / 2 - abs(m) / 2, maps)


def absolute(maps: Any) -> Any:
    """The magnitudes.

    `|m|`.

    Example:
        >>> import numpy as np, wrt
        >>> wrt.filters.absolute(np.array([[-1.0, 2.0]]))
        array([[1., 2.]])
    """
    return map_leaves(abs, maps)


def positive_normalize(maps: Any, lead: int = 1) -> Any:
    """The positive entries, stretched to the range from 0 to 1: `normalize(positive(m))`.

    Example:
        >>> import numpy as np, wrt
        >>> wrt.filters.positive_normalize(np.array([[-1.0, 2.0, 4.0]]))
        array([[0. , 0.5, 1. ]])
    """
    return normalize(positive(maps), lead)


def negative_normalize(maps: Any, lead: int = 1) -> Any:
    """The magnitudes of the negative entries, stretched to the range from 0 to 1: `normalize(-negative(m))`.

    Example:
        >>> import numpy as np, wrt
        >>> wrt.filters.negative_normalize(np.array([[-1.0, 2.0, -4.0]]))
        array([[0.25, 0.  , 1.  ]])
    """
    return normalize(absolute(negative(maps)), lead)


def absolute_normalize(maps: Any, lead: int = 1) -> Any:
    """The magnitudes, stretched to the range from 0 to 1: `normalize(absolute(m))`.

    Example:
        >>> import numpy as np, wrt
        >>> wrt.filters.absolute_normalize(np.array([[-1.0, 0.0, 4.0]]))
        array([[0.25, 0.  , 1.  ]])
    """
    return normalize(absolute(maps), lead)


def reduce_channels(
    maps: Any, how: Reduction = "max", axis: int | None = None, *, data_format: str | None = None, lead: int = 1
) -> Any:
    """One number for all channels of a position.

    `max |m|`, `sum m` or `(sum m²)^½` over the channels; the shape of the maps without that axis.

    Args:
        maps: `(N, ..., C)` or `(N, C, ...)`, with `lead=2` `(N, K, ...)`; or a nest of them.
        how: `"max"`, `"sum"` or `"norm"`.
        axis: that of the channels; the last one by default. `wrt.explain` gives that of the model.
        data_format: `"channels_last"` or `"channels_first"` in its place: the last axis, or the one behind those that
            number the maps.
        lead: the number of axes that number the maps.

    Raises:
        OptionError: `how` or `data_format` is no choice, or `axis` is given as well.
        InputError: the maps have no such axis.

    Example:
        >>> import numpy as np, wrt
        >>> maps = np.array([[[3.0, -4.0]]])
        >>> tuple(float(wrt.filters.reduce_channels(maps, how)[0, 0]) for how in ("max", "sum", "norm"))
        (4.0, -1.0, 5.0)
    """
    if how not in ("max", "sum", "norm"):
        raise OptionError(f"how={how!r} is not a choice; expected 'max', 'sum' or 'norm'")
    place = _channel_axis(axis, data_format, lead)
    return map_leaves(lambda m: _reduced(_engine(m), m, how, place), maps)


def clip_percentile(maps: Any, percent: float = 99.0, lead: int = 1) -> Any:
    """Outliers cut off: magnitudes are at most the percentile of a map's magnitudes.

    `sign(m) min(|m|, q)`, q the percentile of `|m|` (linear between two entries), in the shape of the maps.

    Args:
        maps: `(N, *map)`, or with `lead=2` `(N, K, *map)`; or a nest of them.
        percent: between 0 and 100.
        lead: the number of axes that number the maps.

    Raises:
        OptionError: `percent` is not between 0 and 100.

    Example:
        >>> import numpy as np, wrt
        >>> wrt.filters.clip_percentile(np.array([[-9.0, 1.0, 2.0]]), 50)
        array([[-2.,  1.,  2.]])
    """
    if not isinstance(percent, int | float | np.number) or not 0 <= percent <= 100:
        raise OptionError(f"percent={percent!r}; expected a number between 0 and 100")
    return _each(lambda engine, rows: _clipped(engine, rows, float(percent)), maps, lead)


def _channel_axis(axis: int | None, data_format: str | None, lead: int) -> int:
    check_format(data_format)
    if axis is not None and data_format is not None:
        raise OptionError(f"axis={axis} and data_format={data_format!r} both say where the channels are; give one")
    if axis is None:
        return lead if data_format == "channels_first" else -1
    return axis


def _engine(value: Any) -> Engine:
    return registry.owner(value) or registry.engine("reference")


def _each(function: Callable[[Engine, Array], Array], maps: Any, lead: int) -> Any:
    """`function` of the maps as rows `(M, D)`."""

    def one(value: Any) -> Any:
        engine = registry.owner(value)
        value = value if engine else np.asarray(value)
        shape = tuple(value.shape)
        if not 1 <= lead <= len(shape):
            raise OptionError(f"lead={lead} axes number the maps, but these have shape {shape}")
        if 0 in shape:
            return value
        size = math.prod(shape[lead:])
        rows = function(_engine(value), _engine(value).reshape(value, (-1, size)))
        found = _engine(value).reshape(rows, (-1, *shape[1:]))
        return found if engine else found.astype(value.dtype if value.dtype.kind == "f" else float, copy=False)

    return map_leaves(one, maps)


def _normalize(engine: Engine, rows: Array) -> Array:
    rows = rows / 2  # so that the difference of the extremes does not overflow
    low = -_highest(engine, -rows)
    width = _highest(engine, rows) - low
    return (rows - low) / (width + _flag(engine, width == 0, width))


def _scaled(engine: Engine, rows: Array) -> Array:
    largest = _highest(engine, abs(rows))
    return rows / (largest + _flag(engine, largest == 0, largest))


def _highest(engine: Engine, rows: Array) -> Array:
    """(M, 1) maxima; an array need not be sorted for them."""
    if isinstance(rows, np.ndarray):
        return np.fmax.reduce(rows, 1, keepdims=True)
    return engine.gather(rows, engine.top(rows, 1))


def _flag(engine: Engine, condition: Array, like: Array) -> Array:
    """1 where the condition holds, else 0."""
    if isinstance(like, np.ndarray):
        return np.asarray(condition, like.dtype if like.dtype.kind == "f" else float)
    return engine.asarray(condition, engine.dtype(like))


def _clipped(engine: Engine, rows: Array, percent: float) -> Array:
    size = abs(rows)
    count = rows.shape[1]
    place = (1 - percent / 100) * (count - 1)  # from the top
    below = math.ceil(place)
    order = engine.gather(size, engine.top(size, below + 1))
    part = below - place
    bound = order[:, below : below + 1] * (1 - part) + order[:, below - (part > 0)][:, None] * part
    over = _flag(engine, size > bound, rows)
    sign = _flag(engine, rows > 0, rows) - _flag(engine, rows < 0, rows)
    return rows * (1 - over) + sign * bound * over


def _reduced(engine: Engine, value: Array, how: str, axis: int) -> Array:
    rank = len(value.shape)
    if not -rank <= axis < rank or axis % rank == 0:
        raise InputError(f"maps of shape {tuple(value.shape)} have no axis {axis} for channels; axis 0 is samples")
    if how == "sum":
        return engine.sum(value, (axis % rank,))
    last = engine.moveaxis(value, axis, rank - 1)
    shape = tuple(last.shape)
    rows = engine.reshape(last, (-1, shape[-1]))
    if how == "max":
        return engine.reshape(_highest(engine, abs(rows)), (-1, *shape[1:-1]))
    largest = _highest(engine, abs(rows))  # squares of what is scaled neither overflow nor underflow
    scaled = rows / (largest + _flag(engine, largest == 0, largest))
    return engine.reshape(largest * engine.sum(scaled * scaled, (1,))[:, None] ** 0.5, (-1, *shape[1:-1]))


FILTERS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        normalize,
        signed_normalize,
        positive,
        negative,
        absolute,
        positive_normalize,
        negative_normalize,
        absolute_normalize,
        reduce_channels,
        clip_percentile,
    )
}
