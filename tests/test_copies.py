"""Models of derivatives in Keras's older files, and cloned."""

import keras
import numpy as np
import pytest
from keras import layers as L
from subjects import points

import wrt

X, U = points(4).astype("float32"), np.eye(2, dtype="float32")[[0, 1, 1, 0]]
OLD = "ignore:You are saving your model as an HDF5 file"


def net():
    return keras.Sequential([keras.Input((3,)), L.Dense(5, activation="tanh"), L.Dense(2)], name="net")


MADE = {
    "backward": (wrt.backward_model, [X, U]),
    "gradient": (lambda model: wrt.backward_model(model, of=1), X),
    "jacobian": (wrt.jacobian_model, X),
    "AugNet": (wrt.AugNet.from_model, X),
    "penalised": (lambda model: wrt.penalize(model, wrt.penalties.SmallestK(2)), X),
}


def same(a, b, x):
    np.testing.assert_array_equal(a.predict(x, verbose=0), b.predict(x, verbose=0))


@pytest.mark.filterwarnings(OLD)
@pytest.mark.parametrize("name", MADE)
def test_hdf5(name, tmp_path):
    make, x = MADE[name]
    model = make(net())
    model.save(tmp_path / "model.h5")
    same(wrt.load_model(tmp_path / "model.h5"), model, x)


@pytest.mark.parametrize("name", ["backward", "gradient", "jacobian", "AugNet"])
def test_clone(name):
    make, x = MADE[name]
    model = make(net())
    copy = keras.models.clone_model(model)
    assert not {id(v) for v in copy.variables} & {id(v) for v in model.variables}
    copy.set_weights(model.get_weights())
    same(copy, model, x)


def test_clone_of_a_larger_model():
    image = keras.Input((3,))
    model = keras.Model(image, L.Dense(2)(wrt.backward_model(net(), of=0)(image)))
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    same(copy, model, X)
