"""Layers that have no derivative, what wrt says instead, and the classes without a case, with the reason."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers as L

from wrt.errors import DependenceError, DtypeError, WrtError

ENGINE = keras.backend.backend()

EXCEPTIONS = {
    L.MaxNumBoundingBoxes: "takes bounding boxes in a dictionary, no array",
    L.TFSMLayer: "reads a SavedModel, on TensorFlow; test_tensorflow_models has it",
}
if ENGINE != "jax":
    EXCEPTIONS |= dict.fromkeys((L.JaxLayer, L.FlaxLayer), "JAX only")
if ENGINE != "torch":
    EXCEPTIONS |= {L.TorchModuleWrapper: "torch only"}


@dataclasses.dataclass(frozen=True)
class Refusal:
    """`make()` is a model whose output has no derivative with respect to `x`."""

    layer: type
    make: Callable[[], Any]
    x: Any
    error: type[WrtError]
    says: str


TOKENS = np.array([[1, 2, 0], [3, 1, 2]])
NUMBERS = np.array([[0.1, 1.2, 2.3], [3.4, 0.5, 1.6]])
WORDS = np.array([["a"], ["b"]])
PHOTOS = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 3))


def tokens(*layers: Any) -> keras.Model:
    return keras.Sequential([keras.Input((3,), dtype="int32"), *layers])


REFUSED = [
    Refusal(L.Embedding, lambda: tokens(L.Embedding(5, 2, name="words")), TOKENS, DtypeError, "wrt='words'"),
    Refusal(L.ReversibleEmbedding, lambda: tokens(L.ReversibleEmbedding(5, 2)), TOKENS, DtypeError, "int32"),
    Refusal(L.CategoryEncoding, lambda: tokens(L.CategoryEncoding(5)), TOKENS, DtypeError, "integers"),
    Refusal(L.Hashing, lambda: L.Hashing(4), TOKENS, DtypeError, "integers"),
    Refusal(L.HashedCrossing, lambda: L.HashedCrossing(4), (TOKENS[:, :1], TOKENS[:, 1:2]), DtypeError, "integers"),
    Refusal(L.IntegerLookup, lambda: L.IntegerLookup(vocabulary=[1, 2, 3]), TOKENS, DtypeError, "integers"),
    Refusal(L.StringLookup, lambda: L.StringLookup(vocabulary=["a", "b"]), WORDS, DtypeError, "dtype <U1"),
    Refusal(L.TextVectorization, lambda: L.TextVectorization(vocabulary=["a"]), WORDS, DtypeError, "dtype <U1"),
    Refusal(L.Discretization, lambda: L.Discretization([0.0, 1.0, 2.0]), NUMBERS, DependenceError, "does not depend"),
    Refusal(
        L.ContrastLimitedAdaptiveHistogramEqualization,
        lambda: L.ContrastLimitedAdaptiveHistogramEqualization(tile_grid_size=(2, 2)),
        PHOTOS,
        DependenceError,
        "does not depend",
    ),
]
