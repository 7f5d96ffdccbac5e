"""What cannot be exported: a named error, nothing half-written, and what was there before stays."""

import dataclasses
import importlib.util
import types

import keras
import numpy as np
import pytest
from conftest import ENGINE
from keras import layers as L
from subjects import keras_net, points

import wrt
from wrt.errors import (
    DtypeError,
    EngineNotInstalledError,
    ExportError,
    FileError,
    InputError,
    ModelError,
    OptionError,
    SelectionError,
)
from wrt.models import export as exporting

SUFFIX = {"jax": ".stablehlo", "torch": ".onnx", "tensorflow": ""}[ENGINE]
FOREIGN = {"jax": "", "torch": ".stablehlo", "tensorflow": ".stablehlo"}[ENGINE]
X = points(4, seed=3).astype("float32")


def net():
    return keras_net("float32")


def open_net():
    """A length that is not fixed."""
    return keras.Sequential([keras.Input((None, 3)), L.Conv1D(2, 2), L.GlobalAveragePooling1D()])


def tokens_net():
    return keras.Sequential(
        [keras.Input((4,), dtype="int32"), L.Embedding(9, 3, name="words"), L.Flatten(), L.Dense(1)]
    )


MISTAKES = {
    "what": (net, {"what": "gradients"}, OptionError, "Did you mean 'gradient'"),
    "wrt alone": (net, {"wrt": 0}, SelectionError, "wrt=0 belongs to a derivative"),
    "of missing": (net, {"what": "gradient"}, SelectionError, "of= must say which scalar"),
    "of out of range": (net, {"of": 4}, SelectionError, "of=4 is out of range"),
    "labels": (net, {"of": np.array([0, 1, 1, 0])}, SelectionError, "labels of the samples in like"),
    "no sample": (net, {"like": X[:0]}, InputError, "like holds no sample"),
    "another shape": (net, {"like": X[:, :2], "of": 1}, InputError, r"has shape \(4, 2\); expected \(N, 3\)"),
    "NaN": (net, {"like": X * np.nan}, ExportError, "no finite number"),
    "no shape": (open_net, {"like": None, "of": 1}, InputError, "like= is missing"),
    "integers": (tokens_net, {"like": None, "what": "gradient"}, DtypeError, "choose wrt='words'"),
    "no model": (lambda: 3, {}, ModelError, "model is int 3"),
}


@pytest.mark.filterwarnings("ignore::wrt.errors.NonFiniteWarning")
@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(tmp_path, mistake):
    make, options, kind, message = MISTAKES[mistake]
    with pytest.raises(kind, match=message):
        wrt.export(make(), tmp_path / f"file{SUFFIX}", **{"like": X, **options})
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("net.pb", "cannot export to the suffix '.pb'; expected .onnx"),
        (f"no/folder/net{SUFFIX}", "there is no folder"),
        ("taken.onnx", "is a folder"),
        ("taken", "holds other things"),
    ],
)
def test_places(tmp_path, name, message):
    for folder in ("taken", "taken.onnx"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine").write_text("kept")
    with pytest.raises(FileError, match=message):
        wrt.export(net(), tmp_path / name, X)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["mine", "mine", "taken", "taken.onnx"]


def test_another_engine(tmp_path):
    with pytest.raises(ExportError, match=f"this keras runs on {ENGINE}; run Keras on"):
        wrt.export(net(), tmp_path / f"file{FOREIGN}", X)
    with pytest.raises(ExportError, match="ONNX is written from torch"):
        wrt.export(lambda x: x * 2, tmp_path / "file.onnx", X)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("onnxscript", r"ONNX files need onnxscript, which is missing: pip install 'wrt\[export\]'"),
        ("torch", r"ONNX files are written by torch, which is missing: pip install 'wrt\[torch,export\]'"),
    ],
)
def test_missing_package(tmp_path, monkeypatch, missing, message):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == missing else find(name, *rest))
    with pytest.raises(EngineNotInstalledError, match=message):
        wrt.export(net(), tmp_path / "file.onnx", X)
    assert not any(tmp_path.iterdir())


def frozen(write):
    """A writer in whose function the first answer has become a constant."""

    def broken(source, part, version):
        engine, like = source.engine, source.like
        (constant,) = source.truth([*like])

        def function(weights, arrays):
            row = engine.asarray(constant[:1], "float32", arrays[0])
            return [row + 0 * arrays[0]]

        write(dataclasses.replace(source, function=function), part, version)

    return broken


def test_a_frozen_gradient_never_passes(tmp_path, monkeypatch):
    """An older file at the same place is left as it was."""
    model, path = net(), tmp_path / f"file{SUFFIX}"
    wrt.export(model, path, X)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    module = exporting._module(exporting.FORMATS[SUFFIX])
    monkeypatch.setattr(module, "write", frozen(module.write))
    with pytest.raises(ExportError, match="computes something else: on 1 new samples 'gradient' is off by"):
        wrt.export(model, path, X, of=1)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    ("truth", "least", "most"),
    [
        (lambda x: np.where(x >= 1, 1.0, 0.999), 2e-3, 1e-2),  # at a kink
        (lambda x: np.where(x >= 1, 1.0, 0.0), 1e-2, 1e-2),  # never more than this is forgiven
        (lambda x: x**3, 0.0, 1e-4),
    ],
)
def test_jumps_of_the_truth(truth, least, most):
    source = types.SimpleNamespace(outputs=("y",), truth=lambda arrays: [truth(arrays[0])])
    x = np.ones((5, 3))
    assert least <= exporting._jump(source, [x], [truth(x)]) <= most


@pytest.mark.parametrize(
    ("offs", "passes"), [([0.05, 0.0], True), ([0.05] * exporting.DRAWS, False), ([0.5, 0.0], False)]
)
def test_other_samples_only_for_what_may_be_a_kink(offs, passes):
    """Off by 5 % on some samples and right on others: a kink. Off on all, or by half: another function."""
    port = types.SimpleNamespace(name="x", dtype="float32")
    source = types.SimpleNamespace(
        outputs=("y",), inputs=(port,), like=(np.ones((2, 3), np.float32),), truth=lambda arrays: [arrays[0] ** 2]
    )
    left = iter(offs)
    error, _ = exporting._off(lambda fed: {"y": fed["x"] ** 2 * (1 + next(left))}, exporting.ONNX, source, 5, 1e-4)
    assert (error <= 1e-4) == passes
