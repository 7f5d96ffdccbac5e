"""`wrt.check` passes what is right, and finds, names and locates what is not."""

import importlib

import keras
import numpy as np
import pytest
import torch
from conftest import ENGINE
from subjects import function_net, math, nets, points, tensor, truth

import wrt
from wrt.errors import InputError, OptionError

FRAMEWORK = importlib.import_module(ENGINE)


def random(shape, seed=5):
    return np.random.default_rng(seed).normal(size=shape)


def with_rule(value, derivative):
    """An elementwise function of the engine whose backward rule is `derivative(x)`, right or not."""
    if ENGINE == "torch":
        return _torch_rule(value, derivative)
    if ENGINE == "jax":
        function = FRAMEWORK.custom_vjp(value)
        function.defvjp(lambda x: (value(x), x), lambda x, u: (u * derivative(x),))
        return function

    @FRAMEWORK.custom_gradient
    def function(x):
        return value(x), lambda u: u * derivative(x)

    return function


def _torch_rule(value, derivative):
    class Rule(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return value(x)

        @staticmethod
        def backward(ctx, u):
            return u * derivative(*ctx.saved_tensors)

    return Rule.apply


def square_with(factors):
    """x² mixed by a matrix; the rule of the square is `2 x factors`, wrong where a factor is not one."""
    size = len(factors)
    wrong = tensor(2 * np.asarray(factors, "float64"))
    weights = tensor(random((size, 3), 1))
    square = with_rule(lambda x: x * x, lambda x: x * wrong)
    return lambda x: square(x) @ weights


@pytest.mark.parametrize(("name", "make", "tolerance"), nets())
def test_a_right_model_passes(name, make, tolerance):
    model = make()
    found = wrt.check(model, points(20))
    assert found.ok, str(found)
    assert found.verdict == "the derivative is right"
    assert found.max_error < 1e-2 * found.tolerance + 1e-4 * (tolerance > 1e-10)
    assert found.samples == 8
    assert found.entries >= 8 * 4 * 3
    assert found.dead_inputs == found.dead_outputs == found.saturated == found.non_finite == ()
    assert not found.mixes_samples
    sample, (row,), (column,) = found.where
    assert found.derivative == pytest.approx(truth(points(20))[sample, row, column], rel=1e-4)
    assert found.difference == pytest.approx(found.derivative, rel=1e-3)


def test_precision():
    exact = wrt.check(function_net(), points(5))
    assert (exact.precision, exact.tolerance) == ("float64", 1e-5)
    assert exact.max_error < 1e-9
    assert exact.dot_error < 1e-12
    single = wrt.check(function_net(dtype="float32"), points(5).astype("float32"))
    assert single.ok, str(single)
    assert single.precision in ("float32", "float64")  # whether the captured weights follow is the framework's
    assert single.max_error < 1e-2


def test_a_float32_torch_module_is_checked_in_float64():
    model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2))
    found = (
        wrt.check(model, points(5).astype("float32"))
        if ENGINE == "torch"
        else wrt.check(function_net(), points(5).astype("float64"))
    )
    assert found.ok, str(found)
    assert found.precision == "float64"


@pytest.mark.parametrize("place", [0, 3])
def test_a_wrong_rule_is_located(place):
    factors = np.ones(5)
    factors[place] = 1.25
    found = wrt.check(square_with(factors), 1 + random((6, 5)) ** 2)
    assert not found.ok
    assert found.verdict == "the reverse derivative is WRONG"
    assert found.max_error > 0.01
    sample, (row,), (column,) = found.where
    assert column == place
    x = (1 + random((6, 5)) ** 2)[sample, place]
    assert found.difference == pytest.approx(2 * x * random((5, 3), 1)[place, row], rel=1e-6)
    assert found.derivative == pytest.approx(1.25 * found.difference, rel=1e-6)
    assert f"sample {sample}, output ({row},), input ({place},)" in str(found).replace(",)", ",)")


def test_the_right_rule_passes():
    found = wrt.check(square_with(np.ones(5)), 1 + random((6, 5)) ** 2)
    assert found.ok, str(found)


def test_one_wrong_entry_among_many_is_found():
    """Not among the entries that are compared: it shows in a direction, and is traced."""
    factors = np.ones(500)
    factors[321] = 3.0
    x = 1 + random((3, 500)) ** 2
    x[:, 321] = 0.2  # a small one, which is not chosen for its size
    found = wrt.check(square_with(factors), x, entries=4, samples=3)
    assert not found.ok
    assert found.where[2] == (321,)
    assert found.derivative == pytest.approx(3 * found.difference, rel=1e-4)


