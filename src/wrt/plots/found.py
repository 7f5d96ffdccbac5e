"""The images that `wrt.maximize` found."""

from __future__ import annotations

from typing import Any

import numpy as np

from wrt.errors import InputError
from wrt.plots.arrays import host, pictures
from wrt.plots.page import LEFT, SMALL, Page, Texts, score_table, title_table
from wrt.plots.panels import CLIPPED, FAINT, bare
from wrt.results import Maximization

ACROSS = 6  # images side by side, at most


def draw_found(
    result: Maximization,
    shape: Any,
    data_format: str | None,
    titles: Any,
    scores: Any,
    title: Any,
    note: Any,
    cols: int | None,
    figure: Any,
) -> Any:
    """A page of the images of all rows, each with its unit above and the probability that it reached below."""
    images = pictures(result.x, shape, "result.x", data_format)
    count = len(images)
    above = title_table(_titles(result) if titles is None else titles, count, 1)
    below = _below(result, scores, count)
    texts = Texts([""], above, below, [0 if done or result.wanted is None else 1 for done in result.reached])
    cols = cols or -(-count // -(-count // ACROSS))  # rows of the same length
    page = Page.of(images.shape, 1, cols, texts, (title, note), right=LEFT)
    figure = page.begin(figure, title, note)
    ink = images.ndim == 3 and max(images.shape[1:]) <= SMALL
    for sample, image in enumerate(images):
        (axes,) = page.axes(figure, sample)
        seen = contrasted(image)
        axes.imshow(1 - seen if ink else seen, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        bare(axes, FAINT)
        page.texts.write([axes], sample, sample < page.cols)
    return figure


def contrasted(image: np.ndarray) -> np.ndarray:
    """Brightness from 0 to 1: from the least to the largest value, or with signs zero in the middle; without outliers.

    The outermost hundredth of the entries lies beyond the ends, as in the colours of maps.
    """
    values = image.astype(float)
    low, high = _ends(values[np.isfinite(values)])
    found: np.ndarray = np.clip((np.nan_to_num(values) - low) / ((high - low) or 1.0), 0, 1)
    return found


def _ends(values: np.ndarray) -> tuple[float, float]:
    """What becomes black and white."""
    if not values.size:
        return 0.0, 1.0
    if (values < 0).any():
        end = float(np.quantile(np.abs(values), 1 - CLIPPED, method="lower")) or float(np.abs(values).max())
        return -end, end
    low = float(np.quantile(values, CLIPPED / 2, method="higher"))
    high = float(np.quantile(values, 1 - CLIPPED / 2, method="lower"))
    return (low, high) if low < high else (float(values.min()), float(values.max()))


def _titles(result: Maximization) -> list[str]:
    if result.units is not None:
        return [f"unit {unit}" for unit in result.units]
    return [f"row {row}" for row in range(len(result.steps))] if len(result.steps) > 1 else [""]


def _below(result: Maximization, scores: Any, count: int) -> list[list[str]]:
    """The probabilities reached, or what was given."""
    if scores is None and (result.wanted is None or result.units is None):
        return [[""]] * count
    if scores is None:
        reached = np.asarray(result.after)[np.arange(count), result.units]
        return [[f"{probability:.1%}"] for probability in reached]
    words = np.asarray(scores).dtype.kind == "U"
    found = np.asarray(scores) if words else host(scores, "scores")
    if found.shape != (count,):
        raise InputError(f"scores has shape {found.shape}; expected ({count},), one for every row")
    return score_table(found, count, 1, False)[0]
