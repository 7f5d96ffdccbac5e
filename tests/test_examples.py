"""Every example runs, in its fast setting, and draws what it says; each on one engine, as they take long."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ENGINE

EXAMPLES = sorted(Path(__file__).parents[1].glob("examples/*.py"))
PICTURES = {
    "activation_maximization": {
        *("three", "training", "changed", "channels"),
        *("digits_MLP", "digits_LeNet-5", "digits_keras", "priors_MLP", "priors_LeNet-5"),
    },
    "feature_relevance": {*("pairs", "history", "output", "relevance", "profile", "surface"), "roc", "roc_plain"},
    "jacobian_tour": set(),
    "jacobian_model": {"jacobian"},
    "saliency": {"methods", "runner_up", "lead"},
    "sparse_gradient_training": {"saliency", "distribution", "sparsity", "classes", "trade"},
}
ENGINES = {"jacobian_tour": "jax", "jacobian_model": "tensorflow"}  # torch otherwise
SAYS = {"feature_relevance": ["Signs cancel: the mean derivative of 'x2'", "ranking: x[12] x[12] x3"]}
HERE = [path for path in EXAMPLES if ENGINES.get(path.stem, "torch") == ENGINE]


def run(path, folder, *arguments):
    """What the script prints."""
    environment = {**os.environ, "MPLBACKEND": "agg", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, str(path), *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("path", HERE, ids=lambda path: path.stem)
def test_example(path, tmp_path):
    printed = run(path, tmp_path)
    assert printed.strip(), "an example prints what it finds"
    assert not re.search(r"\bnan\b|\binf\b", printed)
    for words in SAYS.get(path.stem, []):
        assert re.search(words, printed)
    drawn = {file.stem: file.stat().st_size for file in tmp_path.rglob("*.png")}
    assert set(drawn) == PICTURES[path.stem]
    assert all(size > 5_000 for size in drawn.values())
