"""Occlusion against a slow double loop, and RISE against sums over all masks of a tiny grid."""

import itertools

import keras
import numpy as np
import pytest
import torch
from conftest import ENGINE
from keras import layers as L
from subjects import close, keras_tolerance, tensor

import wrt
from wrt import methods
from wrt.errors import DtypeError, InputError, OptionError, SelectionError

RNG = np.random.default_rng(5)
N, UNITS = 3, 3
PAIRS = np.array([[0, 2], [1, 0], [2, 2]])
FORMATS = ("channels_last", "channels_first")
TOLERANCE = max(keras_tolerance(), 1e-5)


class Net:
    """sigmoid(flat x W) V, of x (N, *in)."""

    def __init__(self, *shape):
        draw = np.random.default_rng(len(shape)).normal
        self.shape = shape
        self.w, self.v = draw(size=(int(np.prod(shape)), 4)), draw(size=(4, UNITS))
        self.x = draw(size=(N, *shape))

    def __call__(self, x):
        return 1 / (1 + np.exp(-(np.reshape(x, (len(x), -1)) @ self.w))) @ self.v

    def keras(self):
        dense = [L.Dense(4, activation="sigmoid", use_bias=False), L.Dense(UNITS, use_bias=False)]
        model = keras.Sequential([keras.Input(self.shape), L.Flatten(), *dense])
        model.set_weights([self.w, self.v])
        return model

    def torch(self):
        one, two = torch.nn.Linear(len(self.w), 4, bias=False), torch.nn.Linear(4, UNITS, bias=False)
        model = torch.nn.Sequential(torch.nn.Flatten(), one, torch.nn.Sigmoid(), two).double()
        one.weight.data, two.weight.data = torch.from_numpy(self.w.T.copy()), torch.from_numpy(self.v.T.copy())
        return model

    def forms(self):
        """(model, channels first): what this engine has."""
        return [(self.keras(), False)] + ([(self.torch(), True)] if ENGINE == "torch" else [])


def slow_occlusion(net, x, pairs, axes, window, stride, baseline=0.0):
    """Window after window, sample after sample."""
    total, count = np.zeros((len(x), pairs.shape[1], *net.shape)), np.zeros(net.shape)
    here = np.take_along_axis(net(x), pairs, 1)
    starts = []
    for axis, w, s in zip(axes, window, stride, strict=True):
        begin = [0]
        while begin[-1] + w < net.shape[axis]:
            begin.append(begin[-1] + s)
        starts.append(begin)
    for corner in itertools.product(*starts):
        where = [slice(None)] * len(net.shape)
        for axis, start, w in zip(axes, corner, window, strict=True):
            where[axis] = slice(start, start + w)
        count[tuple(where)] += 1
        for n in range(len(x)):
            covered = x[n].copy()
            covered[tuple(where)] = np.broadcast_to(baseline, x.shape)[n][tuple(where)]
            lost = here[n] - np.take_along_axis(net(covered[None]), pairs[n : n + 1], 1)[0]
            for k in range(pairs.shape[1]):
                total[(n, k, *where)] += lost[k]
    return total / count


CASES = {  # per-sample shape, window, stride
    "table": ((7,), (3,), (2,)),
    "signal": ((8, 2), (3,), (1,)),
    "image": ((6, 5, 2), (3, 2), (2, 1)),
    "image cut off": ((7, 5, 2), (4, 3), (4, 3)),
    "volume": ((4, 3, 5, 2), (2, 2, 3), (1, 2, 3)),
    "whole": ((4, 3, 2), (4, 3), (4, 3)),
}


@pytest.mark.parametrize("case", CASES)
def test_occlusion(case):
    shape, window, stride = CASES[case]
    net = Net(*shape)
    for model, first in net.forms():
        rank = len(shape)
        axes = tuple(range(rank)) if rank == 1 else tuple(range(1, rank)) if first else tuple(range(rank - 1))
        if first and any(w > shape[a] for a, w in zip(axes, window, strict=True)):
            window = stride = tuple(shape[a] for a in axes)
        options = {"window": window, "stride": stride, "data_format": FORMATS[first], "with_output": True}
        maps, outputs = methods.occlusion(model, net.x, PAIRS, **options)
        close(maps, slow_occlusion(net, net.x, PAIRS, axes, window, stride), TOLERANCE)
        close(outputs, np.take_along_axis(net(net.x), PAIRS, 1), TOLERANCE)


