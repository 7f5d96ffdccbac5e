"""What the proof of a plan costs: its share of the first call, and the later calls with and without it.

python benchmarks/verification.py jax|torch|tensorflow [--quick]

Every first call is that of a new model with programs of its own; with and without the proof are taken in turns.
"""

from __future__ import annotations

import os
import statistics
import sys
import time

ENGINE = sys.argv[1] if len(sys.argv) > 1 else "torch"
ROUNDS = 3 if "--quick" in sys.argv else 9
os.environ["KERAS_BACKEND"] = ENGINE
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import torch  # noqa: E402, F401, I001  (before tensorflow: a crash otherwise)
import keras  # noqa: E402
import numpy as np  # noqa: E402
from keras import layers  # noqa: E402

import wrt  # noqa: E402


def cnn():
    """Two convolutions with max pooling and two dense layers, on 28 x 28 pixels; 10 outputs."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10),
        ]
    )


def mobile():
    """MobileNetV2 on 64 x 64 pixels; 10 outputs."""
    return keras.applications.MobileNetV2((64, 64, 3), weights=None, classes=10, classifier_activation=None)


CASES = {
    "Jacobian of a CNN, 64 samples": (cnn, (64, 28, 28, 1), wrt.jacobian, ()),
    "gradient of a CNN, 256 samples": (cnn, (256, 28, 28, 1), wrt.gradient, (0,)),
    "Jacobian of MobileNetV2, 16 samples": (mobile, (16, 64, 64, 3), wrt.jacobian, ()),
}


def first_and_next(make, shape, function, of, mode):
    """Seconds of the first call, of which in the proof, and of the second."""
    from wrt.derive import run as runs

    model, x = make(), np.random.default_rng(0).normal(size=shape).astype("float32")
    spent, verify = [0.0], runs.verify

    def timed(*args):
        start = time.perf_counter()
        verify(*args)
        spent[0] += time.perf_counter() - start

    runs.verify = timed
    try:
        with wrt.verification(mode):
            start = time.perf_counter()
            function(model, x, *of)
            first, inside = time.perf_counter() - start, spent[0]
            start = time.perf_counter()
            function(model, x, *of)
            return first, inside, time.perf_counter() - start
    finally:
        runs.verify = verify


def main():
    """Print a line for each case."""
    print(f"{ENGINE}: medians of {ROUNDS} first calls")
    for title, case in CASES.items():
        first_and_next(*case, "error")  # what is imported and made once
        taken = {mode: [first_and_next(*case, mode) for _ in range(ROUNDS)] for mode in ("error", "off")}
        share = statistics.median(inside / (first - inside) for first, inside, _ in taken["error"])
        proof, call = (statistics.median(row[i] for row in taken["error"]) for i in (1, 0))
        later = {mode: statistics.median(row[2] for row in rows) for mode, rows in taken.items()}
        after = f"later {1e3 * later['error']:.1f} ms, without {1e3 * later['off']:.1f} ms"
        print(
            f"  {title:<38} first call {1e3 * call:8.1f} ms, of it the proof {1e3 * proof:7.1f} ms "
            f"({100 * share:4.1f} % of the rest); {after}"
        )


if __name__ == "__main__":
    main()
