"""Do other networks recognise the digits that excite a LeNet-5? With plain pixels at 90 %, and with priors.

Five LeNets are trained from different starts; a sixth and an MLP, trained from others, look at their ten digits.

python benchmarks/second_network.py [torch] [--mnist mnist.npz] [--quick]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import zoom
from sklearn.datasets import load_digits
from torch import nn

import wrt

DIGITS = list(range(10))
BLANK = np.zeros((1, 1, 28, 28), "float32")
WAYS = {
    "plain pixels, at 90 %": {"probability": 0.9, "steps": 1500, "learning_rate": 5e-3},
    "with priors": {
        "init": "zeros",
        "bounds": (0, 1),
        "steps": 200,
        "learning_rate": 0.02,
        "regularizers": [wrt.regularizers.total_variation(20), wrt.regularizers.l1(5)],
        "transforms": [wrt.transforms.jitter(2), wrt.transforms.rotate(10), wrt.transforms.scale(0.9, 1.0, 1.1)],
    },
}


def images(path):
    if path is None:
        digits = load_digits()
        x, y = zoom(digits.images / 16, (1, 3.5, 3.5), order=1), digits.target
    else:
        arrays = np.load(path)
        x, y = arrays["x_train"] / 255, arrays["y_train"]
    order = np.random.default_rng(0).permutation(len(x))[: len(x) * 3 // 4]
    return torch.from_numpy(x[order, None].astype("float32")), torch.from_numpy(y[order].astype("int64"))


def lenet():
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(256, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    )


def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 10))


def trained(network, seed, x, y, epochs):
    torch.manual_seed(seed)
    model = network()
    adam = torch.optim.Adam(model.parameters())
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(64):
            adam.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            adam.step()
    return model.eval()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("engine", nargs="?", default="torch")
    parser.add_argument("--mnist", type=Path)
    parser.add_argument("--quick", action="store_true", help="two networks in place of five")
    given = parser.parse_args()
    if given.engine != "torch":
        return print(f"second_network.py: the networks are torch's; nothing to do for {given.engine}")
    x, y = images(given.mnist)
    epochs = 3 if given.mnist else 20
    judges = {"another LeNet-5": trained(lenet, 100, x, y, epochs), "an MLP": trained(mlp, 101, x, y, epochs)}
    networks = [trained(lenet, seed, x, y, epochs) for seed in range(2 if given.quick else 5)]
    for way, options in WAYS.items():
        every = [wrt.maximize(model, DIGITS, like=BLANK, progress=False, **options).x for model in networks]
        for name, judge in judges.items():
            with torch.no_grad():
                found = torch.softmax(judge(torch.from_numpy(np.concatenate(every).astype("float32"))), -1).numpy()
            right = (found.argmax(-1).reshape(-1, 10) == DIGITS).sum(1)
            sure = found[np.arange(len(found)), DIGITS * len(networks)].mean()
            of = f"{right} of 10 each, {right.sum()} of {len(found)}"
            print(f"{way:22} {name:16} recognises {of}; mean probability {sure:.2f}")


if __name__ == "__main__":
    main()
