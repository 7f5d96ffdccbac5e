"""What only TensorFlow has."""

from __future__ import annotations

import numpy as np
from keras import layers as L

import wrt

from .battery import separated
from .test_architectures import unet


def test_saved_model_as_a_layer(tmp_path):
    """`TFSMLayer`: the derivative goes through a SavedModel."""
    model = unet()
    model.export(tmp_path / "saved", verbose=False)
    layer = L.TFSMLayer(tmp_path / "saved", call_endpoint="serve")
    x = separated([(4, 4, 2)])[0].astype("float32")
    np.testing.assert_allclose(wrt.jacobian(layer, x), wrt.jacobian(model, x), rtol=1e-4, atol=1e-6)
