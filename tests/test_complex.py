"""Complex outputs are refused, with a way out that works; complex numbers inside a model are its own business."""

import numpy as np
import pytest
import torch
from conftest import ENGINE
from subjects import close, math, points, tensor

import wrt
from wrt.errors import DtypeError

X = points(3)
M = np.fft.rfft(np.eye(3)).T  # (2, 3): the derivative of every sample


def rfft(x):
    return (math().signal if ENGINE == "tensorflow" else math().fft).rfft(x)


def real(y):
    return math().math.real(y) if ENGINE == "tensorflow" else y.real


def absolute(y):
    return math().abs(y)


CALLS = {
    "jacobian": lambda f: wrt.jacobian(f, tensor(X)),
    "jacobian forward": lambda f: wrt.jacobian(f, tensor(X), mode="forward"),
    "jacobian reverse": lambda f: wrt.jacobian(f, tensor(X), mode="reverse"),
    "gradient": lambda f: wrt.gradient(f, tensor(X), 1),
    "gradient of the highest": lambda f: wrt.gradient(f, tensor(X), "max"),
    "gradient of labels": lambda f: wrt.gradient(f, tensor(X), np.array([0, 1, 0])),
    "gradient of a complex choice": lambda f: wrt.gradient(f, tensor(X), lambda y: y[:, 1]),
    "jvp": lambda f: wrt.jvp(f, tensor(X), tensor(X)),
    "vjp": lambda f: wrt.vjp(f, tensor(X), tensor(X[:, :2])),
    "hessian": lambda f: wrt.hessian(f, tensor(X), 1),
    "hvp": lambda f: wrt.hvp(f, tensor(X), tensor(X), 1),
    "laplacian": lambda f: wrt.laplacian(f, tensor(X), 1),
    "linearize": lambda f: wrt.linearize(f, tensor(X)),
    "plan": lambda f: wrt.plan_jacobian(f, tensor(X)),
    "check": lambda f: wrt.check(f, tensor(X)),
}


@pytest.mark.parametrize("call", CALLS)
def test_refused_with_the_way_out(call):
    with pytest.raises(DtypeError, match=r"complex128.*of=lambda y: y\.real"):
        CALLS[call](rfft)


def test_the_ways_out():
    close(wrt.jacobian(rfft, tensor(X), real), np.broadcast_to(M.real, (3, 2, 3)), 1e-12)
    close(wrt.jacobian(lambda x: real(rfft(x)), tensor(X), mode="forward"), np.broadcast_to(M.real, (3, 2, 3)), 1e-12)
    y = X @ M.T
    truth = (y.conj()[:, :, None] * M).real / np.abs(y)[:, :, None]
    close(wrt.jacobian(rfft, tensor(X), absolute), truth, 1e-12)
    assert "right" in wrt.check(rfft, tensor(X), absolute).verdict


def test_one_of_several_outputs():
    def both(x):
        return {"spectrum": rfft(x), "power": absolute(rfft(x)) ** 2}

    y = X @ M.T
    close(wrt.gradient(both, tensor(X), wrt.output("power", 1)), 2 * (y.conj()[:, 1, None] * M[1]).real, 1e-12)
    for of in (None, "all", wrt.output("spectrum")):
        with pytest.raises(DtypeError, match="complex128"):
            wrt.jacobian(both, tensor(X), of)


def test_numpy_functions():
    with pytest.raises(DtypeError, match="complex128"):
        wrt.jacobian(np.fft.rfft, X)
    close(wrt.jacobian(np.fft.rfft, X, lambda y: y.real), np.broadcast_to(M.real, (3, 2, 3)), 1e-8)


if ENGINE == "torch":

    def test_complex_layers():
        class Spectrum(torch.nn.Module):
            def forward(self, x):
                return torch.fft.rfft(x)

        class Power(torch.nn.Module):
            def forward(self, y):
                return y.abs() ** 2

        net = torch.nn.Sequential(Spectrum(), Power())
        for call in (lambda: wrt.gradient(net, X, 1, wrt="0"), lambda: wrt.gradient(net, X, wrt.layer("0", 1))):
            with pytest.raises(DtypeError, match="complex"):
                call()
        close(wrt.gradient(net, X, wrt.layer("1", 1)), 2 * ((X @ M.T).conj()[:, 1, None] * M[1]).real, 1e-5)
