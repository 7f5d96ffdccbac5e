"""AugNet: a Keras model that answers for its derivatives."""

import keras
import numpy as np
import pytest
from conftest import ENGINE
from keras import layers as L
from subjects import keras_net, points, truth

import wrt
from wrt.errors import ModelError, SelectionError

ATOL = 2e-6 if ENGINE == "torch" else 1e-9  # Keras multiplies in float32 on torch


def net(**options):
    model = keras_net()
    return wrt.AugNet(inputs=model.inputs, outputs=model.outputs, **options)


def test_closed_form():
    x = points(6)
    model = net(name="augmented")
    assert model.name == "augmented"
    np.testing.assert_allclose(model.return_jacobian(x), truth(x), atol=ATOL)
    np.testing.assert_allclose(model.return_jacobian(x, of=2), truth(x)[:, 2], atol=ATOL)
    np.testing.assert_allclose(model.return_gradient(x, of=2), truth(x)[:, 2], atol=ATOL)


def test_hessian():
    """Against differences of the Jacobian by hand; symmetric; follows the weights."""
    x, model = points(4), net()
    step = 1e-5
    wanted = np.stack([(truth(x + step * e) - truth(x - step * e))[:, 1] / (2 * step) for e in np.eye(3)], -1)
    found = model.return_hessian(x, of=1)
    np.testing.assert_allclose(found, wanted, atol=5 * ATOL + 1e-9)
    model.get_layer("last").kernel.assign(3 * model.get_layer("last").kernel)
    np.testing.assert_allclose(model.return_hessian(x, of=1), 3 * wanted, atol=2e-5)


def test_made_of_a_trained_model():
    """From the tensors, the model and another AugNet: same layers, same numbers."""
    model, x = keras_net(), points(5)
    for made in (net(), wrt.AugNet.from_model(model), wrt.AugNet.from_model(wrt.AugNet.from_model(model))):
        np.testing.assert_allclose(made.return_jacobian(x), truth(x), atol=ATOL)
    assert wrt.AugNet.from_model(model).layers[1] is model.layers[1]
    sequential = keras.Sequential([keras.Input((3,)), L.Dense(2)])
    np.testing.assert_allclose(
        wrt.AugNet.from_model(sequential).return_jacobian(x), wrt.jacobian(sequential, x), atol=1e-6
    )


def test_per_sample_and_in_inference_mode():
    """A sample's Jacobian does not depend on its batch, nor on the batch's statistics."""
    x = keras.Input((3,))
    model = wrt.AugNet(x, L.Dense(2)(L.Dropout(0.5)(L.BatchNormalization()(x))))
    values = points(6).astype("float32")
    together = model.return_jacobian(values)
    np.testing.assert_allclose(together[2:3], model.return_jacobian(values[2:3]), atol=1e-6)
    scale = 1 / np.sqrt(1 + model.layers[1].epsilon)
    kernel = keras.ops.convert_to_numpy(model.layers[-1].kernel)
    np.testing.assert_allclose(together[0], scale * kernel.T, atol=1e-5)


def test_any_rank_several_outputs():
    image, extra = keras.Input((4, 5, 2), name="image"), keras.Input((3,), name="extra")
    maps = L.Conv2D(2, 2, name="maps")(image)
    model = wrt.AugNet({"image": image, "extra": extra}, {"maps": maps, "sum": L.Dense(1, name="sum")(extra)})
    x = {"image": np.ones((2, 4, 5, 2)), "extra": np.ones((2, 3))}
    found = model.return_jacobian(x)
    assert found["maps"]["image"].shape == (2, 3, 4, 2, 4, 5, 2)
    assert found["sum"]["extra"].shape == (2, 1, 3)


def test_trains_saves_and_loads(tmp_path):
    model, x = net(), points(8)
    model.compile(keras.optimizers.Adam(0.05), "mse")
    before = model.return_jacobian(x)
    history = model.fit(x, np.zeros((8, 4)), epochs=5, verbose=0).history["loss"]
    after = model.return_jacobian(x)
    assert history[-1] < history[0]
    assert np.abs(after - before).max() > 1e-3
    model.return_hessian(x, of=0)  # what it keeps must not get into the file
    model.save(tmp_path / "aug.keras")
    for loaded in (wrt.load_model(tmp_path / "aug.keras"), keras.models.load_model(tmp_path / "aug.keras")):
        assert isinstance(loaded, wrt.AugNet)
        assert len(loaded.variables) == len(model.variables)
        np.testing.assert_array_equal(loaded.return_jacobian(x), after)
    assert len(model.layers) == 3


def test_bad_input():
    with pytest.raises(ModelError, match=r"expected a keras\.Model"):
        wrt.AugNet.from_model(np.sin)
    with pytest.raises(ModelError, match="not built"):
        wrt.AugNet.from_model(keras.Sequential([L.Dense(2)]))
    with pytest.raises(SelectionError, match="which scalar"):
        net().return_hessian(points(2))
    with pytest.raises(SelectionError, match="out of range"):
        net().return_hessian(points(2), of=np.array([1, 9]))


def test_wrt_has_no_other_attribute():
    with pytest.raises(AttributeError, match="no attribute 'AugNut'"):
        wrt.AugNut  # noqa: B018
