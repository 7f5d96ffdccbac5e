"""Whole networks with random weights, small."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

import wrt
from wrt.errors import SelectionError

from .battery import ENGINE, Differences, close, separated

APPLICATIONS = {
    "ResNet50V2": (32, {}),
    "MobileNetV3Small": (32, {"include_preprocessing": False}),
}
LARGE = {  # one for each engine: they take long, and hold no layer that is not tested by itself on all
    "tensorflow": {"EfficientNetV2B0": (32, {"include_preprocessing": False})},
    "torch": {"ConvNeXtTiny": (32, {"include_preprocessing": False})},
    "jax": {"DenseNet121": (32, {})},
}
APPLICATIONS |= LARGE[ENGINE]


@pytest.fixture(autouse=True)
def _single():
    yield
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("name", APPLICATIONS)
def test_application(name):
    """The gradient of one unit along two random directions; a small step crosses few corners of ReLU."""
    size, options = APPLICATIONS[name]
    keras.config.set_dtype_policy("float64")
    model = getattr(keras.applications, name)(
        weights=None, input_shape=(size, size, 3), classes=3, classifier_activation=None, **options
    )
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, size, size, 3))
    directions = [rng.normal(size=x.shape) for _ in range(2)]
    g = wrt.gradient(model, x, 1)
    assert g.shape == x.shape
    assert np.isfinite(g).all()
    step, tolerance = 3e-4, 3e-2  # Keras is float32 inside on torch and, in its normalisation, on JAX
    wanted = Differences("narrow", step).along(
        lambda p: model.predict_on_batch(p[0])[:, 1], [x], [[d] for d in directions]
    )
    close(name, [(g * d).sum((1, 2, 3)) for d in directions], wanted, tolerance)


def differences(function, x):
    """`(N, *out, *in)` of a function of one array in float32."""
    return Differences("wide", 1e-2).jacobian(lambda points: np.asarray(function(points[0].astype("float32"))), [x])[0]


def after(model, name):
    """The part of a Sequential model behind a layer."""
    start = [layer.name for layer in model.layers].index(name) + 1

    def rest(values):
        for layer in model.layers[start:]:
            values = layer(values)
        return keras.ops.convert_to_numpy(values)

    return rest


@pytest.mark.parametrize("kind", ["transformer", "lstm"])
def test_text_model(kind):
    words = L.Embedding(7, 4, keras.initializers.RandomNormal(stddev=1.0), name="words")
    if kind == "lstm":
        model = keras.Sequential([keras.Input((5,), dtype="int32"), words, L.LSTM(3), L.Dense(2)])
    else:
        model = keras.Sequential(
            [keras.Input((5,), dtype="int32"), words, Block(), L.GlobalAveragePooling1D(), L.Dense(2)]
        )
    tokens = np.random.default_rng(0).integers(0, 7, (2, 5))
    vectors = keras.ops.convert_to_numpy(words(tokens))
    wanted = differences(after(model, "words"), vectors)
    close(kind, wrt.jacobian(model, tokens, wrt="words"), wanted, 2e-3)


@keras.saving.register_keras_serializable("wrt-tests")
class Block(L.Layer):
    """A transformer encoder block."""

    def __init__(self, **options):
        super().__init__(**options)
        self.attend, self.norms = L.MultiHeadAttention(2, 2), [L.LayerNormalization(), L.LayerNormalization()]
        self.inner, self.outer = L.Dense(6, activation="gelu"), L.Dense(4)

    def build(self, shape):
        self.attend.build(shape, shape)
        self.inner.build(shape)
        self.outer.build((*shape[:-1], 6))
        for norm in self.norms:
            norm.build(shape)

    def call(self, x):
        x = self.norms[0](x + self.attend(x, x))
        return self.norms[1](x + self.outer(self.inner(x)))


def test_two_inputs_two_outputs():
    """Nested outputs first, then inputs; each block against differences."""
    a, b = keras.Input((3,), name="a"), keras.Input((2, 2), name="b")
    joined = L.Concatenate()([L.Dense(4, activation="tanh")(a), L.Flatten()(b)])
    model = keras.Model({"a": a, "b": b}, {"p": L.Dense(2, activation="tanh")(joined), "q": L.Multiply()([a, a])})
    x = dict(zip("ab", separated([(3,), (2, 2)]), strict=True))
    x = {name: value.astype("float32") for name, value in x.items()}
    found = wrt.jacobian(model, x)
    for out in "pq":
        for name in "ab" if out == "p" else "a":
            wanted = differences(lambda v, out=out, name=name: _along(model, x, name, v)[out], x[name])
            close(out + name, found[out][name], wanted, 2e-3)
    assert not found["q"]["b"].any()


def _along(model, x, name, values):
    full = {k: np.resize(v, (len(values), *v.shape[1:])) if k != name else values for k, v in x.items()}
    return model.predict_on_batch(full)


def unet():
    x = keras.Input((4, 4, 2))
    down = L.Conv2D(3, 3, padding="same", activation="gelu")(x)
    low = L.Conv2D(4, 3, padding="same", activation="gelu")(L.AveragePooling2D(2)(down))
    up = L.Conv2DTranspose(3, 2, strides=2)(low)
    return keras.Model(x, L.Conv2D(1, 1)(L.Concatenate()([up, down])))


def subclassed():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.drop, self.last = L.Dense(4, activation="tanh"), L.Dropout(0.5), L.Dense(2)

        def call(self, x):
            return self.last(self.drop(self.first(x)))

    return Own()


@pytest.mark.parametrize(("make", "shape"), [(unet, (4, 4, 2)), (subclassed, (3,))])
def test_topology(make, shape):
    model = make()
    x = separated([shape])[0].astype("float32")
    found = wrt.jacobian(model, x)
    close(make.__name__, found, differences(model.predict_on_batch, x), 2e-3)


def test_saved_model(tmp_path):
    model = unet()
    x = separated([(4, 4, 2)])[0].astype("float32")
    model.save(tmp_path / "net.keras")
    loaded = keras.models.load_model(tmp_path / "net.keras")
    np.testing.assert_allclose(wrt.jacobian(loaded, x), wrt.jacobian(model, x), rtol=1e-5, atol=1e-7)


def test_nested_and_shared_layers():
    """`"outer/inner"` names a layer inside; a layer used twice needs its call."""
    inner = keras.Sequential(
        [keras.Input((3,)), L.Dense(4, activation="tanh", name="hidden"), L.Dense(3)], name="inner"
    )
    x = keras.Input((3,))
    model = keras.Model(x, L.Dense(2, name="end")(inner(inner(x))))
    values = separated([(3,)])[0].astype("float32")
    close("nested", wrt.jacobian(model, values), differences(model.predict_on_batch, values), 2e-3)
    with pytest.raises(SelectionError, match="2 times"):
        wrt.jacobian(model, values, wrt=wrt.layer("inner/hidden"))
    hidden = keras.ops.convert_to_numpy(inner.layers[0](inner(values)))
    end = model.get_layer("end")
    wanted = differences(lambda h: keras.ops.convert_to_numpy(end(inner.layers[1](h))), hidden)
    close("second call", wrt.jacobian(model, values, wrt=wrt.layer("inner/hidden", call=1)), wanted, 2e-3)
