"""A table of features `(N, F)`: its columns, rows and weights, checked and described."""

from __future__ import annotations

import numbers
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wrt.derive.inputs import engine_of, with_values
from wrt.engines import registry
from wrt.errors import DtypeError, InputError, OptionError
from wrt.trees import flatten

BLOCK = 1 << 16  # rows at a time
NAMED = 8  # columns in a message


@dataclass(frozen=True, eq=False)
class Columns:
    """What the rows that count say of the features."""

    scale: np.ndarray  # standard deviations, (F,)
    correlation: np.ndarray  # (F, F); zero with a constant column
    constant: np.ndarray  # booleans, (F,)
    groups: tuple[tuple[int, ...], ...]  # of columns of 0 and 1 that add up to one

    def whitening(self) -> np.ndarray:
        """L in x = mean + L z, for z that are uncorrelated and as near to the standardised features as can be.

        Source: Kessy, Lewin and Strimmer, Optimal whitening and decorrelation, The American Statistician 72 (2018),
        ZCA-cor.
        """
        values, vectors = np.linalg.eigh(self.correlation)
        root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
        return np.asarray(self.scale[:, None] * root)


def listed(names: Sequence[str]) -> str:
    """`'a', 'b' and 3 more`."""
    shown = ", ".join(map(repr, names[:NAMED]))
    return shown if len(names) <= NAMED else f"{shown} and {len(names) - NAMED} more"


def accept(x: Any, names: Sequence[str] | None, what: str) -> tuple[Any, np.ndarray, tuple[str, ...]]:
    """`x` as models take it, its values on the host, and the names of its columns; `what` asks for them.

    Raises:
        InputError: not `(N, F)`, or without rows or columns.
        DtypeError: columns that are no numbers.
        OptionError: names that do not fit, or inside a transformation.
    """
    if hasattr(x, "columns") and hasattr(x, "dtypes"):
        names = list(map(str, x.columns)) if names is None else names
        x = _of_frame(x)
    engine_of(x)
    leaves, structure = flatten(x)
    if not structure.is_leaf:
        raise InputError(
            f"{what}: x is a nest of {len(leaves)} arrays; expected one table (N, F): give a function of one array, "
            "lambda x: model([x[:, :5], x[:, 5:]]), and the columns side by side"
        )
    owner = registry.owner(x)
    x = with_values(x, what)
    host = registry.host(x)
    if host.ndim != 2 or not host.size:
        flatten_it = "; flatten it, x.reshape(len(x), -1), and give a function that brings it back to its shape"
        way = "; one column is x[:, None]" if host.ndim == 1 else flatten_it if host.ndim > 2 else ""
        raise InputError(f"x has shape {host.shape}; expected a table of N samples and F features, (N, F){way}")
    titles = _titles(names, host.shape[1])
    if owner is None:
        _check_numbers(host, titles)
    return (x if owner else host), host, titles


def _of_frame(frame: Any) -> np.ndarray:
    """The columns of a data frame as one array, missing values as NaN."""
    titles = list(map(str, frame.columns))
    twice = sorted({name for name in titles if titles.count(name) > 1})
    if twice:
        raise InputError(f"x: the column {listed(twice)} is there more than once; name the columns apart")
    columns = [(str(name), frame[name]) for name in frame.columns]
    words = {name: str(column.dtype) for name, column in columns if getattr(column.dtype, "kind", "f") not in "fiub"}
    if words:
        _refuse(words)
    return np.stack([_of_column(column) for _, column in columns], 1)


def _of_column(column: Any) -> np.ndarray:
    if hasattr(column, "isna"):  # pandas, whose integers may be missing
        return np.asarray(column.to_numpy(dtype=float, na_value=np.nan))
    return np.asarray(column, dtype=float)


def _check_numbers(host: np.ndarray, names: Sequence[str]) -> None:
    if host.dtype.kind in "fiub" or "float" in str(host.dtype):
        return
    kinds = {}
    for name, column in zip(names, host.T, strict=True):
        other = {type(value).__name__ for value in column if not isinstance(value, numbers.Real)}
        if other:
            kinds[name] = " and ".join(sorted(other))
    if kinds:
        _refuse(kinds)
    raise DtypeError(f"x is of dtype {host.dtype}; expected numbers: x.astype(float)")


def _refuse(kinds: dict[str, str]) -> None:
    found = listed(list(kinds))
    raise DtypeError(
        f"x: {found} hold{'s' * (len(kinds) == 1)} no numbers ({', '.join(sorted(set(kinds.values())))}), and there is "
        "no derivative with respect to a category; leave such columns out, or encode them as the model takes them"
    )


def _titles(names: Sequence[str] | None, count: int) -> tuple[str, ...]:
    if names is None:
        return tuple(f"x{i}" for i in range(count))
    return unique("names", names, count, "feature")


def unique(argument: str, names: Any, count: int, what: str) -> tuple[str, ...]:
    """One name for each of `count`, none of them twice.

    Raises:
        OptionError: another number of names, or a name that occurs twice.
    """
    if isinstance(names, str) or not hasattr(names, "__len__") or len(names) != count:
        given = f"{len(names)} names" if hasattr(names, "__len__") and not isinstance(names, str) else repr(names)
        raise OptionError(f"{argument} holds {given}; expected {count}, one for each {what}")
    found = tuple(map(str, names))
    twice = [name for name in dict.fromkeys(found) if found.count(name) > 1]
    if twice:
        raise OptionError(f"{argument}: {listed(twice)} occur{'s' * (len(twice) == 1)} more than once")
    return found


