"""The example on sparse gradients in its full settings, on a few images in a file like that of MNIST."""

import re

import numpy as np
from test_examples import EXAMPLES, PICTURES, run


def test_schedule(tmp_path):
    """The printed numbers follow the schedule."""
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
