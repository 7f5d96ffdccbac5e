"""Gradients, paths and modified gradients as saliency maps, against closed forms and slow replicas in NumPy."""

import functools
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import torch
from conftest import ENGINE
from keras import layers as L
from subjects import (
    B1,
    W1,
    W2,
    array,
    close,
    function_net,
    keras_net,
    keras_tolerance,
    nets,
    points,
    tensor,
    truth,
    value,
)

import wrt
from wrt.engines import registry
from wrt.errors import DtypeError, InputError, OptionError, SelectionError
from wrt.methods import METHODS, expected_gradients, input_x_gradient, integrated_gradients
from wrt.methods.method import Method, register
from wrt.methods.walk import Walker

X = points(5)
LABELS = np.array([0, 2, 1, 3, 2])
UNITS = np.array([[0, 3], [1, 1], [2, 0], [3, 2], [1, 2]])
ROWS = np.arange(5)


def line(x, start, labels, nodes, weights):
    """Point by point: the weighted sum of the gradients on the way, times the way."""
    total = np.zeros_like(x)
    for node, weight in zip(nodes, weights, strict=True):
        for n in range(len(x)):
            point = start[n] + node * (x[n] - start[n])
            total[n] += weight * truth(point[None])[0, labels[n]]
    return total * (x - start)


# Simpson's rule on many points: another quadrature than any under test
FINE = np.linspace(0, 1, 2001)
SIMPSON = np.array([1, *([4, 2] * 999), 4, 1]) / 6000


# --- the table of methods


def test_the_gradient_is_the_gradient():
    assert wrt.methods.gradient is wrt.gradient
    assert METHODS["gradient"].function is wrt.gradient


def test_every_record_is_public_and_has_a_paper():
    for name, method in METHODS.items():
        assert getattr(wrt.methods, name) is method.function
        assert len(method.paper) > 20
        assert method.function.__doc__


def test_registering_leaves_the_function_as_it_is(monkeypatch):
    known = {}
    monkeypatch.setattr("wrt.methods.method.METHODS", known)
    mine, other = (lambda model, x, of=None: x for _ in range(2))
    mine.__name__ = other.__name__ = "mine"
    assert register(paper="none", invariants={"symmetry"})(mine) is mine
    assert known["mine"] == Method("mine", mine, "none", frozenset({"symmetry"}))
    with pytest.raises(OptionError, match="already"):
        register(paper="none")(other)
    with pytest.raises(OptionError, match="unknown invariant 'symmetric'"):
        register(paper="none", invariants={"symmetric"})
    assert list(known) == ["mine"]


# --- input x gradient


@pytest.mark.parametrize(("name", "make", "tolerance"), nets())
def test_input_x_gradient(name, make, tolerance):
    model = make()
    close(input_x_gradient(model, X, LABELS), X * truth(X)[ROWS, LABELS], tolerance)
    found, outputs = input_x_gradient(model, X, UNITS, with_output=True)
    close(found, X[:, None] * truth(X)[ROWS[:, None], UNITS], tolerance)
    close(outputs, value(X)[ROWS[:, None], UNITS], tolerance)


def test_input_x_gradient_of_a_layer_is_its_output_times_its_gradient():
    h = 1 / (1 + np.exp(-(X @ W1 + B1)))
    found = input_x_gradient(keras_net(), X, LABELS, wrt=wrt.layer("hidden"))
    close(found, h * W2[:, LABELS].T, keras_tolerance())


# --- integrated gradients


def cubic(x):
    return x[:, 0] ** 2 * x[:, 1] + x[:, 2] ** 3


def cubic_paths(x):
    """Integrated from zero; by hand."""
    a, b, c = x.T
    return np.stack([2 * a * a * b / 3, a * a * b / 3, c**3], 1)


@pytest.mark.parametrize("steps", [2, 3, 7])
def test_gauss_legendre_is_exact_for_polynomials(steps):
    found, gap = integrated_gradients(cubic_model(), X, steps=steps, with_gap=True)
    close(found, cubic_paths(X), 1e-8)
    close(gap, np.zeros(5), 1e-8)


def cubic_model():
    """On the engine itself, not in NumPy."""
    zero = tensor(0.0, "float64")
    return lambda x: cubic(x) + zero


def test_one_gauss_point_is_not_enough_for_a_cubic():
    _, gap = integrated_gradients(cubic_model(), X, steps=1, with_gap=True)
    assert np.abs(gap).max() > 1e-3


