"""Keras models: reading their files."""

from __future__ import annotations

import importlib.util
import zipfile
from pathlib import Path
from typing import Any

from wrt.errors import EngineNotInstalledError, FileError

HDF5 = b"\x89HDF\r\n\x1a\n"
TRUST = "if you trust where it comes from, pass trust=True (on the command line --trust)"


def read(path: Path, trust: bool) -> Any:
    """The model in a `.keras` or `.h5` file, not compiled; only a trusted one may bring Python code along.

    Raises:
        FileError: not such a file, cut off, code inside without `trust`, or a class that is not registered.
        EngineNotInstalledError: Keras, or the backend that it is set to, is missing.
    """
    _check_container(path)
    keras = _keras()
    own = _own_models()
    try:
        return keras.saving.load_model(path, own, compile=False, safe_mode=not trust)
    except Exception as error:  # Keras and h5py raise whatever they meet
        raise FileError(f"{path}: {_reason(error)}") from error


def _own_models() -> dict[str, Any]:
    """The models that this library saves; Keras knows them by name once they are imported, but not in HDF5 files."""
    modules = {"keras": ("AugNet", "DerivativeModel"), "penalize": ("PenalizedModel",)}
    found = {name: importlib.import_module(f"wrt.models.{name}") for name in modules}
    return {own: getattr(found[name], own) for name, names in modules.items() for own in names}


def _check_container(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(len(HDF5))
    if path.suffix == ".keras" and not zipfile.is_zipfile(path):
        cut = "it is cut off or damaged" if head.startswith(b"PK") else f"it begins with {head!r}"
        raise FileError(
            f"{path}: a .keras file is a zip archive, and this is none ({cut}); save or copy the model again"
        )
    if path.suffix != ".keras" and head != HDF5:
        raise FileError(f"{path}: a {path.suffix} file is in HDF5 format, and this is not (it begins with {head!r})")


def _keras() -> Any:
    if importlib.util.find_spec("keras") is None:
        raise EngineNotInstalledError("reading a Keras file needs Keras, which is missing: pip install 'wrt[jax]'")
    try:
        import keras
    except ImportError as error:
        raise EngineNotInstalledError(
            f"Keras cannot start its backend ({error}): pip install 'wrt[tensorflow]', or set KERAS_BACKEND to jax or "
            "torch (on the command line --engine) before Keras is imported"
        ) from error
    return keras


def _reason(error: Exception) -> str:
    text = str(error)
    if "Lambda" in text and "safe_mode" in text:
        return f"it holds a Lambda layer, Python code that loading would run; {TRUST}"
    if "safe_mode" in text:
        return f"loading it would run code that it brings along ({_first_line(error)}); {TRUST}"
    if "No model config" in text:
        return "it holds weights only; build the model and call its load_weights, or save the whole model as .keras"
    if any(sign in text for sign in ("could not be deserialized", "Unknown layer", "Could not locate")):
        return (
            f"it holds a class that Keras does not know ({_first_line(error)}); import the module that registers it "
            "with @keras.saving.register_keras_serializable, or give the model itself instead of the file"
        )
    return f"Keras cannot read it, it may be cut off or damaged ({_first_line(error)})"


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]
