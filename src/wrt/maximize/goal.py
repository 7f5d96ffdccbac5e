"""What is maximised: units, sums of objectives, or the probability of a class."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np

from wrt.derive.job import Job, Options, prepare
from wrt.derive.losses import look_normalized, wide
from wrt.engines import registry
from wrt.engines.base import Array, Arrays, Engine
from wrt.engines.identity import identity
from wrt.engines.network import Taps
from wrt.errors import InputError, OptionError, SelectionError, suggest
from wrt.select import Layer, Logit, Loss, Output, objective
from wrt.trees import map_leaves

ENDS = ("logits", "probabilities", "log-probabilities")
SAY = "say what it ends in: ends='logits', 'probabilities' or 'log-probabilities', or leave probability= out"
Selection = (Layer, Logit, Output)
Terms = tuple[tuple[float, Any], ...]  # weights, and of= in any form


@dataclass(frozen=True)
class Goal:
    """Weighted terms, each a prepared question about the model; `reads` is what becomes of their values."""

    jobs: tuple[Job, ...]
    weights: tuple[float, ...]
    reads: str = ""  # "loss": minus a log-probability; "log": a probability
    loss: Callable[[Array], Array] | None = None
    wanted: bool = False  # a probability

    @property
    def engine(self) -> Engine:
        return self.jobs[0].engine

    @property
    def key(self) -> Hashable:
        programs = tuple(job.recipe.program for job in self.jobs)
        return programs, self.weights, self.reads, identity(self.loss), self.wanted

    def labels(self) -> list[Array | None]:
        """The units of each row, term by term, beside the model's weights."""
        like = self.jobs[0].inputs.leaves[0]
        return [None if job.labels is None else self.engine.asarray(job.labels, None, like) for job in self.jobs]

    def values(self, state: Arrays, image: Array, labels: list[Array | None]) -> Array:
        """(N,) numbers to be maximised; log-probabilities where a probability is wanted."""
        total: Array = None
        for job, weight, units in zip(self.jobs, self.weights, labels, strict=True):
            value = per_row(self.engine, job.recipe.problem.function(state, [], units)([image])[0])
            value = value if weight == 1 else value * weight
            total = value if total is None else total + value
        if self.reads == "log":
            return self.engine.log(total)
        return -total if self.reads == "loss" else total

    def losses(self, values: Array, wanted: Array | None) -> Array:
        """(N,) numbers to be minimised."""
        if self.wanted:
            return (values - wanted) * (values - wanted)
        if self.loss is None:
            return -values
        found = self.loss(values)
        if tuple(getattr(found, "shape", ())) != tuple(values.shape):
            shape = tuple(getattr(found, "shape", ())) if hasattr(found, "shape") else type(found).__name__
            raise SelectionError(f"loss= returned {shape} for {tuple(values.shape)} values; expected one for each")
        return found


def per_row(engine: Engine, value: Array) -> Array:
    """(N,): the mean over whatever else there is, such as the places of a channel."""
    axes = tuple(range(1, len(value.shape)))
    return engine.mean(wide(engine, value), axes) if axes else value


def listed(of: Any) -> Terms:
    """The weighted terms of `of=`, in which a list is one unit for each image."""
    if of is None:
        raise SelectionError("of= is missing: the unit, layer or function to be maximised (of=3, of=[0, 1, 2])")
    return tuple((weight, _units(term)) for weight, term in objective(of).terms)


def _units(of: Any) -> Any:
    if isinstance(of, Selection):
        return dataclasses.replace(of, unit=_units(of.unit))
    if isinstance(of, list | range):
        if not len(of):
            raise SelectionError("of=[] asks for no image; give one unit for each")
        if not all(isinstance(unit, int | np.integer) and not isinstance(unit, bool) for unit in of):
            raise SelectionError(f"of={of!r}: a list holds one unit, an integer, for each image")
        return np.asarray(of)
    return of


def rows_of(terms: Terms) -> int | None:
    """How many images the lists of units ask for; `None` without any.

    Raises:
        SelectionError: two lists of different lengths.
    """
    units = [of.unit if isinstance(of, Selection) else of for _, of in terms]
    counts = {int(u.shape[0]) for u in units if len(getattr(u, "shape", ())) == 1}
    if len(counts) > 1:
        raise SelectionError(f"of= holds lists of {' and '.join(map(str, sorted(counts)))} units; expected one length")
    return counts.pop() if counts else None