@pytest.mark.parametrize(("name", "make", "tolerance"), nets())
def test_the_integral(name, make, tolerance):
    start = np.array([0.5, -1.0, 0.2])
    wanted = line(X, np.tile(start, (5, 1)), LABELS, FINE, SIMPSON)
    found, gap = integrated_gradients(make(), X, LABELS, baseline=start, with_gap=True)
    close(found, wanted, max(tolerance, 1e-8))
    close(gap, np.zeros(5), max(tolerance, 1e-8))


RULES = {
    "trapezoid": (np.linspace(0, 1, 4), np.array([1, 2, 2, 1]) / 6),
    "riemann": (np.array([0.25, 0.5, 0.75, 1]), np.full(4, 0.25)),
    "gausslegendre": (
        0.5 + 0.5 * np.array([-0.861136311594053, -0.339981043584856, 0.339981043584856, 0.861136311594053]),
        0.5 * np.array([0.347854845137454, 0.652145154862546, 0.652145154862546, 0.347854845137454]),
    ),
}


@pytest.mark.parametrize("quadrature", RULES)
@pytest.mark.parametrize(("name", "make", "tolerance"), nets())
def test_quadratures_point_by_point_and_their_gap(name, make, tolerance, quadrature):
    wanted = line(X, np.zeros_like(X), LABELS, *RULES[quadrature])
    found, outputs, gap = integrated_gradients(
        make(), X, LABELS, steps=4, quadrature=quadrature, with_output=True, with_gap=True
    )
    close(found, wanted, tolerance)
    close(outputs, value(X)[ROWS, LABELS], tolerance)
    close(gap, wanted.sum(1) - value(X)[ROWS, LABELS] + value(np.zeros_like(X))[ROWS, LABELS], tolerance)


@pytest.mark.parametrize("options", [{"batch_size": 1}, {"batch_size": 4}, {"batch_size": 13}, {"max_memory": 1}])
def test_parts_do_not_matter(options):
    model, more = function_net(), {"steps": 7, "with_gap": True, "baseline": points(5, 3)}
    wanted = integrated_gradients(model, X, UNITS, **more)
    found = integrated_gradients(model, X, UNITS, **more, **options)
    for a, b in zip(found, wanted, strict=True):
        close(a, b, 1e-12)
        assert np.abs(b).max() > 0


@pytest.mark.parametrize(("options", "largest"), [({"batch_size": 6}, 5), ({}, 50), ({"batch_size": 200}, 100)])
def test_points_at_a_time(options, largest, monkeypatch):
    sizes, inner = [], Walker._gradients

    def noting(self, data, part, rows):
        sizes.append(len(part.weights) * len(rows))
        return inner(self, data, part, rows)

    monkeypatch.setattr(Walker, "_gradients", noting)
    integrated_gradients(function_net(), X, LABELS, steps=20, **options)
    assert max(sizes) == largest


# The hidden layer of 32 samples at 200 points takes 512 MB, and again for its activation and derivatives.
LIMITED = """
import os, resource
os.environ["KERAS_BACKEND"] = {engine!r}
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np
import torch
import keras
import wrt
from wrt.engines import registry
inputs = keras.Input((16,))
hidden = keras.layers.Dense(20_000, activation="tanh")(inputs)
model = keras.Model(inputs, keras.layers.Dense(1)(hidden))
x = np.random.default_rng(0).normal(size=(32, 16)).astype("float32")
integrated = wrt.methods.integrated_gradients
integrated(model, x[:2], steps=2, with_gap=True)

def limited(**options):
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (600 << 20), before[1]))
    maps, gap = integrated(model, x, steps=200, with_gap=True, **options)
    resource.setrlimit(resource.RLIMIT_AS, before)
    assert maps.shape == x.shape
    assert np.abs(maps).max() > 1e-3
    assert np.abs(gap).max() < 1e-3, np.abs(gap).max()

limited()
kind = type(registry.engine({engine!r}))
kind.is_out_of_memory = lambda *_: False  # no part is halved: what was planned must fit
limited(max_memory=100 << 20)
print("done")
"""


def test_what_does_not_fit_in_one_piece_completes_in_parts():
    code = LIMITED.format(engine=ENGINE)
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=500)
    assert ran.stdout.strip().endswith("done"), ran.stderr[-2000:]


