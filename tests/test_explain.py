"""`wrt.explain` and the wrappers `wrt.smooth` and `wrt.tta`."""

import dataclasses

import keras
import numpy as np
import pytest
import torch
from conftest import ENGINE
from keras import layers as L
from subjects import array, close, function_net, keras_net, keras_tolerance, points, tensor, truth, value

import wrt
from wrt.engines import registry
from wrt.errors import DtypeError, InputError, OptionError, SaturationWarning, SelectionError
from wrt.methods import METHODS
from wrt.results import Explanation

X = points(5)
LABELS = np.array([0, 2, 1, 3, 2])
UNITS = np.array([[0, 3], [1, 1], [2, 0], [3, 2], [1, 2]])
ROWS = np.arange(5)
DIRECT = {
    "gradient": {},
    "input_x_gradient": {},
    "integrated_gradients": {"steps": 5},
    "expected_gradients": {"background": points(3), "samples": 4},
}


@pytest.mark.parametrize("of", [LABELS, UNITS, wrt.top(2), "max", 1])
@pytest.mark.parametrize("name", DIRECT)
def test_without_postprocessing_the_maps_are_those_of_the_method(name, of):
    method, model = getattr(wrt.methods, name), function_net()
    explanation = wrt.explain(name, model, X, of, postprocess=None, **DIRECT[name])
    maps, outputs = method(model, X, of, with_output=True, **DIRECT[name])
    close(explanation.maps, maps, 1e-12)
    close(explanation.outputs, outputs, 1e-12)
    highest = np.argsort(-value(X), 1)
    labels = {"max": highest[:, 0], "Top(k=2)": highest[:, :2], "1": np.full(5, 1)}.get(str(of), of)
    close(outputs, value(X)[ROWS if labels.ndim == 1 else ROWS[:, None], labels], 1e-10)
    close(wrt.explain(method, model, X, of, postprocess=None, resize=None, **DIRECT[name]).maps, maps, 1e-12)


def test_it_unpacks_as_a_pair():
    explanation = wrt.explain("integrated_gradients", function_net(), X, LABELS)
    outputs, maps = explanation
    assert isinstance(explanation, Explanation)
    assert outputs is explanation.outputs
    assert maps is explanation.maps
    close(explanation.info["completeness_gap"], np.zeros(5), 1e-8)
    assert wrt.explain("gradient", function_net(), X, LABELS).info == {}


@pytest.mark.parametrize("of", [LABELS, UNITS])
def test_by_default_every_map_is_stretched_by_itself(of):
    found = wrt.explain("gradient", function_net(), X, of).maps
    size = np.abs(wrt.gradient(function_net(), X, of))
    low, high = size.min(-1, keepdims=True), size.max(-1, keepdims=True)
    close(found, (size - low) / (high - low), 1e-12)


def test_filters_by_name_and_by_function():
    seen = []

    def double(maps):
        return 2 * maps

    def led(maps, lead=1):
        seen.append(lead)
        return maps

    model, plain = function_net(), wrt.gradient(function_net(), X, UNITS)
    close(wrt.explain("gradient", model, X, UNITS, postprocess=double).maps, 2 * plain, 1e-12)
    close(wrt.explain("gradient", model, X, UNITS, postprocess="positive").maps, np.maximum(plain, 0), 1e-12)
    wrt.explain("gradient", model, X, UNITS, postprocess=led)
    wrt.explain("gradient", model, X, LABELS, postprocess=led)
    assert seen == [2, 1]


def test_tensors_in_tensors_out():
    found = wrt.explain("integrated_gradients", function_net(), tensor(X), UNITS)
    wanted = wrt.explain("integrated_gradients", function_net(), X, UNITS)
    owns = registry.engine(ENGINE).owns
    assert owns(found.outputs)
    assert owns(found.maps)
    assert owns(found.info["completeness_gap"])
    close(found.maps, wanted.maps, 1e-10)
    close(found.outputs, wanted.outputs, 1e-10)


