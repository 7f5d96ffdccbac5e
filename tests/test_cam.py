"""Class activation maps of tiny networks, against the same networks and formulas in plain NumPy."""

import keras
import numpy as np
import pytest
import torch
from conftest import ENGINE
from keras import layers as L
from subjects import array, close, keras_tolerance, tensor

import wrt
from wrt import methods
from wrt.derive.layers import last_convolution
from wrt.errors import OptionError, SaturationWarning, SelectionError

RNG = np.random.default_rng(11)
N, UNITS, CHANNELS, INSIDE, WIDTH = 4, 3, 4, 2, 3
SIZES = {1: (9,), 2: (6, 5), 3: (5, 4, 5)}
PAIRS = np.array([[0, 2], [1, 0], [2, 2], [1, 2]])
TOLERANCE = max(keras_tolerance(), 1e-6)


class Net:
    """conv(3) -> relu -> pooled or flat -> sigmoid (flat only) -> linear, channels last."""

    def __init__(self, rank, pooled):
        self.rank, self.pooled, self.size = rank, pooled, SIZES[rank]
        self.spatial = tuple(s - WIDTH + 1 for s in self.size)
        draw = np.random.default_rng(rank).normal
        self.kernel = draw(size=(WIDTH,) * rank + (INSIDE, CHANNELS)) / WIDTH
        self.bias = draw(size=CHANNELS)
        inner = CHANNELS if pooled else 5
        self.hidden = None if pooled else draw(size=(int(np.prod(self.spatial)) * CHANNELS, inner)) / 3
        self.last, self.shift = draw(size=(inner, UNITS)), draw(size=UNITS)
        self.x = draw(size=(N, *self.size, INSIDE))

    def features(self, x):
        """(N, *spatial, C)"""
        axes = tuple(range(1, self.rank + 1))
        view = np.lib.stride_tricks.sliding_window_view(x, (WIDTH,) * self.rank, axis=axes)
        letters = "uvw"[: self.rank]
        return np.maximum(np.einsum(f"n...i{letters},{letters}ic->n...c", view, self.kernel) + self.bias, 0)

    def head(self, a):
        if self.pooled:
            return a.mean(tuple(range(1, self.rank + 1))) @ self.last + self.shift
        return logistic(a.reshape(len(a), -1) @ self.hidden) @ self.last + self.shift

    def __call__(self, x):
        return self.head(self.features(x))

    def gradient(self, a):
        """(N, units, *spatial, C), by hand"""
        if self.pooled:
            row = self.last.T / np.prod(self.spatial)
            return np.broadcast_to(
                row.reshape(1, UNITS, *(1,) * self.rank, CHANNELS), (len(a), UNITS, *self.spatial, CHANNELS)
            )
        h = logistic(a.reshape(len(a), -1) @ self.hidden)
        rows = np.einsum("ph,nh,hu->nup", self.hidden, h * (1 - h), self.last)
        return rows.reshape(len(a), UNITS, *self.spatial, CHANNELS)

    def keras(self, **options):
        conv = getattr(L, f"Conv{self.rank}D")(CHANNELS, WIDTH, activation="relu", name="features")
        if self.pooled:
            middle = [getattr(L, f"GlobalAveragePooling{self.rank}D")()]
        else:
            middle = [L.Flatten(), L.Dense(5, activation="sigmoid", use_bias=False)]
        model = keras.Sequential([keras.Input((*self.size, INSIDE)), conv, *middle, L.Dense(UNITS, **options)])
        weights = [self.kernel, self.bias, *([] if self.pooled else [self.hidden]), self.last, self.shift]
        model.set_weights(weights)
        return model

    def torch(self):
        conv = getattr(torch.nn, f"Conv{self.rank}d")(INSIDE, CHANNELS, WIDTH)
        fill(conv, np.moveaxis(self.kernel, (-1, -2), (0, 1)), self.bias)
        last = fill(torch.nn.Linear(len(self.last), UNITS), self.last.T, self.shift)
        if self.pooled:
            middle = [getattr(torch.nn, f"AdaptiveAvgPool{self.rank}d")(1), torch.nn.Flatten()]
        else:
            flat = self.hidden.reshape(*self.spatial, CHANNELS, 5)
            inner = torch.nn.Linear(len(self.hidden), 5, bias=False)
            fill(inner, np.moveaxis(flat, -2, 0).reshape(-1, 5).T)
            middle = [torch.nn.Flatten(), inner, torch.nn.Sigmoid()]
        return torch.nn.Sequential(conv, torch.nn.ReLU(inplace=True), *middle, last).double()