def test_occlusion_is_the_same_for_all_channels():
    net = Net(6, 5, 2)
    maps = methods.occlusion(net.keras(), net.x, 1, window=2)
    assert maps.shape == net.x.shape
    assert np.ptp(maps, axis=-1).max() == 0
    assert np.ptp(maps, axis=(1, 2)).min() > 0


def test_a_window_that_does_not_cover_all_channels():
    net = Net(4, 3, 2)
    maps = methods.occlusion(net.keras(), net.x, PAIRS, window=(2, 2, 1), stride=(2, 1, 1))
    close(maps, slow_occlusion(net, net.x, PAIRS, (0, 1, 2), (2, 2, 1), (2, 1, 1)), TOLERANCE)


def test_one_number_for_all_axes_and_the_defaults():
    net, model = Net(16, 9, 2), Net(16, 9, 2).keras()
    for given, window, stride in (
        ({"window": 3, "stride": 2}, (3, 3), (2, 2)),
        ({"window": (4, 3)}, (4, 3), (4, 3)),
        ({}, (2, 1), (2, 1)),
    ):
        maps = methods.occlusion(model, net.x, PAIRS, **given)
        close(maps, slow_occlusion(net, net.x, PAIRS, (0, 1), window, stride), TOLERANCE)


@pytest.mark.parametrize("shape", [(), (5, 2), (N, 5, 2)])
def test_baseline(shape):
    net, baseline = Net(5, 2), RNG.normal(size=shape)
    for value in (baseline, tensor(baseline, "float32")):
        x = net.x if isinstance(value, (np.ndarray, float)) else tensor(net.x, "float32")
        maps = methods.occlusion(net.keras(), x, PAIRS, window=2, stride=1, baseline=value)
        close(maps, slow_occlusion(net, net.x, PAIRS, (0,), (2,), (1,), baseline), TOLERANCE)


def labels(net):
    return net(net.x).argmax(1)


OF = {
    "int": lambda net: (1, np.full((N, 1), 1)),
    "labels": lambda net: (PAIRS[:, 0], PAIRS[:, :1]),
    "list": lambda net: (PAIRS[:, 0].tolist(), PAIRS[:, :1]),
    "max": lambda net: ("max", labels(net)[:, None]),
    "layer": lambda net: (wrt.layer("last", PAIRS[:, 0]), PAIRS[:, :1]),
    "function": lambda net: (lambda y: y[:, 2], np.full((N, 1), 2)),
}


@pytest.mark.parametrize("form", OF)
def test_of(form):
    net = Net(6, 2)
    model = net.keras()
    model.layers[-1].name = "last"
    of, pairs = OF[form](net)
    maps, outputs = methods.occlusion(model, net.x, of, window=2, with_output=True)
    close(maps, slow_occlusion(net, net.x, pairs, (0,), (2,), (2,))[:, 0], TOLERANCE)
    close(outputs, np.take_along_axis(net(net.x), pairs, 1)[:, 0], TOLERANCE)


def test_the_highest_unit_is_that_of_the_whole_input():
    """Covered inputs have other highest units, which does not matter."""
    net = Net(6, 2)
    x = 3 * np.random.default_rng(2).normal(size=(40, 6, 2))
    covered = x.copy()
    covered[:, :3] = 0
    assert (net(covered).argmax(1) != net(x).argmax(1)).any()
    maps = methods.occlusion(net.keras(), x, wrt.top(2), window=3)
    pairs = np.argsort(-net(x), 1)[:, :2]
    close(maps, slow_occlusion(net, x, pairs, (0,), (3,), (3,)), TOLERANCE)


def test_one_output_needs_no_choice():
    net = Net(6, 2)
    net.v = net.v[:, :1]
    dense = [L.Dense(4, activation="sigmoid", use_bias=False), L.Dense(1, use_bias=False)]
    model = keras.Sequential([keras.Input(net.shape), L.Flatten(), *dense])
    model.set_weights([net.w, net.v])
    zeros = np.zeros((N, 1), int)
    close(
        methods.occlusion(model, net.x, window=3), slow_occlusion(net, net.x, zeros, (0,), (3,), (3,))[:, 0], TOLERANCE
    )


