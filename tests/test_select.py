"""Every form of `of=` and of `wrt=`, against the rows of Jacobians known by hand."""

import keras
import numpy as np
import pytest
from conftest import ENGINE
from subjects import (
    B1,
    W1,
    W2,
    close,
    function_net,
    keras_net,
    keras_tolerance,
    math,
    points,
    tensor,
    torch_net,
    truth,
    value,
)

import wrt
from wrt.errors import SaturationWarning, SelectionError

X = points(5)
J = truth(X)
ROWS = np.arange(5)
LABELS = np.array([3, 0, 1, 1, 2])
PAIRS = np.array([[3, 0], [0, 0], [1, 2], [2, 1], [3, 3]])
ORDER = np.argsort(-value(X), axis=1)
TOLERANCE = keras_tolerance()


def nets():
    found = [("keras", keras_net, TOLERANCE), ("function", function_net, 1e-10)]
    return found + ([("torch", torch_net, 1e-10)] if ENGINE == "torch" else [])


OF = {
    "int": (2, J[:, 2]),
    "negative": (-1, J[:, 3]),
    "numpy int": (np.int64(1), J[:, 1]),
    "tuple": ((2,), J[:, 2]),
    "negative tuple": ((-4,), J[:, 0]),
    "labels": (LABELS, J[ROWS, LABELS]),
    "negative labels": (LABELS - 4, J[ROWS, LABELS]),
    "small labels": (LABELS.astype("int8"), J[ROWS, LABELS]),
    "list of labels": (LABELS.tolist(), J[ROWS, LABELS]),
    "labels (N, K)": (PAIRS, J[ROWS[:, None], PAIRS]),
    "labels (N, 1)": (PAIRS[:, :1], J[ROWS[:, None], PAIRS[:, :1]]),
    "max": ("max", J[ROWS, ORDER[:, 0]]),
    "top 1": (wrt.top(), J[ROWS, ORDER[:, 0]]),
    "top 3": (wrt.top(3), J[ROWS[:, None], ORDER[:, :3]]),
    "all": ("all", J),
    "logit": (wrt.logit(2), J[:, 2]),
    "output by number": (wrt.output(0, 2), J[:, 2]),
    "difference": (lambda y: y[:, 0] - 2 * y[:, 3], J[:, 0] - 2 * J[:, 3]),
    "several": (lambda y: y[:, 1:3], J[:, 1:3]),
}


@pytest.mark.parametrize("function", [wrt.gradient, wrt.jacobian])
@pytest.mark.parametrize("of", OF)
@pytest.mark.parametrize(("name", "make", "tolerance"), nets())
def test_every_choice_of_numbers(name, make, tolerance, of, function):
    choice, wanted = OF[of]
    if of == "output by number":
        inner = make()
        model = (
            (lambda x: (inner(x), x)) if name != "keras" else keras.Model(inner.inputs, [inner.output, inner.inputs[0]])
        )
        close(function(model, X, of=choice), wanted, tolerance)
    else:
        close(function(make(), X, of=choice), wanted, tolerance)


@pytest.mark.parametrize("mode", ["reverse", "forward"])
@pytest.mark.parametrize("of", OF)
def test_choices_in_both_modes_and_in_batches(of, mode):
    choice, wanted = OF[of]
    if of != "output by number":
        found = wrt.jacobian(function_net(), X, of=choice, mode=mode, chunk=2, batch_size=2)
        close(found, wanted, 1e-10)


def test_labels_as_tensors():
    close(wrt.gradient(function_net(), tensor(X), of=tensor(LABELS)), J[ROWS, LABELS], 1e-10)
    close(wrt.gradient(function_net(), tensor(X), of=LABELS), J[ROWS, LABELS], 1e-10)
    close(wrt.gradient(function_net(), X, of=tensor(LABELS)), J[ROWS, LABELS], 1e-10)


def test_none_is_all_of_the_output_in_jacobian_and_the_only_scalar_in_gradient():
    close(wrt.jacobian(function_net(), X), J, 1e-10)
    f = function_net()
    close(wrt.gradient(lambda x: f(x)[:, 1], X), J[:, 1], 1e-10)
    close(wrt.gradient(lambda x: f(x)[:, 1:2], X), J[:, 1], 1e-10)
    close(wrt.gradient(lambda x: f(x)[:, 1:2], X, with_output=True)[0], J[:, 1], 1e-10)
    close(wrt.gradient(lambda x: f(x)[:, 1:2], X, of="all"), J[:, 1:2], 1e-10)


def test_output_comes_with_the_derivative():
    for of, wanted in [(2, value(X)[:, 2]), (wrt.top(2), np.take_along_axis(value(X), ORDER[:, :2], 1))]:
        gradient, y = wrt.gradient(keras_net(), X, of=of, with_output=True)
        close(y, wanted, TOLERANCE)
        close(gradient, wrt.gradient(keras_net(), X, of=of), 1e-12)
    for mode in ("reverse", "forward"):
        close(wrt.jacobian(keras_net(), X, mode=mode, with_output=True, batch_size=2)[1], value(X), TOLERANCE)
    close(wrt.jvp(keras_net(), X, X, with_output=True)[1], value(X), TOLERANCE)
    close(wrt.vjp(keras_net(), X, value(X), with_output=True)[1], value(X), TOLERANCE)


