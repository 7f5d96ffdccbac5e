"""What features do to an output, summed up: plain data that prints, draws and goes to pandas and xarray."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from wrt.errors import EngineNotInstalledError, OptionError, suggest

MOST_ROWS, MOST_OUTPUTS, FEW_ROWS = 5, 3, 3  # in what is printed; of one output, and of each of several
SCALES = {
    "std": "per standard deviation",
    "whiten": "per standard deviation of whitened features",
    None: "per unit of each feature",
}
HEADINGS = ("mean |·|", "share", "mean", "interval", "one sign")
Index = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Moments:
    """Derivatives of one order over all samples; every array is `(F,)`, of pairs `(F, F)`; K outputs come before.

    Attributes:
        mean: of the derivative.
        mean_abs: of its magnitude.
        rms: the root of its mean square.
        spread: its standard deviation over samples; NaN of one sample.
        agreement: the share of samples with the more frequent sign, of those that have one; 1 where none has.
        share: of `mean_abs` in the total of this order, every pair counted once.
        low: end of the confidence interval of `mean`; NaN of one sample.
        high: its other end.
        abs_low: end of the confidence interval of `mean_abs`; NaN of one sample.
        abs_high: its other end.
    """

    mean: np.ndarray
    mean_abs: np.ndarray
    rms: np.ndarray
    spread: np.ndarray
    agreement: np.ndarray
    share: np.ndarray
    low: np.ndarray
    high: np.ndarray
    abs_low: np.ndarray
    abs_high: np.ndarray


FIELDS = tuple(field.name for field in dataclasses.fields(Moments))


@dataclass(frozen=True, eq=False)
class Relevance:
    """What each feature, and each pair of them, does to an output; what `wrt.relevance` returns.

    Attributes:
        orders: of first and, if asked for, second derivatives, on the scale of `standardize`.
        raw: the same per unit of each feature.
        names: of the F features.
        outputs: of the K outputs; empty where there is one that nobody had to choose.
        samples: how many counted.
        scale: the standard deviation of each feature, `(F,)`.
        correlation: of the features, `(F, F)`.
        standardize: `"std"`, `"whiten"` or `None`.
        confidence: of the intervals.
        bootstrap: how many times samples were drawn anew; 0 where the intervals are those of Student.
        warnings: what to beware of, in sentences.
    """

    orders: tuple[Moments, ...]
    raw: tuple[Moments, ...]
    names: tuple[str, ...]
    outputs: tuple[str, ...]
    samples: int
    scale: np.ndarray
    correlation: np.ndarray
    standardize: str | None
    confidence: float
    bootstrap: int
    warnings: tuple[str, ...] = ()

    @property
    def order(self) -> int:
        return len(self.orders)

    @property
    def first(self) -> Moments:
        return self.orders[0]

    @property
    def second(self) -> Moments:
        """Of pairs of features, symmetric.

        Raises:
            OptionError: they were not asked for.
        """
        if self.order < 2:
            raise OptionError("second: order=1 has first derivatives only; wrt.relevance(..., order=2) has both")
        return self.orders[1]

    def name(self, index: Index) -> str:
        """`"pt"`, `"pt · eta"` or `"pt²"`."""
        if len(set(index)) < len(index):
            name = self.names[index[0]]
            return f"({name})²" if " " in name else f"{name}²"
        return " · ".join(self.names[i] for i in index)

    def indices(self, order: int) -> list[Index]:
        """Every feature, or every pair of them once."""
        return list(itertools.combinations_with_replacement(range(len(self.names)), order))

    def ranking(self, order: int = 1, output: int | str | None = None) -> list[Index]:
        """Features or pairs, the highest `mean_abs` first; of K outputs the mean of their shares decides.

        Raises:
            OptionError: another order, or an output that there is not.
        """
        share = self.of(order, output).share
        weight = share if share.ndim == order else share.mean(0)
        return sorted(self.indices(order), key=lambda index: -weight[index])

    def of(self, order: int, output: int | str | None = None) -> Moments:
        """The numbers of one order; of one of K outputs by its number or name.

        Raises:
            OptionError: another order, or an output that there is not.
        """
        if order not in (1, 2):
            raise OptionError(f"order={order!r}; expected 1 or 2")
        found = self.first if order == 1 else self.second
        if output is None:
            return found
        number = self._number(output)
        return Moments(*(getattr(found, field)[number] for field in FIELDS))

    def _number(self, output: int | str) -> int:
        if isinstance(output, str) and output in self.outputs:
            return self.outputs.index(output)
        if isinstance(output, int) and not isinstance(output, bool) and 0 <= output < len(self.outputs):
            return output
        there = suggest(str(output), self.outputs) if self.outputs else " There is one output only; leave it out."
        raise OptionError(f"output={output!r} is not in the table.{there}")

    def rows(self) -> list[dict[str, Any]]:
        """A dict for every output and every feature or pair, in the order of the ranking.

        Its keys are `order`, `output` (of K), `feature`, `feature_2` (of pairs), the attributes of `wrt.Moments`, and
        `raw_mean`, `raw_mean_abs` per unit of each feature.
        """
        plain = dataclasses.replace(self, orders=self.raw)
        found = []
        for order, output in itertools.product(range(1, self.order + 1), self.outputs or (None,)):
            table, raw = self.of(order, output), plain.of(order, output)
            for index in self.ranking(order, output):
                row: dict[str, Any] = {"order": order} | ({"output": output} if self.outputs else {})
                row |= {"feature": self.names[index[0]], "feature_2": self.names[index[1]] if order == 2 else None}
                row |= {field: float(getattr(table, field)[index]) for field in FIELDS}
                row |= {"raw_mean": float(raw.mean[index]), "raw_mean_abs": float(raw.mean_abs[index])}
                found.append(row)
        return found

    def to_pandas(self) -> Any:
        """A tidy `pandas.DataFrame`: `rows()`.

        Raises:
            EngineNotInstalledError: pandas is missing.
        """
        return _needed("pandas").DataFrame(self.rows())

    def to_xarray(self) -> Any:
        """An `xarray.Dataset`: `first_mean (output, feature)`, `second_mean (output, feature, feature_2)` and so on.

        Raises:
            EngineNotInstalledError: xarray is missing.
        """
        lead, axes = ("output",) if self.outputs else (), ("feature", "feature_2")
        arrays = {
            f"{word}_{field}": ((*lead, *axes[:order]), getattr(table, field))
            for order, (word, table) in enumerate(zip(("first", "second"), self.orders, strict=False), 1)
            for field in FIELDS
        }
        names = {axis: list(self.names) for axis in axes[: self.order]}
        names |= {"output": list(self.outputs)} if self.outputs else {}
        notes = {"samples": self.samples, "standardize": str(self.standardize), "confidence": self.confidence}
        return _needed("xarray").Dataset(arrays | {"scale": (("feature",), self.scale)}, names, notes)

    def plot(self, ax: Any = None, **options: Any) -> Any:
        """`wrt.plots.relevance(self, ax, ...)`."""
        from wrt.plots.relevance import relevance  # noqa: PLC0415  (which imports this module)

        return relevance(self, ax, **options)

    def __repr__(self) -> str:
        lines = [self._title()]
        for cells in self._sections():
            widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
            for name, *numbers in cells:
                right = (f"{cell:>{width}}" for cell, width in zip(numbers, widths[1:], strict=True))
                lines.append("  ".join([f"{name:<{widths[0]}}", *right]).rstrip())
        return "\n".join([*lines, *(f"! {sentence}" for sentence in self.warnings)])

    def _repr_html_(self) -> str:
        from html import escape  # noqa: PLC0415  (so that `import wrt` stays quick)

        parts = [f"<p>{escape(self._title())}</p>", "<table>"]
        for cells in self._sections():
            for number, (name, *numbers) in enumerate(cells):
                tag = "td" if number else "th"
                row = "".join(f'<{tag} style="text-align:right">{escape(cell)}</{tag}>' for cell in numbers)
                parts.append(f'<tr><{tag} style="text-align:left">{escape(name)}</{tag}>{row}</tr>')
        notes = "".join(f"<li>{escape(sentence)}</li>" for sentence in self.warnings)
        return "".join([*parts, "</table>", f"<ul>{notes}</ul>" if notes else ""])

    def _title(self) -> str:
        features = f"{len(self.names)} feature{'s' * (len(self.names) != 1)}"
        samples = f"{self.samples:,} sample{'s' * (self.samples != 1)}"
        way = f", bootstrap of {self.bootstrap}" if self.bootstrap else ""
        units = f" of {len(self.outputs)} outputs" if len(self.outputs) > MOST_OUTPUTS else ""
        width = f"{100 * self.confidence:.4g} % intervals{way}"
        return f"Relevance of {features} over {samples}, {SCALES[self.standardize]}{units} ({width})"

    def _sections(self) -> list[list[list[str]]]:
        """For every order and the first outputs the highest rows as text, below a heading."""
        found = []
        for order, output in itertools.product(range(1, self.order + 1), self.outputs[:MOST_OUTPUTS] or (None,)):
            table, ranked = self.of(order, output), self.ranking(order, output)
            title = ("first order" if order == 1 else "second order") + (f", output {output}" if output else "")
            most = FEW_ROWS if self.outputs else MOST_ROWS
            rows = [[title, *HEADINGS], *([self.name(i), *_cells(table, i)] for i in ranked[:most])]
            rest = len(ranked) - most
            found.append(rows + ([[f"and {rest} more", *[""] * len(HEADINGS)]] if rest > 0 else []))
        return found


def _cells(table: Moments, index: Index) -> list[str]:
    low, high = table.low[index], table.high[index]
    between = f"{low:.3g} to {high:.3g}" if np.isfinite(low) else "none"
    numbers = f"{table.mean_abs[index]:.3g}", f"{table.share[index]:.0%}", f"{table.mean[index]:.3g}"
    return [*numbers, between, f"{table.agreement[index]:.0%}"]


def _needed(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise EngineNotInstalledError(
            f"to_{module}() needs {module}: pip install 'wrt[tables]'; rows() gives the same as a list of dicts"
        ) from error
