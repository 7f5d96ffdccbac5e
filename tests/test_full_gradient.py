"""Shares of the input and of biases: by hand, by scaling the biases, by torch's own gradients of them."""

import doctest

import keras
import numpy as np
import pytest
import torch
from conftest import ENGINE
from keras import layers as L
from subjects import array, close, keras_tolerance, tensor

import wrt
from wrt.errors import DtypeError, SelectionError
from wrt.methods import full_gradient

TOLERANCE = max(keras_tolerance(), 1e-6)
RNG = np.random.default_rng(7)
X = RNG.normal(size=(3, 9, 7, 2)).astype("float32")
UNITS = np.array([[0, 2], [1, 1], [2, 0]])


def drawn(model, seed=3):
    """The model with weights, biases and statistics that are all different from where they start."""
    rng = np.random.default_rng(seed)
    values = [rng.normal(size=w.shape) * 0.5 for w in model.get_weights()]
    names = [v.path for v in model.weights]
    model.set_weights([abs(v) + 0.3 if "variance" in n else v for v, n in zip(values, names, strict=True)])
    return model


def cnn():
    """Fused and separate activations, moved statistics, a residual, a maximum, layers that add nothing."""
    inputs = keras.Input(X.shape[1:])
    a = L.Rescaling(0.5, offset=0.25, name="scale")(inputs)
    a = L.Conv2D(3, 3, activation="relu", name="fused")(a)
    a = L.BatchNormalization(name="normal")(a)
    a = L.ReLU()(a)
    b = L.SeparableConv2D(3, 3, padding="same", activation=L.LeakyReLU(), name="separable")(a)
    a = L.MaxPooling2D()(L.Add()([a, L.Conv2D(3, 1, use_bias=False, name="bare")(b)]))
    a = L.Dense(4, activation="relu", name="hidden")(L.Flatten()(a))
    twice = L.Dense(4, activation="relu", name="twice")
    return drawn(keras.Model(inputs, L.Dense(3, name="last")(twice(twice(a)))))


@pytest.fixture(scope="module")
def net():
    return cnn()


@pytest.fixture(scope="module")
def shares(net):
    return full_gradient(net, X, UNITS, contributions=True, with_output=True, with_gap=True)


def total(share, lead=2):
    return array(share).reshape(*share.shape[:lead], -1).sum(-1)


# --- completeness


def test_two_layers_by_hand():
    w1, b1, w2, b2 = [[1.0, -2.0, 1.0], [2.0, 1.0, 0.0]], [0.5, 1.0, -9.0], [[3.0], [4.0], [5.0]], [0.25]
    model = keras.Sequential([keras.Input((2,)), L.Dense(3, activation="relu", name="a"), L.Dense(1, name="b")])
    model.set_weights([np.array(w) for w in (w1, b1, w2, b2)])
    x = np.array([[1.0, 2.0], [-1.0, 1.0]], "float32")  # z = (5.5, 1, -8) and (1.5, 4, -10)
    found, gap = full_gradient(model, x, contributions=True, with_gap=True)
    close(found["input"], [[-5.0, 20.0], [5.0, 10.0]], TOLERANCE)  # gradient (3 - 8, 6 + 4)
    close(found["a"], [[1.5, 4.0, 0.0], [1.5, 4.0, 0.0]], TOLERANCE)
    close(found["b"], [[0.25], [0.25]], TOLERANCE)
    close(gap, [0.0, 0.0], TOLERANCE)
    close(full_gradient(model, x, rescale=False), [[5.0, 20.0], [5.0, 10.0]], TOLERANCE)
    close(full_gradient(model, x), [[0.0, 1.0], [0.0, 1.0]], TOLERANCE)


def test_a_network_with_everything_is_complete(net, shares):
    found, outputs, gap = shares
    assert list(found) == ["input", "scale", "fused", "normal", "separable", "hidden", "twice[0]", "twice[1]", "last"]
    assert {k: v.shape[2:] for k, v in found.items()} == {
        "input": (9, 7, 2), "scale": (9, 7, 2), "fused": (7, 5, 3), "normal": (7, 5, 3), "separable": (7, 5, 3),
        "hidden": (4,), "twice[0]": (4,), "twice[1]": (4,), "last": (3,),
    }  # fmt: skip
    close(outputs, np.take_along_axis(array(net(X)), UNITS, 1), 1e-5)
    together = sum(total(share) for share in found.values())
    close(together, outputs, 1e-5)
    close(gap, together - outputs, 1e-5)
    assert min(np.abs(total(share)).max() for share in found.values()) > 1e-3


