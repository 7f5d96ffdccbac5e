"""Every example runs, in its fast setting, on the engine under test, and draws what it says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = sorted(Path(__file__).parents[1].glob("examples/*.py"))
PICTURES = {
    "jacobian_tour": set(),
    "jacobian_model": {"jacobian"},
    "sparse_gradient_training": {"saliency", "distribution", "sparsity", "classes", "trade"},
}


def run(path, folder, *arguments):
    """What the script prints."""
    environment = {**os.environ, "MPLBACKEND": "agg", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, str(path), *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path, tmp_path):
    printed = run(path, tmp_path)
    assert printed.strip(), "an example prints what it finds"
    assert not re.search(r"\bnan\b|\binf\b", printed)
    drawn = {file.stem: file.stat().st_size for file in tmp_path.rglob("*.png")}
    assert set(drawn) == PICTURES[path.stem]
    assert all(size > 5_000 for size in drawn.values())


def test_sparse_gradients_of_a_file_like_mnist(tmp_path):
    """The full settings on a few images; the printed numbers follow the schedule."""
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 40), ("test", 20)):
        arrays[f"x_{part}"] = rng.integers(0, 256, (count, 28, 28)).astype("uint8")
        arrays[f"y_{part}"] = (np.arange(count) % 10).astype("uint8")
    np.savez(tmp_path / "mnist.npz", **arrays)
    path = next(path for path in EXAMPLES if path.stem == "sparse_gradient_training")
    printed = run(path, tmp_path, "--mnist", "mnist.npz", "--out", "pictures")
    wanted = [50] * 4 + [150] * 3 + [250] * 3 + [350] * 3 + [450] * 3 + [500] * 4
    schedule = printed.split("the schedule\n")[1].split("a better end")[0]
    assert [int(k) for k in re.findall(r"k = +(\d+)", schedule)] == wanted
    assert {file.stem for file in (tmp_path / "pictures").iterdir()} == PICTURES[path.stem]
