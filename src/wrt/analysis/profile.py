"""`profile`: the mean derivative against the value of a feature."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from wrt.analysis.features import Scalar, Table, check_order
from wrt.derive.choose import check_count
from wrt.derive.finite import unsaid
from wrt.derive.first import options_from
from wrt.errors import InputError, NonFiniteWarning
from wrt.slices import Profile

FEWEST = 2  # samples in a bin, so that its mean has an error


def profile(
    model: Any,
    x: Any,
    feature: Any,
    of: Any = None,
    *,
    bins: int = 20,
    order: int = 1,
    names: Sequence[str] | None = None,
    batch_size: int | None = None,
    max_memory: int | None = None,
    compile: bool | None = None,
    progress: bool | None = None,
) -> Profile:
    """Mean derivative with respect to a feature, against its value: where it matters.

    p_b = mean over samples n of bin b of ∂y_of/∂x_f (x[n]), with its standard error; the bins are quantiles of the
    feature. Quantiles that coincide are one edge, and a bin of less than two samples joins its neighbour.

    Args:
        model: a Keras model, a `torch.nn.Module`, or a function of arrays.
        x: the data, features `(N, F)`.
        feature: its number, or its name where there are `names`.
        of: which scalar, in the forms of `wrt.gradient`. May be left out where there is only one.
        bins: how many quantiles.
        order: 1, 2 for ∂²y/∂x_f², or 0 for the mean output.
        names: of all F features, with units if there are any; by default `x0`, `x1`, ...
        batch_size: samples at a time.
        max_memory: bytes that may be used.
        compile: whether to compile; by default on JAX and TensorFlow.
        progress: a bar.

    Returns:
        A `wrt.Profile`, which `wrt.plots.profile` draws.

    Raises:
        InputError: `x` is no table of finite numbers, the feature is constant, or there is no finite derivative.
        OptionError: an order, a number of bins or names that cannot be.
        SelectionError: no such feature, or `of` chooses not one number.

    Example:
        >>> import numpy as np, wrt
        >>> x = np.linspace(0, 1, 100)[:, None]
        >>> found = wrt.profile(lambda x: x[:, 0] ** 2, x, 0, bins=4)
        >>> found.mean.round(2)
        array([0.24, 0.75, 1.25, 1.76])
        >>> found.counts
        array([25, 25, 25, 25])
    """
    check_order(order)
    options = dataclasses.replace(options_from(locals()), with_output=True)
    table = Table.of(x, names, "profile")
    number, count = table.number(feature), check_count("bins", bins)
    column = table.values[:, number]
    if column.min() == column.max():
        raise InputError(
            f"feature {table.names[number]!r} is {column[0] + 0:g} in all {len(column)} rows of x; there is nothing to "
            "draw a derivative against"
        )
    scalar = Scalar(model, of, options)
    rows = table.rows(table.values)
    scalar.check(rows, "profile")
    with unsaid():
        found = _numbers(scalar, rows, number, order)
    column, values = _finite(column, found)
    return _binned(column, values, count, table.names[number], number, order)


def _numbers(scalar: Scalar, x: Any, number: int, order: int) -> np.ndarray:
    if order == 0:
        return scalar.values(x)
    return scalar.slopes(x, [number])[1][0] if order == 1 else scalar.bends(x, number, [number])[0]


def _finite(column: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Without samples that would spoil the mean of their bin."""
    kept = np.isfinite(values)
    if kept.all():
        return column, values
    text = f"profile: {len(kept) - kept.sum()} of {len(kept)} derivatives are NaN or infinite"
    if kept.sum() < FEWEST:
        raise InputError(f"{text}, too many for a mean; wrt.check(model, x) tells where they come from")
    warnings.warn(f"{text} and were left out", NonFiniteWarning, stacklevel=3)
    return column[kept], values[kept]


def _binned(column: np.ndarray, values: np.ndarray, bins: int, name: str, number: int, order: int) -> Profile:
    edges = _edges(column, bins)
    place = np.clip(np.searchsorted(edges, column, "right") - 1, 0, len(edges) - 2)
    counts = np.bincount(place)
    centers, mean = (np.bincount(place, a) / counts for a in (column, values))
    spread = np.bincount(place, (values - mean[place]) ** 2) / (counts - 1)
    return Profile(name, order, edges, centers, mean, np.sqrt(spread / counts), counts, number)


def _edges(column: np.ndarray, bins: int) -> np.ndarray:
    """Quantiles that leave enough samples in every bin."""
    edges = np.unique(np.quantile(column, np.linspace(0, 1, bins + 1)))
    edges = edges if len(edges) > 1 else np.array([column.min(), column.max()])
    while len(edges) > 2:
        counts = np.histogram(column, edges)[0]
        least = int(np.argmin(counts))
        if counts[least] >= FEWEST:
            break
        edges = np.delete(edges, max(least, 1))
    return edges
