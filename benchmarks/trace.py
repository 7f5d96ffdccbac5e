"""What it costs that a function is traced at every call, beside the same derivative compiled by hand.

python benchmarks/trace.py jax|tensorflow
"""

from __future__ import annotations

import os
import sys

ENGINE = sys.argv[1] if len(sys.argv) > 1 else "jax"
os.environ["KERAS_BACKEND"] = ENGINE
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
import numpy as np  # noqa: E402
from side_by_side import report  # noqa: E402

import wrt  # noqa: E402
from wrt.engines import registry  # noqa: E402

SIZES = {"mlp, 64 x 3": (64, 3, 32), "mlp, 256 x 784": (256, 784, 512)}


def network(inputs, hidden):
    """A Keras model with two hidden layers and four outputs, and the same as a plain function of its arrays."""
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(hidden, "tanh"), keras.layers.Dense(hidden, "tanh"), keras.layers.Dense(4)]
    model = keras.Sequential([keras.Input((inputs,)), *layers])
    weights = [v.value for v in model.variables]
    tanh = keras.ops.tanh

    def function(x):
        h = tanh(x @ weights[0] + weights[1])
        return tanh(h @ weights[2] + weights[3]) @ weights[4] + weights[5]

    return model, function


def by_hand(function):
    """The per-sample Jacobian, compiled once."""
    if ENGINE == "jax":
        import jax

        return jax.jit(jax.vmap(jax.jacrev(lambda row: function(row[None])[0])))
    import tensorflow as tf

    def jacobian(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        return tape.batch_jacobian(y, x)

    return tf.function(jacobian)


def compared(name, samples, inputs, hidden):
    """One size: a function, which is traced at every call, a Keras model, which is not, and the trace alone."""
    engine = registry.engine(ENGINE)
    model, function = network(inputs, hidden)
    x = engine.asarray(np.random.default_rng(0).normal(size=(samples, inputs)), "float32")
    hand = by_hand(function)
    report(
        f"{ENGINE}, {name}: a Jacobian with 4 outputs",
        {
            "wrt": lambda: np.asarray(wrt.jacobian(function, x)),
            "wrt, a Keras model": lambda: np.asarray(wrt.jacobian(model, x)),
            "compiled by hand": lambda: np.asarray(hand(x)),
            "the trace alone": lambda: engine.trace(function, (x,)),
        },
        rounds=9 if "--quick" in sys.argv else 51,
    )


def main():
    if ENGINE == "torch":
        print("torch: Python runs at every call, nothing is traced")
        return
    for name, sizes in SIZES.items():
        compared(name, *sizes)


if __name__ == "__main__":
    main()
