"""`support`: which inputs matter, and how many."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from wrt.derive.first import gradient
from wrt.engines import registry
from wrt.errors import InputError, OptionError
from wrt.results import Support
from wrt.trees import flatten, unflatten


def support(
    model: Any,
    x: Any,
    of: Any = None,
    *,
    wrt: Any = None,
    threshold: float = 1e-4,
    batch_size: int | None = None,
    max_memory: int | None = None,
    progress: bool | None = None,
) -> Support:
    """Which inputs of each sample matter: those whose derivative is larger than a threshold.

    mask[n, i] = |d y_of(x[n]) / d x_i| > threshold, shape `(N, *in)`, or `(N, K, *in)` for K units; counts[n] = sum_i
    mask[n, i]. NumPy, whatever `x` is.

    Args:
        model: a Keras model, a `torch.nn.Module`, or a function of arrays.
        x: an array `(N, *in)`, or a dict, list or tuple of them.
        of: which scalar, in the forms of `wrt.gradient`.
        wrt: an input's index or name, a list of them, or `wrt.layer(name)`; by default every input.
        threshold: in units of y per unit of x; 0 counts what is not exactly zero.
        batch_size: samples at a time.
        max_memory: bytes that may be used.
        progress: a bar.

    Raises:
        OptionError: the threshold is negative or not a number.
        InputError: `x` holds no sample.
        SelectionError: `of` or `wrt` is missing, unknown, out of range or ambiguous.

    Example:
        >>> import numpy as np, wrt
        >>> found = wrt.support(lambda x: x[:, 0] * x[:, 1] + 0 * x[:, 2], np.array([[1.0, 2.0, 3.0], [0.0, 1.0, 1.0]]))
        >>> found.counts
        array([2, 1])
        >>> found.mask[1]
        array([ True, False, False])

    Source: Simonyan, Vedaldi and Zisserman, arXiv:1312.6034 (the gradient as a map).
    """
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not 0 <= threshold < math.inf:
        raise OptionError(f"threshold={threshold!r}; expected a number of zero or more")
    options: dict[str, Any] = {"batch_size": batch_size, "max_memory": max_memory, "progress": progress}
    found, outputs = gradient(model, x, of, wrt=wrt, with_output=True, **options)
    leaves, structure = flatten(found)
    arrays = list(map(registry.host, leaves))
    if not len(arrays[0]):
        raise InputError("x holds no sample, so there is nothing to count")
    lead = len(flatten(outputs)[0][0].shape)
    masks = [np.abs(a) > threshold for a in arrays]
    counts = sum(m.reshape(*m.shape[:lead], -1).sum(-1) for m in masks)
    return Support(unflatten(structure, masks), np.asarray(counts), float(threshold))
