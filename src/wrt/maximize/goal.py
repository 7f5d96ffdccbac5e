"""What is maximised: units, sums of objectives, or the probability of a class."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wrt.derive import target as targets
from wrt.derive.job import Job, Options, prepare
from wrt.derive.layout import output_axis
from wrt.derive.losses import look_normalized
from wrt.derive.target import Target
from wrt.engines import registry
from wrt.engines.base import Array, Arrays, Engine
from wrt.engines.identity import identity
from wrt.engines.network import Network, Taps
from wrt.errors import InputError, OptionError, SelectionError, suggest
from wrt.maximize.objectives import Measure, Selection, Settled, channels_last, per_row, units
from wrt.select import Logit, Loss, objective
from wrt.trees import map_leaves

ENDS = ("logits", "probabilities", "log-probabilities")
SAY = "say what it ends in: ends='logits', 'probabilities' or 'log-probabilities', or leave probability= out"
Terms = tuple[tuple[float, Any], ...]  # weights, and of= in any form


@dataclass(frozen=True)
class Part:
    """One tensor of the model: where it comes from, and what becomes of it."""

    target: Target
    weight: float = 1.0
    measure: Callable[[Engine, Array, Any], Array] | None = None

    def value(self, engine: Engine, y: Any, taps: Taps, data: Any) -> Array:
        """(N,), from what the model gave and the taps saw."""
        leaves, _, tree = targets.pick_output(self.target, y, taps)
        value = targets.select(engine, self.target, leaves, tree, None if self.measure else data)[0]
        value = self.measure(engine, value, data) if self.measure else per_row(engine, value)
        return value if self.weight == 1 else value * self.weight


@dataclass(frozen=True)
class Reading:
    """What a program does with the model: a sum of parts from one evaluation. No weights and no data, as it is kept."""

    network: Network
    parts: tuple[Part, ...]
    watched: tuple[Part, ...] = ()  # layers that regularisers look at
    reads: str = ""  # "loss": minus a log-probability; "log": a probability
    loss: Callable[[Array], Array] | None = None
    wanted: bool = False  # a probability

    @property
    def engine(self) -> Engine:
        return self.network.engine

    def values(self, state: Arrays, image: Array, data: list[Any]) -> tuple[Array, Arrays]:
        """(N,) numbers to be maximised, log-probabilities where one is wanted; and what is watched."""
        every = [part.target for part in (*self.parts, *self.watched)]
        sites = dict.fromkeys(site for target in every for site in target.watch)
        taps = Taps(watch=tuple(sites), want_logit=any(target.source == "logit" for target in every))
        y = self.network.apply(state, image, taps)
        found = [part.value(self.engine, y, taps, own) for part, own in zip(self.parts, data, strict=True)]
        total = functools.reduce(operator.add, found)
        if self.reads:
            total = self.engine.log(total) if self.reads == "log" else -total
        return total, [part.value(self.engine, y, taps, None) for part in self.watched]

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


@dataclass(frozen=True)
class Term:
    """A weighted summand, prepared: a question about the model, and what is measured of its answer."""

    job: Job
    weight: float = 1.0
    settled: Settled | None = None

    @property
    def part(self) -> Part:
        return Part(self.job.recipe.problem.target, self.weight, self.settled.measure if self.settled else None)

    @property
    def key(self) -> Hashable:
        now = self.job.trace and self.job.trace.key
        return self.job.recipe.programs, now, self.weight, self.settled.key if self.settled else None

    @property
    def data(self) -> Any:
        return self.settled.data if self.settled else self.job.labels


@dataclass(frozen=True)
class Goal:
    """Terms, and what becomes of their sum."""

    terms: tuple[Term, ...]
    watched: tuple[Term, ...] = ()
    reads: str = ""
    loss: Callable[[Array], Array] | None = None
    wanted: bool = False

    @property
    def jobs(self) -> tuple[Job, ...]:
        return tuple(term.job for term in self.terms)

    @property
    def reading(self) -> Reading:
        parts, watched = (tuple(term.part for term in terms) for terms in (self.terms, self.watched))
        return Reading(self.jobs[0].adapted.network, parts, watched, self.reads, self.loss, self.wanted)

    @property
    def key(self) -> Hashable:
        keys = tuple(tuple(term.key for term in terms) for terms in (self.terms, self.watched))
        return keys, self.reads, identity(self.loss), self.wanted

    def data(self) -> list[Any]:
        """What belongs to the rows, term by term, beside the model's weights: units, vectors, activations."""
        job = self.jobs[0]
        like = job.inputs.leaves[0]
        return [None if term.data is None else job.engine.asarray(term.data, None, like) for term in self.terms]


def listed(of: Any) -> Terms:
    """The weighted terms of `of=`, in which a list is one unit for each image."""
    if of is None:
        raise SelectionError("of= is missing: the unit, layer or function to be maximised (of=3, of=[0, 1, 2])")
    return tuple((weight, _units(term)) for weight, term in objective(of).terms)


