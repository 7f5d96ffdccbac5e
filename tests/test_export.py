"""Exported files: run by their own runtimes, against closed forms, at several numbers of samples."""

import os

import numpy as np
import pytest
import torch
from conftest import ENGINE
from exported import error, run
from subjects import function_net, keras_net, points, torch_net, truth, value

import wrt

SUFFIX = {"jax": ".stablehlo", "torch": ".onnx", "tensorflow": ""}[ENGINE]
U = np.random.default_rng(5).normal(size=(9, 4)).astype("float32")
X = points(4, seed=3).astype("float32")


def highest(x, count):
    """The gradients of the units that are highest, in their order."""
    return truth(x)[np.arange(len(x))[:, None], (-value(x)).argsort(1)[:, :count]]


NETS = {"keras": lambda: keras_net("float32"), "function": lambda: function_net(dtype="float32")}
NETS |= {"torch": lambda: torch_net(torch.float32)} if ENGINE == "torch" else {}
ASKED = {
    "forward": ({}, "output", lambda x: value(x)),
    "gradient": ({"of": 2}, "gradient", lambda x: truth(x)[:, 2]),
    "two highest": (
        {"of": wrt.top(2)},
        "gradient",
        lambda x: highest(x, 2),
    ),
    "highest": ({"of": "max"}, "gradient", lambda x: highest(x, 1)[:, 0]),
    "jacobian": ({"what": "jacobian"}, "jacobian", truth),
    "rows": ({"what": "jacobian", "of": "all"}, "jacobian", truth),
    "backward": ({"what": "backward"}, "gradient", lambda x: np.einsum("no,noi->ni", U[: len(x)], truth(x))),
}
CASES = [
    (net, asked) for net in NETS for asked in ASKED if net == "keras" or asked in ("forward", "jacobian", "highest")
]


def fed(asked, x):
    return {"x": x, "cotangent": U[: len(x)]} if asked == "backward" else {"x": x}


@pytest.mark.parametrize(("net", "asked"), CASES)
def test_closed_form(tmp_path, net, asked):
    options, name, wanted = ASKED[asked]
    path = wrt.export(NETS[net](), tmp_path / f"file{SUFFIX}", X, **options)
    assert path == tmp_path / f"file{SUFFIX}"
    assert os.listdir(tmp_path) == [path.name]
    for count in (1, 9):
        x = points(count, seed=count).astype("float32")
        found = run(path, fed(asked, x))
        assert list(found) == [name]
        assert error(found[name], wanted(x)) < 1e-5
