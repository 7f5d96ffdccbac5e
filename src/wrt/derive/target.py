"""`of=`: which numbers are differentiated."""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np

from wrt.derive import losses
from wrt.engines import registry
from wrt.engines.base import Array, Arrays, Engine
from wrt.engines.identity import identity
from wrt.engines.network import Site, Taps
from wrt.errors import DtypeError, InputError, SelectionError, suggest
from wrt.select import Composable, Layer, Logit, LogProbabilities, Loss, Objective, Output, Top
from wrt.trees import LEAF, Structure, flatten, path_name

WAYS = (
    "choose a unit (of=3), each sample's label (of=labels, shape (N,)), the highest (of='max' or of=wrt.top(2)), "
    "every unit (of='all'), the value before a softmax (of=wrt.logit(3)), another output (of=wrt.output('name', 3)), "
    "a layer (of=wrt.layer('name', 3)), or a function of the output (of=lambda y: y[:, 0] - y[:, 1])"
)


@dataclass(frozen=True)
class Target:
    """A normalised `of=`: where the tensor comes from, which entries are meant, and the labels if there are any."""

    source: str  # "output", "logit", "layer"
    name: str | int | None
    site: Site | None
    unit: Any  # None, "all", int, tuple, Top, callable, "labels", Loss (its y being the labels) or LogProbabilities
    labels: Any = None

    @property
    def key(self) -> Hashable:
        labels = None if self.labels is None else tuple(self.labels.shape[1:])
        unit = identity(self.unit) if callable(self.unit) else self.unit
        if isinstance(unit, Loss):
            unit = "loss", identity(unit.function), str(getattr(self.labels, "dtype", None))
        return self.source, self.name, self.site, unit, labels

    @property
    def calls(self) -> bool:
        """Whether a function of the user's makes the choice, which may read anything."""
        return callable(self.unit) or (isinstance(self.unit, Loss) and self.unit.function is not None)

    @property
    def is_loss(self) -> bool:
        return isinstance(self.unit, (Loss, LogProbabilities))

    @property
    def watch(self) -> tuple[Site, ...]:
        return () if self.site is None else (self.site,)

    def describe(self) -> str:
        if self.is_loss:
            return "the loss"
        where = {"output": "the output", "logit": "the logit", "layer": f"layer {self.name!r}"}[self.source]
        if self.source == "output" and self.name is not None:
            where = f"output {self.name!r}"
        return where if self.unit in (None, "all") else f"{self.unit!r} of {where}"


def parse(of: Any) -> Target:
    """The target that a user's `of=` means.

    Raises:
        SelectionError: it is none of the forms, or is an array of floats.
    """
    if isinstance(of, Objective):
        raise SelectionError(
            "of= is a sum of objectives, which wrt.maximize takes; elsewhere give a function of the output, "
            "of=lambda y: y[:, 3] - y[:, 7]"
        )
    if isinstance(of, Layer):
        return _with_unit("layer", of.name, (of.name, of.call), of.unit)
    if isinstance(of, Output):
        return _with_unit("output", of.name, None, of.unit)
    if isinstance(of, Loss):
        labels = None if of.y is None and of.function is not None else losses.data_of(of.y)
        return Target("output" if of.function else "logit", None, None, Loss(None, of.function), labels)
    if isinstance(of, LogProbabilities):
        return Target("logit", None, None, of)
    if isinstance(of, Logit):
        return _with_unit("logit", None, None, of.unit)
    if isinstance(of, Composable):
        raise SelectionError(
            "of= is one of wrt.objectives, which wrt.maximize takes; elsewhere give a function of the layer's output, "
            "of=wrt.layer(name, lambda a: ...)"
        )
    return _with_unit("output", None, None, of)


def _with_unit(source: str, name: str | int | None, site: Site | None, unit: Any) -> Target:
    if unit is None or (isinstance(unit, str) and unit == "all"):
        return Target(source, name, site, unit)
    if isinstance(unit, str):
        if unit == "max":
            return Target(source, name, site, Top(1))
        raise SelectionError(f"of={unit!r} is not a choice.{suggest(unit, ['max', 'all'])} Or {WAYS}")
    if isinstance(unit, Top):
        return Target(source, name, site, Top(_positive(unit.k)))
    if isinstance(unit, (Layer, Output, Logit)):
        raise SelectionError(f"of= nests {type(unit).__name__.lower()} in another choice; give it a plain unit")
    if callable(unit):
        return Target(source, name, site, unit)
    return _indexed(source, name, site, unit)


