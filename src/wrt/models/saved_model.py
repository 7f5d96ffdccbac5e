"""SavedModel folders from TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from wrt.errors import ExportError, reason
from wrt.models.portable import Portable

FOR_INFERENCE = tf.saved_model.SaveOptions(experimental_custom_gradients=False)


def write(model: Portable, part: Path, version: str) -> None:
    """Write a module with the signature `serving_default`, from named inputs to named outputs.

    Raises:
        ExportError: the model cannot be traced for an open number of samples.
    """
    module = tf.Module()
    module.weights = [tf.Variable(w, trainable=False) for w in model.weights]
    module.wrt_version, module.what = (tf.Variable(text, trainable=False) for text in (version, model.what))
    specs = [tf.TensorSpec((None, *port.shape), port.dtype, name=port.name) for port in model.inputs]

    @tf.function(input_signature=specs, autograph=False)
    def serve(*arrays: Any) -> dict[str, Any]:
        outputs = model.function([tf.convert_to_tensor(w) for w in module.weights], list(arrays))
        return dict(zip(model.outputs, outputs, strict=True))

    try:
        tf.saved_model.save(module, str(part), signatures={"serving_default": serve}, options=FOR_INFERENCE)
    except Exception as error:
        raise ExportError(f"the model cannot be traced for any number of samples: {reason(error)}") from error


def load(path: Path) -> Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]:
    """The signature `serving_default` of a folder."""
    module = tf.saved_model.load(str(path))

    def run(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        serve = module.signatures["serving_default"]  # the module keeps the variables alive
        return {k: a.numpy() for k, a in serve(**{k: tf.constant(a) for k, a in arrays.items()}).items()}

    return run
