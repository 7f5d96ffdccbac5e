"""Every exception and warning of the library.

All exceptions derive from `WrtError`; each is also the built-in exception that a caller would catch.
"""

from __future__ import annotations

import difflib
import sys
import warnings
from collections.abc import Iterable


class WrtError(Exception):
    """Base of every error raised on purpose by wrt."""


class ModelError(WrtError, TypeError):
    """The first argument is not something that can be differentiated."""


class InputError(WrtError, ValueError):
    """An array (`x`, a cotangent, a tangent) has the wrong structure, shape or dtype."""


class DtypeError(InputError, TypeError):
    """A derivative with respect to integers, strings or objects, or one of complex numbers, was asked for."""


class SelectionError(WrtError, ValueError):
    """`of=` or `wrt=` names something that does not exist or is ambiguous."""


class DependenceError(SelectionError):
    """The chosen output does not depend on the chosen tensor."""


class DerivativeError(WrtError, ArithmeticError):
    """A derivative does not exist, or cannot be trusted: an operator has none, or it contradicts its function."""


class OptionError(WrtError, ValueError):
    """An option (`mode`, `chunk`, `batch_size`, ...) has a value that cannot be honoured."""


class PlanMismatchError(InputError):
    """A plan made for one shape was called with another."""


class OutOfMemoryError(WrtError, MemoryError):
    """Not even one sample and one seed fit into memory."""


class EngineNotInstalledError(WrtError, ImportError):
    """The framework that is needed is not installed."""


class FileError(WrtError, ValueError):
    """A model or data file cannot be read."""


class ExportError(WrtError, RuntimeError):
    """A model cannot be exported, or what came out of it computes something else."""


class WrtWarning(UserWarning):
    """Base of every warning of wrt."""


class NonFiniteWarning(WrtWarning):
    """The input, or a derivative, holds NaN or infinity."""


class DerivativeWarning(WrtWarning):
    """A plan does not agree with differences of its function."""


class OwnRuleWarning(DerivativeWarning):
    """A derivative follows a rule of the model's maker, or a detached value, and differences of the values do not."""


class SaturationWarning(WrtWarning):
    """The derivative of a saturated probability is nearly zero everywhere."""


def suggest(name: str, known: Iterable[str]) -> str:
    """`" Did you mean 'a' or 'b'?"`, or the first names there are, or nothing."""
    known = [str(k) for k in known]
    near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
    if near:
        return f" Did you mean {' or '.join(map(repr, near))}?"
    if not known:
        return ""
    more = ", ..." if len(known) > 8 else ""
    return f" There are: {', '.join(map(repr, known[:8]))}{more}."


def reason(error: BaseException) -> str:
    """The line of a framework's error that says what is wrong; Keras puts it second, in bold."""
    lines = [line.replace("\x1b[1m", "").replace("\x1b[0m", "") for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith("Exception encountered when calling")]
    return next(iter(said), type(error).__name__)


def warn(message: str, category: type[Warning]) -> None:
    """A warning at the line outside the library that led to it."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] == __name__.split(".")[0]:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