def image_net(activation=None):
    inputs = keras.Input((None, None, 2))
    y = L.Conv2D(4, 3, padding="same", activation="relu", name="conv")(inputs)
    y = L.Conv2D(3, 3, strides=2, activation="relu", name="coarse")(y)
    return keras.Model(inputs, L.Dense(3, activation=activation)(L.GlobalAveragePooling2D()(y)))


IMAGES = np.random.default_rng(1).normal(size=(3, 9, 11, 2)).astype("float32")


def coarse(model, x, of=None, *, wrt=None):
    """A method of one's own, without outputs; maps (N, 2, 3)."""
    return np.arange(6.0).reshape(2, 3)[None] * np.ones((len(x), 1, 1))


def test_coarse_maps_come_in_the_size_of_the_input():
    outputs, maps = wrt.explain(coarse, image_net(), IMAGES, 1)
    assert maps.shape == (3, 9, 11)
    assert maps.min() == 0
    assert maps.max() == 1
    assert outputs.shape == (3,)
    assert wrt.explain(coarse, image_net(), IMAGES, 1, resize=None).maps.shape == (3, 2, 3)
    assert wrt.explain(coarse, image_net(), IMAGES, 1, resize=(4, 6)).maps.shape == (3, 4, 6)
    assert wrt.explain("gradient", image_net(), IMAGES, 1, resize=(4, 6)).maps.shape == (3, 4, 6, 2)
    assert wrt.explain("gradient", image_net(), IMAGES, 1).maps.shape == IMAGES.shape


def test_outputs_of_a_method_that_does_not_give_them():
    model = image_net()
    wanted = array(model(IMAGES))
    for of, by_hand in ((1, wanted[:, 1]), ("max", wanted.max(1)), (wrt.top(2), -np.sort(-wanted, 1)[:, :2])):
        close(wrt.explain(coarse, model, IMAGES, of, postprocess=None, resize=None).outputs, by_hand, 1e-5)


def test_a_saturated_probability_is_warned_about():
    model = keras.Sequential([keras.Input((2,)), L.Dense(2, activation="softmax")])
    model.set_weights([np.eye(2) * 100, np.zeros(2)])
    with pytest.warns(SaturationWarning, match="wrt.logit"):
        wrt.explain("gradient", model, np.array([[1.0, 0.0]], "float32"), 0)
    outputs, _ = wrt.explain("gradient", model, np.array([[1.0, 0.0]], "float32"), wrt.logit(0))
    close(outputs, np.array([100.0]), 1e-5)


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: wrt.explain("integrated_gradient", f, X, 1), OptionError, "'integrated_gradients'"),
        (lambda: wrt.explain(3, f, X, 1), OptionError, "method=3; expected a name"),
        (lambda: wrt.explain("gradient", f, X), SelectionError, "of= must say which scalar.*of='all'"),
        (lambda: wrt.explain("gradient", f, X, 1, postprocess="normalise"), OptionError, "'normalize'"),
        (lambda: wrt.explain("gradient", f, X, 1, postprocess=3), OptionError, "postprocess=3"),
        (lambda: wrt.explain("gradient", f, X, 1, resize="big"), OptionError, "resize='big'"),
        (lambda: wrt.explain("gradient", f, X, 1, resize=(0, 4)), OptionError, r"resize=\(0, 4\)"),
        (lambda: wrt.explain("gradient", f, X, 1, resize=(3, 4)), InputError, "no 2 spatial axes"),
        (lambda: wrt.explain("gradient", f, X, 1, steps=3), OptionError, "gradient has no option 'steps'"),
        (lambda: wrt.explain("integrated_gradients", f, X, 1, step=3), OptionError, "unknown option 'step'"),
        (lambda: wrt.explain("gradient", f, X, 1, with_output=True), OptionError, "leave it out"),
        (lambda: wrt.explain("gradient", f, X, lambda y: y[:, None]), SelectionError, "expected"),
    ],
)
def test_mistakes(call, kind, words):
    with pytest.raises(kind, match=words):
        call()


f = function_net()


KINDS = {
    "an odd grayscale image": ((13, 7, 1), L.Conv2D),
    "a time series": ((11, 2), L.Conv1D),
    "a volume": ((4, 5, 3, 1), L.Conv3D),
}


