"""A table of features, checked, and derivatives of a model with respect to single ones."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wrt.analysis import columns
from wrt.derive import target as targets
from wrt.derive.first import check_scalar, gradient_of
from wrt.derive.inputs import engine_of
from wrt.derive.job import Options, prepare
from wrt.derive.second import hvp_of
from wrt.derive.values import outputs_of
from wrt.engines import registry
from wrt.errors import InputError, OptionError, SelectionError, suggest


@dataclass(frozen=True)
class Table:
    """Features `(N, F)` on the host, their names, and `x` as it came."""

    values: np.ndarray
    names: tuple[str, ...]
    x: Any

    @staticmethod
    def of(x: Any, names: Any, what: str) -> Table:
        """The table that `x` holds.

        Raises:
            InputError: not `(N, F)`, empty, or not finite.
            OptionError: not one name for each feature, or `x` without values.
        """
        x, values, titles = columns.accept(x, names, what)
        values = values.astype(float)
        bad = int((~np.isfinite(values)).any(1).sum())
        if bad:
            raise InputError(
                f"{what}: {bad} of {len(values)} rows of x hold NaN or infinite values; leave them out: "
                "x[np.isfinite(x).all(1)]"
            )
        return Table(values, titles, x)

    def number(self, feature: Any) -> int:
        """The number of a feature that is given by its number or its name.

        Raises:
            SelectionError: there is no such feature.
        """
        count = len(self.names)
        if isinstance(feature, str):
            if feature not in self.names:
                raise SelectionError(f"there is no feature {feature!r}.{suggest(feature, self.names)}")
            return self.names.index(feature)
        if isinstance(feature, bool) or not isinstance(feature, (int, np.integer)):
            raise SelectionError(f"feature {feature!r}; expected a number from 0 to {count - 1}, or a name of names=")
        if not -count <= feature < count:
            raise SelectionError(f"feature {feature} is out of range: x has {count}, 0 to {count - 1}")
        return operator.index(feature) % count

    def rows(self, values: np.ndarray) -> Any:
        """Other rows in the kind and dtype of `x`; floats where it holds integers."""
        engine = engine_of(self.x)
        dtype = engine.dtype(self.x) if engine else str(np.asarray(self.x).dtype)
        dtype = dtype if "float" in dtype else "float32"
        return engine.asarray(values, dtype, self.x) if engine else values.astype(dtype)


@dataclass(frozen=True)
class Scalar:
    """One number per row, and its derivatives with respect to single features; on the host, in float64."""

    model: Any
    of: Any
    options: Options

    def check(self, x: Any, what: str) -> None:
        """See that `of` chooses one number.

        Raises:
            SelectionError: it chooses several, or nothing was chosen where there are several.
        """
        job = prepare(self.model, x, self.of, None, "rows", self.options)
        check_scalar(job, self.of, what)
        count = job.recipe.shapes.outputs
        if count != 1:
            raise SelectionError(f"{what}: of={self.of!r} chooses {count} numbers per row; expected one, as in of=3")

    def values(self, x: Any) -> np.ndarray:
        """`(R,)` outputs."""
        return _floats(outputs_of(self.model, x, self.of, None, self.options)).ravel()

    def slopes(self, x: Any, features: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """`(R,)` outputs and `(k, R)` derivatives."""
        found, y = gradient_of(self.model, x, self.of, None, self.options)
        return _floats(y).ravel(), _rows(found)[:, list(features)].T

    def bends(self, x: Any, feature: int, features: Sequence[int]) -> np.ndarray:
        """`(k, R)` derivatives with respect to one feature and then to each of some."""
        options = dataclasses.replace(self.options, with_output=False)
        found = hvp_of(self.model, x, _direction(x, feature), self.of, None, options)
        return _rows(found)[:, list(features)].T


def _direction(x: Any, feature: int) -> Any:
    """The unit vector of a feature, for every row."""
    engine = engine_of(x)
    unit = np.zeros(tuple(x.shape))
    unit[:, feature] = 1
    return engine.asarray(unit, engine.dtype(x), x) if engine else unit.astype(x.dtype)


def _floats(value: Any) -> np.ndarray:
    return registry.host(value).astype(float)


def _rows(value: Any) -> np.ndarray:
    """`(R, F)`, also of a function that gave `(R, 1)`."""
    return _floats(value).reshape(len(value), -1)


def need_no_labels(of: Any, what: str) -> None:
    """Labels belong to samples; points of a grid have none.

    Raises:
        SelectionError: `of` holds one value for each sample.
    """
    if targets.parse(of).labels is not None:
        raise SelectionError(f"{what}: of= holds a label for every sample, and other points have none; give one unit")


def check_order(order: Any) -> None:
    """The order of derivatives with respect to single features.

    Raises:
        OptionError: neither 0, 1 nor 2.
    """
    if isinstance(order, bool) or order not in (0, 1, 2):
        raise OptionError(f"order={order!r}; expected 0, 1 or 2")
