"""Derivatives that torch does not have: named in errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from wrt.errors import DerivativeError, reason

WAY = (
    "write it in other operators, give it a rule of yours (torch.autograd.Function), cut it off with .detach(), or, "
    "where only a second derivative is missing, take differences of wrt.gradient"
)
BROKEN = "modified by an inplace operation|view size is not compatible"  # a backward that cannot run
MISSING = r"derivative for '?(?:aten::)?(\w+)'? is not implemented|(\w+)\(\): Double backward is unsupported"


@contextmanager
def named() -> Iterator[None]:
    """What torch raises when it finds no derivative, or one that cannot run, becomes an error that says so.

    Raises:
        DerivativeError: there is none.
    """
    try:
        yield
    except RuntimeError as error:
        if re.search(BROKEN, str(error)):
            raise DerivativeError(f"torch's derivative of an operator fails: {reason(error)}; {WAY}") from error
        found = re.search(MISSING, str(error))
        if not found:
            raise
        kind = found[1] or found[2]
        which = "no second derivative of" if found[2] or kind.endswith("_backward") else "no derivative of"
        said = f" ({reason(error)})" * bool(found[2])
        operator = kind.removesuffix("_backward").strip("_")
        raise DerivativeError(f"torch has {which} {operator}{said}; {WAY}") from error
