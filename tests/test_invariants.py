"""What the records of the methods promise of their maps holds, and a false promise is found out."""

import doctest

import numpy as np
import pytest
import torch

import wrt
from wrt.engines import registry
from wrt.errors import OptionError
from wrt.methods import METHODS
from wrt.testing import check_method, methods

BACKGROUND = np.random.default_rng(4).normal(size=(7, 6))
OPTIONS = {"expected_gradients": {"background": BACKGROUND}, "rise": {"masks": 8}}


@pytest.mark.parametrize(
    ("name", "invariant"), [(name, promise) for name, m in METHODS.items() for promise in sorted(m.invariants)]
)
def test_promises(engine, name, invariant):
    check_method(name, engine, invariants=[invariant], options=OPTIONS.get(name))


FALSE = {
    "gradient": ["completeness"],
    "input_x_gradient": ["completeness"],
    "guided_backprop": ["symmetry", "implementation invariance", "zero on constants"],
    "deconvnet": ["symmetry", "implementation invariance", "zero on constants"],
    "expected_gradients": ["completeness", "symmetry"],
    "occlusion": ["completeness"],
    "rise": ["completeness", "symmetry", "zero on constants"],
}


@pytest.mark.parametrize(("name", "invariant"), [(name, promise) for name in FALSE for promise in FALSE[name]])
def test_false_promises(name, invariant):
    """On one engine: it is the check that is under test."""
    assert invariant not in METHODS[name].invariants
    with pytest.raises(AssertionError, match=f"{name} breaks its promises:\n  {invariant}: .*(adds|get|differ)"):
        check_method(name, registry.engine("torch"), invariants=[invariant], options=OPTIONS.get(name))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda maps: 0 * maps, "all zero"),
        (lambda maps: maps[:, :3], "expected .5, 6."),
        (lambda maps: maps / 0, "not finite"),
        (lambda maps: 1.001 * maps, "implementation invariance: in sample"),
    ],
)
def test_methods_that_are_wrong(wrong, words):
    def method(model, x, of):
        with np.errstate(all="ignore"):
            maps = wrt.gradient(model, x, of)
            return wrong(maps) if "sample" not in words or len(calls.append(1) or calls) == 2 else maps

    calls = []
    with pytest.raises(AssertionError, match=words):
        check_method(method, invariants=["implementation invariance"])


def test_models_of_ones_own():
    def module(net, bias=True):
        linear = [torch.nn.Linear(*kernel.shape, bias=bias, dtype=torch.float64) for kernel, _ in net.layers]
        for layer, (kernel, offset) in zip(linear, net.layers, strict=True):
            layer.weight.data = torch.from_numpy(kernel.T.copy())
            if bias:
                layer.bias.data = torch.from_numpy(offset)
        between = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh}[net.activation]
        return torch.nn.Sequential(*[part for layer in linear for part in (layer, between())][:-1])

    home = registry.engine("torch")
    check_method("integrated_gradients", home, build=module)
    with pytest.raises(AssertionError, match="completeness: the map of sample"):
        check_method("integrated_gradients", home, build=lambda net: module(net, bias=False))


def test_all_problems_are_listed():
    with pytest.raises(AssertionError, match=r"completeness: raised ZeroDivision.*\n  symmetry: raised ZeroDivision"):
        check_method(lambda model, x, of: 1 / 0, invariants=["symmetry", "completeness"])


def test_mistakes():
    with pytest.raises(OptionError, match=r"no registered method.*invariants="):
        check_method(lambda model, x, of: x)
    with pytest.raises(OptionError, match=r"unknown invariant 'symmetries'.*'symmetry'"):
        check_method("gradient", invariants=["symmetries"])
    with pytest.raises(OptionError, match="method='gradient_'"):
        check_method("gradient_")


def test_the_example_of_the_documentation():
    found = doctest.testmod(methods, optionflags=doctest.ELLIPSIS)
    assert found.attempted > 2
    assert found.failed == 0
