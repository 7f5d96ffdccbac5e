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
# # The input that excites a unit
#
# Two networks learn to read digits. Then their weights are frozen, and the *image* is trained: which input makes the
# network 90 % sure of a three? `wrt.maximize` finds it, for one unit or for all ten in one batch.
#
#     python examples/activation_maximization.py
#     python examples/activation_maximization.py --mnist mnist.npz --network mobilenet.keras
#
# Without arguments: the digits that come with scikit-learn, enlarged to 28 x 28. Pictures are written into
# `activation_maximization/`.

# %%
import argparse
import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")

import torch
import keras
import numpy as np
from matplotlib import pyplot
from scipy.ndimage import zoom
from sklearn.datasets import load_digits
from torch import nn

import wrt

parser = argparse.ArgumentParser()
parser.add_argument("--mnist", type=Path, help="an .npz with x_train, y_train, x_test, y_test, as Keras has it")
parser.add_argument("--network", type=Path, help="a Keras model with a layer conv_pw_5_relu; otherwise MobileNet")
arguments = parser.parse_args()

folder = Path("activation_maximization")
folder.mkdir(exist_ok=True)
DIGITS = list(range(10))


def save(figure, name):
    figure.savefig(folder / f"{name}.png", dpi=110)
    pyplot.close(figure)


# %% [markdown]
# ## Data and networks
#
# Three quarters train (45,000 images of MNIST), one quarter tests (15,000). The MLP has layers of 256, 128 and 64 with
# dropout; the LeNet-5 hands 16 maps of 4 x 4 to its dense layers. Both end in logits.


# %%
def data(path):
    if path is None:
        digits = load_digits()
        x, y = zoom(digits.images / 16, (1, 3.5, 3.5), order=1), digits.target
    else:
        arrays = np.load(path)
        x, y = arrays["x_train"] / 255, arrays["y_train"]
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order, None].astype("float32"), y[order].astype("int64")
    part = len(x) * 3 // 4
    return x[:part], y[:part], x[part:], y[part:]


x_train, y_train, x_test, y_test = data(arguments.mnist)
EPOCHS = 3 if arguments.mnist else 20  # there are 33 times as many images in MNIST


def mlp():
    parts = [nn.Flatten()]
    for before, after in ((784, 256), (256, 128), (128, 64)):
        parts += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(0.2)]
    return nn.Sequential(*parts, nn.Linear(64, 10))


def lenet():
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(256, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    )


def trained(network, seed):
    torch.manual_seed(seed)
    model = network()
    adam = torch.optim.Adam(model.parameters())
    x, y = torch.from_numpy(x_train), torch.from_numpy(y_train)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(x)).split(64):
            adam.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            adam.step()
    return model.eval()


def classes(model, x):
    """What the network takes each image for."""
    with torch.no_grad():
        return model(torch.from_numpy(np.asarray(x, "float32"))).argmax(-1).numpy()


networks = {"MLP": trained(mlp, 0), "LeNet-5": trained(lenet, 1)}
for name, model in networks.items():
    accuracies = [(classes(model, x) == y).mean() for x, y in ((x_train, y_train), (x_test, y_test))]
    print(f"{name}: {accuracies[0]:.1%} of the training images, {accuracies[1]:.1%} of the test images")

# %% [markdown]
# ## One digit
#
# The start is Gaussian noise of deviation 0.01, which is nearly black; what the network makes of it shows what it
# prefers before it has seen anything. `probability=0.9` asks for the squared error between the log-probability of the
# three and log 0.9 to vanish. Fifty steps of Adam at most, of 5e-3.

# %%
blank = np.zeros((1, 1, 28, 28), "float32")  # says the shape
three = wrt.maximize(networks["MLP"], 3, like=blank, probability=0.9, steps=50, learning_rate=5e-3)
print(three)
for k, (before, after) in enumerate(zip(three.before[0], three.after[0], strict=True)):
    print(f"  {k}: {before:6.1%} at the start, {after:6.1%} at the end")
save(wrt.plots.history(three, title="A three for the MLP"), "three")

# %% [markdown]
# ## All digits
#
# A list of units is one image for each, all in one batch; each stops by itself when it is there. The MLP needs some
# fifty steps, LeNet up to 500.

# %%
steps = {"MLP": 50, "LeNet-5": 500}
found = {}
for name, model in networks.items():
    found[name] = wrt.maximize(model, DIGITS, like=blank, probability=0.9, steps=steps[name], learning_rate=5e-3)
    reached = found[name].after[DIGITS, DIGITS]
    print(f"{name}: {reached.min():.1%} to {reached.max():.1%} after {found[name].steps.max()} steps at most")
    figure = wrt.plots.maps(found[name], cols=5, title=f"90 % sure of each digit: {name}")
    save(figure, f"digits_{name}")

# %% [markdown]
# Nobody would read these as digits, and yet both networks are sure of them. Changes too faint to mean anything add up
# over 784 pixels, and nothing in the training says what a digit is *not*. The MLP is the easier to fool: a few steps in
# any direction that its first layer likes are enough, and what appears is noise. LeNet needs more steps, since it reads
# small patches and pools them: strokes begin to show, if not yet digits.

# %% [markdown]
# ## The same with Keras
#
# The same call, since the model is all that changes: channels are last, and a softmax at the end is found and used.

