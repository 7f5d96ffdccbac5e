"""How well scores tell two classes apart: efficiencies against each other, with the area under the curve."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from wrt.errors import EngineNotInstalledError, InputError, OptionError, suggest
from wrt.plots.arrays import host
from wrt.plots.page import line
from wrt.plots.panels import FAINT, INK
from wrt.plots.style import MOST_LINES, PRINT, WIDTH, check_owner, dress, given, line_style, panel, sheet

LEFT, RIGHT, LOWER, UPPER, SIDE = 0.5, 0.1, 0.4, 0.08, 2.5  # inches
INSIDE = 6  # curves whose legend fits beside the diagonal
POINTS = 2000  # of a curve, about
LONGEST, SHORT = 26, 16  # letters of a label, and of one that leaves room for another beside it
KINDS = ("roc", "rejection")
CHANCE = 0.5


@dataclass(frozen=True)
class Rates:
    """One curve: false and true positive rates, and the area under it."""

    label: str
    false: np.ndarray
    true: np.ndarray
    area: float


def roc(
    scores: Any,
    labels: Any,
    ax: Any = None,
    *,
    kind: str = "roc",
    positive: Any = None,
    transform: Mapping[str, Callable[[np.ndarray], Any]] | None = None,
    weights: Any = None,
    title: str | None = None,
    figure: Any = None,
) -> Any:
    """How well each score tells signal from background, such as every single feature, and the network.

    A threshold t has the true positive rate P(s >= t | signal) and the false positive rate P(s >= t | background). A
    score with an area below one half is reversed, which the legend says. The best curve is thicker.

    Args:
        scores: `(N,)` by name; higher means signal.
        labels: `(N,)`, of two values.
        ax: matplotlib axes to draw in; a new figure otherwise.
        kind: `"roc"` for the true against the false positive rate; `"rejection"` for background rejection, one minus
            the false positive rate, against signal efficiency, the true one.
        positive: the label that is signal; by default the larger number, or `True`.
        transform: functions of a score by its name, for `|s - m|` or another direction; such a score is not reversed.
        weights: of the samples, `(N,)`, not negative.
        title: above everything.
        figure: a matplotlib figure to draw in; a new one of pyplot otherwise, as wide as a column of a paper.

    Returns:
        The matplotlib figure.

    Raises:
        InputError: scores, labels or weights that do not fit, are not finite, or not of two classes.
        OptionError: an unknown kind, name or label, or options that exclude each other.
        EngineNotInstalledError: matplotlib or scikit-learn is missing.

    Example:
        >>> import wrt
        >>> scores = {"pt": [1.0, 2.0, 3.0, 4.0], "eta": [4.0, 1.0, 3.0, 2.0]}
        >>> axes = wrt.plots.roc(scores, [0, 0, 1, 1]).axes[0]
        >>> print(*(text.get_text() for text in axes.get_legend().get_texts()))
        pt  1.000 eta  0.500

    Source: Fawcett, An introduction to ROC analysis, Pattern Recognition Letters 27 (2006).
    """
    if kind not in KINDS:
        raise OptionError(f"kind={kind!r} is not a choice; expected 'roc' or 'rejection'")
    check_owner(ax, title, figure)
    signal = _signal(labels, positive)
    weight = _weights(weights, signal)
    every = [_rates(name, s, turn, signal, weight) for name, s, turn in _scores(scores, transform, len(signal))]
    columns = 2 if max(len(one.label) for one in every) <= SHORT else 1
    rows = -(-len(every) // columns)
    axes = given(ax, ["the curves"])[0] if ax is not None else _made(rows if len(every) > INSIDE else 0, title, figure)
    _draw(axes, every, kind)
    _write_legend(axes, kind, columns if ax is None and len(every) > INSIDE else 0)
    return axes.figure


def _signal(labels: Any, positive: Any) -> np.ndarray:
    """Booleans, where a sample is signal."""
    found = np.asarray(labels) if isinstance(labels, list | tuple | np.ndarray) else host(labels, "labels")
    found = found[:, 0] if found.ndim == 2 and found.shape[1] == 1 else found
    if found.ndim != 1:
        raise InputError(f"labels has shape {found.shape}; expected (N,); one-hot rows become labels by y.argmax(1)")
    kinds = np.unique(found).tolist()
    if len(kinds) != 2:
        few = ", ".join(map(repr, kinds[:5])) + ", ..." * (len(kinds) > 5)
        raise InputError(f"labels holds {len(kinds)} classes ({few}); expected two, as in labels == 3")
    if positive is None and found.dtype.kind not in "biuf":
        raise OptionError(f"labels are {kinds[0]!r} and {kinds[1]!r}; say which is signal by positive={kinds[1]!r}")
    positive = kinds[1] if positive is None else positive
    if positive not in kinds:
        raise OptionError(f"positive={positive!r} is no label; there are {kinds[0]!r} and {kinds[1]!r}")
    return np.asarray(found == positive)


def _weights(weights: Any, signal: np.ndarray) -> np.ndarray | None:
    if weights is None:
        return None
    found = _numbers(weights, "weights", len(signal))
    if (found < 0).any():
        raise InputError(
            f"{int((found < 0).sum())} weights are negative, with which rates do not rise; leave these samples out"
        )
    if not found[signal].any() or not found[~signal].any():
        raise InputError("the weights of one class are all zero; expected positive ones in both")
    return found


def _numbers(values: Any, what: str, count: int) -> np.ndarray:
    found = host(values, what).astype(float)
    found = found[:, 0] if found.ndim == 2 and found.shape[1] == 1 else found
    if found.shape != (count,):
        raise InputError(f"{what} has shape {found.shape}; expected ({count},), one for each label")
    bad = int((~np.isfinite(found)).sum())
    if bad:
        raise InputError(f"{what}: {bad} of {count} are NaN or infinite; leave these samples out")
    return found


def _scores(scores: Any, transform: Any, count: int) -> list[tuple[str, np.ndarray, bool]]:
    """Name, scores, and whether they may be reversed."""
    named = dict(scores) if isinstance(scores, Mapping) else {"score": scores}
    if not 0 < len(named) <= MOST_LINES:
        raise InputError(f"scores holds {len(named)} names; expected 1 to {MOST_LINES}, which can be told apart")
    changed = dict(transform or {})
    for name in changed:
        if name not in named:
            raise OptionError(f"transform={name!r} is no score.{suggest(str(name), map(str, named))}")
    found = []
    for name, values in named.items():
        own = _numbers(values, f"scores[{name!r}]", count)
        if name in changed:
            own = _numbers(changed[name](own), f"transform[{name!r}](scores)", count)
        found.append((str(name), own, name not in changed))
    return found


def _rates(name: str, scores: np.ndarray, turn: bool, signal: np.ndarray, weights: np.ndarray | None) -> Rates:
    """The curve, as scikit-learn has it; reversed where that is better."""
    try:
        from sklearn.metrics import auc, roc_curve
    except ImportError as error:
        raise EngineNotInstalledError("plots.roc needs scikit-learn: pip install 'wrt[plots]'") from error
    false, true, _ = roc_curve(signal, scores, sample_weight=weights)
    area = float(auc(false, true))
    label = name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
    if turn and area < CHANCE:
        return Rates(f"{label}, reversed", 1 - false[::-1], 1 - true[::-1], 1 - area)
    return Rates(label, false, true, area)


def _made(rows: int, title: str | None, figure: Any) -> Any:
    """New axes, with room below for so many rows of a legend."""
    below = (rows + 1) * line(PRINT) if rows else 0.0
    figure, head = sheet(figure, UPPER + SIDE + LOWER + below, title)
    return panel(figure, LEFT, head + UPPER, WIDTH - LEFT - RIGHT, SIDE)


def _draw(axes: Any, every: list[Rates], kind: str) -> None:
    best = max(one.area for one in every)
    ends = (0, 1) if kind == "roc" else (1, 0)
    axes.plot((0, 1), ends, color=FAINT, linewidth=0.8, linestyle="--", zorder=1)
    for number, one in enumerate(every):
        false, true = _thinned(one.false, one.true)
        x, y = (false, true) if kind == "roc" else (true, 1 - false)
        wide = 1.8 if one.area == best and len(every) > 1 else 1.1
        axes.plot(x, y, label=f"{one.label}  {one.area:.3f}", linewidth=wide, **line_style(number))
    words = ("false positive rate", "true positive rate")
    dress(axes, *(words if kind == "roc" else ("signal efficiency", "background rejection")))
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))


def _thinned(false: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points that are evenly spaced along the curve, so that a file stays small."""
    if len(false) <= POINTS:
        return false, true
    steps = np.linspace(0, 2, POINTS)  # both rates rise from 0 to 1
    kept = np.unique(np.searchsorted(false + true, steps).clip(0, len(false) - 1))
    return false[kept], true[kept]


def _write_legend(axes: Any, kind: str, columns: int) -> None:
    """On the side of the diagonal where few curves are; in columns below, where there are any."""
    style: dict[str, Any] = {"fontsize": PRINT - 1, "labelcolor": INK, "handlelength": 1.5, "labelspacing": 0.3}
    style |= {"title": "area under the curve", "title_fontsize": PRINT - 1, "alignment": "left"}
    if columns:
        place = {"loc": "upper left", "bbox_to_anchor": (0.0, -(LOWER + 0.02) / SIDE), "borderaxespad": 0.0}
        axes.legend(ncols=columns, frameon=False, **place, **style)
    else:
        side = "lower right" if kind == "roc" else "lower left"
        axes.legend(loc=side, framealpha=0.8, edgecolor="none", **style)
