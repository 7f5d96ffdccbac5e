"""Derivatives that JAX does not have: named in errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from wrt.errors import DerivativeError, reason

WAY = "write it in other operators, give it a rule of yours (jax.custom_jvp), or cut it off with jax.lax.stop_gradient"

SAID = "^Derivatives of|^No constant handler for type: .*Tracer"  # the second: a rule that is not to be differentiated


@contextmanager
def named() -> Iterator[None]:
    """What JAX raises when it finds no derivative becomes an error that names the operator.

    Raises:
        DerivativeError: there is none.
    """
    try:
        yield
    except (NotImplementedError, TypeError) as error:
        found = re.search(r"ifferentiation rule for '(\w+)' not implemented", str(error))
        if not found and not re.search(SAID, str(error)):
            raise
        what = f"JAX has no derivative of its operator {found[1]}" if found else f"JAX: {reason(error)}"
        raise DerivativeError(f"{what}; {WAY}") from error
