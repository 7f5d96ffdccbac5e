"""A Keras model that runs on another backend, rebuilt on torch in a process of its own, for ONNX.

`python -m wrt.models.rebuild FOLDER` is that process: it reads the model and samples there, and writes the ONNX file.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from wrt.errors import ExportError, WrtError, reason
from wrt.models.derivative import Derivative
from wrt.models.portable import Portable, portable, question
from wrt.trees import Structure, unflatten

MODEL, SAMPLES, NOTES, RESULT, FAILURE = "model.keras", "like.npz", "notes.json", "model.onnx", "failure.txt"


def write(model: Any, derivative: Derivative | None, source: Portable, part: Path, version: str) -> None:
    """Write the ONNX file of a Keras model, or of a derivative of it, by way of torch.

    Raises:
        ExportError: the model cannot be saved, loaded on torch, or written from there.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _save(model, derivative, folder)
        np.savez(folder / SAMPLES, *source.like)
        notes = {"version": version, "structure": dataclasses.asdict(source.structure), "modules": _modules(model)}
        (folder / NOTES).write_text(json.dumps(notes))
        _run(folder)
        shutil.copyfile(folder / RESULT, part)


def _save(model: Any, derivative: Derivative | None, folder: Path) -> None:
    """As a Keras file: a derivative brings its own configuration along."""
    from wrt.models.keras import DerivativeModel

    try:
        saved = model if derivative is None else DerivativeModel(model, derivative)
        saved.save(folder / MODEL)
    except Exception as error:  # Keras raises whatever it meets
        raise ExportError(f"the model cannot be rebuilt on torch, for Keras cannot save it: {reason(error)}") from error


def _modules(model: Any) -> list[str]:
    """Where the classes of its layers are written, beside Keras."""
    layers = model._flatten_layers(include_self=True, recursive=True)
    found = {type(layer).__module__ for layer in layers}
    return sorted(name for name in found if name.split(".")[0] not in ("keras", "wrt", "__main__"))


def _run(folder: Path) -> None:
    path = os.pathsep.join(filter(None, sys.path))
    environment = {**os.environ, "KERAS_BACKEND": "torch", "PYTHONPATH": path}
    command = [sys.executable, "-m", "wrt.models.rebuild", str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        failure = folder / FAILURE
        said = failure.read_text() if failure.exists() else (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ExportError(f"rebuilt on torch: {said}")


def main(folder: Path) -> None:
    """The process on torch."""
    try:
        _export(folder)
    except WrtError as error:
        (folder / FAILURE).write_text(str(error))
        sys.exit(1)


def _export(folder: Path) -> None:
    from wrt.models import keras_files, onnx_export

    importlib.import_module("wrt.models.keras")  # its classes may be in the file
    notes = json.loads((folder / NOTES).read_text())
    for name in notes["modules"]:
        importlib.import_module(name)
    with np.load(folder / SAMPLES) as arrays:
        like = unflatten(_structure(notes["structure"]), list(arrays.values()))
    model = keras_files.read(folder / MODEL, trust=True)  # this process's parent wrote it
    source = portable(*question(model, None, None, None), like, tiled=True)
    onnx_export.write(source, folder / RESULT, notes["version"])


def _structure(found: dict[str, Any]) -> Structure:
    return Structure(found["kind"], tuple(found["keys"]), tuple(map(_structure, found["children"])))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
