"""Derivative models of every layer and of whole networks: the numbers of `wrt.vjp`, before and after saving."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
from keras import layers as L

import wrt

from . import cases
from .battery import close, separated, tree
from .test_architectures import Block, unet
from .test_keras_layers import randomise

# Keras itself cannot load these: code, a configuration that it refuses, modules that are objects
NOT_LOADED = {"Lambda", "RandomShear", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"}
OWN = {name: getattr(cases, name) for name in ("Cubed", "Once", "Twice")}
ONE_OF_EACH = {case.layer: case for case in reversed(cases.CASES) if cases.ENGINE in case.engines}
SAME = ("-",) if cases.ENGINE == "torch" else ("1D", "3D")  # of the 2D kinds: what saving and loading sees is the same
LOADED = [
    case for case in ONE_OF_EACH.values() if case.name not in NOT_LOADED and not case.layer.__name__.endswith(SAME)
]


def parity(model, x, tmp_path, respect=None):
    """Tensors, so that the derivative model and `wrt.vjp` share one compiled program."""
    x = [keras.ops.convert_to_tensor(a, t.dtype) for a, t in zip(x, model.inputs, strict=True)]
    y = model(tree(x), training=False)
    u = keras.ops.convert_to_tensor(np.random.default_rng(1).normal(size=y.shape), y.dtype)
    wanted = keras.tree.flatten(wrt.vjp(model, tree(x), u, wrt=respect))
    backward = wrt.backward_model(model, wrt=respect)
    backward.save(tmp_path / "backward.keras")
    for made in (backward, wrt.load_model(tmp_path / "backward.keras")):
        found = keras.tree.flatten(made([tree(x), u]))
        for a, b in zip(found, wanted, strict=True):
            close(model.name, keras.ops.convert_to_numpy(a), keras.ops.convert_to_numpy(b), 1e-5)


@pytest.mark.parametrize("case", LOADED, ids=lambda c: c.name)
def test_layer(case, tmp_path):
    model = dataclasses.replace(case, before=None).model()
    randomise(model)
    with keras.saving.custom_object_scope(OWN):
        parity(model, [a.astype("float32") for a in separated(list(case.shapes))], tmp_path)


def residual():
    return keras.applications.ResNet50V2(weights=None, input_shape=(32, 32, 3), classes=3, classifier_activation=None)


def transformer():
    words = L.Embedding(7, 4, name="words")
    return keras.Sequential([keras.Input((5,), dtype="int32"), words, Block(), L.GlobalAveragePooling1D(), L.Dense(2)])


@pytest.mark.parametrize(
    ("make", "respect"),
    [(unet, None), (residual, None), (transformer, "words")],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_architecture(make, respect, tmp_path):
    model = make()
    shape = model.input_shape[1:]
    x = np.zeros((2, *shape)) if respect else np.random.default_rng(0).normal(size=(2, *shape))
    parity(model, [x], tmp_path, respect)