def test_parts_are_halved_when_memory_runs_out():
    f, sizes = function_net(), []

    def failing(x):
        if x.shape[0] is not None and x.shape[0] > 3:
            raise MemoryError
        sizes.append(x.shape[0])
        return f(x)

    failing.__wrapped__ = f
    engine = registry.engine(ENGINE)
    before = type(engine).is_out_of_memory
    type(engine).is_out_of_memory = lambda self, error: isinstance(error, MemoryError)
    try:
        found = integrated_gradients(failing, X, LABELS, steps=9, compile=False)
    finally:
        type(engine).is_out_of_memory = before
    close(found, integrated_gradients(f, X, LABELS, steps=9), 1e-12)


def test_baselines():
    model, each, one = function_net(), points(5, 8), points(1, 9)[0]
    nodes, weights = RULES["trapezoid"]
    options = {"steps": 4, "quadrature": "trapezoid"}
    zeros, ones = np.zeros_like(X), np.ones_like(X)

    def found(baseline):
        return integrated_gradients(model, X, LABELS, baseline=baseline, **options)

    def wanted(start):
        return line(X, start, LABELS, nodes, weights)

    close(found(None), wanted(zeros), 1e-10)
    close(found(0.5), wanted(0.5 * ones), 1e-10)
    close(found(one), wanted(one * ones), 1e-10)
    close(found(each), wanted(each), 1e-10)
    close(found(each[None]), wanted(each), 1e-10)
    close(found(np.stack([each, 2 * each])), (wanted(each) + wanted(2 * each)) / 2, 1e-10)
    close(found(np.stack([one, 3 * one])[:, None]), (wanted(one * ones) + wanted(3 * one * ones)) / 2, 1e-10)


def test_the_gap_of_several_baselines_counts_them_all():
    each = np.stack([points(5, 8), points(5, 9)])
    maps, outputs, gap = integrated_gradients(
        function_net(), X, LABELS, baseline=each, steps=1, with_output=True, with_gap=True
    )
    low = np.mean([value(b)[ROWS, LABELS] for b in each], 0)
    close(gap, maps.sum(1) - outputs + low, 1e-10)
    assert np.abs(gap).max() > 1e-4


@pytest.mark.parametrize("of", ["max", wrt.top(2)])
def test_the_highest_units_are_those_at_the_input(of):
    x = points(40, 4)
    labels = np.argsort(-value(x), 1)[:, :2]
    labels = labels[:, 0] if of == "max" else labels
    assert (value(0 * x).argmax(1) != value(x).argmax(1)).any()  # they change on the way
    found = integrated_gradients(function_net(), x, of)
    close(found, integrated_gradients(function_net(), x, labels), 1e-12)


def test_a_layer_integrated_in_its_own_space():
    """Behind the hidden layer the network is linear: its contributions are the summands."""
    h = 1 / (1 + np.exp(-(X @ W1 + B1)))
    start = np.linspace(0, 1, 5)
    found, gap = integrated_gradients(
        keras_net(), X, LABELS, wrt=wrt.layer("hidden"), baseline=start, steps=3, with_gap=True
    )
    close(found, (h - start) * W2[:, LABELS].T, keras_tolerance())
    close(gap, np.zeros(5), keras_tolerance())


def words_net():
    inputs = keras.Input((4,), dtype="int32", name="words")
    y = L.Embedding(7, 3, name="lookup")(inputs)
    return keras.Model(inputs, L.Dense(2, activation="tanh")(L.Flatten()(y)))


def test_words_by_their_embedding():
    model, words = words_net(), np.random.default_rng(2).integers(7, size=(6, 4))
    table, kernel, bias = (array(w) for w in model.weights)
    embedded = table[words].astype("float64")
    wanted = np.zeros_like(embedded)
    for t, w in zip(FINE, SIMPSON, strict=True):
        z = t * embedded.reshape(6, 12) @ kernel + bias
        wanted += w * ((1 - np.tanh(z[:, 1]) ** 2)[:, None] * kernel[:, 1]).reshape(6, 4, 3)
    found, gap = integrated_gradients(model, words, 1, wrt="lookup", with_gap=True)
    close(found, wanted * embedded, 1e-5)
    close(gap, np.zeros(6), 1e-5)
    with pytest.raises(DtypeError, match="lookup"):
        integrated_gradients(model, words, 1)


