"""One evaluation of an ascent: the values, the losses and the gradient, compiled once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from wrt.derive.compress import Sweep, compress
from wrt.derive.programs import kept
from wrt.engines.base import Array, Arrays, Engine
from wrt.maximize import regularizers as reg, transforms as tra
from wrt.maximize.goal import Goal
from wrt.maximize.image import Axes, Fourier, Pixels
from wrt.maximize.parametrizations import Maco
from wrt.maximize.start import Start


@dataclass(frozen=True)
class Question:
    """All that an ascent is about, except where it is."""

    start: Start
    goal: Goal
    picture: Pixels | Fourier | Maco
    regularizers: tuple[Any, ...]
    transforms: tuple[tra.Transform, ...]
    axes: Axes | None
    bounds: tuple[Any, Any] | None
    wanted: float | None
    seed: int

    @property
    def engine(self) -> Engine:
        return self.start.engine

    def data(self) -> dict[str, Any]:
        """The arrays that stay as they are: those of the terms, bounds, references, the wanted log-probability."""
        put = self.start.put
        references = [r.reference for r in self.regularizers if getattr(r, "reference", None) is not None]
        return {
            "terms": self.goal.data(),
            "bounds": [] if self.bounds is None else [put(np.asarray(b)) for b in self.bounds],
            "references": [put(np.array(r)) for r in references],
            "wanted": None if self.wanted is None else put(np.log(np.asarray(self.wanted))),
        }

    def places(self, step: int) -> Arrays:
        """Where the transforms of this step read the image."""
        if not self.transforms:
            return []
        rows, columns = self.axes.plane  # type: ignore[union-attr]
        size = (self.start.values.shape[rows], self.start.values.shape[columns])
        index, weights, outside = tra.sample(self.transforms, size, self.seed, step)
        like = self.start.like
        return [self.engine.asarray(index, "int32", like), self.start.put(weights), self.start.put(outside)]

    def program(self) -> Callable[..., tuple[Array, Array, Array, Array]]:
        """`(state, params, data, places) -> (gradient, values, losses, health)`; compiled where the plan compiles."""
        job = self.goal.jobs[0]
        regularizers = reg.key_of(self.regularizers)
        key = ("maximize", self.goal.key, self.picture.key, regularizers, bool(self.transforms), self.axes)
        given = (*self.regularizers, *filter(None, [self.goal.loss]))
        return kept(job, key, self._program, reads=not all(isinstance(r, reg.Regularizer) for r in given))

    def _program(self) -> Callable[..., tuple[Array, Array, Array, Array]]:
        engine, reading, picture = self.engine, self.goal.reading, self.picture
        regularizers, axes, moving = self.regularizers, self.axes, bool(self.transforms)

        def seeds(_: Array, like: Arrays) -> Arrays:
            loss, values = map(engine.zeros_like, like)
            return [loss + 1, values]

        def program(state: Arrays, params: Array, data: dict[str, Any], places: Arrays) -> tuple[Array, ...]:
            def losses(at: Arrays, move: bool) -> Arrays:
                image = picture.image(engine, at[0], data["bounds"])
                seen = tra.moved(engine, image, axes, places) if move and axes else image
                values, layers = reading.values(state, seen, data["terms"])
                total = reading.losses(values, data["wanted"])
                more = reg.added(engine, regularizers, axes, image, data["references"], layers)
                return [total if more is None else total + more, values]

            sweep = Sweep("reverse", 1, 1)
            found, (gradients,) = compress(engine, lambda at: losses(at, moving), [params], seeds, sweep)
            loss, values = losses([params], False) if moving else found
            gradient = gradients[0]
            health = engine.mean(gradient, tuple(range(1, len(gradient.shape))))
            return gradient, values, loss, health

        return program  # type: ignore[return-value]
