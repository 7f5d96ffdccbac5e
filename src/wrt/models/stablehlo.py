"""StableHLO files from JAX, as `jax.export` writes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from wrt.errors import ExportError, reason
from wrt.models.portable import Portable


def write(model: Portable, part: Path, version: str) -> None:
    """Write a function from a dict of inputs to a dict of outputs; the name of the function says what it is.

    Raises:
        ExportError: the model cannot be traced for an open number of samples.
    """
    weights, ports = model.weights, model.inputs

    def function(inputs: dict[str, Any]) -> dict[str, Any]:
        outputs = model.function(weights, [inputs[port.name] for port in ports])
        return dict(zip(model.outputs, outputs, strict=True))

    function.__name__ = f"wrt_{version.replace('.', '_')}_{model.what}"
    (batch,) = jax.export.symbolic_shape("batch")
    like = {port.name: jax.ShapeDtypeStruct((batch, *port.shape), port.dtype) for port in ports}
    try:
        program = jax.export.export(jax.jit(function))(like)
    except Exception as error:
        raise ExportError(f"the model cannot be traced for any number of samples: {reason(error)}") from error
    part.write_bytes(program.serialize())


def load(path: Path) -> Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]:
    """The function in a StableHLO file, compiled by XLA."""
    program = jax.export.deserialize(bytearray(path.read_bytes()))
    return lambda arrays: {k: np.asarray(a) for k, a in program.call(dict(arrays)).items()}