def logistic(z):
    return 1 / (1 + np.exp(-z))


def fill(module, *values):
    for parameter, value in zip(module.parameters(), values, strict=True):
        parameter.data = torch.from_numpy(np.array(value))
    return module


def forms(net):
    """(model, x) in every form that this engine has."""
    found = [(net.keras(), net.x.astype("float32"))]
    return found + ([(net.torch(), np.moveaxis(net.x, -1, 1))] if ENGINE == "torch" else [])


# the formulas, one sample and unit at a time; a and g are (positions, channels)


def by_cam(a, g):
    return [sum(g[:, c].sum() * row[c] for c in range(CHANNELS)) for row in a]


def by_grad_cam(a, g):
    return [sum(g[:, c].mean() * row[c] for c in range(CHANNELS)) for row in a]


def by_grad_cam_pp(a, g):
    weights = []
    for c in range(CHANNELS):
        total = 0.0
        for value in g[:, c]:
            alpha = value**2 / (2 * value**2 + a[:, c].sum() * value**3) if value else 0.0
            total += alpha * max(value, 0.0)
        weights.append(total)
    return [sum(w * v for w, v in zip(weights, row, strict=True)) for row in a]


def by_layer_cam(a, g):
    return [sum(max(s, 0.0) * v for s, v in zip(slope, row, strict=True)) for slope, row in zip(g, a, strict=True)]


def by_hires_cam(a, g):
    return [sum(s * v for s, v in zip(slope, row, strict=True)) for slope, row in zip(g, a, strict=True)]


FORMULAS = {
    "cam": by_cam,
    "grad_cam": by_grad_cam,
    "grad_cam_pp": by_grad_cam_pp,
    "layer_cam": by_layer_cam,
    "hires_cam": by_hires_cam,
}


def wanted(name, net, pairs=PAIRS):
    a = net.features(net.x)
    g = net.gradient(a)
    flat = a.reshape(N, -1, CHANNELS)
    maps = [[FORMULAS[name](flat[n], g[n, unit].reshape(-1, CHANNELS)) for unit in pairs[n]] for n in range(len(net.x))]
    return np.maximum(maps, 0).reshape(N, len(pairs[0]), *net.spatial)


@pytest.mark.parametrize("rank", SIZES)
@pytest.mark.parametrize("name", FORMULAS)
def test_formula(name, rank):
    net = Net(rank, pooled=name == "cam")
    for model, x in forms(net):
        maps, outputs = getattr(methods, name)(model, x, PAIRS, with_output=True)
        close(maps, wanted(name, net), TOLERANCE)
        close(outputs, np.take_along_axis(net(net.x), PAIRS, 1), TOLERANCE)
    assert (wanted(name, net) > 0).mean() > 0.1


OF = {
    "int": (1, np.full((N, 1), 1), True),
    "labels": (PAIRS[:, 0], PAIRS[:, :1], True),
    "logit": (wrt.logit(-1), np.full((N, 1), UNITS - 1), True),
    "all": ("all", np.tile(np.arange(UNITS), (N, 1)), False),
    "top": (wrt.top(2), None, False),
    "max": ("max", None, True),
}


@pytest.mark.parametrize("form", OF)
def test_of(form):
    net = Net(2, pooled=False)
    of, pairs, single = OF[form]
    pairs = np.argsort(-net(net.x), 1)[:, : 1 if single else 2] if pairs is None else pairs
    for model, x in forms(net):
        maps, outputs = methods.grad_cam(model, x, of, with_output=True)
        expected = wanted("grad_cam", net, pairs), np.take_along_axis(net(net.x), pairs, 1)
        close(maps, expected[0][:, 0] if single else expected[0], TOLERANCE)
        close(outputs, expected[1][:, 0] if single else expected[1], TOLERANCE)


def test_one_output_needs_no_choice():
    net = Net(1, pooled=True)
    net.last, net.shift = net.last[:, :1], net.shift[:1]
    conv = L.Conv1D(CHANNELS, WIDTH, activation="relu")
    model = keras.Sequential([keras.Input((*net.size, INSIDE)), conv, L.GlobalAveragePooling1D(), L.Dense(1)])
    model.set_weights([net.kernel, net.bias, net.last, net.shift])
    a = net.features(net.x)
    close(methods.cam(model, net.x), np.maximum(a @ net.last[:, 0], 0), TOLERANCE)
    close(methods.score_cam(model, net.x), score_maps(net, np.zeros((N, 1), int))[:, 0], TOLERANCE)


