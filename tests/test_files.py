"""Reading and writing files: what is right comes back, everything else is an error that names the file."""

import contextlib
import importlib.util
import os
import subprocess
import sys
import zipfile
from unittest.mock import Mock

import keras
import numpy as np
import pytest
import torch

import wrt
from wrt.errors import EngineNotInstalledError, FileError
from wrt.io import output_file, read_arrays, write_arrays

X = np.random.default_rng(3).normal(size=(4, 3)).astype("float32")


def network():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(5, activation="tanh"), keras.layers.Dense(2)])


def with_lambda():
    return keras.Sequential([keras.Input((3,)), keras.layers.Lambda(lambda x: x * 2), keras.layers.Dense(2)])


@keras.saving.register_keras_serializable("tests")
class Twice(keras.layers.Layer):
    def call(self, x):
        return x * 2


def refuses(function, *words):
    with pytest.raises(FileError) as caught:
        function()
    for word in words:
        assert word in str(caught.value)


def export(path, fixed=False):
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Dropout(0.5), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    module.eval()
    shapes = None if fixed else ({0: torch.export.Dim("samples")},)
    torch.export.save(torch.export.export(module, (torch.zeros(5, 3),), dynamic_shapes=shapes), path)
    return module


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_keras_files(tmp_path, suffix):
    model, path = network(), tmp_path / f"net{suffix}"
    model.save(path)
    loaded = wrt.load_model(path)
    assert np.array_equal(loaded.predict_on_batch(X), model.predict_on_batch(X))
    assert np.array_equal(wrt.jacobian(loaded, X), wrt.jacobian(model, X))


def test_torch_program(tmp_path):
    module = export(tmp_path / "net.pt2")
    loaded = wrt.load_model(tmp_path / "net.pt2", trust=True)
    assert np.allclose(wrt.jacobian(loaded, X), wrt.jacobian(module, X), atol=1e-6)


def test_torch_program_needs_trust(tmp_path):
    export(tmp_path / "net.pt2")
    refuses(lambda: wrt.load_model(tmp_path / "net.pt2"), "net.pt2", "unpickles", "trust=True", "--trust")


def test_torch_program_of_one_size(tmp_path):
    export(tmp_path / "net.pt2", fixed=True)
    refuses(lambda: wrt.load_model(tmp_path / "net.pt2", trust=True), "net.pt2", "5 sample(s)", "dynamic_shapes")


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_lambda_layer_needs_trust(tmp_path, suffix):
    model, path = with_lambda(), tmp_path / f"net{suffix}"
    model.save(path)
    refuses(lambda: wrt.load_model(path), path.name, "Lambda layer", "trust=True", "--trust")
    loaded = wrt.load_model(path, trust=True)
    assert np.allclose(loaded.predict_on_batch(X), model.predict_on_batch(X))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_unknown_class(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"net{suffix}"
    keras.Sequential([keras.Input((3,)), Twice()]).save(path)
    assert wrt.load_model(path).output_shape == (None, 3)
    monkeypatch.delitem(keras.saving.get_custom_objects(), "tests>Twice")
    monkeypatch.setattr(Twice, "__module__", "nowhere")
    refuses(lambda: wrt.load_model(path), path.name, "register_keras_serializable")


@pytest.mark.parametrize("suffix", [".keras", ".h5", ".pt2"])
@pytest.mark.parametrize("keep", [0, 1, 40, 0.5, 0.95])
def test_cut_off_model(tmp_path, suffix, keep):
    path = tmp_path / f"net{suffix}"
    export(path) if suffix == ".pt2" else network().save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if keep < 1 else keep])
    refuses(lambda: wrt.load_model(path, trust=True), path.name, "empty" if keep == 0 else "")


def test_damaged_model(tmp_path):
    path = tmp_path / "net.keras"
    network().save(path)
    content = bytearray(path.read_bytes())
    content[120:180] = b"x" * 60
    path.write_bytes(content)
    refuses(lambda: wrt.load_model(path), "net.keras", "damaged")