@pytest.mark.parametrize("kind", KINDS)
def test_one_sample_of_any_rank_and_a_named_output(kind):
    shape, convolution = KINDS[kind]
    inputs = keras.Input(shape)
    y = L.Flatten()(convolution(3, 2, activation="tanh")(inputs))
    model = keras.Model(inputs, {"kind": L.Dense(4)(y), "size": L.Dense(1)(y)})
    x = np.random.default_rng(4).normal(size=(1, *shape)).astype("float32")
    wanted = array(model(x)["kind"])
    explanation = wrt.explain("integrated_gradients", model, x, wrt.output("kind", "max"), postprocess=None)
    close(explanation.outputs, wanted.max(1), 1e-5)
    assert explanation.maps.shape == x.shape
    close(explanation.info["completeness_gap"], np.zeros(1), 1e-4)
    low = array(model(0 * x)["kind"])[0, wanted.argmax()]
    close(explanation.maps.sum(), wanted.max() - low, 1e-4)


def nest():
    """The engine's own functions of trees: map, and the leaves."""
    if ENGINE == "tensorflow":
        import tensorflow

        return tensorflow.nest.map_structure, tensorflow.nest.flatten
    if ENGINE == "jax":
        import jax

        return jax.tree.map, jax.tree.leaves
    return torch.utils._pytree.tree_map, torch.utils._pytree.tree_leaves


@pytest.mark.parametrize("kind", [np.asarray, tensor])
def test_an_explanation_is_a_tree_of_arrays(kind):
    found = wrt.explain("integrated_gradients", function_net(), kind(X), LABELS)
    map_, leaves = nest()
    twice = map_(lambda a: 2 * a, found)
    assert isinstance(twice, Explanation)
    close(twice.outputs, 2 * array(found.outputs), 1e-12)
    close(twice.maps, 2 * array(found.maps), 1e-12)
    close(twice.info["completeness_gap"], 2 * array(found.info["completeness_gap"]), 1e-12)
    assert [tuple(a.shape) for a in leaves(found)] == [(5,), (5, 3), (5,)]


def test_compiled_functions_return_and_take_explanations():
    f, x = function_net(), tensor(X)
    wanted = wrt.explain("gradient", f, X, 1, postprocess=None)

    def explained(x):
        return wrt.explain("gradient", f, x, 1, postprocess=None)

    def total(explanation):
        return explanation.maps + 0 * explanation.outputs[:, None]

    found, taken = explained_and_taken(explained, total, x)
    assert isinstance(found, Explanation)
    for maps in (found.maps, taken):
        close(maps, wanted.maps, 1e-12)
    close(found.outputs, wanted.outputs, 1e-12)


def explained_and_taken(explained, total, x):
    """Through the engine's own compiler; torch's functional transformation stands in for it."""
    if ENGINE == "tensorflow":
        import tensorflow

        found = tensorflow.function(explained, autograph=False)(x)
        return found, tensorflow.function(total)(found)
    if ENGINE == "jax":
        import jax

        found = jax.jit(explained)(x)
        return found, jax.jit(total)(found)
    found, _ = torch.func.jvp(explained, (x,), (x,))
    return found, torch.func.vjp(total, found)[0]


# --- smooth


def noise(count=4):
    return np.random.default_rng(8).normal(size=(count, 5, 3))


@pytest.mark.parametrize("kind", [np.asarray, tensor])
def test_smooth_of_given_noise(kind):
    maps = np.stack([truth(X + n)[ROWS, LABELS] for n in noise()])
    for how, wanted in (("mean", maps.mean(0)), ("var", maps.var(0)), ("squared", (maps**2).mean(0))):
        found = wrt.smooth("gradient", noise=noise(), kind=how)(f, kind(X), LABELS)
        close(found, wanted, 1e-12)
        assert (registry.owner(found) is None) == (kind is np.asarray)
    shared = noise()[:, :1]
    wanted = np.mean([truth(X + n)[ROWS, LABELS] for n in shared], 0)
    close(wrt.smooth(wrt.gradient, noise=shared)(f, kind(X), LABELS), wanted, 1e-12)


