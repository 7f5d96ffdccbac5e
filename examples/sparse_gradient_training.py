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
# # Training with sparse input gradients
#
# A saliency map is the gradient of one output with respect to the input. Here it becomes part of the training loss: a
# small convolutional network learns to classify digits while most entries of its input gradient go to zero, so that
# each decision depends, to first order, on few pixels. On the way this page shows
#
# - the gradient as a Keras model, with a layer of one's own on it, trained by a multi-output `fit`,
# - the same training in one line, `wrt.penalize`, with a schedule for the number of entries that should vanish,
# - what sparsity costs in accuracy, and how the L1 norm of the gradient compares.
#
# The script runs on the 8 x 8 digits of scikit-learn in well under a minute, or on MNIST, given as a file with the keys
# of `keras.datasets.mnist`. It writes its pictures into `sparse_gradients/`:
#
#     python examples/sparse_gradient_training.py
#     KERAS_BACKEND=tensorflow python examples/sparse_gradient_training.py --mnist mnist.npz
#
# `KERAS_BACKEND=jax|torch|tensorflow` chooses where Keras runs; TensorFlow trains convolutions fastest on a CPU.

# %%
import argparse
import functools
import os
import time
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import torch  # noqa: F401 (before TensorFlow, if that is the backend)
import keras
import numpy as np
from keras import layers, ops
from matplotlib import pyplot

import wrt

parser = argparse.ArgumentParser()
parser.add_argument("--mnist", help="path of mnist.npz; without it, the digits of scikit-learn")
parser.add_argument("--out", default="sparse_gradients", help="folder for the pictures")
options, _ = parser.parse_known_args()
folder = Path(options.out)
folder.mkdir(parents=True, exist_ok=True)
print = functools.partial(print, flush=True)  # a long run can be followed
keras.utils.set_random_seed(0)

# %% [markdown]
# ## Data and settings
#
# The number k of gradient entries that should vanish starts small and grows every third epoch, on the small digits
# every second. These get a blank border, as those of MNIST have, and k is the same share of their pixels.


# %%
def mnist(path):
    """Images (N, 28, 28, 1) between 0 and 1, and labels."""
    with np.load(path) as arrays:
        x = {part: arrays[f"x_{part}"][..., None].astype("float32") / 255 for part in ("train", "test")}
        y = {part: arrays[f"y_{part}"].astype("int64") for part in ("train", "test")}
    return x["train"], y["train"], x["test"], y["test"]


def small_digits():
    """Images (N, 12, 12, 1) between 0 and 1, and labels; every fifth image is for testing."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = np.pad(bunch.images[..., None] / 16, ((0, 0), (2, 2), (2, 2), (0, 0))).astype("float32")
    y = bunch.target
    test = np.arange(len(x)) % 5 == 0
    return x[~test], y[~test], x[test], y[test]


if options.mnist:
    x_train, y_train, x_test, y_test = mnist(options.mnist)
    BATCH, PLAIN, BASELINE, EPOCHS, STAGE, SETTLE = 128, 1, 5, 20, 3, 5
    K_START, K_STEP, K_END, K_SETTLED, L1_WEIGHT = 50, 100, 500, 250, 0.03
else:
    x_train, y_train, x_test, y_test = small_digits()
    BATCH, PLAIN, BASELINE, EPOCHS, STAGE, SETTLE = 32, 6, 12, 14, 2, 5
    K_START, K_STEP, K_END, K_SETTLED, L1_WEIGHT = 9, 18, 92, 63, 0.1

PIXELS = x_train[0].size
THRESHOLD = 1e-4  # an entry of the gradient counts if it is larger than this


def cardinality(epoch):
    """k in an epoch: constant for a stage and one epoch, then a step upwards with every stage."""
    return min(K_START + K_STEP * max(0, (epoch - 1) // STAGE), K_END)


print(f"Keras on {keras.backend.backend()}")
print(f"{len(x_train)} images to train on, {len(x_test)} to test on, {PIXELS} pixels")
print("k in each epoch:", [cardinality(epoch) for epoch in range(EPOCHS)])

# %% [markdown]
# ## The network, and a baseline
#
# Two convolutions of 32 and 64 filters; the outputs are logits. The baseline is trained as usual. Every run below
# starts from the same network after a short plain training, `start`.


# %%
def network():
    """A small convolutional network, not trained."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input(x_train.shape[1:], name="image"),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(10, name="logits"),
        ]
    )


