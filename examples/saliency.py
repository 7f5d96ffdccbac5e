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
# # What a classifier looks at
#
# One call explains any unit of any model: `wrt.explain(method, model, x, of)` returns the chosen outputs and a map for
# each of them. Here a MobileNet of `keras.applications` looks at photographs, and four methods say why it answers what
# it answers.
#
#     python examples/saliency.py
#     python examples/saliency.py --images cat.jpg dog.jpg --weights mobilenet.weights.h5 --names classes.txt
#
# Without arguments: two photographs that come with scikit-learn, and the weights that Keras downloads. Where there is
# no network the weights are random; the script says so, and its maps mean nothing then. `KERAS_BACKEND` is `jax`,
# `torch` or `tensorflow`. Pictures are written into `saliency/`.

# %%
import argparse
import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import torch  # noqa: F401 (before TensorFlow, if that is the backend)
import keras
import numpy as np
from matplotlib import pyplot
from PIL import Image
from sklearn.datasets import load_sample_images

import wrt

parser = argparse.ArgumentParser()
parser.add_argument("--images", nargs="+", type=Path, help="photographs; otherwise those of scikit-learn")
parser.add_argument("--weights", type=Path, help="of MobileNet, alpha 0.75: .weights.h5, or .npz by layer/variable")
parser.add_argument("--names", type=Path, help="the 1,000 classes, one on a line")
arguments = parser.parse_args()

folder = Path("saliency")
folder.mkdir(exist_ok=True)
keras.utils.set_random_seed(0)


# %% [markdown]
# ## Model and photographs
#
# The model ends with a softmax and stays as it is: `wrt.logit` reaches the value before it. A probability near one has
# hardly a gradient left, and the gradient that is left speaks of the other classes as much as of its own.


# %%
def mobilenet(weights):
    """The classifier, and whether it has learnt anything."""
    network = keras.applications.MobileNet
    if weights is None:
        try:
            return network(alpha=0.75), True
        except Exception as error:
            print(f"NOTE: random weights, maps without meaning: {str(error).splitlines()[0]}")
            return scaled(network((96, 96, 3), alpha=0.25, weights=None)), False
    model = network(alpha=0.75, weights=None)
    if weights.suffix != ".npz":
        model.load_weights(weights)
        return model, True
    arrays = np.load(weights)
    for layer in model.layers:
        for variable in layer.weights:
            old = f"{layer.name}/depthwise_{variable.name}"  # what Keras 2 called it
            variable.assign(arrays[old if old in arrays else f"{layer.name}/{variable.name}"])
    return model, True


def scaled(model):
    """Statistics of noise in place of none, without which random layers hand on nothing."""
    for layer in model.layers:
        layer.momentum = 0.0
    model(np.random.default_rng(0).uniform(-1, 1, (8, *model.input_shape[1:])).astype("float32"), training=True)
    return model


def photographs(paths, size):
    """Short side to the size of the network and a little more, the middle cut out, from -1 to 1."""
    images = [Image.open(p).convert("RGB") for p in paths or ()] or map(Image.fromarray, load_sample_images().images)
    return np.stack([crop(image, size) for image in images]) / 127.5 - 1


