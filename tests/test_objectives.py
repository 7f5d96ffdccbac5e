"""Channels, directions, whole layers and fixed spectra as objectives: closed forms, NumPy replicas, counts."""

import gc
import weakref

import keras
import numpy as np
import pytest
import torch
from conftest import ENGINE
from subjects import array, close, torch_net

import wrt
from wrt.errors import InputError, OptionError, SelectionError
from wrt.maximize import parametrizations

DRAWN = np.random.default_rng(8)
KERNEL, BIAS = DRAWN.normal(size=(3, 3, 2, 4)), DRAWN.normal(size=4)
IMAGES = DRAWN.normal(size=(3, 6, 5, 2))
VECTOR = DRAWN.normal(size=4)


def keras_conv():
    """A convolution, channels last, a curve and two units."""
    inputs = keras.Input((6, 5, 2))
    conv = keras.layers.Conv2D(4, 3, name="conv")(inputs)
    curve = keras.layers.Activation("softplus", name="curve")(conv)
    model = keras.Model(inputs, keras.layers.Dense(2, name="last")(keras.layers.Flatten()(curve)))
    model.get_layer("conv").set_weights([KERNEL, BIAS])
    return model


def torch_conv():
    """The same convolution and curve in torch, channels first."""
    conv = torch.nn.Conv2d(2, 4, 3)
    with torch.no_grad():
        conv.weight.copy_(torch.from_numpy(KERNEL.transpose(3, 2, 0, 1)))
        conv.bias.copy_(torch.from_numpy(BIAS))
    return torch.nn.Sequential(conv, torch.nn.Softplus(), torch.nn.Flatten(), torch.nn.Linear(48, 2)).double()


def convolved(x):
    """(N, 4, 3, 4) by hand."""
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))
    return np.einsum("nhwcij,ijcf->nhwf", windows, KERNEL) + BIAS


def curved(x):
    return np.log1p(np.exp(convolved(x)))


def slope(function, x, step=1e-5):
    """Central differences of (N,) values, each of its own row."""
    found = np.zeros_like(x)
    for index in np.ndindex(x.shape[1:]):
        moved = np.zeros_like(x)
        moved[(slice(None), *index)] = step
        found[(slice(None), *index)] = (function(x + moved) - function(x - moved)) / (2 * step)
    return found


def along(a, v, power):
    """The products with a vector on the last axis, cosines to a power, at least 0.1."""
    dot = (a * v).sum(-1)
    cosine = dot / np.linalg.norm(a, axis=-1) / np.linalg.norm(v, axis=-1)
    return dot * np.maximum(cosine, 0.1) ** power


def flat(a):
    return a.reshape(len(a), -1)


def likeness(a):
    """The mean cosine of each row's Gram matrix with those of the others."""
    grams = flat(np.einsum("nhwc,nhwd->ncd", a, a))
    grams /= np.linalg.norm(grams, axis=1, keepdims=True)
    every = grams @ grams.T
    return (every.sum(1) - np.diag(every)) / (len(a) - 1)


def best_inputs(units):
    """What highest excites linear units under mean x²: sixty halves of their slopes."""
    return 30 * np.stack([slope(lambda x, unit=unit: unit(convolved(x)), np.zeros((1, 6, 5, 2)))[0] for unit in units])


ONE_STEP = {"init": np.zeros((1, 6, 5, 2)), "optimizer": "sgd", "learning_rate": 30, "steps": 1}


def test_a_list_of_channels_is_one_channel_per_image():
    wanted = best_inputs([lambda a, c=c: a[..., c].mean((1, 2)) for c in (0, 2, 3)])
    squares = wrt.regularizers.l2(1.0)
    found = wrt.maximize(keras_conv(), wrt.layer("conv", [0, 2, -1]), regularizers=squares, **ONE_STEP)
    close(found.x, wanted, 1e-5)
    close(found.history["objective"][0], BIAS[[0, 2, 3]], 1e-5)
    assert found.units.tolist() == [0, 2, -1]


def test_a_list_of_places_is_one_neuron_per_image():
    wanted = best_inputs([lambda a: a[:, 0, 1, 2], lambda a: a[:, 3, 2, 0]])
    squares = wrt.regularizers.l2(1.0)
    found = wrt.maximize(keras_conv(), wrt.layer("conv", [(0, 1, 2), (-1, 2, 0)]), regularizers=squares, **ONE_STEP)
    close(found.x, wanted, 1e-5)


