"""A question to the kernel: this function, these tensors, these shapes."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from wrt.derive import losses, target as targets
from wrt.derive.inputs import Wrt
from wrt.derive.target import Target
from wrt.engines.base import Array, Arrays, Engine, Facts, Function
from wrt.engines.network import Network, Site, Taps
from wrt.errors import DependenceError, DtypeError, InputError, SelectionError, WrtError, suggest
from wrt.rules import ACTIVATIONS, Rules, Switch, canonical
from wrt.trees import LEAF, Structure, flatten, path_name, unflatten

PROBE = 2  # samples: enough to see whether axis 0 of the output follows them


@dataclass(frozen=True)
class Problem:
    """`of` and `wrt` of one network, as a function from lists of arrays to lists of arrays."""

    network: Network
    structure: Structure  # of x
    target: Target
    wrt: Wrt
    training: bool = False
    rules: Rules = ()
    with_values: bool = False  # the tensors of `wrt` come with the outputs
    affine: bool = False  # layers of `wrt` are affine, reached before their activations; their values are for zeros
    precision: str | None = None  # to compute in, where layers have one of their own

    def function(
        self, state: Arrays, fixed: Arrays, labels: Array | None, note: dict[str, Any] | None = None
    ) -> Function:
        """`f(diff)`: the chosen outputs as a function of the chosen tensors, everything else fixed."""

        found: set[str] = set()
        switch = Switch()

        def f(diff: Arrays) -> Arrays:
            inputs, taps = self._place(diff, fixed, look=note is not None)
            taps.ruled, taps.switch = found, switch
            y = self.network.apply(state, unflatten(self.structure, inputs), taps)
            leaves, structure, tree = targets.pick_output(self.target, y, taps)
            targets.check_one(self.target, leaves)
            if note is not None:
                direct = self.target.source == "output" and not (callable(self.target.unit) or self.target.is_loss)
                note["probability"] = direct and any(map(taps.is_probability, leaves))
                ends = any(taps.logit_of(a) is not None for a in flatten(y)[0])  # a hidden sigmoid says nothing of them
                note["logit"] = ends if self.target.is_loss else bool(taps.logits)
                note["shape"] = tuple(leaves[0].shape[1:]) if len(leaves) == 1 else ()
                note["ruled"] = found
                note["structure"] = structure if self.target.unit in (None, "all") else LEAF
                if self.target.calls:
                    note["picked"] = _picked(self.network.engine, *flatten(tree))
            chosen = targets.select(self.network.engine, self.target, leaves, tree, labels)
            return [*chosen, *self._values(diff, taps)] if self.with_values else chosen

        return f if not self.rules else self._ruled(f, found, switch)

    @property
    def bare(self) -> Problem:
        """The problem without its model and its choice: what a program over their trace needs of it."""
        return replace(self, network=Network(self.network.engine, _no_model), target=replace(self.target, unit=None))

    def _ruled(self, f: Function, found: set[str], switch: Switch) -> Function:
        """`f` with the rules that name activations; those that name layers are the adapter's."""
        named = self.network.rectifiers()  # "re_lu_6" may be the seventh ReLU of a Keras model
        activations = {canonical(k): r for k, r in self.rules if canonical(k) in ACTIVATIONS and k not in named}
        ruled = self.network.engine.with_rules(f, activations, found, switch) if activations else f
        ruled.switch = switch  # type: ignore[attr-defined]
        return ruled

    def _values(self, diff: Arrays, taps: Taps) -> Arrays:
        pairs = zip(self.wrt.chosen, diff, strict=True)
        seen = {site: constant for site, (_, constant) in taps.affine.items()} if self.affine else taps.seen
        return [d if isinstance(chosen, int) else seen[chosen] for chosen, d in pairs]

    def _place(self, diff: Arrays, fixed: Arrays, look: bool) -> tuple[Arrays, Taps]:
        """Chosen inputs go to their place among the fixed ones, chosen layers become something added."""
        want_logit = look or self.target.source == "logit"
        watch = self.target.watch + (self.wrt.sites if self.with_values and not self.affine else ())
        taps = Taps(watch=watch, want_logit=want_logit, training=self.training, rules=self.rules)
        taps.precision = self.precision
        inputs = dict(enumerate(diff))
        chosen = {c: inputs[i] for i, c in enumerate(self.wrt.chosen)}
        added = {site: chosen[site] for site in self.wrt.sites}
        taps.add, taps.before = ({}, added) if self.affine else (added, {})
        rest = iter(fixed)
        count = len(fixed) + len(self.wrt.inputs)
        return [chosen[i] if i in chosen else next(rest) for i in range(count)], taps

    def split(self, leaves: Arrays) -> tuple[Arrays, Arrays]:
        """The leaves of x that are differentiated, in the order of `wrt`, and the others in their own."""
        return [leaves[i] for i in self.wrt.inputs], [a for i, a in enumerate(leaves) if i not in self.wrt.inputs]


def _no_model(*_: Any) -> Any:
    raise AssertionError("a program over a trace does not call the model")