def test_cam_is_the_textbook_form():
    """Features times the weights of the class, before the softmax (Zhou et al., equation 2)."""
    net = Net(2, pooled=True)
    model = net.keras(activation="softmax")
    textbook = np.einsum("nhwc,cu->nuhw", net.features(net.x), net.last)
    for unit in range(UNITS):
        close(methods.cam(model, net.x, wrt.logit(unit)), np.maximum(textbook[:, unit], 0), TOLERANCE)
    with pytest.raises(SelectionError, match=r"probability.*of=wrt.logit\(unit\)"):
        methods.cam(model, net.x, 1)


def test_grad_cam_generalises_cam():
    net = Net(2, pooled=True)
    for model, x in forms(net):
        close(methods.grad_cam(model, x, 1) * np.prod(net.spatial), methods.cam(model, x, 1), TOLERANCE)


def test_a_saturated_probability():
    net = Net(1, pooled=False)
    net.shift = np.array([0.0, 90.0, 0.0])
    with pytest.warns(SaturationWarning, match=r"4 of the chosen probabilities .*wrt.logit"):
        methods.grad_cam(net.keras(activation="softmax"), net.x, 1)


# Score-CAM


def finer(values, sizes):
    """(*old) to (*sizes), axis by axis: linear between the centres of cells, constant beyond the outer ones."""
    for axis, size in enumerate(sizes):
        old = values.shape[axis]
        centres, places = (np.arange(old) + 0.5) / old, (np.arange(size) + 0.5) / size
        values = np.apply_along_axis(lambda row: np.interp(places, centres, row), axis, values)  # noqa: B023
    return values


def score_maps(net, pairs):
    maps = np.zeros((N, pairs.shape[1], *net.spatial))
    a = net.features(net.x)
    for n in range(N):
        scores = np.zeros((CHANNELS, net.last.shape[1]))
        for c in range(CHANNELS):
            seen = finer(a[n, ..., c], net.size)
            span = seen.max() - seen.min()
            seen = (seen - seen.min()) / span if span else np.zeros_like(seen)
            scores[c] = net(net.x[n : n + 1] * seen[None, ..., None])[0]
        for k, unit in enumerate(pairs[n]):
            weights = np.exp(scores[:, unit] - scores[:, unit].max())
            maps[n, k] = np.maximum(a[n] @ (weights / weights.sum()), 0)
    return maps


@pytest.mark.parametrize("rank", SIZES)
def test_score_cam(rank):
    net = Net(rank, pooled=False)
    for model, x in forms(net):
        maps, outputs = methods.score_cam(model, x, PAIRS, with_output=True)
        close(maps, score_maps(net, PAIRS), TOLERANCE)
        close(outputs, np.take_along_axis(net(net.x), PAIRS, 1), TOLERANCE)


def test_score_cam_stays_with_the_unit_of_the_whole_input():
    net = Net(2, pooled=False)
    best = net(net.x).argmax(1)
    for model, x in forms(net):
        close(methods.score_cam(model, x, "max"), score_maps(net, best[:, None])[:, 0], TOLERANCE)


def test_score_cam_of_a_channel_that_is_constant():
    net = Net(1, pooled=False)
    net.kernel[..., 0], net.bias[0] = 0, 2.0
    for model, x in forms(net):
        close(methods.score_cam(model, x, PAIRS), score_maps(net, PAIRS), TOLERANCE)


def test_guided_grad_cam():
    net = Net(2, pooled=False)
    for model, x in forms(net):
        maps, outputs = methods.guided_grad_cam(model, x, PAIRS, with_output=True)
        coarse = wanted("grad_cam", net)
        fine = np.array([[finer(image, net.size) for image in row] for row in coarse])
        fine = np.expand_dims(fine, 2 if isinstance(model, torch.nn.Module) and not is_keras(model) else -1)
        close(maps, fine * methods.guided_backprop(model, x, PAIRS), TOLERANCE)
        close(outputs, np.take_along_axis(net(net.x), PAIRS, 1), TOLERANCE)
        assert np.abs(maps).max() > 0


def is_keras(model):
    return isinstance(model, keras.layers.Layer)