def test_objectives_of_layers_are_what_they_say():
    o, reference, tilt = wrt.objectives, DRAWN.normal(size=(1, 6, 5, 2)), DRAWN.normal(size=(3, 4))
    goal = o.deep_dream("curve") + 2 * o.direction("conv", VECTOR) - o.direction("curve", tilt, power=0.5)
    goal = goal + 0.1 * o.caricature(wrt.layer("curve"), reference, power=2) + wrt.layer("conv", (1, 2, 3))

    def by_hand(x):
        a, b = convolved(x), curved(x)
        dream, plain = (b**2).mean((1, 2, 3)), (a @ VECTOR).mean((1, 2))
        sharp = along(b, tilt[:, None, None], 0.5).mean((1, 2))
        return dream + 2 * plain - sharp + 0.1 * along(flat(b), flat(curved(reference)), 2) + a[:, 1, 2, 3]

    found = wrt.maximize(keras_conv(), goal, init=IMAGES, optimizer="sgd", learning_rate=1e-3, steps=1)
    start, end = found.history["objective"]
    close(start, by_hand(IMAGES), 1e-5)
    close((found.x - IMAGES) / 1e-3, slope(by_hand, IMAGES), 1e-3)
    assert (end > start).all()


def test_diversity_of_activations():
    prior = [wrt.regularizers.diversity(2.0, "curve"), wrt.regularizers.diversity(0.5)]
    found = wrt.maximize(
        keras_conv(), wrt.layer("conv", (1, 1, 1)), init=IMAGES, regularizers=prior, optimizer="sgd", steps=1
    )
    rows = flat(IMAGES) / np.linalg.norm(flat(IMAGES), axis=1, keepdims=True)
    plain = ((rows @ rows.T).sum(1) - 1) / 2
    added = found.history["loss"][0] + found.history["objective"][0]
    close(added, 2 * likeness(curved(IMAGES)) + 0.5 * plain, 1e-5)


def spectra(picture, x, bounds=None):
    """Spectra of images by NumPy, in the colours and before the sigmoid in which they are constrained."""
    x = np.asarray(x, float)
    if bounds is not None:
        x = np.log((x - bounds[0]) / (bounds[1] - x))
    channel = picture.fourier.axes.channel
    planes = x[:, None] if channel is None else np.moveaxis(x, channel, 1)
    if picture.fourier.colored:
        decorrelated = np.array([[0.26, 0.09, 0.02], [0.27, 0.0, -0.05], [0.27, -0.09, 0.03]])
        decorrelated /= np.linalg.norm(decorrelated, axis=0).max()
        planes = np.moveaxis(np.linalg.solve(decorrelated, np.moveaxis(planes, 1, -2)), -2, 1)
    return np.fft.rfft2(planes)


SHAPES = [((5, 6, 3), False), ((3, 6, 5), True), ((4, 4), False), ((4, 4, 2), False)]
CASES = [(*shape, bounds) for shape in SHAPES for bounds in (None, (0.0, 1.0))]


@pytest.mark.parametrize(("shape", "first", "bounds"), CASES if ENGINE == "torch" else CASES[1:2])
def test_maco_keeps_phases_and_magnitudes(engine, shape, first, bounds):
    x, images = (DRAWN.uniform(0.1, 0.9, (count, *shape)) for count in (2, 5))
    limits = [] if bounds is None else [engine.asarray(np.asarray(b)) for b in bounds]
    picture = parametrizations.picture_of(
        wrt.parametrizations.maco(images), shape, lambda: 1 if first else len(shape), bounds
    )
    params, constraint = picture.params(x, bounds), np.abs(spectra(picture, images, bounds)).mean(0)
    show = engine.compile(lambda p: picture.image(engine, p, limits)) if engine.capabilities.compiles else None
    show = show or (lambda p: picture.image(engine, p, limits))
    found, wanted = spectra(picture, array(show(engine.asarray(params))), bounds), spectra(picture, x, bounds)
    close(found, constraint * wanted / np.abs(wanted), 1e-5)
    moved = engine.asarray(params + DRAWN.normal(size=params.shape) * 0.3)
    for other in (moved, picture.project(engine, moved, limits)):
        size = np.abs(spectra(picture, array(show(other)), bounds))
        close(size, np.broadcast_to(constraint, size.shape), 1e-5)
    own = parametrizations.picture_of(
        wrt.parametrizations.maco(x[1:]), shape, lambda: 1 if first else len(shape), bounds
    )
    close(own.image(engine, engine.asarray(params[1:]), limits), x[1:], 1e-5)