def test_tuple_goes_into_an_output_of_any_rank():
    w = np.random.default_rng(0).normal(size=(3, 2, 4)).reshape(3, 8)
    matrix, sin = tensor(w), math().sin
    reshape = math().reshape
    f = lambda x: reshape(sin(x @ matrix), (-1, 2, 4))
    wanted = np.einsum("no,io->noi", np.cos(X @ w), w).reshape(5, 2, 4, 3)
    close(wrt.jacobian(f, X), wanted, 1e-10)
    close(wrt.gradient(f, X, of=(1, 2)), wanted[:, 1, 2], 1e-10)
    close(wrt.gradient(f, X, of=(-1, -1)), wanted[:, 1, 3], 1e-10)
    close(wrt.jacobian(f, X, of=(1,)), wanted[:, 1], 1e-10)
    close(wrt.jacobian(f, X, of=3), wanted[..., 3, :], 1e-10)  # an int is a unit on the last axis
    with pytest.raises(SelectionError, match="3 indices"):
        wrt.gradient(f, X, of=(0, 0, 0))


def softmax_net(kind):
    """The network with a softmax behind it, in three ways that Keras has of writing one."""
    net = keras_net()
    if kind == "layer":
        return keras.Model(net.inputs, keras.layers.Softmax(dtype="float64")(net.output))
    if kind == "activation layer":
        return keras.Model(net.inputs, keras.layers.Activation("softmax", dtype="float64")(net.output))
    net.layers[-1].activation = keras.activations.softmax
    return net


@pytest.mark.parametrize("kind", ["layer", "activation layer", "activation"])
def test_logit_is_the_value_before_the_softmax(kind):
    model = softmax_net(kind)
    close(wrt.gradient(model, X, of=wrt.logit(2)), J[:, 2], TOLERANCE)
    close(wrt.gradient(model, X, of=wrt.logit("max")), J[ROWS, ORDER[:, 0]], TOLERANCE)
    close(wrt.gradient(model, X, of=wrt.logit(LABELS)), J[ROWS, LABELS], TOLERANCE)
    close(wrt.jacobian(model, X, of=wrt.logit()), J, TOLERANCE)
    p = np.exp(value(X)) / np.exp(value(X)).sum(1, keepdims=True)
    slope = p[:, 2, None] * (J[:, 2] - np.einsum("no,noi->ni", p, J))
    close(wrt.gradient(model, X, of=2), slope, TOLERANCE)


def test_saturated_probability_warns_and_offers_the_logit():
    model = softmax_net("layer")
    last = model.get_layer("last")
    last.bias.assign(tensor(np.array([0.0, 0, 60, 0])))
    with pytest.warns(SaturationWarning, match=r"5 of the chosen probabilities.*wrt\.logit"):
        wrt.gradient(model, X, of=2)
    assert np.abs(wrt.gradient(model, X, of=wrt.logit(2))).min() > 1e-6


def test_named_outputs_and_inputs():
    a, b = keras.Input((3,), name="a", dtype="float64"), keras.Input((2,), name="b", dtype="float64")
    one = keras.layers.Dense(4, name="one", dtype="float64")
    two = keras.layers.Dense(2, name="two", dtype="float64")
    model = keras.Model({"a": a, "b": b}, {"p": one(a), "q": two(keras.layers.Concatenate(dtype="float64")([a, b]))})
    x = {"b": np.ones((5, 2)), "a": X}
    k1, k2 = (np.asarray(keras.ops.convert_to_numpy(layer.kernel)) for layer in (one, two))
    tile = lambda m: np.tile(m.T, (5, 1, 1))
    found = wrt.jacobian(model, x, of=wrt.output("q"))
    close(found["a"], tile(k2[:3]), TOLERANCE)
    close(found["b"], tile(k2[3:]), TOLERANCE)
    close(wrt.gradient(model, x, of=wrt.output("q", 1), wrt="b"), tile(k2[3:])[:, 1], TOLERANCE)
    close(wrt.gradient(model, x, of=wrt.output("p", 3), wrt="a"), tile(k1)[:, 3], TOLERANCE)
    both = wrt.gradient(model, x, of=wrt.output("q", 0), wrt=["b", "a"])
    close(both[0], tile(k2[3:])[:, 0], TOLERANCE)
    close(both[1], tile(k2[:3])[:, 0], TOLERANCE)
    full = wrt.jacobian(model, x, wrt="a")
    close(full["p"], tile(k1), TOLERANCE)
    close(full["q"], tile(k2[:3]), TOLERANCE)
    everything = wrt.jacobian(model, x)
    close(everything["q"]["b"], tile(k2[3:]), TOLERANCE)
    close(everything["p"]["b"], np.zeros((5, 4, 2)), TOLERANCE)  # q depends on b, so p's block is a true zero


