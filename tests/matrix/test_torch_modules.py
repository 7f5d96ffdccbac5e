"""Common torch modules against central differences in float64, to second order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import wrt
from wrt.errors import DtypeError

from .battery import Differences, close, leaves, separated

EXACT = Differences("narrow", 1e-5)


class Picks(nn.Module):
    """One output of a module that has several, or a call with the same tensor several times."""

    def __init__(self, module, call):
        super().__init__()
        self.module, self.run = module, call

    def forward(self, *x):
        return self.run(self.module, *x)


class Reused(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return self.layer(torch.tanh(self.layer(x)))


def first(module):
    return Picks(module, lambda m, x: m(x)[0])


def attention(module):
    return Picks(module, lambda m, x: m(x, x, x)[0])


LENGTH, IMAGE, VOLUME = (2, 6), (2, 5, 4), (2, 4, 3, 4)
MODULES = {
    "Linear": (lambda: nn.Linear(4, 3), (4,)),
    "Bilinear": (lambda: nn.Bilinear(3, 2, 4), (3,), (2,)),
    "CosineSimilarity": (lambda: nn.CosineSimilarity(), (3,), (3,)),
    "inplace ReLU first": (lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 3)), (4,)),
    "inplace ReLU between": (lambda: nn.Sequential(nn.Linear(4, 5), nn.ReLU(inplace=True), nn.Linear(5, 3)), (4,)),
    "functional relu_": (lambda: Picks(nn.Linear(4, 3), lambda m, x: m(F.relu_(x))), (4,)),
    "relu": (lambda: Picks(nn.Linear(4, 3), lambda m, x: F.relu(m(x))), (4,)),
    "reused": (Reused, (4,)),
    "LSTM": (lambda: first(nn.LSTM(3, 2, batch_first=True, bidirectional=True)), (4, 3)),
    "GRU": (lambda: first(nn.GRU(3, 2, 2, batch_first=True, dropout=0.5)), (4, 3)),
    "RNN": (lambda: first(nn.RNN(3, 2, batch_first=True)), (4, 3)),
    "MultiheadAttention": (lambda: attention(nn.MultiheadAttention(4, 2, batch_first=True)), (3, 4)),
    "TransformerEncoderLayer": (lambda: nn.TransformerEncoderLayer(4, 2, 6, batch_first=True), (3, 4)),
    "attention": (lambda: Picks(nn.Identity(), lambda m, x: F.scaled_dot_product_attention(x, x, x)), (2, 3, 4)),
    "Dropout": (lambda: nn.Sequential(nn.Dropout(), nn.Linear(4, 3)), (4,)),
    "PixelShuffle": (lambda: nn.PixelShuffle(2), (4, 2, 3)),
    "PixelUnshuffle": (lambda: nn.PixelUnshuffle(2), (1, 4, 2)),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(3), (3,)),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(2), IMAGE),
    "LayerNorm": (lambda: nn.LayerNorm(4), (3, 4)),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), (4, 3)),
    "InstanceNorm2d": (lambda: nn.InstanceNorm2d(2, affine=True), IMAGE),
    "RMSNorm": (lambda: nn.RMSNorm(4), (3, 4)),
    "LocalResponseNorm": (lambda: nn.LocalResponseNorm(2), IMAGE),
    "Flatten": (lambda: nn.Sequential(nn.Flatten(), nn.Unflatten(1, (4, 3))), (3, 4)),
    "Softmax": (lambda: nn.Softmax(dim=1), (4,)),
    "GLU": (lambda: nn.GLU(), (4,)),
    "PReLU": (lambda: nn.PReLU(), (4,)),
}
for rank, shape in ((1, LENGTH), (2, IMAGE), (3, VOLUME)):
    kinds = {
        "Conv": lambda kind: kind(2, 3, 2, padding=1, dilation=2),
        "ConvTranspose": lambda kind: kind(2, 3, 2, stride=2),
        "MaxPool": lambda kind: kind(2, stride=1, padding=1),
        "AvgPool": lambda kind: kind(2, padding=1),
        "AdaptiveAvgPool": lambda kind: kind(2),
        "AdaptiveMaxPool": lambda kind: kind(2),
        "LPPool": lambda kind: nn.Sequential(nn.Softplus(), kind(3, 2)),
    }
    for name, make in kinds.items():
        module = getattr(nn, f"{name}{rank}d")
        MODULES[module.__name__] = (lambda make=make, module=module: make(module), shape)
ACTIVATIONS = (
    "ReLU LeakyReLU ELU SELU CELU GELU SiLU Mish Hardswish Hardtanh Softplus Softsign Tanhshrink Sigmoid Tanh "
    "LogSigmoid Softshrink Hardshrink ReLU6"
)
for name in ACTIVATIONS.split():
    MODULES[name] = (getattr(nn, name), (5,))
for mode in ("nearest", "bilinear", "bicubic"):
    MODULES[f"Upsample {mode}"] = (lambda mode=mode: nn.Upsample(scale_factor=2, mode=mode), (1, 3, 4))
for name in ("ZeroPad2d", "ReflectionPad2d", "ReplicationPad2d", "CircularPad2d"):
    MODULES[name] = (lambda name=name: getattr(nn, name)((1, 0, 1, 2)), (2, 3, 4))


def score(y):
    return torch.sin(y + 0.3).flatten(1).sum(1) if y.ndim > 1 else torch.sin(y + 0.3)


@pytest.mark.parametrize("name", MODULES)
def test_module(name):
    make, *shapes = MODULES[name]
    torch.manual_seed(3)
    module = make().double()
    x = separated(shapes)
    before = [a.copy() for a in x]
    training = [inner.training for inner in module.modules()]

    def forward(points):
        with torch.no_grad():
            return module.eval()(*[torch.tensor(a) for a in points]).numpy()

    truth, y = EXACT.jacobian(forward, x), forward(x)
    for inner, mode in zip(module.modules(), training, strict=True):
        inner.training = mode
    rng = np.random.default_rng(1)
    v, u = [rng.normal(size=a.shape) for a in x], rng.normal(size=y.shape)
    given = tuple(x) if len(x) > 1 else x[0]
    for mode in ("reverse", "forward"):
        for k, block in enumerate(leaves(wrt.jacobian(module, given, mode=mode))):
            close(f"{mode}, input {k}", block, truth[k], 1e-6)
    matrices = [block.reshape(len(y), -1, a[0].size) for block, a in zip(truth, x, strict=True)]
    pushed = sum(np.einsum("noi,ni->no", j, d.reshape(len(y), -1)) for j, d in zip(matrices, v, strict=True))
    close("jvp", wrt.jvp(module, given, tuple(v) if len(v) > 1 else v[0]), pushed.reshape(y.shape), 1e-6)
    for k, found in enumerate(leaves(wrt.vjp(module, given, u))):
        pulled = np.einsum("no,noi->ni", u.reshape(len(y), -1), matrices[k])
        close(f"vjp, input {k}", found, pulled.reshape(x[k].shape), 1e-6)
    _check_second(module, x, v)
    assert all(np.array_equal(a, b) for a, b in zip(x, before, strict=True)), "x was written into"
    assert [inner.training for inner in module.modules()] == training
    assert all(p.grad is None for p in module.parameters())


def _check_second(module, x, v):
    tensors = [torch.tensor(a, requires_grad=True) for a in x]
    g = leaves(wrt.gradient(module, tuple(tensors) if len(x) > 1 else tensors[0], score))
    product = sum((a * torch.tensor(b)).sum() for a, b in zip(g, v, strict=True))
    found = torch.autograd.grad(product, tensors)
    for k in range(len(x)):
        wanted = EXACT.along(
            lambda p, k=k: leaves(wrt.gradient(module, tuple(p) if len(p) > 1 else p[0], score))[k], x, [v]
        )
        close(f"second derivative, input {k}", found[k], wanted[0], 1e-5)


@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
def test_embedding(kind):
    """The tokens have no derivative; the vectors that the embedding gives do."""

    class Text(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.end = kind(5, 3), nn.Linear(3, 2)

        def forward(self, tokens):
            vectors = self.words(tokens)
            return self.end(torch.tanh(vectors if vectors.ndim == 2 else vectors.sum(1)))

    model, tokens = Text().double(), np.array([[1, 2, 0], [3, 1, 4]])
    with pytest.raises(DtypeError, match="wrt='words'"):
        wrt.jacobian(model, tokens)
    vectors = model.words(torch.tensor(tokens)).detach()
    summed = vectors if vectors.ndim == 2 else vectors.sum(1)
    block = model.end.weight[None] * (1 - torch.tanh(summed) ** 2)[:, None]
    wanted = block if vectors.ndim == 2 else block[:, :, None].expand(2, 2, 3, 3)
    close("embedding", wrt.jacobian(model, tokens, wrt="words"), wanted.detach().numpy(), 1e-12)