def test_maco_ascends_by_phases_alone():
    options = {"init": IMAGES[:2], "learning_rate": 0.1, "steps": 12}
    like_these = wrt.parametrizations.maco(IMAGES)
    found = wrt.maximize(keras_conv(), wrt.layer("conv", [(1, 2, 3)]), parametrization=like_these, **options)
    assert (found.history["objective"][-1] > found.history["objective"][0] + 1).all()
    magnitude = np.abs(np.fft.rfft2(IMAGES, axes=(1, 2))).mean(0)
    close(np.abs(np.fft.rfft2(found.x, axes=(1, 2))), np.repeat(magnitude[None], 2, 0), 1e-5)
    lengths = (np.asarray(found.resume["params"]) ** 2).sum(1)
    np.testing.assert_allclose(lengths, 1, atol=1e-5)


if ENGINE == "torch":  # the same on every engine, or about channels first

    def test_channels_of_torch_are_tuples():
        wanted = best_inputs([lambda a, c=c: a[..., c].mean((1, 2)) for c in (3, 1)])
        options = {**ONE_STEP, "init": np.zeros((1, 2, 6, 5)), "regularizers": wrt.regularizers.l2(1.0)}
        model = torch_conv()
        found = wrt.maximize(model, wrt.layer("0", [(3,), (1,)]), **options)
        close(found.x, wanted.transpose(0, 3, 1, 2), 1e-6)
        assert found.units.tolist() == [3, 1]
        both = wrt.maximize(model[:1], [(3,), (1,)], **options)  # of the model's own output
        close(both.x, found.x, 1e-12)
        with pytest.raises(SelectionError, match=r"tuples: \[\(3,\), \(1,\)\]"):
            wrt.maximize(model, wrt.layer("0", [3, 1]), **options)
        along = wrt.objectives.direction("0", np.eye(4)[[3, 1]])
        close(wrt.maximize(model, along, **options).x, found.x, 1e-12)
        last = wrt.objectives.direction("0", np.eye(3)[1], axis=-1)
        single = wrt.maximize(model, wrt.layer("0", 1) * 4, **options)  # a column, of which it is a mean over channels
        close(wrt.maximize(model, last * 4, **options).x, single.x, 1e-12)

    def test_units_of_sequences_are_on_the_last_axis():
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh()).double()
        options = {"init": np.zeros((1, 5, 3)), "steps": 1, "optimizer": "sgd", "learning_rate": 10}
        found = wrt.maximize(model, wrt.layer("0", [2, 1]), **options)
        close(found.x, 2 * np.repeat(model[0].weight.detach().numpy()[[2, 1], None], 5, 1), 1e-12)
        along = wrt.maximize(model, wrt.objectives.direction("0", np.eye(4)[2]), **options)
        close(along.x, found.x[:1], 1e-12)

    def test_a_sum_evaluates_the_model_once():
        model, calls = torch_conv(), []
        model[0].register_forward_pre_hook(lambda *_: calls.append(1))
        o = wrt.objectives
        terms = o.deep_dream("1") + o.caricature("0", np.ones((1, 2, 6, 5))) + wrt.layer("0", (2,)) - wrt.logit(1)
        options = {"init": IMAGES[:2].transpose(0, 3, 1, 2), "regularizers": wrt.regularizers.diversity(1.0, "1")}

        def count(of, steps):
            calls.clear()
            wrt.maximize(model, of, steps=steps, **options)
            return len(calls)

        count(terms, 1)  # shapes are found out
        assert count(terms, 9) - count(terms, 2) == 7
        options["transforms"] = wrt.transforms.jitter(1)  # what the history says is measured without them
        assert count(terms, 9) - count(terms, 2) == 14

    def test_caricature_follows_the_weights_and_compiles_nothing():
        model, reference = torch_conv(), DRAWN.normal(size=(1, 2, 6, 5))
        goal = wrt.objectives.caricature("1", reference, power=0)
        for shift in (0.0, 0.7):
            with torch.no_grad():
                model[0].bias += shift
            found = wrt.maximize(model, goal, init=reference, steps=1)
            with torch.no_grad():
                own = model[:2](torch.from_numpy(reference))
            close(found.history["objective"][0], (own**2).sum((1, 2, 3)).numpy(), 1e-9)
        kept = len(wrt.engines.adapt.adapt(model, None, None).cache)
        wrt.maximize(model, wrt.objectives.caricature("1", reference + 1, power=0), init=reference, steps=1)
        assert len(wrt.engines.adapt.adapt(model, None, None).cache) == kept

    def test_programs_know_which_penalty_looks_at_the_layer():
        model, both = torch_conv(), [np.random.default_rng(3).normal(size=(2, 2, 6, 5))] * 2
        d = wrt.regularizers.diversity
        found = [
            wrt.maximize(model, 0, init=x, steps=1, regularizers=prior).history["loss"][0]
            for x, prior in zip(both, ([d(1.0, "1"), d(50.0)], [d(1.0), d(50.0, "1")]), strict=True)
        ]
        assert (abs(found[0] - found[1]) > 1).all()

    def test_functions_have_an_output():
        weights = torch.from_numpy(DRAWN.normal(size=(5, 4)))
        start = torch.from_numpy(DRAWN.normal(size=(2, 6, 5)))
        goal = wrt.objectives.deep_dream(None) + wrt.objectives.caricature(None, start[:1], power=0)
        found = wrt.maximize(lambda x: x @ weights, goal, init=start, steps=1)
        out = (start @ weights).numpy()
        close(found.history["objective"][0], (out**2).mean((1, 2)) + (out * out[:1]).sum((1, 2)), 1e-12)

    def test_diverse_activations_of_one_unit():
        model = torch_conv()
        start = DRAWN.normal(size=(2, 2, 6, 5)) * 0.01
        options = {"init": start, "learning_rate": 0.05, "steps": 100, "regularizers": wrt.regularizers.l2(3.0)}
        plain = wrt.maximize(model, wrt.layer("1", [(2,), (2,)]), **options).x
        options["regularizers"] = [wrt.regularizers.l2(3.0), wrt.regularizers.diversity(20.0, "1")]
        apart = wrt.maximize(model, wrt.layer("1", [(2,), (2,)]), **options).x
        wrt.maximize(model, [0, 1], probability=0.6, **options)  # goes together with a probability
        alike = [likeness(curved(x.transpose(0, 2, 3, 1)))[0] for x in (plain, apart)]
        assert alike[0] > 0.999
        assert alike[1] < 0.9

    def test_maco_by_name_has_natural_frequencies():
        model = torch_conv()
        options = {"like": np.zeros((1, 2, 6, 5)), "steps": 2, "learning_rate": 0.1}
        found = wrt.maximize(model, 0, parametrization="maco", **options)
        size = np.abs(np.fft.rfft2(found.x))
        close(found.x.mean((2, 3)), np.zeros((1, 2)), 1e-9)
        close(found.x.std((2, 3)), np.ones((1, 2)), 1e-9)
        close(size[0, :, 0, 1] / size[0, :, 0, 2], np.full(2, 2.0), 1e-9)
        close(size[0, :, 0, 1] / size[0, :, 3, 0], np.full(2, 2.5), 1e-9)
        even = wrt.maximize(
            lambda x: x[:, 0, 0],
            0,
            parametrization="maco",
            like=torch.zeros(1, 2, 6, 4),
            steps=1,
            data_format="channels_first",
        )
        close(even.x.std((2, 3), correction=0), np.ones((1, 2)), 1e-5)
        again = wrt.maximize(model, 0, parametrization="maco", **{**options, "like": None, "init": found})
        assert (again.x != found.x).any()
        other = wrt.parametrizations.maco(np.ones((1, 2, 6, 5)))
        with pytest.raises(OptionError, match="another optimizer= or parametrization="):
            wrt.maximize(model, 0, parametrization=other, init=found)

    def test_models_are_not_kept_alive():
        model = torch_conv()
        gone = weakref.ref(model)
        goal = wrt.objectives.caricature("1", np.ones((1, 2, 6, 5))) + wrt.layer("0", [(1,), (2,)])
        wrt.maximize(model, goal, like=np.zeros((1, 2, 6, 5)), steps=1)
        del model
        gc.collect()
        assert gone() is None

    REFERENCE = np.zeros((1, 2, 6, 5))
    NAN = np.full((1, 2, 6, 5), np.nan)

    @pytest.mark.parametrize(
        ("make", "error", "words"),
        [
            (lambda o: o.deep_dream("convolution"), SelectionError, "unknown layer 'convolution'"),
            (lambda o: o.deep_dream(wrt.layer("0", 3)), SelectionError, "without a unit"),
            (lambda o: o.deep_dream(3), SelectionError, "expected the name of a layer"),
            (lambda o: o.direction("0", np.ones(3)), InputError, "expected \\(4,\\)"),
            (lambda o: o.direction("0", np.ones((1, 1, 4))), InputError, r"expected \(C,\) or \(N, C\)"),
            (lambda o: o.direction("0", [np.inf, 0, 0, 0]), InputError, "expected finite numbers"),
            (lambda o: o.direction("0", "north"), InputError, "expected finite numbers"),
            (lambda o: o.direction("0", np.ones(4), power=-1), OptionError, "power=-1"),
            (lambda o: o.direction("0", np.ones(4), axis=0), OptionError, "axis=0"),
            (lambda o: o.direction("0", np.ones(4), axis=4), OptionError, "axis=4"),
            (lambda o: o.caricature("0", REFERENCE, power="2"), OptionError, "power='2'"),
            (lambda o: o.caricature("0", NAN), InputError, "expected finite numbers"),
            (lambda o: o.caricature("0", REFERENCE[:, :1]), InputError, r"caricature\(reference\): shape"),
            (lambda o: o.caricature("0", REFERENCE[0]), InputError, r"caricature\(reference\): shape"),
            (lambda o: wrt.layer("0", [(1,), (9,)]), SelectionError, "index 9 is out of range"),
            (lambda o: wrt.layer("0", [(1, 1), (1,)]), SelectionError, "all as long"),
            (lambda o: wrt.layer("0", [(0, 0, 0, 0)]), SelectionError, "4 indices"),
            (lambda o: wrt.layer("3", [1, 5]), SelectionError, "5 is out of range"),
            (lambda o: wrt.layer("3", [1, 0]) + o.direction("0", np.ones((3, 4))), SelectionError, "2 and 3 units"),
        ],
    )
    def test_bad_objectives(make, error, words):
        with pytest.raises(error, match=words):
            wrt.maximize(torch_conv(), make(wrt.objectives), init=REFERENCE, steps=1)

    @pytest.mark.parametrize(
        ("options", "error", "words"),
        [
            ({"regularizers": wrt.regularizers.diversity(1.0, "1")}, OptionError, "several images"),
            ({"regularizers": wrt.regularizers.diversity(1.0, "9"), "of": [0, 1]}, SelectionError, "unknown layer '9'"),
            ({"parametrization": wrt.parametrizations.maco(REFERENCE[:, :1])}, InputError, "expected \\(K, 2, 6, 5"),
            ({"parametrization": wrt.parametrizations.maco(REFERENCE - 1), "bounds": (0, 1)}, InputError, "outside"),
            ({"parametrization": "mako"}, OptionError, "Did you mean 'maco'"),
            ({"parametrization": np.ones(3)}, OptionError, "is not a choice"),
        ],
    )
    def test_bad_options(options, error, words):
        options = {"of": 0, "init": REFERENCE, "steps": 1, **options}
        with pytest.raises(error, match=words):
            wrt.maximize(torch_conv(), options.pop("of"), **options)

    def test_bad_elsewhere():
        with pytest.raises(SelectionError, match=r"wrt.objectives, which wrt.maximize takes"):
            wrt.gradient(torch_conv(), REFERENCE, wrt.objectives.deep_dream("0"))
        with pytest.raises(InputError, match="finite numbers"):
            wrt.parametrizations.maco(NAN)
        with pytest.raises(SelectionError, match="without a unit"):
            wrt.regularizers.diversity(1.0, wrt.layer("0", 3))
        with pytest.raises(OptionError, match="needs images"):
            wrt.maximize(torch_net(), 0, like=np.zeros((1, 3)), parametrization="maco")
