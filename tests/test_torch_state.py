"""torch modules of the user: in inference mode during every evaluation, with the weights meant, and untouched."""

import copy
from functools import partial

import keras
import numpy as np
import pytest
import torch
from subjects import close, points
from torch import nn
from torch.nn.utils import prune
from torch.utils.checkpoint import checkpoint

import wrt
from wrt.engines.adapt import Reweighted
from wrt.errors import ModelError

X = points(4)
T = torch.from_numpy(X)


def block():
    return nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Tanh(), nn.Linear(6, 2)).double()


def jacobian(module, x=T):
    """By plain autograd, of a copy in inference mode, sample by sample."""
    module = copy.deepcopy(module).eval()
    rows = [torch.autograd.functional.jacobian(lambda a: module(a[None])[0], a) for a in x]
    return torch.stack(rows).numpy()


def state(module):
    return {k: v.clone() for k, v in module.state_dict().items()}, [m.training for m in module.modules()]


def same(before, module):
    values, modes = state(module)
    return modes == before[1] and all(torch.equal(v, values[k]) for k, v in before[0].items())


class Checkpointed(nn.Module):
    def __init__(self, reentrant=False):
        super().__init__()
        self.inner, self.last, self.reentrant = block(), nn.Linear(2, 2).double(), reentrant

    def forward(self, x):
        return self.last(checkpoint(self.inner, x, use_reentrant=self.reentrant))


class Plain(Checkpointed):
    def forward(self, x):
        return self.last(self.inner(x))


def plain(net):
    made = Plain()
    made.load_state_dict(net.state_dict())
    return made


@pytest.fixture
def net():
    made = Checkpointed()
    made(torch.randn(16, 3, dtype=torch.float64))  # statistics of their own
    return made.train()


@pytest.mark.parametrize("frozen", [True, False])
def test_checkpoints(net, frozen):
    net.requires_grad_(not frozen)
    before, truth = state(net), jacobian(plain(net))
    close(wrt.jacobian(net, X), truth, 1e-12)
    close(wrt.jacobian(lambda x: net(x), T), truth, 1e-12)
    close(wrt.jvp(net, X, X), np.einsum("noi,ni->no", truth, X), 1e-12)
    close(wrt.hessian(net, X, 1), wrt.hessian(plain(net), X, 1), 1e-12)
    close(wrt.gradient(net, X, 1, wrt="inner.0"), wrt.gradient(plain(net), X, 1, wrt="inner.0"), 1e-12)
    assert same(before, net)


def test_checkpoints_with_other_weights(net):
    found = wrt.metrics.randomization("gradient", net, X, 1).correlations
    np.testing.assert_array_equal(found, wrt.metrics.randomization("gradient", plain(net), X, 1).correlations)


def test_checkpoints_in_pulls_that_run_later(net):
    """The modes are those of training again when the graph is used."""
    grads = []
    for model in (net, plain(net)):
        g = wrt.gradient(model, T, 1, differentiable=True)
        model.zero_grad()
        g.square().sum().backward()
        grads.append([p.grad for p in model.parameters() if p.grad is not None])
    assert len(grads[0]) == len(grads[1]) > 0
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)


def test_reentrant_checkpoints_are_refused():
    net = Checkpointed(reentrant=True)
    before = state(net)
    with pytest.raises(ModelError, match="use_reentrant=False"):
        wrt.gradient(net, X, 1)
    assert same(before, net)


def test_hooks_on_saved_tensors_work_again_afterwards(net):
    wrt.gradient(net, X, 1)
    packed = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t) or t, lambda t: t):
        T.clone().requires_grad_().sin()
    assert packed


