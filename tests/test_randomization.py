"""Maps of randomised models: each step against a real copy of the model with the same weights, ranks against SciPy."""

import keras
import numpy as np
import pytest
import torch
from conftest import ENGINE
from keras import layers as L
from scipy.stats import spearmanr
from subjects import array, close

import wrt
from wrt.errors import InputError, ModelError, OptionError
from wrt.methods.metrics import Randomization, randomization

X = np.random.default_rng(5).normal(size=(3, 6, 5, 2)).astype("float32")
NAMES = ("last", "normal", "first")


def keras_net():
    layers = [L.Conv2D(4, 3, activation="tanh", name="first"), L.BatchNormalization(name="normal"), L.Flatten()]
    model = keras.Sequential([keras.Input(X.shape[1:]), *layers, L.Dense(3, name="last")])
    rng = np.random.default_rng(1)
    model.set_weights([abs(rng.normal(size=w.shape)) for w in model.get_weights()])
    return model


class Spy:
    """A method that remembers the weights with which it was called, and for which units."""

    def __init__(self, method=wrt.gradient):
        self.method, self.weights, self.units = method, [], []

    def __call__(self, model, x, of=None):
        self.units.append(of)
        self.weights.append([array(w).copy() for w in getattr(model, "weights", [])])
        return self.method(model, x, of)


def split(weights):
    """Weights as wrt has them: trainable ones first, of `first`, `normal` and `last`; then the statistics."""
    kernel, bias, scale, shift, last, final, mean, variance = weights
    return {"first": [kernel, bias], "normal": [scale, shift, mean, variance], "last": [last, final]}


@pytest.fixture(scope="module")
def net():
    return keras_net()


def learnt(net):
    return split([array(v.value) for v in (*net.trainable_variables, *net.non_trainable_variables)])


def test_each_step_is_the_method_on_a_copy_with_these_weights(net):
    before = [w.copy() for w in net.get_weights()]
    spy = Spy()
    found = randomization(spy, net, X, 1)
    assert isinstance(found, Randomization)
    assert found.layers == NAMES
    for a, b in zip(before, net.get_weights(), strict=True):
        assert a.tobytes() == b.tobytes()
    here, copy = array(wrt.gradient(net, X, 1)), keras.models.clone_model(net)
    for weights, row in zip(spy.weights[1:], found.correlations, strict=True):
        for variable, w in zip((*copy.trainable_variables, *copy.non_trainable_variables), weights, strict=True):
            variable.assign(w)
        maps = array(wrt.gradient(copy, X, 1))
        wanted = [spearmanr(np.abs(a).ravel(), np.abs(b).ravel()).statistic for a, b in zip(here, maps, strict=True)]
        close(row, wanted, 1e-6)
    assert found.correlations[-1].max() < 0.9
    assert "normal" in repr(found)


@pytest.mark.parametrize("order", ["cascading", "independent"])
def test_what_is_drawn(net, order):
    spy, here = Spy(), learnt(net)
    randomization(spy, net, X, 1, order=order)
    for step, weights in enumerate(spy.weights[1:]):
        changed = set(NAMES[: step + 1]) if order == "cascading" else {NAMES[step]}
        assert {name for name, ws in split(weights).items() if not same(ws, here[name])} == changed
    drawn = split(weights) if order == "cascading" else None
    if drawn:
        for (kernel, *vectors), (new, *shuffled) in ((here[n], drawn[n]) for n in ("first", "last")):
            close(new.mean(), kernel.mean(), 0.2)
            close(new.std(), kernel.std(), 0.2)
            close(np.sort(shuffled[0]), np.sort(vectors[0]), 0)
            assert not np.isin(new, kernel).any()
        places = [
            [int(np.flatnonzero(a == v)[0]) for v in b] for a, b in zip(here["normal"], drawn["normal"], strict=True)
        ]
        assert places == [places[0]] * 4  # scale, shift and statistics belong together
        assert places[0] != [0, 1, 2, 3]


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


if ENGINE == "torch":  # what does not differ between engines

    def test_the_seed(net):
        first, again, other = (randomization("gradient", net, X, 1, seed=s).correlations for s in (0, 0, 1))
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)

    def test_units_are_chosen_by_the_model(net):
        spy = Spy()
        randomization(spy, net, X, "max")
        assert [np.array_equal(u, array(net(X)).argmax(1)) for u in spy.units] == [True] * 4

    def test_a_map_of_the_input_alone_stays(net):
        found = randomization(lambda model, x, of: x, net, X, 1)
        close(found.correlations, np.ones((3, 3)), 1e-12)

    def test_a_constant_map_is_like_nothing(net):
        found = randomization(lambda model, x, of: np.ones_like(x), net, X, 1)
        assert np.array_equal(found.correlations, np.zeros((3, 3)))

    def test_methods_of_layers_and_their_options(net):
        found = randomization("grad_cam", net, X, 1, wrt=wrt.layer("first"), batch_size=2)
        assert found.correlations.shape == (3, 3)
        found = randomization(wrt.smooth("gradient", repetitions=2, noise=0.1), net, X, np.array([[0, 2]] * 3))
        assert np.isfinite(found.correlations).all()

    def test_torch_modules_in_the_order_of_their_calls():
        nn = torch.nn

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.last, self.first = nn.Linear(4, 2), nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
                self.shift = nn.Parameter(torch.arange(3.0))
                self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

            def forward(self, x):
                a = torch.tanh(self.first(x + self.shift))[:, None]
                return self.last(self.attention(a, a, a)[0][:, 0])

        model, x = Net().train(), torch.randn(5, 3)
        before = {k: v.clone() for k, v in model.state_dict().items()}
        spy = Spy()
        found = randomization(spy, model, x, 1)
        order = ("last", "attention", "attention.out_proj", "first.1", "first.0", "the model itself")
        assert found.layers == order
        assert model.training
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
        assert all(p.grad is None for p in model.parameters())
        names = [*dict(model.named_parameters()), *dict(model.named_buffers())]
        counts = [w for name, w in zip(names, spy.weights[-1], strict=True) if name.endswith("num_batches_tracked")]
        assert counts == [0]

    def test_errors(net):
        with pytest.raises(ModelError, match="model is a function"):
            randomization("gradient", lambda x: x[:, 0], np.ones((2, 3)))
        with pytest.raises(ModelError, match="no weights"):
            randomization("gradient", torch.nn.ReLU(), np.ones((2, 3), "float32"), 0)
        with pytest.raises(OptionError, match="order='casc'"):
            randomization("gradient", net, X, 1, order="casc")
        with pytest.raises(OptionError, match="method='grad'"):
            randomization("grad", net, X, 1)
        with pytest.raises(InputError, match="random weights in layer 'last' hold numbers that are not finite"):
            randomization(lambda model, x, of: x if model is net else x * np.inf, net, X, 1)
        with pytest.raises(ModelError, match="cannot be called"):
            randomization(lambda model, x, of: model(x), net, X, 1)
