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
# # A model that knows its Jacobian
#
# `wrt.AugNet` is a `keras.Model` that trains, predicts, saves and loads as any other and answers for its derivatives
# besides: `return_jacobian(x)`, `return_gradient(x, of)` and `return_hessian(x, of)`. One is made of tensors, as a
# functional model, or of a model that is trained already. Derivatives are per sample and in inference mode: dropout is
# off, batch normalisation uses its moving statistics, and no sample sees another.
#
#     python examples/jacobian_model.py
#
# `KERAS_BACKEND=jax|torch|tensorflow` chooses where Keras runs. The picture is written into `jacobian_model/`.

# %%
import os
import time
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import torch  # before TensorFlow, if that is the backend
import keras
import numpy as np
from keras import layers
from matplotlib import pyplot
from sklearn.datasets import load_digits, load_sample_image

import wrt

folder = Path("jacobian_model")
folder.mkdir(exist_ok=True)
keras.utils.set_random_seed(0)

# %% [markdown]
# ## Create, train, query
#
# A small smooth network on the 8 x 8 digits of scikit-learn, compiled and fitted as usual.

# %%
digits = load_digits()
images, labels = (digits.images[..., None] / 16).astype("float32"), digits.target

image = keras.Input((8, 8, 1), name="image")
hidden = layers.Conv2D(16, 3, activation="gelu")(image)
hidden = layers.Dropout(0.2)(layers.Flatten()(hidden))
model = wrt.AugNet(inputs=image, outputs=layers.Dense(10, activation="softmax")(hidden))

model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
history = model.fit(images[300:], labels[300:], batch_size=64, epochs=4, verbose=0).history
loss, accuracy = model.evaluate(images[:300], labels[:300], batch_size=300, verbose=0)
print(f"accuracy after 4 epochs: {history['accuracy'][-1]:.1%} in training, {accuracy:.1%} on 300 other images")

# %% [markdown]
# Arrays go in and arrays come out: one Jacobian per image, outputs first. A gradient belongs to one scalar per image,
# which `of` names: a unit, each image's label, the highest output, a value before the softmax. The Hessian is the
# Jacobian of such a gradient.

# %%
x, y = images[:5], labels[:5]
jacobian = model.return_jacobian(x)
print("Jacobian:                         ", jacobian.shape)
print("gradient of unit 3:               ", model.return_gradient(x, of=3).shape)
print("gradient of each label:           ", model.return_gradient(x, of=y).shape)
print("gradient of the highest logit:    ", model.return_gradient(x, of=wrt.logit("max")).shape)
print("Hessian of unit 3:                ", model.return_hessian(x, of=3).shape)
np.testing.assert_allclose(jacobian[np.arange(5), y], model.return_gradient(x, of=y), atol=1e-5)

# %% [markdown]
# ## Convert a trained model
#
# Any Keras model becomes an `AugNet` by its tensors. Layers and weights are shared, so that later training of either
# model shows in both. `AugNet.from_model` does the same for a plain model, a `Sequential` one, or another `AugNet`.

# %%
plain = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(20, "tanh"), layers.Dense(10)])
plain.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
plain.fit(images[300:], labels[300:], batch_size=64, epochs=2, verbose=0)

converted = wrt.AugNet(inputs=plain.inputs, outputs=plain.outputs)
of_plain = wrt.AugNet.from_model(plain)
of_augnet = wrt.AugNet.from_model(of_plain)
reference = wrt.jacobian(plain, x)
for name, made in {"AugNet(inputs, outputs)": converted, "of a model": of_plain, "of an AugNet": of_augnet}.items():
    difference = np.abs(made.return_jacobian(x) - reference).max()
    print(f"{name:24} differs from wrt.jacobian(model) by {difference:.1e}")

# %% [markdown]
# ## Check it
#
# Central differences by hand, pixel by pixel: (f(x + h e_j) - f(x - h e_j)) / 2h. In single precision they are good to
# about three digits. `wrt.check` chooses its steps itself, tests products with random vectors as well, and names what
# else could be wrong. A pixel is dead if no output depends on it.

# %%
step = 1e-2
shifts = step * np.eye(64, dtype="float32").reshape(64, 8, 8, 1)
up, down = (converted.predict(x[0] + sign * shifts, verbose=0) for sign in (1, -1))
differences = ((up - down) / (2 * step)).T.reshape(10, 8, 8, 1)
error = np.abs(differences - converted.return_jacobian(x[:1])[0]).max() / np.abs(differences).max()
print(f"largest error beside central differences: {error:.1e} of the largest entry")
assert error < 1e-2
print(wrt.check(converted, x))

# %% [markdown]
# ## Save and load
#
# The file is a Keras file. `wrt.load_model` reads it anywhere; `keras.models.load_model` does once `wrt.AugNet` has
# been used.

# %%
path = folder / "augnet.keras"
model.save(path)
loaded = wrt.load_model(path)
print(type(loaded).__name__, "differs from what was saved by", np.abs(loaded.return_jacobian(x) - jacobian).max())