def copy_of(weights):
    """The network with these weights."""
    made = network()
    made.set_weights(weights)
    return made


def compiled(model, rate=1e-3):
    """The model, ready to be trained with integer labels."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    return model


def train(model, epochs, *callbacks):
    """Fit, and print how long an epoch took."""
    begin = time.perf_counter()
    model.fit(x_train, y_train, batch_size=BATCH, epochs=epochs, verbose=0, callbacks=list(callbacks))
    print(f"  {(time.perf_counter() - begin) / epochs:.1f} s per epoch")
    return model


def gradients(model):
    """The gradient of the label's logit for every test image, (N, H, W)."""
    return wrt.gradient(model, x_test, y_test)[..., 0]


def entries(gradient):
    """How many entries of each image's gradient are larger than the threshold, (N,)."""
    return (np.abs(gradient) > THRESHOLD).sum((1, 2))


def concentration(gradient):
    """How many entries of each image's gradient hold 90 % of its L1 norm, (N,)."""
    sizes = np.sort(np.abs(gradient).reshape(len(gradient), -1))[:, ::-1]
    return 1 + (sizes.cumsum(1) < 0.9 * sizes.sum(1, keepdims=True)).sum(1)


def measured(model):
    """Accuracy on the test images, and the mean number of entries of the input gradient."""
    right = model.predict(x_test, batch_size=500, verbose=0).argmax(1) == y_test
    return right.mean(), entries(gradients(model)).mean()


print("baseline")
baseline = compiled(network())
train(baseline, PLAIN)
start = baseline.get_weights()
train(baseline, BASELINE - PLAIN)
base = measured(baseline)
print(f"  accuracy {base[0]:.2%}, {base[1]:.0f} of {PIXELS} entries above {THRESHOLD:g}")

# %% [markdown]
# ## In two steps: a model of the gradient, and a layer on it
#
# `wrt.backward_model` gives the backward pass as a Keras model of an image and a cotangent. It shares the weights of
# the network. With a one-hot label as the cotangent it computes the gradient of the label's logit. What follows is
# plain Keras: a layer that gives the sum of the k smallest absolute values of a gradient and the largest of them, and a
# model with three outputs whose losses want these two to be zero. `fit` differentiates through the gradient.


# %%
class SmallestEntries(layers.Layer):
    """The sum of the k smallest absolute values of each sample, and the largest of them."""

    def __init__(self, k, **options):
        super().__init__(**options)
        self.k = self.add_weight((), keras.initializers.Constant(k), "int32", trainable=False, name="k")

    def call(self, gradient):
        sizes = ops.sort(ops.abs(ops.reshape(gradient, (-1, PIXELS))))
        rank = ops.arange(1, PIXELS + 1)
        return (
            ops.sum(ops.where(rank <= self.k, sizes, 0.0), -1),
            ops.sum(ops.where(rank == self.k, sizes, 0.0), -1),
        )


def two_step(model, k):
    """A model of (image, one-hot label) with three outputs: logits, the sum of the k smallest, the largest of them."""
    image, label = keras.Input(x_train.shape[1:]), keras.Input((10,))
    backward = wrt.backward_model(model)
    total, largest = SmallestEntries(k)(backward([image, label]))
    made = keras.Model([image, label], {"logits": model(image), "total": total, "largest": largest})
    made.compile(
        "adam",
        loss={"logits": keras.losses.CategoricalCrossentropy(from_logits=True), "total": "mse", "largest": "mse"},
        loss_weights={"logits": 1, "total": 100, "largest": 1000},
        metrics={"logits": "accuracy"},
    )
    return made


def targets(onehot):
    """The labels, and zeros for the two sizes."""
    return {"logits": onehot, "total": np.zeros(len(onehot)), "largest": np.zeros(len(onehot))}


