"""What pictures at the width of a column of a paper share: colours, letters, axes, and how derivatives are written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from wrt.errors import InputError, OptionError
from wrt.plots.page import begun, wrapped
from wrt.plots.panels import FAINT, INK

WIDTH = 3.4  # inches
HEAD = 0.2  # of a title
PRINT = 8  # points
LETTER = 0.0085  # of a letter, in inches per point
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe and Ito, no yellow
DOTTED = (0, (1, 1))
MOST_LINES = 2 * len(COLOURS)  # that can be told apart
UNIT = re.compile(r"\s*(\[[^\]]*\]|\([^)]*\))\s*$")
LONGEST = 14  # letters of a name within a symbol


def line_style(number: int) -> dict[str, Any]:
    """A colour for each of the first lines, and dots for as many again."""
    again, colour = divmod(number, len(COLOURS))
    return {"color": COLOURS[colour], "linestyle": DOTTED if again else "-"}


def check_owner(ax: Any, title: Any, figure: Any) -> None:
    """Axes of one's own come with a figure.

    Raises:
        OptionError: a title or a figure beside them.
    """
    if ax is not None and (figure is not None or title is not None):
        raise OptionError("ax= excludes figure= and title=: axes have a figure, and a title by ax.set_title")


def given(ax: Any, names: Sequence[str], way: str = "") -> list[Any]:
    """The axes to draw in, one for each panel.

    Raises:
        InputError: another number of them, or no axes.
    """
    found = list(np.ravel(np.asarray(ax, object)))
    if len(found) != len(names) or not all(hasattr(one, "plot") for one in found):
        raise InputError(f"ax= holds {len(found)} axes; expected {len(names)}, for {', '.join(map(repr, names))}{way}")
    return found


def sheet(figure: Any, height: float, title: str | None, width: float = WIDTH) -> tuple[Any, float]:
    """A figure with its title, and the height that the title takes; `height` is without it."""
    head = HEAD if title else 0.0
    figure = begun(figure, (width, height + head))
    if title:
        figure.text(0.05 / width, 1 - 0.05 / (height + head), title, va="top", fontsize=PRINT + 1, color=INK)
    return figure, head


def panel(figure: Any, left: float, top: float, width: float, height: float) -> Any:
    """New axes, in inches from the upper left corner."""
    across, down = figure.get_size_inches()
    return figure.add_axes((left / across, 1 - (top + height) / down, width / across, height / down))


def single(ax: Any, title: str | None, figure: Any, height: float) -> Any:
    """The axes of a picture of one panel, new ones where none are given."""
    check_owner(ax, title, figure)
    if ax is not None:
        return given(ax, ["the panel"])[0]
    left, right, lower, upper = 0.52, 0.08, 0.4, 0.08
    figure, head = sheet(figure, height, title)
    return panel(figure, left, head + upper, WIDTH - left - right, height - lower - upper)


def dress(axes: Any, across: str, up: str) -> None:
    """Labels and ticks that can be read, and no frame."""
    axes.set_xlabel(across, fontsize=PRINT, color=INK)
    axes.set_ylabel(up, fontsize=PRINT, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    small_ticks(axes)


def small_ticks(axes: Any) -> None:
    """Ticks whose letters are a point smaller than the labels."""
    axes.tick_params(labelsize=PRINT - 1, length=2, color=FAINT, labelcolor=INK)
    for text in (axes.xaxis.get_offset_text(), axes.yaxis.get_offset_text()):
        text.set_fontsize(PRINT - 1)


def slope(*names: str) -> str:
    """`∂y/∂a`, `∂²y/∂a²` or `∂²y/∂a∂b`, without the units of the names; `y` without names."""
    short = [_short(name) for name in names]
    if not short:
        return "y"
    if len(short) == 1:
        return f"∂y/∂{short[0]}"
    return f"∂²y/∂{short[0]}²" if short[0] == short[1] else f"∂²y/∂{short[0]}∂{short[1]}"


def stacked(name: str, width: float) -> str:
    """A name in lines that fit the width in inches, the unit in one of its own where it does not fit beside it."""
    if len(name) * LETTER * PRINT * 0.8 <= width or "$" in name:
        return name
    return wrapped(UNIT.sub(r"\n\1", name), width, PRINT * 0.8)


def _short(name: str) -> str:
    found = UNIT.sub("", name) or name
    if len(found) > LONGEST and "$" not in found:
        found = f"{found[: LONGEST - 1]}…"
    return f"({found})" if " " in found and "$" not in found else found