def test_a_wrong_rule_in_float32_is_located():
    def single(factors):
        wrong = tensor(2 * np.asarray(factors), "float32")
        square = with_rule(lambda x: x * x, lambda x: x * wrong)
        return lambda x: square(x)

    x = tensor(1 + random((6, 5)) ** 2, "float32")
    assert wrt.check(single(np.ones(5)), x).ok
    found = wrt.check(single([1, 1, 1, 1, 1.2]), x)
    assert not found.ok
    assert found.where[1:] == ((4,), (4,))


def test_a_wrong_rule_of_a_whole_function():
    """One rule for both ways in JAX, where the reverse derivative is the forward one transposed."""
    function = square_with(np.full(3, 1.5))
    if ENGINE == "jax":
        function = FRAMEWORK.custom_jvp(lambda x: x * x)
        function.defjvp(lambda primals, tangents: (primals[0] ** 2, 3 * primals[0] * tangents[0]))
    assert wrt.check(function, 1 + random((4, 3)) ** 2).verdict == "the reverse derivative is WRONG"


def test_dead_inputs_and_outputs():
    def model(x):
        return x[:, :3] * tensor(np.array([1.0, 0.0, 2.0])) * x[:, 4:5]

    found = wrt.check(model, 1 + random((5, 6)) ** 2)
    assert found.ok, str(found)
    assert found.dead_inputs == ((1,), (3,), (5,))
    assert found.dead_outputs == ((1,),)
    assert "dead inputs   3: (1,), (3,), (5,)" in str(found)


def test_an_input_that_is_alive_for_one_sample_is_not_dead():
    maximum = math().maximum
    x = -np.ones((40, 3))
    x[17, 1] = 2.0
    found = wrt.check(lambda x: maximum(x, 0.5 * 0 * x) ** 2 + x[:, :1], x, samples=2)
    assert found.dead_inputs == ((2,),)


@pytest.mark.parametrize("form", ["model", "function"])
def test_saturated_outputs(form):
    x = np.array([[1.0, 2.0, 1.5], [40.0, 1.0, 2.0], [0.0, 1.0, 50.0]])
    softmax = {"jax": lambda x: FRAMEWORK.nn.softmax(x, -1), "torch": lambda x: torch.softmax(x, -1)}.get(
        ENGINE, lambda x: FRAMEWORK.nn.softmax(x)
    )
    model = keras.Sequential([keras.Input((3,)), keras.layers.Softmax()]) if form == "model" else softmax
    found = wrt.check(model, x)
    assert found.saturated == ((0,), (2,))
    assert found.ok, str(found)
    assert wrt.check(model, x[:1]).saturated == ()


def keras_with_nan():
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(4, activation="tanh", name="fine"),
            keras.layers.Dense(4, name="broken"),
            keras.layers.Dense(2, name="after"),
        ]
    )
    kernel, bias = model.get_layer("broken").get_weights()
    kernel[1, 2] = np.nan
    model.get_layer("broken").set_weights([kernel, bias])
    return model, "broken"


def torch_with_nan():
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Sequential(torch.nn.Tanh(), torch.nn.Linear(4, 2)))
    model[1][1].weight.data[1, 2] = torch.inf
    return model, "1.1"


@pytest.mark.parametrize("make", [keras_with_nan, *([torch_with_nan] if ENGINE == "torch" else [])])
def test_the_layer_where_nan_begins_is_named(make):
    model, name = make()
    found = wrt.check(model, points(4).astype("float32"))
    assert not found.ok
    assert f"layer '{name}' is the first" in found.non_finite[0]
    assert found.entries == 0
    assert math_isnan(found.max_error)


def math_isnan(value):
    return value != value


def test_values_that_are_not_finite():
    x = 1 + points(5) ** 2
    x[3, 1] = np.nan
    found = wrt.check(function_net(), x)
    assert found.non_finite == ("x (input 'x'): 1 values, the first at sample 3, index (1,)",)
    assert not found.ok
    assert found.samples == 4
    assert found.max_error < 1e-9


def test_a_derivative_that_is_not_finite():
    sqrt = math().sqrt
    x = 1 + points(5) ** 2
    x[2, 1] = 0.0
    found = wrt.check(lambda x: sqrt(x) * x[:, :1], x)
    assert found.non_finite == ("derivative: finite output, but first not finite at sample 2, input (1,)",)
    assert not found.ok
    assert "right where it is finite" in found.verdict


MIXERS = {
    "mean": lambda x: x - math().mean(x, 0) if ENGINE != "tensorflow" else x - FRAMEWORK.reduce_mean(x, 0),
    "neighbour": lambda x: (
        x * math().concatenate([x[1:], x[:1]], 0) if ENGINE != "tensorflow" else x * FRAMEWORK.concat([x[1:], x[:1]], 0)
    ),
    "first": lambda x: x * x[:1],
}


