"""Keras models, on whichever backend Keras runs, as pure functions."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Hashable
from typing import Any

import keras
import numpy as np

from wrt.engines import keras_layout, registry
from wrt.engines.base import Arrays
from wrt.engines.identity import attributes
from wrt.engines.keras_layout import CONVOLUTIONS, channels_first
from wrt.engines.keras_precision import computing_in
from wrt.engines.keras_taps import composed, intercepted, named_layers
from wrt.engines.network import InputSpec, Network, Taps, arguments, weak
from wrt.errors import ModelError, SelectionError
from wrt.trees import map_leaves

PREPARING = (keras.layers.Rescaling, keras.layers.Normalization)
LINEAR = (keras.layers.Dense, keras.layers.EinsumDense, keras.layers.Embedding)
FOREIGN = (keras.layers.Lambda, keras.layers.TorchModuleWrapper, keras.layers.JaxLayer, keras.layers.TFSMLayer)
AFFINE = (*CONVOLUTIONS, *LINEAR, *PREPARING, keras.layers.BatchNormalization)


def adapt(model: Any) -> Network:
    """The network of a Keras model or layer."""
    alive = weak(model)
    engine = registry.engine(keras.backend.backend())

    def apply(state: Arrays, x: Any, taps: Taps) -> Any:
        model = alive()
        count = len(model.trainable_variables)
        quiet = _quiet(engine, model, state, taps.training)
        with quiet, intercepted(model, taps), computing_in(model, taps.precision):
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
        reads=lambda: _reads(alive()),
        batch=batches.pop() if len(batches) == 1 else None,
        kind="keras",
        layout=lambda name, rank: keras_layout.layout(alive(), name, rank),
        usual=lambda name, rank: keras_layout.usual(alive(), name, rank),
    )


def _quiet(engine: Any, model: Any, state: Arrays | None, training: bool) -> contextlib.AbstractContextManager[None]:
    """torch modules among the layers have modes and statistics that Keras does not know of."""
    if engine.name != "torch":
        return contextlib.nullcontext()
    from wrt.engines.keras_modules import quiet_modules  # torch only where it is the backend

    return quiet_modules(model, state, training)


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
        with _quiet(registry.engine(keras.backend.backend()), model, None, False):
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
    first = channels_first(model)
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


def _fingerprint(model: Any) -> Hashable:
    """All layers, with what they read besides their variables."""
    layers = model._flatten_layers(include_self=True, recursive=True)
    return tuple((id(layer), layer.dtype_policy.name, _read_by(layer)) for layer in layers)


def _read_by(layer: Any) -> Hashable:
    """What the call of one of Keras's own layers may read; those of models are about training."""
    if isinstance(layer, keras.Model):
        return None
    values = [pair for pair in attributes(layer) if pair[0] != "_called"]
    return tuple(values), tuple(map(id, _functions_of(layer)))


def _functions_of(layer: Any) -> list[types.FunctionType]:
    return [value for value in vars(layer).values() if isinstance(value, types.FunctionType)]


def _reads(model: Any) -> bool:
    """Whether code of the user's runs in it, which may read anything; Keras's own reads what its layers hold."""
    layers = model._flatten_layers(include_self=True, recursive=True)
    return not all(map(_is_plain, layers)) or any(map(_holds_arrays, getattr(model, "operations", ())))


def _is_plain(layer: Any) -> bool:
    foreign = isinstance(layer, FOREIGN) or not _is_library(type(layer))
    return not foreign and all(map(_is_library, _functions_of(layer)))


def _is_library(value: Any) -> bool:
    return value.__module__.split(".")[0] in ("keras", "keras_hub")


def _holds_arrays(operation: Any) -> bool:
    """Whether an operator between symbolic tensors was given an array, which may be changed in place."""
    if isinstance(operation, keras.layers.Layer):
        return any(map(_holds_arrays, getattr(operation, "operations", ())))
    given = [value for node in operation._inbound_nodes for value in node.arguments._flat_arguments]
    return any(isinstance(value, np.ndarray) for value in given)
