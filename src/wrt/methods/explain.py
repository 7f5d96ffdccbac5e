"""`wrt.explain`: any method by name, its maps brought to the size of the input and made fit to look at."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from wrt.derive.inputs import engine_of
from wrt.derive.layers import positions
from wrt.derive.values import outputs_of
from wrt.engines import adapt, registry
from wrt.errors import InputError, OptionError, suggest
from wrt.methods.filters import FILTERS
from wrt.methods.method import METHODS, find, plain
from wrt.methods.resize import resized
from wrt.methods.values import settled
from wrt.results import Explanation
from wrt.trees import flatten, unflatten


def explain(
    method: str | Callable[..., Any],
    model: Any,
    x: Any,
    of: Any = None,
    *,
    wrt: Any = None,
    postprocess: str | Callable[..., Any] | None = "default",
    resize: str | Sequence[int] | None = "default",
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
            as those of layers are, come in its size.
        options: those of the method, such as `batch_size`, `max_memory`, `progress`, `steps`.

    Raises:
        OptionError: unknown method, filter or option, or a size that cannot be.
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
    if wrt is not None:
        options["wrt"] = wrt
    outputs, maps, info = _call(function, model, x, of, options)
    lead = max(len(a.shape) for a in flatten(outputs)[0])
    maps = _resized(model, x, maps, resize, lead)
    return Explanation(outputs, maps if filter_ is None else _filtered(filter_, maps, lead), info)


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


def _filtered(filter_: Callable[..., Any], maps: Any, lead: int) -> Any:
    """Filters that treat every map by itself are told which axes number the maps."""
    return filter_(maps, lead=lead) if "lead" in _parameters(filter_) else filter_(maps)


def _parameters(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # a function without a signature, as some built-in ones are
        return {}


def _call(
    function: Callable[..., Any], model: Any, x: Any, of: Any, options: dict[str, Any]
) -> tuple[Any, Any, dict[str, Any]]:
    """Outputs, maps and what else there is to know, from one evaluation where the method can say so."""
    takes, wrt = _parameters(function), options.get("wrt")
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


def _resized(model: Any, x: Any, maps: Any, resize: Any, lead: int) -> Any:
    if resize is None:
        return maps
    if isinstance(resize, str) and resize != "default":
        raise OptionError(f"resize={resize!r}; expected 'default', None, or the spatial sizes, such as (224, 224)")
    leaves, structure = flatten(maps)
    inputs = flatten(x)[0]
    if resize == "default" and len(inputs) not in (1, len(leaves)):
        return maps
    network = adapt.adapt(model, x, engine_of(x)).network
    sources = inputs if len(inputs) == len(leaves) else inputs * len(leaves)
    found = [_one(m, a, resize, lead, network.channels_first) for m, a in zip(leaves, sources, strict=True)]
    return unflatten(structure, found)


def _one(value: Any, x: Any, resize: Any, lead: int, channels_first: bool) -> Any:
    engine = registry.owner(value) or registry.engine("reference")
    shape, whole = tuple(value.shape[lead:]), tuple(x.shape[1:])
    if isinstance(resize, str):
        sizes = _spatial(x, channels_first)
        coarse = len(shape) == len(sizes) and shape != whole and shape != sizes
        return resized(engine, value, sizes, lead) if coarse else value
    sizes = _sizes(resize)
    rank = len(whole) - 1
    if len(sizes) != rank or len(shape) not in (rank, rank + 1):
        raise InputError(f"resize={resize!r}: maps of shape {shape} have no {len(sizes)} spatial axes")
    return resized(engine, value, sizes, lead + (len(shape) > rank and channels_first))


def _spatial(x: Any, channels_first: bool) -> tuple[int, ...]:
    """The sizes of an input without its channels, which token ids do not have."""
    if "int" in str(x.dtype) and len(x.shape) == 2:
        return (x.shape[1],)
    return positions(tuple(x.shape[1:]), channels_first)


def _sizes(resize: Any) -> tuple[int, ...]:
    sizes = tuple(resize) if isinstance(resize, tuple | list) else (resize,)
    if not sizes or any(isinstance(s, bool) or not isinstance(s, int | np.integer) or s < 1 for s in sizes):
        raise OptionError(f"resize={resize!r}; expected 'default', None, or positive sizes such as (224, 224)")
    return tuple(map(int, sizes))