@pytest.mark.parametrize("name", ["occlusion", "rise"])
def test_kinds_and_batches(name):
    net, options = Net(6, 5, 2), {"masks": 50, "cells": 2} if name == "rise" else {"window": 2, "stride": 1}
    method = getattr(methods, name)
    for model, first in net.forms():
        options["data_format"] = FORMATS[first]
        x = net.x.astype("float32" if isinstance(model, keras.Model) else "float64")
        maps = method(model, x, PAIRS, **options)
        assert isinstance(maps, np.ndarray)
        assert maps.dtype == x.dtype
        assert maps.shape == (N, 2, 6, 5, 2)
        close(method(model, x, PAIRS, batch_size=2, **options), maps, TOLERANCE)
        close(method(model, x, PAIRS, batch_size=9, **options), maps, TOLERANCE)
        found = method(model, tensor(x), tensor(PAIRS), **options)
        assert type(found) is type(tensor(x))
        close(found, maps, TOLERANCE)
        assert method(model, x[:0], PAIRS[:0], **options).shape == (0, 2, 6, 5, 2)


def test_counts_and_pixels_become_numbers_of_the_model():
    net = Net(6, 2)
    x = np.random.default_rng(0).integers(0, 3, (N, 6, 2)).astype("uint8")
    maps = methods.occlusion(net.keras(), x, PAIRS, window=2, baseline=0.5)
    close(maps, slow_occlusion(net, x.astype(float), PAIRS, (0,), (2,), (2,), 0.5), TOLERANCE)


def test_a_map_has_a_derivative():
    """f is linear in the part that is covered: x[0] * x[1] loses all, whichever of them is covered."""
    x = tensor(np.array([[2.0, 5.0]]))

    def loss(value):
        maps = methods.occlusion(lambda x: x[:, 0] * x[:, 1], value, window=1, differentiable=True)
        return maps[0, 0]

    if ENGINE == "jax":
        import jax

        found = jax.grad(loss)(x)
    elif ENGINE == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(x)
            value = loss(x)
        found = tape.gradient(value, x)
    else:
        x.requires_grad_()
        found = torch.autograd.grad(loss(x), x)[0]
    close(found, [[5.0, 2.0]], 1e-6)


def two_inputs():
    a, b = keras.Input((4, 1), name="a"), keras.Input((3, 1), name="b")
    y = L.Concatenate(axis=1)([a, b])
    model = keras.Model({"a": a, "b": b}, L.Dense(UNITS, use_bias=False)(L.Flatten()(y)))
    weights = np.random.default_rng(1).normal(size=(7, UNITS))
    model.set_weights([weights])
    return model, weights


@pytest.mark.parametrize("choice", ["b", 0])
def test_one_of_two_inputs(choice):
    model, weights = two_inputs()
    x = {"b": RNG.normal(size=(N, 3, 1)), "a": RNG.normal(size=(N, 4, 1))}
    maps = methods.occlusion(model, x, 1, wrt=choice, window=1)
    close(maps, x["b"] * weights[4:, 1, None], TOLERANCE)  # linear: what each entry adds
    masks = np.array(list(itertools.product([0, 1], repeat=3)))
    found = methods.rise(model, x, 1, wrt=choice, masks=masks)
    assert found.shape == (N, 3, 1)


def test_two_inputs_without_a_choice():
    model, _ = two_inputs()
    x = {"a": np.ones((N, 4, 1)), "b": np.ones((N, 3, 1))}
    with pytest.raises(SelectionError, match="x has 2 inputs; say which one is changed by wrt="):
        methods.occlusion(model, x, 1, window=1)


# RISE


def slow_rise(net, x, pairs, masks, probability):
    """masks (M, *spatial), channels last"""
    total = np.zeros((len(x), pairs.shape[1], *net.shape))
    for mask in masks:
        for n in range(len(x)):
            y = net((x[n] * mask[..., None])[None])[0]
            for k, unit in enumerate(pairs[n]):
                total[n, k] += y[unit] * np.broadcast_to(mask[..., None], net.shape)
    return total / (len(masks) * probability)


