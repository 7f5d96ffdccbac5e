"""Keras models, on whichever backend Keras runs, as pure functions."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import keras

from wrt.engines import registry
from wrt.engines.base import Array, Arrays
from wrt.engines.network import InputSpec, Network, Taps, arguments, weak
from wrt.errors import ModelError, SelectionError, suggest
from wrt.rules import ACTIVATIONS, Rule, Switch, canonical
from wrt.trees import flatten, map_leaves

CONVOLUTIONS = tuple(
    getattr(keras.layers, name)
    for name in dir(keras.layers)
    if re.fullmatch(r"(Depthwise|Separable)?Conv\dD(Transpose)?", name)
)


def adapt(model: Any) -> Network:
    """The network of a Keras model or layer."""
    alive = weak(model)
    engine = registry.engine(keras.backend.backend())

    def apply(state: Arrays, x: Any, taps: Taps) -> Any:
        model = alive()
        count = len(model.trainable_variables)
        with _intercepted(model, taps):
            args, kwargs = _arguments(model, x)
            if "training" in model.call_signature_parameters:
                kwargs = {**kwargs, "training": taps.training}
            y, _ = model.stateless_call(state[:count], state[count:], *args, **kwargs)
        taps.finish()
        return y

    specs = tuple(_spec(t) for t in getattr(model, "inputs", None) or ())
    batches = {s.shape[0] for s in specs if s.shape}
    return Network(
        engine=engine,
        apply=apply,
        inputs=specs,
        dtype=model.dtype_policy.variable_dtype,
        like=lambda: next((v.value for v in alive().variables), None),
        layers=lambda: list(named_layers(alive())),
        embeddings=lambda: _of_kind(alive(), keras.layers.Embedding),
        convolutions=lambda: _of_kind(alive(), CONVOLUTIONS),
        rectifiers=lambda: _composed(alive()),
        fingerprint=lambda: _fingerprint(alive()),
        batch=batches.pop() if len(batches) == 1 else None,
        kind="keras",
        channels_first=_channels_first(model),
    )


def weights(model: Any, live: bool) -> Arrays:
    """The values of all variables as they are now, trainable ones first."""
    engine = registry.engine(keras.backend.backend())
    values = [v.value for v in (*model.trainable_variables, *model.non_trainable_variables)]
    return values if live else [engine.detach(v) for v in values]


def build(model: Any, x: Any) -> None:
    """Give an unbuilt subclassed model its weights, as its first call would."""
    if model.built:
        return
    try:
        args, kwargs = _arguments(model, map_leaves(lambda a: a[:1], x))
        model(*args, **kwargs, training=False)
    except Exception as error:
        raise ModelError(
            f"model is not built and cannot be called on x ({(str(error).splitlines() or [''])[0]}); "
            "call it once on data first"
        ) from error


def _arguments(model: Any, x: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """One argument, unless `call` requires several; `training` and `mask` are not inputs."""
    if hasattr(model, "inputs"):
        return (x,), {}
    return arguments(model.call, list(x) if isinstance(x, tuple) else x)


def _spec(tensor: Any) -> InputSpec:
    return InputSpec(tensor.name, tuple(tensor.shape), keras.backend.standardize_dtype(tensor.dtype))


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


def _of_kind(model: Any, kinds: Any) -> list[str]:
    return [name for name, layer in named_layers(model).items() if isinstance(layer, kinds)]


def _channels_first(model: Any) -> bool:
    layers = model._flatten_layers()
    convolutions = [layer for layer in layers if isinstance(layer, CONVOLUTIONS)]
    formats = {getattr(layer, "data_format", None) for layer in convolutions or layers} - {None}
    return (formats or {keras.config.image_data_format()}) == {"channels_first"}


def _fingerprint(model: Any) -> Hashable:
    layers = model._flatten_layers(include_self=True, recursive=True)
    return tuple((id(layer), id(getattr(layer, "activation", None))) for layer in layers)


@contextlib.contextmanager
def _intercepted(model: Any, taps: Taps) -> Iterator[None]:
    """Put the taps on, for one call; instance attributes only, taken off again whatever happens."""
    with contextlib.ExitStack() as stack:
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

    return _attribute(layer, "call", call)


def _with_rule(model: Any, key: str, keys: set[str]) -> dict[str, Any]:
    """The layers that a key of `rules=` names, itself or by their type; none where it names an activation."""
    layers = named_layers(model)
    if canonical(key) in ACTIVATIONS and key not in _composed(model):
        _check_relus(model, key, keys)
        return {}
    typed = {name: layer for name, layer in layers.items() if type(layer).__name__ == key}
    if typed or not any(name.split("/")[-1] == key or name == key for name in layers):
        return {name: layer for name, layer in typed.items() if _can_be_ruled(layer)}
    return {key: find_layer(model, key)}


def _composed(model: Any) -> list[str]:
    """ReLU layers with a slope, a threshold or a largest value: of several operators, some of them ReLUs."""
    plain = {"max_value": None, "negative_slope": 0, "threshold": 0}
    relus = {name: layer for name, layer in named_layers(model).items() if isinstance(layer, keras.layers.ReLU)}
    return [name for name, layer in relus.items() if any(getattr(layer, k) != v for k, v in plain.items())]


def _check_relus(model: Any, key: str, keys: set[str]) -> None:
    """Such a layer needs a rule of its own."""
    for name in _composed(model):
        if not {name, name.split("/")[-1]} & keys:
            raise SelectionError(
                f"rules={{{key!r}: ...}}: layer {name!r} is a ReLU with a slope, threshold or largest value; "
                f"give its rule by its name: rules={{{name!r}: ...}}"
            )


def _can_be_ruled(layer: Any) -> bool:
    active = getattr(layer, "activation", keras.activations.linear) is not keras.activations.linear
    return active or not layer.variables


def _ruled(name: str, layer: Any, rule: Rule, switch: Switch) -> contextlib.AbstractContextManager[None]:
    """For one call: the layer's activation ruled, or its whole call where it has neither activation nor weights."""
    engine = registry.engine(keras.backend.backend())
    if getattr(layer, "activation", keras.activations.linear) is not keras.activations.linear:
        return _attribute(layer, "activation", engine.with_backward(layer.activation, rule, switch))
    if layer.variables:
        raise SelectionError(
            f"rules={{{name!r}: ...}}: the layer has weights and no activation; a rule takes the place of an "
            "activation's derivative"
        )
    original = layer.call

    def call(x: Any, *args: Any, **kwargs: Any) -> Any:
        return engine.with_backward(lambda t: original(t, *args, **kwargs), rule, switch)(x)

    return _attribute(layer, "call", call)


def _watch_activation(stack: contextlib.ExitStack, layer: Any, taps: Taps) -> None:
    if isinstance(layer, keras.layers.Softmax):
        stack.enter_context(_attribute(layer, "call", _noting(layer.call, taps)))
    elif getattr(layer, "activation", None) in _ends():
        stack.enter_context(_attribute(layer, "activation", _noting(layer.activation, taps)))


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
def _attribute(owner: Any, name: str, value: Any) -> Iterator[None]:
    missing = object()
    before = owner.__dict__.get(name, missing)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if before is missing:
            delattr(owner, name)
        else:
            setattr(owner, name, before)
