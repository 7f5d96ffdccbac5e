"""`wrt maximize`: numbers and pictures are those of `wrt.maximize`, and every mistake is one line and an exit code."""

import os
from pathlib import Path

import keras
import numpy as np
import pytest
import torch
from conftest import ENGINE
from PIL import Image
from typer.testing import CliRunner

import wrt
from wrt.cli import maximize as command, options
from wrt.cli.app import app
from wrt.errors import OptionError, SelectionError
from wrt.io import read_arrays, write_arrays

FILES = ["history.png", "inputs.png", "maximize.npz"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a small classifier of images."""
    monkeypatch.chdir(tmp_path)
    layers = [keras.layers.Conv2D(2, 3, activation="tanh", name="edges"), keras.layers.Flatten()]
    keras.Sequential(
        [keras.Input((6, 5, 1)), *layers, keras.layers.Dense(4, activation="softmax", name="classes")]
    ).save("net.keras")
    return tmp_path


def run(*words):
    """Exit code, standard output, standard error without line breaks."""
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["maximize", *words])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, " ".join(done.stderr.split())


def table(out):
    """The rows of the table that is printed."""
    return [line.split() for line in out.splitlines() if line[:1] == " " and line.split()[0].isdecimal()]


def test_what_is_written(here):
    given = ["--probability", "0.7", "--learning-rate", "0.05", "--seed", "3", "--steps", "40"]
    code, out, err = run("net.keras", "--of", "0,1", "--of", "3", "-o", "out", *given)
    assert (code, err) == (0, "")
    assert sorted(os.listdir("out")) == FILES
    model = wrt.load_model("net.keras")
    wanted = wrt.maximize(model, [0, 1, 3], probability=0.7, learning_rate=0.05, seed=3, steps=40)
    assert wanted.reached.all()
    found = read_arrays("out/maximize.npz")
    assert np.allclose(found["x"], wanted.x, atol=1e-5)
    for name, line in wanted.history.items():
        assert np.allclose(found[f"history/{name}"], line, atol=1e-5)
    assert np.allclose(found["before"], wanted.before, atol=1e-5)
    assert np.allclose(found["after"], keras.ops.convert_to_numpy(model(found["x"])), atol=1e-5)
    assert (found["units"].tolist(), float(found["wanted"]), str(found["stopped"])) == ([0, 1, 3], 0.7, "reached")
    assert np.array_equal(found["steps"], wanted.steps)
    assert found["reached"].all()
    for row, (unit, before, after, steps, reached) in enumerate(table(out)):
        assert (int(unit), int(steps), reached) == ([0, 1, 3][row], wanted.steps[row], "yes")
        assert np.allclose([float(before), float(after)], [found[n][row, int(unit)] for n in ("before", "after")], 2e-3)
    assert len(table(out)) == 3
    assert "reached 0.7" in out
    for name in FILES[:2]:
        assert np.asarray(Image.open(f"out/{name}").convert("L")).min() < 128


if ENGINE == "torch":  # the rest is the same on every engine

    @pytest.fixture
    def asked(monkeypatch):
        """What `wrt.maximize` was asked for, and what it found."""
        found, maximize = [], wrt.maximize

        def kept(model, of, **given):
            found.append((of, given, maximize(model, of, **given)))
            return found[-1][-1]

        monkeypatch.setattr(wrt, "maximize", kept)
        return found

    def test_options(here, asked):
        write_arrays("near.npy", np.full((1, 6, 5, 1), 0.25, "float32"))
        write_arrays("start.npy", np.full((1, 6, 5, 1), 0.5, "float32"))
        words = ["--regularizer", "blur=0.1,2", "--regularizer", "near=near.npy,0.5", "--transform", "scale=0.9,1.1"]
        words += ["--transform", "jitter=2", "--bounds", "-1", "1.5", "--seed", "5", "--optimizer", "sgd"]
        words += ["--steps", "3", "--learning-rate", "0.25", "--init", "start.npy"]
        code, out, err = run("net.keras", "--of", "layer:edges:1", "-o", "out", *words)
        assert (code, err) == (0, "")
        ((of, given, found),) = asked
        assert (of.name, of.unit) == ("edges", 1)
        blur, near = given["regularizers"]
        assert (blur.name, blur.weight, blur.options) == ("blur", 0.1, (2.0,))
        assert (near.name, near.weight, near.reference.max()) == ("near", 0.5, 0.25)
        assert [move.name for move in given["transforms"]] == ["scale", "jitter"]
        assert (given["bounds"], given["seed"], given["optimizer"]) == ((-1.0, 1.5), 5, "sgd")
        assert (given["steps"], given["learning_rate"], given["init"].max()) == (3, 0.25, 0.5)
        best = found.history["loss"][:, 0].argmin()
        ((unit, *values, steps),) = table(out)
        assert (unit, steps) == ("1", "3")
        assert np.allclose(list(map(float, values)), found.history["objective"][[0, best], 0], rtol=1e-3)
        assert "objective before" in out

    def test_the_best_is_told_and_not_the_last(here, asked):
        words = ["--steps", "6", "--learning-rate", "30", "--optimizer", "sgd", "--regularizer", "l2=1"]
        code, out, _ = run("net.keras", "--of", "logit:1,2", "-o", "out", *words)
        assert code == 0
        line, loss = (asked[0][2].history[name] for name in ("objective", "loss"))
        best = loss.argmin(0)
        assert (best < 6).all()
        told = np.array([[float(value) for value in row[1:3]] for row in table(out)])
        assert np.allclose(told, np.stack([line[0], line[best, [0, 1]]], 1), rtol=1e-3)

    def test_going_on_from_an_earlier_run(here, asked):
        assert run("net.keras", "--of", "0,2", "-o", "out", "--steps", "2")[0] == 0
        assert run("net.keras", "--of", "0,2", "-o", "out", "--steps", "2", "--init", "out/maximize.npz")[0] == 0
        assert np.array_equal(asked[1][1]["init"], asked[0][2].x)

    def test_what_was_not_reached(here):
        code, out, err = run("net.keras", "--of", "0", "-o", "out", "--steps", "2", "--probability", "0.999")
        assert code == 0
        assert table(out)[0][-1] == "no"
        assert "1 of 1 did not reach 0.999; more --steps" in err

    def test_cut_off(here, monkeypatch):
        from wrt.engines import registry

        moves = []
        optimizer = registry.engine("torch").optimizer

        def interrupted(self, name, rate, params):
            made = optimizer(name, rate, params)
            step = made.step

            def stop(*given):
                moves.append(1)
                if len(moves) == 4:
                    raise KeyboardInterrupt
                return step(*given)

            made.step = stop
            return made

        monkeypatch.setattr(type(registry.engine("torch")), "optimizer", interrupted)
        code, _, err = run("net.keras", "--of", "0,1", "-o", "out", "--steps", "50", "--engine", "torch")
        assert code == 130
        assert "Interrupted after 3 of 50 steps; what was found until then is written." in err
        found = read_arrays("out/maximize.npz")
        assert found["history/loss"].shape == (4, 2)
        assert str(found["stopped"]) == "interrupted"
        assert sorted(os.listdir("out")) == FILES

    def test_whole_or_not_at_all(here, monkeypatch):
        assert run("net.keras", "--of", "0", "-o", "out", "--steps", "1")[0] == 0
        before = {path: path.read_bytes() for path in Path("out").iterdir()}

        def interrupted(*given, **options):
            raise KeyboardInterrupt

        monkeypatch.setattr(wrt.plots, "maps", interrupted)
        code, _, err = run("net.keras", "--of", "1", "-o", "out", "--steps", "1")
        assert code == 130
        assert "Interrupted; nothing half-written is left" in err
        assert {path: path.read_bytes() for path in Path("out").iterdir()} == before
        assert sorted(os.listdir()) == ["net.keras", "out"]

    def test_what_is_not_ours_stays_and_what_is_old_goes(here):
        keras.Sequential([keras.Input((12,)), keras.layers.Dense(2)]).save("flat.keras")
        Path("mine").mkdir()
        Path("mine/inputs.png").write_text("mine")
        code, _, err = run("net.keras", "--of", "0", "-o", "mine", "--steps", "1")
        assert code == 2
        assert "mine/inputs.png: is there already and of no earlier run; choose another folder" in err
        assert Path("mine/inputs.png").read_text() == "mine"
        assert run("net.keras", "--of", "0", "-o", "out", "--steps", "1")[0] == 0
        Path("out/notes.txt").write_text("mine")
        code, _, err = run("flat.keras", "--of", "0", "-o", "out", "--steps", "1")
        assert code == 0
        assert "No inputs.png: inputs of shape (12,) are no images; --shape, as in --shape 28x28, draws them" in err
        assert sorted(os.listdir("out")) == ["history.png", "maximize.npz", "notes.txt"]
        code, _, err = run("flat.keras", "--of", "0", "-o", "out", "--steps", "1", "--shape", "2x2x3")
        assert (code, err) == (0, "")
        assert "inputs.png" in os.listdir("out")
        code, _, err = run("flat.keras", "--of", "0", "-o", "out", "--steps", "1", "--shape", "5")
        assert code == 0  # what was found is not lost
        assert "No inputs.png: --shape (5, 5) does not fit inputs of shape (12,)" in err

    def test_a_torch_program_needs_trust_and_a_shape(here, monkeypatch):
        net = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.Flatten(), torch.nn.LazyLinear(3))
        x = torch.zeros(2, 3, 6, 6)
        net(x)
        shapes = ({0: torch.export.Dim("n")},)
        torch.export.save(torch.export.export(net.eval(), (x,), dynamic_shapes=shapes), "net.pt2")
        code, _, err = run("net.pt2", "--of", "1", "-o", "out")
        assert (code, os.path.exists("out")) == (2, False)
        assert "trust" in err
        write_arrays("like.npy", x.numpy())
        words = ["net.pt2", "--of", "1,2", "-o", "out", "--trust", "--steps", "2"]
        code, _, err = run(*words)
        assert (code, os.path.exists("out")) == (2, False)
        assert "does not tell the shape of its input" in err
        assert run(*words, "--like", "like.npy")[0] == 0
        assert read_arrays("out/maximize.npz", "x").shape == (2, 3, 6, 6)

    def test_many_rows(here, monkeypatch):
        drawn, draw = [], wrt.plots.maps
        monkeypatch.setattr(
            wrt.plots, "maps", lambda found, **given: drawn.append((found, given)) or draw(found, **given)
        )
        monkeypatch.setattr(command, "MOST_SHOWN", 3)
        monkeypatch.setattr(command, "MOST_TOLD", 2)
        write_arrays("units.npy", np.arange(6) % 4)
        words = ["--steps", "1", "--probability", "0.9"]
        code, out, _ = run("net.keras", "--of", "units.npy", "-o", "out", *words)
        assert code == 0
        assert len(table(out)) == 2
        assert "4 more, in maximize.npz" in out
        ((first, given),) = drawn
        assert ([len(a) for a in (first.x, first.after, first.units)], given["note"]) == ([3] * 3, "The first 3 of 6")
        assert read_arrays("out/maximize.npz", "units").tolist() == [0, 1, 2, 3, 0, 1]

    UNITS = {
        ("3",): 3,
        ("-1",): -1,
        ("0,2",): [0, 2],
        ("0, 2", "1"): [0, 2, 1],
        ("logit:1",): wrt.logit(1),
        ("logit:1,2", "logit:0"): wrt.logit([1, 2, 0]),
        ("layer:a/b:1", "layer:a/b:4"): wrt.layer("a/b", [1, 4]),
        ("layer:a:0,0,2",): wrt.layer("a", (0, 0, 2)),
        ("layer:a",): wrt.layer("a"),
        ("output:1:2",): wrt.output(1, 2),
    }

    @pytest.mark.parametrize("texts", UNITS)
    def test_units(texts):
        assert repr(options.parse_units(texts)) == repr(UNITS[texts])

    @pytest.mark.parametrize("texts", [("0", "logit:1"), ("layer:a:1", "layer:b:1"), ("layer:a:0,1", "layer:a:0,2")])
    def test_units_of_several_kinds(texts):
        with pytest.raises(SelectionError, match="several are single units of one kind"):
            options.parse_units(texts)

    def test_every_regulariser_and_transform_has_a_name():
        with pytest.raises(OptionError) as found:
            options.parse_made(["none"], "regularizer")
        for form in ("blur=WEIGHT[,WIDTH]", "l1=WEIGHT", "near=REFERENCE[,WEIGHT][,NORM]", "total_variation=WEIGHT"):
            assert form in str(found.value)
        with pytest.raises(
            OptionError, match=r"jitter=PIXELS, pad=PIXELS\[,VALUE\], rotate=DEGREES, scale=FACTORS,..."
        ):
            options.parse_made(["none"], "transform")

    MISTAKES = {
        "model": (["nett.keras"], "nett.keras: no such model file. Did you mean 'net.keras'"),
        "unit": (["--of", "4"], "of=4 is out of range: the output has 4 units"),
        "word": (["--of", "three"], "--of three: expected 3, 0,3 (an image for each)"),
        "highest": (["--of", "top:2"], "--of top:2: depends on the outputs of an input"),
        "probability": (["--probability", "1"], "probability=1.0 cannot be reached"),
        "probability of a sum": (["--of", "layer:edges:1", "--probability", "0.9"], "probability= needs of= to be a"),
        "steps": (["--steps", "0"], "steps=0"),
        "rate": (["--learning-rate", "0"], "learning_rate=0.0; expected a number above 0"),
        "optimizer": (["--optimizer", "adamm"], "optimizer='adamm' is not one of"),
        "bounds": (["--bounds", "1", "0"], "bounds=(1.0, 0.0); expected low < high"),
        "regularizer": (["--regularizer", "l3=1"], "--regularizer l3=1: expected one of"),
        "no weight": (["--regularizer", "l2"], "--regularizer l2: expected l2=WEIGHT"),
        "weight": (["--regularizer", "l2=much"], "--regularizer l2=much: weight='much'"),
        "file": (["--regularizer", "near=no.npy"], "no.npy: no such data file"),
        "transform": (["--transform", "jitter=x"], "--transform jitter=x: jitter(pixels='x'): expected an integer"),
        "parametrization": (["--parametrization", "fuorier"], "Did you mean 'fourier'"),
        "start": (["--init", "gauss"], "init='gauss' is not a distribution. Did you mean 'gaussian'"),
        "no start": (["--init", "no.npy"], "no.npy: no such data file"),
        "pickle": (["--init", "pickle.npy"], "pickle.npy: it holds Python objects"),
        "like": (["--like", "flat.npy"], "has shape (1, 3); expected (N, 6, 5, 1)"),
        "shape": (["--shape", "6x"], "--shape 6x: expected 224"),
        "layout": (["--data-format", "first"], "data_format='first' is not a choice"),
        "engine": (["--engine", "torhc"], "--engine torhc: expected torch, jax, tensorflow"),
    }

    @pytest.mark.parametrize("mistake", MISTAKES)
    def test_mistakes(here, mistake):
        words, message = MISTAKES[mistake]
        np.save("pickle.npy", np.array([{}]), allow_pickle=True)
        np.save("flat.npy", np.zeros((1, 3)))
        before = sorted(here.rglob("*"))
        words = words if words[0].endswith(".keras") else ["net.keras", *words]
        code, _, err = run(*words, *([] if "--of" in words else ["--of", "1"]), "-o", "out")
        assert code == 2
        assert message in err
        assert "Traceback" not in err
        assert sorted(here.rglob("*")) == before
