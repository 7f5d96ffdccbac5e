"""Gradient and Hessian of 20,000 events of a small network, beside an event-by-event loop and the frameworks' own ways.

python benchmarks/second.py jax|torch|tensorflow [features ...] [--quick]
"""

from __future__ import annotations

import itertools
import os
import sys

ENGINE = sys.argv[1] if len(sys.argv) > 1 else "torch"
QUICK = "--quick" in sys.argv
FEATURES = [int(a) for a in sys.argv[2:] if a.isdigit()] or ([3, 50] if QUICK else [3, 50, 500])
os.environ["KERAS_BACKEND"] = ENGINE
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
import numpy as np  # noqa: E402
from side_by_side import report  # noqa: E402

import wrt  # noqa: E402

N, HIDDEN, LOOP = (2_000, 100, 50) if QUICK else (20_000, 100, 500)


def weights(features):
    """W1, b1, W2, b2 of a network features-100(tanh)-1(sigmoid)."""
    rng = np.random.default_rng(0)
    shapes = [(features, HIDDEN), (HIDDEN,), (HIDDEN, 1), (1,)]
    return [(rng.normal(size=s) / s[0] ** 0.5).astype("float32") for s in shapes]


def keras_net(features):
    """The network in Keras."""
    dense = keras.layers.Dense
    net = keras.Sequential([keras.Input((features,)), dense(HIDDEN, "tanh"), dense(1, "sigmoid")])
    net.set_weights(weights(features))
    return net


def torch_ways(x):
    """A torch module; torch.func over all events at once, and autograd for each."""
    import torch
    from torch import nn

    net = nn.Sequential(nn.Linear(x.shape[1], HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 1), nn.Sigmoid()).eval()
    with torch.no_grad():
        for parameter, w in zip(net.parameters(), weights(x.shape[1]), strict=True):
            parameter.copy_(torch.from_numpy(w.T))
    state = {name: p.detach() for name, p in net.named_parameters()}
    x = torch.from_numpy(x)

    def one(a):
        return torch.func.functional_call(net, state, (a,))[0]

    first = torch.func.vmap(torch.func.grad(one))
    second = torch.func.vmap(torch.func.hessian(one))

    def loop():
        for event in x[:LOOP]:
            torch.autograd.functional.jacobian(one, event)
            torch.autograd.functional.hessian(one, event)

    ways = {
        "wrt": lambda: (wrt.gradient(net, x), wrt.hessian(net, x)),
        "wrt.taylor, one pass": lambda: wrt.taylor(net, x),
        "vmap(hessian)": lambda: (first(x), second(x)),
        **tayloranalysis(net, x),
    }
    return ways, {"autograd, each event": loop}


def tayloranalysis(net, x):
    """The library of that name, where it is installed (pip install --no-deps tayloranalysis)."""
    try:
        from tayloranalysis import extend_model
    except ImportError:
        return {}
    import torch

    class Named(torch.nn.Module):
        def forward(self, x):
            return net(x)

    model = extend_model(Named())
    every = [c for order in (1, 2) for c in itertools.combinations_with_replacement(range(x.shape[1]), order)]
    return {"tayloranalysis": lambda: model.get_tc("x", {"x": x}, every)}


def jax_ways(x):
    """A JAX function of its weights; jit(vmap(hessian)) over all events at once, and event by event."""
    import jax
    import jax.numpy as jnp

    state = [jnp.asarray(w) for w in weights(x.shape[1])]
    x = jnp.asarray(x)

    def one(state, a):
        w1, b1, w2, b2 = state
        return jax.nn.sigmoid(jnp.tanh(a @ w1 + b1) @ w2 + b2)[0]

    def net(a):
        w1, b1, w2, b2 = state
        return jax.nn.sigmoid(jnp.tanh(a @ w1 + b1) @ w2 + b2)

    both = lambda s, a: (jax.grad(one, 1)(s, a), jax.hessian(one, 1)(s, a))
    batched = jax.jit(jax.vmap(both, (None, 0)))
    compiled = jax.jit(both)
    ready = jax.block_until_ready

    ways = {
        "wrt": lambda: ready((wrt.gradient(net, x), wrt.hessian(net, x))),
        "wrt.taylor, one pass": lambda: wrt.taylor(net, x),
        "jit(vmap(hessian))": lambda: ready(batched(state, x)),
    }
    loops = {
        "jit, each event": lambda: [ready(compiled(state, a)) for a in x[:LOOP]],
        "grad, hessian, each event": lambda: [ready(both(state, a)) for a in x[:20]],
    }
    return ways, loops


def tensorflow_ways(x):
    """A Keras model; nested tapes over all events at once in a tf.function, and event by event."""
    import tensorflow as tf

    net, x = keras_net(x.shape[1]), tf.constant(x)

    def both(a):
        with tf.GradientTape() as outer:
            outer.watch(a)
            with tf.GradientTape() as inner:
                inner.watch(a)
                y = net(a, training=False)
            g = inner.gradient(y, a)
        return g, outer.batch_jacobian(g, a)

    def eager(a):
        with tf.GradientTape(persistent=True) as outer:
            outer.watch(a)
            with tf.GradientTape() as inner:
                inner.watch(a)
                y = net(a, training=False)
            g = inner.gradient(y, a)
        return g, outer.jacobian(g, a, experimental_use_pfor=False)

    batched = tf.function(both)
    ways = {
        "wrt": lambda: (wrt.gradient(net, x), wrt.hessian(net, x)),
        "wrt.taylor, one pass": lambda: wrt.taylor(net, x),
        "compiled batch_jacobian": lambda: batched(x),
    }
    return ways, {"nested tapes, each event": lambda: [eager(a[None]) for a in x[:LOOP]]}


def show(features):
    """One network: the batched ways on all events (fewer of many features), the loops on a few."""
    count = N if features <= 3 else max(N // features, 40)
    x = np.random.default_rng(1).normal(size=(count, features)).astype("float32")
    ways, loops = {"torch": torch_ways, "jax": jax_ways, "tensorflow": tensorflow_ways}[ENGINE](x)
    report(f"Gradient and Hessian, {count} events of {features} features, {ENGINE}", ways)
    if features == FEATURES[0]:
        title = f"{LOOP} events one by one ('grad, hessian': 20), {count} by wrt"
        report(title, {"wrt": ways["wrt"], **loops}, rounds=3)


if __name__ == "__main__":
    for features in FEATURES:
        show(features)
