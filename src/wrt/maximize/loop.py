"""The ascent itself: step after step, until every row has stopped."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import numpy as np

from wrt.engines.base import Array, Optimizer
from wrt.errors import InputError, NonFiniteWarning
from wrt.maximize.step import Question
from wrt.progress import progress_bar

CLOSE = 0.02, 0.2  # of a probability and of its logit, both: 0.9 is reached between 0.880 and 0.917


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

    def _evaluate(self, params: Array, step: int) -> tuple[Array, np.ndarray, np.ndarray, np.ndarray]:
        places = self.question.places(self.first + step)
        gradient, *rows = self.program(self.state, params, self.data, places)
        values, loss, health = (np.array(self.question.engine.numpy(a)) for a in rows)
        return gradient, values, loss, health

    def _look(self, step: int) -> Array:
        """Note where it stands: the best rows, and those that have arrived or been lost."""
        gradient, values, loss, health = self._evaluate(self.params, step)
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

    def _arrived(self, values: np.ndarray) -> np.ndarray:
        wanted = self.question.wanted
        if wanted is None:
            return np.zeros(len(values), bool)
        logs = np.minimum(values.astype(float), -1e-12)
        logits = logs - np.log(-np.expm1(logs))
        near, level = CLOSE
        return (np.abs(np.exp(logs) - wanted) <= near) & (np.abs(logits - np.log(wanted / (1 - wanted))) <= level)

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
        shape = (len(rows), *(1,) * (len(self.params.shape) - 1))
        return self.question.engine.asarray(rows.reshape(shape), "bool", self.question.start.like)
