"""The ascent itself: step after step, until every row has stopped."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from wrt.engines.base import Array, Optimizer
from wrt.errors import InputError, NonFiniteWarning
from wrt.maximize.step import Question
from wrt.progress import progress_bar

TRIES = 12  # to find where a step leapt over the probability
CLOSE = 0.02, 0.2  # of a probability and of its logit, both: 0.9 is reached between 0.880 and 0.917


Found = tuple[Array, np.ndarray, np.ndarray, np.ndarray]  # the gradient, and the values, losses, health of the rows


@dataclass
class Ascent:
    """Where an ascent is: the parameters, the best so far, and what was noted on the way."""

    question: Question
    optimizer: Optimizer
    params: Array
    first: int = 0  # the number of the first step, where an earlier ascent goes on
    best: Array = None
    lowest: np.ndarray = field(default_factory=lambda: np.empty(0))
    active: np.ndarray = field(default_factory=lambda: np.empty(0, bool))
    reached: np.ndarray = field(default_factory=lambda: np.empty(0, bool))
    steps: np.ndarray = field(default_factory=lambda: np.empty(0, int))
    lines: dict[str, list[np.ndarray]] = field(default_factory=lambda: {"objective": [], "loss": []})
    stopped: str = "steps"
    taken: int = 0
    last: tuple[Array, np.ndarray] | None = None  # the parameters before the last step, and how far they were

    def __post_init__(self) -> None:
        rows = len(self.question.start.values)
        self.best = self.params if self.best is None else self.best
        self.lowest, self.active = np.full(rows, np.inf), np.ones(rows, bool)
        self.reached, self.steps = np.zeros(rows, bool), np.zeros(rows, int)
        self.data, self.state = self.question.data(), self.question.goal.jobs[0].adapted.state(False)
        self.program = self.question.program()

    def run(self, steps: int, progress: bool | None) -> None:
        """Take so many steps; what was reached before an interruption stays."""
        try:
            with progress_bar(steps, progress, "Ascent") as advance:
                if self.best is not self.params:
                    _, _, loss, _ = self._evaluate(self.best, 0)
                    self.lowest = loss
                for step in range(steps + 1):
                    gradient = self._look(step)
                    if step == steps or not self.active.any():
                        break
                    self._move(gradient)
                    advance(1)
        except KeyboardInterrupt:
            if not self.lines["loss"]:
                raise
            self.stopped = "interrupted"
            return
        if not self.active.any() and self.stopped == "steps":
            self.stopped = "reached"

    def _evaluate(self, params: Array, step: int) -> Found:
        places = self.question.places(self.first + step)
        gradient, *rows = self.program(self.state, params, self.data, places)
        values, loss, health = (np.array(self.question.engine.numpy(a)) for a in rows)
        return gradient, values, loss, health

    def _look(self, step: int) -> Array:
        """Note where it stands: the best rows, and those that have arrived or been lost."""
        gradient, values, loss, health = self._met(self._evaluate(self.params, step), step)
        standing = self.active & np.isfinite(loss)
        lost = self.active & ~np.isfinite(loss + health)
        if lost.any():
            self._lose(lost, step)
        arrived = self.active & self._arrived(values)
        better = (standing & (loss < self.lowest)) | arrived
        self._keep(better)
        self.lowest = np.where(better, loss, self.lowest)
        self.reached |= arrived
        self._note(values, loss, standing)
        self.active &= ~arrived
        return gradient

    def _keep(self, better: np.ndarray) -> None:
        """The rows that are better than all before them."""
        if better.all():
            self.best = self.params
        elif better.any():
            self.best = self.question.engine.where(self._mask(better), self.params, self.best)

    def _met(self, found: Found, step: int) -> Found:
        """What was found; rows whose step leapt over the probability go back on it to where they meet it.

        A bisection, whose every second try is the secant's.
        """
        if self.question.wanted is None:
            return found
        if self.last is not None:
            found = self._between(*self.last, found, step)
        self.last = self.params, self._gap(found[1])
        return found

    def _between(self, origin: Array, low: np.ndarray, found: Found, step: int) -> Found:
        target, high = self.params, self._gap(found[1])
        near, far = np.zeros(len(low)), np.ones(len(low))
        over = self.active & (np.sign(low) * np.sign(high) < 0)
        for attempt in range(TRIES):
            rows = over & ~self._arrived(found[1])
            if not rows.any():
                break
            with np.errstate(invalid="ignore", divide="ignore"):
                secant = near + (far - near) * low / (low - high)
            share = secant if attempt % 2 == 0 and np.isfinite(secant[rows]).all() else (near + far) / 2
            self._back(rows, origin, target, np.where(rows, share, 0.0))
            found = self._evaluate(self.params, step)
            gap = self._gap(found[1])
            beyond = rows & (gap * high > 0)
            far, high = np.where(beyond, share, far), np.where(beyond, gap, high)
            near, low = np.where(rows & ~beyond, share, near), np.where(rows & ~beyond, gap, low)
        return found

    def _back(self, rows: np.ndarray, origin: Array, target: Array, share: np.ndarray) -> None:
        """These rows to a point on the way."""
        question = self.question
        moved = origin + (target - origin) * question.start.put(self._column(share))
        moved = question.picture.project(question.engine, moved, self.data["bounds"])
        self.params = question.engine.where(self._mask(rows), moved, self.params)

    def _gap(self, values: np.ndarray) -> np.ndarray:
        """How far the logits of the probabilities are from the one wanted."""
        wanted: Any = self.question.wanted
        logs = np.minimum(values.astype(float), -1e-12)
        gap: np.ndarray = logs - np.log(-np.expm1(logs)) - np.log(wanted / (1 - wanted))
        return gap

    def _arrived(self, values: np.ndarray) -> np.ndarray:
        if self.question.wanted is None:
            return np.zeros(len(values), bool)
        near, level = CLOSE
        probability = np.exp(values.astype(float))
        return (np.abs(probability - self.question.wanted) <= near) & (np.abs(self._gap(values)) <= level)

    def _lose(self, lost: np.ndarray, step: int) -> None:
        """Rows whose loss or gradient is not finite go no further."""
        rows = ", ".join(map(str, np.flatnonzero(lost)[:8]))
        if step == 0:
            raise InputError(f"the loss or its gradient is not finite at the start (rows {rows}); choose another init=")
        warnings.warn(
            f"the loss or its gradient is not finite after {step} steps (rows {rows}); the best before that is "
            "returned. A smaller learning_rate= or bounds= may keep it finite",
            NonFiniteWarning,
            stacklevel=5,
        )
        self.active &= ~lost
        self.stopped = "not finite"

    def _note(self, values: np.ndarray, loss: np.ndarray, standing: np.ndarray) -> None:
        """One line of the history; rows that have stopped repeat their last entry."""
        found = {"objective": values, "loss": loss}
        if self.question.wanted is not None:
            found["probability"] = np.exp(values)
        for name, line in found.items():
            lines = self.lines.setdefault(name, [])
            lines.append(np.where(standing, line, lines[-1]) if lines else line)

    def _move(self, gradient: Array) -> None:
        question = self.question
        (moved,) = self.optimizer.step([self.params], [gradient])
        moved = question.picture.project(question.engine, moved, self.data["bounds"])
        everywhere = self.active.all()
        self.params = moved if everywhere else question.engine.where(self._mask(self.active), moved, self.params)
        self.steps += self.active
        self.taken += 1

    def _mask(self, rows: np.ndarray) -> Array:
        """Booleans per row in the rank of the parameters."""
        return self.question.engine.asarray(self._column(rows), "bool", self.question.start.like)

    def _column(self, rows: np.ndarray) -> np.ndarray:
        return rows.reshape(len(rows), *(1,) * (len(self.params.shape) - 1))