SCALED = {name: ["bias"] for name in ("fused", "separable", "twice", "last")} | {"normal": ["beta", "moving_mean"]}


@pytest.mark.parametrize("name", SCALED)
def test_a_share_is_what_scaling_the_bias_changes(net, shares, name):
    variables = [v for v in net.get_layer(name).weights if v.name in SCALED[name]]
    before, outputs = [np.array(array(v.value)) for v in variables], []
    for factor in (1.001, 0.999):
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value * factor)
        outputs.append(np.take_along_axis(array(net(X)), UNITS, 1))
    for variable, value in zip(variables, before, strict=True):
        variable.assign(value)
    assert len(variables) == len(SCALED[name])
    found = sum(total(share) for key, share in shares[0].items() if key.split("[")[0] == name)
    close(found, (outputs[0] - outputs[1]) / 0.002, 5e-3)


def test_nothing_is_left_on_the_model(net, shares):
    for layer in net._flatten_layers():
        assert "call" not in layer.__dict__
    assert net.get_layer("fused").activation is keras.activations.relu
    assert isinstance(net.get_layer("separable").activation, L.LeakyReLU)
    close(full_gradient(net, X, UNITS, contributions=True, batch_size=2)["fused"], shares[0]["fused"], 1e-5)


def test_other_activations_leave_a_gap():
    model = drawn(keras.Sequential([keras.Input((3,)), L.Dense(4, activation="tanh", name="a"), L.Dense(2, name="b")]))
    x = RNG.normal(size=(2, 3)).astype("float32")
    found = wrt.explain("full_gradient", model, x, 1)
    close(found.maps, wrt.filters.normalize(full_gradient(model, x, 1)), 1e-5)
    w1, b1, w2, b2 = model.get_weights()
    h = np.tanh(x @ w1 + b1)
    slope = (1 - h**2) * w2[:, 1]
    wanted = (slope * (x @ w1 + b1)).sum(1) + b2[1] - (h @ w2 + b2)[:, 1]
    close(found.info["completeness_gap"], wanted, 1e-5)
    assert np.abs(wanted).min() > 1e-3


def test_tokens_count_through_their_embedding():
    layers = [L.Embedding(11, 4, name="words"), L.Conv1D(3, 2, activation="relu", name="pairs")]
    model = keras.Sequential(
        [keras.Input((6,), dtype="int32"), *layers, L.GlobalMaxPooling1D(), L.Dense(2, name="last")]
    )
    x = RNG.integers(0, 11, (3, 6))
    found, gap = full_gradient(drawn(model), x, 1, contributions=True, with_gap=True)
    assert {k: v.shape[1:] for k, v in found.items()} == {"words": (6, 4), "pairs": (5, 3), "last": (2,)}
    close(gap, np.zeros(3), 1e-5)
    assert np.abs(total(found["words"], 1)).max() > 1e-3
    close(
        full_gradient(model, x, 1),
        painted([found["words"][:, None], found["pairs"][:, None]], (6,), [-1, -1])[:, 0],
        1e-4,
    )


def test_half_precision_is_summed_in_single():
    layers = [L.Conv1D(3, 2, activation="relu", dtype="mixed_float16"), L.Flatten(), L.Dense(2, dtype="float16")]
    model = drawn(keras.Sequential([keras.Input((6, 2)), *layers]))
    x = RNG.normal(size=(2, 6, 2)).astype("float32")
    for given in (x, tensor(x)):
        maps, gap = full_gradient(model, given, 1, with_gap=True)
        assert str(array(maps).dtype) == str(array(gap).dtype) == "float32"
        close(gap, np.zeros(2), 1e-2)


# --- the map


