"""`explain_func` in the way in which Quantus calls it (quantus/metrics/base.py and quantus/evaluation.py, 0.5)."""

import keras
import numpy as np
import pytest
import torch
from conftest import ENGINE
from keras import layers as L
from subjects import close

import wrt
from wrt.errors import InputError, OptionError
from wrt.methods.metrics import explain_func

X = np.random.default_rng(3).normal(size=(4, 7, 6, 2)).astype("float32")
LABELS = np.array([2, 0, 1, 1])


def called(function, model, inputs, targets, **explain_func_kwargs):
    """As `Metric.general_preprocess` does."""
    return function(model=model, inputs=inputs, targets=targets, **{"device": "cpu", **explain_func_kwargs})


@pytest.fixture(scope="module")
def net():
    layers = [L.Conv2D(3, 3, activation="relu"), L.GlobalAveragePooling2D(), L.Dense(3, activation="softmax")]
    return keras.Sequential([keras.Input((None, 6, 2)), *layers])


def test_keras_channels_are_moved_there_and_back(net):
    wanted = wrt.gradient(net, X, wrt.logit(LABELS))
    first = np.moveaxis(X, -1, 1)
    explain = explain_func(of=wrt.logit)
    found = called(explain, net, first, LABELS, method="Saliency")
    assert type(found) is np.ndarray
    close(found, np.moveaxis(wanted, -1, 1), 1e-6)
    close(called(explain, net, X, LABELS), wanted, 1e-6)
    cams = called(explain_func("grad_cam", of=wrt.logit), net, first, LABELS)
    close(cams[:, 0], wrt.explain("grad_cam", net, X, wrt.logit(LABELS), postprocess=None).maps, 1e-6)
    assert cams.shape == (4, 1, 7, 6)


if ENGINE == "torch":  # what does not differ between engines

    @pytest.fixture(scope="module")
    def module():
        nn = torch.nn
        return nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3))

    def test_torch(module):
        x = np.moveaxis(X, -1, 1)
        wanted = wrt.methods.integrated_gradients(module, x, LABELS, steps=7)
        close(called(explain_func("integrated_gradients", steps=7), module, x, LABELS), wanted, 1e-7)
        close(called(explain_func("integrated_gradients"), module, x, LABELS, steps=7), wanted, 1e-7)
        assert called(explain_func("layer_cam"), module, x, LABELS).shape == (4, 1, 7, 6)
        one = called(explain_func("integrated_gradients", steps=7), module, x[:1], 2)
        close(one, wanted[:1], 1e-6)
        top = module(torch.from_numpy(x)).argmax(1).numpy()
        close(explain_func()(module, x, None), wrt.gradient(module, x, top), 1e-7)
        scaled = explain_func(postprocess="absolute_normalize")(module, x, LABELS)
        assert (scaled.min(), scaled.max()) == (0, 1)

    def test_tables():
        model = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3))
        x = np.random.default_rng(0).normal(size=(4, 5)).astype("float32")
        close(
            called(explain_func("full_gradient"), model, x, LABELS), wrt.methods.full_gradient(model, x, LABELS), 1e-7
        )

    def test_errors(module):
        x = np.moveaxis(X, -1, 1)
        with pytest.raises(OptionError, match="method='Saliency'"):
            explain_func("Saliency")
        with pytest.raises(OptionError, match="unknown option 'n_steps'"):
            called(explain_func("occlusion", window=2), module, x, LABELS, n_steps=3)
        with pytest.raises(InputError, match="expected one array"):
            called(explain_func(), module, {"x": x}, LABELS)
        with pytest.raises(InputError, match="their positions differ"):
            called(explain_func("grad_cam", resize=None), module, x, LABELS)
