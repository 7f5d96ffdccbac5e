"""The input that excites a unit: closed forms, hand-written loops, and what may not happen."""

import doctest

import keras
import numpy as np
import pytest
import torch
from conftest import ENGINE
from subjects import array, close, function_net, keras_net, math, nets, tensor, torch_net, value

import wrt
from wrt.engines import registry
from wrt.errors import DtypeError, InputError, NonFiniteWarning, OptionError, SelectionError
from wrt.maximize import image, parametrizations, transforms
from wrt.maximize.loop import Ascent

DRAWN = np.random.default_rng(3)
PEAKS = np.array([[1.0, -2.0, 0.5], [-1.0, 0.25, 3.0]])
TOPS = [tensor(PEAKS[:1]), tensor(PEAKS[1:])]
WEIGHTS = [tensor(np.ones((3, 1))), tensor(np.array([[1.0], [2.0], [1.0]]))]
MODELS = [pytest.param(make, id=name) for name, make, _ in nets()]


def bowl(x):
    """Two units, each highest at its peak, where it is 4 and -1."""
    first, second = (((x - peak) ** 2) @ weight for peak, weight in zip(TOPS, WEIGHTS, strict=True))
    return registry.engine(ENGINE).concatenate([4 - first, -1 - second], 1)


def pictures(shape=(4, 4, 3), kind="softmax"):
    """A small classifier of images in Keras."""
    inputs = keras.Input(shape)
    logits = keras.layers.Dense(3, name="logits")(keras.layers.Flatten(name="flat")(inputs))
    return keras.Model(inputs, logits if kind == "logits" else getattr(keras.ops, kind)(logits))


def by_hand(model, x, unit, steps, rate):
    """Adam or its like, as one would write it with the framework; the gradient from `wrt.gradient` of the output."""
    points = []
    if ENGINE == "torch":
        x = torch.from_numpy(x).requires_grad_()
        optimizer = torch.optim.Adam([x], lr=rate)
        for _ in range(steps):
            points.append(x.detach().numpy().copy())
            optimizer.zero_grad()
            (-model(x)[:, unit]).sum().backward()
            optimizer.step()
        return np.array([*points, x.detach().numpy()])
    if ENGINE == "jax":
        import jax
        import optax

        optimizer = optax.adam(rate)
        x = jax.numpy.asarray(x)
        memory = optimizer.init(x)
        for _ in range(steps):
            points.append(np.asarray(x))
            slope = jax.grad(lambda p: -model(p)[:, unit].sum())(x)
            change, memory = optimizer.update(slope, memory)
            x = optax.apply_updates(x, change)
        return np.array([*points, np.asarray(x)])
    import tensorflow as tf

    variable, optimizer = keras.Variable(x, dtype=x.dtype), keras.optimizers.Adam(rate)
    for _ in range(steps):
        points.append(variable.numpy())
        with tf.GradientTape() as tape:
            loss = -tf.reduce_sum(model(variable.value)[:, unit])
        optimizer.apply([tape.gradient(loss, variable.value)], [variable])
    return np.array([*points, variable.numpy()])


def test_known_optimum_of_every_unit():
    found = wrt.maximize(bowl, [0, 1], init=tensor(np.zeros((1, 3))), steps=400, learning_rate=0.05)
    close(found.x, PEAKS, 1e-3)
    close(found.history["objective"][-1], np.array([4.0, -1.0]), 1e-4)
    close(np.diag(array(found.after)), np.array([4.0, -1.0]), 1e-4)
    assert found.history["loss"].shape == (401, 2)
    assert found.stopped == "steps"
    assert array(found.before).shape == (2, 2)