def _positive(k: Any) -> int:
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise SelectionError(f"wrt.top(k={k!r}): k must be an integer of at least 1")
    return int(k)


def _indexed(source: str, name: str | int | None, site: Site | None, unit: Any) -> Target:
    if isinstance(unit, (int, np.integer)) and not isinstance(unit, bool):
        return Target(source, name, site, int(unit))
    if isinstance(unit, tuple) and all(isinstance(u, (int, np.integer)) for u in unit):
        return Target(source, name, site, tuple(map(int, unit)))
    engine = registry.owner(unit)
    array = unit if engine else np.asarray(unit)
    kind = engine.dtype(unit) if engine else str(array.dtype)
    if "int" not in kind:
        hint = "; one-hot rows become labels by y.argmax(axis=-1)" if "float" in kind or "bool" in kind else ""
        raise SelectionError(f"of= is an array of {kind}; expected integers, one label per sample{hint}")
    if len(array.shape) not in (0, 1, 2):
        raise SelectionError(f"of= has shape {tuple(array.shape)}; labels are (N,) or (N, K)")
    if len(array.shape) == 0:
        return Target(source, name, site, int(array))
    return Target(source, name, site, "labels", array)


def check_labels(target: Target, samples: int | None) -> None:
    """One row of labels per sample."""
    shape = None if target.labels is None else tuple(target.labels.shape)
    if shape is not None and None not in (samples, shape[0]) and shape[0] != samples:
        if target.is_loss:
            raise InputError(f"y has shape {shape} but x holds {samples} samples; expected one row per sample")
        raise SelectionError(
            f"of= has shape {shape} but x holds {samples} samples; expected ({samples},) or ({samples}, K)"
        )


def pick_output(target: Target, y: Any, taps: Taps) -> tuple[Arrays, Structure, Any]:
    """The tensors that are meant: leaves, their structure, and the tree that a callable gets."""
    if target.source == "layer":
        value = taps.seen[target.site]  # type: ignore[index]
        return [value], LEAF, value
    tree = y if target.name is None else _named(y, target.name)
    leaves, structure = flatten(tree)
    if target.source == "logit":
        if len(leaves) != 1:
            raise SelectionError(_needs_one(target, len(leaves)))
        if target.is_loss:
            return _before(leaves[0], taps)
        before = taps.logit_of(leaves[0])
        leaves, tree = ([before], before) if before is not None else (leaves, tree)
    return leaves, structure, tree


def _needs_one(target: Target, outputs: int) -> str:
    if target.is_loss:
        return f"the model has {outputs} outputs; give the loss of a sample yourself: loss=lambda outputs, y: ..."
    return f"wrt.logit needs a model with one output; this one has {outputs}"


def _before(output: Array, taps: Taps) -> tuple[Arrays, Structure, Any]:
    """What a loss is made of: the value before a final softmax or sigmoid, and which of the two it was."""
    activation = taps.activation_of(output)
    value = taps.logit_of(output) if activation else output
    return [value], LEAF, (value, activation)


def _named(y: Any, name: str | int) -> Any:
    leaves, structure = flatten(y)
    by_name = dict(zip(structure.keys, range(len(structure.keys)), strict=True))
    parts = y if isinstance(y, (list, tuple)) else None
    if isinstance(name, int) and parts is not None and -len(parts) <= name < len(parts):
        return parts[name]
    if name in by_name and len(leaves) == len(structure.keys):
        return leaves[by_name[name]]
    names = [path_name(p) for p in structure.paths()]
    if name in names:
        return leaves[names.index(str(name))]
    raise SelectionError(f"unknown output {name!r}.{suggest(str(name), names)}")