def _picked(engine: Engine, leaves: list[Any], structure: Structure) -> tuple[tuple[Any, ...], Structure]:
    """Shapes per sample, dtypes and nesting of what a function of `of=` is given."""
    arrays = [(tuple(a.shape[1:]), engine.dtype(a)) if engine.owns(a) else (None, "") for a in leaves]
    return tuple(arrays), structure


def _matches_nothing(key: str, layers: list[str]) -> str:
    if canonical(key) in ACTIVATIONS:
        why = "the model does not call this activation, or not as one operator; a layer's name reaches it there"
    else:
        why = f"there is no such layer, type of layer or activation.{suggest(key, layers)}"
    return f"rules={{{key!r}: ...}} matches nothing: {why}"


@dataclass(frozen=True)
class Shapes:
    """What inspection found: per-sample shapes of outputs and inputs, dtypes of the layers among them."""

    outs: tuple[tuple[int, ...], ...]
    ins: tuple[tuple[int, ...], ...]
    out_structure: Structure
    bytes: int
    sites: dict[Site, tuple[tuple[int, ...], str]] = field(default_factory=dict)
    probability: bool = False
    unit_shape: tuple[int, ...] = ()  # of the tensor that of= chooses from, per sample
    picked: tuple[tuple[Any, ...], ...] = ()  # shapes per sample and dtypes of what a function of of= is given
    picked_structure: Structure = LEAF
    custom: tuple[str, ...] = ()  # operators with a derivative of the user's own

    @property
    def outputs(self) -> int:
        return sum(math.prod(s) for s in self.outs)

    @property
    def inputs(self) -> int:
        return sum(math.prod(s) for s in self.ins)


def diff_of(problem: Problem, leaves: Arrays, sites: dict[Site, tuple[tuple[int, ...], str]]) -> tuple[Arrays, Arrays]:
    """The tensors to differentiate with respect to (zeros to be added, for layers), and the fixed inputs."""
    engine = problem.network.engine
    chosen, fixed = problem.split(leaves)
    stream = iter(chosen)
    diff = [next(stream) if isinstance(c, int) else engine.zeros(leaves[0], *sites[c]) for c in problem.wrt.chosen]
    return diff, fixed


def inspect(problem: Problem, state: Arrays, example: Arrays, labels: Array | None) -> Shapes:
    """Evaluate the problem abstractly on a few samples and check that it is one.

    Raises:
        InputError: the model cannot be evaluated on x, or its output does not hold one row per sample.
        DependenceError: the chosen output does not depend on the chosen tensor.
    """
    samples = example[0].shape[0]
    sites = _layer_shapes(problem, state, example)
    diff, fixed = diff_of(problem, example, sites)
    note: dict[str, Any] = {}
    facts = _facts(problem, state, diff, fixed, labels, note)
    for shape in facts.shapes:
        _check_rows(shape, samples)
    _check_rules(problem, note["ruled"])
    _check_connected(problem, facts, note["structure"])
    if problem.target.source == "logit" and not note["logit"]:
        _check_is_logit(problem, state, example)
    ins = tuple(tuple(d.shape[1:]) for d in diff)
    outs = tuple(tuple(shape[1:]) for shape in facts.shapes)
    picked, nesting = note.get("picked", ((), LEAF))
    size = facts.bytes // samples
    return Shapes(
        outs, ins, note["structure"], size, sites, note["probability"], note["shape"], picked, nesting, facts.custom
    )


def _check_rules(problem: Problem, found: set[str]) -> None:
    for key, _ in problem.rules:
        if not {key, canonical(key)} & found:
            raise SelectionError(_matches_nothing(key, problem.network.layers()))


def _check_is_logit(problem: Problem, state: Arrays, example: Arrays) -> None:
    """Without a softmax or sigmoid in sight the output is the logit, unless its values are probabilities."""
    engine = problem.network.engine
    if problem.target.is_loss:
        return _check_not_normalized(problem, state, example)
    if any(map(engine.is_traced, example)):
        return
    y = problem.network.apply(state, unflatten(problem.structure, example), Taps())
    if any(map(engine.is_traced, flatten(y)[0])):  # of a function over traced parameters
        return
    values = np.concatenate([engine.numpy(a).ravel() for a in flatten(y)[0]])
    if values.size and values.min() >= 0 and values.max() <= 1:
        raise SelectionError(
            "wrt.logit: the outputs look like probabilities but no final softmax or sigmoid was found; "
            "name the layer before it with wrt.layer('name', unit), or let the model return its logits"
        )


def _check_not_normalized(problem: Problem, state: Arrays, example: Arrays) -> None:
    """Rows that add up to one have been through a softmax that the taps did not see, as in JAX functions."""
    engine = problem.network.engine

    def evaluate(arrays: Arrays) -> Arrays:
        x = unflatten(problem.structure, arrays[len(state) :])
        return flatten(problem.network.apply(arrays[: len(state)], x, Taps()))[0]

    try:
        y = _trial(problem, evaluate, [*state, *example])
        values = engine.numpy(y[0]) if y else None
    except Exception:  # what cannot be evaluated here and now cannot be looked at
        return
    if values is not None and losses.look_normalized(values):
        raise SelectionError(
            "the outputs look like probabilities but no final softmax was found, so their logits are not known; "
            "let the function return logits, or give the loss: loss=lambda output, y: ..."
        )


