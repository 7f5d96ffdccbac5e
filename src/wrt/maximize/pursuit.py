"""The steps of an attack: as the program of a job, so that batches are those of every other job."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from wrt.derive.compress import Sweep, compress
from wrt.derive.job import Job
from wrt.derive.losses import wide
from wrt.derive.programs import kept
from wrt.derive.target import pick_output
from wrt.engines.base import Array, Arrays
from wrt.engines.network import Taps
from wrt.maximize.ball import projected, steepest
from wrt.maximize.image import clipped
from wrt.trees import flatten, unflatten


@dataclass(frozen=True, eq=False)
class Pursuit:
    """Runs in place of a job's own program; its product is the last point.

    Its outputs are the model's before and after, each with the values before a last softmax or sigmoid, and the sum
    over the steps of the mean of |gradient|, `(N,)`.
    """

    base: Job
    norm: float
    steps: int
    numbers: np.ndarray  # the radius of the ball and the length of a step, negative where it leads down
    bounds: tuple[np.ndarray, np.ndarray] | None
    advance: Callable[[int], None]

    def job(self, start: np.ndarray | None) -> Job:
        """The job for `run`; its rows begin at those of `start`, or at their own."""
        recipe = dataclasses.replace(self.base.recipe, program=self)
        options = dataclasses.replace(self.base.options, progress=False)
        extra = () if start is None else (start,)
        return dataclasses.replace(self.base, recipe=recipe, options=options, extra=extra, remember=lambda _: None)

    def __call__(self, state: Arrays, leaves: Arrays, labels: Array, extra: Arrays) -> tuple[Arrays, Arrays]:
        engine, (x,) = self.base.engine, leaves
        look = kept(self.base, "outputs and logits", lambda: _looks(self.base))
        step = kept(self.base, f"step in the norm {self.norm:g}", lambda: _step(self.base, self.norm))
        numbers = [engine.asarray(number, engine.dtype(wide(engine, x)), x) for number in self.numbers]
        bounds = [engine.asarray(bound, engine.dtype(x), x) for bound in self.bounds or ()]
        point = engine.asarray(extra[0], engine.dtype(x), x) if extra else x
        point = clipped(engine, point, bounds) if bounds else point
        before, total = look(state, leaves), 0
        for _ in range(self.steps):
            point, size = step(state, x, labels, point, numbers, bounds)
            total = total + size
            self.advance(x.shape[0])
        return [*before, *look(state, [point]), total], [point[None]]


def _step(job: Job, norm: float) -> Callable[..., tuple[Array, Array]]:
    """One step: the point `(N, *in)` after it, and the mean of |gradient| before, `(N,)`."""
    engine, problem = job.engine, job.recipe.problem
    sweep = Sweep("reverse", 1, 1)

    def program(
        state: Arrays, x: Array, labels: Array, point: Array, numbers: Arrays, bounds: Arrays
    ) -> tuple[Array, Array]:
        radius, length = numbers
        f = problem.function(state, [], labels)
        _, (gradients,) = compress(engine, f, [point], lambda r, like: engine.unit(r, like), sweep)
        way, size = steepest(engine, wide(engine, gradients[0]), norm)
        here = wide(engine, x)
        delta = projected(engine, wide(engine, point) + length * way - here, radius, norm)
        moved = engine.asarray(here + delta, engine.dtype(x))
        return clipped(engine, moved, bounds) if bounds else moved, size

    return program


def _looks(job: Job) -> Callable[..., Arrays]:
    """The outputs, and the values before a last softmax or sigmoid."""
    problem = job.recipe.problem

    def program(state: Arrays, leaves: Arrays) -> Arrays:
        taps = Taps(want_logit=True)
        y = problem.network.apply(state, unflatten(problem.structure, leaves), taps)
        (value,), _, _ = pick_output(problem.target, y, taps)
        return [flatten(y)[0][0], value]

    return program