def goal_of(model: Any, image: Array, terms: Terms, loss: Any, wanted: Any, ends: str | None, options: Options) -> Goal:
    """The terms prepared for images like this one.

    Raises:
        SelectionError: a unit that does not exist, or a probability of what has none.
        OptionError: a probability that cannot be reached, or an unknown end of the model.
    """
    if loss is not None and not callable(loss):
        raise OptionError(f"loss={loss!r}; expected a function of the chosen values, (N,) to (N,)")
    if ends is not None and ends not in ENDS:
        raise OptionError(f"ends={ends!r} is not a choice.{suggest(str(ends), ENDS)}")
    if wanted is not None:
        return _probable(model, image, terms, loss, wanted, ends, options)
    if ends is not None:
        raise OptionError(f"ends={ends!r} says how to read a probability; give probability= as well")
    jobs = tuple(_job(model, image, of, options) for _, of in terms)
    return Goal(jobs, tuple(weight for weight, _ in terms), loss=loss)


def _job(model: Any, image: Array, of: Any, options: Options) -> Job:
    if isinstance(of, np.ndarray) and of.ndim == 1 and len(of) != image.shape[0]:
        of = np.repeat(of, image.shape[0])
    job = prepare(model, image, of, None, "rows", options)
    if len(job.recipe.shapes.outs) != 1:
        raise SelectionError(f"of={of!r} chooses from several outputs; choose one with wrt.output(name, unit)")
    return job


def _probable(
    model: Any, image: Array, terms: Terms, loss: Any, wanted: Any, ends: str | None, options: Options
) -> Goal:
    if loss is not None:
        raise OptionError("loss= and probability= exclude each other: a probability has a loss of its own")
    if isinstance(wanted, bool) or not isinstance(wanted, int | float | np.floating) or not 0 < wanted < 1:
        raise OptionError(
            f"probability={wanted!r} cannot be reached; expected a number between 0 and 1, such as 0.9. "
            "Without it the objective is maximised"
        )
    (weight, of), *more = terms
    of = of.unit if isinstance(of, Logit) else of
    if more or weight != 1 or not isinstance(of, int | np.integer | np.ndarray) or np.ndim(of) > 1:
        raise SelectionError("probability= needs of= to be a class, or a list of classes, one for each image")
    job = _job(model, image, np.atleast_1d(of), options)
    if ends == "probabilities" or (ends is None and _normalized(job, image)):
        return Goal((job,), (1.0,), "log", wanted=True)
    if ends is not None:
        return Goal((_job(model, image, Loss(job.labels, _said(job.engine)), options),), (1.0,), "loss", wanted=True)
    if job.recipe.shapes.unit_shape == (1,):
        raise SelectionError(f"probability=: the model has one output, which is no distribution over classes; {SAY}")
    try:
        return Goal((_job(model, image, Loss(job.labels), options),), (1.0,), "loss", wanted=True)
    except (InputError, SelectionError) as error:
        why = str(error).split(";")[0]
        raise SelectionError(
            f"probability=: the model was not found to end in logits, softmax or log-softmax ({why}); {SAY}"
        ) from error


def _normalized(job: Job, image: Array) -> bool:
    """Whether the outputs are probabilities of classes whose softmax is out of sight, as in functions."""
    return not job.recipe.shapes.probability and look_normalized(_outputs(job, image))


def _outputs(job: Job, image: Array) -> Any:
    adapted = job.adapted
    return map_leaves(registry.host, adapted.network.apply(adapted.state(False), image, Taps()))


def _said(engine: Engine) -> Callable[[Array, Array], Array]:
    """Minus the log-probability of each row's class, from logits or logarithms of probabilities."""
    return lambda output, units: -engine.gather(engine.log_softmax(output), units)


def outputs_of(goal: Goal, image: Array, ends: str | None) -> Any:
    """The model's own outputs on the host, nested; probabilities of all classes where one is wanted."""
    found = _outputs(goal.jobs[0], image)
    if not goal.wanted or ends == "probabilities" or (ends is None and look_normalized(found)):
        return found
    shifted = np.exp(found - found.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)
