"""The switch: whether plans prove themselves on their first call."""

from __future__ import annotations

import contextvars
import os
from typing import Literal

from wrt.errors import OptionError, suggest

MODES = ("warn", "error", "off")
VARIABLE = "WRT_VERIFICATION"

_chosen: contextvars.ContextVar[str | None] = contextvars.ContextVar("wrt.verification", default=None)


class verification:
    """What happens when a plan does not agree with its function: a setting, and a context manager.

    The first time a plan runs on values, a random mixture of its results, `u·(J v)`, is compared with differences of
    `u·f` along `v`, and its outputs with the function evaluated afresh and among other samples. `"warn"` (how it
    begins, unless the environment variable `WRT_VERIFICATION` says otherwise) gives a `wrt.DerivativeWarning`,
    `"error"` raises a `wrt.DerivativeError`, `"off"` compares nothing.

    A call holds for the thread or asyncio task from then on; `with wrt.verification("off"):` only inside.

    Args:
        mode: `"warn"`, `"error"` or `"off"`.

    Raises:
        OptionError: another mode, here or in the environment variable.

    Example:
        >>> import numpy as np, wrt
        >>> with wrt.verification("error"):
        ...     wrt.gradient(lambda x: x[:, 0] ** 2, np.array([[3.0]])).round(6)
        array([[6.]])
    """

    def __init__(self, mode: Literal["warn", "error", "off"]) -> None:
        self.mode = _checked(mode, f"verification({mode!r})")
        self._before: list[str | None] = [_chosen.get()]
        self._open = False
        _chosen.set(self.mode)

    def __enter__(self) -> verification:
        if self._open or not self._before:  # entered once more
            self._before.append(_chosen.get())
        self._open = True
        _chosen.set(self.mode)
        return self

    def __exit__(self, *_: object) -> None:
        _chosen.set(self._before.pop())

    def __repr__(self) -> str:
        return f"wrt.verification({self.mode!r})"


def current() -> str:
    """The mode that holds here and now.

    Raises:
        OptionError: the environment variable holds something else.
    """
    found = os.environ.get(VARIABLE)
    return _chosen.get() or _checked(found or "warn", f"the environment variable {VARIABLE} is {found!r}")


def _checked(mode: object, what: str) -> str:
    if mode not in MODES:
        raise OptionError(f'{what}; expected "warn", "error" or "off".{suggest(str(mode), MODES)}')
    return str(mode)
