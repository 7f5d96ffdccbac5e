"""Singular values of Jacobians, from the largest to the smallest."""

from __future__ import annotations

from typing import Any

import numpy as np

from wrt.errors import InputError
from wrt.plots.arrays import host
from wrt.plots.panels import INK
from wrt.plots.style import COLOURS, PRINT, dress, single

HEIGHT = 2.1  # inches
MOST = 200  # samples with a line of their own


def spectrum(s: Any, ax: Any = None, *, title: str | None = None, figure: Any = None) -> Any:
    """The singular values of every sample's Jacobian on a logarithmic scale, and their median.

    How many are not small is how many directions of the input matter. Zeros are not drawn.

    Args:
        s: `(N, k)`, the second of what `wrt.linearize(model, x).svd(k)` returns, or all three.
        ax: matplotlib axes to draw in; a new figure otherwise.
        title: above everything.
        figure: a matplotlib figure to draw in; a new one of pyplot otherwise, as wide as a column of a paper.

    Returns:
        The matplotlib figure.

    Raises:
        InputError: no singular values, or none that is positive; axes that do not fit.
        OptionError: options that exclude each other.
        EngineNotInstalledError: matplotlib is missing.

    Example:
        >>> import numpy as np, wrt
        >>> J = wrt.linearize(lambda x: x * np.array([1.0, 5.0, 2.0]), np.ones((4, 3)))
        >>> wrt.plots.spectrum(J.svd(3)).axes[0].get_yscale()
        'log'
    """
    values = host(s[1] if isinstance(s, tuple) and len(s) == 3 else s, "s").astype(float)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all() or (values < 0).any():
        raise InputError(f"s has shape {values.shape}; expected singular values (N, k), finite and not negative")
    if not values.any():
        raise InputError("all singular values are zero; the output does not depend on the input there")
    axes = single(ax, title, figure, HEIGHT)
    numbers, shown = np.arange(1, values.shape[1] + 1), np.where(values > 0, values, np.nan)
    mark = "." if values.shape[1] <= 20 else None
    for row in shown[:MOST]:
        axes.plot(numbers, row, color=COLOURS[5], linewidth=0.5, alpha=0.5, marker=mark, markersize=2)
    middle = np.median(values, 0)
    words = f"median of {len(values)}" if len(values) > 1 else None
    above = np.where(middle > 0, middle, np.nan)
    axes.plot(numbers, above, color=COLOURS[0], linewidth=1.4, marker=mark, label=words)
    axes.set_yscale("log")
    dress(axes, "number", "singular value")
    _number(axes.yaxis, float(np.nanmax(shown) / np.nanmin(shown)))
    axes.xaxis.get_major_locator().set_params(integer=True, nbins=6)
    if words:
        axes.legend(fontsize=PRINT - 1, labelcolor=INK, frameon=False)
    return axes.figure


def _number(axis: Any, ratio: float) -> None:
    """Numbers at powers of ten, and between them where there are few."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    subs = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if ratio < 10 else (1.0, 2.0, 5.0) if ratio < 100 else (1.0,)
    axis.set_major_locator(LogLocator(subs=subs, numticks=7))
    if ratio < 100:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
