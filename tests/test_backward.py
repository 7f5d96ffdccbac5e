"""Derivatives as Keras models: their values, training through them, saving, and what they refuse."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers as L
from subjects import keras_net, points, truth

import wrt
from wrt.errors import DtypeError, InputError, ModelError, SelectionError

RNG = np.random.default_rng(5)


@pytest.fixture(autouse=True)
def _single():
    yield
    keras.config.set_dtype_policy("float32")


def network(dtype="float32"):
    """Convolution, pooling, batch normalisation with statistics of its own, dropout."""
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2), dtype=dtype, name="image"),
            L.Conv2D(3, 3, activation="relu", dtype=dtype, name="conv"),
            L.MaxPooling2D(2, dtype=dtype),
            L.BatchNormalization(dtype=dtype, name="norm"),
            L.Dropout(0.5, dtype=dtype),
            L.Flatten(dtype=dtype),
            L.Dense(4, dtype=dtype, name="score"),
        ],
        name="net",
    )
    norm = model.get_layer("norm")
    norm.moving_mean.assign(np.linspace(-0.2, 0.3, 3))
    norm.moving_variance.assign(np.linspace(0.5, 1.5, 3))
    return model


def data(count=5):
    return RNG.normal(size=(count, 6, 6, 2)).astype("float32"), RNG.normal(size=(count, 4)).astype("float32")


def two_by_two():
    """Inputs p, q; outputs s of both, t of p alone."""
    p, q = keras.Input((3,), name="p"), keras.Input((4,), name="q")
    s = L.Dense(2, activation="tanh", name="s")(L.Concatenate()([p, q]))
    return keras.Model({"q": q, "p": p}, {"s": s, "t": L.Dense(1, name="t")(L.Multiply()([p, p]))}, name="two")


def array(value):
    return keras.ops.convert_to_numpy(value)


def test_closed_form():
    """Against the Jacobian by hand, by predict and by call."""
    model, x = keras_net(), points(5)
    u = RNG.normal(size=(5, 4))
    wanted = np.einsum("no,noi->ni", u, truth(x))
    backward = wrt.backward_model(model)
    assert isinstance(backward, keras.Model)
    np.testing.assert_allclose(backward.predict([x, u], verbose=0), wanted, atol=2e-6)
    np.testing.assert_allclose(array(backward([x, u])), wanted, atol=2e-6)
    np.testing.assert_allclose(wrt.jacobian_model(model).predict(x, verbose=0), truth(x), atol=2e-6)
    np.testing.assert_allclose(wrt.backward_model(model, of=-1).predict(x, verbose=0), truth(x)[:, 3], atol=2e-6)
    highest = truth(x)[np.arange(5), model.predict(x, verbose=0).argmax(1)]
    np.testing.assert_allclose(wrt.backward_model(model, of="max").predict(x, verbose=0), highest, atol=2e-6)
    assert wrt.backward_model(model, of=wrt.top(2)).predict(x, verbose=0).shape == (5, 2, 3)


def test_several_inputs_and_outputs():
    model = two_by_two()
    x = {"p": points(5), "q": RNG.normal(size=(5, 4))}
    u = {"s": RNG.normal(size=(5, 2)), "t": RNG.normal(size=(5, 1))}
    wanted = wrt.vjp(model, x, u)
    backward = wrt.backward_model(model)
    found = backward.predict([x, u], verbose=0)
    flat = backward.predict([*(x[t.name] for t in backward.inputs[:2]), u["s"], u["t"]], verbose=0)
    assert set(found) == {"p", "q"}
    for name in "pq":
        np.testing.assert_allclose(found[name], wanted[name], atol=1e-6)
        np.testing.assert_allclose(flat[name], wanted[name], atol=1e-6)
    one = wrt.backward_model(model, of=wrt.output("s"), wrt="q")
    np.testing.assert_allclose(
        one.predict([x, u["s"]], verbose=0), wrt.vjp(model, x, u["s"], of=wrt.output("s"), wrt="q"), atol=1e-6
    )
    whole = wrt.jacobian_model(model, wrt="p").predict(x, verbose=0)
    assert {name: block.shape for name, block in whole.items()} == {"s": (5, 2, 3), "t": (5, 1, 3)}


def test_in_a_larger_model():
    """On new inputs, twice, beside the model itself, inside another model; weights counted once."""
    model = network()
    x, u = data()
    image, score = keras.Input((6, 6, 2)), keras.Input((4,))
    backward = wrt.backward_model(model)
    flat = L.Flatten()(backward([image, score]))
    again = L.Flatten()(backward([image, score]))
    larger = keras.Model([image, score], [model(image), L.Dense(1, kernel_initializer="ones")(flat), again])
    found = larger.predict([x, u], verbose=0)
    wanted = wrt.vjp(model, x, u).reshape(5, -1)
    np.testing.assert_allclose(found[0], model.predict(x, verbose=0), atol=1e-6)
    np.testing.assert_allclose(found[1][:, 0], wanted.sum(1), atol=1e-5)
    np.testing.assert_allclose(found[2], wanted, atol=1e-6)
    assert len(larger.trainable_variables) == len(model.trainable_variables) + 2


def test_weights_are_shared():
    model = network()
    x, u = data()
    backward = wrt.backward_model(model)
    before = backward.predict([x, u], verbose=0)
    model.get_layer("score").kernel.assign(2 * model.get_layer("score").kernel)
    np.testing.assert_allclose(backward.predict([x, u], verbose=0), 2 * before, rtol=1e-5, atol=1e-7)
    assert [v.path for v in backward.variables] == [v.path for v in model.variables]


def test_fit_through_the_derivative():
    """One step of plain gradient descent is the derivative of the loss by central differences, for every weight."""
    keras.config.set_dtype_policy("float64")  # convolutions only: Keras multiplies matrices in float32 on torch
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2), dtype="float64"),
            L.Conv2D(3, 3, activation="softplus"),
            L.MaxPooling2D(2),
            L.Conv2D(4, 2, activation="softplus"),
            L.Flatten(),
        ]
    )
    x, u = (a.astype("float64") for a in data())
    target = RNG.normal(size=x.shape)
    backward = wrt.backward_model(model)
    backward.compile(keras.optimizers.SGD(1.0), "mse")
    before = [array(v).copy() for v in model.trainable_variables]
    backward.fit([x, u], target, epochs=1, batch_size=5, verbose=0, shuffle=False)
    steps = [b - array(v) for b, v in zip(before, model.trainable_variables, strict=True)]
    for variable, value in zip(model.trainable_variables, before, strict=True):
        variable.assign(value)
    for variable, value, step in zip(model.trainable_variables, before, steps, strict=True):
        direction = RNG.normal(size=value.shape)
        wanted = _slope(lambda w, v=variable: _loss(model, v, w, x, u, target), value, direction)
        assert np.sum(step * direction) == pytest.approx(wanted, rel=1e-5, abs=1e-8), variable.path


def _loss(model, variable, value, x, u, target):
    before = array(variable).copy()
    variable.assign(value)
    loss = np.mean((wrt.vjp(model, x, u) - target) ** 2)
    variable.assign(before)
    return loss


def _slope(f, value, direction, step=1e-5):
    return (f(value + step * direction) - f(value - step * direction)) / (2 * step)


# the last bias and the normalisation's shift have no influence on this derivative, and Keras says so
@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_inference_inside_by_default():
    """Also in fit: no batch statistics, no dropout, no moving averages moved."""
    model = network()
    x, u = data()
    backward = wrt.backward_model(model)
    np.testing.assert_array_equal(array(backward([x, u], training=True)), array(backward([x, u])))
    backward.compile("sgd", "mse")
    norm = model.get_layer("norm")
    kept = [array(norm.moving_mean), array(norm.moving_variance)]
    backward.fit([x, u], x, verbose=0)
    np.testing.assert_array_equal(kept, [array(norm.moving_mean), array(norm.moving_variance)])


def test_training_inside():
    """Batch statistics as in the forward pass: samples then depend on one another, and so does the derivative."""
    model = keras.Sequential(
        [keras.Input((3,), dtype="float64"), L.BatchNormalization(dtype="float64"), L.Activation("softplus")]
    )
    x, u = points(4), RNG.normal(size=(4, 3))
    backward = wrt.backward_model(model, training=True)
    found = array(backward([x, u], training=True))
    for n, i in ((0, 0), (2, 1)):
        unit = np.zeros_like(x)
        unit[n, i] = 1
        wanted = _slope(
            lambda p: np.sum(u * array(model(p, training=True))), x, unit, 1e-3
        )  # Keras normalises in float32
        assert found[n, i] == pytest.approx(wanted, rel=5e-3, abs=1e-5)
    moved = array(model.layers[0].moving_mean).copy()
    array(backward([x, u], training=True))
    np.testing.assert_array_equal(array(model.layers[0].moving_mean), moved)
    np.testing.assert_array_equal(array(backward([x, u])), array(wrt.backward_model(model)([x, u])))


def test_dropout_inside():
    """As in training: another mask at every call, right on average."""
    model = keras.Sequential([keras.Input((2000,)), L.Dropout(0.5), L.Dense(1, kernel_initializer="ones")])
    backward = wrt.backward_model(model, of=0, training=True)
    x = np.ones((1, 2000), "float32")
    first, second = (array(backward(x, training=True)) for _ in range(2))
    assert set(np.unique(first)) == {0.0, 2.0}
    assert 0.3 < (first == second).mean() < 0.7
    assert first.mean() == pytest.approx(1, abs=0.15)
    assert (array(backward(x)) == 1).all()


@pytest.mark.parametrize("how", ["keras", "wrt"])
def test_saved_and_loaded(tmp_path, how):
    model = network()
    x, u = data()
    backward = wrt.backward_model(model, rules={"relu": wrt.rules.guided})
    backward.save(tmp_path / "b.keras")
    loaded = (keras.models.load_model if how == "keras" else wrt.load_model)(tmp_path / "b.keras")
    assert loaded.derivative.rules == {"relu": wrt.rules.guided}
    np.testing.assert_array_equal(loaded.predict([x, u], verbose=0), backward.predict([x, u], verbose=0))


@keras.saving.register_keras_serializable("wrt-tests")
def difference(y):
    return y[:, 0] - y[:, 2]


@keras.saving.register_keras_serializable("wrt-tests")
def halved(u, x, back):
    return back(u) / 2


@pytest.mark.parametrize(
    ("of", "respect", "rules"),
    [
        (2, None, None),
        (wrt.top(2), "image", {"relu": wrt.rules.Squareplus(0.3)}),
        (wrt.layer("conv", (0, 1, 2)), 0, None),
        (difference, wrt.layer("conv"), {"conv": halved}),
        ("all", ["image"], None),
    ],
)
def test_every_choice_is_saved(tmp_path, of, respect, rules):
    model = network()
    x, _ = data()
    if respect != 0 and isinstance(respect, int | type(None) | str):
        np.testing.assert_allclose(
            array(wrt.backward_model(model, of, respect, rules)(x)),
            wrt.gradient(model, x, of, wrt=respect, rules=rules),
            atol=1e-6,
        )
    backward = wrt.backward_model(model, of, respect, rules)
    backward.save(tmp_path / "b.keras")
    loaded = wrt.load_model(tmp_path / "b.keras")
    found, wanted = (keras.tree.flatten(m.predict(x, verbose=0)) for m in (loaded, backward))
    np.testing.assert_array_equal(found[0], wanted[0])


def test_shared_weights_stay_shared_after_loading(tmp_path):
    """Whichever mention of the model comes first in the larger one."""
    x, u = data()
    for order in (0, 1):
        model = network()
        image, score = keras.Input((6, 6, 2)), keras.Input((4,))
        parts = [L.Flatten()(wrt.backward_model(model)([image, score])), model(image)]
        larger = keras.Model([image, score], parts[:: 1 if order else -1])
        larger.compile("adam", ["mse", "mse"])
        larger.fit([x, u], larger.predict([x, u], verbose=0), verbose=0)
        larger.save(tmp_path / "larger.keras")
        loaded = keras.models.load_model(tmp_path / "larger.keras")
        assert len(loaded.trainable_variables) == len(larger.trainable_variables) == len(model.trainable_variables)
        for a, b in zip(loaded.predict([x, u], verbose=0), larger.predict([x, u], verbose=0), strict=True):
            np.testing.assert_array_equal(a, b)


def test_loaded_elsewhere(tmp_path):
    """In a new process that imports nothing but wrt."""
    backward = wrt.backward_model(keras_net("float32"), of=1)
    backward.save(tmp_path / "b.keras")
    x = points(2).astype("float32")
    code = f"import wrt, numpy as np; print(wrt.load_model({str(tmp_path / 'b.keras')!r}).predict(np.{x!r}, verbose=0))"
    code = code.replace("dtype=float32", "dtype='float32'").replace("np.array", "np.array")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert f"{backward.predict(x, verbose=0)[0, 0]:.4f}"[:5] in done.stdout


def test_summary(capsys):
    wrt.backward_model(network()).summary(line_length=90)
    text = capsys.readouterr().out
    for word in ("backward_net", "image", "cotangent", "DerivativeLayer", "(None, 6, 6, 2)"):
        assert word in text


def test_subclassed_model():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner, self.last = L.Dense(4, activation="tanh"), L.Dense(2)

        def call(self, x):
            return self.last(self.inner(x))

    model, x, u = Own(), points(5).astype("float32"), RNG.normal(size=(5, 2)).astype("float32")
    with pytest.raises(ModelError, match="not built"):
        wrt.backward_model(model)
    model(x)
    np.testing.assert_allclose(wrt.backward_model(model).predict([x, u], verbose=0), wrt.vjp(model, x, u), atol=1e-6)


def test_sizes_left_open():
    image = keras.Input((None, None, 2))
    model = keras.Model(image, L.Conv2D(3, 3, padding="same")(image))
    backward = wrt.backward_model(model)
    assert backward.output_shape == (None, None, None, 2)
    for side in (5, 7):
        x, u = RNG.normal(size=(2, side, 6, 2)), RNG.normal(size=(2, side, 6, 3))
        np.testing.assert_allclose(backward.predict([x, u], verbose=0), wrt.vjp(model, x, u), atol=1e-5)


def test_tokens():
    """With respect to the embedding; without it the error says so."""
    tokens = keras.Input((6,), dtype="int32", name="tokens")
    vectors = L.Embedding(11, 4, name="words")(tokens)
    model = keras.Model(tokens, L.Dense(3)(L.LSTM(5)(vectors)))
    with pytest.raises(DtypeError, match="wrt='words'"):
        wrt.backward_model(model)
    x, u = RNG.integers(0, 11, (3, 6)), RNG.normal(size=(3, 3)).astype("float32")
    backward = wrt.backward_model(model, wrt="words")
    assert backward.output_shape == (None, 6, 4)
    np.testing.assert_allclose(backward.predict([x, u], verbose=0), wrt.vjp(model, x, u, wrt="words"), atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "mixed_float16"])
def test_dtypes(dtype):
    x = keras.Input((3,), dtype=keras.DTypePolicy(dtype).compute_dtype)
    model = keras.Model(x, L.Dense(2, activation="tanh", dtype=dtype)(x))
    backward = wrt.backward_model(model)
    values, u = points(4), np.ones((4, 2))
    found = np.asarray(backward.predict([values, u], verbose=0), "float64")
    np.testing.assert_allclose(found, np.asarray(wrt.vjp(model, values, u), "float64"), rtol=1e-2, atol=1e-2)


def test_one_and_no_sample():
    model = network()
    backward = wrt.backward_model(model)
    x, u = data(1)
    np.testing.assert_allclose(backward.predict([x, u], verbose=0), wrt.vjp(model, x, u), atol=1e-6)
    assert array(backward([x[:0], u[:0]])).shape == (0, 6, 6, 2)


BAD = [
    (
        lambda m, x, u: wrt.backward_model(m).predict([x, u[:, :3]], verbose=0),
        InputError,
        r"'cotangent' has shape \(5, 3\)",
    ),
    (lambda m, x, u: wrt.backward_model(m)([x, u[:, :3]]), InputError, r"expected \(None, 4\)"),
    (lambda m, x, u: wrt.backward_model(m)(x), InputError, "expected 2: image, cotangent"),
    (
        lambda m, x, u: wrt.backward_model(m).predict([x, u[:2]]),
        InputError,
        "different numbers of samples: {'image': 5",
    ),
    (lambda m, x, u: wrt.backward_model(m)([x, 3]), InputError, "'cotangent' is int"),
    (lambda m, x, u: wrt.backward_model(m, of=9), SelectionError, "0 to 3"),
    (lambda m, x, u: wrt.backward_model(m, of=np.array([1, 2])), SelectionError, "one-hot"),
    (lambda m, x, u: wrt.backward_model(m, wrt="imag"), SelectionError, "'image'"),
    (lambda m, x, u: wrt.backward_model(m, rules={"tanh": wrt.rules.guided}), SelectionError, "matches nothing"),
    (lambda m, x, u: wrt.backward_model(m.get_layer("score")), ModelError, "keras.Sequential"),
    (lambda m, x, u: wrt.backward_model(np.sin), ModelError, "wrt.vjp"),
    (lambda m, x, u: wrt.backward_model(keras.Sequential([L.Dense(2)])), ModelError, "not built"),
]


@pytest.mark.parametrize(("call", "error", "says"), BAD)
def test_bad_input(call, error, says):
    x, u = data()
    with pytest.raises(error, match=says):
        call(network(), x, u)


def test_a_failed_call_leaves_the_weights():
    """Keras on JAX loses its arrays when predict fails midway: the check comes before."""
    model = network()
    x, u = data()
    before = [array(v).copy() for v in model.variables]
    with pytest.raises(InputError):
        wrt.backward_model(model).predict([x, u[:, :1]], verbose=0)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(array(variable), value)