class Holder(keras.Model):
    """No `training` in its call."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def call(self, x):
        return self.net(x)


class Listing(Holder):
    """Keras does not see a module in a tuple."""

    def __init__(self, net):
        keras.Model.__init__(self)
        self.nets = (net,)

    def call(self, x):
        return self.nets[0](x)


class HolderLayer(keras.layers.Layer):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def call(self, x):
        return self.net(x)


KERAS = {
    "model": Holder,
    "tuple": Listing,
    "layer": HolderLayer,
    "functional": lambda net: functional(HolderLayer(net)),
    "wrapper": lambda net: functional(keras.layers.TorchModuleWrapper(net, output_shape=(2,))),
}


def functional(layer):
    inputs = keras.Input((3,))
    return keras.Model(inputs, layer(inputs))


@pytest.mark.parametrize("kind", KERAS)
def test_modules_in_keras_models(kind):
    net, x = block().float().train(), T.float()
    net(torch.randn(16, 3))
    model = KERAS[kind](net)  # functional ones call it
    truth, before = jacobian(net, x), state(net)
    close(wrt.jacobian(model, x), truth, 1e-5)
    close(wrt.hessian(model, x, 1), wrt.hessian(net, x, 1), 1e-5)
    assert "right" in wrt.check(model, x).verdict
    assert same(before, net)


def test_other_weights_reach_modules_in_keras_models():
    net, x = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2)), T.float()
    model = Holder(net)
    model(x)
    other = [2 * v.value for v in model.variables]
    bare = copy.deepcopy(net)
    with torch.no_grad():
        for p in bare.parameters():
            p.mul_(2)
    close(wrt.jacobian(Reweighted(model, other), x), jacobian(bare, x), 1e-5)
    close(wrt.jacobian(model, x), jacobian(net, x), 1e-5)


GLOBAL = block().train()


class Caller:
    def __init__(self, net):
        self.parts = {"net": net}

    def __call__(self, x):
        return self.parts["net"](x)

    def method(self, x):
        return self.parts["net"](x)


def functions(net):
    caller = Caller(net)
    return {
        "closure": lambda x: net(x),
        "default": lambda x, net=net: net(x),
        "forward": lambda x: net.forward(x),
        "object": caller,
        "method": caller.method,
        "bound": net.forward,
        "partial": partial(lambda net, x: net(x), net),
        "nested": lambda x: (lambda z: caller(z))(x),
        "script": (lambda script: lambda x: script(x))(torch.jit.script(net)),
        "vmap": torch.func.vmap(lambda a: net(a[None])[0]),
    }


@pytest.mark.parametrize("kind", functions(block()))
def test_functions_over_modules(kind):
    net = block().train()
    net(torch.randn(16, 3, dtype=torch.float64))
    truth, before = jacobian(net), state(net)
    f = functions(net)[kind]
    draws = torch.get_rng_state()
    close(wrt.jacobian(f, T), truth, 1e-12)
    close(wrt.jvp(f, T, T), np.einsum("noi,ni->no", truth, X), 1e-12)
    assert same(before, net)
    assert torch.equal(draws, torch.get_rng_state())


def test_a_global_module():
    GLOBAL(torch.randn(16, 3, dtype=torch.float64))
    before = state(GLOBAL)
    close(wrt.jacobian(lambda x: GLOBAL(x), T), jacobian(GLOBAL), 1e-12)
    assert same(before, GLOBAL)


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
def test_max_norm(kind, wrapped):
    table = kind(5, 3, max_norm=1.0)
    table.weight.data.mul_(5)
    net = nn.Sequential(table, nn.Flatten(), nn.Linear(3 if kind is nn.EmbeddingBag else 6, 2))
    ids, before = np.array([[1, 2], [0, 4]]), table.weight.detach().clone()
    if wrapped:
        scale = {"ids": torch.from_numpy(ids), "scale": torch.ones(2, 1)}
        found = wrt.gradient(lambda ids, scale: net(ids)[:, 1:] * scale, scale, 0, wrt="scale")
        wanted = copy.deepcopy(net)(torch.from_numpy(ids))[:, 1:].detach()
    else:
        found = wrt.gradient(net, ids, 1, wrt="0")
        rows = 1 if kind is nn.EmbeddingBag else 2
        wanted = net[2].weight[1].detach().reshape((1, 3) if rows == 1 else (1, 2, 3)).expand(2, *found.shape[1:])
    close(found, wanted.numpy(), 1e-6)
    assert torch.equal(before, table.weight)


def test_buffers_that_a_module_writes_into():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros((), dtype=torch.float64))
            self.last = None

        def forward(self, x):
            self.calls += 1
            self.last = x * 2
            return x.sin()

    net = Counting()
    for f in (net, lambda x: net(x)):
        for _ in range(3):
            close(wrt.gradient(f, T, 1), np.cos(X) * np.eye(3)[1], 1e-12)
    assert float(net.calls) == 0
    assert net.last is None
    copy.deepcopy(net)


OLD = {
    "weight_norm": nn.utils.weight_norm,
    "spectral_norm": nn.utils.spectral_norm,
    "pruned": lambda m: prune.l1_unstructured(m, "weight", 0.5),
    "parametrized": nn.utils.parametrizations.weight_norm,
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*")
@pytest.mark.parametrize("name", OLD)
def test_weights_made_by_hooks(name):
    net = nn.Sequential(OLD[name](nn.Linear(3, 4).double()), nn.Tanh(), nn.Linear(4, 2).double())
    with torch.no_grad():
        net(T)  # now its weight is a tensor without a graph
    held = net[0].weight if name != "parametrized" else None
    truth = jacobian(net)
    for model in (net, lambda x: net(x)):
        for _ in range(2):
            close(wrt.jacobian(model, T), truth, 1e-12)
    g = wrt.gradient(net, T, 1, differentiable=True)
    g.sum().backward()
    if held is not None:
        assert net[0].weight is held
    copy.deepcopy(net)


class Gate(nn.Module):
    """One weight in half precision, the rest in another."""

    def __init__(self, gate, rest, cast):
        super().__init__()
        self.gate = nn.Parameter(torch.ones(1, dtype=gate))
        self.net, self.cast = nn.Linear(3, 2).to(rest), cast

    def forward(self, x):
        x = x.to(self.cast) if self.cast else x
        return self.net(x - 1000) * self.gate.to(self.net.weight.dtype)


@pytest.mark.parametrize("gate", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("given", ["float64", "float32", "tensor"])
@pytest.mark.parametrize("cast", [None, torch.float32])
def test_inputs_are_not_rounded(gate, given, cast):
    net = Gate(gate, torch.float32, cast)
    x = np.array([[1000.1, 1000.2, 999.7]])
    x = torch.from_numpy(x).float() if given == "tensor" else x.astype(given)
    for _ in range(2):
        g, y = wrt.gradient(net, x, 1, with_output=True)
        close(np.asarray(y), net(torch.as_tensor(np.asarray(x)).float()).detach().numpy()[:, 1], 1e-6)
        close(np.asarray(g), net.net.weight[1].detach().numpy()[None], 1e-6)
    assert str(g.dtype).endswith("float64" if cast and given == "float64" else "float32")


def test_the_dtype_follows_the_model():
    net = nn.Linear(3, 2)
    assert wrt.gradient(net, X, 1).dtype == np.float32
    net.double()
    assert wrt.gradient(net, X, 1).dtype == np.float64
    close(wrt.gradient(net, X, 1), np.tile(net.weight[1].detach().numpy(), (4, 1)), 1e-12)
    net.half()
    assert wrt.gradient(net, X, 1).dtype == np.float16