def every_mask(sizes, cells, probability):
    """All grids, with all shifts, and how likely each is."""
    cell = [-(-s // c) for s, c in zip(sizes, cells, strict=True)]
    masks, weights = [], []
    for bits in itertools.product([0.0, 1.0], repeat=int(np.prod(cells))):
        fine = np.reshape(bits, cells)
        for axis, (c, size) in enumerate(zip(cells, cell, strict=True)):
            places = (np.arange((c + 1) * size) + 0.5) / ((c + 1) * size)
            centres = (np.arange(c) + 0.5) / c
            fine = np.apply_along_axis(lambda row: np.interp(places, centres, row), axis, fine)  # noqa: B023
        for shift in itertools.product(*map(range, cell)):
            masks.append(fine[tuple(slice(b, b + s) for b, s in zip(shift, sizes, strict=True))])
            weights.append(np.prod([probability if b else 1 - probability for b in bits]) / np.prod(cell))
    return np.array(masks), np.array(weights)


def test_rise_over_all_masks():
    net = Net(3, 2, 2)
    masks = np.array(list(itertools.product([0, 1], repeat=6))).reshape(-1, 3, 2)
    maps, outputs = methods.rise(net.keras(), net.x, PAIRS, masks=masks, with_output=True)
    close(maps, slow_rise(net, net.x, PAIRS, masks, 0.5), TOLERANCE)
    close(outputs, np.take_along_axis(net(net.x), PAIRS, 1), TOLERANCE)
    if ENGINE == "torch":
        first = Net(2, 3, 2)
        first.w, last = first.w.copy(), np.moveaxis(first.w.reshape(2, 3, 2, 4), 0, 2).reshape(12, 4)
        maps = methods.rise(first.torch(), first.x, PAIRS, masks=masks, data_format="channels_first")
        second = Net(3, 2, 2)
        second.w, second.v = last, first.v
        wanted = slow_rise(second, np.moveaxis(first.x, 1, -1), PAIRS, masks, 0.5)
        close(maps, np.moveaxis(wanted, -1, 2), TOLERANCE)


@pytest.mark.parametrize(("sizes", "cells"), [((5,), (2,)), ((4, 3), (2, 2))])
def test_rise_by_its_expectation(sizes, cells):
    """Random masks against the mean over all grids and shifts, within five standard errors."""
    net, probability, count = Net(*sizes, 2), 0.3, 6000
    masks, weights = every_mask(sizes, cells, probability)
    parts = np.array([slow_rise(net, net.x, PAIRS, mask[None], probability) for mask in masks])
    mean = np.tensordot(weights, parts, 1)
    error = np.sqrt(np.tensordot(weights, (parts - mean) ** 2, 1) / count)
    found = methods.rise(net.keras(), net.x, PAIRS, masks=count, cells=cells, probability=probability)
    assert (np.abs(found - mean) < 5 * error + 1e-4).all()
    assert (np.abs(found - mean) > 0.01 * error).any()
    assert error.max() < 0.1 * np.abs(mean).max()


def test_the_seed_of_rise():
    net = Net(6, 2)
    model = net.keras()
    one, two, three = (methods.rise(model, net.x, 1, masks=20, cells=3, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert np.abs(one - three).max() > 1e-3
    fresh = [methods.rise(model, net.x, 1, masks=20, cells=3, seed=None) for _ in range(2)]
    assert np.abs(fresh[0] - fresh[1]).max() > 1e-3


def test_an_integer_more_of_masks_changes_nothing_of_the_first():
    """Parts of the work do not change what is drawn."""
    net = Net(6, 2)
    model = net.keras()
    close(
        methods.rise(model, net.x, 1, masks=20, cells=3, batch_size=6),
        methods.rise(model, net.x, 1, masks=20, cells=3),
        TOLERANCE,
    )


# mistakes


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"window": 7}, r"window=7 is larger than the input, whose axis 1 has 6 entries"),
        ({"window": (2, 6)}, r"window=\(2, 6\) is larger than the input, whose axis 2 has 5"),
        ({"window": 0}, "window=0; expected an integer of at least 1"),
        ({"window": 1.5}, "window=1.5; expected an integer"),
        ({"window": (1, 2, 3, 4)}, "4 numbers; expected 2, one for each axis"),
        ({"window": 2, "stride": 3}, r"stride=3 is larger than the window \(2, 2\)"),
        ({"window": 2, "stride": 0}, "stride=0"),
        ({"window": 2, "steps": 3}, "unknown option 'steps'"),
    ],
)
def test_bad_windows(options, said):
    net = Net(6, 5, 2)
    with pytest.raises(OptionError, match=said):
        methods.occlusion(net.keras(), net.x, 1, **options)