print("two steps")
model = copy_of(start)
made = two_step(model, K_START)
onehot, onehot_test = np.eye(10, dtype="float32")[y_train], np.eye(10, dtype="float32")[y_test]
made.fit([x_train, onehot], targets(onehot), batch_size=BATCH, epochs=1, verbose=0)
found = made.evaluate([x_test, onehot_test], targets(onehot_test), batch_size=500, verbose=0, return_dict=True)
print("  " + ", ".join(f"{name} {value:.4g}" for name, value in found.items()))

# %% [markdown]
# ## In one line
#
# `wrt.penalties.SmallestK` is the same penalty, 100 · (sum of the k smallest)² + 1000 · (the largest of them)², and
# `wrt.penalize` adds it to the training of a Keras model that one compiles and fits with `(x, y)` as usual. On the
# weights just trained both ways must give the same loss.

# %%
penalised = compiled(wrt.penalize(model, wrt.penalties.SmallestK(K_START)))
again = penalised.evaluate(x_test, y_test, batch_size=500, verbose=0, return_dict=True)
print(f"the loss in two steps {found['loss']:.6g}, in one line {again['loss']:.6g}")
np.testing.assert_allclose(again["loss"], found["loss"], rtol=1e-3)

# %% [markdown]
# Numbers such as k may change during training without recompilation. `wrt.penalties.Schedule` sets them at the
# beginning of every epoch; the callback below measures the network at the end.


# %%
class Curve(keras.callbacks.Callback):
    """Accuracy and number of entries after every epoch, printed and kept with the weights."""

    def __init__(self, network):
        super().__init__()
        self.network, self.points, self.weights = network, [], []

    def on_epoch_end(self, epoch, logs=None):
        k = dict(self.model.settings).get("k")
        accuracy, count = measured(self.network)
        self.points.append((k, accuracy, count))
        self.weights.append(self.network.get_weights())
        said = f"k = {k:3d}" if k else "      "
        print(f"  epoch {epoch + 1:2d}  {said}  accuracy {accuracy:.2%}  entries {count:5.0f}")


print("the schedule")
sparse = copy_of(start)
penalised = compiled(wrt.penalize(sparse, wrt.penalties.SmallestK(K_START)))
curve = Curve(sparse)
train(penalised, EPOCHS, wrt.penalties.Schedule(k=cardinality), curve)

# %% [markdown]
# ## A better end of the schedule
#
# Every step of k is a shock: entries that were free a moment ago enter the penalty, squared, and accuracy is lost that
# later epochs recover in part only. It pays to stop earlier and to let the learning rate go to zero. This run continues
# from the last epoch of the schedule in which k had the value printed here.

