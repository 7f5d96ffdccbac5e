"""Heat maps over the plane of two features: an output and its derivatives, with contours of the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from wrt.errors import InputError, OptionError, suggest
from wrt.plots.page import line, wrapped
from wrt.plots.panels import FAINT, INK, Scale
from wrt.plots.style import PRINT, WIDTH, check_owner, given, panel, sheet, slope, small_ticks
from wrt.slices import Surface

SEQUENTIAL = "viridis"
LEFT, BESIDE, BETWEEN = 0.46, 0.45, 0.1  # inches: labels, a colour bar with its ticks, two columns
LOWER, UPPER, TALL = 0.4, 0.2, 0.9  # below all, above each panel, a panel
BAR = 0.06
CONTAINED = (0.5, 0.9)  # of the rows, within a contour
FINE, SMOOTH = 64, 2.5  # bins along each feature for contours, and the width of the smoothing in bins
FEW = 50  # rows are dots
PLACES = {0: [(0, 0)], 1: [(0, 0), (1, 0), (1, 1)], 2: [(0, 0), (1, 0), (1, 1), (2, 0), (0, 1), (2, 1)]}
KINDS = ("output", "first", "second")


def surface(
    result: Surface,
    ax: Any = None,
    *,
    scales: Mapping[str, Any] | None = None,
    contours: bool = True,
    title: str | None = None,
    figure: Any = None,
) -> Any:
    """An output and its first and second derivatives over the plane of two features, with contours of the data.

    Derivatives are red where they are positive and blue where they are negative. The contours hold 50 % and 90 % of
    the rows that lie in the plane; less than 50 of them are dots. Grey is what is not finite.

    Args:
        result: of `wrt.surface`.
        ax: matplotlib axes to draw in, one for each panel, in the order output, ∂a, ∂b, ∂a², ∂a∂b, ∂b²; a new figure
            otherwise.
        scales: fixed ends of the colours: `{"output": (0, 1), "first": 0.5, "second": 2}`, of which derivatives go from
            minus that to plus that. By default each panel has its own, beyond which one in a hundred points may lie.
        contours: whether to draw the data.
        title: above everything.
        figure: a matplotlib figure to draw in; a new one of pyplot otherwise, as wide as a column of a paper.

    Returns:
        The matplotlib figure: the panels, and behind them their colour bars.

    Raises:
        InputError: not a `wrt.Surface`, or axes that do not fit.
        OptionError: scales that cannot be, or options that exclude each other.
        EngineNotInstalledError: matplotlib is missing.

    Example:
        >>> import numpy as np, wrt
        >>> x = np.random.default_rng(0).normal(size=(200, 2))
        >>> found = wrt.surface(lambda x: x[:, 0] * x[:, 1], x, order=1, grid=5, names=["pt [GeV]", "eta"])
        >>> print(*(axes.get_title() for axes in wrt.plots.surface(found).axes[:3]))
        output ∂y/∂pt ∂y/∂eta
    """
    if not isinstance(result, Surface):
        raise InputError(f"result is a {type(result).__name__}; expected what wrt.surface returns")
    check_owner(ax, title, figure)
    chosen = _scales(scales, result.order)
    a, b = result.names
    names = ["output", slope(a), slope(b), slope(a, a), slope(a, b), slope(b, b)][: len(PLACES[result.order])]
    every = _made(result, contours, title, figure) if ax is None else [(one, None) for one in given(ax, names)]
    bars = []
    for number, ((axes, bar), values, name) in enumerate(zip(every, _panels(result), names, strict=True)):
        drawn = _draw(axes, result, values, _scale(values, KINDS[min(1, number) + (number > 2)], chosen))
        axes.set_title(name, fontsize=PRINT, color=INK, pad=3)
        if contours:
            _draw_data(axes, result)
        bars.append((drawn, axes, bar))
    _label(every, result, ax is None)
    for drawn, axes, bar in bars:
        _draw_bar(drawn, axes, bar)
    return every[0][0].figure


def _panels(result: Surface) -> list[np.ndarray]:
    parts = [result.output[None], result.first, result.second]
    return [values for part in parts if part is not None for values in part]


def _scales(given: Any, order: int) -> dict[str, tuple[float, float]]:
    """The fixed ends, by kind."""
    found: dict[str, tuple[float, float]] = {}
    if given is not None and not isinstance(given, Mapping):
        raise OptionError(f'scales={given!r}; expected a dict, such as {{"output": (0, 1), "first": 0.5}}')
    for name, ends in (given or {}).items():
        if name not in KINDS[: order + 1]:
            raise OptionError(f"scales={name!r} is not drawn.{suggest(str(name), KINDS[: order + 1])}")
        try:
            low, high = map(float, ends) if name == "output" else (-float(ends), float(ends))
        except (TypeError, ValueError) as error:
            raise OptionError(_misfit(name, ends)) from error
        if not (np.isfinite([low, high]).all() and low < high):
            raise OptionError(_misfit(name, ends))
        found[name] = low, high
    return found


def _misfit(name: str, ends: Any) -> str:
    wanted = "(low, high)" if name == "output" else "a positive number, the end on both sides of zero"
    return f"scales: {name!r} is {ends!r}; expected {wanted}"


def _scale(values: np.ndarray, kind: str, chosen: Mapping[str, tuple[float, float]]) -> Scale:
    if kind != "output":
        own = Scale.of(values, True, None)
        return Scale(*chosen[kind], own.colours) if kind in chosen else own
    finite = values[np.isfinite(values)]
    low, high = chosen.get(kind) or ((finite.min(), finite.max()) if finite.size else (0.0, 1.0))
    spare = 0.5 * (abs(low) or 1.0) if low == high else 0.0
    return Scale(float(low - spare), float(high + spare), SEQUENTIAL)


def _made(result: Surface, contours: bool, title: str | None, figure: Any) -> list[tuple[Any, Any]]:
    """New panels, each with the place of its colour bar."""
    places = PLACES[result.order]
    down, across = 1 + max(row for row, _ in places), 1 + max(column for _, column in places)
    wide = (WIDTH - LEFT - across * BESIDE - (across - 1) * BETWEEN) / across
    tall = TALL if across > 1 else 0.8 * wide
    note = wrapped(_note(result, contours), WIDTH - 0.1, PRINT - 1.5)
    below = (1 + note.count("\n")) * line(PRINT - 1)
    height = down * (UPPER + tall) + LOWER + below
    figure, head = sheet(figure, height, title)
    figure.text(0.05 / WIDTH, 0.04 / (height + head), note, fontsize=PRINT - 1, color="0.4", linespacing=1.1)
    corners = [(LEFT + j * (wide + BESIDE + BETWEEN), head + UPPER + i * (tall + UPPER)) for i, j in places]
    panels = [panel(figure, left, top, wide, tall) for left, top in corners]
    bars = [panel(figure, left + wide + 0.05, top, BAR, tall) for left, top in corners]
    return list(zip(panels, bars, strict=True))


def _note(result: Surface, contours: bool) -> str:
    """What is not in the panels: the other features, and the contours."""
    parts = []
    if result.rows.shape[1] > 2:
        ways = {"median": "at their medians", "values": "held", "marginal": f"averaged over {len(result.rows)} rows"}
        parts.append(f"other features {ways[result.others]}")
    if contours and _inside(result).sum() >= FEW:
        parts.append("lines hold 50 % and 90 % of the data")
    return "; ".join(parts)


def _extent(result: Surface) -> list[float]:
    """Half a step around the points of the grid."""
    ends: list[float] = []
    for axis in result.axes:
        half = (axis[-1] - axis[0]) / (len(axis) - 1) / 2
        ends += [float(axis[0] - half), float(axis[-1] + half)]
    return ends


def _draw(axes: Any, result: Surface, values: np.ndarray, scale: Scale) -> Any:
    axes.set_facecolor("0.85")
    return axes.imshow(
        np.where(np.isfinite(values), values, np.nan).T,
        origin="lower",
        extent=_extent(result),
        aspect="auto",
        cmap=scale.colours,
        vmin=scale.low,
        vmax=scale.high,
        interpolation="nearest",
    )


def _draw_data(axes: Any, result: Surface) -> None:
    from matplotlib.patheffects import withStroke

    left, right, low, high = _extent(result)
    x, y = result.data.T
    inside = _inside(result)
    if inside.sum() < FEW:
        axes.plot(x[inside], y[inside], ".", color=INK, markersize=3, markeredgecolor="white", markeredgewidth=0.4)
    else:
        across, up, density, levels = _density(x[inside], y[inside], (left, right, low, high))
        drawn = axes.contour(across, up, density.T, levels=levels, colors="black", linewidths=0.7)
        drawn.set_path_effects([withStroke(linewidth=1.6, foreground="white", alpha=0.8)])
    axes.set(xlim=(left, right), ylim=(low, high))


def _inside(result: Surface) -> np.ndarray:
    """Which rows of the data lie in the plane."""
    left, right, low, high = _extent(result)
    x, y = result.data.T
    return np.asarray((x >= left) & (x <= right) & (y >= low) & (y <= high))


def _density(x: np.ndarray, y: np.ndarray, ends: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[float]]:
    """Centres of bins, a smooth density, and the levels above which these shares of the rows lie, rising."""
    from scipy.ndimage import gaussian_filter

    left, right, low, high = ends
    counts, across, up = np.histogram2d(x, y, FINE, [[left, right], [low, high]])
    density = gaussian_filter(counts, SMOOTH, mode="constant")
    falling = np.sort(density, axis=None)[::-1]
    share = np.cumsum(falling) / falling.sum()
    levels = sorted({float(falling[np.searchsorted(share, part)]) for part in CONTAINED})
    return (across[1:] + across[:-1]) / 2, (up[1:] + up[:-1]) / 2, density, levels


def _label(every: list[tuple[Any, Any]], result: Surface, own: bool) -> None:
    """Names beside the outer panels, or all where axes were given."""
    places = PLACES[result.order]
    lowest = max(row for row, _ in places)
    for (axes, _), (row, column) in zip(every, places, strict=True):
        small_ticks(axes)
        axes.locator_params(nbins=4)
        below, beside = not own or row == lowest, not own or column == 0
        axes.set_xlabel(result.names[0] if below else "", fontsize=PRINT, color=INK, labelpad=2)
        axes.set_ylabel(result.names[1] if beside else "", fontsize=PRINT, color=INK, labelpad=2)
        axes.tick_params(labelbottom=below, labelleft=beside)
        axes.spines[:].set(color=FAINT, linewidth=0.6)


def _draw_bar(drawn: Any, axes: Any, place: Any) -> None:
    values, (low, high) = drawn.get_array().compressed(), drawn.get_clim()
    beyond = (bool((values < low).any()), bool((values > high).any()))
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[beyond]
    where = {"ax": axes} if place is None else {"cax": place}
    bar = axes.figure.colorbar(drawn, extend=extend, extendfrac=0.04, **where)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=PRINT - 1.5, length=2, color=FAINT, labelcolor=INK, pad=1.5)
    bar.ax.locator_params(nbins=4)
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}".replace("-", "\N{MINUS SIGN}"))