def painted(shares, size, channels):
    """The authors' recipe, on shares (N, K, *layer), with the library's interpolation."""
    found = 0
    for share, axis in zip(shares, channels, strict=True):
        a = np.moveaxis(np.abs(array(share)), axis, 2).astype(float)
        flat = a.reshape(*a.shape[:2], -1)
        low, high = (f(flat, 2).reshape(*a.shape[:2], *(1,) * (a.ndim - 2)) for f in (np.min, np.max))
        scaled = torch.from_numpy((a - low) / (high - low)).flatten(0, 1)
        mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(size)]
        large = torch.nn.functional.interpolate(scaled, size, mode=mode).sum(1)
        found = found + large.reshape(*a.shape[:2], *size).numpy()
    return found


def test_the_map_is_the_authors(net, shares):
    names = ("input", "scale", "fused", "normal", "separable")
    close(full_gradient(net, X, UNITS), painted([shares[0][n] for n in names], (9, 7), [-1] * 5), 1e-4)


# --- torch


class Residual(torch.nn.Module):
    """A convolution called twice, batch normalisation, a residual, functional activations in place, two inputs."""

    def __init__(self, rank=2, inputs=1):
        super().__init__()
        nn, self.rank, self.inputs = torch.nn, rank, inputs
        kind = {name: getattr(nn, f"{name}{rank}d") for name in ("Conv", "BatchNorm", "ConvTranspose")}
        self.input = kind["Conv"](2, 4, 3)
        self.again = kind["Conv"](4, 4, 3, padding=1)
        self.normal = kind["BatchNorm"](4)
        self.up = kind["ConvTranspose"](4, 2, 2, stride=2)
        self.fixed = nn.Linear(5, 3, bias=False)
        self.last = nn.Linear(2 + 3 * (inputs - 1), 3)
        self.unused = nn.Linear(5, 3)

    def forward(self, x, side=None):
        a = torch.relu_(self.normal(self.input(x)))
        a = a + torch.nn.functional.leaky_relu(self.again(a))
        a = self.up(torch.relu(self.again(a))).flatten(2).amax(2)
        return self.last(a if side is None else torch.cat([a, self.fixed(side), self.unused(side)[:, :0]], 1))


def residual(rank=2, inputs=1):
    torch.manual_seed(rank)
    model = Residual(rank, inputs).double()
    torch.nn.init.normal_(model.normal.bias)
    model.normal.running_mean.normal_()
    model.normal.running_var.uniform_(0.5, 2)
    return model.train()  # as found: the statistics are used all the same


SIZES = {1: (9,), 2: (8, 7), 3: (5, 6, 5)}


@pytest.mark.parametrize("rank", SIZES)
def test_shares_of_a_torch_module_are_biases_times_their_gradients(rank):
    model, x = residual(rank), torch.randn(2, 2, *SIZES[rank], dtype=torch.float64)
    found, gap = full_gradient(model, x, UNITS[:2], contributions=True, with_gap=True)
    assert list(found) == ["input", "input[0]", "normal", "again[0]", "again[1]", "up", "last"]
    close(gap, np.zeros((2, 2)), 1e-12)
    assert model.training
    assert not any(m._forward_hooks for m in model.modules())
    model.eval()
    norm = model.normal
    constant = norm.bias - norm.weight * norm.running_mean / (norm.running_var + norm.eps) ** 0.5
    biases = {"input[0]": model.input.bias, "normal": norm.bias, "up": model.up.bias, "last": model.last.bias}
    values = {**biases, "normal": constant}
    for n in range(2):
        for k, unit in enumerate(UNITS[n]):
            gradients = torch.autograd.grad(model(x[n : n + 1])[0, unit], [*biases.values(), model.again.bias])
            for (name, value), g in zip(values.items(), gradients, strict=False):
                close(found[name][n, k].reshape(len(value), -1).sum(1), (value * g).detach(), 1e-10)
            both = (found["again[0]"] + found["again[1]"])[n, k].reshape(4, -1).sum(1)
            close(both, (model.again.bias * gradients[-1]).detach(), 1e-10)
    maps = full_gradient(model, x, UNITS[:2])
    close(maps, painted([found[n] for n in list(found)[:-1]], SIZES[rank], [2] * 6), 1e-10)


