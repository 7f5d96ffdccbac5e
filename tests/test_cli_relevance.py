"""`wrt relevance`: numbers and picture are those of `wrt.relevance`; every mistake is one line and an exit code."""

import csv
import os
import sys

import keras
import numpy as np
import pandas
import pytest
from PIL import Image
from subjects import points
from typer.testing import CliRunner

import wrt
from wrt.cli.app import app
from wrt.errors import EngineNotInstalledError, FileError
from wrt.io.tables import read_table

X = np.column_stack([points(30), np.arange(30) % 2, np.linspace(0.5, 2, 30)])
NAMES = ["pt", "eta", "phi", "label", "w"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a small classifier and a table."""
    monkeypatch.chdir(tmp_path)
    layers = [keras.layers.Dense(4, activation="tanh"), keras.layers.Dense(3, activation="softmax")]
    keras.Sequential([keras.Input((3,)), *layers]).save("net.keras")
    np.savetxt("events.csv", X, delimiter=",", header=",".join(NAMES), comments="")
    return tmp_path


def run(*words):
    """Exit code, standard output, standard error without line breaks."""
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["relevance", "net.keras", *words])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, " ".join(done.stderr.split())


def numbers(path="out/relevance.csv"):
    with open(path) as file:
        return list(csv.DictReader(file))


def test_what_is_written(here):
    given = [
        "--of",
        "all",
        "--outputs",
        "a,b,c",
        "--drop",
        "label",
        "--weights",
        "w",
        "--bootstrap",
        "20",
        "--seed",
        "4",
    ]
    code, out, err = run("events.csv", *given, "--standardize", "whiten", "-o", "out")
    assert (code, err) == (0, "")
    assert sorted(os.listdir("out")) == ["relevance.csv", "relevance.png"]
    words = {"names": NAMES[:3], "outputs": ["a", "b", "c"], "bootstrap": 20, "seed": 4, "standardize": "whiten"}
    found = wrt.relevance(wrt.load_model("net.keras"), X[:, :3], "all", weights=X[:, 4], **words)
    assert repr(found) in out
    for row, wanted in zip(numbers(), found.rows(), strict=True):
        assert {name: value or None for name, value in row.items()} == {n: v and str(v) for n, v in wanted.items()}
    assert np.asarray(Image.open("out/relevance.png").convert("L")).min() < 128
    assert run("events.csv", "--of", "1", "--order", "1", "--drop", "label", "--drop", "w", "-o", "out")[0] == 0
    assert [row["order"] for row in numbers()] == ["1"] * 3  # in place of the earlier run


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["events.csv", "--of", "1", "--drop", "labels"],
            "--drop labels: there is no such column. Did you mean 'label'?",
        ),
        (["events.csv", "--of", "1", "--weights", "v"], "--weights v: there is no such column"),
        (["events.csv", "--of", "1"], "has shape (30, 5); expected (N, 3)"),
        (["words.csv", "--of", "1"], "'eta' holds no numbers"),
        (["gaps.csv", "--of", "1"], "'phi' (1) of 2 samples are missing"),
        (["ragged.csv", "--of", "1"], "line 3 has 2 values; expected 3"),
        (["events.txt", "--of", "1"], "cannot read a table with the suffix '.txt'"),
        (["even.csv", "--of", "1"], "even.csv: no such data file"),
        (["events.csv", "--of", "1", "--standardize", "no"], "standardize='no'"),
    ],
)
def test_mistakes(here, words, said):
    (here / "words.csv").write_text("pt;eta;phi\n1;red;2\n2;blue;3\n")
    (here / "gaps.csv").write_text("pt,eta,phi\n1,2,\n2,3,4\n")
    (here / "ragged.csv").write_text("pt,eta,phi\n1,2,3\n2,3\n")
    code, _, err = run(*words, "-o", "out")
    assert code == 2
    assert said in err
    assert not os.path.exists("out")


def test_tables(here, monkeypatch):
    (here / "bare.csv").write_text("1\t2\n3\t4\n")
    (here / "one.csv").write_text("a\n1\n")
    np.save("table.npy", X)
    np.savez("two.npz", a=X, b=X)
    assert {name: column.tolist() for name, column in read_table("bare.csv").items()} == {"x0": [1, 3], "x1": [2, 4]}
    assert read_table("one.csv")["a"].tolist() == [1]
    assert np.array_equal(read_table("table.npy")["x4"], X[:, 4])
    assert np.array_equal(read_table("two.npz", "b")["x0"], X[:, 0])
    with pytest.raises(FileError, match="holds 2 arrays"):
        read_table("two.npz")
    pandas.DataFrame(X, columns=NAMES).to_parquet("events.parquet")
    assert {name: column.tolist() for name, column in read_table("events.parquet").items()} == {
        name: column.tolist() for name, column in zip(NAMES, X.T, strict=True)
    }
    (here / "broken.parquet").write_text("PAR1")
    with pytest.raises(FileError, match="cannot be read as Parquet"):
        read_table("broken.parquet")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(EngineNotInstalledError, match="needs pandas and pyarrow"):
        read_table("events.parquet")