def test_a_baseline_of_another_shape():
    net = Net(6, 5, 2)
    with pytest.raises(
        InputError, match=r"baseline has shape \(6, 5\); expected a number, \(6, 5, 2\) or \(3, 6, 5, 2\)"
    ):
        methods.occlusion(net.keras(), net.x, 1, baseline=np.zeros((6, 5)))


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"masks": 0}, OptionError, "masks=0"),
        ({"masks": np.zeros((4, 6))}, InputError, r"masks have shape \(4, 6\); expected \(M, 6, 5\)"),
        ({"masks": np.zeros((0, 6, 5))}, InputError, "masks have shape"),
        ({"probability": 0.0}, OptionError, "probability=0.0; expected a number above 0"),
        ({"probability": 1.5}, OptionError, "probability=1.5"),
        ({"cells": 6}, OptionError, r"cells=6: more cells than the input has entries, \(6, 5\)"),
        ({"cells": 0}, OptionError, "cells=0"),
    ],
)
def test_bad_masks(options, kind, said):
    net = Net(6, 5, 2)
    with pytest.raises(kind, match=said):
        methods.rise(net.keras(), net.x, 1, **options)


@pytest.mark.parametrize("name", ["occlusion", "rise"])
def test_bad_choices(name):
    net = Net(6, 5, 2)
    model, method = net.keras(), getattr(methods, name)
    with pytest.raises(SelectionError, match="of= must say which scalar"):
        method(model, net.x)
    with pytest.raises(SelectionError, match="is a layer; only inputs can be changed"):
        method(model, net.x, 1, wrt=wrt.layer(model.layers[1].name))
    with pytest.raises(SelectionError, match="out of range"):
        method(model, net.x, 3)


def test_one_number_per_sample():
    for method in (methods.occlusion, methods.rise):
        with pytest.raises(InputError, match="one number per sample"):
            method(lambda x: x * 2, tensor(np.ones(4)))


def test_nothing_of_the_caller_changes():
    net = Net(6, 2)
    x, pairs = net.x.copy(), PAIRS.copy()
    methods.occlusion(net.keras(), x, pairs, window=2)
    methods.rise(net.keras(), x, pairs, masks=9, cells=2)
    np.testing.assert_array_equal(x, net.x)
    np.testing.assert_array_equal(pairs, PAIRS)


@pytest.mark.parametrize("kind", ["numpy", "tensor"])
def test_token_ids_are_covered_by_a_padding_token(kind):
    """A sum of the tokens' own numbers: each token loses the difference to the padding's."""
    worth = np.array([0.5, 1.0, -2.0, 4.0])
    words = L.Embedding(4, 1, name="words", weights=[worth[:, None]])
    model = keras.Sequential([keras.Input((3,), dtype="int32"), words, L.Lambda(lambda e: keras.ops.sum(e, 1))])
    ids = np.array([[1, 2, 3], [3, 0, 0]], "int32")
    x = ids if kind == "numpy" else keras.ops.convert_to_tensor(ids)
    maps = wrt.methods.occlusion(model, x, wrt="words", window=1)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(maps), worth[ids] - worth[0], atol=1e-6)
    with pytest.raises(InputError, match=r"baseline=0.5: the input holds integers"):
        wrt.methods.occlusion(model, ids, wrt="words", window=1, baseline=0.5)
    with pytest.raises(DtypeError, match=r"cannot be dimmed .* use wrt.methods.occlusion"):
        wrt.methods.rise(model, ids, wrt="words")
