"""The mean derivative against the value of a feature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wrt.errors import InputError
from wrt.plots.panels import FAINT, INK
from wrt.plots.style import COLOURS, PRINT, dress, single, slope
from wrt.slices import Profile

HEIGHT = 1.9  # inches
EXPECTED = "expected what wrt.profile returns, or a dict of such by their labels"


def profile(
    result: Profile | Mapping[str, Profile], ax: Any = None, *, title: str | None = None, figure: Any = None
) -> Any:
    """The mean derivative in each bin of a feature: upright its standard error, across the bin.

    Args:
        result: of `wrt.profile`; or a dict of several of one feature by their labels, such as one for each class.
        ax: matplotlib axes to draw in; a new figure otherwise.
        title: above everything.
        figure: a matplotlib figure to draw in; a new one of pyplot otherwise, as wide as a column of a paper.

    Returns:
        The matplotlib figure.

    Raises:
        InputError: not a `wrt.Profile`, profiles of different features, or axes that do not fit.
        OptionError: options that exclude each other.
        EngineNotInstalledError: matplotlib is missing.

    Example:
        >>> import numpy as np, wrt
        >>> x = np.linspace(0, 1, 100)[:, None]
        >>> found = wrt.profile(lambda x: x[:, 0] ** 2, x, 0, names=["pt [GeV]"])
        >>> axes = wrt.plots.profile(found).axes[0]
        >>> axes.get_xlabel(), axes.get_ylabel()
        ('pt [GeV]', 'mean ∂y/∂pt')
    """
    every = _checked(result)
    first = next(iter(every.values()))
    axes = single(ax, title, figure, HEIGHT)
    if first.order:
        axes.axhline(0, color=FAINT, linewidth=0.8, linestyle="--", zorder=1)
    for number, (label, one) in enumerate(every.items()):
        wide = [one.centers - one.edges[:-1], one.edges[1:] - one.centers]
        style = {"color": COLOURS[number], "linewidth": 0.9, "markersize": 3.5}
        axes.errorbar(one.centers, one.mean, one.error, wide, fmt=".", label=label, **style)
    dress(axes, first.name, f"mean {slope(*[first.name] * first.order) if first.order else 'output'}")
    axes.locator_params(nbins=5)
    if len(every) > 1:
        axes.legend(fontsize=PRINT - 1, labelcolor=INK, frameon=False, handlelength=1.2)
    return axes.figure


def _checked(result: Any) -> dict[str, Profile]:
    every = dict(result) if isinstance(result, Mapping) else {"": result}
    for one in every.values():
        if not isinstance(one, Profile):
            raise InputError(f"result holds a {type(one).__name__}; {EXPECTED}")
    kinds = {(one.name, one.order) for one in every.values()}
    if len(kinds) != 1 or len(every) > len(COLOURS):
        found = ", ".join(f"{name!r} of order {order}" for name, order in sorted(kinds)) or "nothing"
        raise InputError(
            f"result holds {len(every)} profiles, of {found}; expected 1 to {len(COLOURS)} of one feature and order"
        )
    return {str(label): one for label, one in every.items()}
