"""What to beware of in a table of derivatives, in sentences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wrt.analysis.columns import Columns, listed
from wrt.summary import Moments

CANCELS = 0.2  # |mean| / mean |.| below which signs cancel
COUNTS = 0.5  # of an equal share, from which an entry is worth a sentence
RANGE = 100.0  # of standard deviations, beyond which raw derivatives are not compared
CORRELATED = 0.9
FLAT = 1e-12  # second derivatives relative to first ones, on the same scale


def of_columns(columns: Columns, names: Sequence[str], standardize: str | None) -> list[str]:
    """Scales, correlations, and features that cannot move alone."""
    found = []
    if standardize is None:
        found += _scales(columns, names)
    if standardize != "whiten":
        found += _correlated(columns, names)
    return found + _one_hot(columns, names)


def _scales(columns: Columns, names: Sequence[str]) -> list[str]:
    moving = np.flatnonzero(~columns.constant)
    if not len(moving):
        return []
    low, high = moving[columns.scale[moving].argmin()], moving[columns.scale[moving].argmax()]
    if columns.scale[high] < RANGE * columns.scale[low]:
        return []
    ends = ", ".join(f"{columns.scale[i]:.3g} ({names[i]!r})" for i in (low, high))
    return [
        f"Scales differ: standard deviations go from {ends}, so derivatives per unit cannot be compared between "
        "features; standardize='std' multiplies them by the standard deviations."
    ]


def _correlated(columns: Columns, names: Sequence[str]) -> list[str]:
    first, second = np.triu_indices(len(names), 1)
    strength = np.abs(columns.correlation[first, second])
    order = [k for k in np.argsort(-strength, kind="stable") if strength[k] > CORRELATED]
    if not order:
        return []
    pairs = [
        f"{names[first[k]]} and {names[second[k]]} ({columns.correlation[first[k], second[k]]:.2f})" for k in order
    ]
    more = f" and {len(pairs) - 3} more pairs" if len(pairs) > 3 else ""
    return [
        f"Correlated: {', '.join(pairs[:3])}{more}; derivatives along one of them alone leave the data, and the model "
        "is free to share the dependence between them. standardize='whiten' considers correlations."
    ]


def _one_hot(columns: Columns, names: Sequence[str]) -> list[str]:
    return [
        f"One-hot: {listed([names[i] for i in group])} are 0 or 1 and add up to one, so no sample moves along one of "
        "them; differences of the model between categories say more than derivatives."
        for group in columns.groups
    ]


def of_moments(
    shown: Sequence[Moments], raw: Sequence[Moments], names: Sequence[str], outputs: Sequence[str], scale: np.ndarray
) -> list[str]:
    """Signs that cancel, and kinks, in what is shown and in the same per unit of each feature."""
    found = _without_influence(raw[0], names) + _cancelling(shown[0], names, outputs)
    return found + (_kinks(raw[0], raw[1], scale) if len(raw) > 1 else [])


def _without_influence(first: Moments, names: Sequence[str]) -> list[str]:
    idle = [name for name, size in zip(names, np.atleast_2d(first.mean_abs).max(0), strict=True) if size == 0]
    if not idle:
        return []
    return [f"No influence: the derivative with respect to {listed(idle)} is zero at every sample."]


def _cancelling(first: Moments, names: Sequence[str], outputs: Sequence[str]) -> list[str]:
    mean, size = np.atleast_2d(first.mean), np.atleast_2d(first.mean_abs)
    share = np.atleast_2d(first.share)
    cancels = (np.abs(mean) < CANCELS * size) & (share > COUNTS / len(names))
    words = [
        names[f] + (f" (output {outputs[k]})" if outputs else "") for k, f in zip(*np.nonzero(cancels), strict=True)
    ]
    if not words:
        return []
    return [
        f"Signs cancel: the mean derivative of {listed(words)} is near zero, its magnitude is not; look at mean_abs."
    ]


def _kinks(first: Moments, second: Moments, scale: np.ndarray) -> list[str]:
    """Second derivatives of zero though the first ones change."""
    slope = np.max(first.mean_abs * scale)
    bend, change = np.max(second.mean_abs * np.outer(scale, scale)), np.nanmax(np.nan_to_num(first.spread) * scale)
    if bend > FLAT * slope or change <= 1e-6 * slope:
        return []
    return [
        "Kinks: first derivatives change from sample to sample, yet second ones are zero. ReLU, max pooling and trees "
        "are linear in pieces, and what happens at the kinks is in no derivative; smooth activations have a "
        "second order."
    ]


def of_saturation(count: int, total: int) -> list[str]:
    """Probabilities whose derivatives say nothing."""
    if not count:
        return []
    return [
        f"Saturated: {count:,} of {total:,} probabilities are within 1e-6 of 0 or 1, and their derivatives nearly "
        "zero; of=wrt.logit(unit) differentiates the value before the softmax or sigmoid."
    ]
