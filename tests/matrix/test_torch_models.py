"""Derivatives of torch modules as modules: numbers, training through them, and what they share."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest
import torch
from subjects import close, points, tensor, torch_net, truth
from torch import nn

import wrt
from wrt.errors import InputError, SelectionError

from .battery import separated
from .test_torch_modules import MODULES


def cotangent(count, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(count, 4)))


class TestNumbers:
    def test_backward(self):
        x, u = points(5), cotangent(5)
        backward = wrt.backward_model(torch_net())
        wanted = np.einsum("no,noi->ni", u.numpy(), truth(x))
        close(backward(tensor(x), u), wanted, 1e-10)
        close(backward([tensor(x), u]), wanted, 1e-10)

    def test_gradient(self):
        close(wrt.backward_model(torch_net(), of=-1)(tensor(points(5))), truth(points(5))[:, 3], 1e-10)

    def test_jacobian(self):
        close(wrt.jacobian_model(torch_net())(tensor(points(5))), truth(points(5)), 1e-10)

    @pytest.mark.parametrize("name", MODULES)
    def test_every_module(self, name):
        """The numbers of autograd, from the module itself."""
        make, *shapes = MODULES[name]
        torch.manual_seed(3)
        model = make().double().eval()
        x = [torch.from_numpy(a).requires_grad_() for a in separated(shapes)]
        y = model(*[a.clone() for a in x])
        u = torch.from_numpy(np.random.default_rng(1).normal(size=tuple(y.shape)))
        wanted = torch.autograd.grad(y, x, u)
        backward = wrt.backward_model(model).eval()
        found = backward(tuple(a.detach() for a in x) if len(x) > 1 else x[0].detach(), u)
        for a, b in zip(found if len(x) > 1 else [found], wanted, strict=True):
            assert not a.requires_grad
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)

    def test_an_empty_batch(self):
        assert wrt.jacobian_model(torch_net())(torch.zeros(0, 3, dtype=torch.float64)).shape == (0, 4, 3)

    def test_several_inputs_and_outputs(self):
        class Pair(nn.Module):
            def forward(self, x):
                return {"product": x["a"] * x["b"], "square": x["b"] ** 2 + x["a"]}

        a, b = torch.rand(3, 2), torch.rand(3, 2)
        x, u = {"a": a, "b": b}, {"product": torch.ones(3, 2), "square": torch.ones(3, 2)}
        found = wrt.backward_model(Pair())(x, u)
        torch.testing.assert_close(found, {"a": b + 1, "b": a + 2 * b})
        jacobian = wrt.jacobian_model(Pair(), wrt="a")(x)
        torch.testing.assert_close(jacobian["product"], torch.diag_embed(b))
        torch.testing.assert_close(jacobian["square"], torch.eye(2).expand(3, 2, 2))

    def test_rules(self):
        net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(inplace=True), nn.Linear(8, 2))
        x = torch.randn(6, 3)
        found = wrt.backward_model(net, of=1, rules={"relu": wrt.rules.guided})(x)
        weight = net[2].weight[1]
        wanted = ((net[0](x) > 0) * (weight > 0) * weight) @ net[0].weight
        torch.testing.assert_close(found, wanted.detach())


class TestTraining:
    def test_weights_follow_the_derivative(self):
        """d/dw sum g^2 through the derivative, against central differences of closed-form gradients."""
        net = torch_net()
        model = wrt.backward_model(net, of=1).train()
        model(tensor(points(4))).square().sum().backward()
        weights = [p.detach().numpy().T.copy() if p.dim() == 2 else p.detach().numpy().copy() for p in net.parameters()]
        for index in (0, 1, 2):  # the last bias has no influence
            found = net_gradient(net, index)
            wanted = differences(weights, index)
            close(found, wanted, 1e-7)
        assert list(net.parameters())[3].grad is None or not list(net.parameters())[3].grad.any()

    def test_eval_keeps_no_graph(self):
        model = wrt.backward_model(torch_net(), of=1).eval()
        assert not model(tensor(points(2))).requires_grad
        assert model(tensor(points(2)).requires_grad_()).requires_grad
        with torch.no_grad():
            assert not wrt.backward_model(torch_net(), of=1).train()(tensor(points(2))).requires_grad

    def test_weights_keep_no_gradient_of_their_own(self):
        net = torch_net()
        wrt.backward_model(net)(tensor(points(2)), cotangent(2))
        assert all(p.grad is None for p in net.parameters())

    def test_an_epoch_lowers_the_gradient(self):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 1))
        gradient, x = wrt.backward_model(net, of=0), torch.randn(64, 3)
        optimizer = torch.optim.Adam(gradient.parameters(), 1e-2)
        before = gradient(x).square().sum().item()
        for _ in range(30):
            optimizer.zero_grad()
            gradient(x).square().sum().backward()
            optimizer.step()
        assert gradient(x).square().sum().item() < 0.5 * before

    @pytest.mark.parametrize("training", [False, True])
    def test_batch_statistics(self, training):
        net = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2)).double()
        net[0].running_var.fill_(4.0)
        model = wrt.backward_model(net, training=training).train()
        x, u, before = tensor(points(8)), cotangent(8)[:, :2], copy.deepcopy(net.state_dict())
        by_hand, leaf = copy.deepcopy(net).train(training), x.clone().requires_grad_()
        wanted = torch.autograd.grad(by_hand(leaf), leaf, u)[0]
        torch.testing.assert_close(model(x, u), wanted, rtol=1e-9, atol=1e-9)
        for name, value in net.state_dict().items():
            torch.testing.assert_close(value, before[name], rtol=0, atol=0)
        assert model.training


class TestSharing:
    def test_state_is_shared(self):
        net = torch_net()
        model = wrt.backward_model(net)
        assert {id(p) for p in model.parameters()} == {id(p) for p in net.parameters()}
        assert set(model.state_dict()) == {f"model.{name}" for name in net.state_dict()}
        with torch.no_grad():
            net[2].weight.mul_(2)
        x, u = points(3), cotangent(3)
        close(model(tensor(x), u), 2 * np.einsum("no,noi->ni", u.numpy(), truth(x)), 1e-10)

    def test_state_is_loaded(self):
        file, other = io.BytesIO(), nn.Sequential(nn.Linear(3, 5), nn.Sigmoid(), nn.Linear(5, 4)).double()
        torch.save(wrt.backward_model(torch_net(), of=2).state_dict(), file)
        model = wrt.backward_model(other, of=2)
        model.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
        close(model(tensor(points(3))), truth(points(3))[:, 2], 1e-10)

    def test_modes_and_hooks_of_the_module_stay(self):
        net = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5)).train()
        model = wrt.backward_model(net, of=0)
        model(torch.randn(2, 3))
        assert all(inner.training for inner in net.modules())
        assert not any(m._forward_hooks or m._backward_hooks for m in net.modules())

    def test_inside_a_larger_module(self):
        net = torch_net().float()
        larger = nn.Sequential(wrt.backward_model(net, of=0), nn.Linear(3, 1))
        larger(torch.randn(4, 3)).sum().backward()
        assert net[0].weight.grad.abs().sum() > 0

    def test_a_readable_name(self):
        shown = repr(wrt.backward_model(torch_net(), of=1))
        assert "what='gradient', of=1" in shown
        assert "Sigmoid" in shown


class TestBadInput:
    def test_a_missing_cotangent(self):
        with pytest.raises(InputError, match="expected a cotangent"):
            wrt.backward_model(torch_net())(tensor(points(2)))

    def test_one_cotangent_too_many(self):
        with pytest.raises(InputError, match="takes x alone"):
            wrt.jacobian_model(torch_net())(tensor(points(2)), cotangent(2))

    @pytest.mark.parametrize("shape", [(2, 3), (3, 4), (4,)])
    def test_a_cotangent_of_another_shape(self, shape):
        with pytest.raises(InputError, match=r"u"):
            wrt.backward_model(torch_net())(tensor(points(2)), torch.zeros(shape, dtype=torch.float64))

    def test_labels(self):
        with pytest.raises(SelectionError, match="labels"):
            wrt.backward_model(torch_net(), of=np.array([1, 2]))

    def test_a_unit_out_of_range(self):
        with pytest.raises(SelectionError, match="4"):
            wrt.backward_model(torch_net(), of=9)(tensor(points(2)))

    def test_a_rule_that_matches_nothing(self):
        with pytest.raises(SelectionError, match="nothing_such"):
            wrt.backward_model(torch_net(), of=1, rules={"nothing_such": wrt.rules.guided})(tensor(points(2)))


def net_gradient(net, index):
    grad = list(net.parameters())[index].grad.numpy()
    return grad.T if grad.ndim == 2 else grad


def differences(weights, index, step=1e-5):
    """Central differences of sum_n |J[n, 1]|^2 in every number of one weight."""

    def loss(values):
        return (truth(points(4), [*weights[:index], values, *weights[index + 1 :]])[:, 1] ** 2).sum()

    found = np.zeros_like(weights[index])
    for place in np.ndindex(found.shape):
        shift = np.zeros_like(found)
        shift[place] = step
        found[place] = (loss(weights[index] + shift) - loss(weights[index] - shift)) / (2 * step)
    return found