@pytest.mark.parametrize(("suffix", "word"), [(".keras", "zip"), (".h5", "HDF5"), (".pt2", "cannot read")])
def test_other_content(tmp_path, suffix, word):
    path = tmp_path / f"net{suffix}"
    path.write_text("<html>404: no such model, but enough text to look like one</html>")
    refuses(lambda: wrt.load_model(path, trust=True), path.name, word)


def test_weights_only(tmp_path):
    network().save_weights(tmp_path / "net.weights.h5")
    refuses(lambda: wrt.load_model(tmp_path / "net.weights.h5"), "net.weights.h5", "weights only", "load_weights")


def test_missing_model(tmp_path):
    network().save(tmp_path / "network.keras")
    refuses(lambda: wrt.load_model(tmp_path / "netwrk.keras"), "netwrk.keras", "no such", "'network.keras'")
    refuses(lambda: wrt.load_model(tmp_path / "no" / "net.keras"), "There is no folder", str(tmp_path / "no"))


def test_saved_model_folder(tmp_path):
    (tmp_path / "saved").mkdir()
    refuses(lambda: wrt.load_model(tmp_path / "saved"), "saved: a folder", "save the Keras model as .keras")
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"x")
    refuses(lambda: wrt.load_model(tmp_path / "saved"), "SavedModel", "own tool", ".keras")


@pytest.mark.parametrize("name", ["net.pt", "net.onnx", "net"])
def test_unknown_suffix(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK")
    refuses(lambda: wrt.load_model(tmp_path / name), name, "own tool", ".keras, .h5")


@pytest.mark.parametrize(("package", "file"), [("keras", "net.keras"), ("torch", "net.pt2")])
def test_framework_missing(tmp_path, monkeypatch, package, file):
    network().save(tmp_path / "net.keras")
    export(tmp_path / "net.pt2")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == package else find(name, *more))
    with pytest.raises(EngineNotInstalledError, match="pip install 'wrt"):
        wrt.load_model(tmp_path / file, trust=True)


def test_backend_missing(tmp_path):
    """Keras is there, but not the backend that it is set to."""
    network().save(tmp_path / "net.keras")
    script = (
        "import sys, wrt; sys.modules['jax'] = None\n"
        f"try: wrt.load_model({str(tmp_path / 'net.keras')!r})\n"
        "except wrt.errors.EngineNotInstalledError as error: print(error)"
    )
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert "KERAS_BACKEND" in done.stdout
    assert "pip install" in done.stdout


def test_load_model_imports_nothing_before_it_must(tmp_path):
    script = "import sys, wrt; wrt.load_model; print({'keras', 'torch', 'jax', 'tensorflow'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.strip() == "set()"


@pytest.mark.parametrize(
    "value", [X, X[:0], np.arange(6).reshape(2, 3), np.float64(3.0)], ids=["2", "empty", "int", "0"]
)
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_array_back_and_forth(tmp_path, value, suffix):
    path = tmp_path / f"data{suffix}"
    write_arrays(path, value)
    back = read_arrays(path)
    assert np.array_equal(back, value)
    assert back.dtype == value.dtype
    assert back.shape == value.shape


def test_nest_is_written_by_path(tmp_path):
    write_arrays(tmp_path / "data.npz", {"jacobian": {"q": [X, X + 1]}, "file": X[:1]})
    back = read_arrays(tmp_path / "data.npz")
    assert list(back) == ["jacobian/q/0", "jacobian/q/1", "file"]
    assert np.array_equal(back["jacobian/q/1"], X + 1)
    assert np.array_equal(read_arrays(tmp_path / "data.npz", "file"), X[:1])
    assert os.listdir(tmp_path) == ["data.npz"]


def test_numpy_reads_what_is_written(tmp_path):
    write_arrays(tmp_path / "data.npz", {"a": X})
    with np.load(tmp_path / "data.npz") as archive:
        assert np.array_equal(archive["a"], X)


