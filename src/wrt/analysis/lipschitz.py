"""`lipschitz`: how much the output can change, near every sample."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from wrt.derive.finite import unsaid
from wrt.derive.operator import linearize
from wrt.engines import registry
from wrt.errors import InputError, OptionError
from wrt.results import Lipschitz
from wrt.trees import flatten

NORMS = (1, 2, math.inf)


def lipschitz(
    model: Any,
    x: Any,
    of: Any = None,
    *,
    norm: float = 2,
    wrt: Any = None,
    batch_size: int | None = None,
    max_memory: int | None = None,
    compile: bool | None = None,
    progress: bool | None = None,
) -> Lipschitz:
    """Local Lipschitz estimates: the norm of every sample's Jacobian.

    L[n] = sup over d of |J[n] d| / |d|, shape `(N,)`, in the same norm of inputs and outputs: 1, the largest sum of
    `|J|` over outputs; 2, the largest singular value; infinity, the largest sum of `|J|` over inputs. The Lipschitz
    constant of a region is the supremum of such norms over all of its points, if it is convex; so the largest of
    finitely many is a lower bound of it and no certificate. NumPy, whatever `x` is.

    Args:
        model: a Keras model, a `torch.nn.Module`, or a function of arrays.
        x: an array `(N, *in)`, or a dict, list or tuple of them, which count as one vector.
        of: the outputs, in the forms of `wrt.gradient`; by default all, which count as one vector.
        norm: 1, 2 or `float("inf")`.
        wrt: an input's index or name, a list of them, or `wrt.layer(name)`; by default every input.
        batch_size: samples at a time.
        max_memory: bytes that may be taken, by default a quarter of what is free.
        compile: whether to compile; by default on JAX and TensorFlow.
        progress: show a bar; by default on a terminal, for work of more than two seconds.

    Raises:
        OptionError: another norm, or inside a transformation of the framework.
        InputError: `x` holds no sample or does not fit, or a Jacobian is not finite.

    Example:
        >>> import numpy as np, wrt
        >>> A = np.array([[1.0, 2.0], [0.0, 3.0]])
        >>> f = lambda x: x @ A.T
        >>> print(*(wrt.lipschitz(f, np.ones((1, 2)), norm=p).values.round(3).item() for p in (1, 2, np.inf)))
        5.0 3.65 3.0

    Source: Weng et al., Evaluating the robustness of neural networks, arXiv:1801.10578, section 3 (CLEVER samples
    norms of gradients).
    """
    if isinstance(norm, bool) or not isinstance(norm, int | float) or norm not in NORMS:
        raise OptionError(f"norm={norm!r}; expected 1, 2 or float('inf')")
    options: dict[str, Any] = {"batch_size": batch_size, "max_memory": max_memory, "compile": compile}
    jacobian = linearize(model, _finite(x), of, wrt=wrt, progress=progress, **options)
    with unsaid():
        values = registry.host(jacobian.norm(norm)).astype(float)
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise InputError(
            f"the Jacobians of {bad} of {len(values)} samples are not finite; wrt.check(model, x) looks for the cause"
        )
    return Lipschitz(values, norm)


def _finite(x: Any) -> Any:
    """`x`, if it holds samples and these are finite; what is traced or no number is refused where it is used."""
    for leaf in flatten(x)[0]:
        owner = registry.owner(leaf)
        if (owner is not None and owner.is_traced(leaf)) or not hasattr(leaf, "shape"):
            continue
        values = registry.host(leaf)
        if values.ndim and not len(values):
            raise InputError(f"x has shape {values.shape} and holds no sample; expected (N, *in)")
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            rows = int((~np.isfinite(values.reshape(len(values), -1))).any(1).sum())
            raise InputError(f"x: {rows} of {len(values)} samples hold NaN or infinite values; leave them out")
    return x
