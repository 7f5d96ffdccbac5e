"""Keras models, on whichever backend Keras runs, as pure functions."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import keras

from wrt.engines import registry
from wrt.engines.base import Arrays
from wrt.engines.keras_precision import computing_in
from wrt.engines.keras_taps import composed, intercepted, named_layers
from wrt.engines.network import InputSpec, Network, Taps, arguments, weak
from wrt.errors import ModelError, SelectionError
from wrt.trees import map_leaves

CONVOLUTIONS = tuple(
    getattr(keras.layers, name)
    for name in dir(keras.layers)
    if re.fullmatch(r"(Depthwise|Separable)?Conv\dD(Transpose)?", name)
)
PREPARING = (keras.layers.Rescaling, keras.layers.Normalization)
LINEAR = (keras.layers.Dense, keras.layers.EinsumDense, keras.layers.Embedding)
AFFINE = (*CONVOLUTIONS, *LINEAR, *PREPARING, keras.layers.BatchNormalization)


def adapt(model: Any) -> Network:
    """The network of a Keras model or layer."""
    alive = weak(model)
    engine = registry.engine(keras.backend.backend())

    def apply(state: Arrays, x: Any, taps: Taps) -> Any:
        model = alive()
        count = len(model.trainable_variables)
        with intercepted(model, taps), computing_in(model, taps.precision):
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
        computes=lambda: sorted({layer.compute_dtype for layer in alive()._flatten_layers()} - {None}),
        like=lambda: next((v.value for v in alive().variables), None),
        layers=lambda: list(named_layers(alive())),
        embeddings=lambda: _of_kind(alive(), keras.layers.Embedding),
        convolutions=lambda: _of_kind(alive(), CONVOLUTIONS),
        rectifiers=lambda: composed(alive()),
        affine=lambda: _affine(alive()),
        owners=lambda: _owners(alive()),
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


def _of_kind(model: Any, kinds: Any) -> list[str]:
    return [name for name, layer in named_layers(model).items() if isinstance(layer, kinds)]


def _affine(model: Any) -> dict[str, int | None]:
    """Layers that are affine in inference and add something, each under one name, and the axis of their channels."""
    first = _channels_first(model)
    layers: dict[int, tuple[str, Any]] = {}
    for name, layer in {"": model, **named_layers(model)}.items():
        layers.setdefault(id(layer), (name, layer))
    for layer in model._flatten_layers():
        if isinstance(layer, AFFINE) and id(layer) not in layers:
            raise SelectionError(f"two layers are called {layer.name!r}; give them names of their own")
    adding = {k: v for k, v in layers.values() if isinstance(v, AFFINE) and getattr(v, "bias", True) is not None}
    return {name: _channel_axis(layer, first) for name, layer in adding.items()}


def _channel_axis(layer: Any, first: bool) -> int | None:
    if isinstance(layer, keras.layers.EinsumDense):  # as in attention: there is no telling
        return None
    if isinstance(layer, keras.layers.BatchNormalization):
        return int(layer.axis)
    if isinstance(layer, PREPARING):
        return 1 if first else -1
    return 1 if getattr(layer, "data_format", None) == "channels_first" else -1


def _owners(model: Any) -> list[str]:
    """The innermost layer of each variable, in the order of `weights`."""
    owners = {id(v): name for name, layer in named_layers(model).items() for v in layer.variables}
    variables = (*model.trainable_variables, *model.non_trainable_variables)
    return [owners.get(id(v), "") for v in variables]


def _channels_first(model: Any) -> bool:
    layers = model._flatten_layers()
    convolutions = [layer for layer in layers if isinstance(layer, CONVOLUTIONS)]
    formats = {getattr(layer, "data_format", None) for layer in convolutions or layers} - {None}
    return (formats or {keras.config.image_data_format()}) == {"channels_first"}


def _fingerprint(model: Any) -> Hashable:
    layers = model._flatten_layers(include_self=True, recursive=True)
    return tuple((id(layer), id(getattr(layer, "activation", None))) for layer in layers)
