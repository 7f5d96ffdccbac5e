"""What is drawn, checked: images, the maps that belong to them, and what explanations say besides."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wrt.errors import InputError, OptionError, suggest
from wrt.results import Explanation

IMAGES = ("hw", "hwc", "chw")  # after the axis of samples; whichever fits the maps, first come first served
FORMATS = {"channels_first": "chw", "channels_last": "hwc"}
MAPS = ("hw", "chw", "khw", "hwc", "khwc", "kchw")  # channels come first only where those of the images do
REDUCED = ("max", "sum", "norm")


@dataclass(frozen=True)
class Content:
    """Images `(N, H, W)` or `(N, H, W, 3)`, maps `(N, K, H, W)`, K headings, scores `(N,)` or `(N, K)`."""

    images: np.ndarray
    maps: np.ndarray
    names: list[str] | None
    scores: np.ndarray | None


def content(images: Any, maps: Any, channels: str, data_format: str | None = None) -> Content:
    """Images and maps brought to one layout.

    Raises:
        InputError: they are no numbers, or their shapes do not belong together.
        OptionError: an unknown way to reduce channels, or `data_format` is needed.
    """
    if channels not in REDUCED:
        raise OptionError(f"channels={channels!r} is not a choice; expected 'max', 'sum' or 'norm'")
    images, columns = host(images, "images"), _columns(maps)
    for form in _forms(images, data_format, "images"):
        seen = _ordered(images, form, "hwc")
        if seen is None:
            continue
        found = [_map_of(values, outputs, seen, form) for _, values, outputs in columns]
        if all(f is not None for f in found):
            reduced = [_reduced(f, channels) for f in found if f is not None]
            names = _names([name for name, _, _ in columns], reduced) if isinstance(maps, Mapping) else None
            scores = _scores([outputs for _, _, outputs in columns], [r.shape[1] for r in reduced])
            return Content(seen[..., 0] if seen.shape[-1] == 1 else seen, np.concatenate(reduced, 1), names, scores)
    raise InputError(_misfit(images, columns))


def pictures(values: Any, shape: Any, what: str, data_format: str | None = None) -> np.ndarray:
    """Images `(N, H, W)` or `(N, H, W, 3)`, of these or of flat ones that have this shape.

    Raises:
        InputError: they are no images.
    """
    given = host(values, what)
    if shape is not None:
        given = _unflattened(given, shape, what)
    for form in _forms(given, data_format, what):
        seen = _ordered(given, form, "hwc")
        if seen is not None:
            return seen[..., 0] if seen.shape[-1] == 1 else seen
    side = math.isqrt(given[0].size) if len(given) else 0
    square = side * side == (given[0].size if len(given) else -1)
    example = f"shape=({side}, {side})" if square else "shape=(H, W) or (H, W, 3)"
    raise InputError(
        f"{what} has shape {given.shape}, which are no images, (N, H, W), (N, H, W, 1 or 3) or (N, 1 or 3, H, W); "
        f"of images that the model takes in another shape give their own, as in {example}"
    )


def _forms(images: np.ndarray, data_format: str | None, what: str) -> list[str]:
    """The layouts that images of this shape may have; not two of them that only differ in where the channels are."""
    if data_format not in (None, *FORMATS):
        raise OptionError(f"data_format={data_format!r} is not a choice.{suggest(str(data_format), list(FORMATS))}")
    seen = {form: _ordered(images, form, "hwc") for form in IMAGES}
    found = [form for form, value in seen.items() if value is not None and value.shape[-1] in (1, 3)]
    if data_format is not None:
        found = [form for form in found if form in ("hw", FORMATS[data_format])]
    if len(found) > 1:
        raise OptionError(
            f"data_format= is needed: {what} of shape {images.shape} may have its channels first or last; say which by "
            "data_format='channels_first' or data_format='channels_last'"
        )
    return found


def _unflattened(given: np.ndarray, shape: Any, what: str) -> np.ndarray:
    found = tuple(shape) if isinstance(shape, Sequence) else ()
    sizes = all(isinstance(n, int | np.integer) and not isinstance(n, bool) and n > 0 for n in found)
    if len(found) not in (2, 3) or not sizes or math.prod(found) != math.prod(given.shape[1:]):
        raise InputError(f"shape={shape!r} does not fit {what} of shape {given.shape}; expected (H, W) or (H, W, C)")
    return given.reshape(-1, *found)


def host(value: Any, what: str) -> np.ndarray:
    """Numbers in NumPy.

    Raises:
        InputError: a tensor on a device or with a graph, a nest, or no numbers.
    """
    hint = "expected an array of numbers (of a tensor on a device or with a graph: tensor.detach().cpu().numpy())"
    if isinstance(value, Mapping):
        raise InputError(f"{what} is a dict of {', '.join(map(repr, value))}; choose the array of one input")
    try:
        found = np.asarray(value)
    except Exception as error:  # frameworks raise whatever they like
        raise InputError(f"{what} is a {type(value).__name__} that NumPy cannot read; {hint}") from error
    if found.dtype.name == "bfloat16":
        return found.astype(np.float32)
    if found.dtype.kind not in "biuf":
        raise InputError(f"{what} holds {found.dtype}; {hint}")
    return found


def _columns(maps: Any) -> list[tuple[str, np.ndarray, np.ndarray | None]]:
    """Title, maps and outputs of every method."""
    given = {str(title): value for title, value in maps.items()} if isinstance(maps, Mapping) else {"": maps}
    if not given:
        raise InputError("maps is an empty dict; expected maps by the titles of their columns")
    return [(title, *_parts(title, value)) for title, value in given.items()]


def _parts(title: str, value: Any) -> tuple[np.ndarray, np.ndarray | None]:
    what = f"maps[{title!r}]" if title else "maps"
    if isinstance(value, Explanation):
        return host(value.maps, f"{what}.maps"), host(value.outputs, f"{what}.outputs")
    return host(value, what), None


def _ordered(array: np.ndarray, form: str, wanted: str) -> np.ndarray | None:
    """The axes behind the first, which `form` names, in the wanted order; those that are missing have length 1."""
    if array.ndim != len(form) + 1 or not array.size:
        return None
    found = array.transpose(0, *(form.index(axis) + 1 for axis in wanted if axis in form))
    for place, axis in enumerate(wanted, 1):
        found = found if axis in form else np.expand_dims(found, place)
    return found


def _map_of(values: np.ndarray, outputs: np.ndarray | None, images: np.ndarray, image_form: str) -> np.ndarray | None:
    """`(N, K, H, W, C)`, or none where these are no maps of such images; outputs tell units from channels."""
    count, height, width, channels = images.shape
    first = image_form == "chw"
    for form in MAPS:
        found = _ordered(values, form, "khwc")
        if found is None or found.shape[:1] + found.shape[2:4] != (count, height, width):
            continue
        if "ch" in form and not (first and found.shape[-1] == channels):
            continue
        if outputs is None or outputs.shape == found.shape[: 2 if "k" in form else 1]:
            return found
    return None


def _misfit(images: np.ndarray, columns: list[tuple[str, np.ndarray, Any]]) -> str:
    shapes = ", ".join(f"{values.shape}{f' ({title})' if title else ''}" for title, values, _ in columns)
    text = f"images has shape {images.shape} and maps {shapes}; expected (N, H, W), (N, H, W, 1 or 3) or (N, 3, H, W) "
    text += "and (N, H, W[, C]), or (N, K, H, W[, C]) for K maps of each"
    if images.ndim == 4 and any(v.ndim >= 3 and v.shape[0] == len(images) for _, v, _ in columns):
        text += ". Maps of a layer come in the size of the images from wrt.explain(..., resize=(H, W))"
    return text


def _reduced(maps: np.ndarray, how: str) -> np.ndarray:
    """One number for all channels, as `wrt.filters.reduce_channels` has it; a single channel stays as it is."""
    maps = maps.astype(np.result_type(maps, np.float32), copy=False)
    if maps.shape[-1] == 1:
        return maps[..., 0]
    if how == "sum":
        return maps.sum(-1)
    return np.abs(maps).max(-1) if how == "max" else np.linalg.norm(maps, axis=-1)


def _names(titles: list[str], maps: list[np.ndarray]) -> list[str]:
    return [
        f"{title} {k}" if part.shape[1] > 1 else title
        for title, part in zip(titles, maps, strict=True)
        for k in range(part.shape[1])
    ]


def _scores(outputs: list[np.ndarray | None], counts: list[int]) -> np.ndarray | None:
    """`(N,)` where all methods explain the same outputs, else one for every map."""
    given = [o for o in outputs if o is not None]
    if len(given) < len(outputs):
        return None
    if all(o.ndim == 1 and np.allclose(o, given[0], rtol=1e-3, atol=1e-6) for o in given):
        return given[0]
    return np.concatenate([o.reshape(len(o), k) for o, k in zip(given, counts, strict=True)], 1)