def test_smooth_keeps_the_units_and_outputs_of_the_input():
    method = wrt.smooth("input_x_gradient", noise=9 * noise())
    maps, outputs = method(f, X, "max", with_output=True)
    labels = value(X).argmax(1)
    close(maps, wrt.smooth("input_x_gradient", noise=9 * noise())(f, X, labels), 1e-12)
    close(outputs, value(X).max(1), 1e-10)
    explanation = wrt.explain(method, f, X, wrt.top(2), postprocess=None)
    assert explanation.maps.shape == (5, 2, 3)
    close(explanation.outputs, -np.sort(-value(X), 1)[:, :2], 1e-10)


def test_noise_has_its_deviation_and_its_seed():
    """Of a parabola: the mean stays, the variance of the gradient 2 x is 4 s²."""
    one = tensor(1.0, "float64")
    parabola, x = (lambda x: x[:, 0] ** 2 * one), points(500)
    spread = wrt.smooth("gradient", noise=0.3, repetitions=30, kind="var")(parabola, x)
    assert abs(spread[:, 0].mean() - 4 * 0.09 * 29 / 30) < 0.02
    mean = wrt.smooth("gradient", noise=0.3, repetitions=30)(parabola, x)
    assert abs((mean - 2 * x)[:, 0].mean()) < 0.02
    close(wrt.smooth("gradient", noise=0.3, repetitions=30)(parabola, x), mean, 1e-12)
    assert np.abs(wrt.smooth("gradient", noise=0.3, repetitions=30, seed=1)(parabola, x) - mean).max() > 1e-3
    close(wrt.smooth("gradient", noise=0)(parabola, x), wrt.gradient(parabola, x), 1e-12)


def test_smooth_takes_the_options_of_its_method():
    method = wrt.smooth("integrated_gradients", noise=noise())
    found = method(f, X, LABELS, steps=3, baseline=1.0)
    each = [wrt.methods.integrated_gradients(f, X + n, LABELS, steps=3, baseline=1.0) for n in noise()]
    close(found, np.mean(each, 0), 1e-12)


def test_smooth_of_a_layer_and_of_several_inputs():
    x = {"a": points(4), "b": points(4, 1)}
    one = tensor(1.0, "float64")
    found = wrt.smooth("gradient", noise={"b": noise()[:, :4], "a": 0 * noise()[:, :4]})(
        lambda a, b: (a[:, 0] * b[:, 0] ** 2) * one, x
    )
    close(found["a"][:, 0], np.mean([(x["b"] + n)[:, 0] ** 2 for n in noise()[:, :4]], 0), 1e-10)
    layered = wrt.smooth("gradient", noise=noise())(keras_net(), X, 1, wrt="hidden")
    close(layered, wrt.gradient(keras_net(), X, 1, wrt="hidden"), keras_tolerance())


def words_net():
    inputs = keras.Input((4,), dtype="int32")
    return keras.Model(inputs, L.Dense(1)(L.Flatten()(L.Embedding(7, 3, name="lookup")(inputs))))


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: wrt.smooth("grad"), OptionError, "'gradient'"),
        (lambda: wrt.smooth("gradient", kind="median"), OptionError, "'median'"),
        (lambda: wrt.smooth("gradient", noise=-1.0), OptionError, "noise=-1.0"),
        (lambda: wrt.smooth("gradient", noise=float("nan")), OptionError, "noise=nan"),
        (lambda: wrt.smooth("gradient", repetitions=0), OptionError, "repetitions=0"),
        (lambda: wrt.smooth("gradient", repetitions=3, noise=noise()), OptionError, "noise holds 4"),
        (lambda: wrt.smooth("gradient", noise=np.zeros((0, 5, 3))), OptionError, "no arrays of one length"),
        (lambda: wrt.smooth("gradient", noise=noise())(f, X[:4], 1), InputError, r"\(4, 5, 3\).*repetitions, 4, 3"),
        (lambda: wrt.smooth("gradient", noise=[noise()] * 2)(f, X, 1), InputError, r"2 array\(s\); expected 1"),
        (lambda: wrt.smooth("gradient")(f, X), SelectionError, "of= must say"),
        (
            lambda: wrt.smooth("gradient")(words_net(), np.ones((2, 4), "int32"), wrt="lookup"),
            DtypeError,
            "integers only",
        ),
    ],
)
def test_mistakes_in_smooth(call, kind, words):
    with pytest.raises(kind, match=words):
        call()


