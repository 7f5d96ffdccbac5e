"""Every feature against every other one, by class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from wrt.errors import InputError, OptionError, suggest
from wrt.plots.arrays import host
from wrt.plots.page import line
from wrt.plots.panels import INK
from wrt.plots.style import COLOURS, HEAD, PRINT, WIDTH, panel, sheet, small_ticks, stacked

LEFT, LOWER, UPPER, RIGHT, BETWEEN = 0.48, 0.42, 0.08, 0.08, 0.07  # inches
SMALLEST = 0.68  # a panel
MOST = 10  # features
ENDS = (0.5, 99.5)  # percentiles that are shown


def pairs(
    x: Any,
    y: Any = None,
    *,
    names: Sequence[str] | None = None,
    features: Sequence[Any] | None = None,
    classes: Sequence[str] | None = None,
    points: int = 1000,
    bins: int = 30,
    seed: int = 0,
    title: str | None = None,
    figure: Any = None,
) -> Any:
    """Histograms of every feature, and every feature against every other one, by class.

    Histograms are of all rows, each class with area 1. Of the dots each class has the same number at most, drawn by
    chance and in mixed order, so that none hides the others. The axes go from the 0.5th to the 99.5th percentile.

    Args:
        x: features `(N, F)`.
        y: labels `(N,)`, integers or words, of at most seven classes; none without classes.
        names: of all F features, with units if there are any; by default `x0`, `x1`, ...
        features: which ones, by number or name; by default all, of which there may be ten.
        classes: names for the labels, in rising order; by default the labels themselves.
        points: dots in a panel, of all classes together.
        bins: of the histograms.
        seed: of the choice of dots.
        title: above everything.
        figure: a matplotlib figure to draw in; a new one of pyplot otherwise, as wide as a column of a paper where
            there are no more than four features.

    Returns:
        The matplotlib figure: the panels of the lower triangle, row by row, the last of each row a histogram.

    Raises:
        InputError: no table of finite numbers, or labels that do not fit.
        OptionError: names, features or numbers that cannot be.
        EngineNotInstalledError: matplotlib is missing.

    Example:
        >>> import numpy as np, wrt
        >>> x = np.random.default_rng(0).normal(size=(50, 3))
        >>> len(wrt.plots.pairs(x, x[:, 0] > 0, names=["pt [GeV]", "eta", "phi"]).axes)
        6
    """
    for name, value in (("points", points), ("bins", bins)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise OptionError(f"{name}={value!r}; expected an integer of at least 1")
    values, titles = _table(x, names, features)
    labels, words = _classes(y, classes, len(values))
    grid, titles = _grid(titles, title, figure)
    ends = [_ends(column) for column in values.T]
    shown = _drawn(labels, len(words), points, seed)
    for (row, column), axes in grid.items():
        if row == column:
            _draw_counts(axes, values[:, row], labels, len(words), np.linspace(*ends[row], bins + 1))
        else:
            _draw_dots(axes, values[shown][:, [column, row]], labels[shown])
            axes.set_ylim(*ends[row])
        axes.set_xlim(*ends[column])
        _label(axes, titles, row, column)
    if y is not None:
        _write_legend(grid[0, 0], words, len(titles) == 1)
    return grid[0, 0].figure


def _table(x: Any, names: Any, features: Any) -> tuple[np.ndarray, list[str]]:
    """The chosen columns and their names."""
    values = host(x, "x").astype(float)
    if values.ndim != 2 or not values.size:
        raise InputError(f"x has shape {values.shape}; expected features (N, F): x.reshape(len(x), -1), or x[:, None]")
    bad = int((~np.isfinite(values)).any(1).sum())
    if bad:
        raise InputError(f"{bad} of {len(values)} rows of x hold NaN or infinite values; leave them out")
    count = values.shape[1]
    titles = [f"x{k}" for k in range(count)] if names is None else list(map(str, names))
    if isinstance(names, str) or len(titles) != count or len(set(titles)) != count:
        raise OptionError(f"names={names!r}; expected {count} different names, one for each feature")
    chosen = list(range(count)) if features is None else [_number(one, titles) for one in _each(features)]
    if not chosen or len(set(chosen)) != len(chosen):
        raise OptionError(f"features={features!r}; expected different features, by number or name")
    if len(chosen) > MOST:
        raise InputError(f"{len(chosen)} features are too many to read; choose at most {MOST} with features=")
    return values[:, chosen], [titles[k] for k in chosen]


def _each(features: Any) -> list[Any]:
    return [features] if isinstance(features, str) or not hasattr(features, "__iter__") else list(features)


def _number(feature: Any, names: list[str]) -> int:
    if feature in names:
        return names.index(feature)
    if isinstance(feature, int | np.integer) and not isinstance(feature, bool) and -len(names) <= feature < len(names):
        return int(feature) % len(names)
    raise OptionError(f"features: there is no {feature!r}.{suggest(str(feature), names)}")


def _classes(y: Any, classes: Any, count: int) -> tuple[np.ndarray, list[str]]:
    """The number of the class of each row, and their names."""
    if y is None:
        if classes is not None:
            raise OptionError("classes= are names of the labels y, of which there are none")
        return np.zeros(count, int), [""]
    labels = np.asarray(y)
    if labels.shape != (count,) or labels.dtype.kind not in "biuUS":
        raise InputError(f"y has shape {labels.shape}, {labels.dtype}; expected integers or words ({count},)")
    found, places = np.unique(labels, return_inverse=True)
    if len(found) > len(COLOURS):
        raise InputError(f"y holds {len(found)} classes; expected at most {len(COLOURS)}, which can be told apart")
    words = list(map(str, found if classes is None else classes))
    if isinstance(classes, str) or len(words) != len(found):
        raise OptionError(f"classes={classes!r}; expected {len(found)} names, for {', '.join(map(str, found))}")
    return places, words


def _grid(names: list[str], title: str | None, figure: Any) -> tuple[dict[tuple[int, int], Any], list[str]]:
    """The panels of the lower triangle, by row and column; and the names in lines that fit them."""
    count = len(names)
    between = (count - 1) * BETWEEN
    cell = max(SMALLEST, (WIDTH - LEFT - RIGHT - between) / max(count, 2))
    labels = [stacked(name, cell) if count > 1 else name for name in names]
    more = max(label.count("\n") for label in labels) * line(PRINT)
    wide = cell if count > 1 else WIDTH - LEFT - RIGHT
    legend = HEAD if count == 1 else 0.0
    height = UPPER + legend + count * cell + between + LOWER + more
    figure, head = sheet(figure, height, title, max(WIDTH, LEFT + more + count * cell + between + RIGHT))
    step, top = cell + BETWEEN, head + legend + UPPER
    panels = {
        (row, column): panel(figure, LEFT + more + column * step, top + row * step, wide, cell)
        for row in range(count)
        for column in range(row + 1)
    }
    return panels, labels


def _ends(column: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(column, ENDS)
    low, high = (low, high) if low < high else (column.min(), column.max())
    spare = 0.03 * (high - low) or 0.5 * (abs(low) or 1.0)
    return float(low - spare), float(high + spare)


def _drawn(labels: np.ndarray, classes: int, points: int, seed: int) -> np.ndarray:
    """Rows that are dots, in mixed order."""
    rng = np.random.default_rng(seed)
    order, most = rng.permutation(len(labels)), max(1, points // classes)
    return rng.permutation(np.concatenate([order[labels[order] == k][:most] for k in range(classes)]))


def _draw_counts(axes: Any, column: np.ndarray, labels: np.ndarray, classes: int, edges: np.ndarray) -> None:
    for k in range(classes):
        own = column[labels == k]
        weights = np.full(len(own), 1 / (len(own) * (edges[1] - edges[0])))
        for style in ({"histtype": "stepfilled", "alpha": 0.15}, {"histtype": "step", "linewidth": 1.0}):
            axes.hist(own, edges, weights=weights, color=COLOURS[k], **style)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)


def _draw_dots(axes: Any, points: np.ndarray, labels: np.ndarray) -> None:
    colours = np.array(COLOURS)[labels]
    axes.scatter(*points.T, s=2.5, c=colours, alpha=0.6, linewidths=0, rasterized=True)


def _label(axes: Any, names: list[str], row: int, column: int) -> None:
    """Names and numbers beside the outer panels only."""
    last = row == len(names) - 1
    axes.set_xlabel(names[column] if last else "", fontsize=PRINT, color=INK, labelpad=2)
    axes.set_ylabel(names[row] if column == 0 and row else "", fontsize=PRINT, color=INK, labelpad=2)
    axes.spines[["top", "right"]].set_visible(False)
    small_ticks(axes)
    axes.locator_params(axis="x", nbins=3, steps=[1, 2, 5, 10])
    if row != column:
        axes.locator_params(axis="y", nbins=4, steps=[1, 2, 5, 10])
    axes.tick_params(labelbottom=last, labelleft=column == 0 and row > 0)


def _write_legend(axes: Any, words: list[str], alone: bool) -> None:
    """In the upper triangle, which is empty; above a single panel."""
    from matplotlib.patches import Patch

    handles = [Patch(color=COLOURS[k], label=word) for k, word in enumerate(words)]
    style = {"fontsize": PRINT, "labelcolor": INK, "frameon": False, "handlelength": 0.8, "labelspacing": 0.3}
    if alone:
        place = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.0), "ncols": 4}
    else:
        place = {"loc": "upper left", "bbox_to_anchor": (1.08, 1.05)}
    axes.legend(handles=handles, borderaxespad=0.0, **place, **style)
