"""`wrt.check`: is this derivative right, and is there anything about the model that makes it useless?"""

from __future__ import annotations

import html
import math
import operator
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from wrt.derive.choose import Request
from wrt.derive.compare import Comparison, compare, dot_error, dot_tolerance
from wrt.derive.differences import Function, Oracle, is_half, oracle, pick, precision, scales, shift
from wrt.derive.job import Options, prepare
from wrt.derive.mixing import mixing
from wrt.derive.products import Products
from wrt.derive.survey import Survey, describe_path, named_index, survey
from wrt.derive.verification import verification
from wrt.engines import registry
from wrt.engines.reference import ReferenceEngine
from wrt.errors import InputError, NonFiniteWarning, OptionError
from wrt.progress import progress_bar
from wrt.trees import map_leaves

MOST = 32  # rows, and columns, compared per sample
SHOWN = 6  # names in the printed lists
TOLERANCES = {"float64": 1e-5, "float32": 1e-3, "half": 1e-1, "other": 3e-2}  # by what both sides are exact to
NEIGHBOUR = 6.0  # steps of the differences, to a point where kinks at x are left behind

Where = tuple[int, tuple[Any, ...], tuple[Any, ...]]


@dataclass(frozen=True)
class Check:
    """What `wrt.check` found; print it.

    `where` is (sample, output index, input index) of the worst entry; an index begins with the key or number of the
    tensor where there are several. `max_error` is `|derivative - difference|` there, relative to the largest entry of
    its row (both per typical size of the input); where only a mixture of inputs shows it, both are the mixture's and
    `mixed` is True. `dot_error` is NaN where there is no forward derivative.
    """

    ok: bool
    verdict: str
    max_error: float
    tolerance: float
    where: Where | None
    derivative: float
    difference: float
    dot_error: float
    precision: str  # of the differences
    samples: int  # compared
    entries: int  # compared
    at_kinks: int  # of these, not judged
    in_noise: int  # of these, so small that differences cannot tell them from rounding
    directions: int  # products along random directions compared besides
    dead_inputs: tuple[tuple[Any, ...], ...]
    dead_outputs: tuple[tuple[Any, ...], ...]
    saturated: tuple[tuple[Any, ...], ...]
    non_finite: tuple[str, ...]
    mixes_samples: bool
    mixed: bool = False  # the two values are those along a random direction, in which `where` has the largest part

    def __str__(self) -> str:
        rows = [
            ("compared", self._compared()),
            ("worst entry", self._worst()),
            (
                "dot test",
                "no forward derivative to hold against" if math.isnan(self.dot_error) else f"{self.dot_error:.1e}",
            ),
            ("samples", "influence one another" if self.mixes_samples else "do not influence one another"),
            ("not finite", "; ".join(self.non_finite) or "nothing"),
            ("dead inputs", _listed(self.dead_inputs)),
            ("dead outputs", _listed(self.dead_outputs)),
            ("saturated", _listed(self.saturated)),
        ]
        return "\n".join([f"wrt.check: {self.verdict}", *(f"  {name:<14}{text}" for name, text in rows if text)])

    def _repr_html_(self) -> str:
        colour = "#2a7d2a" if self.ok else "#b3261e"
        return f'<pre style="border-left: 4px solid {colour}; padding-left: 8px">{html.escape(str(self))}</pre>'

    def _compared(self) -> str:
        if not self.entries:
            return "nothing"
        kinks = f", {self.at_kinks:,} not judged (at kinks, or within rounding)" if self.at_kinks else ""
        noise = f", {self.in_noise:,} too small to tell from rounding" if self.in_noise else ""
        return (
            f"{self.entries:,} entries and {self.directions:,} mixtures of {self.samples} samples with differences in "
            f"{self.precision}{kinks}{noise}"
        )

    def _worst(self) -> str:
        if self.where is None:
            return "none"
        sample, output, input_ = self.where
        mixed = "along a random direction, mostly of " if self.mixed else ""
        return (
            f"error {self.max_error:.1e} (tolerance {self.tolerance:.0e}) at sample {sample}, output "
            f"{describe_path(output)}, {mixed}input {describe_path(input_)}: derivative {self.derivative:.6g}, "
            f"difference {self.difference:.6g}"
        )


def _listed(names: tuple[tuple[Any, ...], ...]) -> str:
    if not names:
        return "none"
    shown = ", ".join(map(describe_path, names[:SHOWN]))
    return f"{len(names):,}: {shown}{', ...' if len(names) > SHOWN else ''}"