def crop(image, size):
    scale = 8 / 7 * size / min(image.size)
    image = image.resize([round(scale * side) for side in image.size], Image.Resampling.BILINEAR)
    left, top = ((side - size) // 2 for side in image.size)
    return np.asarray(image.crop((left, top, left + size, top + size)), np.float32)


def class_names(path, learnt):
    """A name for each unit."""
    if path is not None:
        return [line.split(",")[0] for line in path.read_text().splitlines()]
    try:
        every = keras.applications.mobilenet.decode_predictions(np.arange(1000.0)[None], top=1000) if learnt else [[]]
        return [name.replace("_", " ") for _, name, _ in every[0][::-1]] or [f"class {k}" for k in range(1000)]
    except Exception:  # the list of names is a download of its own
        return [f"class {k}" for k in range(1000)]


model, learnt = mobilenet(arguments.weights)
x = photographs(arguments.images, model.input_shape[1])
names = class_names(arguments.names, learnt)
probabilities = model.predict(x, verbose=0)
best = probabilities.argmax(-1)
for row, k in zip(probabilities, best, strict=True):
    print(f"{names[k]}: {row[k]:.1%}")

# %% [markdown]
# ## Side by side
#
# The same unit, the one each photograph is classified as, by four methods. `explain` runs in batches, brings coarse
# maps to the size of the photograph and stretches them to the range from 0 to 1; `postprocess=` and `resize=` say
# otherwise. A gradient is noisy; averaged over noisy copies (SmoothGrad) or along the way from a grey image
# (integrated gradients) it is less so; Grad-CAM is coarse and shows the object.

# %%
logit = wrt.logit("max")
explained = {
    "gradient": wrt.explain("gradient", model, x, logit, postprocess="absolute_normalize"),
    "SmoothGrad": wrt.explain(wrt.smooth(wrt.gradient, repetitions=16, noise=0.15, seed=0), model, x, logit),
    "integrated\ngradients": wrt.explain("integrated_gradients", model, x, logit, steps=16),
    "Grad-CAM": wrt.explain("grad_cam", model, x, logit),
}
for title, (outputs, maps) in explained.items():
    print(f"{title.replace(chr(10), ' '):22} outputs {outputs.shape}  maps {maps.shape}")
gap = np.abs(explained["integrated\ngradients"].info["completeness_gap"]).max()
print(f"integrated gradients: contributions add up to the difference of two outputs but for {gap:.2g}")

# %% [markdown]
# `explain` adds nothing to a method but this dressing: without it, the maps are those of the plain call.

# %%
direct = wrt.methods.grad_cam(model, x, logit)
plain = wrt.explain("grad_cam", model, x, logit, postprocess=None, resize=None)
np.testing.assert_array_equal(direct, plain.maps)
print("direct call:", direct.shape, "equal to explain without postprocessing")

# %% [markdown]
# ## The class and the runner-up
#
# `wrt.top(2)` chooses two units per photograph: outputs become `(N, 2)` and maps `(N, 2, ...)`, at the cost of two
# backward passes and not of a thousand.

# %%
both = wrt.explain("grad_cam", model, x, wrt.logit(wrt.top(2)))
second = probabilities.argsort(-1)[:, -2]
for outputs, a, b in zip(both.outputs, best, second, strict=True):
    print(f"{names[a]} {outputs[0]:.1f}, then {names[b]} {outputs[1]:.1f}")

# %% [markdown]
# ## All units
#
# `"all"` explains every unit. For a map of a layer that is cheap, because the backward passes end there: a thousand
# class activation maps per photograph, at the layer's own resolution.

# %%
outputs, every = wrt.explain("grad_cam", model, x, wrt.logit("all"), postprocess=None, resize=None)
print("all units:", outputs.shape, every.shape)
np.testing.assert_allclose(every[np.arange(len(x)), best], direct, rtol=1e-3, atol=1e-4 * np.abs(direct).max())

# %% [markdown]
# ## Pictures
#
# `plots.maps` puts methods side by side, over the faded photographs: magnitudes begin at zero, and each method has a
# scale of its own.

# %%
note = "" if learnt else "random weights: these maps mean nothing"
scored = [f"{names[k]}\n{row[k]:.0%}" for row, k in zip(probabilities, best, strict=True)]
figure = wrt.plots.maps(x, explained, titles=scored, title="What MobileNet looks at", note=note)
figure.savefig(folder / "methods.png", dpi=110)
pyplot.close(figure)

pairs = [["", f"{names[a]}", f"{names[b]}"] for a, b in zip(best, second, strict=True)]
figure = wrt.plots.maps(
    x, both, titles=pairs, names=["", ""], title="The class and the runner-up, by Grad-CAM", note=note
)
figure.savefig(folder / "runner_up.png", dpi=110)
pyplot.close(figure)


# %% [markdown]
# A function of the output is explained as any unit is: here by how much the best class leads the runner-up, and what
# that lead loses when a square of the photograph is covered.


# %%
def lead(y):
    """Of the best class over the second, on a logarithmic scale."""
    ordered = keras.ops.sort(keras.ops.log(y), axis=-1)
    return ordered[:, -1] - ordered[:, -2]


signed = wrt.explain("occlusion", model, x, lead, postprocess=None, window=x.shape[1] // 8)
figure = wrt.plots.maps(x, signed, title="What the lead over the runner-up hangs on, by occlusion", note=note)
figure.savefig(folder / "lead.png", dpi=110)
pyplot.close(figure)
