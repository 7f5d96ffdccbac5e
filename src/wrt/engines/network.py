"""A model as a pure function: what the adapters produce and the kernel consumes."""

from __future__ import annotations

import inspect
import types
import weakref
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from wrt.engines.base import Array, Arrays, Engine
from wrt.errors import ModelError, SelectionError
from wrt.rules import Rules, Switch

Site = tuple[str, int | None]  # a layer's name and which of its calls


@dataclass
class Taps:
    """How one evaluation is done: what to add to layers, to read from them, and which have another derivative."""

    add: dict[Site, Array] = field(default_factory=dict)
    watch: tuple[Site, ...] = ()
    want_logit: bool = False
    seen: dict[Site, Array] = field(default_factory=dict)
    logits: list[tuple[Array, Array, str]] = field(default_factory=list)  # (after, before, activation)
    calls: dict[str, int] = field(default_factory=dict)
    training: bool = False  # as in the forward pass of training, state left as it is
    rules: Rules = ()
    switch: Switch = field(default_factory=Switch)
    ruled: set[str] = field(default_factory=set)  # names of the rules that found something
    before: dict[Site, Array] = field(default_factory=dict)  # what to add to affine layers before their activation
    affine: dict[Site, tuple[Array, Array]] = field(default_factory=dict)  # their values there, and those for zeros
    entered: dict[str, int] = field(default_factory=dict)
    precision: str | None = None  # to compute in, whatever the layers say

    @property
    def names(self) -> set[str]:
        return {name for name, _ in (*self.add, *self.watch)}

    def visit(self, name: str, value: Array) -> Array:
        """A layer has produced `value`: read it, or put something on top of it."""
        call = self.calls.get(name, 0)
        self.calls[name] = call + 1
        for site in ((name, call), (name, None)):
            if site in self.add:
                value = value + self.add[site]
            if site in self.watch:
                self.seen[site] = value
        return value

    def enter(self, name: str, value: Array, constant: Array) -> Array:
        """An affine layer has produced `value`, which goes into its activation, and `constant` of a sample of zeros."""
        site = name, self.entered.get(name, 0)
        self.entered[name] = site[1] + 1
        if site in self.before:
            value = value + self.before[site]
            self.affine[site] = value, constant
        return value

    def several(self, name: str) -> None:
        """A layer has produced more than one array, or none."""
        raise SelectionError(f"layer {name!r} has several outputs; choose a layer with one")

    def finish(self) -> None:
        """Refuse layers that were never called, or more often than the choice allows."""
        for name, call in (*self.add, *self.watch):
            count = self.calls.get(name, 0)
            if count == 0:
                raise SelectionError(f"layer {name!r} is not used when the model is called; choose another layer")
            if call is None and count > 1:
                raise SelectionError(
                    f"layer {name!r} is called {count} times; say which call is meant: wrt.layer({name!r}, call=0)"
                )
            if call is not None and call >= count:
                raise SelectionError(f"layer {name!r} has no call number {call}: it is called {count} time(s)")
        for name, call in set(self.before) - set(self.affine):
            raise SelectionError(f"layer {name!r} has no call number {call} this time: the model's calls vary with x")

    def logit_of(self, output: Array) -> Array | None:
        """The value before the activation that produced `output`, if one was seen."""
        return next((before for after, before, _ in self.logits if after is output), None)

    def is_probability(self, output: Array) -> bool:
        """Whether `output` comes straight from a softmax or sigmoid."""
        return bool(self.activation_of(output))

    def activation_of(self, output: Array) -> str:
        """`"softmax"` or `"sigmoid"` (or the logarithm of one) that `output` comes straight from, else nothing."""
        return next((name for after, _, name in self.logits if after is output), "")


@dataclass(frozen=True)
class InputSpec:
    """What a model says of one of its inputs; `None` where it says nothing."""

    name: str | None = None
    shape: tuple[int | None, ...] | None = None
    dtype: str | None = None