def test_several_inputs():
    model, data = residual(2, 2), {"x": RNG.normal(size=(2, 2, 8, 7)), "side": RNG.normal(size=(2, 5))}
    found, gap = full_gradient(model, data, 1, contributions=True, with_gap=True)
    assert list(found)[:3] == ["input[x]", "input[side]", "input"]
    assert np.abs(found["unused"]).max() == 0
    close(gap, np.zeros(2), 1e-12)
    assert full_gradient(model, data, 1, wrt="x").shape == (2, 8, 7)
    assert full_gradient(model, data, 1, wrt="side").shape == (2, 5)
    with pytest.raises(SelectionError, match="over which of them"):
        full_gradient(model, data, 1)
    with pytest.raises(SelectionError, match="over one input"):
        full_gradient(model, data, 1, wrt=wrt.layer("again", call=0))


def test_differentiable():
    model, x = residual(), torch.randn(2, 2, 8, 7, dtype=torch.float64, requires_grad=True)
    found = full_gradient(model, x, 1, contributions=True, differentiable=True)["normal"]
    by_hand = torch.autograd.grad(found.sum(), [x, model.normal.bias, model.last.weight], allow_unused=True)
    model.normal.bias.data *= 1.001
    more = full_gradient(model, x, 1, contributions=True)["normal"].sum()
    model.normal.bias.data /= 1.001
    rise = (model.normal.bias.data * 0.001 * by_hand[1]).sum()
    close(rise.detach(), (more - found.sum()).detach(), 1e-6)
    assert by_hand[2].abs().max() > 0
    maps = full_gradient(model, x, 1, differentiable=True)
    assert torch.autograd.grad(maps.sum(), x)[0].abs().max() > 0


def test_where_the_channels_are():
    """Images without channels; steps of a sequence, whose features are last on torch as well; channels first."""
    nn = torch.nn
    picture = nn.Sequential(nn.Unflatten(1, (1, 8)), nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(60, 1))
    assert full_gradient(picture, RNG.normal(size=(2, 8, 7)).astype("float32")).shape == (2, 8, 7)
    steps = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3), nn.Flatten(), nn.Linear(18, 1))
    assert full_gradient(steps, RNG.normal(size=(2, 6, 5)).astype("float32")).shape == (2, 6)


if ENGINE == "torch":  # on others a CPU has no such convolutions

    def test_keras_with_channels_first():
        layers = [L.Rescaling(0.5, offset=1.0), L.Conv2D(3, 3, data_format="channels_first", activation="relu")]
        last = [L.BatchNormalization(axis=1), L.Flatten(), L.Dense(1)]
        model = drawn(keras.Sequential([keras.Input((2, 8, 7)), *layers, *last]))
        x = np.moveaxis(X[:, :8], -1, 1)
        found, gap = full_gradient(model, x, contributions=True, with_gap=True)
        close(gap, np.zeros(3), 1e-4)
        wanted = painted([share[:, None] for share in list(found.values())[:4]], (8, 7), [2] * 4)[:, 0]
        close(full_gradient(model, x), wanted, 1e-4)


@pytest.mark.parametrize("function", [full_gradient, wrt.metrics.randomization, wrt.metrics.explain_func])
def test_examples(function):
    (test,) = doctest.DocTestFinder(recurse=False).find(function, function.__name__, globs={})
    assert test.examples
    assert doctest.DocTestRunner().run(test).failed == 0


# --- what cannot be


def test_functions_are_refused():
    with pytest.raises(SelectionError, match="a function has no named layers"):
        full_gradient(lambda x: x[:, 0], np.ones((1, 2)))


def test_what_has_no_shares_is_refused():
    with pytest.raises(SelectionError, match="single layer"):
        full_gradient(torch.nn.Linear(2, 1), torch.ones(1, 2))
    with pytest.raises(DtypeError, match="no derivative with respect to integers"):
        full_gradient(residual(), np.ones((1, 2, 8, 7), int), 1)
    twins = [L.Dense(2, name="same"), L.Dense(2, name="same")]

    class Twins(keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.second = twins

        def call(self, x):
            return self.second(self.first(x))

    with pytest.raises(SelectionError, match="two layers are called 'same'"):
        full_gradient(Twins(), np.ones((1, 2), "float32"), 1)