# %%
keras.utils.set_random_seed(0)
layers = keras.layers
keras_lenet = keras.Sequential(
    [
        *(keras.Input((28, 28, 1)), layers.Conv2D(6, 5, activation="relu"), layers.MaxPooling2D()),
        *(layers.Conv2D(16, 5, activation="relu"), layers.MaxPooling2D(), layers.Flatten()),
        *(layers.Dense(120, "relu"), layers.Dense(84, "relu"), layers.Dense(10, "softmax")),
    ]
)
keras_lenet.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
last = np.moveaxis(x_train, 1, -1), np.moveaxis(x_test, 1, -1)
training = keras_lenet.fit(last[0], y_train, 64, EPOCHS, verbose=0, validation_data=(last[1], y_test))
save(wrt.plots.history(training, title="LeNet-5 in Keras"), "training")

three = wrt.maximize(keras_lenet, 3, probability=0.9, steps=500, learning_rate=5e-3)
every = wrt.maximize(keras_lenet, DIGITS, probability=0.9, steps=500, learning_rate=5e-3)
reached = every.after[DIGITS, DIGITS]
print(f"Keras: three at {three.after[0, 3]:.1%}; all digits {reached.min():.1%} to {reached.max():.1%}")
save(wrt.plots.maps(every, cols=5, title="90 % sure of each digit: LeNet-5 in Keras"), "digits_keras")

# %% [markdown]
# ## Digits that can be read
#
# How good an image is, a second network can tell, one that was trained independently: the one of Keras judges those of
# torch.


# %%
def recognised(x):
    """How many of the ten images the network of Keras takes for the digit that was meant, and how sure it is."""
    found = keras_lenet.predict(np.moveaxis(x, 1, -1), verbose=0)
    sure = found[DIGITS, DIGITS].mean()
    return f"a second network recognises {(found.argmax(-1) == DIGITS).sum()} of 10, with probability {sure:.2f}"


for name, result in found.items():
    print(f"{name} at 90 %: {recognised(result.x)}")

# %% [markdown]
# Two networks with convolutions agree on much of what they see in the other's noise; hardly anything of the MLP's noise
# means anything to another network.
#
# A prior says what images are like: dark where nothing is needed (`l1`), of few edges (`total_variation`), within the
# range of brightness (`bounds`), and convincing as well when moved, turned or scaled a little (`transforms`). The logit
# is maximised here, with no probability at which to stop.

# %%
priors = {
    "init": "zeros",
    "bounds": (0, 1),
    "regularizers": [wrt.regularizers.total_variation(20), wrt.regularizers.l1(5)],
    "transforms": [wrt.transforms.jitter(2), wrt.transforms.rotate(10), wrt.transforms.scale(0.9, 1.0, 1.1)],
}
for name, model in networks.items():
    # a network of dense layers does not show where the channels of its images are
    layout = {"data_format": "channels_first"} if name == "MLP" else {}
    result = wrt.maximize(model, DIGITS, like=blank, steps=200, learning_rate=0.02, **priors, **layout)
    print(f"{name} with priors: {recognised(result.x)}")
    probabilities = torch.softmax(torch.from_numpy(result.after), -1).numpy()[DIGITS, DIGITS]
    figure = wrt.plots.maps(result, cols=5, scores=probabilities, title=f"With priors: {name}")
    save(figure, f"priors_{name}")

# %% [markdown]
# ## As little as possible
#
# `near` keeps an image close to a given one: what has to change so that a seven becomes a three?

# %%
sevens = x_test[y_test == 7][:3]
changed = wrt.maximize(
    networks["LeNet-5"],
    3,
    init=sevens,
    probability=0.9,
    bounds=(0, 1),
    regularizers=[wrt.regularizers.near(sevens, weight=10.0, norm=1)],
)
print(f"sevens are threes at {np.round(changed.after[:, 3], 2)}; mean change {np.abs(changed.x - sevens).mean():.3f}")
figure = wrt.plots.maps(
    sevens[:, 0], {"change": (changed.x - sevens)[:, 0]}, cols=3, title="What makes a three of a seven for LeNet-5"
)
save(figure, "changed")

# %% [markdown]
# ## Channels of a larger network
#
# A unit may lie in any layer: here four channels in the middle of a MobileNet, each averaged over its places. Images
# are spectra in decorrelated colours (`parametrization="fourier"`), which keeps high frequencies from taking over.
# Where Keras cannot download the weights they are random, and so is what the channels look for.


# %%
def larger(path):
    """A network, and how many steps are worth while."""
    if path is not None:
        return wrt.load_model(path), 128
    try:
        return keras.applications.MobileNet(alpha=0.75), 128
    except Exception as error:
        print(f"NOTE: random weights: {str(error).splitlines()[0]}")
        return keras.applications.MobileNet((64, 64, 3), alpha=0.25, weights=None), 8


network, steps = larger(arguments.network)
transforms = wrt.transforms
channels = wrt.maximize(
    network,
    wrt.layer("conv_pw_5_relu", [0, 1, 2, 3]),
    parametrization="fourier",
    bounds=(-1, 1),
    steps=steps,
    learning_rate=0.05,
    transforms=[transforms.jitter(8), transforms.scale(0.9, 1.0, 1.1), transforms.rotate(5), transforms.jitter(4)],
)
print(channels)
save(wrt.plots.maps(channels, cols=4, title="Four channels of a MobileNet"), "channels")
