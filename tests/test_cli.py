"""The command line: what it writes is what the functions give, and every mistake is one line and an exit code."""

import os
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import torch
from conftest import ENGINE
from typer.testing import CliRunner

import wrt
from wrt.cli import options
from wrt.cli.app import app
from wrt.errors import EngineNotInstalledError, FileError, OptionError, SelectionError
from wrt.io import read_arrays, write_arrays

X = np.random.default_rng(3).normal(size=(5, 3)).astype("float32")
OTHER = {"jax": "torch", "torch": "jax", "tensorflow": "jax"}[ENGINE]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a model of one input, a model of two, and their data."""
    monkeypatch.chdir(tmp_path)
    layers = [keras.layers.Dense(4, activation="tanh", name="hidden"), keras.layers.Dense(2), keras.layers.Softmax()]
    keras.Sequential([keras.Input((3,)), *layers]).save("net.keras")
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    keras.Model({"a": a, "b": b}, {"y": keras.layers.Dense(4)(keras.layers.concatenate([a, b])), "z": a * 2}).save(
        "two.keras"
    )
    write_arrays("x.npy", X)
    write_arrays("two.npz", {"a": X, "b": X[:, :2]})
    return tmp_path


def run(*words):
    """Exit code, standard output, standard error without line breaks."""
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, list(words))
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, " ".join(done.stderr.split())


@pytest.mark.parametrize("words", [["--help"], ["jacobian", "--help"], ["gradient", "--help"], ["check", "--help"]])
def test_help(words):
    code, out, _ = run(*words)
    assert code == 0
    assert "Usage" in out
    assert "--" in out


def test_help_of_the_demo_says_which_engine():
    assert "first that is installed of torch, jax, tensorflow" in " ".join(
        run("demo", "--help")[1].replace("│", "").split()
    )


def test_version():
    assert run("--version") == (0, f"wrt {wrt.__version__}\n", "")


def test_module_runs_as_a_command():
    done = subprocess.run([sys.executable, "-m", "wrt", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"wrt {wrt.__version__}"


def test_without_typer():
    script = "import sys; sys.modules['typer'] = None\nimport importlib.util as u\nfind = u.find_spec\n"
    script += "u.find_spec = lambda name: None if name == 'typer' else find(name)\nfrom wrt.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip() == "The command line needs typer: pip install 'wrt[cli]'"


def test_jacobian(here):
    code, out, _ = run("jacobian", "net.keras", "x.npy", "-o", "j.npz", "--batch-size", "2", "--max-memory", "1GiB")
    assert code == 0
    assert "(5, 2, 3)" in out
    assert "1.0 GiB allowed" in out
    found, model = read_arrays("j.npz"), wrt.load_model("net.keras")
    assert np.allclose(found["jacobian"], wrt.jacobian(model, X), atol=1e-6)
    assert np.allclose(found["output"], model.predict_on_batch(X), atol=1e-6)


def test_jacobian_as_npy(here):
    assert (
        run("jacobian", "net.keras", "x.npy", "-o", "j.npy", "--mode", "forward", "--of", "1", "--chunk", "2")[0] == 0
    )
    assert np.allclose(read_arrays("j.npy"), wrt.jacobian(wrt.load_model("net.keras"), X, 1), atol=1e-6)


def test_several_inputs_and_outputs(here):
    assert (
        run("jacobian", "two.keras", "two.npz", "-o", "j.npz", "--wrt", "b", "--wrt", "a", "--of", "output:y")[0] == 0
    )
    found, model = read_arrays("j.npz"), wrt.load_model("two.keras")
    wanted = wrt.jacobian(model, {"a": X, "b": X[:, :2]}, wrt.output("y"), wrt=["b", "a"])
    assert list(found) == ["jacobian/0", "jacobian/1", "output"]
    assert found["jacobian/0"].shape == (5, 4, 2)
    assert all(np.allclose(found[f"jacobian/{k}"], wanted[k], atol=1e-6) for k in (0, 1))


def test_gradient_of_labels(here):
    labels = np.array([0, 1, 1, 0, 1])
    write_arrays("labels.npy", labels)
    assert run("gradient", "net.keras", "x.npy", "-o", "g.npy", "--of", "labels.npy")[0] == 0
    assert np.allclose(read_arrays("g.npy"), wrt.gradient(wrt.load_model("net.keras"), X, labels), atol=1e-6)


def test_check(here):
    code, out, _ = run("check", "net.keras", "x.npy", "--of", "logit:0")
    assert code == 0
    assert "right" in out


def test_check_that_fails(here):
    """Samples that influence one another have no derivative of their own."""
    inputs = keras.Input((3,))
    mean = keras.ops.mean(inputs, axis=0, keepdims=True)
    keras.Model(inputs, inputs * 2 + mean).save("mixing.keras")
    code, out, _ = run("check", "mixing.keras", "x.npy")
    assert code == 1
    assert "influence one another" in out


def test_torch_program(here):
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Tanh()).eval()
    shapes = ({0: torch.export.Dim("n")},)
    torch.export.save(torch.export.export(module, (torch.zeros(4, 3),), dynamic_shapes=shapes), "net.pt2")
    code, _, err = run("jacobian", "net.pt2", "x.npy", "-o", "j.npy")
    assert (code, os.path.exists("j.npy")) == (2, False)
    assert "net.pt2: loading a .pt2 file unpickles" in err
    assert "--trust" in err
    assert run("jacobian", "net.pt2", "x.npy", "-o", "j.npy", "--trust")[0] == 0
    assert np.allclose(read_arrays("j.npy"), wrt.jacobian(module, X), atol=1e-6)
    assert "is a torch program" in run("jacobian", "net.pt2", "x.npy", "-o", "j.npy", "--engine", "jax")[2]


def test_lambda_layer(here):
    keras.Sequential([keras.Input((3,)), keras.layers.Lambda(lambda x: x * 2)]).save("code.keras")
    code, _, err = run("jacobian", "code.keras", "x.npy", "-o", "j.npy")
    assert code == 2
    assert "Lambda layer" in err
    assert run("jacobian", "code.keras", "x.npy", "-o", "j.npy", "--trust")[0] == 0
    assert np.array_equal(read_arrays("j.npy"), np.broadcast_to(2 * np.eye(3), (5, 3, 3)))


MISTAKES = {
    "model missing": (["nett.keras", "x.npy"], "nett.keras: no such model file. Did you mean 'net.keras'"),
    "data missing": (["net.keras", "y.npy"], "y.npy: no such data file. Did you mean 'x.npy'"),
    "data of another kind": (["net.keras", "x.csv"], "x.csv: cannot read data with the suffix '.csv'"),
    "model of another kind": (["net.onnx", "x.npy"], "net.onnx: cannot read a model with the suffix '.onnx'"),
    "shape": (["net.keras", "two.npz", "--key", "b"], "has shape (5, 2); expected (N, 3)"),
    "key": (["net.keras", "two.npz", "--key", "c"], "two.npz: it holds no array 'c'"),
    "unit": (["net.keras", "x.npy", "--of", "2"], "2 is out of range: the output has 2 units"),
    "of": (["net.keras", "x.npy", "--of", "mex"], "--of mex: expected 3, 0,3 (an index), max"),
    "wrt": (["net.keras", "x.npy", "--wrt", "hiden"], "Did you mean 'hidden'"),
    "mode": (["net.keras", "x.npy", "--mode", "revers"], "Did you mean 'reverse'"),
    "memory": (["net.keras", "x.npy", "--max-memory", "2XB"], "--max-memory 2XB: expected a size such as 2GiB"),
    "chunk": (["net.keras", "x.npy", "--chunk", "0"], "chunk=0; expected an integer of at least 1"),
    "engine": (["net.keras", "x.npy", "--engine", "jaxx"], "--engine jaxx: expected torch, jax, tensorflow"),
    "engine in use": (["net.keras", "x.npy", "--engine", OTHER], f"Keras is running on {ENGINE} already"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("command", ["jacobian", "gradient"])
def test_mistakes(here, mistake, command):
    words, message = MISTAKES[mistake]
    before = {path: path.read_bytes() for path in here.iterdir()}
    code, _, err = run(command, *words, *(() if "--of" in words else ("--of", "0")), "-o", "out.npz")
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert {path: path.read_bytes() for path in here.iterdir()} == before


def test_output_that_cannot_be_written_comes_first(here):
    code, _, err = run("jacobian", "nothing.keras", "x.npy", "-o", "no/folder/j.npz")
    assert code == 2
    assert err.startswith("no/folder/j.npz: there is no folder 'no/folder'")


def test_unknown_option(here):
    assert run("jacobian", "net.keras", "x.npy", "-o", "j.npz", "--nonsense")[0] == 2


def test_warnings_are_one_line(here):
    write_arrays("nan.npy", np.where(X > 1, np.nan, X))
    code, _, err = run("jacobian", "net.keras", "nan.npy", "-o", "j.npz")
    assert code == 0
    assert "NaN" in err
    assert "warnings.warn" not in err


def test_interrupt_keeps_what_was_there(here, monkeypatch):
    write_arrays("j.npz", X)
    before = set(os.listdir())

    def interrupted(*given, **options):
        assert len(os.listdir()) == len(before) + 1  # the temporary file
        raise KeyboardInterrupt

    monkeypatch.setattr(wrt, "plan_jacobian", interrupted)
    code, _, err = run("jacobian", "net.keras", "x.npy", "-o", "j.npz")
    assert code == 130
    assert "Interrupted" in err
    assert set(os.listdir()) == before
    assert np.array_equal(read_arrays("j.npz"), X)


def test_interrupt_from_the_keyboard(here):
    """The real signal, in a process of its own, while the model is loaded."""
    script = "import wrt, time, sys; wrt.load_model = lambda *a, **k: (print('here', flush=True), time.sleep(60))\n"
    script += "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # background jobs ignore it
    script += "from wrt.cli import main; main()"
    words = [sys.executable, "-c", script, "jacobian", "net.keras", "x.npy", "-o", "j.npz"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "here\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert not [name for name in os.listdir() if "j.npz" in name]


def test_demo(here):
    code, out, err = run("demo", "--out", "shown", "--steps", "30", "--seed", "2")
    assert code == 0, err
    assert sorted(os.listdir("shown")) == ["demo.png", "digits.keras", "jacobian.npz"]
    for word in ("accuracy", "(360, 10, 8, 8, 1)", "forward passes", "mode", "wrt.check", "shown/demo.png"):
        assert word in out
    assert f"Keras on {ENGINE}" in err


def test_demo_into_a_file(here):
    code, _, err = run("demo", "--out", "x.npy")
    assert code == 2
    assert "x.npy" in err
    assert np.array_equal(read_arrays("x.npy"), X)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (None, None),
        ("3", 3),
        ("-1", -1),
        ("0,3", (0, 3)),
        ("(0, 3)", (0, 3)),
        ("2,", (2,)),
        ("max", "max"),
        ("all", "all"),
        ("top:2", wrt.top(2)),
    ],
)
def test_of(text, value):
    assert options.parse_of(text) == value


@pytest.mark.parametrize(
    ("text", "kind", "name", "unit"),
    [
        ("logit:3", "Logit", None, 3),
        ("logit:max", "Logit", None, "max"),
        ("logit", None, None, None),
        ("layer:block/conv:2", "Layer", "block/conv", 2),
        ("layer:conv:0,1,2", "Layer", "conv", (0, 1, 2)),
        ("layer:conv", "Layer", "conv", None),
        ("output:price:0", "Output", "price", 0),
        ("output:1:top:2", "Output", 1, wrt.top(2)),
    ],
)
def test_of_by_name(text, kind, name, unit):
    if kind is None:
        with pytest.raises(SelectionError, match="--of logit: expected"):
            options.parse_of(text)
        return
    found = options.parse_of(text)
    assert type(found).__name__ == kind
    assert getattr(found, "name", None) == name
    assert found.unit == unit


@pytest.mark.parametrize("text", ["", "x", "top:", "top:x", "layer:", "output::3", "1;2", "3.0", "layer:a:b"])
def test_of_that_means_nothing(text):
    with pytest.raises(SelectionError, match=f"--of {text.split(':')[-1] if text == 'layer:a:b' else text}"):
        options.parse_of(text)


def test_of_labels_missing():
    with pytest.raises(FileError, match=r"nowhere.npy: no such data file"):
        options.parse_of("nowhere.npy")


@pytest.mark.parametrize(
    ("texts", "value"), [(None, None), ([], None), (["a"], "a"), (["1"], 1), (["a", "1"], ["a", 1])]
)
def test_wrt(texts, value):
    assert options.parse_wrt(texts) == value


def test_wrt_layer():
    assert options.parse_wrt(["layer:block/conv"]).name == "block/conv"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4096", 4096),
        ("2GiB", 2**31),
        ("1.5 MiB", 3 * 2**19),
        ("500MB", 500_000_000),
        ("1g", 2**30),
        ("7B", 7),
        (None, None),
    ],
)
def test_memory(text, value):
    assert options.parse_memory(text) == value


@pytest.mark.parametrize("text", ["", "GiB", "-1", "2 giga", "0", "1e9"])
def test_memory_that_means_nothing(text):
    with pytest.raises(OptionError, match="--max-memory"):
        options.parse_memory(text)


def backend(monkeypatch, variable, installed):
    """What `--engine` has to go by: the environment, and what is installed; Keras is not imported yet."""
    monkeypatch.delitem(sys.modules, "keras")
    monkeypatch.setattr(options, "_installed", installed.__contains__)
    monkeypatch.setenv("KERAS_BACKEND", variable)


@pytest.mark.parametrize(
    ("asked", "variable", "installed", "used"),
    [
        ("jax", "torch", ("torch", "jax"), "jax"),
        (None, "tensorflow", ("torch", "tensorflow"), "tensorflow"),
        (None, "", ("torch", "jax", "tensorflow"), "torch"),
        (None, "", ("tensorflow", "jax"), "jax"),
        (None, "", ("tensorflow",), "tensorflow"),
    ],
)
def test_engine(monkeypatch, asked, variable, installed, used):
    backend(monkeypatch, variable, installed)
    assert options.use_engine(asked) == used
    assert os.environ["KERAS_BACKEND"] == used


@pytest.mark.parametrize(("asked", "variable"), [("jax", ""), (None, "jax")])
def test_engine_not_installed(monkeypatch, asked, variable):
    backend(monkeypatch, variable, ("torch",))
    with pytest.raises(EngineNotInstalledError, match=r"jax is not installed: pip install 'wrt\[jax\]'"):
        options.use_engine(asked)
