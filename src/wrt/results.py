"""What comes out of the larger functions: plain data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from wrt.errors import InputError
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