@pytest.mark.parametrize("name", MIXERS)
def test_samples_that_influence_one_another(name):
    found = wrt.check(MIXERS[name], points(7))
    assert found.mixes_samples
    assert not found.ok
    assert found.entries == 0
    assert "influence one another" in str(found)


def test_batch_statistics_are_found_and_inference_mode_has_none():
    layer = keras.layers.BatchNormalization()
    layer.build((None, 3))
    assert not wrt.check(keras.Sequential([keras.Input((3,)), layer]), points(6).astype("float32")).mixes_samples


def relu_net():
    return keras.Sequential(
        [
            keras.Input((12, 10, 1)),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.MaxPooling2D(2),
            keras.layers.Flatten(),
            keras.layers.Dense(6, activation="relu"),
            keras.layers.Dense(3),
        ]
    )


def test_kinks_are_no_alarm():
    """An image on a black background: ties in the pooling and zeros under the ReLUs everywhere."""
    x = random((6, 12, 10, 1)) * (random((6, 12, 10, 1), 6) > 0.8)
    found = wrt.check(relu_net(), x.astype("float32"), entries=12)
    assert found.ok, str(found)
    assert 0 < found.at_kinks < found.entries / 2
    assert "not judged (at kinks" in str(found)


@pytest.mark.parametrize("where", [0.0, 1e-5, 3e-5, 1e-4, 5e-4, 1e-2])
def test_a_kink_near_a_sample_is_no_alarm(where):
    """|x| and max(x, 0) of a value at any distance of the difference's steps."""
    maximum = math().maximum
    weights = tensor(np.array([[1.0, -2.0], [0.5, 1.0]]))
    x = np.array([[where, 1.0], [-where, 0.3]])
    found = wrt.check(lambda x: maximum(x, 0 * x) @ weights + maximum(-x, 0 * x), x)
    assert found.ok, str(found)


def test_a_wrong_rule_among_kinks_is_found():
    maximum = math().maximum
    rule = square_with([1, 1, 1.5, 1])
    found = wrt.check(lambda x: rule(maximum(x, 0 * x)), random((8, 4)))
    assert not found.ok
    assert found.where[2] == (2,)


def test_inputs_of_different_units():
    """A column in millions beside one in thousandths: each has its own step, and its own error."""
    factors = np.array([1e6, 1.0, 1e-3])
    x = (1 + random((8, 3)) ** 2) * factors
    size = tensor(factors)
    assert wrt.check(lambda x: math().sin(x / size), x).ok
    wrong = tensor(np.array([1.3, 1.0, 1.0]))
    rule = with_rule(lambda x: x * 1, lambda x: 0 * x + wrong)
    found = wrt.check(lambda x: math().sin(rule(x) / size), x)
    assert not found.ok
    assert found.where[2] == (0,)


def test_several_inputs_and_outputs():
    rule = with_rule(lambda x: x * x, lambda x: 5 * x)

    def model(x):
        return {"p": x["a"] * x["b"][:, 0], "q": x["a"][:, :, None] + (rule(x["b"]))}

    x = {"a": random((4, 2), 1), "b": 2 + random((4, 2, 2), 2)}
    found = wrt.check(model, x)
    assert found.where[1][0] == "q"
    assert found.where[2][0] == "b"
    assert found.where[1][1:] == found.where[2][1:]
    assert "output q (" in str(found)
    assert wrt.check(model, x, wrt="a").ok


def test_of():
    rule = square_with([1, 1, 2, 1])
    x = 1 + random((5, 4)) ** 2
    found = wrt.check(rule, x, np.array([0, 2, 1, 1, 0]))
    assert found.where[1:] == ((), (2,))
    assert wrt.check(lambda x: x[:, 2:3] ** 2 + 0 * rule(x)[:, :1], x, 0).ok


def test_an_embedding():
    inputs = keras.Input((4,), dtype="int32")
    hidden = keras.layers.Embedding(7, 3, name="words")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2, activation="tanh")(keras.layers.Flatten()(hidden)))
    x = np.random.default_rng(0).integers(0, 7, (5, 4))
    found = wrt.check(model, x, wrt="words")
    assert found.ok, str(found)
    assert found.entries == 5 * 2 * 12 * 2


def test_tensors():
    found = wrt.check(function_net(), tensor(points(5)))
    assert found.ok, str(found)
    assert found.max_error < 1e-9
    assert wrt.check(function_net(), tensor(points(20)), samples=3).samples == 3


@pytest.mark.parametrize("samples", [1, 2])
def test_few_samples(samples):
    assert wrt.check(function_net(), points(samples)).ok


