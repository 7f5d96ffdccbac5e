"""The NumPy engine: functions without any framework, by central differences."""

import subprocess
import sys

import numpy as np
import pytest
from subjects import close, points

import wrt
from wrt.engines.reference import ReferenceEngine
from wrt.errors import DependenceError, InputError

X = points(5)


def test_numpy_functions():
    close(wrt.jacobian(lambda x: x**3, X), np.einsum("ni,ij->nij", 3 * X**2, np.eye(3)), 1e-10)
    close(wrt.gradient(lambda x: np.exp(x).sum(1), X), np.exp(X), 1e-10)
    close(wrt.jvp(lambda x: np.sin(x), X, X), np.cos(X) * X, 1e-10)
    close(wrt.vjp(lambda x: np.sin(x), X, X), np.cos(X) * X, 1e-10)


def test_float32_input_is_differentiated_in_float64():
    x = X.astype("float32")
    close(wrt.gradient(lambda t: np.exp(t).sum(1), x), np.exp(x.astype("float64")), 1e-9)


def test_error_falls_with_the_fourth_power_of_the_step():
    f = lambda p: [np.sin(3 * p[0])]
    errors = []
    for step in (0.1, 0.05):
        _, (found,) = ReferenceEngine(step).push(f, [X], [np.ones_like(X)])
        errors.append(np.abs(found - 3 * np.cos(3 * X)).max())
    assert 13 < errors[0] / errors[1] < 19


def test_outputs_that_do_not_move_are_said_to_be_independent():
    with pytest.raises(DependenceError):
        wrt.jacobian(lambda a, b: a * 2.0, (X, X), wrt=1)
    for block in wrt.jacobian(lambda a, b: a * b, (0 * X, 0 * X)):  # at a point where nothing moves by itself
        close(block, np.zeros((5, 3, 3)), 1e-12)


def test_functions_outside_their_domain_do_not_stop_the_inspection():
    positive = np.abs(X) + 1

    def f(x):
        if (x <= 0).any():
            raise ValueError("only positive numbers")
        return np.log(x)

    close(wrt.jacobian(f, positive), np.einsum("ni,ij->nij", 1 / positive, np.eye(3)), 1e-9)


def test_rows_are_required():
    with pytest.raises(InputError, match="axis 0 must be samples"):
        wrt.jacobian(lambda x: x.sum(), X)


ALONE = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("jax", "torch", "tensorflow", "keras", "rich", "psutil"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Block())
import numpy as np
import wrt
x = np.linspace(0, 1, 6).reshape(2, 3)
found = wrt.jacobian(lambda t: np.sin(t), x)
assert np.abs(found[0] - np.diag(np.cos(x[0]))).max() < 1e-9
print("done")
"""


def test_works_with_no_framework_installed():
    ran = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True)
    assert ran.stdout.strip() == "done", ran.stderr
