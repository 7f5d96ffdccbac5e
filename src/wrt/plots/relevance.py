"""Which features matter, and which pairs of them, ranked."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np

from wrt.errors import InputError, OptionError
from wrt.plots.panels import FAINT, INK
from wrt.plots.style import COLOURS, LETTER, PRINT, WIDTH, check_owner, given, panel, sheet
from wrt.summary import Index, Moments, Relevance

RIGHT, LOWER, UPPER, BETWEEN, ROW, SPARE = 0.12, 0.42, 0.28, 0.5, 0.155, 0.08  # inches
LONGEST = {1: 24, 2: 13}  # letters of a name, by order
RISES, FALLS = COLOURS[0], COLOURS[1]
KINDS = ("features", "pairs of features")
SYMBOLS = {
    "std": (r"$|\partial y/\partial x_i|\,\sigma_i$", r"$|\partial^2 y/\partial x_i\partial x_j|\,\sigma_i\sigma_j$"),
    "whiten": (r"$|\partial y/\partial z_i|$, whitened", r"$|\partial^2 y/\partial z_i\partial z_j|$, whitened"),
    None: (r"$|\partial y/\partial x_i|$, per unit", r"$|\partial^2 y/\partial x_i\partial x_j|$, per units"),
}


def relevance(
    result: Relevance,
    ax: Any = None,
    *,
    output: int | str | None = None,
    order: int | None = None,
    top: int = 10,
    title: str | None = None,
    figure: Any = None,
) -> Any:
    """Mean magnitudes of the derivatives with their intervals, the highest first; pairs of features in a panel below.

    The colour of a bar is the sign of the mean derivative, and a diamond its magnitude: where that lies far below the
    end of the bar, signs cancel. Of K outputs each is a colour of dots.

    Args:
        result: of `wrt.relevance`.
        ax: matplotlib axes to draw in, as many as there are panels; a new figure otherwise.
        output: one of K outputs, by number or name; by default all of them, if there are no more than seven.
        order: 1 for features or 2 for pairs alone.
        top: how many of each, at most.
        title: above everything.
        figure: a matplotlib figure to draw in; a new one of pyplot otherwise, as wide as a column of a paper.

    Returns:
        The matplotlib figure.

    Raises:
        InputError: not a `wrt.Relevance`, or axes that do not fit.
        OptionError: an output or order that there is not, or options that exclude each other.
        EngineNotInstalledError: matplotlib is missing.

    Example:
        >>> import numpy as np, wrt
        >>> x = np.random.default_rng(0).normal(size=(50, 2))
        >>> found = wrt.relevance(lambda x: x[:, 0] * x[:, 1] + x[:, 0] ** 2, x, names=["pt", "eta"])
        >>> print(*(label.get_text() for label in wrt.plots.relevance(found).axes[1].get_yticklabels()), sep=", ")
        pt², pt · eta, eta²
    """
    _check(result, ax, top, title, figure)
    orders = range(1, result.order + 1) if order is None else [order]
    many = bool(result.outputs) and output is None
    if many and len(result.outputs) > len(COLOURS):
        raise OptionError(
            f"the result has {len(result.outputs)} outputs, more than {len(COLOURS)} colours; choose one with output="
        )
    ranked = {d: result.ranking(d, output)[:top] for d in orders}
    words = {d: _words(result, ranked[d], d) for d in orders}
    panels = [KINDS[d - 1] for d in orders]
    axes = _made(words, title, figure) if ax is None else given(ax, panels, "; order=1 draws features alone")
    for one, d in zip(axes, ranked, strict=True):
        (_dots if many else _bars)(one, result.of(d, output), ranked[d], result.outputs)
        _label(one, words[d], f"mean {SYMBOLS[result.standardize][d - 1]}")
    _write_legend(axes[0], result.outputs if many else (), ax is None)
    return axes[0].figure


def _check(result: Any, ax: Any, top: Any, title: Any, figure: Any) -> None:
    if not isinstance(result, Relevance):
        raise InputError(f"result is a {type(result).__name__}; expected what wrt.relevance returns")
    check_owner(ax, title, figure)
    if isinstance(top, bool) or not isinstance(top, int | np.integer) or top < 1:
        raise OptionError(f"top={top!r}; expected an integer of at least 1")


def _words(result: Relevance, ranked: list[Index], order: int) -> list[str]:
    short = dataclasses.replace(result, names=tuple(_shortened(name, LONGEST[order]) for name in result.names))
    return [short.name(index) for index in ranked]


def _shortened(name: str, longest: int) -> str:
    """Formulas between dollars stay whole; a single dollar is a dollar."""
    if name.count("$") % 2:
        name = name.replace("$", r"\$")
    return name if len(name) <= longest or "$" in name else f"{name[: longest - 1]}…"


def _made(words: dict[int, list[str]], title: str | None, figure: Any) -> list[Any]:
    """New axes below one another, with room for the names."""
    left = 0.16 + max(len(re.sub(r"[$\\{}]", "", word)) for own in words.values() for word in own) * LETTER * (
        PRINT - 1
    )
    heights = [len(own) * ROW + SPARE for own in words.values()]
    figure, head = sheet(figure, UPPER + sum(heights) + BETWEEN * (len(heights) - 1) + LOWER, title)
    tops = [head + UPPER + sum(heights[:k]) + BETWEEN * k for k in range(len(heights))]
    wide = WIDTH - left - RIGHT
    return [panel(figure, left, top, wide, tall) for top, tall in zip(tops, heights, strict=True)]


def _errors(size: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray | None:
    """Distances to the ends of the intervals; a magnitude is not below zero."""
    if not np.isfinite(low).all():
        return None
    return np.maximum([size - np.maximum(low, 0.0), high - size], 0.0)


def _bars(axes: Any, table: Moments, ranked: list[Index], _: tuple[str, ...]) -> None:
    where = tuple(np.transpose(ranked))
    size, mean, places = table.mean_abs[where], table.mean[where], np.arange(len(ranked))
    colours = np.where(mean < 0, FALLS, RISES)
    axes.barh(places, size, height=0.7, color=colours, linewidth=0)
    errors = _errors(size, table.abs_low[where], table.abs_high[where])
    if errors is not None:
        axes.errorbar(size, places, xerr=errors, fmt="none", ecolor=INK, elinewidth=0.8, capsize=1.5)
    style = {"color": "white", "markeredgecolor": INK, "markeredgewidth": 0.6, "markersize": 2.8}
    axes.plot(np.abs(mean), places, "D", clip_on=False, zorder=4, **style)


def _dots(axes: Any, table: Moments, ranked: list[Index], outputs: tuple[str, ...]) -> None:
    """A row of dots for every output, a little below one another."""
    where, places = tuple(np.transpose(ranked)), np.arange(len(ranked))
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    for number in range(len(outputs)):
        size, low, high = (array[number][where] for array in (table.mean_abs, table.abs_low, table.abs_high))
        shift = (number - (len(outputs) - 1) / 2) * 0.6 / len(outputs)
        style = {"color": COLOURS[number], "elinewidth": 0.8, "markersize": 2.8}
        axes.errorbar(size, places + shift, xerr=_errors(size, low, high), fmt="o", **style)


def _label(axes: Any, words: list[str], label: str) -> None:
    axes.set_yticks(range(len(words)), words)
    axes.set_ylim(len(words) - 0.4, -0.6)
    axes.set_xlim(left=0.0)
    axes.set_xlabel(label, fontsize=PRINT, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=PRINT - 1, length=2, color=FAINT, labelcolor=INK)
    axes.tick_params(axis="y", length=0)
    axes.locator_params(axis="x", nbins=5)
    axes.ticklabel_format(axis="x", scilimits=(-3, 4))
    axes.xaxis.get_offset_text().set_fontsize(PRINT - 1)


def _write_legend(axes: Any, outputs: tuple[str, ...], own: bool) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any]
    if outputs:
        colours = zip(outputs, COLOURS, strict=False)
        handles = [
            Line2D([], [], color=c, marker="o", markersize=2.8, lw=0, label=_shortened(o, LONGEST[2]))
            for o, c in colours
        ]
    else:
        diamond: dict[str, Any] = {
            "markerfacecolor": "white",
            "markeredgecolor": INK,
            "markeredgewidth": 0.6,
            "markersize": 2.8,
        }
        handles = [Patch(color=RISES, label="mean > 0"), Patch(color=FALLS, label="mean < 0")]
        handles += [Line2D([], [], marker="D", lw=0, label="|mean|", **diamond)]
    place: dict[str, Any] = {"loc": "best"}
    if own:
        place = {
            "loc": "lower right",
            "bbox_to_anchor": (1.0, 1.0),
            "ncols": min(len(handles), 4),
            "borderaxespad": 0.1,
        }
    style = {"fontsize": PRINT - 1, "labelcolor": INK, "frameon": False, "columnspacing": 0.9, "handletextpad": 0.3}
    axes.legend(handles=handles, handlelength=0.9, **place, **style)