@dataclass(frozen=True)
class Network:
    """A model as a pure function of its weights and inputs, in inference mode.

    Nothing here holds the model itself: closures go through a weak reference, so that caches die with it.
    """

    engine: Engine
    apply: Callable[[Arrays, Any, Taps], Any]
    inputs: tuple[InputSpec, ...] = ()
    dtype: str | None = None  # of floating inputs that no spec names
    computes: Callable[[], list[str]] = list  # dtypes that layers compute in, where these have some of their own
    like: Callable[[], Array | None] = lambda: None  # a weight, for the device
    layers: Callable[[], list[str]] = list
    embeddings: Callable[[], list[str]] = list
    convolutions: Callable[[], list[str]] = list
    rectifiers: Callable[[], list[str]] = list  # layers of several operators that rules can only name
    affine: Callable[[], dict[str, int | None]] = dict  # layers that are affine in inference: axes of their channels
    owners: Callable[[], list[str]] = list  # the layer that each weight belongs to
    fingerprint: Callable[[], Hashable] = lambda: None
    reads: Callable[[], bool] = lambda: True  # whether it may read what neither weights nor fingerprint show
    batch: int | None = None  # a batch size built into the model
    kind: str = "function"
    layout: Callable[[str, int], int | None] = lambda name, rank: None  # the axis of a layer's channels, if it says so
    usual: Callable[[str, int], int | None] = lambda name, rank: None  # by convention; "" means the inputs, in both

    @property
    def follows(self) -> bool:
        """Whether compiled programs have to be held against what Python computes now."""
        return self.engine.capabilities.traces and self.reads()


@dataclass(frozen=True)
class Adapted:
    """A network, its weights now (live, with graph, or detached), and the place to keep what is compiled for it."""

    network: Network
    state: Callable[[bool], Arrays]
    cache: dict[Any, Any]


class WeakCache:
    """A dictionary per object, dropped when the object dies; identity, not equality, is the key."""

    def __init__(self) -> None:
        self._entries: dict[int, tuple[weakref.ref[Any], dict[Any, Any]]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def of(self, owner: Any) -> dict[Any, Any]:
        """The dictionary of `owner`; a fresh one, not kept, where no weak reference can be made."""
        key = id(owner)
        if key not in self._entries:
            try:
                reference = weakref.ref(owner, lambda _: self._entries.pop(key, None))
            except TypeError:
                return Bounded()
            self._entries[key] = (reference, Bounded())
        return self._entries[key][1]


class Bounded(dict[Any, Any]):
    """A dictionary that forgets what was not asked for the longest."""

    limit = 64

    def get(self, key: Any, default: Any = None) -> Any:
        if key not in self:
            return default
        value = self.pop(key)
        super().__setitem__(key, value)
        return value

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        while len(self) > self.limit:
            del self[next(iter(self))]


def weak(owner: Any) -> Callable[[], Any]:
    """A reference that does not keep `owner` alive; raises `ModelError` once it is gone."""
    if isinstance(owner, types.MethodType):  # a new object at every access: its parts live longer
        held, name = weak(owner.__self__), owner.__name__
        return lambda: getattr(held(), name)
    try:
        reference = weakref.ref(owner)
    except TypeError:
        return lambda: owner

    kind = type(owner).__name__

    def get() -> Any:
        found = reference()
        if found is None:
            raise ModelError(f"the {kind} of this plan has been deleted; make a new plan")
        return found

    return get


def arguments(function: Callable[..., Any], x: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """How `x` is handed to `function`: spread over its parameters where they fit, else as one argument."""
    if not isinstance(x, dict | list | tuple):
        return (x,), {}
    kinds = inspect.Parameter
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return ((x,), {}) if not isinstance(x, tuple) else (x, {})
    if isinstance(x, dict):
        fits = set(x) <= {p.name for p in parameters}
        return ((), x) if fits else ((x,), {})
    positional = [p for p in parameters if p.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)]
    required = sum(p.default is kinds.empty for p in positional)
    takes_any = any(p.kind is kinds.VAR_POSITIONAL for p in parameters)
    most = len(positional) if isinstance(x, tuple) else required
    return (tuple(x), {}) if takes_any or required <= len(x) <= most else ((x,), {})