def two_inputs():
    one = tensor(1.0, "float64")
    return lambda a, b: (a[:, 0] ** 2 * b[:, 1, 0] + b[:, 0, 1] ** 2) * one


def two(count=4):
    rng = np.random.default_rng(6)
    return {"a": rng.normal(size=(count, 2)), "b": rng.normal(size=(count, 2, 3))}


def test_several_inputs_go_their_ways_together():
    x = two()
    a, b = x["a"], x["b"]
    found, gap = integrated_gradients(two_inputs(), x, with_gap=True)
    wanted = {"a": np.zeros_like(a), "b": np.zeros_like(b)}
    wanted["a"][:, 0] = 2 * a[:, 0] ** 2 * b[:, 1, 0] / 3
    wanted["b"][:, 1, 0] = a[:, 0] ** 2 * b[:, 1, 0] / 3
    wanted["b"][:, 0, 1] = b[:, 0, 1] ** 2
    assert list(found) == ["a", "b"]
    for name in wanted:
        close(found[name], wanted[name], 1e-8)
    close(gap, np.zeros(4), 1e-8)


def test_one_of_several_inputs_while_the_others_stay():
    x = two()
    start = {"b": np.ones((2, 3)), "a": np.zeros(2)}
    found = integrated_gradients(two_inputs(), x, wrt="a", baseline=start["a"])
    close(found[:, 0], x["a"][:, 0] ** 2 * x["b"][:, 1, 0], 1e-8)
    both = integrated_gradients(two_inputs(), x, wrt=["b", "a"], baseline=[start["b"], start["a"]])
    close(both[1], integrated_gradients(two_inputs(), x, baseline=start)["a"], 1e-10)
    assert isinstance(both, list)
    assert both[0].shape == (4, 2, 3)


@pytest.mark.parametrize("method", [input_x_gradient, integrated_gradients])
def test_tensors_in_tensors_out(method):
    wanted, outputs = method(function_net(), X, UNITS, with_output=True)
    found, also = method(function_net(), tensor(X), UNITS, with_output=True)
    engine = registry.engine(ENGINE)
    assert engine.owns(found)
    assert engine.owns(also)
    close(found, wanted, 1e-12)
    close(also, outputs, 1e-12)
    close(method(function_net(), tensor(X), UNITS, batch_size=2), wanted, 1e-12)


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("kind", [np.asarray, tensor])
def test_few_samples(count, kind):
    model, x = function_net(), points(9)[:count]
    for method in (input_x_gradient, integrated_gradients):
        found, outputs = method(model, kind(x), 1, with_output=True)
        assert tuple(found.shape) == (count, 3)
        assert tuple(outputs.shape) == (count,)
    found = integrated_gradients(model, kind(x), 1, baseline=x, with_gap=True)[1]
    close(found, np.zeros(count), 1e-12)
    assert tuple(expected_gradients(model, kind(x), 1, background=points(3)).shape) == (count, 3)


def test_the_dtype_is_that_of_the_model():
    model = keras_net("float32")
    assert integrated_gradients(model, X, 1).dtype == np.float32
    assert input_x_gradient(model, X, 1).dtype == np.float32


def test_weights_of_now():
    """What was compiled for a model follows its training."""
    model = keras_net()
    before = integrated_gradients(model, X, 1, steps=3)
    model.layers[-1].kernel.assign(2 * model.layers[-1].kernel)
    close(integrated_gradients(model, X, 1, steps=3), 2 * before, keras_tolerance())


def test_differentiable_in_torch_and_under_jit():
    f, x = cubic_model(), tensor(X, "float64")
    wanted = np.stack([4 * X[:, 0] * X[:, 1] / 3 + 2 * X[:, 0] * X[:, 1] / 3, X[:, 0] ** 2, 3 * X[:, 2] ** 2], 1)

    def total(x):
        return integrated_gradients(f, x, steps=2).sum() if ENGINE != "tensorflow" else None

    if ENGINE == "torch":
        leaf = x.clone().requires_grad_()
        total(leaf).backward()
        close(leaf.grad, wanted, 1e-8)
    elif ENGINE == "jax":
        import jax

        close(jax.jit(jax.grad(total))(x), wanted, 1e-8)
    else:
        import tensorflow as tf

        run = tf.function(
            lambda x: integrated_gradients(f, x, steps=2), input_signature=[tf.TensorSpec((None, 3), "float64")]
        )
        close(run(x), cubic_paths(X), 1e-8)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.reduce_sum(integrated_gradients(f, x, steps=2))
        close(tape.gradient(y, x), wanted, 1e-8)