# kinds, batches, graphs

EVERY = [*FORMULAS, "score_cam", "guided_grad_cam"]


@pytest.mark.parametrize("name", EVERY)
def test_kinds_and_batches(name):
    net = Net(2, pooled=name == "cam")
    method = getattr(methods, name)
    for model, x in forms(net):
        maps = method(model, x, PAIRS)
        assert isinstance(maps, np.ndarray)
        assert maps.dtype == x.dtype
        found = method(model, tensor(x), tensor(PAIRS))
        assert type(found) is type(tensor(x))
        close(found, maps, TOLERANCE)
        close(method(model, x, PAIRS, batch_size=3), maps, TOLERANCE)
        assert method(model, x[:0], PAIRS[:0]).shape == (0, *maps.shape[1:])


def test_a_traced_input():
    net = Net(2, pooled=True)
    model, x = net.keras(), tensor(net.x.astype("float32"))
    expected = methods.cam(model, net.x, 1)
    if ENGINE == "jax":
        import jax

        close(jax.jit(lambda x: methods.cam(model, x, 1))(x), expected, TOLERANCE)
    elif ENGINE == "tensorflow":
        import tensorflow as tf

        close(tf.function(lambda x: methods.cam(model, x, 1), autograph=False)(x), expected, TOLERANCE)
    else:
        model, x = net.torch(), torch.from_numpy(np.moveaxis(net.x, -1, 1).copy())  # Keras does not run under vmap
        close(torch.func.vmap(lambda row: methods.cam(model, row[None], 1)[0])(x), expected, TOLERANCE)


def test_maps_can_be_trained_through():
    """The derivative of a map with respect to the input, against differences of maps."""
    net = Net(1, pooled=False)
    model, step = net.keras(), 1e-2
    x = net.x[:1].astype("float32")
    expected = methods.hires_cam(model, x + step, 0).sum() - methods.hires_cam(model, x - step, 0).sum()
    found = array(slope(lambda value: methods.hires_cam(model, value, 0, differentiable=True), tensor(x))).sum()
    np.testing.assert_allclose(found, expected / (2 * step), rtol=5e-2)


def slope(f, x):
    if ENGINE == "jax":
        import jax

        return jax.grad(lambda value: f(value).sum())(x)
    if ENGINE == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(x)
            total = tf.reduce_sum(f(x))
        return tape.gradient(total, x)
    x = x.requires_grad_()
    return torch.autograd.grad(f(x).sum(), x)[0]


def test_a_function_of_the_activation():
    net = Net(2, pooled=True)
    a = net.features(net.x)
    last, shift = tensor(net.last), tensor(net.shift)
    engine = wrt.engines.registry.engine(ENGINE)
    first = ENGINE == "torch"  # where functions have their channels first

    def head(value):
        return engine.mean(value, (2, 3) if first else (1, 2)) @ last + shift

    given = np.moveaxis(a, -1, 1) if first else a
    for name in FORMULAS:
        close(getattr(methods, name)(head, given, PAIRS, wrt=0), wanted(name, net), 1e-9)


# which layer


def test_a_layer_by_name():
    net = Net(2, pooled=False)
    for model, x in forms(net):
        name = "features" if is_keras(model) else "1"
        for choice in (name, wrt.layer(name)):
            for method in (methods.grad_cam, methods.score_cam):
                close(method(model, x, PAIRS, wrt=choice), method(model, x, PAIRS), 1e-12)


def test_an_activation_in_place_does_not_change_what_is_read():
    """The convolution itself, not what the ReLU writes into its output."""
    conv = fill(torch.nn.Conv1d(1, 2, 1), [[[1.0]], [[0.0]]], [0.0, 4.0])
    last = fill(torch.nn.Linear(4, 1), np.ones((1, 4)), np.zeros(1))
    model = torch.nn.Sequential(conv, torch.nn.ReLU(inplace=True), torch.nn.Flatten(), last)
    x = torch.tensor([[[-5.0, 3.0]]], dtype=torch.float64)
    # channels (-5, 3) and (4, 4), gradients (0, 1) and (1, 1): weights 1/2 and 1
    close(methods.grad_cam(model, x, wrt="0"), [[1.5, 5.5]], 1e-12)
    weight = logistic(11 - 8)  # the input is seen as (0, 3), and, through a constant, as (0, 0)
    close(methods.score_cam(model, x, wrt="0"), [[0.0, 3 * weight + 4 * (1 - weight)]], 1e-12)


