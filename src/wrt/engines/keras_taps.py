"""The taps on Keras layers: put on for one call, taken off again whatever happens."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras

from wrt.engines import registry
from wrt.engines.base import Array
from wrt.engines.network import Taps
from wrt.errors import SelectionError, suggest
from wrt.rules import ACTIVATIONS, Rule, Switch, canonical
from wrt.trees import flatten


def named_layers(model: Any, prefix: str = "") -> dict[str, Any]:
    """Every layer below `model` under its path, `"outer/inner"` for nested ones."""
    found: dict[str, Any] = {}
    for layer in model._flatten_layers(include_self=False, recursive=False):
        found.setdefault(prefix + layer.name, layer)
        for name, inner in named_layers(layer, f"{prefix}{layer.name}/").items():
            found.setdefault(name, inner)
    return found


def find_layer(model: Any, name: str) -> Any:
    """The layer with this path, or with this name where it is unique below nested models."""
    layers = named_layers(model)
    if name in layers:
        return layers[name]
    matches = {id(v): v for k, v in layers.items() if k.split("/")[-1] == name}
    if len(matches) == 1:
        return next(iter(matches.values()))
    if matches:
        paths = [k for k in layers if k.split("/")[-1] == name]
        raise SelectionError(f"layer name {name!r} is ambiguous; use the path: {', '.join(map(repr, paths))}")
    raise SelectionError(f"unknown layer {name!r}.{suggest(name, layers)}")


@contextlib.contextmanager
def intercepted(model: Any, taps: Taps) -> Iterator[None]:
    """Put the taps on, for one call; instance attributes only, taken off again whatever happens."""
    with contextlib.ExitStack() as stack:
        for name in {name for name, _ in taps.before}:
            stack.enter_context(_affine_call(find_layer(model, name), name, taps))
        for name in taps.names:
            stack.enter_context(_wrapped_call(find_layer(model, name), name, taps))
        for key, rule in taps.rules:
            for name, layer in _with_rule(model, key, {k for k, _ in taps.rules}).items():
                stack.enter_context(_ruled(name, layer, rule, taps.switch))
                taps.ruled.add(key)
        if taps.want_logit:
            for layer in model._flatten_layers(include_self=True, recursive=True):
                _watch_activation(stack, layer, taps)
        yield


def _wrapped_call(layer: Any, name: str, taps: Taps) -> contextlib.AbstractContextManager[None]:
    original = layer.call

    def call(*args: Any, **kwargs: Any) -> Any:
        value = original(*args, **kwargs)
        if not flatten(value)[1].is_leaf:
            taps.several(name)
            return value
        return taps.visit(name, value)

    return attribute(layer, "call", call)


def _affine_call(layer: Any, name: str, taps: Taps) -> contextlib.AbstractContextManager[None]:
    """The activation of the layer, if it has one, comes after the tap."""
    original = layer.call

    def call(*args: Any, **kwargs: Any) -> Any:
        if isinstance(layer, keras.layers.Embedding):  # there is no derivative on the way in: all of it is constant
            value = original(*args, **kwargs)
            return taps.enter(name, value, value)
        activation = _activation(layer)
        bare = attribute(layer, "activation", keras.activations.linear)
        with bare if activation is not keras.activations.linear else contextlib.nullcontext():
            value = original(*args, **kwargs)
            constant = original(*_of_zeros(args), **_of_zeros(kwargs))
        return activation(taps.enter(name, value, constant))

    return attribute(layer, "call", call)


def _of_zeros(arguments: Any) -> Any:
    """The arguments of a call, with one sample of zeros in place of the input, and without a mask."""
    if isinstance(arguments, tuple):
        return tuple(keras.ops.zeros_like(a[:1]) if i == 0 else a for i, a in enumerate(arguments))
    kept = {name: a for name, a in arguments.items() if name != "mask"}
    return {name: keras.ops.zeros_like(a[:1]) if name == "inputs" else a for name, a in kept.items()}


def _with_rule(model: Any, key: str, keys: set[str]) -> dict[str, Any]:
    """The layers that a key of `rules=` names, itself or by their type; none where it names an activation."""
    layers = named_layers(model)
    if canonical(key) in ACTIVATIONS and key not in composed(model):
        _check_relus(model, key, keys)
        return {}
    typed = {name: layer for name, layer in layers.items() if type(layer).__name__ == key}
    if typed or not any(name.split("/")[-1] == key or name == key for name in layers):
        return {name: layer for name, layer in typed.items() if _can_be_ruled(layer)}
    return {key: find_layer(model, key)}


def composed(model: Any) -> list[str]:
    """ReLU layers with a slope, a threshold or a largest value: of several operators, some of them ReLUs."""
    plain = {"max_value": None, "negative_slope": 0, "threshold": 0}
    relus = {name: layer for name, layer in named_layers(model).items() if isinstance(layer, keras.layers.ReLU)}
    return [name for name, layer in relus.items() if any(getattr(layer, k) != v for k, v in plain.items())]


def _check_relus(model: Any, key: str, keys: set[str]) -> None:
    """Such a layer needs a rule of its own."""
    for name in composed(model):
        if not {name, name.split("/")[-1]} & keys:
            raise SelectionError(
                f"rules={{{key!r}: ...}}: layer {name!r} is a ReLU with a slope, threshold or largest value; "
                f"give its rule by its name: rules={{{name!r}: ...}}"
            )


def _can_be_ruled(layer: Any) -> bool:
    return _activation(layer) is not keras.activations.linear or not layer.variables


def _activation(layer: Any) -> Any:
    """What the layer ends with; linear where it says nothing."""
    return getattr(layer, "activation", None) or keras.activations.linear


def _ruled(name: str, layer: Any, rule: Rule, switch: Switch) -> contextlib.AbstractContextManager[None]:
    """For one call: the layer's activation ruled, or its whole call where it has neither activation nor weights."""
    engine = registry.engine(keras.backend.backend())
    if _activation(layer) is not keras.activations.linear:
        return attribute(layer, "activation", engine.with_backward(layer.activation, rule, switch))
    if layer.variables:
        raise SelectionError(
            f"rules={{{name!r}: ...}}: the layer has weights and no activation; a rule takes the place of an "
            "activation's derivative"
        )
    original = layer.call

    def call(x: Any, *args: Any, **kwargs: Any) -> Any:
        return engine.with_backward(lambda t: original(t, *args, **kwargs), rule, switch)(x)

    return attribute(layer, "call", call)


