"""Where the panels of a page lie, in inches, and what is written around them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wrt.errors import InputError
from wrt.plots.panels import FAINT, INK, need_matplotlib

SMALL = 32  # pixels; grey images up to this size are drawn in ink, with outlines
CELL, LARGE_CELL = 0.885, 1.5  # inches, the width of a panel
GAP, GROUP_GAP = 0.105, 0.3  # between panels, and between images that stand side by side
LEFT, RIGHT, BOTTOM, TOP = 0.15, 1.1, 0.3, 0.12
BIG, PLAIN, FINE = 13, 9.5, 9  # points: short headings, titles, scores
LINES = 3  # of a title, at most

Table = list[list[str]]


def line(size: float) -> float:
    """The height of a line of text, in inches."""
    return size * 1.25 / 72


def wrapped(text: str, width: float, size: float) -> str:
    """Lines that fit the width; breaks that are there already stay."""
    letters = max(4, int(width / (size * 0.008)))
    lines = [part for given in text.split("\n") for part in textwrap.wrap(given, letters) or [""]]
    return "\n".join(
        lines[:LINES] if len(lines) <= LINES else [*lines[: LINES - 1], lines[LINES - 1][: letters - 1] + "…"]
    )


def begun(figure: Any, size: tuple[float, float]) -> Any:
    """A figure of this size in inches; a new one where there is none.

    Raises:
        EngineNotInstalledError: matplotlib is missing.
    """
    need_matplotlib()
    if figure is None:
        from matplotlib import pyplot

        figure = pyplot.figure()
    figure.set_size_inches(*size)
    return figure


@dataclass(frozen=True)
class Texts:
    """Above and below every panel of every image, `(N, panels)`, and the headings of the panels."""

    headings: list[str]
    above: Table
    below: Table
    best: list[int]  # the panel with the highest score; -1 where none is

    @property
    def size(self) -> float:
        """Of the letters above the panels: large where they are few."""
        short = all(len(text) <= 3 for text in self.headings) and not any(map(any, self.above))
        return BIG if short else PLAIN

    def fitted(self, width: float) -> Texts:
        """The texts above, in lines that are no wider than a panel."""
        headings = [wrapped(text, width, self.size) for text in self.headings]
        above = [[wrapped(text, width, self.size) for text in row] for row in self.above]
        return Texts(headings, above, self.below, self.best)

    def lines(self) -> tuple[int, int]:
        """Above the panels of the first row, with the headings, and of the others."""
        columns = [_lines(column) for column in zip(*self.above, strict=True)]
        both = [_lines([heading]) + own for heading, own in zip(self.headings, columns, strict=True)]
        return max(both), max(columns)

    def write(self, axes: Sequence[Any], sample: int, first: bool) -> None:
        """Around the panels of one image; in the first row the headings as well."""
        for panel, one in enumerate(axes):
            text = self.above[sample][panel]
            text = "\n".join(filter(None, [self.headings[panel] if first else "", text]))
            one.set_title(text, fontsize=self.size, color=INK, pad=5)
            if self.below[sample][panel]:
                colour = INK if self.best[sample] in (panel, -1) else FAINT
                one.set_xlabel(self.below[sample][panel], fontsize=FINE, color=colour, labelpad=3)


def _lines(texts: Sequence[str]) -> int:
    return max((text.count("\n") + 1 for text in texts if text), default=0)


def score_table(scores: np.ndarray | None, count: int, maps: int, original: bool) -> tuple[Table, list[int]]:
    """What is written below the panels, and where the highest is.

    Raises:
        InputError: not one score for every image or map.
    """
    panels = maps + original
    if scores is None:
        return [[""] * panels] * count, [0] * count
    if scores.shape not in ((count,), (count, maps)):
        raise InputError(f"scores has shape {scores.shape}; expected ({count},) or ({count}, {maps})")
    whole = scores.ndim == 1 and maps > 1  # of the image, not of a map
    before = 0 if whole else int(original)
    rows = score_texts(scores.reshape(count, -1))
    table = [[""] * before + row + [""] * (panels - before - len(row)) for row in rows]
    if scores.dtype.kind == "U":
        return table, [-1] * count
    return table, [before + int(np.argmax(row)) for row in scores.reshape(count, -1)]


def score_texts(scores: np.ndarray) -> Table:
    """Fractions as percentages, as long as they are half of one; other numbers, and words, as they are."""
    if scores.dtype.kind == "U":
        return scores.tolist()  # type: ignore[no-any-return]
    if ((scores >= 0) & (scores <= 1)).all():
        return [[f"{score:.0%}" if score >= 0.005 else "" for score in row] for row in scores]
    return [[f"{score:.3g}" for score in row] for row in scores]


def title_table(titles: Any, count: int, panels: int) -> Table:
    """What is written above the panels.

    Raises:
        InputError: not one title for every image, or for every panel of every image.
    """
    if titles is None:
        return [[""] * panels] * count
    rows = [[title] + [""] * (panels - 1) if isinstance(title, str) else list(map(str, title)) for title in titles]
    if isinstance(titles, str) or len(rows) != count or any(len(row) != panels for row in rows):
        raise InputError(
            f"titles={_short(titles)}; expected {count} strings, one above each image, or {count} lists of {panels}, "
            "one for every panel"
        )
    return rows


def headings(names: Sequence[str] | None, maps: int, original: bool) -> list[str]:
    """Above the first panels; numbers where there are several maps without names.

    Raises:
        InputError: not one name for every map.
    """
    if names is None:
        names = [str(k) for k in range(maps)] if maps > 1 else [""]
    if len(names) != maps:
        raise InputError(f"names={_short(names)} holds {len(names)}; expected {maps}, one for every map of an image")
    return [*([""] if original else []), *map(str, names)]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


@dataclass(frozen=True)
class Page:
    """A grid of groups of panels, one group for every image."""

    count: int
    panels: int
    cols: int
    cell: tuple[float, float]  # inches
    texts: Texts
    head: float  # above all panels
    between: float  # rows
    right: float

    @staticmethod
    def of(
        shape: Sequence[int], panels: int, cols: int, texts: Texts, notes: Sequence[Any], right: float = RIGHT
    ) -> Page:
        """A page for images of this shape, `(N, H, W, ...)`; `notes` are the title and the line below it.

        `right` is the room beside the panels; by default a colour bar fits.
        """
        width = CELL if max(shape[1:3]) <= SMALL else LARGE_CELL
        height = width * min(max(shape[1] / shape[2], 0.25), 4)
        cols = min(cols, shape[0])
        texts = texts.fitted(width)
        first, above = (lines * line(texts.size) for lines in texts.lines())
        below = line(FINE) + 0.06 if any(map(any, texts.below)) else 0.0
        head = TOP + 0.35 * bool(notes[0]) + 0.25 * bool(notes[1]) + first + 0.1 * bool(first)
        return Page(
            shape[0], panels, cols, (width, height), texts, head, GAP + below + above + 0.1 * bool(above), right
        )

    @property
    def size(self) -> tuple[float, float]:
        """Inches."""
        rows = -(-self.count // self.cols)
        width = LEFT + self.cols * self._group + (self.cols - 1) * GROUP_GAP + self.right
        return width, self.head + rows * self.cell[1] + (rows - 1) * self.between + BOTTOM

    @property
    def _group(self) -> float:
        return self.panels * self.cell[0] + (self.panels - 1) * GAP

    def begin(self, figure: Any, title: str | None, note: str | None) -> Any:
        """The figure in the size of the page, with what stands above the panels."""
        width, height = self.size
        figure = begun(figure, (width, height))
        if title:
            figure.text(LEFT / width, 1 - 0.1 / height, title, va="top", fontsize=15, color=INK)
        if note:
            top = 0.42 if title else 0.1
            figure.text(LEFT / width, 1 - top / height, note, va="top", fontsize=9.5, color="0.4")
        return figure

    def axes(self, figure: Any, sample: int) -> list[Any]:
        """The panels of one image, side by side."""
        row, col = divmod(sample, self.cols)
        left = LEFT + col * (self._group + GROUP_GAP)
        top = self.head + row * (self.cell[1] + self.between)
        places = [left + panel * (self.cell[0] + GAP) for panel in range(self.panels)]
        return [figure.add_axes(self._place(x, top, *self.cell)) for x in places]

    def bar(self, figure: Any) -> Any:
        """The place of the colour bar, beside all rows."""
        width, height = self.size
        return figure.add_axes(self._place(width - self.right + 0.22, self.head, 0.12, height - self.head - BOTTOM))

    def _place(self, left: float, top: float, width: float, height: float) -> tuple[float, float, float, float]:
        """In fractions of the figure, from below."""
        across, down = self.size
        return left / across, 1 - (top + height) / down, width / across, height / down
