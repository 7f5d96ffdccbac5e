"""Keras models as ONNX files: on torch at first hand, on JAX and TensorFlow rebuilt on torch.

Each is made once, in the process of one engine: they take many seconds.
"""

import keras
import numpy as np
from conftest import ENGINE
from exported import check_inference_only, error, run
from keras import layers as L

import wrt


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def small_cnn():
    """Same and valid padding, strides that leave a remainder, separable and transposed convolutions."""
    x = inputs = keras.Input((10, 9, 2), name="image")
    x = L.BatchNormalization()(L.Conv2D(4, 3, strides=2, padding="same", activation="gelu")(x))
    y = L.SeparableConv2D(3, 3, padding="valid", activation="silu", depth_multiplier=2)(x)
    z = L.Conv2DTranspose(3, 3, strides=2, padding="same")(L.AveragePooling2D(2, padding="same")(x))
    w = L.MaxPooling2D(3, strides=2, padding="same")(L.DepthwiseConv2D(3, strides=2, padding="same")(x))
    flat = L.concatenate([L.Flatten()(L.LayerNormalization()(v)) for v in (y, z, w)])
    return keras.Model(inputs, L.Dense(3, activation="softmax")(flat)), {"image": (10, 9, 2)}


def transformer():
    """Tokens, whose derivative is with respect to the embedding, and a second input."""
    tokens, shift = keras.Input((4,), dtype="int32", name="tokens"), keras.Input((4, 6), name="shift")
    x = L.Embedding(9, 6, name="embedding")(tokens) + shift
    x = L.LayerNormalization()(x + L.MultiHeadAttention(2, 3)(x, x, use_causal_mask=True))
    x = L.LSTM(3)(x + L.Dense(6, activation="gelu")(x))
    return keras.Model({"tokens": tokens, "shift": shift}, L.Dense(2)(x)), {"tokens": (4,), "shift": (4, 6)}


def moved(model):
    """Statistics and biases away from their beginnings."""
    rng = np.random.default_rng(1)
    for weight in model.weights:
        if "float" in str(weight.dtype):
            weight.assign(keras.ops.convert_to_numpy(weight) + rng.uniform(0.05, 0.3, weight.shape).astype("float32"))
    return model


def fed(shapes, count, seed=0):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, 9, (count, 4)).astype("int32")
    return {name: tokens if name == "tokens" else drawn(count, *s, seed=seed) for name, s in shapes.items()}


def cnn(path):
    """The product with a cotangent."""
    model, shapes = small_cnn()
    wrt.export(moved(model), path, what="backward")
    for count in (1, 5):
        x, u = fed(shapes, count, seed=count), drawn(count, 3, seed=7)
        wanted = wrt.vjp(model, x["image"], u)
        assert error(run(path, {**x, "cotangent": u})["gradient"], wanted) < 1e-5


def block(path):
    """The gradient with respect to a layer and to an input, from a nested input with integers."""
    model, shapes = transformer()
    asked = {"of": 1, "wrt": [wrt.layer("embedding"), "shift"]}
    wrt.export(moved(model), path, fed(shapes, 4), **asked)
    for count in (1, 5):
        x = fed(shapes, count, seed=count)
        found, wanted = run(path, x), wrt.gradient(model, x, **asked)
        assert list(found) == ["gradient_embedding", "gradient_shift"]
        assert max(map(error, found.values(), wanted)) < 1e-5


def resnet(path):
    """The gradient of a residual network. A ReLU whose input rounds across zero moves one sample by 1e-3 or so."""
    shape = (64, 64, 3)
    model = keras.applications.ResNet50V2(
        weights=None, input_shape=shape, classes=5, classifier_activation=None, name="resnet"
    )
    wrt.export(model, path, of=3)
    errors = []
    for count in (2, 5):
        x = drawn(count, *shape, seed=count)
        (found,) = run(path, {onnx_input(path): x}).values()
        errors += list(map(error, found, wrt.gradient(model, x, of=3)))
    assert np.median(errors) < 1e-5
    assert max(errors) < 1e-1


def onnx_input(path):
    import onnx

    (value,) = onnx.load(path).graph.input
    return value.name


def test_keras(tmp_path):
    path = tmp_path / "keras.onnx"
    {"torch": resnet, "jax": block, "tensorflow": cnn}[ENGINE](path)
    check_inference_only(path)
