"""Taylor coefficients by hand, by SymPy, and against the network that they expand."""

import itertools
import math

import numpy as np
import pytest
import sympy
import torch
from conftest import ENGINE
from subjects import close, function_net, points, tensor, torch_net

import wrt
from wrt.errors import InputError, OptionError, SelectionError

POINTS = np.array([[3.0, 2.0], [-1.0, 0.5]])


def cubic(x):
    return x[:, 0] * x[:, 1] + x[:, 0] * x[:, 1] ** 2 + x[:, 1] ** 3


BY_HAND = {  # of xy + xy² + y³ at (3, 2)
    (0,): 2 + 4,
    (1,): 3 + 12 + 12,
    (0, 0): 0,
    (0, 1): 1 + 4,
    (1, 1): (6 + 12) / 2,
    (0, 0, 0): 0,
    (0, 0, 1): 0,
    (0, 1, 1): 2 / 2,
    (1, 1, 1): 6 / 6,
}


def test_by_hand():
    """Up to the order of the polynomial, where nothing remains."""
    found = wrt.taylor(cubic, tensor(POINTS), order=3)
    assert list(found.coefficients) == list(BY_HAND)
    for index, wanted in BY_HAND.items():
        assert found.coefficients[index].shape == (2,)
        assert found.coefficients[index][0] == pytest.approx(wanted, abs=1e-12)
    assert found.value == pytest.approx([26, -0.625])
    close(found.remainder([0.3, -0.7]), np.zeros(2), 1e-12)
    assert found.remainder([1.0, 1.0], order=2) == pytest.approx([2, 2])  # the coefficients of xyy and yyy


def expected(order, points):
    """Coefficients of sin(x y) + exp(x) z² by SymPy."""
    x, y, z = symbols = sympy.symbols("x y z")
    f = sympy.sin(x * y) + sympy.exp(x) * z**2
    wanted = {}
    for index in itertools.combinations_with_replacement(range(3), order):
        factorial = math.prod(math.factorial(index.count(i)) for i in range(3))
        derivative = sympy.lambdify(symbols, sympy.diff(f, *(symbols[i] for i in index)) / factorial, "numpy")
        wanted[index] = derivative(*points.T) * np.ones(len(points))
    return wanted


def smooth(x):
    library = __import__("jax.numpy").numpy if ENGINE == "jax" else __import__(ENGINE)
    return library.sin(x[:, 0] * x[:, 1]) + library.exp(x[:, 0]) * x[:, 2] ** 2


def test_against_sympy():
    """All engines to the second order; to the fourth where nothing is compiled for it, either way."""
    x = points(4)
    for mode, order in {"torch": [("auto", 4), ("forward", 3)]}.get(ENGINE, [("auto", 2)]):
        found = wrt.taylor(smooth, tensor(x), order=order, mode=mode).coefficients
        for wanted in (expected(d, x) for d in range(1, order + 1)):
            for index, value in wanted.items():
                np.testing.assert_allclose(found[index], value, atol=1e-12)


def test_units_of_a_network():
    """K units; the remainder falls with the next power of the distance."""
    if ENGINE != "torch":
        return
    x = points(5)
    found = wrt.taylor(torch_net(), x, "all", order=3, names=["a", "b", "c"], batch_size=2)
    hessian = wrt.hessian(torch_net(), x, "all")
    close(found.coefficients[0, 1], hessian[:, :, 0, 1], 1e-13)
    close(found.coefficients[2, 2], hessian[:, :, 2, 2] / 2, 1e-13)
    close(wrt.taylor(function_net(), tensor(x), "all", order=3, mode="forward").terms[2], found.terms[2], 1e-12)
    assert found.terms[2].shape == (5, 4, 10)
    assert (found.name((0, 1, 1)), found.order) == ("a b²", 3)
    d = np.random.default_rng(0).normal(size=(5, 3))
    for order in (0, 1, 2, 3):
        far, near = (np.abs(found.remainder(d * h, order)).max() for h in (0.02, 0.01))
        assert far / near == pytest.approx(2 ** (order + 1), rel=0.1)
    assert "3 + 6 + 10 coefficients of 5 samples" in repr(found)
    close(wrt.taylor(torch_net(), x, 1, order=1).terms[0], wrt.gradient(torch_net(), x, 1), 1e-15)
    assert wrt.taylor(torch_net(), x[:0], 1, order=3).terms[2].shape == (0, 10)


def test_other_shapes():
    """Entries are numbered flat; one of several inputs; a layer, in which nothing can be moved."""
    if ENGINE != "torch":
        return
    x = {"a": torch.from_numpy(points(4).reshape(2, 2, 3)), "b": torch.from_numpy(points(2))}
    f = lambda a, b: a[:, 0, 2] * a[:, 1, 0] * b[:, 0]
    found = wrt.taylor(f, x, wrt="a")
    assert found.coefficients[2, 3] == pytest.approx(points(2)[:, 0])
    close(found.remainder(np.ones((2, 3))), np.zeros(2), 1e-12)
    with pytest.raises(SelectionError, match="there are 2 inputs; choose one with wrt="):
        wrt.taylor(f, x)
    inside = wrt.taylor(torch_net(), points(2), 1, wrt=wrt.layer("0"))
    assert len(inside.names) == 5
    assert inside.expand(np.zeros(5)).shape == (2,)
    with pytest.raises(OptionError, match="in a layer"):
        inside.remainder(np.zeros(5))


def test_bad_input():
    net, x = torch_net(), points(4)
    for order in (0, 5, 2.0, True):
        with pytest.raises(OptionError, match="order="):
            wrt.taylor(net, x, 1, order=order)
    with pytest.raises(OptionError, match="3 names"):
        wrt.taylor(net, x, 1, names=["a", "b"])
    with pytest.raises(SelectionError, match="taylor: the model gives"):
        wrt.taylor(net, x)
    with pytest.raises(OptionError, match=r"coefficients.*choose a lower order"):
        wrt.taylor(lambda x: (x**2).sum(1), torch.zeros(1000, 900), order=4)
    with pytest.raises(OptionError, match="needs the values of x"):
        torch.func.vmap(lambda a: wrt.taylor(net, a[None], 1).value)(torch.from_numpy(x))
    found = wrt.taylor(net, x, 1)
    with pytest.raises(InputError, match=r"d has shape \(2,\); expected \(4, 3\), or \(3,\)"):
        found.expand([1.0, 2.0])
    with pytest.raises(OptionError, match="orders 0 to 2"):
        found.expand(np.zeros(3), order=3)