# --- expected gradients


def test_expected_gradients_of_one_background_sample_and_a_linear_function():
    w = tensor(np.array([2.0, -1.0, 0.5]), "float64")
    b = np.array([[1.0, 0.0, -1.0]])
    found = expected_gradients(lambda x: (x * w).sum(1) if ENGINE != "tensorflow" else x @ w[:, None], X, background=b)
    close(found, (X - b) * np.array([2.0, -1.0, 0.5]), 1e-10)


def test_expected_gradients_in_expectation():
    """E (x - b) 2 (b + t (x - b)) = x² - b², averaged over the background."""
    one = tensor(1.0, "float64")
    back, x = points(3, 5), X[:2]
    found = expected_gradients(lambda x: (x[:, 0] ** 2 + x[:, 1]) * one, x, background=back, samples=20_000)
    wanted = np.stack([x[:, 0] ** 2 - np.mean(back[:, 0] ** 2), x[:, 1] - back[:, 1].mean(), 0 * x[:, 0]], 1)
    np.testing.assert_allclose(found, wanted, atol=0.1)


def test_draws_depend_on_the_seed_and_not_on_the_batches():
    def found(**options):
        return expected_gradients(function_net(), X, LABELS, background=points(6, 1), samples=5, **options)

    for size in (1, 3, 7):
        close(found(batch_size=size), found(), 1e-12)
    close(expected_gradients(function_net(), tensor(X), LABELS, background=points(6, 1), samples=5), found(), 1e-12)
    assert np.abs(found(seed=1) - found()).max() > 1e-3
    rows = found()  # every sample has draws of its own
    assert (
        np.abs(
            expected_gradients(function_net(), X[::-1], LABELS[::-1], background=points(6, 1), samples=5)[::-1] - rows
        ).max()
        > 1e-3
    )


# --- modified gradients

SIZES = ((3, 6), (6,), (6, 5), (5,), (5, 2), (2,))
WEIGHTS = [np.random.default_rng(3).normal(size=size) for size in SIZES]


def relu_by_hand(local, unit=1):
    w1, b1, w2, b2, w3, _ = WEIGHTS
    z1 = X @ w1 + b1
    z2 = np.maximum(z1, 0) @ w2 + b2
    u = np.tile(w3[:, unit], (len(X), 1))
    return local(local(u, z2) @ w2.T, z1) @ w1.T


def relu_models():
    """A named activation, a layer, a layer used twice, ReLU6 beside ReLU; on torch functions and in place too."""
    dense = [L.Dense(6, activation="relu"), L.Dense(5, activation="relu"), L.Dense(2)]
    six = [L.Dense(6, activation="relu6"), L.Dense(5), L.ReLU(), L.Dense(2)]
    mixed = [L.Dense(6, activation="relu"), L.Dense(5), L.ReLU(max_value=60.0), L.Dense(2)]
    relus = [L.ReLU(60.0, name="re_lu"), L.ReLU(max_value=60.0, name="re_lu_6")]  # as Keras would name some
    named = [L.Dense(6), relus[0], L.Dense(5), relus[1], L.Dense(2)]
    shared, inputs = L.ReLU(), keras.Input((3,))
    y = shared(L.Dense(5)(shared(L.Dense(6)(inputs))))
    found = [keras.Sequential([keras.Input((3,)), *made]) for made in (dense, six, mixed, named)]
    found.append(keras.Model(inputs, L.Dense(2)(y)))
    for model in found:
        model.set_weights(WEIGHTS)
    return found + (torch_relu_models() if ENGINE == "torch" else [])


class Functional(torch.nn.Module):
    def __init__(self, layers, call):
        super().__init__()
        self.layers, self.call = torch.nn.ModuleList(layers), call

    def forward(self, x):
        a, b, c = self.layers
        return c(self.call(b(self.call(a(x)))))