SEVERAL = {
    "labels": (LABELS, {}, [20, 15]),
    "list": (LABELS.tolist(), {}, [20, 15]),
    "tensors": (UNITS, {}, [20, 15]),
    "highest": (wrt.top(2), {}, [20, 15]),
    "output": (wrt.output("x", LABELS), {}, [20, 15]),
    "own": (lambda y: y[:, 1] * y[:, 0], {}, [20, 15]),
    "batches": (LABELS, {"batch_size": 10}, [10, 10, 10, 5]),
    "baselines": (LABELS, {"baseline": points(5, 3)}, [5] * 7),
}


@pytest.mark.parametrize("name", SEVERAL)
def test_copies_go_together_where_that_changes_nothing(name, monkeypatch):
    """A function that wrt does not know gets one copy at a time."""
    of, options, wanted = SEVERAL[name]
    record, sizes = METHODS["integrated_gradients" if "baseline" in options else "input_x_gradient"], []
    x, of = (tensor(X), tensor(of)) if name == "tensors" else (X, of)

    def noting(model, x, of=None, **options):
        sizes.append(len(x))
        return record.function(model, x, of, **options)

    smooth = wrt.smooth(noting, repetitions=7, noise=0.4, kind="var")
    alone = array(smooth(function_net(), x, of, **options))
    assert sizes == [5] * 7
    assert np.abs(alone).max() > 1e-3
    sizes.clear()
    monkeypatch.setitem(METHODS, record.name, dataclasses.replace(record, function=noting))
    close(smooth(function_net(), x, of, **options), alone, 1e-10)
    assert sizes == wanted


# --- test-time augmentation


def test_mirrored_copies():
    model = image_net()
    plain = wrt.gradient(model, IMAGES, 1)
    turned = wrt.gradient(model, IMAGES[:, :, ::-1].copy(), 1)[:, :, ::-1]
    assert np.abs(plain - turned).max() > 1e-3
    found, outputs = wrt.tta("gradient")(model, IMAGES, 1, with_output=True)
    close(found, (plain + turned) / 2, 1e-6)
    close(outputs, array(model(IMAGES))[:, 1], 1e-5)
    close(wrt.tta("gradient", hflip=False)(model, IMAGES, 1), plain, 1e-7)
    close(array(wrt.tta("gradient")(model, tensor(IMAGES), 1)), (plain + turned) / 2, 1e-6)


def test_scaled_copies():
    """The mean over the image is linear: its gradient is 1/size of each copy, and stays flat when it is resized."""
    model = keras.Sequential([keras.Input((None, None, 2)), L.GlobalAveragePooling2D(), L.Dense(1, use_bias=False)])
    model.set_weights([np.array([[1.0], [-2.0]])])
    found = wrt.tta("gradient", scales=(2.0, 1.0), hflip=False)(model, IMAGES)
    level = (1 / (18 * 22) + 1 / (9 * 11)) / 2
    close(found, np.ones_like(IMAGES) * np.array([1.0, -2.0]) * level, 1e-6)
    units = wrt.tta("gradient", scales=(1.0, 0.5))(image_net(), IMAGES, wrt.top(2))
    assert units.shape == (3, 2, 9, 11, 2)


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: wrt.tta("gradient", scales=()), OptionError, r"scales=\(\)"),
        (lambda: wrt.tta("gradient", scales=(0.0,)), OptionError, "positive"),
        (lambda: wrt.tta("gradient", hflip=1), OptionError, "hflip=1"),
        (lambda: wrt.tta("gradient")(f, X, 1), InputError, "spatial axes"),
        (lambda: wrt.tta("gradients"), OptionError, "'gradient'"),
    ],
)
def test_mistakes_in_tta(call, kind, words):
    with pytest.raises(kind, match=words):
        call()
