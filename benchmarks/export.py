"""An exported gradient in ONNX Runtime, beside torch's autograd and `wrt.gradient`; the batch is 64.

python benchmarks/export.py torch
"""

from __future__ import annotations

import os
import sys
import tempfile

ENGINE = sys.argv[1] if len(sys.argv) > 1 else "torch"
os.environ["KERAS_BACKEND"] = "torch"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from side_by_side import report  # noqa: E402
from torch import nn  # noqa: E402

import wrt  # noqa: E402

N = 64


def cnn():
    """Two convolutions with max pooling and two dense layers, on 28 x 28 pixels."""
    first = (nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    second = (nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(32 * 49, 64), nn.ReLU(), nn.Linear(64, 10)), (
        1,
        28,
        28,
    )


def mlp():
    """The usual network for tables."""
    return nn.Sequential(nn.Linear(20, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1)), (20,)


def transformer():
    """One encoder layer over 16 tokens."""
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, activation="gelu")
    return nn.Sequential(layer, nn.Flatten(), nn.Linear(512, 3)), (16, 32)


def ways(net, x, path):
    """One gradient, in three ways and, for comparison, the forward pass."""
    import onnxruntime

    net = net.eval()
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(wrt.export(net, path, x, of=0), options, providers=["CPUExecutionProvider"])
    tensor = torch.from_numpy(x)

    def autograd():
        leaf = tensor.clone().requires_grad_()
        return torch.autograd.grad(net(leaf)[:, 0].sum(), leaf)[0]

    def forward():
        with torch.inference_mode():
            return net(tensor)

    return {
        "ONNX Runtime": lambda: session.run(None, {"x": x})[0],
        "torch autograd": autograd,
        "wrt.gradient": lambda: wrt.gradient(net, tensor, 0),
        "torch forward pass": forward,
    }


if __name__ == "__main__" and ENGINE == "torch":
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        for make in (mlp, cnn, transformer):
            net, shape = make()
            x = np.random.default_rng(0).normal(size=(N, *shape)).astype("float32")
            found = ways(net, x, f"{folder}/{make.__name__}.onnx")
            report(f"Gradient of one output, {make.__name__}, batch of {N}", found, ours="ONNX Runtime", rounds=51)