def test_the_same_seed_gives_the_same_check():
    x = points(20)
    first, second, other = (wrt.check(function_net(), x, samples=3, seed=seed) for seed in (1, 1, 2))
    assert first == second
    assert first.where != other.where


def test_values_that_change_from_call_to_call():
    state = np.random.default_rng(0)

    def model(x):
        return x * tensor(state.normal(size=3)) if ENGINE == "torch" else x

    found = wrt.check(model, points(4))
    assert found.ok is (ENGINE != "torch")  # the others trace the function once
    assert ("different values" in found.verdict) is (ENGINE == "torch")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"samples": 0}, "samples=0"), ({"entries": 1.5}, "entries=1.5"), ({"batch_size": 0}, "batch")],
)
def test_bad_options(options, message):
    with pytest.raises(OptionError, match=message):
        wrt.check(function_net(), points(3), **options)


def test_derivatives_below_the_rounding_are_not_called_right():
    found = wrt.check(lambda x: 1 + 1e-17 * square_with(np.ones(3))(x), 1 + random((4, 3)) ** 2)
    assert not found.ok
    assert found.in_noise == found.entries
    assert "nothing could be judged" in found.verdict
    some = wrt.check(lambda x: x * tensor(np.array([1.0, 1.0, 1e-20])) + 1, points(4))
    assert some.ok, str(some)
    assert 0 < some.in_noise < some.entries


def test_a_function_of_numpy_arrays_is_its_own_oracle():
    found = wrt.check(np.sin, points(3))
    assert found.ok
    assert "itself made of differences" in found.verdict


def test_no_samples():
    with pytest.raises(InputError, match="at least one sample"):
        wrt.check(function_net(), points(0))


def test_a_notebook_shows_it():
    found = wrt.check(function_net(), points(3))
    assert found._repr_html_().startswith("<pre")
    assert "the derivative is right" in found._repr_html_()
    lines = str(found).splitlines()
    assert lines[0] == "wrt.check: the derivative is right"
    assert max(map(len, lines)) < 160


def test_a_rule_that_is_wrong_at_a_special_point_only():
    """Neighbours are right, and the function is smooth there: as TensorFlow's product at zeros."""
    where, ones = math().where, tensor(np.ones(3))
    rule = with_rule(lambda x: x * x + x, lambda x: where(x == 0, 0 * x + 3, 2 * x + 1))
    x = 1 + random((4, 3)) ** 2
    x[2, 1] = 0
    found = wrt.check(lambda x: rule(x * ones), x)
    assert not found.ok
    assert found.where == (2, (1,), (1,))
    assert (found.derivative, found.difference) == (pytest.approx(3), pytest.approx(1))
    assert wrt.check(lambda x: rule(x * ones), np.delete(x, 2, 0)).ok


def test_pairs_that_mix_through_an_input_outside_wrt():
    def pairs(x):
        return x["image"] @ (x["text"].T if ENGINE == "torch" else math().transpose(x["text"]))

    x = {"image": random((6, 4)), "text": random((6, 4), 6)}
    found = wrt.check(pairs, x, 0, wrt="image", samples=3)
    assert found.mixes_samples
    assert not wrt.check(lambda x: x["image"] * x["text"][:, :1], x, wrt="image").mixes_samples


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "bfloat16", "float16"])
def test_a_right_model_of_few_digits_is_not_wrong(dtype):
    layers = [keras.layers.Dense(8, activation="tanh", dtype=dtype), keras.layers.Dense(3, dtype=dtype)]
    found = wrt.check(keras.Sequential([keras.Input((4,)), *layers]), random((5, 4)).astype("float32"))
    assert found.ok or "not judged" in found.verdict, str(found)


def test_a_wrong_rule_of_few_digits_is_found():
    rule = with_rule(lambda x: x * x, lambda x: 3 * x)
    x = tensor(1 + random((4, 3)) ** 2, "bfloat16")
    found = wrt.check(lambda x: rule(x), x)
    assert not found.ok
    assert "WRONG" in found.verdict


def test_the_two_values_are_those_of_the_error():
    """Also where the error shows along directions only, spread over entries that are each within the tolerance."""
    size = 400
    factors, x = 1 + 8e-4 * np.ones(size), 1 + random((3, size)) ** 2
    total = math().sum if ENGINE != "tensorflow" else FRAMEWORK.reduce_sum
    wrong = tensor(2 * factors)
    rule = with_rule(lambda x: x * x, lambda x: x * wrong)
    found = wrt.check(lambda x: total(rule(x), 1), x, entries=4, samples=3, tolerance=5e-4)
    assert not found.ok
    assert found.max_error > found.tolerance
    assert abs(found.derivative - found.difference) > 5e-4 * abs(found.difference)
    assert found.mixed == ("along a random direction" in str(found))
