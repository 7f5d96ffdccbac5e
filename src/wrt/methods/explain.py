"""`wrt.explain`: any method by name, its maps brought to the size of the input and made fit to look at."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from wrt.derive.layout import check_format, of_input, positions
from wrt.derive.values import outputs_of
from wrt.engines import registry
from wrt.errors import InputError, OptionError, suggest
from wrt.methods.filters import FILTERS
from wrt.methods.method import METHODS, find, parameters, plain, takes
from wrt.methods.resize import resized
from wrt.methods.values import settled
from wrt.results import Explanation
from wrt.select import Layer
from wrt.trees import flatten, unflatten

Channel = Callable[[int], int | None]  # from the number of an input to the axis of its channels


def explain(
    method: str | Callable[..., Any],
    model: Any,
    x: Any,
    of: Any = None,
    *,
    wrt: Any = None,
    postprocess: str | Callable[..., Any] | None = "default",
    resize: str | Sequence[int] | None = "default",
    data_format: str | None = None,
    **options: Any,
) -> Explanation:
    """Explain outputs by maps over the input.

    Returns an `Explanation`, which unpacks as `outputs, maps`: the chosen outputs `(N,)` and maps `(N, *map)`; for K
    units `(N, K)` and `(N, K, *map)`. Without postprocessing and resizing the maps are those of the method itself.

    Args:
        method: a name in `wrt.methods.METHODS`, a function such as `wrt.methods.grad_cam`, or a wrapped one such as
            `wrt.smooth(wrt.gradient)`.
        model: a Keras model, a `torch.nn.Module`, or a function of arrays.
        x: an array `(N, *in)`, or a dict, list or tuple of them. NumPy in, NumPy out; a tensor in, a tensor out.
        of: the units to explain, in the forms of `wrt.gradient`.
        wrt: an input's index or name, a list of them, or `wrt.layer(name)`; by default what the method takes.
        postprocess: a name in `wrt.filters`, a function of maps, or `None`. By default every map is stretched to the
            range from 0 to 1, magnitudes in the case of methods whose maps have signs.
        resize: the spatial sizes of the maps, or `None` to leave them. By default maps that are coarser than the input,
            as those of layers are, come in its size; those over the tokens of a transformer, (N, T), stay as they are.
        data_format: `"channels_first"` or `"channels_last"`: where the channels are, of the layer that `wrt` names or
            else of `x`. By default where the convolutions and other layers of the model have them.
        options: those of the method, such as `batch_size`, `max_memory`, `progress`, `steps`.

    Raises:
        OptionError: unknown method, filter or option, a size that cannot be, or `data_format` is needed.
        SelectionError: `of` or `wrt` is missing, unknown, out of range or ambiguous.
        InputError: `x` does not fit the model.

    Example:
        >>> import numpy as np, wrt
        >>> f, x = lambda x: 3 * x[:, 0] - x[:, 1], np.array([[1.0, 2.0]])
        >>> outputs, maps = wrt.explain("input_x_gradient", f, x)
        >>> outputs, maps.round(6)
        (array([1.]), array([[1., 0.]]))
        >>> wrt.explain("input_x_gradient", f, x, postprocess=None).maps.round(6)
        array([[ 3., -2.]])
    """
    function = find(method)
    filter_ = _filter(postprocess, function)
    check_format(data_format)
    if wrt is not None:
        options["wrt"] = wrt
    if data_format is not None and takes(function, "data_format"):
        options["data_format"] = data_format
    outputs, maps, info = _call(function, model, x, of, options)
    lead = max(len(a.shape) for a in flatten(outputs)[0])

    def channel(number: int) -> int | None:
        return of_input(model, x, data_format, not isinstance(wrt, Layer), number)

    maps = _resized(x, maps, resize, lead, channel)
    return Explanation(outputs, maps if filter_ is None else _filtered(filter_, maps, lead, x, channel), info)


def _filter(postprocess: Any, function: Callable[..., Any]) -> Callable[..., Any] | None:
    if postprocess is None or (callable(postprocess) and not isinstance(postprocess, type)):
        return postprocess
    if postprocess == "default":
        postprocess = next((m.postprocess for m in METHODS.values() if m.function is function), "absolute_normalize")
    if postprocess not in FILTERS:
        raise OptionError(
            f"postprocess={postprocess!r}; expected a function of maps, None, or the name of a filter."
            f"{suggest(str(postprocess), FILTERS)}"
        )
    return FILTERS[postprocess]


def _filtered(filter_: Callable[..., Any], maps: Any, lead: int, x: Any, channel: Channel) -> Any:
    """Filters are told which axes number the maps, and those that reduce channels, input by input, where these are."""
    takes = parameters(filter_)
    leaves, structure = flatten(maps)
    numbers = _sources(leaves, flatten(x)[0]) if "axis" in takes else None
    if numbers is None:
        return filter_(maps, lead=lead) if "lead" in takes else filter_(maps)
    axes = [channel(k) if len(m.shape) - lead > 1 else None for m, k in zip(leaves, numbers, strict=True)]
    pairs = zip(leaves, axes, strict=True)
    return unflatten(structure, [filter_(m, axis=-1 if axis is None else lead + axis - 1) for m, axis in pairs])


def _call(
    function: Callable[..., Any], model: Any, x: Any, of: Any, options: dict[str, Any]
) -> tuple[Any, Any, dict[str, Any]]:
    """Outputs, maps and what else there is to know, from one evaluation where the method can say so."""
    takes, wrt = parameters(function), options.get("wrt")
    _check_options(function, takes, options)
    if "with_output" not in takes:
        of = settled(model, x, of, wrt, plain(options))
        outputs = outputs_of(model, x, of, wrt, plain(options))
        return outputs, function(model, x, of, **options), {}
    if "with_gap" in takes:
        maps, outputs, gap = function(model, x, of, **options, with_output=True, with_gap=True)
        return outputs, maps, {"completeness_gap": gap}
    maps, outputs = function(model, x, of, **options, with_output=True)
    return outputs, maps, {}


def _check_options(function: Callable[..., Any], takes: dict[str, Any], options: dict[str, Any]) -> None:
    for name in ("with_output", "with_gap"):
        if name in options:
            raise OptionError(f"{name}= is what wrt.explain gives in any case: .outputs and .info; leave it out")
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in takes.values()) or not takes:
        return
    for name in options:
        if name not in takes:
            title = getattr(function, "__name__", "the method")
            raise OptionError(f"{title} has no option {name!r}.{suggest(name, list(takes)[3:])}")


def _resized(x: Any, maps: Any, resize: Any, lead: int, channel: Channel) -> Any:
    if resize is None:
        return maps
    if isinstance(resize, str) and resize != "default":
        raise OptionError(f"resize={resize!r}; expected 'default', None, or the spatial sizes, such as (224, 224)")
    leaves, structure = flatten(maps)
    inputs = flatten(x)[0]
    if resize == "default" and len(inputs) not in (1, len(leaves)):
        return maps
    numbers = _sources(leaves, inputs)
    if numbers is None:
        raise InputError(
            f"resize={resize!r}: x has {len(inputs)} inputs and there are {len(leaves)} maps, so that it is open which "
            "belong together; leave resize out"
        )
    found = [_one(m, inputs[k], resize, lead, k, channel) for m, k in zip(leaves, numbers, strict=True)]
    return unflatten(structure, found)


def _sources(maps: list[Any], inputs: list[Any]) -> list[int] | None:
    """The number of the input that each map is of."""
    if len(inputs) == len(maps):
        return list(range(len(inputs)))
    return [0] * len(maps) if len(inputs) == 1 else None


def _one(value: Any, x: Any, resize: Any, lead: int, number: int, channel: Channel) -> Any:
    engine = registry.owner(value) or registry.engine("reference")
    shape, whole = tuple(value.shape[lead:]), tuple(x.shape[1:])
    if isinstance(resize, str):
        ids = "int" in str(x.dtype) and len(whole) == 1  # which have no channels
        if len(shape) != len(whole) - (not ids):  # of the input's own shape, or over tokens, which have no grid
            return value
        sizes = whole if ids else positions(whole, channel(number))
        return resized(engine, value, sizes, lead) if shape != sizes != () else value
    sizes = _sizes(resize)
    axes = list(range(len(shape)))
    if len(shape) == len(whole) == len(sizes) + 1:
        axes = [axis for axis in axes if axis + 1 != channel(number)]
    if len(sizes) != len(axes) or len(sizes) not in (len(whole) - 1, len(whole)):
        raise InputError(
            f"resize={resize!r}: maps of shape {shape} have no {len(sizes)} spatial axes; a map over tokens has a grid "
            "only after maps.reshape(N, rows, columns), so take it with resize=None"
        )
    return resized(engine, value, sizes, [lead + axis for axis in axes])


def _sizes(resize: Any) -> tuple[int, ...]:
    sizes = tuple(resize) if isinstance(resize, tuple | list) else (resize,)
    if not sizes or any(isinstance(s, bool) or not isinstance(s, int | np.integer) or s < 1 for s in sizes):
        raise OptionError(f"resize={resize!r}; expected 'default', None, or positive sizes such as (224, 224)")
    return tuple(map(int, sizes))