def check(
    model: Any,
    x: Any,
    of: Any = None,
    *,
    wrt: Any = None,
    batch_size: int | None = None,
    max_memory: int | None = None,
    compile: bool | None = None,
    progress: bool | None = None,
    samples: int = 8,
    entries: int = MOST,
    tolerance: float | None = None,
    seed: int = 0,
) -> Check:
    """Hold the derivatives of a model against differences of its values, and look for what makes them useless.

    Four-point central differences, `(8 (f(x+h) - f(x-h)) - (f(x+2h) - f(x-2h))) / 12h`, in float64 where the model
    can be evaluated in it and with a wider step in its own precision otherwise, at two steps: where these disagree
    (a kink of a ReLU or max pooling) an entry that differs is counted and not judged. Reverse and forward derivative
    are both compared, at up to `entries` outputs and inputs of each of `samples` samples (half of them those with
    the largest derivatives, half at random) and along random directions through all inputs; an error that shows in
    a direction only is traced to its entry by halving. The dot test compares `u·(J v)` with `(Jᵀ u)·v`.

    All of `x` is looked at for inputs without influence, outputs that do not move or are saturated (a probability
    above 1 - 1e-6), values that are not finite, and where these first appear. Samples that influence one another
    (batch statistics) make a per-sample derivative meaningless: then nothing is compared and `ok` is False.

    Cost: about `3 * entries` forward passes forth and back and `6 * entries` for differences, over `samples` samples.

    Args:
        model: a Keras model, a `torch.nn.Module`, or a function of arrays.
        x: an array `(N, *in)`, or a dict, list or tuple of them, with N of at least 1.
        of: the outputs, in the forms of `wrt.gradient`; by default all.
        wrt: an input's index or name, a list of them, or `wrt.layer(name)`; by default every input.
        batch_size: samples at a time.
        max_memory: bytes that may be taken, by default a quarter of what is free.
        compile: whether to compile; by default on JAX and TensorFlow.
        progress: show a bar; by default on a terminal, for work of more than two seconds.
        samples: how many samples are compared, drawn with `seed`.
        entries: the most outputs, and the most inputs, that are compared per sample.
        tolerance: relative to the largest entry of a row; by default 1e-5 in float64, 1e-3 for a float32 model
            that float64 can check, 3e-2 where the differences are in float32 themselves, 1e-1 for models that compute
            in bfloat16 or float16.
        seed: of everything random.

    Returns:
        A `Check` with `.ok`, `.verdict`, `.max_error`, `.where`, `.dot_error` and more; printable.

    Raises:
        InputError: `x` is empty, or does not fit the model.
        OptionError: called inside a transformation of the framework.

    Example:
        >>> import numpy as np, wrt
        >>> found = wrt.check(lambda x: x[:, :2] ** 2, np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))
        >>> found.ok, found.dead_inputs
        (True, ((2,),))

    Source: the dot test as in Claerbout 2014, "Geophysical image estimation by example", 1.4.
    """
    _check_positive(samples=samples, entries=entries)
    options = Options(Request(batch_size=batch_size, max_memory=max_memory, compile=compile), progress=progress)
    x = map_leaves(_without_graph, x)
    with verification("off"), warnings.catch_warnings(), progress_bar(3, progress, "check") as advance:
        warnings.simplefilter("ignore", NonFiniteWarning)  # reported instead
        products = Products(lambda what: prepare(model, x, of, wrt, what, options))
        products.need_values("wrt.check")
        if not products.samples:
            raise InputError("x is empty; wrt.check needs at least one sample")
        seen = survey(products, seed)
        advance(1)
        return _compared(products, seen, samples, entries, tolerance, seed, advance)


def _check_positive(**counts: Any) -> None:
    for name, value in counts.items():
        if isinstance(value, bool) or not hasattr(value, "__index__") or operator.index(value) < 1:
            raise OptionError(f"{name}={value!r}; expected an integer of at least 1")


def _without_graph(leaf: Any) -> Any:
    engine = registry.owner(leaf)
    return leaf if engine is None else engine.detach(leaf)


