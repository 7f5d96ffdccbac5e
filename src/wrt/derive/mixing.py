"""Do samples influence one another?"""

from __future__ import annotations

import numpy as np

from wrt.derive.differences import Function

INFLUENCE = 1e-4  # of a sample's own change: less than that reaches the others by rounding only


def mixing(function: Function, scale: np.ndarray, seed: int) -> tuple[bool, bool]:
    """Whether samples influence one another, and whether the same x gives the same values.

    Every other sample is moved, far enough that batch statistics notice, with the inputs that `wrt=` leaves out, and
    the rest is watched; then the other half.
    """
    base = function.base if len(function.base) > 1 else np.repeat(function.base, 2, axis=0)
    numbers = np.arange(len(base)) % len(function.base)
    moves = np.random.default_rng(seed).standard_normal(base.shape) * scale
    first, again = function(base, numbers), function(base, numbers)
    rounding = 1e3 * float(np.finfo("float32" if function.kind == "bfloat16" else function.kind).eps)
    size = np.abs(first).max(axis=0, initial=0.0)
    if not (np.abs(again - first) <= rounding * size).all():
        return False, False
    for parity in (0, 1):
        moved = np.arange(len(base)) % 2 == parity
        change = np.abs(function(base + moves * moved[:, None], numbers, moved) - first)
        own = change[moved].max(axis=0, initial=0.0)
        if (change[~moved] > INFLUENCE * own + rounding * size).any():
            return True, True
    return False, True