def test_inputs_by_number_list_and_tree():
    f = function_net()
    g = lambda a, b: f(a) + 2.0 * f(b)
    Y = points(5, 1)
    pair = wrt.jacobian(g, (tensor(X), tensor(Y)))
    assert isinstance(pair, tuple)
    close(pair[0], J, 1e-10)
    close(pair[1], 2 * truth(Y), 1e-10)
    close(wrt.jacobian(g, (tensor(X), tensor(Y)), wrt=1), 2 * truth(Y), 1e-10)
    close(wrt.jacobian(g, (tensor(X), tensor(Y)), wrt=-2), J, 1e-10)
    swapped = wrt.jacobian(g, (tensor(X), tensor(Y)), wrt=[1, 0])
    close(swapped[0], 2 * truth(Y), 1e-10)
    close(swapped[1], J, 1e-10)


HIDDEN = 1 / (1 + np.exp(-(X @ W1 + B1)))
TO_HIDDEN = np.einsum("nh,ih->nhi", HIDDEN * (1 - HIDDEN), W1)


@pytest.mark.parametrize("mode", ["auto", "reverse", "forward"])
def test_layers_on_both_sides(mode):
    model = keras_net()
    close(wrt.jacobian(model, X, of=wrt.layer("hidden"), mode=mode), TO_HIDDEN, TOLERANCE)
    close(wrt.gradient(model, X, of=wrt.layer("hidden", 3), mode=mode), TO_HIDDEN[:, 3], TOLERANCE)
    close(wrt.jacobian(model, X, wrt=wrt.layer("hidden"), mode=mode), np.tile(W2.T, (5, 1, 1)), TOLERANCE)
    close(wrt.gradient(model, X, of=1, wrt="hidden", mode=mode), np.tile(W2[:, 1], (5, 1)), TOLERANCE)
    parts = wrt.jacobian(model, X, wrt=["x", wrt.layer("hidden")], mode=mode)
    close(parts[0], J, TOLERANCE)
    close(parts[1], np.tile(W2.T, (5, 1, 1)), TOLERANCE)
    mixed = wrt.gradient(model, X, of=wrt.layer("last", "max"), wrt="hidden", mode=mode)
    close(mixed, W2.T[ORDER[:, 0]], TOLERANCE)


@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_layers_of_a_torch_module(mode):
    model = torch_net()
    close(wrt.jacobian(model, X, of=wrt.layer("1"), mode=mode), TO_HIDDEN, 1e-10)
    close(wrt.jacobian(model, X, wrt=wrt.layer("1"), mode=mode), np.tile(W2.T, (5, 1, 1)), 1e-10)
    close(wrt.gradient(model, X, of=3, wrt="1", mode=mode), np.tile(W2[:, 3], (5, 1)), 1e-10)


def test_nested_layers_by_path():
    inner = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, name="deep")], name="inner")
    outer = keras.Sequential([keras.Input((3,)), inner, keras.layers.Dense(2, name="deep")], name="outer")
    kernel = keras.ops.convert_to_numpy(outer.layers[-1].kernel)
    found = wrt.jacobian(outer, X, wrt=wrt.layer("inner/deep"))
    close(found, np.tile(kernel.T, (5, 1, 1)), 1e-6)


def test_top_follows_the_sample_and_not_the_batch():
    whole = wrt.gradient(keras_net(), X, of=wrt.top(2))
    for n in range(5):
        close(wrt.gradient(keras_net(), X[n : n + 1], of=wrt.top(2)), whole[n : n + 1], TOLERANCE)
    assert len(set(ORDER[:, 0])) > 1


def test_new_labels_of_the_same_shape_are_not_the_old_ones():
    f = function_net()
    close(wrt.gradient(f, X, of=LABELS), J[ROWS, LABELS], 1e-10)
    close(wrt.gradient(f, X, of=LABELS[::-1].copy()), J[ROWS, LABELS[::-1]], 1e-10)
    with pytest.raises(SelectionError, match="label 6 is out of range"):
        wrt.gradient(f, X, of=LABELS + 6)


def test_labels_with_another_k_are_another_question():
    model = shared_net()
    for columns in (2, 1, 2):
        wanted = J[ROWS[:, None], PAIRS[:, :columns]]
        close(wrt.gradient(model, X, of=PAIRS[:, :columns]), wanted, TOLERANCE)


@pytest.mark.parametrize("unit", range(4))
def test_a_function_that_captures_a_number(unit):
    """The same lambda, written once, over changing numbers."""
    close(wrt.gradient(shared_net(), X, of=lambda y: y[:, unit] * (unit + 1.0)), J[:, unit] * (unit + 1), TOLERANCE)


def test_a_function_whose_captured_number_changes():
    unit = 0

    def of(y):
        return y[:, unit]

    model = shared_net()
    for unit in range(4):
        close(wrt.gradient(model, X, of=of), J[:, unit], TOLERANCE)


MODELS = []


def shared_net():
    if not MODELS:
        MODELS.append(keras_net())
    return MODELS[0]
