"""`surface`: an output and its derivatives over the plane of two features."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from wrt.analysis.features import Scalar, Table, check_order, need_no_labels
from wrt.derive.choose import check_count
from wrt.derive.finite import unsaid
from wrt.derive.first import options_from
from wrt.errors import InputError, NonFiniteWarning, OptionError, SelectionError
from wrt.progress import progress_bar
from wrt.slices import Surface

ENDS = (1, 99)  # percentiles of the data
ROOM = 1 << 22  # numbers in the rows that are made at a time


def surface(
    model: Any,
    x: Any,
    of: Any = None,
    *,
    features: Sequence[Any] = (0, 1),
    order: int = 2,
    range: Any = None,
    grid: int = 40,
    others: Any = "median",
    rows: int = 100,
    seed: int = 0,
    names: Sequence[str] | None = None,
    batch_size: int | None = None,
    max_memory: int | None = None,
    compile: bool | None = None,
    progress: bool | None = None,
) -> Surface:
    """One output with its first and second derivatives over the plane of two features, all others held or averaged.

    S[i, j] = y_of(a_i, b_j, c), with ∂S/∂a, ∂S/∂b, ∂²S/∂a², ∂²S/∂a∂b and ∂²S/∂b² beside it, shape `(grid, grid)`
    each. The other features c are the medians of the data, or it is the mean over c of rows of the data. NumPy,
    whatever `x` is. A ReLU network is linear in pieces, so that second derivatives of its logits are zero.

    Args:
        model: a Keras model, a `torch.nn.Module`, or a function of arrays.
        x: the data, features `(N, F)`.
        of: which scalar, in the forms of `wrt.gradient` without labels. May be left out where there is only one.
        features: the two, by number, or by name where there are `names`.
        order: 0 for the output alone, 1 with first and 2 with second derivatives.
        range: `(low, high)` of both features, or a pair for each; by default from the 1st to the 99th percentile.
        grid: points along each of the two.
        others: `"median"`, `"marginal"` for the mean over rows (the partial dependence), or values `(F,)`.
        rows: how many rows of the data the mean is over, drawn without replacement; all where there are no more.
        seed: of that draw.
        names: of all F features, with units if there are any; by default `x0`, `x1`, ...
        batch_size: points at a time.
        max_memory: bytes that may be used.
        compile: whether to compile; by default on JAX and TensorFlow.
        progress: a bar.

    Returns:
        A `wrt.Surface`, which `wrt.plots.surface` draws.

    Raises:
        InputError: `x` is no table of finite numbers, or a feature is constant and has no range.
        OptionError: an order, range, grid, `others` or names that cannot be.
        SelectionError: no such feature, twice the same one, or `of` chooses not one number.

    Example:
        >>> import numpy as np, wrt
        >>> x = np.array([[0.0, 0.0], [2.0, 4.0]])
        >>> found = wrt.surface(lambda x: x[:, 0] ** 2 * x[:, 1], x, range=((0, 2), (0, 4)), grid=3)
        >>> found.output.round(6) + 0.0
        array([[ 0.,  0.,  0.],
               [ 0.,  2.,  4.],
               [ 0.,  8., 16.]])
        >>> found.second[1].round(6)[:, 0] + 0.0  # ∂²/∂a∂b = 2a
        array([0., 2., 4.])

    Source: Friedman, Greedy function approximation, Annals of Statistics 29 (2001), section 8 (the mean).
    """
    check_order(order)
    options = dataclasses.replace(options_from(locals()), progress=False, with_output=True)
    check_count("grid", grid, 2)
    check_count("rows", rows)
    need_no_labels(of, "surface")
    table = Table.of(x, names, "surface")
    pair = _pair(table, features)
    axes = [np.linspace(*ends, grid) for ends in _ranges(table, pair, range)]
    base = _base(table, others, rows, seed)
    scalar = Scalar(model, of, options)
    scalar.check(table.rows(base[:1]), "surface")
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
    found = _swept(scalar, table, pair, base, points, order, progress).reshape(-1, grid, grid)
    return Surface(
        (table.names[pair[0]], table.names[pair[1]]),
        (axes[0], axes[1]),
        found[0],
        found[1:3] if order else None,
        found[3:] if order == 2 else None,
        table.values[:, pair],
        (pair[0], pair[1]),
        others if isinstance(others, str) else "values",
        base,
    )


def _pair(table: Table, features: Any) -> list[int]:
    given = [features] if isinstance(features, str) or not isinstance(features, Sequence) else list(features)
    if len(given) != 2:
        raise SelectionError(f"features={features!r}; expected two, by number or name, as in features=(0, 1)")
    pair = [table.number(feature) for feature in given]
    if pair[0] == pair[1]:
        raise SelectionError(f"features={features!r} is twice the same; for one feature there is wrt.profile")
    return pair


def _ranges(table: Table, pair: list[int], given: Any) -> list[tuple[float, float]]:
    if given is None:
        return [_ends(table, number) for number in pair]
    try:
        found = np.broadcast_to(np.asarray(given, float), (2, 2))
    except (TypeError, ValueError) as error:
        raise OptionError(f"range={given!r}; expected (low, high), or such a pair for each of the two") from error
    if not np.isfinite(found).all() or (found[:, 0] >= found[:, 1]).any():
        raise OptionError(f"range={given!r}; expected finite numbers, low < high")
    return [(float(low), float(high)) for low, high in found]


def _ends(table: Table, number: int) -> tuple[float, float]:
    """Of the bulk of the data, or of all of it where the bulk is one value."""
    column = table.values[:, number]
    low, high = np.percentile(column, ENDS)
    low, high = (low, high) if low < high else (column.min(), column.max())
    if not low < high:
        name = table.names[number]
        raise InputError(
            f"feature {name!r} is {low + 0:g} in all {len(column)} rows of x, so it has no range; give "
            "range=(low, high), or choose another with features="
        )
    return float(low), float(high)


def _base(table: Table, others: Any, rows: int, seed: int) -> np.ndarray:
    """The rows `(M, F)` that lend their values to the other features."""
    if isinstance(others, str) and others == "median":
        return np.median(table.values, 0)[None]
    if isinstance(others, str) and others == "marginal":
        count = len(table.values)
        drawn = np.random.default_rng(seed).choice(count, rows, replace=False) if rows < count else slice(None)
        return table.values[drawn]
    try:
        found = np.asarray(others, float)
    except (TypeError, ValueError):
        found = np.empty(0)
    if found.shape != (len(table.names),) or not np.isfinite(found).all():
        raise OptionError(
            f"others={others!r}; expected 'median', 'marginal', or {len(table.names)} finite values, one per feature"
        )
    return found[None]


def _swept(
    scalar: Scalar, table: Table, pair: list[int], base: np.ndarray, points: np.ndarray, order: int, progress: Any
) -> np.ndarray:
    """`(1 + 2 + 3, points)` as far as the order goes: means over the rows, some points at a time."""
    most = max(1, ROOM // base.size)
    found = []
    with progress_bar(len(points), progress, "surface") as advance:
        for part in np.array_split(points, math.ceil(len(points) / most)):
            rows = np.repeat(base[None], len(part), 0)
            rows[:, :, pair] = part[:, None]
            with unsaid():
                numbers = _numbers(scalar, table.rows(rows.reshape(-1, base.shape[1])), pair, order)
            found.append(numbers.reshape(len(numbers), len(part), len(base)).mean(2))
            advance(len(part))
    whole = np.concatenate(found, 1)
    _warn(whole)
    return whole


def _numbers(scalar: Scalar, x: Any, pair: list[int], order: int) -> np.ndarray:
    if not order:
        return scalar.values(x)[None]
    y, first = scalar.slopes(x, pair)
    second = [scalar.bends(x, pair[0], pair), scalar.bends(x, pair[1], pair[1:])] if order == 2 else []
    return np.concatenate([y[None], first, *second])


def _warn(found: np.ndarray) -> None:
    bad = int((~np.isfinite(found)).any(0).sum())
    if bad:
        warnings.warn(
            f"surface: the output or a derivative is NaN or infinite at {bad} of {found.shape[1]} points; choose "
            "another range=",
            NonFiniteWarning,
            stacklevel=4,
        )