def test_several_arrays_need_npz(tmp_path):
    refuses(lambda: write_arrays(tmp_path / "data.npy", {"a": X, "b": X}), "data.npy", "2", ".npz")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_objects_are_never_pickled(tmp_path, suffix):
    path, objects = tmp_path / f"data{suffix}", np.array([{"a": 1}, None], dtype=object)
    np.save(path, objects) if suffix == ".npy" else np.savez(path, x=objects)
    refuses(lambda: read_arrays(path), path.name, "Python objects", "unpickling is never done")
    refuses(lambda: write_arrays(tmp_path / f"new{suffix}", objects), f"new{suffix}", "Object")
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("keep", [0, 4, 0.5, 0.95])
def test_cut_off_data(tmp_path, suffix, keep):
    path = tmp_path / f"data{suffix}"
    write_arrays(path, np.zeros((50, 3)))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if keep < 1 else keep])
    refuses(lambda: read_arrays(path), path.name)


def test_damaged_archive(tmp_path):
    path = tmp_path / "data.npz"
    write_arrays(path, {"a": np.zeros(500)})
    content = bytearray(path.read_bytes())
    content[1000] = 7
    path.write_bytes(content)
    refuses(lambda: read_arrays(path), "data.npz", "damaged")


def test_no_array(tmp_path):
    zipfile.ZipFile(tmp_path / "data.npz", "w").close()
    refuses(lambda: read_arrays(tmp_path / "data.npz"), "data.npz", "no array")
    (tmp_path / "data.csv").write_text("1,2")
    refuses(lambda: read_arrays(tmp_path / "data.csv"), "data.csv", ".npy or .npz")
    refuses(lambda: read_arrays(tmp_path / "dat.npz"), "dat.npz", "no such", "'data.npz'")
    refuses(lambda: read_arrays(tmp_path), "suffix")


def test_keys(tmp_path):
    write_arrays(tmp_path / "data.npz", {"x_train": X, "x_test": X})
    write_arrays(tmp_path / "data.npy", X)
    refuses(lambda: read_arrays(tmp_path / "data.npz", "x_tst"), "data.npz", "no array 'x_tst'", "'x_test'")
    refuses(lambda: read_arrays(tmp_path / "data.npy", "x"), "data.npy", "one array", "'x'")


class CutOff(BaseException):
    """As KeyboardInterrupt: not an Exception."""


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("saved", [False, True], ids=["before", "after"])
def test_cut_off_write_keeps_what_was_there(tmp_path, suffix, saved):
    path = tmp_path / f"data{suffix}"
    write_arrays(path, X)
    before = path.read_bytes()
    with contextlib.suppress(CutOff), output_file(path) as save:
        if saved:
            save(X + 1)
        raise CutOff
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_nothing_saved_writes_nothing(tmp_path):
    with output_file(tmp_path / "data.npz"):
        assert len(os.listdir(tmp_path)) == 1  # the temporary file proves that the folder can be written
    assert os.listdir(tmp_path) == []


def test_errors_of_the_computation_are_its_own(tmp_path):
    with pytest.raises(ConnectionError), output_file(tmp_path / "data.npz"):
        raise ConnectionError("mine")


def test_full_disk(tmp_path, monkeypatch):
    write_arrays(tmp_path / "data.npy", X)
    monkeypatch.setattr(np.lib.format, "write_array", Mock(side_effect=OSError(28, "No space left")))
    refuses(lambda: write_arrays(tmp_path / "data.npy", X + 1), "data.npy", "No space left")
    assert np.array_equal(read_arrays(tmp_path / "data.npy"), X)
    assert os.listdir(tmp_path) == ["data.npy"]


def unwritable(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.npz").mkdir()
    return {
        "no folder": (tmp_path / "no" / "out.npz", "make it first"),
        "a file as folder": (tmp_path / "file" / "out.npz", "no folder"),
        "a folder": (tmp_path / "folder.npz", "is a folder"),
        "suffix": (tmp_path / "out.csv", ".npz, or .npy"),
        "no permission": (type(tmp_path)("/proc/out.npz"), "cannot be written"),
    }


@pytest.mark.parametrize("case", ["no folder", "a file as folder", "a folder", "suffix", "no permission"])
def test_unwritable_before_anything_is_computed(tmp_path, case):
    path, words = unwritable(tmp_path)[case]

    def compute():
        with output_file(path):
            pytest.fail("the body ran")

    refuses(compute, str(path), words)