@pytest.mark.parametrize("make", MODELS)
def test_plain_ascent_equals_a_hand_written_loop(make):
    model, start = make(), DRAWN.normal(size=(2, 3))
    given = start if make is not function_net else tensor(start)
    found = wrt.maximize(model, 1, init=given, steps=4, learning_rate=0.1)
    points = by_hand(model, start, 1, 4, 0.1)
    tolerance = 1e-5 if make is keras_net else 1e-12
    close(found.x, points[-1], tolerance)
    close(found.history["objective"], np.array([value(p)[:, 1] for p in points]), tolerance)


def test_weights_stay_and_hold_no_gradients():
    model = torch_net() if ENGINE == "torch" else keras_net()
    read = lambda m: [array(v.detach() if ENGINE == "torch" else v.value) for v in variables(m)]
    variables = lambda m: list(m.parameters()) if ENGINE == "torch" else m.variables
    before = read(model)
    result = wrt.maximize(model, 0, like=np.zeros((1, 3)), steps=3)
    assert all(np.array_equal(a, b) for a, b in zip(before, read(model), strict=True))
    if ENGINE == "torch":
        assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert isinstance(result.x, np.ndarray)


@pytest.mark.parametrize("kind", ["logits", "softmax", "log_softmax"])
def test_probability_is_reached_row_by_row(kind):
    model = pictures((2, 2, 1), kind)
    model.get_layer("logits").set_weights([np.array([[2, 0, 0], [0, 1, 0], [0, 0, 3], [0, 0, 0]]), np.zeros(3)])
    found = wrt.maximize(model, [0, 1, 2], probability=0.9, learning_rate=0.02, steps=300)
    assert found.stopped == "reached"
    assert found.reached.all()
    np.testing.assert_allclose(np.diag(found.after), 0.9, atol=0.02)
    np.testing.assert_allclose(found.after.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(np.diag(found.before), 1 / 3, atol=0.02)
    assert found.steps[2] < found.steps[0] < found.steps[1]
    assert (found.history["probability"][found.steps[2] :, 2] == found.history["probability"][-1, 2]).all()
    again = wrt.maximize(model, [0, 1, 2], init=found, probability=0.9, learning_rate=0.02)
    assert again.steps.tolist() == [0, 0, 0]
    np.testing.assert_array_equal(again.x, found.x)
    alone = wrt.maximize(model, [0], init=drawn_start(model, 3)[:1], probability=0.9, learning_rate=0.02, steps=300)
    close(alone.x, found.x[:1], 1e-5)
    assert alone.steps[0] == found.steps[0]


def test_a_step_that_leaps_over_the_probability_goes_back_to_it():
    slope = tensor(np.array([[0.0, 60.0]]))
    start = np.array([[0.0], [-2.2], [0.07]])
    options = {"probability": 0.9, "learning_rate": 0.5, "steps": 20}
    found = wrt.maximize(lambda x: x @ slope, 1, init=tensor(start), **options)
    logits = array(found.x)[:, 0] * 60
    assert found.reached.all()
    assert np.abs(logits - np.log(9)).max() <= 0.2
    close(found.after[:, 1], 1 / (1 + np.exp(-logits)), 1e-9)
    np.testing.assert_allclose(found.history["probability"][-1], found.after[:, 1], atol=1e-9)
    assert found.steps[0] == found.steps[2] == 1  # where Adam alone would swing to 30 and -30
    alone = wrt.maximize(lambda x: x @ slope, 1, init=tensor(start[1:2]), **options)
    close(array(alone.x), array(found.x)[1:2], 1e-12)
    assert alone.steps[0] == found.steps[1] > 1


def drawn_start(model, rows):
    """The Gaussian start of seed 0."""
    return np.random.default_rng(0).normal(0, 0.01, (rows, *model.inputs[0].shape[1:]))


def test_probability_of_a_function_found_or_said():
    exp, net = math().exp, function_net()
    softmax = lambda x: exp(net(x)) / (exp(net(x)) @ tensor(np.ones((4, 4))))
    options = {"like": tensor(np.zeros((1, 3))), "probability": 0.5, "learning_rate": 0.1, "steps": 200}
    logits = wrt.maximize(net, 2, **options)
    assert logits.reached.all()
    assert abs(array(logits.after)[0, 2] - 0.5) < 0.03
    for model, ends in [(softmax, None), (softmax, "probabilities"), (net, "logits")]:
        found = wrt.maximize(model, 2, ends=ends, **options)
        close(found.x, array(logits.x), 1e-9)
        close(found.after, array(logits.after), 1e-9)


def test_bounds_are_exact():
    low, high = np.array([-0.5, -0.5, 0.1]), np.array([0.3, 0.1, 0.7])
    found = wrt.maximize(bowl, [0, 1], init=tensor(np.full((1, 3), 0.1)), bounds=(low, high), learning_rate=0.05)
    x = array(found.x)
    assert (x >= low).all()
    assert (x <= high).all()
    np.testing.assert_array_equal(x[0], [0.3, -0.5, x[0, 2]])
    np.testing.assert_array_equal(x[1], [-0.5, 0.1, 0.7])
    assert abs(x[0, 2] - 0.5) < 1e-3


def test_objectives_compose_and_never_change():
    like = tensor(np.zeros((1, 3)))
    sum_ = 2 * wrt.logit(1) - np.float64(0.5) * wrt.objective(0)
    before = sum_.terms
    other = -(sum_ + (lambda y: y[:, 2])) * 3
    assert sum_.terms == before
    assert [weight for weight, _ in before] == [2, -0.5]
    assert [weight for weight, _ in other.terms] == [-6, 1.5, -3]
    net = function_net()
    found = wrt.maximize(net, other, like=like, steps=3, learning_rate=0.1)
    whole = wrt.maximize(
        net, lambda y: -6 * y[:, 1] + 1.5 * y[:, 0] - 3 * y[:, 2], like=like, steps=3, learning_rate=0.1
    )
    close(found.x, array(whole.x), 1e-12)
    close(found.history["loss"], whole.history["loss"], 1e-12)
    with pytest.raises(SelectionError, match=r"wrt.objective\(3\)"):
        wrt.logit(1) + 3
    with pytest.raises(SelectionError, match="expected a number"):
        wrt.logit(1) * wrt.logit(2)
    with pytest.raises(SelectionError, match=r"wrt.maximize takes"):
        wrt.gradient(net, like, sum_)


def test_layers_and_loss():
    model = keras_net()
    unit = wrt.maximize(model, wrt.layer("hidden", [0, 3]), steps=2, learning_rate=0.1)
    alone = wrt.maximize(model, wrt.layer("hidden", 3), init=drawn_start(model, 2)[1:], steps=2, learning_rate=0.1)
    close(unit.x[1:], alone.x, 1e-6)
    level = wrt.maximize(model, 1, loss=lambda v: (v - 0.5) ** 2, steps=300, learning_rate=0.05)
    assert abs(value(level.x)[0, 1] - 0.5) < 1e-3


def test_resumed_as_if_it_had_not_been_interrupted(monkeypatch):
    options = {
        "init": DRAWN.normal(size=(1, 4, 4, 3)),
        "learning_rate": 0.05,
        "transforms": [wrt.transforms.jitter(1)],
        "seed": 5,
    }
    model = pictures(kind="logits")
    whole = wrt.maximize(model, [0, 1], steps=6, **options)
    again = wrt.maximize(model, [0, 1], steps=6, **options)
    np.testing.assert_array_equal(whole.x, again.x)
    assert (whole.x != wrt.maximize(model, [0, 1], steps=6, **{**options, "seed": 6}).x).any()
    calls, move = [], Ascent._move

    def tired(self, gradient):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        move(self, gradient)

    monkeypatch.setattr(Ascent, "_move", tired)
    part = wrt.maximize(model, [0, 1], steps=6, **options)
    assert part.stopped == "interrupted"
    assert part.steps.tolist() == [3, 3]
    assert len(part.history["loss"]) == 4
    monkeypatch.setattr(Ascent, "_move", move)
    for _ in range(2):  # the first result is not used up
        rest = wrt.maximize(model, [0, 1], steps=3, **{**options, "init": part})
        np.testing.assert_array_equal(rest.x, whole.x)
        np.testing.assert_array_equal(rest.history["loss"], whole.history["loss"][3:])


def test_not_finite_on_the_way_returns_the_best_before():
    """The square root of what falls below zero, in the first row only."""
    sqrt = math().sqrt
    root = lambda x: -(x[:, :1] ** 0.5) * 2 - 0.01 * x[:, 1:]
    start = tensor(np.array([[0.25, 1.0], [4.0, 1.0]]))
    with pytest.warns(NonFiniteWarning, match=r"not finite after 2 steps \(rows 0\)"):
        found = wrt.maximize(root, 0, init=start, steps=8, learning_rate=0.1, optimizer="sgd")
    assert found.stopped == "not finite"
    assert found.steps.tolist() == [2, 8]
    assert np.isfinite(array(found.x)).all()
    assert 0 < array(found.x)[0, 0] < 0.25
    with pytest.warns(NonFiniteWarning, match="after 2 steps"):  # it stands on the top, which has no gradient
        top = wrt.maximize(lambda x: -sqrt(x * x), 0, init=start[:1, :1] * 2, learning_rate=0.25, optimizer="sgd")
    assert array(top.x) == 0
    assert top.history["objective"][:, 0].tolist() == [-0.5, -0.25, 0]
    with pytest.raises(InputError, match=r"at the start \(rows 1\)"):
        wrt.maximize(root, 0, init=tensor(np.array([[0.25, 1.0], [-1.0, 1.0]])), steps=2)


def test_near_finds_the_closest_counterfactual():
    """a (g x - 2)² + w |x - x0|² / 3 is least at x0 + g a (2 - g x0) / (a |g|² + w / 3)."""
    slope, origin = np.array([[1.0], [2.0], [-1.0]]), np.array([[0.5, -1.0, 0.0]])
    near, options = wrt.regularizers.near(origin, weight=30), {"learning_rate": 0.01, "optimizer": "SGD", "steps": 80}
    weights = tensor(slope)
    model, loss = lambda x: x @ weights, lambda v: 10 * (v - 2) ** 2
    found = wrt.maximize(model, 0, init=tensor(np.zeros((1, 3))), loss=loss, regularizers=[near], **options)
    close(found.x, origin + slope.T * 10 * (2 - origin @ slope) / (10 * 6 + 10), 1e-4)


def by_name(name, x, kind):
    """Regularisers in NumPy for (N, H, W, C)."""
    if name == "l1":
        return np.abs(x).mean((1, 2, 3))
    if name == "l2":
        return (x**2).mean((1, 2, 3))
    if name == "total_variation":
        return np.abs(np.diff(x, axis=1)).mean((1, 2, 3)) + np.abs(np.diff(x, axis=2)).mean((1, 2, 3))
    if name == "near":
        return np.abs(x - kind).mean((1, 2, 3))
    if name == "blur":
        window = np.exp(-(np.subtract.outer(np.arange(4), np.arange(4)) ** 2) / 2 / 0.7**2)
        window /= window.sum(1, keepdims=True)
        return ((x - np.einsum("ij,kl,njlc->nikc", window, window, x)) ** 2).mean((1, 2, 3))
    flat = x.reshape(len(x), -1) / np.linalg.norm(x.reshape(len(x), -1), axis=1)[:, None]
    likeness = flat @ flat.T
    return (likeness.sum(1) - np.diag(likeness)) / (len(x) - 1)


def test_regularizers_are_what_they_say():
    model, x = pictures(kind="logits"), DRAWN.normal(size=(3, 4, 4, 3))
    reference = DRAWN.normal(size=(1, 4, 4, 3))
    every = {
        "l1": wrt.regularizers.l1(2.0),
        "l2": wrt.regularizers.l2(2.0),
        "total_variation": wrt.regularizers.total_variation(2.0),
        "blur": wrt.regularizers.blur(2.0, 0.7),
        "near": wrt.regularizers.near(reference, 2.0, 1),
        "diversity": wrt.regularizers.diversity(2.0),
    }
    own = lambda x: 3 * x[:, 0, 0, 0]
    found = wrt.maximize(model, 1, init=x, steps=1, regularizers=[*every.values(), own])
    added = found.history["loss"][0] + found.history["objective"][0]
    close(added, sum(2 * by_name(name, x, reference) for name in every) + 3 * x[:, 0, 0, 0], 1e-5)


def test_fourier_image_is_the_inverse_transform(engine):
    for shape, first in [((5, 6, 3), False), ((3, 6, 5), True), ((4, 4), False)]:
        x = DRAWN.uniform(0.1, 0.9, (2, *shape))
        for bounds in (None, (0.0, 1.0)):
            picture = parametrizations.picture_of("fourier", shape, lambda first=first: 1 if first else 3, bounds)
            params = engine.asarray(picture.params(x, bounds))
            limits = [] if bounds is None else [engine.asarray(np.asarray(b)) for b in bounds]
            close(picture.image(engine, params, limits), x, 1e-6)
            assert (array(picture.project(engine, params, limits)) == array(params)).all()
    gray = image.Fourier(False, (6, 7), image.Axes(None, (1, 2)))
    spectrum = DRAWN.normal(size=(1, 2, 1, 6, 4))
    want = np.fft.irfft2((spectrum[:, 0] + 1j * spectrum[:, 1]) * image.scale(6, 7), (6, 7))[:, 0]
    close(gray.image(engine, engine.asarray(spectrum), []), want, 1e-6)


def test_fourier_ascent_stays_inside_its_bounds():
    found = wrt.maximize(
        pictures(kind="logits"), [0, 1], parametrization="fourier", bounds=(0, 1), learning_rate=1.0, steps=30
    )
    assert found.x.shape == (2, 4, 4, 3)
    assert found.x.min() >= 0
    assert found.x.max() <= 1
    assert (found.history["objective"][-1] > found.history["objective"][0]).all()


def test_transforms_move_images_as_they_say(engine):
    x = DRAWN.normal(size=(2, 5, 6, 3))
    axes = image.Axes(3, (1, 2))

    def moved(move, fill=None):
        index, weights, outside = transforms.neighbours(np.array(move), (5, 6), fill)
        where = [engine.asarray(index, "int32"), engine.asarray(weights), engine.asarray(outside)]
        return array(transforms.moved(engine, engine.asarray(x), axes, where))

    close(moved([[1, 0, 0], [0, 1, 0]]), x, 1e-6)
    close(moved([[1, 0, 1], [0, 1, -2]])[:, :4, 2:], x[:, 1:, :4], 1e-6)
    close(moved([[1, 0, 1], [0, 1, 0]])[:, 4], x[:, 4], 1e-6)
    close(moved([[1, 0, 1], [0, 1, 0]], 7.0)[:, 4], np.full((2, 6, 3), 7.0), 1e-6)
    close(moved([[-1, 0, 0], [0, -1, 0]]), x[:, ::-1, ::-1], 1e-6)
    close(moved([[1, 0, 0.5], [0, 1, 0]])[:, :4], (x[:, 1:] + x[:, :-1]) / 2, 1e-6)


if ENGINE == "torch":  # NumPy alone, or the same on every engine

    def test_transforms_are_unbiased():
        rng, size = np.random.default_rng(0), (8, 8)
        draws = {t.name: np.mean([t.draw(rng, size) for _ in range(4000)], 0) for t in every_transform()}
        np.testing.assert_allclose(draws["jitter"], [[1, 0, 0], [0, 1, 0]], atol=0.1)
        np.testing.assert_allclose(draws["rotate"], np.eye(2, 3) * np.sinc(np.deg2rad(10) / np.pi), atol=0.01)
        np.testing.assert_allclose(draws["pad"], np.eye(2, 3) * 1.5)
        np.testing.assert_allclose(draws["scale"], np.eye(2, 3) * (1 / 0.8 + 1 / 1.25) / 2, atol=0.02)

    def every_transform():
        t = wrt.transforms
        return [t.jitter(2), t.scale(0.8, 1.25), t.rotate(10), t.pad(2, 0.5)]

    def test_with_transforms_it_still_climbs():
        model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(4 * 36, 2))
        found = wrt.maximize(
            model,
            [0, 1],
            like=np.zeros((1, 3, 8, 8)),
            transforms=every_transform(),
            steps=40,
            bounds=(-1, 1),
            learning_rate=0.05,
        )
        assert (found.history["objective"][-1] > found.history["objective"][0] + 0.3).all()
        channel = wrt.maximize(model, wrt.layer("0", (2,)), like=np.zeros((1, 3, 8, 8)), steps=20)
        with torch.no_grad():
            places = model[0](torch.from_numpy(channel.x).float())[0, 2]
        close(channel.history["objective"].max(0), places.mean()[None].numpy(), 1e-5)

    def test_diversity_makes_solutions_differ():
        ring = lambda x: -((((x * x).sum(1, keepdim=True)) - 1) ** 2)
        start = torch.tensor([[0.5, 0.01], [0.5, -0.01]], dtype=torch.float64)
        options = {"init": start, "learning_rate": 0.05, "steps": 300}
        plain = wrt.maximize(ring, 0, **options).x
        apart = wrt.maximize(ring, 0, regularizers=[wrt.regularizers.diversity(0.5)], **options).x
        assert torch.cosine_similarity(plain[0], plain[1], 0) > 0.9
        assert torch.cosine_similarity(apart[0], apart[1], 0) < -0.99

    @pytest.mark.parametrize(
        ("options", "error", "words"),
        [
            ({"probability": 0}, OptionError, "probability=0 cannot be reached"),
            ({"probability": 1}, OptionError, "probability=1 cannot be reached"),
            ({"probability": 1.5}, OptionError, "between 0 and 1"),
            ({"probability": float("nan")}, OptionError, "between 0 and 1"),
            ({"probability": 0.9, "loss": abs}, OptionError, "exclude each other"),
            ({"probability": 0.9, "of": wrt.layer("0", 1)}, SelectionError, "needs of= to be a class"),
            ({"probability": 0.9, "ends": "logit"}, OptionError, "Did you mean 'logits'"),
            ({"ends": "logits"}, OptionError, "give probability= as well"),
            ({"loss": 3}, OptionError, "loss=3"),
            ({"of": 9}, SelectionError, "4 units"),
            ({"of": [0, 9]}, SelectionError, "4 units"),
            ({"of": []}, SelectionError, "asks for no image"),
            ({"of": [0.5]}, SelectionError, "one unit, an integer"),
            ({"of": None}, SelectionError, "of= is missing"),
            ({"of": wrt.objective([0, 1]) + wrt.objective([0, 1, 2])}, SelectionError, "2 and 3 units"),
            ({"init": "normal"}, OptionError, "init='normal'"),
            ({"init": np.zeros((3, 3)), "of": [0, 1]}, InputError, "3 rows but of= asks for 2"),
            ({"init": np.full((1, 3), np.nan)}, InputError, "NaN"),
            ({"init": np.zeros((0, 3))}, InputError, "no row"),
            ({"init": np.zeros((1, 3)), "bounds": (1, 2)}, InputError, "outside bounds="),
            ({"like": None}, InputError, "pass like="),
            ({"bounds": (1, 0)}, OptionError, "low < high"),
            ({"bounds": 3}, OptionError, "two numbers"),
            ({"bounds": (np.zeros(4), 1)}, InputError, r"array of shape \(4,\)"),
            ({"bounds": (np.zeros((5, 3)), 1)}, InputError, r"array of shape \(5, 3\)"),
            ({"steps": 0}, OptionError, "steps=0"),
            ({"learning_rate": -1}, OptionError, "learning_rate=-1"),
            ({"optimizer": "adamm"}, OptionError, "Did you mean 'adam"),
            ({"optimizer": "lbfgs"}, OptionError, "torch.optim"),
            ({"regularizers": [3]}, OptionError, "regularizers= holds 3"),
            ({"regularizers": lambda x: x}, SelectionError, "one number per image"),
            ({"regularizers": wrt.regularizers.total_variation(1)}, OptionError, "needs images"),
            ({"regularizers": wrt.regularizers.diversity(1)}, OptionError, "several images"),
            ({"regularizers": wrt.regularizers.near(np.zeros((1, 4)))}, InputError, r"near\(reference\)"),
            ({"transforms": [abs]}, OptionError, "transforms= holds"),
            ({"transforms": wrt.transforms.jitter(1)}, OptionError, "needs images"),
            ({"parametrization": "fourier"}, OptionError, "needs images"),
            ({"parametrization": "pixels"}, OptionError, "Did you mean 'pixel'"),
        ],
    )
    def test_bad_input(options, error, words):
        options = {"of": 0, "like": np.zeros((1, 3)), "steps": 2, **options}
        with pytest.raises(error, match=words):
            wrt.maximize(torch_net(), options.pop("of"), **options)

    def test_bad_models():
        sigmoid = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Sigmoid())
        one = torch.nn.Linear(3, 1)
        for model, of in ((sigmoid, 2), (one, 0)):
            with pytest.raises(SelectionError, match="ends='logits'"):
                wrt.maximize(model, of, like=np.zeros((1, 3)), probability=0.9)
        with pytest.raises(OptionError, match="no optimisers"):
            wrt.maximize(lambda x: -(x**2), 0, init=np.zeros((1, 3)))
        with pytest.raises(InputError, match="pass like="):
            wrt.maximize(lambda x: x, 0)
        tokens = keras.Sequential([keras.Input((5,), dtype="int32"), keras.layers.Embedding(9, 2)])
        with pytest.raises(DtypeError, match="takes int32"):
            wrt.maximize(tokens, 0)
        inputs = keras.Input((3,))
        several = keras.Model(inputs, [keras.layers.Dense(2)(inputs), keras.layers.Dense(2, "softmax")(inputs)])
        with pytest.raises(SelectionError, match="returns the classes alone"):
            wrt.maximize(several, wrt.output(1, 0), probability=0.9)

    @pytest.mark.parametrize(
        ("module", "count"),
        [
            (wrt.regularizers, 12),
            (wrt.transforms, 8),
            (wrt.objectives, 6),
            (wrt.parametrizations, 2),
        ],
    )
    def test_examples(module, count):
        assert doctest.testmod(module) == (0, count)

    @pytest.mark.parametrize(
        "make",
        [
            lambda: wrt.regularizers.l2("much"),
            lambda: wrt.regularizers.blur(1.0, 0),
            lambda: wrt.regularizers.near(np.zeros((1, 3)), norm=3),
            lambda: wrt.transforms.jitter(-1),
            lambda: wrt.transforms.jitter(1.5),
            lambda: wrt.transforms.scale(),
            lambda: wrt.transforms.scale(0.0),
            lambda: wrt.transforms.rotate(-3),
            lambda: wrt.transforms.pad(2, np.nan),
        ],
    )
    def test_bad_parts(make):
        with pytest.raises(OptionError, match="expected"):
            make()
