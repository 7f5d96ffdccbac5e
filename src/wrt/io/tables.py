"""Tables from files, column by column."""

from __future__ import annotations

import csv
import importlib
import math
from pathlib import Path
from typing import Any

import numpy as np

from wrt.errors import EngineNotInstalledError, FileError, reason, suggest
from wrt.io.files import Path_, check_content, read_arrays

MISSING = {"", "na", "nan", "n/a", "null", "none", "-"}
SEPARATORS = ",;\t"


def read_table(path: Path_, key: str | None = None) -> dict[str, np.ndarray]:
    """The columns `(N,)` of a table by their names, from `.csv`, `.parquet` (with pandas), `.npy` or `.npz`.

    The first line of a `.csv` file has the names, unless it holds numbers only; columns without names are `x0`,
    `x1`, ... Missing values are NaN; a column with words comes as words.

    Raises:
        FileError: no such file, another format, or rows of different lengths.
        EngineNotInstalledError: pandas, for `.parquet`.
    """
    path = Path(path)
    if path.suffix == ".csv":
        check_content(path, "data")
        return _read_csv(path)
    if path.suffix == ".parquet":
        check_content(path, "data")
        return _read_parquet(path)
    if path.suffix not in (".npy", ".npz"):
        expected = "expected .csv, .parquet, .npy or .npz"
        raise FileError(f"{path}: cannot read a table with the suffix {path.suffix!r}; {expected}")
    found = read_arrays(path, key)
    if isinstance(found, dict):
        raise FileError(f"{path}: it holds {len(found)} arrays; choose one with the key.{suggest('', found)}")
    if found.ndim != 2:
        raise FileError(f"{path}: the array has shape {found.shape}; expected a table, (N, F)")
    return {f"x{i}": column for i, column in enumerate(found.T)}


def _read_csv(path: Path) -> dict[str, np.ndarray]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        try:
            first = file.readline()
        except UnicodeDecodeError as error:
            raise FileError(f"{path}: is no text in UTF-8 ({error.reason})") from error
    separator = max(SEPARATORS, key=first.count)
    titles = [title.strip() for title in next(csv.reader([first], delimiter=separator))]
    named = any(_number(title) is None for title in titles)
    names = titles if named else [f"x{i}" for i in range(len(titles))]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise FileError(f"{path}: the column {twice!r} is there more than once; name them apart")
    try:
        values = np.loadtxt(
            path, delimiter=separator, skiprows=int(named), ndmin=2, encoding="utf-8-sig", comments=None
        )
    except ValueError:  # missing values, words, or lines that do not fit
        return _read_words(path, separator, names, named)
    if values.shape[1] != len(names):
        return _read_words(path, separator, names, named)
    return dict(zip(names, values.T, strict=True))


def _read_words(path: Path, separator: str, names: list[str], named: bool) -> dict[str, np.ndarray]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv.reader(file, delimiter=separator) if row][int(named) :]
    for number, row in enumerate(rows, 1 + named):
        if len(row) != len(names):
            raise FileError(f"{path}: line {number} has {len(row)} values; expected {len(names)}, as in the first line")
    return {name: _column([row[i].strip() for row in rows]) for i, name in enumerate(names)}


def _column(words: list[str]) -> np.ndarray:
    numbers = [_number(word) for word in words]
    return np.array(words, object) if None in numbers else np.array(numbers, float)


def _number(word: str) -> float | None:
    """A number, NaN for what is missing, `None` for a word."""
    try:
        return math.nan if word.strip().lower() in MISSING else float(word)
    except ValueError:
        return None


def _read_parquet(path: Path) -> dict[str, Any]:
    try:
        frame = importlib.import_module("pandas").read_parquet(path)
    except ImportError as error:
        raise EngineNotInstalledError(
            f"{path}: reading .parquet needs pandas and pyarrow: pip install 'wrt[tables]'"
        ) from error
    except (ValueError, OSError) as error:  # pyarrow's own errors are of these kinds
        raise FileError(f"{path}: cannot be read as Parquet ({reason(error)})") from error
    return {str(name): frame[name].to_numpy() for name in frame.columns}
