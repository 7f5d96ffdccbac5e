"""torch modules inside Keras models: in inference mode, and with the weights of the evaluation."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

from wrt.engines.base import Arrays
from wrt.engines.keras_taps import attribute
from wrt.engines.torch_state import undisturbed


@contextlib.contextmanager
def quiet_modules(model: Any, state: Arrays | None, training: bool) -> Iterator[None]:
    """For one evaluation of a Keras model on torch; what it holds of torch's is as it was afterwards."""
    variables = (*model.trainable_variables, *model.non_trainable_variables) if state else ()
    values = {id(v.value): value for v, value in zip(variables, state or (), strict=True)}
    with undisturbed(model, training, everywhere=True) as visit, contextlib.ExitStack() as stack:
        for layer in model._flatten_layers():
            if isinstance(layer, keras.layers.TorchModuleWrapper):
                stack.enter_context(_wrapper(layer, training))
                for module in layer.module.modules():  # Keras leaves its parameters where they are
                    for name, value in module._parameters.items():
                        if id(value) in values:
                            visit.replace(module._parameters, name, values[id(value)])
        yield


def _wrapper(layer: Any, training: bool) -> contextlib.AbstractContextManager[None]:
    """Without the argument, as inside a model whose `call` has none, the wrapper means training."""
    original = layer.call

    def call(*args: Any, **kwargs: Any) -> Any:
        return original(*args, **{**kwargs, "training": training})

    return attribute(layer, "call", call)
