"""Inputs and outputs of files: several, of any dtype, and what the file itself says of them."""

import json

import keras
import numpy as np
import pytest
from conftest import ENGINE
from exported import error, run
from keras import layers as L

import wrt
from wrt.errors import ExportError

SUFFIX = {"jax": ".stablehlo", "torch": ".onnx", "tensorflow": ""}[ENGINE]


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def two():
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    hidden = L.Dense(4, activation="tanh")(L.concatenate([a, b]))
    return keras.Model({"a": a, "b": b}, {"y": L.Dense(4)(hidden), "z": L.Dense(2)(hidden)})


def test_several_inputs_and_outputs(tmp_path):
    """Products and a Jacobian, without samples to go by; the names say which is which."""
    model, x = two(), {"a": drawn(5, 3), "b": drawn(5, 2, seed=1)}
    u = {"y": drawn(5, 4, seed=2), "z": drawn(5, 2, seed=3)}
    path = wrt.export(model, tmp_path / f"file{SUFFIX}", what="backward")
    found, wanted = run(path, {**x, "cotangent_y": u["y"], "cotangent_z": u["z"]}), wrt.vjp(model, x, u)
    assert sorted(found) == ["gradient_a", "gradient_b"]
    assert max(error(found[f"gradient_{k}"], wanted[k]) for k in "ab") < 1e-5
    wrt.export(model, path, what="jacobian", wrt="b")
    found, wanted = run(path, x), wrt.jacobian(model, x, wrt="b")
    assert sorted(found) == ["jacobian_y", "jacobian_z"]
    assert max(error(found[f"jacobian_{k}"], wanted[k]) for k in "yz") < 1e-5


def test_embedding(tmp_path):
    """The derivative with respect to a layer behind integers."""
    words = [keras.Input((4,), dtype="int32", name="words"), L.Embedding(9, 3, name="embedding"), L.Flatten()]
    model = keras.Sequential([*words, L.Dense(5, activation="tanh"), L.Dense(1)])
    path = wrt.export(model, tmp_path / f"file{SUFFIX}", what="gradient", wrt="embedding")
    x = np.random.default_rng(1).integers(0, 9, (6, 4)).astype("int32")
    assert error(run(path, {"words": x})["gradient"], wrt.gradient(model, x, wrt="embedding")) < 1e-5


def mlp(**options):
    return [L.Dense(6, activation="tanh", **options), L.Dense(2, **options)]


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-6), ("float16", 1e-2), ("mixed_float16", 1e-2)])
def test_dtypes(tmp_path, dtype, tolerance):
    """float64 to the accuracy that Keras's own layers have; half precision also where only the layers compute in it."""
    model = keras.Sequential([keras.Input((3,), dtype="float64" if dtype == "float64" else None), *mlp(dtype=dtype)])
    x = drawn(6, 3).astype("float64" if dtype == "float64" else "float32")
    path = wrt.export(model, tmp_path / f"file{SUFFIX}", x, of=1)
    (found,) = run(path, {"x": x}).values()
    assert str(found.dtype) == str(x.dtype)
    assert error(found, wrt.gradient(model, x, of=1)) < tolerance


def test_named_batch(tmp_path):
    """A model built on four samples that works for any number."""
    model, x = keras.Sequential(mlp()), drawn(4, 3)
    model(x)
    assert model.inputs[0].shape[0] == 4
    path = wrt.export(model, tmp_path / f"file{SUFFIX}", x, of=1)
    x = drawn(7, 3, seed=1)
    assert error(run(path, {"x": x})["gradient"], wrt.gradient(model, x, of=1)) < 1e-5


def test_fixed_batch(tmp_path):
    """A model that works for four samples only."""
    inputs = keras.Input(batch_shape=(4, 3))
    model = keras.Model(inputs, L.Dense(2)(keras.ops.reshape(inputs, (4, 3))))
    with pytest.raises(ExportError, match="the model is built for 4 samples at a time: give its inputs none"):
        wrt.export(model, tmp_path / f"file{SUFFIX}", drawn(4, 3), of=1)
    assert not any(tmp_path.iterdir())


def test_channels_first(tmp_path):
    """Where the engine's processor has it."""
    options = {"data_format": "channels_first"}
    image = [keras.Input((2, 7, 6)), L.Conv2D(3, 3, strides=2, **options), L.AveragePooling2D((1, 2), **options)]
    model = keras.Sequential([*image, L.Flatten(), L.Dense(2)])
    path = wrt.export(model, tmp_path / f"file{SUFFIX}", of=1)
    x = drawn(3, 2, 7, 6)
    assert error(run(path, {"x": x})["gradient"], wrt.gradient(model, x, 1)) < 1e-5


def test_what_the_file_says(tmp_path):
    """Names, shapes with an open number of samples, the derivative and the version."""
    path = wrt.export(two(), tmp_path / f"file{SUFFIX}", of=wrt.output("y", 1))
    said = {".onnx": onnx_says, ".stablehlo": stablehlo_says, "": saved_model_says}[SUFFIX](path)
    shapes = {"a": ["batch", 3], "b": ["batch", 2]}
    outputs = {"gradient_a": ["batch", 3], "gradient_b": ["batch", 2]}
    assert said == (shapes, outputs, "gradient", wrt.__version__)


def onnx_says(path):
    """As the runtime reads it, and once more in the properties."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    properties = session.get_modelmeta().custom_metadata_map
    found = tuple({v.name: v.shape for v in values} for values in (session.get_inputs(), session.get_outputs()))
    assert found == (json.loads(properties["inputs"]), json.loads(properties["outputs"]))
    assert session.get_modelmeta().producer_name == "wrt"
    return (*found, properties["what"], properties["wrt_version"])


def stablehlo_says(path):
    import jax

    program = jax.export.deserialize(bytearray(path.read_bytes()))
    (inputs,), _ = jax.tree_util.tree_unflatten(program.in_tree, program.in_avals)
    outputs = jax.tree_util.tree_unflatten(program.out_tree, program.out_avals)
    found = [{k: [str(v.shape[0]), *v.shape[1:]] for k, v in values.items()} for values in (inputs, outputs)]
    _, *version, what = program.fun_name.split("_")
    return (*found, what, ".".join(version))


def saved_model_says(path):
    import tensorflow as tf

    module = tf.saved_model.load(str(path))
    serve = module.signatures["serving_default"]
    values = serve.structured_input_signature[1], serve.structured_outputs
    found = [{k: ["batch" if s is None else s for s in v.shape] for k, v in group.items()} for group in values]
    return (*found, *(getattr(module, name).numpy().decode() for name in ("what", "wrt_version")))
