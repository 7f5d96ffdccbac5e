"""What a function reads changes between two calls: the second answer is that of the new state, on every engine."""

import keras
import numpy as np
import pytest
from conftest import ENGINE
from states import CASES, cube, set_scale
from subjects import array, close, math, tensor

import wrt

X = np.array([[0.5, -1.0], [1.5, 2.0]])
T = tensor(X)  # NumPy arrays would make these functions NumPy's
OLD, NEW = 2.0, 5.0


def diagonal(s, x=X):
    """The Jacobian of s x³, and of anything entry by entry."""
    return 3 * s * x[:, :, None] ** 2 * np.eye(2)


def unit(values):
    """What belongs to output 0 alone."""
    return np.stack([values, 0 * values], -1)


@pytest.mark.parametrize("name", CASES)
def test_function(name):
    f, change = CASES[name](OLD)
    close(wrt.jacobian(f, T), diagonal(OLD), 1e-10)
    change(NEW)
    close(wrt.jacobian(f, T), diagonal(NEW), 1e-10)
    fresh, _ = CASES[name](OLD)  # of the same code: its own state, not the program of the other
    close(wrt.jacobian(fresh, T), diagonal(OLD), 1e-10)


# a few for what is asked of all of them above: compiling takes most of the time
SOME = [
    "attribute_of_a_global",
    "container_replaced",
    "class_attribute",
    "numpy_as_a_condition",
    "tensor_replaced",
    "keywords_of_a_partial",
    "decorator_of_a_class",
    "context_variable",
]


@pytest.mark.parametrize("name", SOME)
def test_function_of_an_output(name):
    """`of=` reads the same things."""
    f, change = CASES[name](OLD)
    read = lambda y: f(y)[:, 0]
    square = lambda x: x * x
    close(wrt.gradient(square, T, read), unit(6 * OLD * X[:, 0] ** 5), 1e-9)
    change(NEW)
    close(wrt.gradient(square, T, read), unit(6 * NEW * X[:, 0] ** 5), 1e-9)


def step(f):
    """Where one step of gradient ascent of output 0 leads."""
    return wrt.maximize(f, 0, init=T, steps=1, optimizer="sgd", learning_rate=0.01).x


def verdict(f):
    return np.array([wrt.check(f, T).verdict.startswith("the derivative is right")])


ONES = tensor(np.ones_like(X))
FIRST = X[:, 0]
ASKS = {
    "gradient": (lambda f: wrt.gradient(f, T, 0), lambda s: unit(3 * s * FIRST**2)),
    "jvp": (lambda f: wrt.jvp(f, T, ONES), lambda s: 3 * s * X**2),
    "vjp": (lambda f: wrt.vjp(f, T, ONES), lambda s: 3 * s * X**2),
    "linearize": (lambda f: wrt.linearize(f, T).dense(), diagonal),
    "hessian": (lambda f: wrt.hessian(f, T, 0)[:, 0], lambda s: unit(6 * s * FIRST)),
    "hvp": (lambda f: wrt.hvp(f, T, ONES, 0), lambda s: unit(6 * s * FIRST)),
    "laplacian": (lambda f: wrt.laplacian(f, T, 0), lambda s: 6 * s * FIRST),
    "output": (lambda f: wrt.gradient(f, T, 0, with_output=True)[1], lambda s: s * FIRST**3),
    "integrated_gradients": (
        lambda f: wrt.explain("integrated_gradients", f, T, 0, postprocess=None).maps,
        lambda s: unit(s * FIRST**3),
    ),
    "smooth": (
        lambda f: wrt.smooth("gradient", repetitions=2, noise=1e-9)(f, T, 0),
        lambda s: unit(3 * s * FIRST**2),
    ),
    "occlusion": (lambda f: wrt.methods.occlusion(f, T, 0), lambda s: unit(s * FIRST**3)),
    "maximize": (step, lambda s: X + 0.01 * unit(3 * s * FIRST**2)),
    "check": (verdict, lambda s: np.array([True])),
}


@pytest.mark.parametrize("name", ["global_of_an_inner_function", "numpy_in_an_attribute"])
@pytest.mark.parametrize("ask", ASKS)
def test_every_question(ask, name):
    call, wanted = ASKS[ask]
    f, change = CASES[name](OLD)
    close(call(f), wanted(OLD), 1e-6)
    change(NEW)
    close(call(f), wanted(NEW), 1e-6)


@pytest.mark.parametrize("name", SOME)
def test_plans_follow_or_say_what_they_hold(name):
    f, change = CASES[name](OLD)
    plan, operator = wrt.plan_jacobian(f, T), wrt.linearize(f, T)
    close(plan(T), diagonal(OLD), 1e-10)
    change(NEW)
    for held, found in ((plan, array(plan(T))), (operator, array(operator.dense()))):
        s = OLD if "holds" in repr(held) else NEW
        close(found, diagonal(s), 1e-10)


# the values of a captured array, used in Python
STD, COV, SIZES = np.array([2.0, 1.0]), np.eye(2) * 2, np.array([1.0, 2.0])
VALUES = {
    "float": (lambda x: cube(x) / float(STD[0]), 0.5),
    "condition": (lambda x: cube(x) / 2 if STD[0] > 1 else x, 0.5),
    "inverse": (lambda x: cube(x) @ tensor(np.linalg.inv(COV)), 0.5),
    "size": (lambda x: cube(x)[:, : int(SIZES[1])] / 2, 0.5),
    "indices": (lambda x: cube(x) * len(np.where(STD > 1)[0]), 1.0),
    "largest": (lambda x: cube(x) / max(STD), 0.5),
    "loop": (lambda x: sum(cube(x) * float(s) for s in STD), 3.0),
    "integer": (lambda x: cube(x) * STD.astype(int).tolist()[0], 2.0),
}


@pytest.mark.parametrize("compile", [None, False])
@pytest.mark.parametrize("name", VALUES)
def test_values_of_captured_arrays(name, compile):
    f, scale = VALUES[name]
    close(wrt.jacobian(f, T, compile=compile), diagonal(scale), 1e-10)


def test_functions_that_share_code_keep_their_programs_apart():
    made = [CASES[name](s)[0] for s in (OLD, NEW) for name in ("keyword_only_default", "decorator_of_a_class", "cell")]
    for f, s in zip(made, [OLD] * 3 + [NEW] * 3, strict=True):
        close(wrt.jacobian(f, T), diagonal(s), 1e-10)


def test_a_variable_of_the_engine_in_place():
    """A tensor that the function captures, written into."""
    if ENGINE == "torch":
        held = tensor([OLD, OLD])
        change = lambda: held.fill_(NEW)
    elif ENGINE == "tensorflow":
        held = math().Variable([OLD, OLD], dtype="float64")
        change = lambda: held.assign([NEW, NEW])
    else:
        held = keras.Variable(tensor([OLD, OLD]), dtype="float64")
        change = lambda: held.assign([NEW, NEW])
    f = lambda x: cube(x) * (held.value if ENGINE == "jax" else held)
    close(wrt.jacobian(f, T), diagonal(OLD), 1e-10)
    change()
    close(wrt.jacobian(f, T), diagonal(NEW), 1e-10)


def teardown_module():
    set_scale(1.0)
