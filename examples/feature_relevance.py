# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Which observable matters?
#
# A network learns to tell signal from background by three observables. Which of them does it use, in which direction,
# where, and together with which other? Derivatives of its output say so, once one knows how to read them.
#
#     python examples/feature_relevance.py
#     python examples/feature_relevance.py --events events.data
#
# Without arguments the events are generated, so that the truth is known: the first observable is shifted in its mean,
# the second differs in its width, the third is the same for both. `KERAS_BACKEND` is `jax`, `torch` or `tensorflow`.
# Pictures are written into `feature_relevance/`.

# %%
import argparse
import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")

import torch  # noqa: F401 (before TensorFlow, if that is the backend)
import keras
import numpy as np
from matplotlib import pyplot

import wrt

parser = argparse.ArgumentParser()
parser.add_argument("--events", type=Path, help="a table: three observables, and 0, 1 (training) or 2, 3 (testing)")
parser.add_argument("--seed", type=int, default=0, help="of the training")
arguments = parser.parse_args()

folder = Path("feature_relevance")
folder.mkdir(exist_ok=True)
NAMES = ["x1", "x2", "x3"]
CLASSES = ["background", "signal"]


def save(figure, name):
    figure.savefig(folder / f"{name}.png", dpi=150)
    pyplot.close(figure)


# %% [markdown]
# ## The events
#
# 10,000 of each class for training, as many for testing. In a file the last column is 0 for background and 1 for
# signal, plus 2 for the events that test.


# %%
def generated():
    rng = np.random.default_rng(7)
    label = np.repeat([0, 1, 2, 3], 10_000)
    signal = label % 2
    x1 = rng.normal(1.0 + signal, 1.0)
    x2 = rng.normal(1.5, np.where(signal, 0.7, 1.4))
    x3 = rng.normal(1.5, 1.0, len(label))
    return np.stack([x1, x2, x3, label], 1)


def events(path):
    if path is None:
        return generated()
    comma = "," in path.open().readline()
    return np.loadtxt(path, delimiter="," if comma else None)


table = events(arguments.events)
train, test = table[table[:, 3] < 2], table[table[:, 3] >= 2]
x_train, y_train = train[:, :3].astype("float32"), train[:, 3].astype(int)
x_test, y_test = test[:, :3].astype("float32"), test[:, 3].astype(int) - 2
save(wrt.plots.pairs(x_test, y_test, names=NAMES, classes=CLASSES), "pairs")

# %% [markdown]
# ## The network
#
# Three inputs, one hidden layer of 100 tanh, a sigmoid; batches of 1,024, 50 epochs, a quarter of the events to
# validate.


# %%
def trained(x, seed):
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Dense(100, "tanh"), keras.layers.Dense(1, "sigmoid")]
    model = keras.Sequential([keras.Input(x.shape[1:]), *layers])
    model.compile(keras.optimizers.Adam(0.01), "binary_crossentropy", metrics=["accuracy"])
    order = np.random.default_rng(seed).permutation(len(x))
    history = model.fit(x[order], y_train[order], 1024, 50, validation_split=0.25, verbose=0)
    return model, history


model, history = trained(x_train, arguments.seed)
save(wrt.plots.history(history), "history")
output = model.predict(x_test, batch_size=4096, verbose=0)[:, 0]
print(f"accuracy on the test events: {((output > 0.5) == y_test).mean():.1%}")

save(wrt.plots.pairs(output[:, None], y_test, names=["output of the network"], classes=CLASSES), "output")

# %% [markdown]
# ## Mean gradients, and why they mislead
#
# The mean of the gradient over all events says that the second observable hardly matters. It does: signal is narrower,
# so the output rises towards the middle from either side, and what is positive on the left cancels what is negative on
# the right. The mean *magnitude* does not cancel. The third observable is small in both.

# %%
found = wrt.relevance(model, x_test, names=NAMES)
print(found)
for name, mean, size in zip(NAMES, found.first.mean, found.first.mean_abs, strict=True):
    print(f"{name}: mean {mean:+.4f}, mean magnitude {size:.4f}")
save(found.plot(), "relevance")

# %% [markdown]
# Near 0 and 1 the sigmoid is flat and hides slopes. The logit, before the sigmoid, shows them: here the truth is known,
# (x1 - 1.5) + (1/1.4² - 1/0.7²) (x2 - 1.5)²/2 + const, whose derivatives are 1, -1.53 (x2 - 1.5) and 0.

# %%
logit = wrt.relevance(model, x_test, wrt.logit(0), names=NAMES)
print(logit)
if arguments.events is None:
    width = 1 / 1.4**2 - 1 / 0.7**2
    inside = np.abs(x_test - 1.5).max(1) < 2  # where there are events enough to learn from
    learnt = wrt.gradient(model, x_test[inside], wrt.logit(0))
    true = np.stack([np.ones(len(learnt)), width * (x_test[inside, 1] - 1.5), np.zeros(len(learnt))], 1)
    print("correlation of learnt and true slope along x2:", np.corrcoef(learnt[:, 1], true[:, 1])[0, 1].round(3))
    print("mean slope along x1:", learnt[:, 0].mean().round(2), "true: 1; along x3:", learnt[:, 2].mean().round(2))

# %% [markdown]
# ## Second derivatives
#
# The curvature along x2 does not change its sign: its mean tells at once what the mean gradient hides, that the output
# has its height in the middle. Where an observable matters, a profile shows: the mean derivative against its value.

# %%
for i, j in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)):
    print(f"{NAMES[i]} {NAMES[j]}: mean second derivative of the logit {logit.raw[1].mean[i, j]:+.3f}")
figure, panels = pyplot.subplots(3, 1, figsize=(3.4, 4.8), sharey=True, layout="constrained")
for name, axes in zip(NAMES, panels, strict=True):
    wrt.plots.profile(wrt.profile(model, x_test, name, wrt.logit(0), names=NAMES), axes)
save(figure, "profile")

# %% [markdown]
# ## Heat maps
#
# Output, gradient and Hessian over the first two observables, on [-2, 5]² in 40 steps with fixed scales; the third is
# at its median. The output is a ridge along x1 that falls off to both sides of x2 = 1.5.

# %%
plane = wrt.surface(model, x_test, features=("x1", "x2"), range=(-2, 5), grid=40, names=NAMES)
save(wrt.plots.surface(plane, scales={"output": (0, 1), "first": 0.5, "second": 1.0}), "surface")

# %% [markdown]
# ## Single observables against the network
#
# Background rejection against signal efficiency. A cut on x1 works as it is; a cut on x2 does not, since signal lies in
# the middle, but the distance from the middle does. The network combines both.

# %%
scores = dict(zip(NAMES, x_test.T, strict=True)) | {"network": output}
middle = np.median(x_test[:, 1])
save(wrt.plots.roc(scores, y_test, kind="rejection", transform={"x2": lambda s: -np.abs(s - middle)}), "roc")
save(wrt.plots.roc(scores, y_test), "roc_plain")

# %% [markdown]
# ## Without the useless observable
#
# The ranking says that x3 can go. A network without it is as good.

# %%
ranking = [NAMES[index[0]] for index in found.ranking(order=1)]
keep = sorted(NAMES.index(name) for name in ranking[:2])
smaller, _ = trained(x_train[:, keep], arguments.seed)
less = smaller.predict(x_test[:, keep], batch_size=4096, verbose=0)[:, 0]
print("ranking:", *ranking)
print(f"accuracy with {' and '.join(NAMES[k] for k in keep)} alone: {((less > 0.5) == y_test).mean():.1%}")