def torch_relu_models():
    def linear():
        layers = [torch.nn.Linear(3, 6), torch.nn.Linear(6, 5), torch.nn.Linear(5, 2)]
        with torch.no_grad():
            for layer, w, b in zip(layers, WEIGHTS[::2], WEIGHTS[1::2], strict=True):
                layer.weight.copy_(torch.from_numpy(w.T))
                layer.bias.copy_(torch.from_numpy(b))
        return layers

    in_place = functools.partial(torch.nn.functional.relu, inplace=True)
    return [Functional(linear(), call) for call in (torch.relu, torch.relu_, in_place, torch.nn.ReLU(inplace=True))]


LOCAL = {
    "guided_backprop": lambda u, z: np.maximum(u, 0) * (z > 0),
    "deconvnet": lambda u, z: np.maximum(u, 0),
    "gradient": lambda u, z: u * (z > 0),
}


@pytest.mark.parametrize("name", LOCAL)
def test_modified_gradients(name):
    assert (np.abs(relu_by_hand(LOCAL["gradient"]) - relu_by_hand(LOCAL["guided_backprop"])) > 1e-3).any()
    method = getattr(wrt.methods, name)
    for number, model in enumerate(relu_models()):
        maps, outputs = method(model, X.astype("float32"), 1, with_output=True)
        close(maps, relu_by_hand(LOCAL[name]), 1e-4)
        assert outputs.shape == (5,), number


@pytest.mark.parametrize("method", [wrt.methods.guided_backprop, wrt.methods.deconvnet])
def test_a_model_without_a_relu(method):
    with pytest.raises(SelectionError, match=r"neither relu nor relu6.*rules="):
        method(keras_net(), X, 1)
    with pytest.raises(SelectionError, match="of= must say which scalar"):
        method(keras_net(), X)


# --- mistakes


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"steps": 0}, OptionError, "steps=0.*at least 1"),
        ({"steps": 2.5}, OptionError, "steps=2.5"),
        ({"steps": True}, OptionError, "steps=True"),
        ({"steps": 1, "quadrature": "trapezoid"}, OptionError, "at least 2"),
        ({"quadrature": "gausslegendra"}, OptionError, "Did you mean 'gausslegendre'"),
        ({"baseline": np.zeros(4)}, InputError, r"baseline has shape \(4,\); expected a number.*\(5, 3\)"),
        ({"baseline": np.zeros((4, 3))}, InputError, r"baseline has shape \(4, 3\)"),
        ({"baseline": np.zeros((0, 1, 3))}, InputError, r"baseline has shape \(0, 1, 3\)"),
        ({"baseline": [np.zeros(3)] * 2}, InputError, r"baseline holds 2 array\(s\); expected 1"),
        ({"baseline": np.full(3, np.nan)}, InputError, "not finite"),
        ({"baseline": "zeros"}, InputError, "baseline is of dtype"),
        ({"batch": 3}, OptionError, "unknown option 'batch'.*batch_size"),
        ({"batch_size": 0}, OptionError, "batch_size=0"),
        ({"of": None}, SelectionError, "of= must say which scalar.*of='all'"),
        ({"of": 4}, SelectionError, "4 is out of range"),
        ({"of": wrt.top(5)}, SelectionError, "only 4 units"),
        ({"of": lambda y: y[:, None]}, SelectionError, "expected .N,. or .N, K."),
        ({"wrt": "hiden"}, SelectionError, "hidden"),
    ],
)
def test_mistakes_in_integrated_gradients(options, kind, words):
    with pytest.raises(kind, match=words):
        integrated_gradients(keras_net(), X, **{"of": 1, **options})


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"background": np.zeros((0, 3))}, InputError, r"expected some samples, \(B, 3\)"),
        ({"background": np.zeros(3)}, InputError, r"background has shape \(3,\)"),
        ({"background": 0.0}, InputError, r"background has shape \(\)"),
        ({"background": np.full((2, 3), np.inf)}, InputError, "not finite"),
        ({"background": points(2), "samples": 0}, OptionError, "samples=0"),
    ],
)
def test_mistakes_in_expected_gradients(options, kind, words):
    with pytest.raises(kind, match=words):
        expected_gradients(function_net(), X, 1, **options)


def test_nothing_of_the_model_is_touched():
    model = keras_net()
    before = [array(w).copy() for w in model.weights]
    integrated_gradients(model, X, "max", with_gap=True)
    assert all(np.array_equal(a, array(w)) for a, w in zip(before, model.weights, strict=True))
    if ENGINE == "torch":
        assert all(w.value.grad is None for w in model.weights)
