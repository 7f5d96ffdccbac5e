"""Where Keras layers have their channels: what they and the configuration say."""

from __future__ import annotations

import re
from typing import Any

import keras

from wrt.engines.keras_taps import find_layer

CONVOLUTIONS = tuple(
    getattr(keras.layers, name)
    for name in dir(keras.layers)
    if re.fullmatch(r"(Depthwise|Separable)?Conv\dD(Transpose)?", name)
)
FEATURES_LAST = (keras.layers.Dense, keras.layers.Embedding, keras.layers.RNN, keras.layers.MultiHeadAttention)


def layout(model: Any, name: str, rank: int) -> int | None:
    """The axis of the channels of what a layer gives, or of the inputs (""), where layers or configuration say it.

    A model whose channels are last has them last everywhere. Where they are first, tokens, which have them last, are
    made of images on the way, and of a layer without channels of its own the program tells more.
    """
    if not name:
        return usual(model, name, rank)
    own = _own(find_layer(model, name), rank)
    return own if own or channels_first(model) else rank - 1


def usual(model: Any, name: str, rank: int) -> int:
    """The axis of channels in the layout of the model; series have their features last in layers without a format."""
    series = rank == 3 and not _formats(model._flatten_layers())
    return 1 if channels_first(model) and not series else rank - 1


def channels_first(model: Any) -> bool:
    """Whether the layers of a model take channels first."""
    layers = model._flatten_layers()
    formats = _formats([layer for layer in layers if isinstance(layer, CONVOLUTIONS)]) or _formats(layers)
    return (formats or {keras.config.image_data_format()}) == {"channels_first"}


def _formats(layers: Any) -> set[Any]:
    return {getattr(layer, "data_format", None) for layer in layers} - {None}


def _own(layer: Any, rank: int) -> int | None:
    """The axis that the layer names."""
    data_format = getattr(layer, "data_format", None)
    if data_format is not None:
        return 1 if data_format == "channels_first" else rank - 1
    if isinstance(layer, FEATURES_LAST):
        return rank - 1
    normalizes = "Normalization" in type(layer).__name__
    axis = getattr(layer, "axis", None) if normalizes else None
    axes = axis if isinstance(axis, list | tuple) else [axis]
    return int(axes[0]) % rank if len(axes) == 1 and isinstance(axes[0], int) else None
