"""The same weights in Keras, on the engine under test, and in a torch module: every method gives the same maps."""

import keras
import numpy as np
import pytest
import torch
from keras import layers as L
from subjects import close, keras_tolerance

import wrt

RNG = np.random.default_rng(31)
X = RNG.normal(size=(3, 7, 6, 2))
LABELS = np.array([2, 0, 1])
OPTIONS = {
    "integrated_gradients": {"steps": 5},
    "expected_gradients": {"background": RNG.normal(size=(4, 7, 6, 2)), "samples": 6},
    "occlusion": {"window": 3, "stride": 2},
    "rise": {"masks": 20, "cells": 3},
}
WHOLE = {"gradient", "input_x_gradient", "integrated_gradients", "expected_gradients", "guided_backprop", "deconvnet"}
WHOLE |= {"occlusion", "rise", "guided_grad_cam"}  # with channels, as the input
TOLERANCE = max(keras_tolerance(), 1e-6)


@pytest.fixture(scope="module")
def models():
    """Convolution, batch normalisation, convolution, global average, dense; and the same channels first."""
    mine = keras.Sequential(
        [
            keras.Input((7, 6, 2), dtype="float64"),
            L.Conv2D(4, 3, activation="relu", dtype="float64"),
            L.BatchNormalization(epsilon=1e-5, dtype="float64"),
            L.Conv2D(5, 2, activation="relu", dtype="float64"),
            L.GlobalAveragePooling2D(dtype="float64"),
            L.Dense(3, dtype="float64"),
        ]
    )
    mine.set_weights([RNG.uniform(0.2, 0.9, w.shape) * RNG.choice([-1, 1, 1], w.shape) for w in mine.weights[:4]] + [
        RNG.normal(size=4), RNG.uniform(0.5, 2, 4), *(RNG.normal(size=w.shape) for w in mine.weights[6:])
    ])  # fmt: skip
    return mine, same_in_torch(*[np.array(keras.ops.convert_to_numpy(w)) for w in mine.weights])


def same_in_torch(k1, b1, gamma, beta, mean, variance, k2, b2, kernel, bias):
    first, normal, second, dense = (
        torch.nn.Conv2d(2, 4, 3),
        torch.nn.BatchNorm2d(4),
        torch.nn.Conv2d(4, 5, 2),
        torch.nn.Linear(5, 3),
    )
    parts = [first, torch.nn.ReLU(), normal, second, torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()]
    net = torch.nn.Sequential(*parts, dense).double().eval()
    for target, value in [
        (first.weight, k1.transpose(3, 2, 0, 1)),
        (first.bias, b1),
        (normal.weight, gamma),
        (normal.bias, beta),
        (normal.running_mean, mean),
        (normal.running_var, variance),
        (second.weight, k2.transpose(3, 2, 0, 1)),
        (second.bias, b2),
        (dense.weight, kernel.T),
        (dense.bias, bias),
    ]:
        target.data.copy_(torch.from_numpy(value))
    return net


def first(a):
    return np.moveaxis(a, -1, 1)


@pytest.mark.parametrize("name", sorted(wrt.methods.METHODS))
def test_the_same_maps_from_the_same_weights(models, name):
    mine, theirs = models
    options = OPTIONS.get(name, {})
    moved = {k: first(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    found = wrt.explain(name, mine, X, LABELS, postprocess=None, resize=None, **options)
    wanted = wrt.explain(name, theirs, first(X), LABELS, postprocess=None, resize=None, **moved)
    close(found.outputs, wanted.outputs, TOLERANCE)
    assert np.abs(wanted.maps).max() > 1e-3
    close(first(found.maps) if name in WHOLE else found.maps, wanted.maps, TOLERANCE)
