"""Per-sample Jacobian (10 x 784, batch of 128) and gradient of the top class, beside the framework's own ways.

python benchmarks/jacobian.py jax|torch|tensorflow
"""

from __future__ import annotations

import os
import sys

ENGINE = sys.argv[1] if len(sys.argv) > 1 else "torch"
os.environ["KERAS_BACKEND"] = ENGINE
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
import numpy as np  # noqa: E402
from keras import layers  # noqa: E402
from side_by_side import report  # noqa: E402

import wrt  # noqa: E402

N, OUT = 128, 10


def small_cnn():
    """Two convolutions with max pooling and two dense layers, on 28 x 28 pixels."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(OUT),
        ]
    )


def torch_ways(x):
    """The same network as a torch module, and torch's own three ways."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(32 * 49, 64), nn.ReLU(), nn.Linear(64, OUT)),
    ).eval()
    weights = {name: p.detach() for name, p in net.named_parameters()}
    x = torch.from_numpy(x).movedim(-1, 1).contiguous()

    def f(x):
        return torch.func.functional_call(net, weights, (x,))

    def loop():
        leaf = x.clone().requires_grad_()
        y = f(leaf)
        rows = [torch.autograd.grad(y[:, i].sum(), leaf, retain_graph=True)[0] for i in range(OUT)]
        return torch.stack(rows, 1)

    def forward():
        with torch.no_grad():
            return net(x)

    def top():
        leaf = x.clone().requires_grad_()
        return torch.autograd.grad(f(leaf).amax(1).sum(), leaf)[0]

    jacobian = {
        "wrt": lambda: wrt.jacobian(net, x),
        "vmap(jacrev)": lambda: torch.func.vmap(torch.func.jacrev(lambda a: f(a[None])[0]))(x),
        "summed jacrev": lambda: torch.func.jacrev(lambda a: f(a).sum(0))(x).movedim(1, 0),
        "autograd loop": loop,
    }
    gradient = {"wrt": lambda: wrt.gradient(net, x, "max"), "forward pass": forward, "autograd": top}
    return jacobian, gradient


def jax_ways(x):
    """JAX's own ways, compiled, with the weights as arguments."""
    import jax
    import jax.numpy as jnp

    net, x = small_cnn(), jnp.asarray(x)
    state = [v.value for v in net.trainable_variables]

    def f(state, x):
        return net.stateless_call(state, [], x, training=False)[0]

    one = jax.jit(lambda s, x: jax.vmap(jax.jacrev(lambda a: f(s, a[None])[0]))(x))
    summed = jax.jit(lambda s, x: jnp.moveaxis(jax.jacrev(lambda a: f(s, a).sum(0))(x), 0, 1))
    forward = jax.jit(f)
    top = jax.jit(lambda s, x: jax.grad(lambda a: f(s, a).max(-1).sum())(x))
    ready = jax.block_until_ready
    jacobian = {
        "wrt": lambda: ready(wrt.jacobian(net, x)),
        "jit(vmap(jacrev))": lambda: ready(one(state, x)),
        "jit(summed jacrev)": lambda: ready(summed(state, x)),
    }
    gradient = {
        "wrt": lambda: ready(wrt.gradient(net, x, "max")),
        "forward pass": lambda: ready(forward(state, x)),
        "jit(grad)": lambda: ready(top(state, x)),
    }
    return jacobian, gradient


def tensorflow_ways(x):
    """TensorFlow's own ways, compiled."""
    import tensorflow as tf

    net, x = small_cnn(), tf.constant(x)

    @tf.function
    def forward(x):
        return net(x, training=False)

    @tf.function
    def batch_jacobian(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = net(x, training=False)
        return tape.batch_jacobian(y, x)

    @tf.function
    def top(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.reduce_max(net(x, training=False), -1)
        return tape.gradient(y, x)

    jacobian = {"wrt": lambda: wrt.jacobian(net, x), "compiled batch_jacobian": lambda: batch_jacobian(x)}
    gradient = {"wrt": lambda: wrt.gradient(net, x, "max"), "forward pass": lambda: forward(x), "tape": lambda: top(x)}
    return jacobian, gradient


if __name__ == "__main__":
    x = np.random.default_rng(0).normal(size=(N, 28, 28, 1)).astype("float32")
    ways = {"torch": torch_ways, "jax": jax_ways, "tensorflow": tensorflow_ways}[ENGINE]
    jacobian, gradient = ways(x)
    report(f"Jacobian {OUT} x 784, batch of {N}, {ENGINE}", jacobian)
    report(f"Gradient of the top class, batch of {N}, {ENGINE}", gradient, ours="forward pass")