def _watch_activation(stack: contextlib.ExitStack, layer: Any, taps: Taps) -> None:
    if isinstance(layer, keras.layers.Softmax):
        stack.enter_context(attribute(layer, "call", _noting(layer.call, taps)))
    elif getattr(layer, "activation", None) in _ends():
        stack.enter_context(attribute(layer, "activation", _noting(layer.activation, taps)))


def _ends() -> tuple[Any, ...]:
    names = ("softmax", "log_softmax", "sigmoid", "linear")
    return tuple(getattr(keras.activations, name) for name in names)


def _noting(function: Callable[..., Array], taps: Taps) -> Callable[..., Array]:
    def noted(value: Array, *args: Any, **kwargs: Any) -> Array:
        result = function(value, *args, **kwargs)
        taps.logits.append((result, value, {"linear": "", "sigmoid": "sigmoid"}.get(function.__name__, "softmax")))
        return result

    return noted


@contextlib.contextmanager
def attribute(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Another attribute for a while, past Keras's book of layers and torch's of modules, which an activation may be."""
    missing = object()
    before = owner.__dict__.get(name, missing)
    owner.__dict__[name] = value
    try:
        yield
    finally:
        if before is missing:
            del owner.__dict__[name]
        else:
            owner.__dict__[name] = before