def select(engine: Engine, target: Target, leaves: Arrays, tree: Any, labels: Array | None) -> Arrays:
    """The chosen numbers, `(N, *sel)` each.

    Raises:
        DtypeError: they are complex.
    """
    if not (callable(target.unit) or target.is_loss):  # a function may make real numbers of complex ones
        _check_real(engine, target, leaves)
    chosen = _select(engine, target, leaves, tree, labels)
    _check_real(engine, target, chosen)
    return chosen


def _check_real(engine: Engine, target: Target, values: Arrays) -> None:
    for value in values:
        if hasattr(value, "dtype") and "complex" in engine.dtype(value):
            raise DtypeError(
                f"{target.describe()} is {engine.dtype(value)}; derivatives are those of real numbers: choose the real "
                "or imaginary part, of=lambda y: y.real (tf.math.real(y) on TensorFlow), or let the model return both "
                "(torch.view_as_real; jnp.real and jnp.imag; tf.math.real and tf.math.imag)"
            )


def _select(engine: Engine, target: Target, leaves: Arrays, tree: Any, labels: Array | None) -> Arrays:
    unit = target.unit
    if unit is None or (isinstance(unit, str) and unit == "all"):
        return leaves
    if target.is_loss:
        value, activation = tree if target.source == "logit" else (tree, "")
        return [losses.per_sample(engine, unit, value, activation, labels)]
    if callable(unit):
        return [_called(unit, tree)]
    if len(leaves) != 1:
        raise SelectionError(
            f"of={unit!r}: the model has {len(leaves)} outputs; choose one with wrt.output(name, unit)"
        )
    value = leaves[0]
    if isinstance(unit, int):
        return [value[..., unit]]
    if isinstance(unit, tuple):
        return [value[(slice(None), *unit)]]
    if isinstance(unit, Top):
        chosen = engine.gather(value, engine.top(value, unit.k))
        return [chosen[:, 0] if unit.k == 1 else chosen]
    return [engine.gather(value, labels)]


def _called(function: Callable[[Any], Any], tree: Any) -> Array:
    value = function(tree)
    if not hasattr(value, "shape") or len(value.shape) not in (1, 2):
        found = tuple(getattr(value, "shape", ())) or type(value).__name__
        raise SelectionError(f"of= is a function that returned {found}; expected (N,) or (N, K), one row per sample")
    return value


def check_one(target: Target, leaves: Arrays) -> None:
    """A unit is chosen from one output, and lies inside it."""
    unit = target.unit
    if unit is None or callable(unit) or target.is_loss or (isinstance(unit, str) and unit == "all"):
        return
    if len(leaves) != 1:
        raise SelectionError(f"of={unit!r}: the model has {len(leaves)} outputs; choose with wrt.output(name, unit)")
    check_range(target, tuple(leaves[0].shape[1:]))


def check_range(target: Target, shape: tuple[int, ...]) -> None:
    """Units and labels lie inside an output of this per-sample shape."""
    unit = target.unit
    if not shape:
        raise SelectionError(f"of={unit!r}: {target.describe()} is one number per sample, without units; leave of= out")
    if isinstance(unit, tuple):
        _check_index(unit, shape)
    elif isinstance(unit, int):
        _check_unit(unit, shape[-1], "of=")
    elif len(shape) != 1:
        raise SelectionError(f"of={unit!r} needs an output (N, units); this one is (N, {', '.join(map(str, shape))})")
    elif isinstance(unit, Top):
        if unit.k > shape[0]:
            raise SelectionError(f"wrt.top({unit.k}): the output has only {shape[0]} units")
    elif isinstance(target.labels, np.ndarray) and target.labels.size:
        for extreme in (target.labels.min(), target.labels.max()):
            _check_unit(operator.index(extreme), shape[0], "of=: label ")


def _check_index(unit: tuple[int, ...], shape: tuple[int, ...]) -> None:
    if len(unit) > len(shape):
        raise SelectionError(f"of={unit}: {len(unit)} indices for an output of shape (N, {', '.join(map(str, shape))})")
    for index, size in zip(unit, shape, strict=False):
        _check_unit(index, size, f"of={unit}: index ")


def _check_unit(unit: int, size: int, what: str) -> None:
    if not -size <= unit < size:
        raise SelectionError(f"{what}{unit} is out of range: the output has {size} units, 0 to {size - 1}")
