"""`wrt export`: the file is what `wrt.export` writes, and every mistake is one line and an exit code."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import ENGINE
from exported import error, run
from typer.testing import CliRunner

import wrt
from wrt.cli import options
from wrt.cli.app import app
from wrt.io import write_arrays

SUFFIX = {"jax": ".stablehlo", "torch": ".onnx", "tensorflow": ""}[ENGINE]
X = np.random.default_rng(3).normal(size=(5, 3)).astype("float32")
U = np.random.default_rng(4).normal(size=(5, 2)).astype("float32")


@pytest.fixture
def model(tmp_path, monkeypatch):
    """In a folder with its file and its data."""
    monkeypatch.chdir(tmp_path)
    layers = [keras.layers.Dense(4, activation="tanh", name="hidden"), keras.layers.Dense(2)]
    made = keras.Sequential([keras.Input((3,)), *layers])
    made.save("net.keras")
    write_arrays("x.npy", X)
    return made


def command(*words):
    """Exit code, standard output, standard error without line breaks."""
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["export", *words])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, " ".join(done.stderr.split())


ASKED = {
    "model": (["--what", "model"], lambda m: m.predict(X, verbose=0)),
    "gradient": (["--of", "1", "--like", "x.npy"], lambda m: wrt.gradient(m, X, 1)),
    "jacobian": (["--what", "jacobian", "--wrt", "layer:hidden"], lambda m: wrt.jacobian(m, X, wrt="hidden")),
    "backward": (["--what", "backward"], lambda m: wrt.vjp(m, X, U)),
}


@pytest.mark.parametrize("what", ASKED)
def test_export(model, what):
    words, wanted = ASKED[what]
    code, out, err = command("net.keras", "-o", f"file{SUFFIX}", *words)
    assert (code, err) == (0, "")
    assert out.split()[:6] == "compared with autodiff on new samples,".split()
    assert out.split()[-2:] == ["written", f"file{SUFFIX}"]
    (found,) = run(Path(f"file{SUFFIX}"), {"x": X, **({"cotangent": U} if what == "backward" else {})}).values()
    assert error(found, wanted(model)) < 1e-5


MISTAKES = {
    "what": (["--what", "jacobain"], "--what jacobain: expected gradient, jacobian, backward, model. Did you mean"),
    "of the model": (["--what", "model", "--of", "1"], "--of 1: belongs to a derivative; leave --what model out"),
    "unit": (["--of", "2"], "of=2 is out of range"),
    "data missing": (["--like", "y.npy"], "y.npy: no such data file. Did you mean 'x.npy'"),
    "suffix": (["-o", "file.pb"], "file.pb: cannot export to the suffix '.pb'"),
    "place": (["-o", "no/file.onnx"], "no/file.onnx: there is no folder 'no'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(model, mistake):
    words, message = MISTAKES[mistake]
    before = sorted(os.listdir())
    code, _, err = command("net.keras", *(() if "-o" in words else ("-o", f"file{SUFFIX}")), *words)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize(
    ("name", "backend", "engine"),
    [
        ("g.onnx", "", "torch"),
        ("g.stablehlo", "", "jax"),
        ("g", "", "tensorflow"),
        ("g.pb", "", None),
        ("g.onnx", "jax", None),
    ],
)
def test_engine_that_writes(monkeypatch, name, backend, engine):
    monkeypatch.setenv("KERAS_BACKEND", backend)
    assert options.engine_of(Path(name)) == engine


if ENGINE == "torch":  # from other engines: tests/test_export_rebuilt.py

    def test_a_process_of_its_own(model):
        """As a user does it; nothing but the table is said."""
        words = ["-m", "wrt", "export", "net.keras", "-o", "g.onnx", "--of", "1"]
        environment = {**os.environ, "KERAS_BACKEND": "torch"}
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True, env=environment)
        assert done.stderr == ""
        assert error(run(Path("g.onnx"), {"x": X})["gradient"], wrt.gradient(model, X, 1)) < 1e-5
