"""ONNX files of torch modules: ONNX Runtime against autodiff, with operators of inference only."""

import numpy as np
import pytest
import torch
from conftest import ENGINE
from exported import check_inference_only, error, run
from torch import nn

import wrt


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


class Join(nn.Module):
    """Branches over one input, side by side: one file for several kinds of a layer."""

    def __init__(self, *branches):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x):
        return torch.cat([branch(x).flatten(1) for branch in self.branches], 1)


def separable(stride=1, padding=0):
    return nn.Sequential(nn.Conv2d(4, 8, 3, stride, padding, groups=4), nn.Conv2d(8, 3, 1))


def convolutions():
    """Padding of every kind, strides that do and do not divide the size, dilation, groups; a skip connection."""
    first = nn.Sequential(nn.Conv2d(2, 4, 3, padding="same"), nn.BatchNorm2d(4), nn.GELU())
    kinds = [
        nn.Conv2d(4, 3, 3),
        nn.Conv2d(4, 3, 3, stride=2, padding=1),
        nn.Conv2d(4, 3, (3, 2), stride=(2, 3), padding=(0, 1)),
        nn.Conv2d(4, 4, 3, dilation=2, padding="same", groups=2),
        nn.Conv2d(4, 3, 1, padding=1),
        separable(padding=1),
        separable(stride=2),
        nn.ConvTranspose2d(4, 3, 3),
        nn.ConvTranspose2d(4, 4, 3, stride=2, padding=1, output_padding=1, groups=2),
    ]
    return nn.Sequential(first, Join(*kinds), nn.Softplus(), nn.LazyLinear(3)), drawn(4, 2, 9, 8)


def pooling():
    """With overlap, gaps, padding and a remainder; windows that the batch norm after a convolution feeds."""
    kinds = [
        nn.MaxPool2d(2),
        nn.MaxPool2d(3, stride=1, padding=1),
        nn.MaxPool2d(2, stride=3, dilation=2),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),
        nn.AvgPool2d(2),
        nn.AvgPool2d(3, stride=2, padding=1),
        nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False, ceil_mode=True),
        nn.AdaptiveAvgPool2d(1),
        nn.AdaptiveAvgPool2d((3, 2)),
        nn.AdaptiveMaxPool2d((2, 5)),
    ]
    first = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.SiLU())
    return nn.Sequential(first, Join(*kinds), nn.Tanh(), nn.LazyLinear(3)), drawn(4, 2, 8, 10)


def borders():
    """Padding by copies, in one and in two dimensions, and convolutions and pools in one dimension."""
    plane = nn.Sequential(nn.Unflatten(1, (2, 6, 5)), nn.ReplicationPad2d((1, 2, 0, 3)), nn.Conv2d(2, 2, 3))
    line = nn.Sequential(nn.Unflatten(1, (3, 20)), nn.ReplicationPad1d((2, 1)), nn.Conv1d(3, 2, 3, stride=2))
    mirror = nn.Sequential(nn.Unflatten(1, (2, 6, 5)), nn.ReflectionPad2d(1), nn.Conv2d(2, 2, 3))
    pools = nn.Sequential(nn.Unflatten(1, (3, 20)), Join(nn.MaxPool1d(3, 2), nn.AvgPool1d(4, 2, 1)))
    shuffle = nn.Sequential(nn.Unflatten(1, (4, 3, 5)), nn.PixelShuffle(2), nn.Upsample(scale_factor=2))
    kinds = Join(plane, line, mirror, pools, shuffle)
    return nn.Sequential(nn.Linear(4, 60), nn.Tanh(), kinds, nn.Sigmoid(), nn.LazyLinear(2)), drawn(4, 4)


def activations():
    names = "GELU SiLU Mish ELU SELU CELU LeakyReLU Softplus Softsign Hardtanh Hardswish LogSigmoid Tanhshrink".split()
    kinds = [getattr(nn, name)() for name in names]
    kinds += [nn.PReLU(), nn.GELU("tanh"), nn.Softmax(-1), nn.LogSoftmax(-1), nn.ReLU6()]
    kinds += [nn.LayerNorm(6), nn.Sequential(nn.Unflatten(1, (6, 1)), nn.GroupNorm(2, 6)), nn.Dropout(0.5)]
    return nn.Sequential(nn.Linear(3, 6), Join(*kinds), nn.LazyLinear(4)), drawn(4, 3)


class Attention(nn.Module):
    """A transformer block with a causal mask, before the normalisation and after it."""

    def __init__(self):
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(8), nn.MultiheadAttention(8, 2, batch_first=True)
        self.inner = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))

    def forward(self, x):
        a = self.norm(x)
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        x = x + self.attention(a, a, a, attn_mask=mask, need_weights=False)[0]
        return (x + self.inner(x)).mean(1)


def encoder():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu")
    return nn.Sequential(layer, nn.Flatten(), nn.Linear(40, 3)), drawn(4, 5, 8)


class Last(nn.Module):
    """The last step of a recurrent layer."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True)

    def forward(self, x):
        return self.lstm(x)[0][:, -1]


NETS = {  # each in one of the processes that CI has
    "torch": {"convolutions": convolutions, "pooling": pooling, "activations": activations},
    "jax": {
        "attention": lambda: (Attention(), drawn(4, 5, 8)),
        "encoder": encoder,
        "recurrent": lambda: (Last(), drawn(4, 3, 3)),
    },
    "tensorflow": {"borders": borders},
}[ENGINE]


def made(name):
    """The network with weights and statistics away from their beginnings, and samples."""
    torch.manual_seed(3)
    net, x = NETS[name]()
    net.train()(torch.from_numpy(x))
    return net.eval(), x


@pytest.mark.parametrize("name", NETS)
def test_backward(tmp_path, name):
    """One file for the products with any cotangent."""
    net, like = made(name)
    path = wrt.export(net, tmp_path / "net.onnx", like, what="backward")
    check_inference_only(path)
    for count in (1, 6):
        x = drawn(count, *like.shape[1:], seed=count)
        y = net(torch.from_numpy(x).requires_grad_())
        u = drawn(*y.shape, seed=9)
        leaf = torch.from_numpy(x).requires_grad_()
        (wanted,) = torch.autograd.grad(net(leaf), leaf, torch.from_numpy(u))
        assert error(run(path, {"x": x, "cotangent": u})["gradient"], wanted) < 1e-5