def rows_of(where: Any, weights: Any, samples: int) -> tuple[np.ndarray | None, np.ndarray]:
    """The numbers of the rows that count (`None`: all), and their weights.

    Raises:
        InputError: a length, dtype or value that does not fit, or nothing left.
    """
    kept, weight = _kept(where, samples), _weights(weights, samples)
    kept &= weight > 0
    if not kept.any():
        raise InputError("where= and weights= leave no sample: every chosen sample has the weight 0")
    rows = None if kept.all() else np.flatnonzero(kept)
    return rows, weight[kept]


def _kept(where: Any, samples: int) -> np.ndarray:
    if where is None:
        return np.ones(samples, bool)
    found = registry.host(where)
    if found.shape != (samples,) or found.dtype.kind != "b":
        raise InputError(
            f"where has shape {found.shape}, {found.dtype}; expected booleans ({samples},), one per sample"
        )
    if not found.any():
        raise InputError(f"where chooses none of the {samples} samples")
    return found.copy()


def _weights(weights: Any, samples: int) -> np.ndarray:
    if weights is None:
        return np.ones(samples)
    found = registry.host(weights)
    if found.shape != (samples,) or found.dtype.kind not in "fiub":
        raise InputError(
            f"weights has shape {found.shape}, {found.dtype}; expected numbers ({samples},), one per sample"
        )
    found = found.astype(float)
    for wrong, word in ((~np.isfinite(found), "not finite"), (found < 0, "negative")):
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            raise InputError(
                f"weights: {int(wrong.sum())} of {samples} are {word} (weights[{first}] = {found[first]:g})"
            )
    if not found.any():
        raise InputError("weights are all zero; expected a positive one")
    return found


def describe(host: np.ndarray, rows: np.ndarray | None, weights: np.ndarray, names: Sequence[str]) -> Columns:
    """Standard deviations, correlations and kinds of the columns, block by block.

    Raises:
        InputError: missing or infinite values.
    """
    _check_present(host, rows, names)
    total, count = weights.sum(), len(weights)
    low, high, binary = np.inf, -np.inf, np.ones(host.shape[1], bool)
    mean: Any = 0.0
    for part, weight in _blocks(host, rows, weights):
        low, high = np.minimum(low, part.min(0)), np.maximum(high, part.max(0))
        binary &= ((part == 0) | (part == 1)).all(0)
        mean = mean + weight @ part / total
    products: Any = 0.0
    together: Any = 0.0
    for part, weight in _blocks(host, rows, weights):
        off = part - mean
        products = products + (off * weight[:, None]).T @ off / total
        together = together + part[:, binary].T @ part[:, binary]
    constant = np.asarray(low == high)
    scale = np.where(constant, 0.0, np.sqrt(np.diag(products)))
    both = np.outer(scale, scale)
    correlation = np.divide(products, both, out=np.zeros_like(products), where=both > 0)
    np.fill_diagonal(correlation, 1.0)
    return Columns(scale, correlation, constant, _groups(np.flatnonzero(binary & ~constant), binary, together, count))


def _blocks(host: np.ndarray, rows: np.ndarray | None, weights: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, len(weights), BLOCK):
        stop = start + BLOCK
        part = host[start:stop] if rows is None else host[rows[start:stop]]
        yield np.asarray(part, dtype=float), weights[start:stop]


def _check_present(host: np.ndarray, rows: np.ndarray | None, names: Sequence[str]) -> None:
    count = len(host) if rows is None else len(rows)
    missing = sum((~np.isfinite(part)).sum(0) for part, _ in _blocks(host, rows, np.empty(count)))
    wrong = [f"{name!r} ({n:,})" for name, n in zip(names, np.atleast_1d(missing).tolist(), strict=True) if n]
    if wrong:
        more = f" and {len(wrong) - NAMED} more columns" if len(wrong) > NAMED else ""
        raise InputError(
            f"x: {', '.join(wrong[:NAMED])}{more} of {count:,} samples are missing (NaN) or infinite; choose complete "
            "rows with where=, or fill them in as for the model"
        )


def _groups(
    candidates: np.ndarray, binary: np.ndarray, together: np.ndarray, count: int
) -> tuple[tuple[int, ...], ...]:
    """Columns of 0 and 1 of which exactly one is 1 in every row, in the order in which they stand."""
    place = {int(column): number for number, column in enumerate(np.flatnonzero(binary))}
    left, found = [int(c) for c in candidates], []
    while left:
        group = [left[0]]
        for column in left[1:]:
            if sum(together[place[c], place[c]] for c in group) == count:
                break
            if not any(together[place[column], place[c]] for c in group):
                group.append(column)
        if sum(together[place[c], place[c]] for c in group) == count:
            found.append(tuple(group))
            left = [column for column in left if column not in group]
        else:
            left = left[1:]
    return tuple(found)
