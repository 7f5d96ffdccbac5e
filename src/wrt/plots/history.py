"""How a loss, a probability or a metric changed, step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from wrt.errors import InputError, OptionError, suggest
from wrt.plots.arrays import host
from wrt.plots.page import begun, line as height_of, wrapped
from wrt.plots.panels import FAINT, INK
from wrt.plots.style import COLOURS, HEAD, LETTER, MOST_LINES, PRINT, WIDTH, check_owner, given, line_style
from wrt.results import Maximization

HEIGHT = 1.2  # inches, of one panel
LEFT, RIGHT, LOWER, UPPER, BETWEEN = 0.56, 0.08, 0.4, 0.16, 0.16
LONGEST = 16  # letters of a label beside the panels
DASHED = (0, (4, 1.5))
KINDS = ("training", "validation")
VALIDATION = "val_"
EXPECTED = "expected what wrt.maximize returns, a History of Keras, or a dict of sequences by the names of metrics"


@dataclass(frozen=True)
class Line:
    """One line of a panel; those without a label are not in the legend."""

    x: np.ndarray
    y: np.ndarray
    label: str
    style: dict[str, Any]
    arrived: bool = False  # gets a dot where it ends


@dataclass(frozen=True)
class Course:
    """What is drawn: the lines of each panel by its name, and what surrounds them."""

    panels: dict[str, list[Line]]
    counted: str  # along the horizontal axis
    legend: str = ""  # its heading
    rows: bool = False  # the legend stands beside the panels
    wanted: dict[str, float] = field(default_factory=dict)  # a dashed line, by panel


def history(
    result: Any,
    ax: Any = None,
    *,
    metrics: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    validation_freq: int | Sequence[int] = 1,
    xlabel: str | None = None,
    title: str | None = None,
    figure: Any = None,
) -> Any:
    """How the loss fell: of every row of `wrt.maximize`, or in training and validation, a panel for each metric.

    A row ends where it stopped, with a dot where it has reached the wanted probability, which is a dashed line. More
    than 14 rows are thin lines with their median.

    Args:
        result: of `wrt.maximize`; a `History` of Keras; or a dict of sequences `(S,)` by the names of metrics, in which
            `"val_loss"` shares a panel with `"loss"`. Sequences `(S, K)` are K lines.
        ax: matplotlib axes to draw in, as many as there are panels; a new figure otherwise.
        metrics: which panels; by default `"loss"` and, where there is one, `"probability"` of `wrt.maximize`, and
            everything in a training history.
        labels: one for every row, by default the number of its unit or else of the row; or two for training and
            validation.
        validation_freq: as `fit` had it: every so many epochs, or the epochs at which there was a validation.
        xlabel: what the horizontal axis counts; `"step"` of `wrt.maximize`, else `"epoch"`.
        title: above everything.
        figure: a matplotlib figure to draw in; a new one of pyplot otherwise, as wide as a column of a paper.

    Returns:
        The matplotlib figure.

    Raises:
        InputError: not a history, or sequences, labels or axes that do not fit.
        OptionError: a metric that there is not, or options that exclude each other.
        EngineNotInstalledError: matplotlib is missing.

    Example:
        >>> import wrt
        >>> fitted = {"loss": [0.9, 0.5, 0.3], "val_loss": [1.0, 0.7, 0.6], "accuracy": [0.5, 0.7, 0.9]}
        >>> print(*(panel.get_ylabel() for panel in wrt.plots.history(fitted).axes))
        loss accuracy
    """
    check_owner(ax, title, figure)
    if isinstance(result, Maximization):
        course = _ascent(result, metrics, labels)
    else:
        course = _training(result, metrics, labels, validation_freq)
    names = list(course.panels)
    owned = None if ax is None else given(ax, names, "; metrics= chooses fewer")
    every = owned or _made(course, title, figure)
    for name, axes in zip(names, every, strict=True):
        _draw(axes, name, course)
        last = owned is not None or axes is every[-1]
        _label(axes, name, xlabel or course.counted if last else "", ax is None)
    _write_legend(every, course, ax is None)
    return every[0].figure


def _ascent(result: Maximization, metrics: Any, labels: Any) -> Course:
    """The rows of an ascent, each as far as it went."""
    names = _chosen([*result.history], metrics, [n for n in ("loss", "probability") if n in result.history])
    many = len(result.steps) > MOST_LINES
    heading, words = _row_labels(result, labels)
    panels = {name: (_crowd if many else _rows)(host(result.history[name], name), result, words) for name in names}
    wanted = {} if result.wanted is None else {"probability": result.wanted}
    return Course(panels, "step", "" if many else heading, not many, wanted)


def _row_labels(result: Maximization, labels: Any) -> tuple[str, list[str]]:
    """The heading of the legend, and a label for every row."""
    rows, units = len(result.steps), result.units
    if labels is not None:
        return "", _checked(labels, rows, "one for every row")
    if units is None:
        return "row", [str(row) for row in range(rows)]
    if len(set(units.tolist())) == rows:
        return "unit", [str(unit) for unit in units]
    return "row", [f"{row} (unit {unit})" for row, unit in enumerate(units)]


def _checked(labels: Any, count: int, what: str) -> list[str]:
    found = [] if isinstance(labels, str) else list(map(str, labels))
    if len(found) != count:
        raise InputError(f"labels={labels!r}; expected {count}, {what}")
    return found


def _rows(values: np.ndarray, result: Maximization, words: list[str]) -> list[Line]:
    found = []
    for row, word in enumerate(words):
        y = values[: int(result.steps[row]) + 1, row]
        style = {**line_style(row), "linewidth": 1.1}
        found.append(Line(np.arange(len(y)), y, word, style, bool(result.reached[row])))
    return found


def _crowd(values: np.ndarray, result: Maximization, _: list[str]) -> list[Line]:
    """Thin lines, and their median in front; rows that have stopped count as they stopped."""
    thin = {"color": COLOURS[5], "linewidth": 0.5, "alpha": 0.5}
    parts = [values[: int(steps) + 1, row] for row, steps in enumerate(result.steps)]
    found = [Line(np.arange(len(y)), y, "" if row else f"{len(parts)} rows", thin) for row, y in enumerate(parts)]
    middle = np.median(values, 1)
    return [*found, Line(np.arange(len(middle)), middle, "median", {"color": COLOURS[-1], "linewidth": 1.2})]


def _training(result: Any, metrics: Any, labels: Any, frequency: Any) -> Course:
    """Training and validation of the same metric in one panel."""
    given = getattr(result, "history", result)
    if not isinstance(given, Mapping):
        raise InputError(f"result is a {type(result).__name__}; {EXPECTED}")
    series = {str(name): _series(str(name), values) for name, values in given.items()}
    if not series:
        raise InputError(f"result holds no metric; {EXPECTED}")
    there = list(dict.fromkeys(name.removeprefix(VALIDATION) for name in series))
    both = any(name.startswith(VALIDATION) for name in series)
    words = (KINDS if both else ("", "")) if labels is None else _checked(labels, 2, "for training and validation")
    epochs = _epochs(result, series)
    panels = {
        name: [
            *_curves(series.get(name), epochs, words[0], COLOURS[0], "-"),
            *_curves(
                series.get(VALIDATION + name), _validated(series, name, epochs, frequency), words[1], COLOURS[1], DASHED
            ),
        ]
        for name in _chosen(there, metrics, there)
    }
    return Course(panels, "epoch")


def _series(name: str, values: Any) -> np.ndarray:
    """(S, K) numbers."""
    what = f"result[{name!r}]"
    found = host(values if hasattr(values, "shape") else [host(one, what) for one in _each(values, what)], what)
    if found.ndim not in (1, 2) or not found.size:
        raise InputError(f"{what} has shape {found.shape}; expected a number for every step, (S,), or (S, K)")
    return found.reshape(len(found), -1).astype(float)


def _each(values: Any, what: str) -> Sequence[Any]:
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise InputError(f"{what} is a {type(values).__name__}; expected a number for every step")
    return values


def _chosen(there: list[str], metrics: Any, otherwise: list[str]) -> list[str]:
    if metrics is None:
        return otherwise
    names = [metrics] if isinstance(metrics, str) else list(metrics)
    for name in names:
        if name not in there:
            raise OptionError(f"metrics={name!r} is not in the history.{suggest(str(name), there)}")
    if not names:
        raise OptionError(f"metrics=[] leaves nothing to draw; the history has {', '.join(map(repr, there))}")
    return names


def _epochs(result: Any, series: dict[str, np.ndarray]) -> np.ndarray:
    """The numbers of the epochs, from 1, or from where `fit` went on."""
    longest = max(map(len, series.values()))
    noted = getattr(result, "epoch", None)
    if isinstance(noted, Sequence) and len(noted) == longest:
        return np.asarray(noted) + 1
    return np.arange(longest) + 1


def _validated(series: dict[str, np.ndarray], name: str, epochs: np.ndarray, frequency: Any) -> np.ndarray:
    """The epochs with a validation."""
    every = isinstance(frequency, int | np.integer) and not isinstance(frequency, bool)
    if every and frequency < 1:
        raise OptionError(f"validation_freq={frequency!r}; expected 1 or more, or a list of epochs")
    found = epochs[epochs % frequency == 0] if every else epochs[np.isin(epochs, frequency)]
    count = len(series.get(VALIDATION + name, found))
    if count != len(found):
        raise InputError(
            f"result['{VALIDATION}{name}'] has {count} entries; expected {len(found)} of {len(epochs)} epochs with "
            f"validation_freq={frequency!r}; give it as fit had it"
        )
    return found


def _curves(values: np.ndarray | None, x: np.ndarray, word: str, colour: str, dashes: Any) -> list[Line]:
    if values is None:
        return []
    style = {"color": colour, "linestyle": dashes, "linewidth": 1.2 if values.shape[1] == 1 else 0.7}
    return [Line(x[: len(y)], y, "" if k else word, style) for k, y in enumerate(values.T)]


def _made(course: Course, title: str | None, figure: Any) -> list[Any]:
    """New axes below one another, with room for the legend."""
    labels = [course.legend, *(line.label for lines in course.panels.values() for line in lines)]
    labels = list(dict.fromkeys(labels))
    beside = min(max(map(len, labels)), LONGEST) * LETTER * PRINT * 0.9 + 0.35 if course.rows else 0.0
    head = HEAD * (bool(title) + (any(labels) and not course.rows))
    tall = max(HEIGHT, (len(labels) * height_of(PRINT)) / len(course.panels)) if course.rows else HEIGHT
    left = LEFT + height_of(PRINT) * max(_said(name).count("\n") for name in course.panels)
    height = head + UPPER + len(course.panels) * tall + (len(course.panels) - 1) * BETWEEN + LOWER
    figure = begun(figure, (WIDTH, height))
    if title:
        figure.text(0.05 / WIDTH, 1 - 0.05 / height, title, va="top", fontsize=PRINT + 1, color=INK)
    tops = [head + UPPER + k * (tall + BETWEEN) for k in range(len(course.panels))]
    wide = (WIDTH - left - RIGHT - beside) / WIDTH
    places = [(left / WIDTH, 1 - (top + tall) / height, wide, tall / height) for top in tops]
    return [figure.add_axes(place) for place in places]


def _said(name: str) -> str:
    return wrapped(name.replace("_", " "), HEIGHT, PRINT)


def _draw(axes: Any, name: str, course: Course) -> None:
    lines = course.panels[name]
    seen = [np.isfinite(line.y) for line in lines]
    for line, finite in zip(lines, seen, strict=True):
        x, y = line.x[finite], line.y[finite]
        axes.plot(x, y, label=line.label or None, marker="." if len(x) == 1 else None, **line.style)
        if line.arrived and finite[-1]:
            axes.plot(x[-1], y[-1], ".", color=line.style["color"], markersize=5, clip_on=False, zorder=4)
    if not any(map(np.any, seen)):
        axes.text(0.5, 0.5, "not finite", transform=axes.transAxes, ha="center", fontsize=PRINT, color=FAINT)
    if name in course.wanted:
        _draw_wanted(axes, course.wanted[name])


def _draw_wanted(axes: Any, wanted: float) -> None:
    """The wanted probability, on a scale of all probabilities."""
    axes.axhline(wanted, color=FAINT, linewidth=0.8, linestyle="--", zorder=1)
    high = wanted > 0.5
    axes.annotate(
        f"wanted: {wanted:.4g}",
        (0.02, wanted + (-0.02 if high else 0.02)),
        xycoords=("axes fraction", "data"),
        va="top" if high else "bottom",
        fontsize=PRINT - 1,
        color="0.4",
    )
    axes.set_ylim(-0.02, 1.02)


def _label(axes: Any, name: str, counted: str, own: bool) -> None:
    axes.set_ylabel(_said(name) if own else name.replace("_", " "), fontsize=PRINT, color=INK)
    axes.set_xlabel(counted, fontsize=PRINT, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=PRINT - 1, length=2, color=FAINT, labelcolor=INK, labelbottom=bool(counted))
    axes.locator_params(axis="y", nbins=4)
    axes.xaxis.get_major_locator().set_params(integer=True, nbins=6)
    axes.ticklabel_format(axis="y", scilimits=(-3, 4))
    axes.yaxis.get_offset_text().set_fontsize(PRINT - 1)


def _write_legend(every: list[Any], course: Course, own: bool) -> None:
    """Beside the panels or above them; inside, where the axes were given."""
    style: dict[str, Any] = {"fontsize": PRINT - 1, "labelcolor": INK, "frameon": False, "borderaxespad": 0.0}
    handles, labels = _entries(every)
    if not labels:
        return
    labels = [label if len(label) <= LONGEST or not own else f"{label[: LONGEST - 1]}…" for label in labels]
    if not own:
        style |= {"loc": "best", "borderaxespad": 0.5}
    elif course.rows:
        style |= {"loc": "upper left", "bbox_to_anchor": (1.03, 1.0), "handlelength": 1.2, "labelspacing": 0.25}
    else:
        style |= {"loc": "lower right", "bbox_to_anchor": (1.0, 1.02), "ncols": 2, "handlelength": 1.8}
    every[0].legend(handles, labels, title=course.legend or None, title_fontsize=PRINT - 1, alignment="left", **style)


def _entries(every: list[Any]) -> tuple[list[Any], list[str]]:
    """Each label once, from whichever panel has it first."""
    found: dict[str, Any] = {}
    for axes in every:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    return list(found.values()), list(found)
