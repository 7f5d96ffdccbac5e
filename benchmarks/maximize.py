"""`wrt.maximize` beside a loop written by hand, per step: ten images in one batch, Adam, plain pixels, no bounds.

An MLP and a LeNet-5 for 28 x 28 (the networks of examples/activation_maximization.py) and a larger convolutional
network for 64 x 64 colour images, with random weights. The loop by hand is what a user of the framework writes: a
compiled gradient on JAX and TensorFlow, `torch.autograd.grad` on torch, the framework's Adam.

python benchmarks/maximize.py jax|torch|tensorflow [--quick]
"""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

ENGINE = sys.argv[1] if len(sys.argv) > 1 else "torch"
os.environ["KERAS_BACKEND"] = ENGINE
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np  # noqa: E402
import torch  # noqa: E402  (before tensorflow: a crash otherwise)
from side_by_side import report  # noqa: E402

import wrt  # noqa: E402

QUICK = "--quick" in sys.argv
ROUNDS = 3 if QUICK else 9
UNITS = list(range(10))
RATE = 5e-3
STEPS = {"MLP": 500, "LeNet-5": 300, "CNN 64 x 64": 50}
SHAPES = {"MLP": (784,), "LeNet-5": (28, 28, 1), "CNN 64 x 64": (64, 64, 3)}


def keras_model(name):
    import keras

    keras.utils.set_random_seed(0)
    layers = keras.layers
    stacks = {
        "MLP": [layers.Dense(width, "relu") for width in (256, 128, 64)],
        "LeNet-5": [
            *(layers.Conv2D(6, 5, padding="same", activation="tanh"), layers.AveragePooling2D(2)),
            *(layers.Conv2D(16, 5, activation="tanh"), layers.AveragePooling2D(2), layers.Flatten()),
            *(layers.Dense(120, "tanh"), layers.Dense(84, "tanh")),
        ],
        "CNN 64 x 64": [
            *(layers.Conv2D(32 << k, 3, 1 + (k > 0), "same", activation="relu") for k in range(4)),
            layers.GlobalAveragePooling2D(),
        ],
    }
    return keras.Sequential([keras.Input(SHAPES[name]), *stacks[name], layers.Dense(10)])


def torch_model(name):
    from torch import nn

    torch.manual_seed(0)
    if name == "MLP":
        widths = (784, 256, 128, 64)
        parts = [part for a, b in itertools.pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
        return nn.Sequential(*parts, nn.Linear(64, 10)).eval()
    if name == "LeNet-5":
        return nn.Sequential(
            *(nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2)),
            *(nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten()),
            *(nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10)),
        ).eval()
    parts = []
    for k in range(4):
        parts += [nn.Conv2d(3 if k == 0 else 16 << k, 32 << k, 3, 1 + (k > 0), 1), nn.ReLU()]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 10)).eval()


def torch_loop(model, start, steps):
    x = torch.from_numpy(start.copy()).requires_grad_()
    adam = torch.optim.Adam([x], lr=RATE)
    units = torch.arange(10)
    losses = []
    for _ in range(steps):
        loss = -model(x).gather(1, units[:, None])[:, 0]
        (x.grad,) = torch.autograd.grad(loss.sum(), [x])
        adam.step()
        losses.append(loss.detach().numpy())
    return x.detach().numpy()


def jax_loop(model):
    import jax
    import jax.numpy as jnp
    import optax

    adam = optax.adam(RATE)

    def loss(x, weights, fixed):
        values = -jnp.diagonal(model.stateless_call(weights, fixed, x, training=False)[0])
        return values.sum(), values

    @jax.jit
    def step(x, memory, weights, fixed):
        gradient, values = jax.grad(loss, has_aux=True)(x, weights, fixed)
        updates, memory = adam.update(gradient, memory)
        return optax.apply_updates(x, updates), memory, values

    def run(start, steps):
        weights = [v.value for v in model.trainable_variables]
        fixed = [v.value for v in model.non_trainable_variables]
        x = jnp.asarray(start)
        memory, losses = adam.init(x), []
        for _ in range(steps):
            x, memory, values = step(x, memory, weights, fixed)
            losses.append(np.asarray(values))
        return np.asarray(x)

    return run


def tensorflow_loop(model):
    import keras
    import tensorflow as tf

    @tf.function
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            values = -tf.linalg.diag_part(model(x, training=False))
        return tape.gradient(values, x), values

    def run(start, steps):
        x = keras.Variable(start)
        adam = keras.optimizers.Adam(RATE)
        losses = []
        for _ in range(steps):
            found, values = gradient(x.value)
            adam.apply([found], [x])
            losses.append(values.numpy())
        return x.numpy()

    return run


def main():
    for name in SHAPES:
        steps = STEPS[name] // 5 if QUICK else STEPS[name]
        shape = SHAPES[name] if ENGINE != "torch" or name == "MLP" else (SHAPES[name][2], *SHAPES[name][:2])
        start = np.random.default_rng(0).normal(0, 0.01, (10, *shape)).astype("float32")
        if ENGINE == "torch":
            model = torch_model(name)
            by_hand = lambda start=start, model=model, steps=steps: torch_loop(model, start, steps)
        else:
            model = keras_model(name)
            run = {"jax": jax_loop, "tensorflow": tensorflow_loop}[ENGINE](model)
            by_hand = lambda start=start, run=run, steps=steps: run(start, steps)

        def ours(model=model, start=start, steps=steps):
            return wrt.maximize(model, UNITS, init=start, learning_rate=RATE, steps=steps, progress=False).x

        gap = np.abs(by_hand() - ours()).max()
        title = f"{name}, {ENGINE}: {steps} steps; the images differ by {gap:.0e}"
        report(title, {"wrt": ours, "by hand": by_hand}, rounds=ROUNDS)


if __name__ == "__main__":
    main()