# %% [markdown]
# ## What it costs
#
# A photograph of 256 x 256 pixels and a network of 13 outputs. The naive method runs the network and its backward pass
# once for every output, in a loop. The frameworks' own functions for Jacobians push all outputs through a batched
# backward pass. The first call of `return_jacobian` plans and compiles; those after it use what was compiled.

# %%
photograph = load_sample_image("china.jpg")[60:316, 130:386].mean(-1, keepdims=True) / 255
photograph = photograph.astype("float32")[None]


def convolutions():
    """Four blocks of convolution and pooling, and 13 outputs; the weights are random."""
    x = block = keras.Input((256, 256, 1), name="photograph")
    for filters in (8, 16, 16, 32):
        block = layers.Conv2D(filters, 3, padding="same", activation="relu")(block)
        block = layers.MaxPooling2D(2)(block)
    return wrt.AugNet(x, layers.Dense(13)(layers.GlobalAveragePooling2D()(block)))


def with_jax(model):
    """A gradient per output in a loop, and `jax.jacrev` compiled."""
    import jax

    def weights():
        return [[v.value for v in vs] for vs in (model.trainable_variables, model.non_trainable_variables)]

    call = lambda w, x: model.stateless_call(*w, x, training=False)[0]
    one = lambda w, x, k: jax.grad(lambda x: call(w, x)[:, k].sum())(x)
    whole = jax.jit(jax.jacrev(lambda x, w: call(w, x)[0]))
    return (
        lambda x: np.stack([one(weights(), x, k) for k in range(13)], 1),
        lambda x: np.asarray(whole(x, weights())),
    )


def with_torch(model):
    """A backward pass per output in a loop, and `torch.func.jacrev`."""

    def loop(x):
        x = torch.tensor(x, requires_grad=True)
        return torch.stack([torch.autograd.grad(model(x)[:, k].sum(), x)[0] for k in range(13)], 1).numpy()

    whole = torch.func.jacrev(lambda x: model(x)[0])
    return loop, lambda x: whole(torch.tensor(x)).detach().numpy()


def with_tensorflow(model):
    """A tape per output in a loop, and `batch_jacobian` of one tape, compiled."""
    import tensorflow as tf

    def taped(x, function, derivative):
        with tf.GradientTape() as tape:
            tape.watch(x)
            output = function(model(x))
        return getattr(tape, derivative)(output, x)

    one = lambda x, k: taped(tf.constant(x), lambda output: output[:, k], "gradient")
    whole = tf.function(lambda x: taped(x, lambda output: output, "batch_jacobian"))
    return lambda x: np.stack([one(x, k) for k in range(13)], 1), lambda x: whole(tf.constant(x)).numpy()


def median_seconds(work, repeats=3):
    """Median of several runs, after one that compiles."""
    work()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return float(np.median(times))


network = convolutions()
backend = keras.backend.backend()
loop, whole = {"jax": with_jax, "torch": with_torch, "tensorflow": with_tensorflow}[backend](network)
maps = network.return_jacobian(photograph)
for own in (loop, whole):
    np.testing.assert_allclose(maps.ravel(), own(photograph).ravel(), atol=1e-4 * np.abs(maps).max())

seconds = {
    "one forward pass": median_seconds(lambda: network.predict_on_batch(photograph)),
    "return_jacobian": median_seconds(lambda: network.return_jacobian(photograph)),
    "a loop over the outputs": median_seconds(lambda: loop(photograph)),
    "the framework's own Jacobian": median_seconds(lambda: whole(photograph)),
}
for name, value in seconds.items():
    print(f"{name:30} {1000 * value:7.1f} ms on {backend}")
print(wrt.plan_jacobian(network, like=photograph).plan)

# %% [markdown]
# ## Draw it
#
# The photograph and the components 0, 1 and 12 of its Jacobian. Red pixels raise the output when they get brighter,
# blue ones lower it. Each map has a colour scale of its own, which ends at its 99th percentile.


# %%
def draw(image, maps, numbers):
    """The image and the chosen maps in a row."""
    figure, panels = pyplot.subplots(1, len(numbers) + 1, figsize=(3 * (len(numbers) + 1), 3.3), layout="constrained")
    panels[0].imshow(image, cmap="gray")
    panels[0].set_title("input")
    for axes, number in zip(panels[1:], numbers, strict=True):
        end = np.quantile(np.abs(maps[number]), 0.99)
        axes.imshow(maps[number], cmap="RdBu_r", vmin=-end, vmax=end)
        axes.set_title(f"output {number}")
    for axes in panels:
        axes.set(xticks=[], yticks=[])
    return figure


figure = draw(photograph[0, ..., 0], maps[0, ..., 0], (0, 1, 12))
figure.savefig(folder / "jacobian.png", dpi=100)
print(f"wrote {folder / 'jacobian.png'}")
