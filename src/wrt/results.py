"""What comes out of the larger functions: plain data."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from wrt.errors import InputError, OptionError
from wrt.trees import flatten, node, unflatten


@node
@dataclass(frozen=True)
class Explanation:
    """Maps and the outputs that they explain; unpacks as `outputs, maps`.

    A tree of arrays to `jax.tree`, `torch.utils._pytree` and `tf.nest`, so that `jax.jit`, `torch.func` and
    `tf.function` take it as an argument and return it.

    Attributes:
        outputs: the chosen outputs, `(N,)`, or `(N, K)` for K units.
        maps: `(N, *map)`, or `(N, K, *map)`; nested as `x` where it is.
        info: what else a method reports, such as `"completeness_gap"`.
    """

    outputs: Any
    maps: Any
    info: dict[str, Any] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Any]:
        return iter((self.outputs, self.maps))


@dataclass(frozen=True, eq=False)
class Curve:
    """Outputs while entries of the input are taken away or put in.

    Attributes:
        fraction: of the positions that changed, `(S,)`, from 0 to 1.
        outputs: `(N, S)`.
    """

    fraction: np.ndarray
    outputs: np.ndarray

    @property
    def area(self) -> np.ndarray:
        """The integral of the outputs over the fraction, by the trapezoid rule, `(N,)`."""
        return np.trapezoid(self.outputs, self.fraction, axis=1)


@dataclass(frozen=True, eq=False)
class Support:
    """Which inputs matter, and how many.

    Attributes:
        mask: booleans, `(N, *in)` or `(N, K, *in)`; nested as `x`.
        counts: `(N,)` or `(N, K)`, of all inputs together.
        threshold: what a derivative had to exceed.
    """

    mask: Any
    counts: np.ndarray
    threshold: float

    @property
    def inputs(self) -> int:
        """The number of inputs there are, of which `counts` matter."""
        return sum(leaf[0].size for leaf in flatten(self.mask)[0]) // max(1, self.counts[0].size)

    def shared(self, labels: Any = None) -> Any:
        """Inputs that no sample depends on, `(*in)`; or none of a class, a dict by label, for `labels (N,)`.

        Raises:
            InputError: not one label per sample.
        """
        leaves, structure = flatten(self.mask)
        if labels is None:
            return unflatten(structure, [~leaf.any(0) for leaf in leaves])
        labels = np.asarray(labels)
        if labels.shape != (len(self.counts),):
            raise InputError(f"labels has shape {labels.shape}; expected ({len(self.counts)},), one per sample")
        return {
            label: unflatten(structure, [~leaf[labels == label].any(0) for leaf in leaves])
            for label in np.unique(labels).tolist()
        }

    def __repr__(self) -> str:
        low, middle, high = np.percentile(self.counts, (0, 50, 100))
        return (
            f"Support: {middle:g} of {self.inputs} inputs matter in the median of {len(self.counts)} samples "
            f"({low:g} to {high:g}), threshold {self.threshold:g}"
        )


@dataclass(frozen=True, eq=False)
class Maximization:
    """The input that excites a unit; what `wrt.maximize` returns.

    Attributes:
        x: the best of each row, `(N, *in)`.
        history: by name, one line for the start and one after every step, `(S + 1, N)`: `"objective"`, the `"loss"`
            that is descended, and the `"probability"` where one was wanted. A row that has stopped repeats itself.
        before: the model's outputs at the start, `(N, *out)`; probabilities of all classes where one was wanted.
        after: the same at `x`.
        steps: how many steps each row took, `(N,)`.
        reached: whether the wanted probability was reached, `(N,)`; false where none was wanted.
        stopped: `"steps"`, `"reached"`, `"not finite"` or `"interrupted"`.
        resume: what `wrt.maximize(..., init=result)` goes on from.
        units: the unit of each row, `(N,)`; none where it has no single number.
        wanted: the probability that was to be reached, if one was.
    """

    x: Any
    history: dict[str, np.ndarray]
    before: Any
    after: Any
    steps: np.ndarray
    reached: np.ndarray
    stopped: str
    resume: Any = None
    units: np.ndarray | None = None
    wanted: float | None = None

    def __repr__(self) -> str:
        low, high = int(self.steps.min()), int(self.steps.max())
        taken = f"{high}" if low == high else f"{low} to {high}"
        start, end = self.history["objective"][0], self.history["objective"][-1]
        name = "log-probability" if "probability" in self.history else "objective"
        return (
            f"Maximization: {len(self.steps)} of shape {tuple(self.x.shape[1:])}, {taken} steps, stopped by "
            f"{self.stopped}; mean {name} {start.mean():.4g} at the start, {end.mean():.4g} at the end"
        )


@dataclass(frozen=True, eq=False)
class Attack:
    """Small changes that mislead a classifier; what `wrt.attack` returns.

    Attributes:
        x: the changed inputs, `(N, *in)`; nested as `x` where it is.
        distance: how far each is from its own, in the norm of the attack, `(N,)`.
        before: the model's outputs at the inputs, `(N, *out)`.
        after: the same at `x`.
        label_before: what the model took each input for, `(N,)`.
        label_after: the same at `x`.
        success: where the label after is another one than `y`, or y itself if that was the target, `(N,)`. That holds
            also for inputs that the model had wrong before.
        norm: of the distance, infinity or 2.
    """

    x: Any
    distance: np.ndarray
    before: np.ndarray
    after: np.ndarray
    label_before: np.ndarray
    label_after: np.ndarray
    success: np.ndarray
    norm: float

    def __repr__(self) -> str:
        count, largest = len(self.success), self.distance.max(initial=0)
        mean = self.distance.sum() / max(count, 1)
        name = "Euclidean" if self.norm == 2 else "maximum"
        return (
            f"Attack: {int(self.success.sum())} of {count} succeeded; distance {mean:.4g} in the mean, "
            f"{largest:.4g} at most ({name} norm)"
        )


@dataclass(frozen=True, eq=False)
class Lipschitz:
    """How much the output can change per unit of the input, near every sample; what `wrt.lipschitz` returns.

    Attributes:
        values: the norm of each sample's Jacobian, `(N,)`.
        norm: 1, 2 or infinity, of changes of the input and of the output.
    """

    values: np.ndarray
    norm: float

    @property
    def lower(self) -> float:
        """The largest of the values: a lower bound of the Lipschitz constant over any region with these samples."""
        return float(self.values.max())

    @property
    def worst(self) -> int:
        """The number of the sample with the largest value."""
        return int(self.values.argmax())

    def __repr__(self) -> str:
        name = "L1" if self.norm == 1 else "L2" if self.norm == 2 else "maximum"
        low, middle, high = np.percentile(self.values, (0, 50, 100))
        return (
            f"Lipschitz: {low:.4g} to {high:.4g} near {len(self.values)} samples, {middle:.4g} in the median "
            f"({name} norm); the constant of the region is {high:.4g} or more, how much more is not known"
        )


@dataclass(frozen=True, eq=False)
class Taylor:
    """The Taylor expansion of one scalar per sample, or of K scalars, around every sample; what `wrt.taylor` returns.

    Attributes:
        x: where it is made, `(N, *in)`; `None` for a layer.
        value: the chosen outputs at `x`, `(N,)` or `(N, K)`.
        terms: for each order d the coefficients `(N, T_d)` or `(N, K, T_d)` of all sorted tuples of d features, in
            their order.
        names: of the F features.
        evaluate: the chosen outputs at other points, as a function; keeps the model. `None` for a layer.
    """

    x: np.ndarray | None
    value: np.ndarray
    terms: tuple[np.ndarray, ...]
    names: tuple[str, ...]
    evaluate: Callable[[np.ndarray], np.ndarray] | None = None

    @property
    def order(self) -> int:
        return len(self.terms)

    def indices(self, order: int) -> np.ndarray:
        """The sorted tuples of this order, `(T, order)`, as the last axis of `terms[order - 1]` has them."""
        tuples = list(itertools.combinations_with_replacement(range(len(self.names)), order))
        return np.array(tuples, int).reshape(len(tuples), order)

    @property
    def coefficients(self) -> dict[tuple[int, ...], np.ndarray]:
        """By tuple of features, lower orders first: `(N,)` or `(N, K)`, views of `terms`."""
        return {
            tuple(index): term[..., t]
            for order, term in enumerate(self.terms, 1)
            for t, index in enumerate(self.indices(order).tolist())
        }

    def name(self, index: tuple[int, ...]) -> str:
        """`"pt eta²"` for a tuple of features."""
        powers = {1: "", 2: "²", 3: "³", 4: "⁴"}
        return " ".join(self.names[i] + powers[index.count(i)] for i in sorted(set(index)))

    def expand(self, d: Any, order: int | None = None) -> np.ndarray:
        """The expansion at `x + d`, `(N,)` or `(N, K)`; `d` is `(N, *in)`, or `(*in)` for all samples alike.

        Args:
            d: how far from `x`.
            order: terms up to this order only.

        Raises:
            InputError: `d` has another shape.
            OptionError: the expansion does not reach that order.
        """
        if order is not None and (isinstance(order, bool) or order not in range(self.order + 1)):
            raise OptionError(f"order={order!r}; the expansion has orders 0 to {self.order}")
        steps = self._steps(d)
        total = np.array(self.value)
        for number, term in enumerate(self.terms[:order], 1):
            monomials = steps[:, self.indices(number)].prod(-1)
            total += np.einsum("n...t,nt->n...", term, monomials).astype(total.dtype)
        return total

    def remainder(self, d: Any, order: int | None = None) -> np.ndarray:
        """The model at `x + d` minus the expansion, `(N,)` or `(N, K)`: what the higher orders hold.

        `of="max"` and `wrt.top(k)` choose anew at `x + d`.

        Raises:
            InputError: `d` has another shape.
            OptionError: the expansion is in a layer, whose values cannot be set.
        """
        if self.evaluate is None or self.x is None:
            raise OptionError(
                "remainder: the expansion is in a layer; only inputs can be moved to compare with the model"
            )
        found = self.expand(d, order)
        moved = self.x + self._steps(d).reshape(self.x.shape)
        return self.evaluate(moved.astype(self.x.dtype)).reshape(found.shape) - found

    def _steps(self, d: Any) -> np.ndarray:
        """`(N, F)` of what is `(N, *in)`, `(*in)` or flat."""
        d, samples, count = np.asarray(d, float), len(self.value), len(self.names)
        inner = (count,) if self.x is None else self.x.shape[1:]
        if d.shape not in (inner, (samples, *inner)):
            raise InputError(f"d has shape {d.shape}; expected {(samples, *inner)}, or {inner} for all samples alike")
        return np.broadcast_to(d, (samples, *inner)).reshape(samples, count)

    def __repr__(self) -> str:
        sizes = " + ".join(str(term.shape[-1]) for term in self.terms)
        what = f"order {self.order} in {len(self.names)} features"
        return f"Taylor: {what}, {sizes} coefficients of {len(self.value)} samples"
