"""Second derivatives that get lost without a word: in operators with a derivative but without a second one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wrt.derive.agree import Trial, disagreement, mixed, numbered
from wrt.derive.compress import Sweep, compress
from wrt.engines.base import Array, Arrays, Function
from wrt.errors import DerivativeError, reason

STEPS = {"float64": 1e-4, "float32": 1e-2}  # of the size of an input; coarser dtypes are not judged
ROUNDING = {"float64": 1e-14, "float32": 1e-5}  # of a gradient
JITTER = 0.05  # of the size of an input: away from where all is 0
POINTS = (0.0, 1.0, -1.0, 0.5, -0.5)  # on a line, in steps
LOST = 0.02  # of a second derivative; less may be the error of a difference
HONEST = 0.05  # of a first derivative; a rule that is further off is none


def check_product(trial: Trial) -> None:
    """A push that is made of two pulls needs every operator's pull to be differentiable in its cotangent.

    Raises:
        DerivativeError: it does not agree with a single pull.
    """
    found = disagreement(trial, False, "double")
    if found:
        way = "or use the matrices: wrt.jacobian, times v"
        raise DerivativeError(_message(trial, f"J v has to be made of two pulls here, and {found}", way))


def check_bend(trial: Trial) -> None:
    """The second derivative against differences of the gradient, where operators have rules of their own.

    Rules that are no derivatives (straight-through ones), kinks and coarse dtypes are not judged.

    Raises:
        DerivativeError: a part of it is missing.
    """
    dtypes = [trial.engine.dtype(a) for a in trial.example]
    coarse = next((d for d in ("bfloat16", "float16", "float32") if d in dtypes), "float64")
    if not trial.shapes.custom or coarse not in STEPS:
        return
    way = "or take differences of wrt.gradient"
    try:
        line = _line(trial, STEPS[coarse])
    except Exception as error:
        if trial.engine.is_out_of_memory(error):
            raise
        raise DerivativeError(_message(trial, f"second order: {reason(error)}", way)) from error
    if line and line.is_lost(ROUNDING[coarse]):
        raise DerivativeError(_message(trial, "second order: a part of it is lost without a word", way))


@dataclass(frozen=True)
class Line:
    """Points on a line `x + t v`, their values and gradients of a mixture, and H v at t = 0; all flat."""

    step: float
    values: list[float]
    gradients: list[np.ndarray]
    bend: np.ndarray
    along: np.ndarray

    def is_lost(self, rounding: float) -> bool:
        """H v is not what differences of gradients say, which are derivatives, and agree with one another."""
        wide, near = self._differences(self.gradients)
        size, error = np.linalg.norm(near) + np.linalg.norm(self.bend), np.linalg.norm(near - self.bend)
        doubt = rounding * np.linalg.norm(self.gradients[0]) / self.step
        clear = error > max(LOST * size, 4 * np.linalg.norm(wide - near), 10 * doubt)
        return bool(clear and self._is_honest())

    def _is_honest(self) -> bool:
        """The gradient is that of the values: a rule of the user's own is to be followed, not to be judged."""
        _, near = self._differences(self.values)
        terms = self.gradients[0] * self.along
        return bool(abs(near - terms.sum()) <= HONEST * np.linalg.norm(terms))

    def _differences(self, values: list[Array]) -> tuple[Array, Array]:
        _, a, b, c, d = values
        return (a - b) / (2 * self.step), (c - d) / self.step


def _line(trial: Trial, step: float) -> Line | None:
    engine, (v, w) = trial.engine, trial.vectors()
    sizes = _sizes(trial)
    along, mix = ([a.sum(0, keepdims=True) for a in part] for part in (v, w))
    along = [a * size for a, size in zip(along, sizes, strict=True)]
    start = [JITTER * np.roll(a, 1, -1) for a in along]
    moves = [np.concatenate([s + k * step * a for k in POINTS]) for s, a in zip(start, along, strict=True)]

    def evaluate(f: Function, primals: Arrays, along: Arrays, moves: Arrays, mix: Arrays) -> list[Arrays]:
        def moved(r: int) -> Arrays:
            return [p + engine.asarray(m[r], engine.dtype(p)) for p, m in zip(primals, moves, strict=True)]

        sweep = Sweep("reverse", 1, 1)
        pulled = [compress(engine, f, moved(r), numbered(engine, mix), sweep) for r in range(len(POINTS))]
        _, bent = compress(engine, mixed(engine, f, mix), moved(0), numbered(engine, along), sweep)
        return [part for y, rows in pulled for part in (y, rows)] + [bent]

    found = trial.run(evaluate, along, moves, mix)
    if not found:
        return None
    *pulled, bent = [[value for _, value in part] for part in found]
    values = [float(sum((a * b[0]).sum() for a, b in zip(y, mix, strict=False))) for y in pulled[::2]]
    return Line(step, values, [_flat(rows) for rows in pulled[1::2]], _flat(bent), _flat(along))


def _flat(arrays: Arrays) -> np.ndarray:
    return np.concatenate([np.ravel(a) for a in arrays])


def _sizes(trial: Trial) -> list[float]:
    """The largest entry of each tensor; 1 where it is 0, unknown, or a layer's, to which zeros are added."""
    leaves, engine = iter(trial.problem.split(trial.example)[0]), trial.engine
    chosen = [next(leaves) if isinstance(c, int) else None for c in trial.problem.wrt.chosen]
    known = [None if a is None or engine.is_traced(a) else np.abs(engine.numpy(a)).max(initial=0) for a in chosen]
    return [float(size) if size and np.isfinite(size) else 1.0 for size in known]


def _message(trial: Trial, what: str, way: str) -> str:
    names = ", ".join(trial.shapes.custom) or "an operator"
    return (
        f"{what}. The backward of {names} cannot be differentiated, or not in full: write it in differentiable "
        f"operators (no once_differentiable, NumPy, detach or no_grad in it, no compiled part), {way}"
    )
