"""A derivative model at work, beside a version written by hand for its backend.

One batch of `wrt.backward_model`, `predict` over many samples, and one epoch of training through the gradient: a small
CNN on 28 x 28 pixels whose label's gradient should be small, the sum of squares as a second loss.

python benchmarks/backward.py jax|torch|tensorflow
"""

from __future__ import annotations

import os
import sys

ENGINE = sys.argv[1] if len(sys.argv) > 1 else "torch"
os.environ["KERAS_BACKEND"] = ENGINE
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
import numpy as np  # noqa: E402
from jacobian import small_cnn  # noqa: E402
from side_by_side import report  # noqa: E402

import wrt  # noqa: E402

N, BATCH, OUT = 1024, 128, 10
WEIGHT = 0.1


def data():
    """Random pictures, one-hot labels."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(N, 28, 28, 1)).astype("float32"), np.eye(OUT, dtype="float32")[rng.integers(OUT, size=N)]


def batches(*arrays):
    return [tuple(a[i : i + BATCH] for a in arrays) for i in range(0, N, BATCH)]


def squares(y, gradient):
    """Mean over the samples of the sum of squares."""
    return keras.ops.mean(keras.ops.sum(gradient**2, (1, 2, 3)))


class Back(keras.layers.Layer):
    """What one would write by hand: the backward pass of one backend, as a layer."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def call(self, inputs):
        return {"torch": self.by_torch, "jax": self.by_jax, "tensorflow": self.by_tensorflow}[ENGINE](*inputs)

    def by_torch(self, x, u):
        import torch

        with torch.enable_grad():
            leaf = x if x.requires_grad else x.detach().requires_grad_()
            return torch.autograd.grad(self.net(leaf, training=False), leaf, u, create_graph=True)[0]

    def by_jax(self, x, u):
        import jax

        return jax.vjp(lambda x: self.net(x, training=False), x)[1](u)[0]

    def by_tensorflow(self, x, u):
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(x)
            y = self.net(x, training=False)
        return tape.gradient(y, x, u)

    def compute_output_shape(self, shapes):
        return shapes[0]


def layer_by_hand(net):
    x, u = keras.Input((28, 28, 1)), keras.Input((OUT,))
    return keras.Model([x, u], Back(net)([x, u]))


def two_outputs(make):
    """The network and its backward pass, as one model to fit: outputs (logits, gradient)."""
    net = small_cnn()
    x, u = keras.Input((28, 28, 1)), keras.Input((OUT,))
    model = keras.Model([x, u], [net(x), make(net)([x, u])])
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(1e-3), [loss, squares], loss_weights=[1.0, WEIGHT])
    return model


def torch_ways(x, u):
    """A module that is trained by `autograd.grad(create_graph=True)`, in a loop."""
    import torch

    net = small_cnn()
    optimizer = torch.optim.SGD(net.parameters(), 1e-3)
    cross_entropy = torch.nn.functional.cross_entropy

    def predict():
        found = []
        for a, b in batches(torch.from_numpy(x), torch.from_numpy(u)):
            leaf = a.requires_grad_()
            found.append(torch.autograd.grad(net(leaf, training=False), leaf, b)[0])
        return torch.cat(found).numpy()

    def epoch():
        for a, b in batches(torch.from_numpy(x), torch.from_numpy(u)):
            leaf = a.requires_grad_()
            y = net(leaf, training=False)
            gradient = torch.autograd.grad(y, leaf, b, create_graph=True)[0]
            optimizer.zero_grad()
            (cross_entropy(y, b) + WEIGHT * gradient.square().sum((1, 2, 3)).mean()).backward()
            optimizer.step()

    return predict, epoch


def jax_ways(x, u):
    """`jax.vjp` inside `jax.grad`, compiled."""
    import jax
    import jax.numpy as jnp

    net = small_cnn()
    state = [v.value for v in net.trainable_variables]

    def forward(weights, x):
        return net.stateless_call(weights, [], x, training=False)[0]

    @jax.jit
    def back(weights, x, u):
        return jax.vjp(lambda x: forward(weights, x), x)[1](u)[0]

    @jax.jit
    def step(weights, x, u):
        def loss(weights):
            y, pull = jax.vjp(lambda x: forward(weights, x), x)
            entropy = -(jax.nn.log_softmax(y) * u).sum(1).mean()
            return entropy + WEIGHT * (pull(u)[0] ** 2).sum((1, 2, 3)).mean()

        return jax.tree.map(lambda w, g: w - 1e-3 * g, weights, jax.grad(loss)(weights))

    def predict():
        return np.concatenate([np.asarray(back(state, *pair)) for pair in batches(x, u)])

    def epoch():
        weights = state
        for a, b in batches(jnp.asarray(x), jnp.asarray(u)):
            weights = step(weights, a, b)
        return jax.block_until_ready(weights)

    return predict, epoch


def tensorflow_ways(x, u):
    """Nested tapes, compiled."""
    import tensorflow as tf

    net = small_cnn()
    optimizer = keras.optimizers.SGD(1e-3)

    @tf.function
    def back(x, u):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = net(x, training=False)
        return tape.gradient(y, x, u)

    @tf.function
    def step(x, u):
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                inner.watch(x)
                y = net(x, training=False)
                chosen = tf.reduce_sum(y * u)
            gradient = inner.gradient(chosen, x)
            entropy = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(u, y))
            loss = entropy + WEIGHT * tf.reduce_mean(tf.reduce_sum(gradient**2, (1, 2, 3)))
        optimizer.apply(outer.gradient(loss, net.trainable_variables), net.trainable_variables)

    def predict():
        return np.concatenate([back(*map(tf.constant, pair)).numpy() for pair in batches(x, u)])

    def epoch():
        for a, b in batches(x, u):
            step(tf.constant(a), tf.constant(b))

    return predict, epoch


if __name__ == "__main__":
    x, u = data()
    predict, epoch = {"torch": torch_ways, "jax": jax_ways, "tensorflow": tensorflow_ways}[ENGINE](x, u)
    net, labels = small_cnn(), u.argmax(1)
    backward, hand = wrt.backward_model(net), layer_by_hand(net)
    both, both_by_hand = two_outputs(wrt.backward_model), two_outputs(layer_by_hand)
    penalised = wrt.penalize(small_cnn(), wrt.penalties.InputGradient(of="label"), WEIGHT)
    penalised.compile(keras.optimizers.SGD(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    options = {"batch_size": BATCH, "verbose": 0}
    fit, zeros = {"epochs": 1, "shuffle": False, **options}, np.zeros_like(x)
    report(
        f"Backward pass of {N} samples in batches of {BATCH}, {ENGINE}",
        {
            "wrt": lambda: backward.predict([x, u], **options),
            "a Keras layer by hand": lambda: hand.predict([x, u], **options),
            "a loop by hand": predict,
            "predict of the network alone": lambda: net.predict(x, **options),
        },
    )
    report(
        f"One epoch through the gradient, {N} samples in batches of {BATCH}, {ENGINE}",
        {
            "wrt": lambda: both.fit([x, u], [u, zeros], **fit),
            "wrt.penalize": lambda: penalised.fit(x, labels, **fit),
            "a Keras layer by hand": lambda: both_by_hand.fit([x, u], [u, zeros], **fit),
            "a loop by hand": epoch,
        },
    )
