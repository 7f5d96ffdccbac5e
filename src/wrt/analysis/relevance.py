"""`relevance`: what each feature of a table, and each pair of them, does to an output."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from wrt.analysis import columns as tabular, traps
from wrt.analysis.columns import Columns
from wrt.analysis.moments import Running
from wrt.derive.choose import check_count
from wrt.derive.first import SATURATED, check_scalar, options_from
from wrt.derive.job import Job, prepare
from wrt.derive.run import Result, run
from wrt.engines import registry
from wrt.errors import InputError, OptionError, SelectionError, suggest
from wrt.select import Layer, Logit, Output
from wrt.summary import FIELDS, Moments, Relevance

HELD, FEWEST = 1 << 21, 1024  # numbers of a batch on the host, and its least samples
FEWEST_DRAWS = 20  # of a bootstrap


def relevance(
    model: Any,
    x: Any,
    of: Any = None,
    *,
    order: int = 2,
    names: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
    weights: Any = None,
    where: Any = None,
    standardize: str | None = "std",
    confidence: float = 0.95,
    bootstrap: int = 0,
    seed: int = 0,
    mode: str = "auto",
    batch_size: int | None = None,
    chunk: int | None = None,
    max_memory: int | None = None,
    compile: bool | None = None,
    progress: bool | None = None,
) -> Relevance:
    """What each feature, and each pair of features, does to an output, over all samples of a table.

    Moments over n of t_i[n] = s_i d y_of(x[n]) / d x_i and t_ij[n] = s_i s_j d² y_of(x[n]) / d x_i d x_j, s being the
    standard deviations of the features: means, mean magnitudes, spreads, signs, shares and intervals, each `(F,)` and
    `(F, F)`; `(K, F)` and `(K, F, F)` where `of` chooses K units. Batches are added up as they come, in float64.

    Args:
        model: a Keras model, a `torch.nn.Module`, or a function of arrays.
        x: features `(N, F)`: an array, a tensor or a data frame, whose columns are then the names.
        of: the scalar, in the forms of `wrt.gradient`; `"all"` for every class.
        order: 1 for features alone, which costs no Hessian; 2 for pairs as well.
        names: of the F features; by default `x0`, `x1`, ...
        outputs: names of the K units; by default their numbers.
        weights: `(N,)`, not negative: each sample counts so much. Those of weight zero are left out.
        where: booleans `(N,)`, the samples that count.
        standardize: `"std"`; `"whiten"` for derivatives along uncorrelated features x = mean + L z that are as near to
            the standardised ones as can be; `None` for derivatives per unit. `.raw` has the last in any case.
        confidence: of the intervals of the mean and of the mean magnitude.
        bootstrap: how many times samples are drawn anew for them; 0 takes s/√n with Student's quantile. Weights count
            as sum(w)² / sum(w²) samples.
        seed: of the bootstrap.
        mode: `"reverse"`, `"forward"` or `"auto"`, as in `wrt.hessian`.
        batch_size: samples at a time.
        chunk: seeds at a time.
        max_memory: bytes that both may take, by default a quarter of what is free.
        compile: whether to compile; by default on JAX and TensorFlow.
        progress: show a bar; by default on a terminal, for work of more than two seconds.

    Returns:
        A `wrt.Relevance`: `.first.mean_abs`, `.second.mean`, `.warnings`, `.to_pandas()`, `.plot()`.

    Raises:
        InputError: no table, missing values, a constant feature, or weights and rows that do not fit.
        DtypeError: columns that are no numbers.
        OptionError: names or options that cannot be honoured.
        SelectionError: `of` is missing, unknown, out of range or ambiguous.

    Example:
        >>> import numpy as np, wrt
        >>> x = np.random.default_rng(0).normal(size=(200, 3))
        >>> found = wrt.relevance(lambda x: x[:, 0] * x[:, 1] + 2 * x[:, 1], x, names=["a", "b", "c"], standardize=None)
        >>> print(*(found.name(index) for index in found.ranking()))
        b a c
        >>> found.second.mean.round(6) + 0.0
        array([[0., 1., 0.],
               [1., 0., 0.],
               [0., 0., 0.]])

    Source: Wunsch, Friese, Wolf and Quast, Identifying the relevant dependencies of the neural network response on
    characteristics of the input space, arXiv:1803.08782 (mean magnitudes of Taylor coefficients; there the diagonal of
    the second order is half of what it is here).
    """
    _check_options(order, standardize, confidence, bootstrap, seed)
    given = options_from(locals())
    x, host, titles = tabular.accept(x, names, "relevance")
    rows, weight = tabular.rows_of(where, weights, len(host))
    described = tabular.describe(host, rows, weight, titles)
    _check_scales(described, titles, standardize, len(weight))
    if rows is not None:
        x, of = _part(x, rows), _part_of(of, rows)
    job = _shortened(prepare(model, x, of, None, "rows" if order == 1 else "taylor 2", given), order)
    _check_job(job, of)
    labels = _labels(job, of, outputs)
    sums = Sums(job, order, described, weight, standardize, bootstrap, seed, rows)
    run(dataclasses.replace(job, reduce=sums.add))
    raw = sums.moments(sums.raw, None, confidence, bool(labels))
    done = sums.moments(sums.white or sums.raw, standardize, confidence, bool(labels))
    said = [
        *_few(len(weight)),
        *traps.of_saturation(sums.saturated, len(weight) * sums.units),
        *traps.of_moments(done, raw, titles, labels, described.scale),
        *traps.of_columns(described, titles, standardize),
    ]
    plain = described.scale, described.correlation, standardize, confidence, bootstrap, tuple(said)
    return Relevance(done, raw, titles, labels, len(weight), *plain)


def _check_options(order: Any, standardize: Any, confidence: Any, bootstrap: Any, seed: Any) -> None:
    if check_count("order", order) > 2:
        raise OptionError(
            f"order={order!r}; expected 1 or 2. wrt.taylor(model, x, order={order!r}) has derivatives up to the fourth "
            "order, of every sample"
        )
    if standardize is not None and standardize not in ("std", "whiten"):
        raise OptionError(
            f"standardize={standardize!r}; expected 'std', 'whiten' or None.{suggest(standardize, ['std', 'whiten'])}"
        )
    if isinstance(confidence, bool) or not isinstance(confidence, int | float) or not 0 < confidence < 1:
        raise OptionError(f"confidence={confidence!r}; expected a number between 0 and 1, such as 0.95")
    if check_count("bootstrap", bootstrap, 0) in range(1, FEWEST_DRAWS):
        raise OptionError(
            f"bootstrap={bootstrap}; expected 0, or at least {FEWEST_DRAWS} for a quantile to mean something"
        )
    check_count("seed", seed, 0)


def _check_scales(described: Columns, names: Sequence[str], standardize: str | None, samples: int) -> None:
    if standardize is None or not described.constant.any():
        return
    if samples == 1:
        raise InputError(
            f"x: one sample has no standard deviation, which standardize={standardize!r} needs; choose standardize=None"
        )
    wrong = [name for name, constant in zip(names, described.constant, strict=True) if constant]
    one = len(wrong) == 1
    raise InputError(
        f"x: {tabular.listed(wrong)} {'is' if one else 'are'} constant, so {'its' if one else 'their'} standard "
        f"deviation is 0 and standardize={standardize!r} would hide {'it' if one else 'them'}; choose standardize=None"
    )


def _check_job(job: Job, of: Any) -> None:
    check_scalar(job, of, "relevance")
    if len(job.recipe.shapes.outs) != 1:
        raise SelectionError(
            f"relevance: the model has {len(job.recipe.shapes.outs)} outputs; choose one with wrt.output(name)"
        )


def _labels(job: Job, of: Any, outputs: Sequence[str] | None) -> tuple[str, ...]:
    """Names of the K units; none where there is one that nobody had to choose."""
    shape = job.recipe.shapes.outs[0]
    if shape == () or (of is None and shape == (1,)):
        if outputs is not None:
            raise OptionError(
                f"outputs={outputs!r}: of= chooses a single output; leave outputs= out, or choose of='all'"
            )
        return ()
    if outputs is None:
        return tuple(map(str, range(shape[0])))
    return tabular.unique("outputs", outputs, shape[0], "unit of of=")


def _part(x: Any, rows: np.ndarray) -> Any:
    """Some rows of an array or tensor."""
    owner = registry.owner(x)
    if owner is None:
        return np.asarray(x)[rows]
    return owner.asarray(owner.numpy(x)[rows], owner.dtype(x), x)


def _part_of(of: Any, rows: np.ndarray) -> Any:
    """The labels of some rows, where `of` holds labels."""
    if isinstance(of, Logit | Output | Layer):
        return dataclasses.replace(of, unit=_part_of(of.unit, rows))
    if isinstance(of, list) or getattr(of, "shape", None):
        return _part(of, rows)
    return of


def _shortened(job: Job, order: int) -> Job:
    """Batches that are small on the host as well, where nobody asked for a size."""
    if job.options.request.batch_size is not None or job.adapted.network.batch is not None:
        return job
    shapes, plan = job.recipe.shapes, job.recipe.plan
    entries = shapes.outputs * sum(shapes.inputs**d for d in range(1, order + 1))
    batch = min(plan.batch, max(HELD // entries, FEWEST))
    return dataclasses.replace(job, recipe=dataclasses.replace(job.recipe, plan=dataclasses.replace(plan, batch=batch)))


def _few(samples: int) -> list[str]:
    return ["One sample: it has no spread, and its means have no interval."] if samples == 1 else []


class Sums:
    """The moments of all derivatives, added up batch by batch in the order of the samples."""

    def __init__(
        self,
        job: Job,
        order: int,
        described: Columns,
        weights: np.ndarray,
        standardize: str | None,
        bootstrap: int,
        seed: int,
        rows: np.ndarray | None,
    ) -> None:
        self.job, self.order, self.weights, self.rows = job, order, weights, rows
        self.scale, self.features = described.scale, len(described.scale)
        self.units = math.prod(job.recipe.shapes.outs[0])
        self.pairs = np.triu_indices(self.features)
        self.seen, self.saturated = 0, 0
        self.raw = Running(bootstrap)
        self.white = Running(bootstrap) if standardize == "whiten" else None
        self.whitening = described.whitening() if standardize == "whiten" else None
        self.rng = np.random.default_rng(seed) if bootstrap else None

    def add(self, part: Result) -> Result:
        """Take a batch in and hand nothing on. What was there stays as it was until the batch is through."""
        first, second = self._derivatives(part)
        weights = self.weights[self.seen : self.seen + len(first)]
        raw, white, rng = copy.copy(self.raw), copy.copy(self.white), copy.deepcopy(self.rng)
        if white is not None:
            white.add(self._entries(first, second, self.whitening), weights, copy.deepcopy(rng))
        raw.add(self._entries(first, second), weights, rng)
        count = self._saturated(part)
        self.raw, self.white, self.rng = raw, white, rng
        self.saturated, self.seen = self.saturated + count, self.seen + len(first)
        return Result([], [])

    def _derivatives(self, part: Result) -> tuple[np.ndarray, np.ndarray | None]:
        """`(n, K, F)`, and `(n, K, F, F)` at second order."""
        blocks = [b if self.job.inputs.host else self.job.engine.numpy(b) for b in part.blocks]
        if self.order == 1:
            first, second = blocks[0], None
        else:
            first, second = blocks[0][:, 0], np.moveaxis(blocks[1], 1, -2)
            second = second.reshape(len(first), self.units, self.features, self.features)
        first = first.reshape(len(first), self.units, self.features)
        self._check_finite(first, second)
        return first, second

    def _check_finite(self, first: np.ndarray, second: np.ndarray | None) -> None:
        fine = np.isfinite(first).all((1, 2))
        if second is not None:
            fine &= np.isfinite(second).all((1, 2, 3))
        if not fine.all():
            number = self.seen + int(np.flatnonzero(~fine)[0])
            number = number if self.rows is None else int(self.rows[number])
            raise InputError(
                f"the derivatives at x[{number}] (and {int((~fine).sum()) - 1} more of its batch) are not finite, so "
                "no mean is; wrt.check(model, x) looks for the cause, where= leaves samples out"
            )

    def _entries(self, first: np.ndarray, second: np.ndarray | None, turn: np.ndarray | None = None) -> np.ndarray:
        """`(n, K, E)` in float64: features, then pairs once; along the columns of `turn`."""
        first = np.asarray(first, float)
        first = first if turn is None else first @ turn
        if second is None:
            return first
        if turn is not None:
            second = turn.T @ np.asarray(second, float) @ turn
        i, j = self.pairs
        return np.concatenate([first, second[:, :, i, j]], 2)

    def _saturated(self, part: Result) -> int:
        """How many of the chosen probabilities are so near to 0 or 1 that their derivatives vanish."""
        if not self.job.recipe.shapes.probability:
            return 0
        y = np.asarray(registry.host(part.outputs[0]), float)
        return int(((y > SATURATED) | (y < 1 - SATURATED)).sum())

    def moments(self, sums: Running, scaled: str | None, confidence: float, several: bool) -> tuple[Moments, ...]:
        """Of first and second derivatives; `scaled="std"` multiplies them by the standard deviations."""
        i, j = self.pairs
        factors = np.concatenate([self.scale, self.scale[i] * self.scale[j]])[
            : self.features + len(i) * (self.order - 1)
        ]
        factors = factors if scaled == "std" else np.ones_like(factors)
        low, high, abs_low, abs_high = sums.intervals(confidence)
        numbers = {"mean": sums.mean, "mean_abs": sums.mean_abs, "rms": sums.rms(), "spread": sums.spread(sums.square)}
        numbers |= {"low": low, "high": high, "abs_low": abs_low, "abs_high": abs_high}
        arrays = {field: value * factors for field, value in numbers.items()} | {"agreement": sums.agreement()}
        return tuple(self._table(arrays, order, several) for order in range(1, self.order + 1))

    def _table(self, arrays: dict[str, np.ndarray], order: int, several: bool) -> Moments:
        own = slice(0, self.features) if order == 1 else slice(self.features, None)
        part = {field: value[:, own] for field, value in arrays.items()}
        total = part["mean_abs"].sum(1, keepdims=True)
        part["share"] = np.divide(part["mean_abs"], total, out=np.zeros_like(part["mean_abs"]), where=total > 0)
        if order == 2:
            part = {field: self._square(value) for field, value in part.items()}
        return Moments(**{field: part[field] if several else part[field][0] for field in FIELDS})

    def _square(self, value: np.ndarray) -> np.ndarray:
        """`(K, F, F)` from pairs that are there once."""
        i, j = self.pairs
        found = np.empty((len(value), self.features, self.features))
        found[:, i, j] = found[:, j, i] = value
        return found
