"""How many inputs matter, and which."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from wrt.errors import InputError
from wrt.plots.page import begun
from wrt.plots.panels import FAINT, INK, UNSIGNED, bare
from wrt.results import Support

WIDTH, NARROW, HEIGHT = 3.4, 1.85, 1.6  # inches; the first is a column of a paper
LOWER, UPPER, HEAD = 0.42, 0.1, 0.25
PRINT = 8  # points
MOST_BARS = 40
BLUE = "#2166ac"


def support(
    result: Support,
    *,
    shape: Sequence[int] | None = None,
    title: str | None = None,
    figure: Any = None,
) -> Any:
    """How many inputs matter, as a histogram of the samples; and how often each pixel does, as an image.

    Args:
        result: of `wrt.support`; with K units per sample each of them counts.
        shape: `(H, W)` or `(H, W, C)`, of images that the model takes flattened. By default the inputs are an image
            where they have two axes, or three with 1 or 3 channels. A pixel matters where one of its channels does.
        title: above everything.
        figure: a matplotlib figure to draw in; a new one of pyplot otherwise, as wide as a column of a paper.

    Returns:
        The matplotlib figure: the histogram, and for images the map and its colour bar.

    Raises:
        InputError: not a `wrt.Support`, or one that the shape does not fit.
        EngineNotInstalledError: matplotlib is missing.

    Example:
        >>> import numpy as np, wrt
        >>> found = wrt.support(lambda x: x[:, :2].sum((1, 2)), np.ones((3, 4, 5)))
        >>> len(wrt.plots.support(found).axes)  # histogram, map, colour bar
        3
    """
    if not isinstance(result, Support):
        raise InputError(f"result is a {type(result).__name__}; expected what wrt.support returns")
    often = _often(result, shape)
    head = HEAD * bool(title)
    width, height = WIDTH if often is not None else NARROW, HEIGHT + head
    figure = begun(figure, (width, height))
    places = [
        (left / width, LOWER / height, wide / width, (HEIGHT - LOWER - UPPER) / height)
        for left, wide in ((0.45, 1.3), (2.0, 0.95), (3.0, 0.07))
    ]
    _draw_counts(figure.add_axes(places[0]), result)
    if often is not None:
        _draw_often(figure.add_axes(places[1], anchor="S"), figure.add_axes(places[2]), often)
    if title:
        figure.text(0.05 / width, 1 - 0.05 / height, title, va="top", fontsize=PRINT + 1, color=INK)
    return figure


def _often(result: Support, shape: Sequence[int] | None) -> np.ndarray | None:
    """The share of samples for which each pixel matters, `(H, W)`; none where the inputs are no image."""
    if not isinstance(result.mask, np.ndarray):
        if shape is not None:
            raise InputError(f"shape={shape!r}: the result holds several inputs; leave it out")
        return None
    inputs = result.mask.shape[result.counts.ndim :]
    found = inputs if shape is None else tuple(shape)
    if math.prod(found) != math.prod(inputs) or (shape is not None and len(found) not in (2, 3)):
        raise InputError(f"shape={shape!r} does not fit inputs of shape {inputs}; expected (H, W) or (H, W, C)")
    mask = result.mask.reshape(-1, *found)
    if len(found) == 3 and (shape is not None or found[2] in (1, 3)):
        mask = mask.max(3)
    elif len(found) == 3 and found[0] in (1, 3):
        mask = mask.max(1)
    return mask.mean(0) if mask.ndim == 3 else None


def _draw_counts(axes: Any, result: Support) -> None:
    counts = result.counts.ravel()
    low, high = int(counts.min()), int(counts.max())
    step = -(-(high - low + 1) // MOST_BARS)  # whole numbers of inputs
    edges = np.arange(low, high + step + 1, step) - 0.5
    axes.hist(counts, edges, color=BLUE, rwidth=0.9 if len(edges) < MOST_BARS // 2 else 1.0)
    axes.set_xlabel(f"inputs that matter (of {result.inputs:,})", fontsize=PRINT, color=INK)
    axes.set_ylabel("samples" if result.counts.ndim == 1 else "units of samples", fontsize=PRINT, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=PRINT - 1, length=2, color=FAINT, labelcolor=INK)
    for axis in (axes.xaxis, axes.yaxis):
        axis.get_major_locator().set_params(integer=True, nbins=4)


def _draw_often(axes: Any, bar: Any, often: np.ndarray) -> None:
    drawn = axes.imshow(often, cmap=UNSIGNED, vmin=0, vmax=float(often.max()) or 1.0, interpolation="nearest")
    bare(axes, FAINT)
    axes.set_xlabel("how often", fontsize=PRINT, color=INK, labelpad=5)
    drawn.figure.colorbar(drawn, cax=bar).outline.set_visible(False)
    bar.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}".rstrip("%") if often.max() < 0.01 else f"{value:.0%}")
    bar.tick_params(labelsize=PRINT - 1, length=2, color=FAINT, labelcolor=INK)