def _units(of: Any) -> Any:
    if isinstance(of, Selection):
        return dataclasses.replace(of, unit=_units(of.unit))
    if not isinstance(of, list | range):
        return of
    if not len(of):
        raise SelectionError("of=[] asks for no image; give one unit for each")
    tuples = [unit for unit in of if isinstance(unit, tuple) and unit and all(map(_is_integer, unit))]
    if len(tuples) == len(of) and len(set(map(len, tuples))) == 1:
        return tuples
    if not all(map(_is_integer, of)):
        raise SelectionError(
            f"of={of!r}: a list holds one unit, an integer, for each image; or tuples of integers, all as long"
        )
    return np.asarray(of)


def _is_integer(unit: Any) -> bool:
    return isinstance(unit, int | np.integer) and not isinstance(unit, bool)


def _count(of: Any) -> int | None:
    """How many images this asks for."""
    if isinstance(of, Measure):
        return of.rows
    unit = of.unit if isinstance(of, Selection) else of
    if isinstance(unit, list):
        return len(unit)
    shape: Any = getattr(unit, "shape", ())
    return int(shape[0]) if len(shape) == 1 else None


def rows_of(terms: Terms) -> int | None:
    """How many images the lists of units ask for; `None` without any.

    Raises:
        SelectionError: two lists of different lengths.
    """
    counts = {count for _, of in terms if (count := _count(of)) is not None}
    if len(counts) > 1:
        raise SelectionError(f"of= holds lists of {' and '.join(map(str, sorted(counts)))} units; expected one length")
    return counts.pop() if counts else None


def goal_of(
    model: Any,
    image: Array,
    terms: Terms,
    loss: Any,
    wanted: Any,
    ends: str | None,
    options: Options,
    watched: Sequence[Any] = (),
) -> Goal:
    """The terms, and the layers that are watched beside them, prepared for images like this one.

    Raises:
        SelectionError: a unit that does not exist, or a probability of what has none.
        OptionError: a probability that cannot be reached, or an unknown end of the model.
    """
    if loss is not None and not callable(loss):
        raise OptionError(f"loss={loss!r}; expected a function of the chosen values, (N,) to (N,)")
    if ends is not None and ends not in ENDS:
        raise OptionError(f"ends={ends!r} is not a choice.{suggest(str(ends), ENDS)}")
    layers = tuple(_watched(model, image, layer, options) for layer in watched)
    if wanted is not None:
        goal = _probable(model, image, terms, loss, wanted, ends, options)
        return dataclasses.replace(goal, watched=layers)
    if ends is not None:
        raise OptionError(f"ends={ends!r} says how to read a probability; give probability= as well")
    return Goal(tuple(_term(model, image, weight, of, options) for weight, of in terms), layers, loss=loss)


def _term(model: Any, image: Array, weight: float, of: Any, options: Options) -> Term:
    unit = of.unit if isinstance(of, Selection) else of
    if isinstance(unit, list) or (isinstance(unit, np.ndarray) and unit.ndim == 1):
        of = units(dataclasses.replace(of, unit=None) if isinstance(of, Selection) else None, unit, "of")
    if isinstance(of, Measure):
        job = _job(model, image, of.layer, options)
        return Term(job, weight, of.settle(job))
    return Term(_job(model, image, of, options), weight)


def _watched(model: Any, image: Array, layer: Any, options: Options) -> Term:
    """A layer as (N, places, channels)."""
    job = _job(model, image, layer, options)
    shape = job.recipe.shapes.outs[0]
    if not shape:
        raise SelectionError(f"{layer!r} is one number per image, without channels that diversity could compare")
    axis = output_axis(job)
    return Term(job, 1.0, Settled(lambda engine, value, _: channels_last(engine, value, shape, axis), (shape, axis)))


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
        raise SelectionError(
            "probability= needs of= to be a class, or a list of classes, one for each image; of a model with several "
            "outputs give one that returns the classes alone, such as keras.Model(model.inputs, model.outputs[0])"
        )
    job = _job(model, image, np.atleast_1d(of), options)
    if ends == "probabilities" or (ends is None and _normalized(job, image)):
        return Goal((Term(job),), reads="log", wanted=True)
    if ends is not None:
        return _logs(_job(model, image, Loss(job.labels, _said(job.engine)), options))
    if job.recipe.shapes.unit_shape == (1,):
        raise SelectionError(f"probability=: the model has one output, which is no distribution over classes; {SAY}")
    try:
        return _logs(_job(model, image, Loss(job.labels), options))
    except (InputError, SelectionError) as error:
        why = str(error).split(";")[0]
        raise SelectionError(
            f"probability=: the model was not found to end in logits, softmax or log-softmax ({why}); {SAY}"
        ) from error


def _logs(job: Job) -> Goal:
    return Goal((Term(job),), reads="loss", wanted=True)


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