class Block(torch.nn.Module):
    def __init__(self, stride):
        super().__init__()
        self.one = torch.nn.Conv2d(4, 4, 3, stride, padding=1)
        self.relu = torch.nn.ReLU(inplace=True)
        self.two = torch.nn.Conv2d(4, 4, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(4)
        self.down = torch.nn.Conv2d(4, 4, 1, stride)

    def forward(self, x):
        y = self.norm(self.two(self.relu(self.one(x))))
        y += self.down(x)
        return self.relu(y)


class Residual(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.last = torch.nn.Linear(4, 3)
        self.stem = torch.nn.Conv2d(1, 4, 3, padding=1)
        self.blocks = torch.nn.Sequential(Block(1), Block(2))

    def forward(self, x):
        return self.last(self.blocks(self.stem(x)).mean((2, 3)))


def test_the_last_block_of_a_torch_network():
    model, x = Residual(), torch.rand(2, 1, 8, 8)
    if ENGINE != "torch":
        x = x.numpy()
    assert last_convolution(model, x).name == "blocks"
    assert methods.cam(model, x, 1).shape == (2, 4, 4)
    with pytest.raises(SelectionError, match=r"layer 'blocks.1.relu' is called 2 times"):
        methods.cam(model, x, 1, wrt="blocks.1.relu")
    found = methods.cam(model, x, 1, wrt=wrt.layer("blocks.1.relu", call=1))
    close(found, array(methods.cam(model, x, 1)), 1e-6)


def residual(data_format="channels_last"):
    shape = (8, 8, 1) if data_format == "channels_last" else (1, 8, 8)
    options = {"padding": "same", "data_format": data_format}
    x = keras.Input(shape)
    y = L.Conv2D(4, 3, **options, name="stem")(x)
    z = L.Conv2D(4, 3, **options, name="branch")(y)
    z = L.BatchNormalization(axis=-1 if data_format == "channels_last" else 1, name="norm")(z)
    z = L.ReLU(name="end")(L.Add(name="sum")([y, z]))
    z = L.GlobalAveragePooling2D(data_format=data_format, keepdims=True)(z)
    z = L.Conv2D(5, 1, data_format=data_format, name="after")(z)  # of one position, as in MobileNetV3
    return keras.Model(x, L.Dense(3)(L.Flatten()(z)))


def test_the_last_block_of_a_keras_network():
    model, x = residual(), np.random.default_rng(0).random((2, 8, 8, 1), "float32")
    assert last_convolution(model, x).name == "end"
    assert methods.grad_cam(model, x, 1).shape == (2, 8, 8)


def test_a_nested_keras_network():
    inner = keras.Sequential([keras.Input((8, 8, 1)), L.Conv2D(4, 3), L.ReLU(name="end")], name="inner")
    model = keras.Sequential([keras.Input((8, 8, 1)), inner, L.GlobalAveragePooling2D(), L.Dense(2)])
    x = np.random.default_rng(0).random((2, 8, 8, 1), "float32")
    assert last_convolution(model, x).name == "inner"
    close(methods.cam(model, x, 1), methods.cam(model, x, 1, wrt="inner/end"), 1e-6)


@pytest.mark.parametrize("name", ["grad_cam", "layer_cam", "score_cam"])
def test_channels_first_in_keras(name):
    """The same network with the channels elsewhere; TensorFlow has no such convolutions on a CPU."""
    last, x = residual(), np.random.default_rng(0).random((2, 8, 8, 1), "float32")
    expected = getattr(methods, name)(last, x, 1)
    if ENGINE == "tensorflow":
        assert expected.shape == (2, 8, 8)
        return
    first = residual("channels_first")
    first.set_weights(last.get_weights())
    close(getattr(methods, name)(first, np.moveaxis(x, -1, 1), 1), expected, 1e-5)


def test_two_inputs():
    image, extra = keras.Input((6, 5, INSIDE), name="image"), keras.Input((2,), name="extra")
    y = L.GlobalAveragePooling2D()(L.Conv2D(CHANNELS, WIDTH, activation="relu", name="features")(image))
    model = keras.Model({"image": image, "extra": extra}, L.Dense(UNITS)(L.Concatenate()([y, extra])))
    net, more = Net(2, pooled=True), RNG.normal(size=(N, 2))
    lower = RNG.normal(size=(2, UNITS))
    model.set_weights([net.kernel, net.bias, np.concatenate([net.last, lower]), net.shift])
    x = {"extra": more, "image": net.x}
    for name in FORMULAS:
        close(getattr(methods, name)(model, x, PAIRS), wanted(name, net), TOLERANCE)
    close(
        methods.score_cam(model, x, PAIRS), score_maps(net, PAIRS), TOLERANCE
    )  # softmax: the rest is the same for all


def test_one_pass():
    """Layer, gradient and outputs come from one evaluation of the model."""
    net, count = Net(2, pooled=False), [0]
    model = net.torch()
    x = torch.from_numpy(np.moveaxis(net.x, -1, 1).copy())
    methods.grad_cam(model, x, 1)
    model[0].register_forward_hook(lambda *_: count.__setitem__(0, count[0] + 1))
    methods.grad_cam(model, x, 1, with_output=True)
    assert count == [1]


# mistakes


def flat_model():
    return keras.Sequential([keras.Input((6,)), L.Dense(4, name="hidden"), L.Dense(3)])


@pytest.mark.parametrize("name", EVERY)
def test_a_model_without_convolution(name):
    with pytest.raises(SelectionError, match="the model has no convolutional layer with spatial axes; no other layer"):
        getattr(methods, name)(flat_model(), np.ones((2, 6)), 1)


def test_a_model_of_positions_without_convolution():
    model = keras.Sequential([keras.Input((6, 2)), L.Dense(4, name="mixed"), L.GlobalAveragePooling1D(), L.Dense(3)])
    x = np.ones((2, 6, 2), "float32")
    with pytest.raises(SelectionError, match=r"choose a layer with spatial axes by wrt=wrt.layer\('name'\).*'mixed'"):
        methods.cam(model, x, 1)
    assert methods.cam(model, x, 1, wrt="mixed").shape == (2, 6)


@pytest.mark.parametrize("name", EVERY)
def test_a_function_has_no_layers(name):
    with pytest.raises(SelectionError, match=r"a function has no layers .* or a function of the activation"):
        getattr(methods, name)(lambda x: x.sum((1, 2)), tensor(np.ones((2, 6, 6))))


@pytest.mark.parametrize("name", EVERY)
def test_a_layer_without_spatial_axes(name):
    net = Net(1, pooled=True)
    model = net.keras()
    pool = model.layers[1].name
    with pytest.raises(SelectionError, match=r"\(N, 4\), which has no spatial axes .* There are: 'features'"):
        getattr(methods, name)(model, net.x, 1, wrt=wrt.layer(pool))


@pytest.mark.parametrize("name", EVERY)
def test_an_unknown_layer(name):
    net = Net(1, pooled=True)
    with pytest.raises(SelectionError, match="Did you mean 'features'"):
        getattr(methods, name)(net.keras(), net.x, 1, wrt=wrt.layer("feature"))


def test_cam_without_global_pooling():
    net = Net(2, pooled=False)
    for model, x in forms(net):
        for value in (x, tensor(x)):
            with pytest.raises(SelectionError, match=r"does not depend on its global average alone .* use grad_cam"):
                methods.cam(model, value, 1)


@pytest.mark.parametrize("name", EVERY)
def test_several_layers(name):
    net = Net(1, pooled=True)
    with pytest.raises(SelectionError, match="one layer"):
        getattr(methods, name)(net.keras(), net.x, 1, wrt=[wrt.layer("features")])


@pytest.mark.parametrize("name", EVERY)
def test_of_is_missing(name):
    net = Net(1, pooled=True)
    with pytest.raises(SelectionError, match="of= must say which scalar"):
        getattr(methods, name)(net.keras(), net.x)


@pytest.mark.parametrize("name", EVERY)
def test_an_unknown_option(name):
    net = Net(1, pooled=True)
    with pytest.raises(OptionError, match="Did you mean 'batch_size'"):
        getattr(methods, name)(net.keras(), net.x, 1, batchsize=3)


def test_score_cam_of_inputs_that_do_not_fit():
    net = Net(2, pooled=True)
    model = keras.Sequential([keras.Input((30 * INSIDE,)), L.Reshape((6, 5, INSIDE)), *net.keras().layers])
    with pytest.raises(ValueError, match="expected one input with the 2 spatial axes of the layer"):
        methods.score_cam(model, net.x.reshape(N, -1), 1)