def _trial(problem: Problem, evaluate: Function, arrays: Arrays) -> Arrays | None:
    """Values, also where what the function has captured has none yet, and gets random ones as the weights do."""
    engine = problem.network.engine
    if not problem.network.follows:
        return engine.trial(evaluate, arrays)
    trace = engine.trace(lambda *given: evaluate(list(given)), tuple(arrays))
    count = len(trace.constants)
    return engine.trial(lambda given: trace.function(given[:count], *given[count:]), [*trace.constants, *arrays])


def _facts(
    problem: Problem, state: Arrays, diff: Arrays, fixed: Arrays, labels: Array | None, note: dict[str, Any]
) -> Facts:
    f = problem.function(state, fixed, labels, note)
    try:
        facts = problem.network.engine.inspect(f, diff)
        chosen = len(facts.shapes) - (len(diff) if problem.with_values else 0)
        return dataclasses.replace(facts, shapes=facts.shapes[:chosen], connected=facts.connected[:chosen])
    except WrtError:
        raise
    except Exception as error:
        if problem.network.engine.is_out_of_memory(error):
            raise
        shapes = ", ".join(f"({', '.join(['N', *map(str, a.shape[1:])])})" for a in (*diff, *fixed))
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"the model cannot be evaluated on x of shape {shapes}: {type(error).__name__}: {text}"
        ) from error


def _check_rows(shape: tuple[int, ...], samples: int) -> None:
    if not shape or (shape[0] is not None and shape[0] != samples):
        raise InputError(
            f"{samples} samples gave an output of shape {tuple(shape)}; axis 0 must be samples. "
            "Give a function of one sample as jax.vmap(f) or torch.func.vmap(f)"
        )
    if None in shape[1:]:
        raise InputError(
            f"the size of the output per sample, {tuple(shape[1:])}, is not known before it is computed; "
            "state it: tf.ensure_shape(y, (None, ...)), or tf.reshape"
        )


def _check_connected(problem: Problem, facts: Facts, structure: Structure) -> None:
    if not facts.shapes:
        raise SelectionError("the model has no output to differentiate")
    for k, chosen in enumerate(problem.wrt.chosen):
        if not problem.affine and not any(row[k] for row in facts.connected):
            path = problem.structure.paths()[chosen] if isinstance(chosen, int) else ()
            what = f"input {path_name(path)!r}" if isinstance(chosen, int) else f"layer {chosen[0]!r}"
            raise DependenceError(
                f"{problem.target.describe()} does not depend on {what}: there is no differentiable path between them "
                f"(an integer cast, an embedding lookup or a detached value ends one); choose another of= or wrt="
                f"{_embedding_hint(problem)}"
            )
    for path, row in zip(structure.paths(), facts.connected, strict=True):
        if not any(row):
            name = path_name(path) if path else ""
            raise DependenceError(
                f"output {name!r} does not depend on the chosen wrt=; "
                "choose the outputs that do with of=wrt.output(name)"
            )


def _embedding_hint(problem: Problem) -> str:
    names = problem.network.embeddings()
    return f", for instance wrt={names[0]!r}" if names else ""


def _layer_shapes(problem: Problem, state: Arrays, example: Arrays) -> dict[Site, tuple[tuple[int, ...], str]]:
    """Per-sample shape and dtype of every layer that is differentiated with respect to."""
    sites = problem.wrt.sites
    if not sites:
        return {}
    engine, found = problem.network.engine, {}

    def look(_: Arrays) -> Arrays:
        taps = Taps(before=dict.fromkeys(sites, 0.0)) if problem.affine else Taps(watch=sites)
        problem.network.apply(state, unflatten(problem.structure, example), taps)
        seen = {site: value for site, (value, _) in taps.affine.items()} if problem.affine else taps.seen
        found.update({site: (tuple(v.shape), engine.dtype(v)) for site, v in seen.items()})
        return list(seen.values())

    try:
        engine.inspect(look, [])
    except WrtError:
        raise
    except Exception as error:
        raise InputError(f"the model cannot be evaluated on x: {type(error).__name__}: {error}") from error
    for (name, _), (shape, dtype) in found.items():
        _check_layer(name, shape, dtype, example[0].shape[0])
    return {site: (shape[1:], dtype) for site, (shape, dtype) in found.items()}


def _check_layer(name: str, shape: tuple[int, ...], dtype: str, samples: int) -> None:
    if "complex" in dtype:
        raise DtypeError(
            f"wrt= names layer {name!r}, which gives {dtype}; derivatives are with respect to real numbers: choose a "
            "layer before it, or one that gives real and imaginary parts"
        )
    if "float" not in dtype:
        raise SelectionError(f"layer {name!r} gives {dtype}; there is no derivative with respect to integers")
    if not shape or shape[0] != samples:
        raise SelectionError(f"layer {name!r} gives shape {shape}, without one row per sample; choose another layer")
