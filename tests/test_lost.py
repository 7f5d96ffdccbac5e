"""Operators without a second derivative are named: never a silent zero, and no false alarm where it is zero."""

import numpy as np
import pytest
import torch
from subjects import close, points
from torch.autograd.function import once_differentiable

import wrt
from wrt.errors import DerivativeError

X, V = points(3), points(3, seed=1)
T = torch.from_numpy(X)


def operator(forward, backward):
    class Bent(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return forward(x)

    Bent.backward = staticmethod(backward)
    return Bent.apply


def sine(backward):
    return operator(torch.sin, backward)


def in_numpy(g, x):
    return torch.from_numpy(g.detach().numpy() * np.cos(x.detach().numpy()))


def without_grad(g, x):
    with torch.no_grad():
        return g * x.cos()


LOSING = {
    "once_differentiable": once_differentiable(lambda ctx, g: g * ctx.saved_tensors[0].cos()),
    "numpy": lambda ctx, g: in_numpy(g, *ctx.saved_tensors),
    "strict numpy": lambda ctx, g: torch.from_numpy(g.numpy() * np.cos(ctx.saved_tensors[0].detach().numpy())),
    "no_grad": lambda ctx, g: without_grad(g, *ctx.saved_tensors),
    "detach": lambda ctx, g: g * ctx.saved_tensors[0].detach().cos(),
    "detach of the cotangent": lambda ctx, g: g.detach() * ctx.saved_tensors[0].cos(),
    "half": lambda ctx, g: g * (ctx.saved_tensors[0].cos() / 2 + ctx.saved_tensors[0].detach().cos() / 2),
}


@pytest.mark.parametrize("name", LOSING)
def test_second_order(name):
    f = sine(LOSING[name])
    close(wrt.jacobian(f, T), np.cos(X)[:, :, None] * np.eye(3), 1e-12)
    scalars = [lambda x: (f(2 * x) ** 2).sum(-1), lambda x: f(x).sum(-1), lambda x: (f(x) + x**3).sum(-1)]
    for scalar in scalars[: 1 if name == "detach of the cotangent" else None]:  # in the others that is constant
        for call in (wrt.hessian, wrt.laplacian, lambda g, x: wrt.hvp(g, x, V), wrt.taylor):
            with pytest.raises(DerivativeError, match="Bent"):
                call(scalar, X)


@pytest.mark.parametrize("name", sorted(set(LOSING) - {"detach", "half"}))  # these two are right in the cotangent
def test_products_of_two_pulls(name):
    f = sine(LOSING[name])
    for call in (
        lambda: wrt.jvp(f, X, V),
        lambda: wrt.linearize(f, X).matvec(V),
        lambda: wrt.linearize(f, X).norm(2),
        lambda: wrt.lipschitz(lambda x: f(x), X),
    ):
        with pytest.raises(DerivativeError, match=r"Bent.*wrt.jacobian"):
            call()
    close(wrt.linearize(f, X).rmatvec(V), np.cos(X) * V, 1e-12)
    assert "right" in wrt.check(f, X).verdict


@pytest.mark.parametrize("name", ["detach", "half"])
def test_right_products_of_two_pulls(name):
    close(wrt.jvp(sine(LOSING[name]), X, V), np.cos(X) * V, 1e-12)


def test_a_second_derivative_of_zero_stays_zero():
    relu = operator(torch.relu, once_differentiable(lambda ctx, g: g * (ctx.saved_tensors[0] > 0)))
    matrix = torch.from_numpy(points(3, seed=4))
    for f in (lambda x: relu(x @ matrix).sum(-1), lambda x: (x @ matrix).sum(-1)):
        close(wrt.hessian(f, X), np.zeros((3, 3, 3)), 0)


def test_right_rules_of_the_users_own():
    right = sine(lambda ctx, g: g * ctx.saved_tensors[0].cos())
    close(wrt.hessian(lambda x: right(x).sum(-1), X, diagonal=True), -np.sin(X), 1e-12)
    close(wrt.jvp(right, X, V), np.cos(X) * V, 1e-12)
    with wrt.verification("off"):  # which says that differences do not follow these rules
        through = operator(torch.round, lambda ctx, g: g)  # straight through: as if it were not there
        close(wrt.hessian(lambda x: (through(x) ** 2).sum(-1), X, diagonal=True), 2 + 0 * X, 1e-12)
        reversal = operator(lambda x: x.clone(), lambda ctx, g: -g)
        close(wrt.hessian(lambda x: (reversal(x) ** 3).sum(-1), X, diagonal=True), 6 * X, 1e-12)


def test_single_precision():
    once, right = sine(LOSING["once_differentiable"]), sine(lambda ctx, g: g * ctx.saved_tensors[0].cos())
    net = torch.nn.Sequential(torch.nn.Linear(3, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
    x = X.astype("float32")
    plain = wrt.hessian(lambda x: net(x).sin(), x)
    close(wrt.hessian(lambda x: right(net(x)), x), plain, 1e-6)
    with pytest.raises(DerivativeError, match="Bent"):
        wrt.hessian(lambda x: once(net(x)), x)


@pytest.mark.parametrize("make", [torch.jit.script, lambda net: torch.jit.trace(net, T)], ids=["script", "trace"])
def test_torchscript_inside_a_function(make):
    """It is compiled, with derivatives that forward mode does not see, at its second or third call."""
    net = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 40)).double()
    script = make(net)

    def f(x):
        return script(x)

    truth = wrt.jacobian(net, X, mode="reverse")
    for _ in range(5):
        close(wrt.jacobian(f, X), truth, 1e-12)
        close(wrt.jvp(f, X, V), (truth @ V[:, :, None])[..., 0], 1e-12)
    assert "TorchScript" in str(wrt.plan_jacobian(f, X).plan)
    close(wrt.jacobian(script, X), truth, 1e-12)
    close(wrt.hessian(torch.nn.Sequential(script), X, 0), wrt.hessian(net, X, 0), 1e-12)
    for _ in range(4):
        close(wrt.hessian(f, X, 0), wrt.hessian(net, X, 0), 1e-12)
        close(wrt.hessian(f, X, 0, mode="forward"), wrt.hessian(net, X, 0), 1e-12)
