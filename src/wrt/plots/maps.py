"""Images beside the maps that belong to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from wrt.errors import InputError, OptionError, suggest
from wrt.plots.arrays import Content, content, host
from wrt.plots.found import draw_found
from wrt.plots.page import SMALL, Page, Texts, headings, score_table, title_table
from wrt.plots.panels import Scale, colour_bar, draw_image, draw_map, is_signed, mark
from wrt.results import Maximization

ACROSS = 6  # panels side by side where there is a choice
SCALES = ("all", "column", "each")


def maps(
    images: Any,
    maps: Any = None,
    *,
    labels: Sequence[int] | None = None,
    scores: Any = None,
    names: Sequence[str] | None = None,
    titles: Sequence[str] | Sequence[Sequence[str]] | None = None,
    title: str | None = None,
    note: str | None = None,
    unit: str | None = None,
    cols: int | None = None,
    original: bool = True,
    overlay: bool | Literal["outline"] | None = None,
    channels: Literal["max", "sum", "norm"] = "max",
    scale: Literal["all", "column", "each"] | None = None,
    shape: Sequence[int] | None = None,
    data_format: Literal["channels_first", "channels_last"] | None = None,
    figure: Any = None,
) -> Any:
    """A page of images, each followed by its maps: what `wrt.explain` found, ready to be looked at.

    Maps with signs are blue, white and red with zero in the middle; others begin at zero, in a perceptually even scale.

    Of `wrt.maximize` it is a page of the images found, with their units above and the probabilities that they reached
    below, in grey where the wanted one was not reached. Each image has a contrast of its own, so that it is visible
    whatever its range: from its least to its largest value, or, with negative values, as far below zero as above, with
    zero in the middle; the outermost hundredth of its entries lies beyond. Two images cannot be compared in brightness.

    Args:
        images: `(N, H, W)`, `(N, H, W, 1 or 3)` or channels first, `(N, 1 or 3, H, W)`. Bytes, and numbers between 0
            and 1, are shown as they are; of anything else each image is stretched from its least to its largest value.
            Or what `wrt.maximize` returns, alone; of the options below `scores`, `titles`, `title`, `note`, `cols`,
            `shape`, `data_format` and `figure` belong to it.
        maps: `(N, H, W)` or `(N, K, H, W)`, each also with channels behind (or before, where the maps have the shape of
            images that are channels first); or a `wrt.Explanation`. A dict of these is a column for every title.
        labels: `(N,)`; the map of this number gets a frame.
        scores: `(N,)`, or `(N, K)` for the maps, written below: percentages where all lie between 0 and 1, words as
            they are. The outputs of explanations by default.
        names: K headings; the titles of a dict, or else numbers, by default.
        titles: N titles above the images, or for each image one for every panel.
        title: above everything.
        note: a line in small print below the title.
        unit: what the colours count.
        cols: images side by side, each with its maps; by default one, or with one map each as many as make six panels;
            of `wrt.maximize` up to six.
        original: whether the image itself stands before its maps.
        overlay: `True` for maps over the faded image, `False` for maps alone, `"outline"` for maps with the outlines of
            dark shapes. By default outlines for grey images of up to 32 pixels, which are drawn dark on white.
        channels: how maps with channels become one: `"max"` of the magnitudes, `"sum"` or `"norm"`, as
            `wrt.filters.reduce_channels` does; only a sum keeps signs.
        scale: which maps share a colour scale: `"all"`, each `"column"` (the default for a dict, whose methods
            have units of their own), or `"each"` for itself.
        shape: `(H, W)` or `(H, W, C)`, of images that the model takes flattened, of `wrt.maximize`.
        data_format: where the channels of the images are; needed where their shape does not tell, as (N, 3, 40, 3).
        figure: a matplotlib figure to draw in; a new one of pyplot otherwise.

    Returns:
        The matplotlib figure.

    Raises:
        InputError: the shapes do not belong together.
        OptionError: an option has a value that cannot be honoured.
        EngineNotInstalledError: matplotlib is missing.

    Example:
        >>> import numpy as np
        >>> import wrt
        >>> rng = np.random.default_rng(0)
        >>> figure = wrt.plots.maps(rng.random((2, 8, 8)), rng.normal(size=(2, 3, 8, 8)), labels=[0, 2])
        >>> len(figure.axes)  # two rows of an image and three maps, and the colour bar
        9
        >>> figure = wrt.plots.maps(rng.random((5, 64, 48, 3)), rng.random((5, 64, 48)), cols=2)
        >>> len(figure.axes)  # five pairs, two in a row, and the colour bar
        11
    """
    _check_options(overlay, scale, cols)
    if isinstance(images, Maximization):
        others = {"labels": labels, "names": names, "unit": unit, "overlay": overlay, "scale": scale, "maps": maps}
        _check_alone(
            {**others, "original": None if original else False, "channels": None if channels == "max" else channels}
        )
        return draw_found(images, shape, data_format, titles, scores, title, note, cols, figure)
    _check_beside(maps, shape)
    given = content(images, maps, channels, data_format)
    panels = given.maps.shape[1] + original
    ink = given.images.ndim == 3 and max(given.images.shape[1:]) <= SMALL
    way = ("outline" if ink else True) if overlay is None else overlay
    cols = cols or (max(1, ACROSS // panels) if given.maps.shape[1] == 1 else 1)
    page = Page.of(given.images.shape, panels, cols, _texts(given, names, titles, scores, original), (title, note))
    framed = None if labels is None else _labels(labels, len(given.images))
    figure = page.begin(figure, title, note)
    shared = scale or ("column" if isinstance(maps, Mapping) else "all")
    scales = _scales(given.maps, shared, way)
    for sample, image in enumerate(given.images):
        axes = page.axes(figure, sample)
        if original:
            draw_image(axes[0], image, ink)
        for k, one in enumerate(axes[original:]):
            draw_map(one, image, given.maps[sample, k], scales[sample][k], way, ink)
        page.texts.write(axes, sample, sample < page.cols)
        if framed is not None and 0 <= framed[sample] < panels - original:
            mark(axes[framed[sample] + original])
    colour_bar(figure, page.bar(figure), scales[0][0], unit, shared != "all")
    return figure


def _check_options(overlay: Any, scale: Any, cols: Any) -> None:
    if overlay not in (True, False, "outline", None):
        raise OptionError(f"overlay={overlay!r}; expected True, False, 'outline' or None")
    if scale not in (*SCALES, None):
        raise OptionError(f"scale={scale!r} is not a choice.{suggest(str(scale), SCALES)}")
    if cols is not None and (isinstance(cols, bool) or not isinstance(cols, int | np.integer) or cols < 1):
        raise OptionError(f"cols={cols!r}; expected a number of images side by side, 1 or more")


def _check_alone(options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        if value is not None:
            raise OptionError(
                f"{name}= belongs to images and maps, and this is what wrt.maximize returns; leave it out"
            )


def _check_beside(maps: Any, shape: Any) -> None:
    if maps is None:
        raise InputError(
            "maps is missing; expected the maps of these images, or what wrt.maximize returns in their place"
        )
    if shape is not None:
        raise OptionError("shape= belongs to what wrt.maximize returns; reshape images and maps themselves")


def _labels(labels: Any, count: int) -> list[int]:
    found = host(labels, "labels")
    if found.shape != (count,) or found.dtype.kind not in "iu":
        raise InputError(f"labels has shape {found.shape} and dtype {found.dtype}; expected ({count},) integers")
    return found.tolist()  # type: ignore[no-any-return]


def _texts(given: Content, names: Any, titles: Any, scores: Any, original: bool) -> Texts:
    count, parts = given.maps.shape[:2]
    words = scores is not None and np.asarray(scores).dtype.kind == "U"
    found = given.scores if scores is None else np.asarray(scores) if words else host(scores, "scores")
    below, best = score_table(found, count, parts, original)
    return Texts(
        headings(given.names if names is None else names, parts, original),
        title_table(titles, count, parts + original),
        below,
        best,
    )


def _scales(maps: np.ndarray, shared: str, way: Any) -> list[list[Scale]]:
    """One for every map; all of them with signs, or none."""
    count, parts = maps.shape[:2]
    signed = is_signed(maps)
    if shared == "all":
        return [[Scale.of(maps, signed, way)] * parts] * count
    if shared == "column":
        return [[Scale.of(maps[:, k], signed, way) for k in range(parts)]] * count
    return [[Scale.of(one, signed, way) for one in own] for own in maps]