# %%
print(f"a better end: k = {K_SETTLED} and a learning rate that falls to zero")
last = max(epoch for epoch in range(EPOCHS) if curve.points[epoch][0] == K_SETTLED)
decay = keras.optimizers.schedules.CosineDecay(1e-3, SETTLE * -(-len(x_train) // BATCH))
settled = copy_of(curve.weights[last])
settled_curve = Curve(settled)
penalised = compiled(wrt.penalize(settled, wrt.penalties.SmallestK(K_SETTLED)), decay)
train(penalised, SETTLE, settled_curve)

# %% [markdown]
# ## Sparse against L1
#
# The L1 norm of the gradient presses on all entries alike, the smallest-k penalty only on those that can be spared.

# %%
print("the L1 norm of the gradient")
lasso = copy_of(start)
lasso_curve = Curve(lasso)
penalised = compiled(wrt.penalize(lasso, wrt.penalties.InputGradient(of="label", p=1), L1_WEIGHT), decay)
train(penalised, SETTLE, lasso_curve)

# %% [markdown]
# ## Side by side
#
# What the four networks reach on the test images. An absolute threshold also rewards gradients that are small
# altogether; how many entries hold 90 % of the L1 norm does not depend on the size of the gradient.


# %%
def mean(values):
    """The mean, or nothing where there is nothing to average."""
    return f"{values.mean():.0f}" if len(values) else "-"


NETWORKS = {"baseline": baseline, "sparse": settled, "L1": lasso, "end of schedule": sparse}
gradient = {name: gradients(model) for name, model in NETWORKS.items()}
logits = {name: model.predict(x_test, batch_size=500, verbose=0) for name, model in NETWORKS.items()}
right = {name: logits[name].argmax(1) == y_test for name in NETWORKS}

print(f"{'':16}  loss  accuracy  entries  right  wrong  entries that hold 90 %  L1 norm")
for name, own in gradient.items():
    loss = ops.convert_to_numpy(
        keras.losses.sparse_categorical_crossentropy(y_test, ops.convert_to_tensor(logits[name]), from_logits=True)
    ).mean()
    count, norm = entries(own), np.abs(own).sum((1, 2)).mean()
    print(
        f"{name:16} {loss:.3f}  {right[name].mean():8.2%}  {mean(count):>7}  {mean(count[right[name]]):>5}"
        f"  {mean(count[~right[name]]):>5}  {mean(concentration(own)):>22}  {norm:7.2f}"
    )

# %% [markdown]
# ## Under attack
#
# Is a network whose decisions depend on few pixels harder to mislead? `wrt.attack` changes every pixel by at most
# epsilon, in one step (FGSM) or in ten (PGD, which finds more). Counted are images that the network had right.

# %%
EPSILONS = (0.03, 0.1, 0.2)
attacked = slice(None, None, 3)  # every third image, to save time


def misled(model, method, epsilon):
    """The share of the images that the network had right and no longer has."""
    found = wrt.attack(model, x_test[attacked], y_test[attacked], method=method, epsilon=epsilon, clip=(0, 1))
    right = found.label_before == y_test[attacked]
    return (found.success & right).sum() / max(right.sum(), 1)


rates = {
    (name, method): [misled(NETWORKS[name], method, epsilon) for epsilon in EPSILONS]
    for name in ("baseline", "sparse", "L1")
    for method in ("fgsm", "pgd")
}
print("misled by changes of at most  " + "".join(f"{epsilon:8g}" for epsilon in EPSILONS))
for (name, method), line in rates.items():
    print(f"  {name:16} {method:10} " + "".join(f"{rate:8.1%}" for rate in line))
fewer = sum(ours < theirs for ours, theirs in zip(rates["sparse", "pgd"], rates["baseline", "pgd"], strict=True))
print(f"PGD misleads the sparse network less often than the baseline at {fewer} of {len(EPSILONS)} epsilons.")

# %% [markdown]
# ## Pictures
#
# One plain function each. The colours are told apart by the colour-blind (Okabe and Ito's).

# %%
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "0.45"
SHOWN = {"baseline": BLUE, "sparse": ORANGE}


def save(figure, name):
    """The figure as a PNG file."""
    figure.savefig(folder / f"{name}.png", dpi=110, bbox_inches="tight")
    pyplot.close(figure)
    print(f"wrote {folder / name}.png")


def scaled(maps):
    """Each map by its own largest entry, so that networks whose gradients differ in size can be compared."""
    return maps / np.maximum(np.abs(maps).max((-2, -1), keepdims=True), 1e-30)


def draw_saliency(rows, names):
    """Images beside the gradients of their label's logit."""
    return wrt.plots.maps(
        x_test[rows],
        np.stack([scaled(gradient[name][rows]) for name in names], 1),
        names=names,
        title="Input gradients",
        unit="gradient of the label's logit, by its largest entry",
    )


def draw_distribution(row):
    """The absolute values of one image's gradient, in descending order; zeros lie on the floor."""
    figure, axes = pyplot.subplots(figsize=(5.5, 3.6), layout="constrained")
    for name, colour in SHOWN.items():
        sizes = np.sort(np.abs(gradient[name][row]).ravel())[::-1]
        axes.semilogy(np.arange(1, PIXELS + 1), np.maximum(sizes, 1e-9), color=colour, label=name)
    axes.axhline(THRESHOLD, color=GREY, linewidth=1, linestyle="--", label=f"{THRESHOLD:g}")
    axes.set(xlabel="pixels, the largest first", ylabel="|gradient|", title=f"One image, a {y_test[row]}")
    axes.legend(frameon=False)
    return figure


def draw_histograms():
    """Entries per image, for right and wrong predictions of each network."""
    figure, panels = pyplot.subplots(1, 2, figsize=(9, 3.4), sharex=True, layout="constrained")
    counts = {name: entries(gradient[name]) for name in SHOWN}
    low, high = (extreme(list(counts.values())) for extreme in (np.min, np.max))
    bins = np.linspace(low, high + 1, min(high + 1 - low, 50) + 1)
    for axes, (name, count) in zip(panels, counts.items(), strict=True):
        for kind, chosen, colour in (("right", right[name], BLUE), ("wrong", ~right[name], ORANGE)):
            share = np.full(chosen.sum(), 1 / max(chosen.sum(), 1))
            axes.hist(count[chosen], bins, weights=share, color=colour, alpha=0.55, label=f"{kind} ({chosen.sum()})")
        axes.set(title=name, xlabel=f"entries above {THRESHOLD:g}", ylabel="share of the images")
        axes.legend(frameon=False)
    return figure


def draw_classes():
    """The mean of |gradient| over the test images of each class."""
    figure, panels = pyplot.subplots(len(SHOWN), 10, figsize=(11, 2.6), layout="constrained")
    for row, name in zip(panels, SHOWN, strict=True):
        for digit, axes in enumerate(row):
            axes.imshow(scaled(np.abs(gradient[name][y_test == digit]).mean(0)), cmap="viridis", vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
        row[0].set_ylabel(name)
    for digit, axes in enumerate(panels[0]):
        axes.set_title(str(digit))
    return figure


def draw_trade():
    """Accuracy against the number of entries."""
    figure, axes = pyplot.subplots(figsize=(6.5, 4.2), layout="constrained")
    k, accuracy, count = np.array(curve.points).T
    axes.plot(count, accuracy, color="0.8", zorder=1, label="schedule, epoch by epoch")
    points = axes.scatter(count, accuracy, c=k, cmap="viridis", zorder=2)
    figure.colorbar(points, label="k")
    ends = {
        "baseline": (base, BLUE, "s"),
        "sparse": (settled_curve.points[-1][1:], ORANGE, "D"),
        "L1": (lasso_curve.points[-1][1:], GREEN, "^"),
    }
    for name, ((height, place), colour, marker) in ends.items():
        axes.scatter(place, height, s=70, color=colour, marker=marker, edgecolor="black", label=name, zorder=3)
    axes.set(xlabel=f"mean number of entries above {THRESHOLD:g}", ylabel="accuracy on test images")
    axes.yaxis.set_major_formatter("{x:.1%}")
    axes.legend(frameon=False)
    return figure


# %% [markdown]
# Gradients of four digits, and how large the entries of one of them are. This is what MNIST gives; without a penalty
# the gradient spreads over nearly all pixels.
#
# ![Digits and their input gradients](../docs/images/sparse_saliency.png)

# %%
rows = [int(np.argmax(y_test == digit)) for digit in (0, 3, 4, 7)]
save(draw_saliency(rows, ["baseline", "sparse", "L1"]), "saliency")
save(draw_distribution(rows[1]), "distribution")

# %% [markdown]
# How many entries there are per image, where the network is right and where it is wrong.

# %%
save(draw_histograms(), "sparsity")

# %% [markdown]
# Pixels that no image of a class depends on are a property of the class: the zero support that its images share. The
# sparse network of MNIST shows a lattice of every second pixel in both directions: max pooling hands the gradient to
# one position of four, and on blank paper, where all four are equal, always to the same one.

# %%
save(draw_classes(), "classes")
for name in SHOWN:
    zero = [int((np.abs(gradient[name][y_test == digit]) <= THRESHOLD).all(0).sum()) for digit in range(10)]
    print(f"{name}: pixels without influence in every image of the class {zero}")

# %% [markdown]
# What k costs: accuracy against the number of entries, along the schedule and for the other networks. On MNIST the
# curve is flat up to k = 250, as [the numbers](../docs/notes.md#sparse-gradients-on-mnist) say; beyond that every step
# of k costs more accuracy than the epochs after it win back.
#
# ![Accuracy against the number of entries on MNIST](../docs/images/sparse_trade.png)

# %%
save(draw_trade(), "trade")
