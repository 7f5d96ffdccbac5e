"""Models from files, arrays from and to files; nothing is unpickled unless it is trusted."""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from wrt.errors import FileError, suggest
from wrt.files import failures_of, whole_file
from wrt.models import keras_files, torch_files
from wrt.trees import flatten, path_name

READERS: dict[str, Callable[[Path, bool], Any]] = {
    ".keras": keras_files.read,
    ".h5": keras_files.read,
    ".hdf5": keras_files.read,
    ".pt2": torch_files.read,
}
Path_ = str | os.PathLike[str]


def load_model(path: Path_, *, trust: bool = False) -> Any:
    """Read a model from a file: `.keras` or `.h5` (on the backend that Keras runs on), or `.pt2` of `torch.export`.

    Code in a file is not run unless `trust` is true: Keras reads in safe mode, and a `.pt2` file, which is a pickle
    inside, is refused.

    Raises:
        FileError: no such file, another format, cut off, or in need of trust.
        EngineNotInstalledError: the framework of the file is missing.

    Example:
        >>> import keras, tempfile, wrt
        >>> path = tempfile.mkdtemp() + "/net.keras"
        >>> keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(path)
        >>> wrt.load_model(path).output_shape
        (None, 2)
    """
    path = Path(path)
    if path.is_dir():
        raise FileError(_about_folder(path))
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise FileError(
            f"{path}: cannot read a model with the suffix {path.suffix!r}; expected {', '.join(READERS)}. Load it with "
            "its own tool and pass the model itself, or save it as .keras"
        )
    check_content(path, "model")
    return reader(path, trust)


def _about_folder(path: Path) -> str:
    kind = "a SavedModel folder" if (path / "saved_model.pb").exists() else "a folder"
    return (
        f"{path}: {kind}, expected a model file ({', '.join(READERS)}). Load it with its own tool "
        "(tf.saved_model.load, keras.layers.TFSMLayer) and pass that, or save the Keras model as .keras"
    )


def check_content(path: Path, what: str) -> None:
    """The file is there, can be opened and is not empty."""
    if not path.exists():
        folder = path.parent
        names = [p.name for p in folder.iterdir()] if folder.is_dir() else []
        hint = suggest(path.name, names) if folder.is_dir() else f" There is no folder {str(folder)!r}."
        raise FileError(f"{path}: no such {what} file.{hint}")
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise FileError(f"{path}: cannot be opened ({error.strerror})") from error
    if empty:
        raise FileError(f"{path}: the {what} file is empty")


def read_arrays(path: Path_, key: str | None = None) -> Any:
    """The array in a `.npy` file, or in a `.npz` file its only array, the one named `key`, or a dict of all.

    Raises:
        FileError: no such file, another format, cut off, arrays of Python objects, or no array `key`.
    """
    path = Path(path)
    if path.suffix not in (".npy", ".npz"):
        expected = "expected .npy or .npz, as np.save and np.savez write them"
        raise FileError(f"{path}: cannot read data with the suffix {path.suffix!r}; {expected}")
    if key is not None and path.suffix == ".npy":
        raise FileError(f"{path}: a .npy file holds one array without a name; leave the key {key!r} out")
    check_content(path, "data")
    try:
        return _read_npy(path) if key is None and path.suffix == ".npy" else _read_npz(path, key)
    except (ValueError, OSError, EOFError, KeyError, SyntaxError, zipfile.BadZipFile) as error:
        raise FileError(f"{path}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, FileError):  # without the name of the file so far
        return str(error)
    if "allow_pickle" in str(error) or "Python objects" in str(error):
        return "it holds Python objects or no array at all; expected numbers (unpickling is never done)"
    return f"NumPy cannot read it, it may be cut off or damaged ({str(error).splitlines()[0] or type(error).__name__})"


def _read_npy(path: Path) -> np.ndarray:
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _read_npz(path: Path, key: str | None) -> Any:
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError("a .npz file is a zip archive, and this is none")
    with np.load(path, allow_pickle=False) as archive:
        names = list(archive)
        if not names:
            raise FileError("it holds no array")
        if key is None:
            return archive[names[0]] if len(names) == 1 else {name: archive[name] for name in names}
        if key not in names:
            raise FileError(f"it holds no array {key!r}.{suggest(key, names)}")
        return archive[key]


@contextlib.contextmanager
def output_file(path: Path_) -> Iterator[Callable[[Any], None]]:
    """Yields `save(arrays)` for a `.npy` or `.npz` file, which is written whole or not at all.

    Raises:
        FileError: another suffix, several arrays for a `.npy` file, a disk that is full, or as in `whole_file`.
    """
    path = Path(path)
    if path.suffix not in (".npy", ".npz"):
        raise FileError(f"{path}: cannot write the suffix {path.suffix!r}; expected .npz, or .npy for a single array")
    with whole_file(path) as part:
        yield lambda arrays: _save(path, part, arrays)


def write_arrays(path: Path_, arrays: Any) -> None:
    """Write an array, or a nest of arrays under the names of their paths, whole or not at all.

    Raises:
        FileError: as in `output_file`.
    """
    with output_file(path) as save:
        save(arrays)


def _save(path: Path, part: Path, arrays: Any) -> None:
    leaves, structure = flatten(arrays)
    if path.suffix == ".npy" and len(leaves) != 1:
        raise FileError(f"{path}: a .npy file holds one array, and there are {len(leaves)}; write a .npz file")
    with failures_of(path), part.open("wb") as file:
        if path.suffix == ".npy":
            np.lib.format.write_array(file, np.asarray(leaves[0]), allow_pickle=False)
        else:
            _write_npz(file, dict(zip(map(path_name, structure.paths()), leaves, strict=True)))


def _write_npz(file: BinaryIO, arrays: dict[str, Any]) -> None:
    """`np.savez` takes arrays of objects, and no array called `file`."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