def _compared(
    products: Products, seen: Survey, samples: int, most: int, tolerance: float | None, seed: int, advance: Any
) -> Check:
    chosen = _choose(seen.finite, samples, seed)
    part = Products(lambda what: pick(products.job(what), chosen))
    if not len(chosen):
        return _result(products, seen, None, None, chosen, (False, True), math.nan, 0.0)
    scale = scales(products.any, part.any)
    own = Function(part.any)
    alone = mixing(own, scale, seed)
    advance(1)
    if alone != (False, True):
        return _result(products, seen, None, None, chosen, alone, math.nan, 0.0)
    truth = oracle(own, scale, seed)
    if is_half(truth.function.kind):
        return _result(products, seen, None, truth, chosen, alone, math.nan, 0.0)
    allowed = _tolerance(part, truth) if tolerance is None else tolerance

    def shifted(number: int) -> tuple[Products, Oracle]:
        amount = max(1e-2, NEIGHBOUR * truth.step)
        there = Products(lambda what: shift(part.job(what), amount, seed + number))
        return there, oracle(Function(there.any), scale, seed)

    found = compare(part, truth, shifted, most, allowed, seed)
    return _result(products, seen, found, truth, chosen, alone, dot_error(part, truth, seed), allowed)


def _choose(finite: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Samples without NaN or infinity, some at random where there are many."""
    numbers = np.flatnonzero(finite)
    if len(numbers) > count:
        numbers = np.sort(np.random.default_rng(seed).choice(numbers, count, replace=False))
    return numbers


def _tolerance(part: Products, truth: Oracle) -> float:
    kind = precision(part.any)
    exact = truth.step < 1e-3
    return TOLERANCES[kind] if exact or kind == "half" else TOLERANCES["other"]


def _result(
    products: Products,
    seen: Survey,
    found: Comparison | None,
    truth: Oracle | None,
    chosen: np.ndarray,
    alone: tuple[bool, bool],
    dot: float,
    tolerance: float,
) -> Check:
    shapes, inputs = products.any.recipe.shapes, products.any.recipe.problem.wrt.structure.paths()
    outputs = shapes.out_structure.paths()

    def names(flags: np.ndarray, sizes: Any, paths: Any) -> tuple[tuple[Any, ...], ...]:
        return tuple(named_index(int(i), sizes, paths) for i in np.flatnonzero(flags))

    where = None
    if found is not None:
        sample, row, column = found.where
        where = (
            int(chosen[sample]),
            named_index(row, shapes.outs, outputs),
            named_index(column, shapes.ins, inputs),
        )
    by_differences = isinstance(products.any.engine, ReferenceEngine)
    contradict = found is not None and truth is not None and dot > dot_tolerance(products, truth)
    coarse = "" if found is not None or truth is None else truth.function.kind
    ok, verdict = _verdict(seen, found, alone, contradict, tolerance, coarse)
    alive = seen.alive_outputs
    return Check(
        ok=ok,
        verdict=f"{verdict}, itself made of differences (a function of NumPy arrays)" if by_differences else verdict,
        max_error=math.nan if found is None else found.max_error,
        tolerance=tolerance,
        where=where,
        derivative=math.nan if found is None else found.derivative,
        difference=math.nan if found is None else found.difference,
        dot_error=dot,
        precision="" if truth is None else truth.function.kind,
        samples=len(chosen),
        entries=0 if found is None else found.entries,
        at_kinks=0 if found is None else found.kinks,
        in_noise=0 if found is None else found.noise,
        directions=0 if found is None else found.directions,
        dead_inputs=names(~seen.alive_inputs, shapes.ins, inputs),
        dead_outputs=() if alive is None else names(~alive, shapes.outs, outputs),
        saturated=names(seen.saturated > 0, shapes.outs, outputs),
        non_finite=tuple(seen.non_finite),
        mixes_samples=alone[0],
        mixed=found is not None and found.mixed,
    )


def _verdict(
    seen: Survey, found: Comparison | None, alone: tuple[bool, bool], contradict: bool, tolerance: float, coarse: str
) -> tuple[bool, str]:
    """Whether all is well, and the sentence that says so."""
    if alone[0]:
        return False, "samples influence one another, so there is no derivative per sample"
    if not alone[1]:
        return False, "the same x gives different values each time, so there is nothing to compare"
    if coarse:
        return False, f"not judged: the model computes in {coarse} only, in which differences tell nothing"
    if found is None:
        return False, "no sample is finite, so there is nothing to compare"
    if found.max_error > tolerance:
        return False, f"the {found.way} derivative is WRONG"
    if found.kinks + found.noise == found.entries:
        return False, "nothing could be judged: the derivatives are too small for their rounding, or at kinks"
    if contradict:
        return False, "forward and reverse derivative contradict each other"
    if seen.non_finite:
        return False, "the derivative is right where it is finite, but there are values that are not"
    return True, "the derivative is right"
