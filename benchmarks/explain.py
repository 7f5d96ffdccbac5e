"""Explanations beside Captum (torch), and a gradient beside a forward pass (Keras on JAX and TensorFlow).

Torch: a ResNet-50 of random weights; the gradient of images of 224 x 224, integrated gradients with 50 steps and
SmoothGrad with 20 noisy copies of smaller ones: time side by side, and the peak memory of a process of its own for
each. Keras: a MobileNet of random weights.

python benchmarks/explain.py jax|torch|tensorflow [--quick]
"""

from __future__ import annotations

import os
import subprocess
import sys

ENGINE = sys.argv[1] if len(sys.argv) > 1 else "torch"
os.environ["KERAS_BACKEND"] = ENGINE
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np  # noqa: E402
import torch  # noqa: E402  (before tensorflow: a crash otherwise)
from side_by_side import report  # noqa: E402

import wrt  # noqa: E402

QUICK = "--quick" in sys.argv
ROUNDS = 3 if QUICK else 7
STEPS, COPIES, NOISE = 50, 20, 0.1
# samples and side of the images
SIZES = {"gradient": (8, 224), "integrated gradients": (2, 96), "SmoothGrad": (4, 96)}
if QUICK:
    SIZES = {"gradient": (8, 64), "integrated gradients": (1, 48), "SmoothGrad": (2, 48)}


def resnet50():
    """Bottlenecks of 1 x 1, 3 x 3 and 1 x 1 convolutions in four stages, as torchvision has them."""
    from torch import nn

    def normed(width, to, size=1, stride=1):
        return nn.Conv2d(width, to, size, stride, size // 2, bias=False), nn.BatchNorm2d(to)

    class Bottleneck(nn.Module):
        def __init__(self, width, inner, stride):
            super().__init__()
            self.body = nn.Sequential(
                *(*normed(width, inner), nn.ReLU(inplace=True)),
                *(*normed(inner, inner, 3, stride), nn.ReLU(inplace=True)),
                *normed(inner, 4 * inner),
            )
            same = stride == 1 and width == 4 * inner
            self.shortcut = nn.Identity() if same else nn.Sequential(*normed(width, 4 * inner, 1, stride))
            self.relu = nn.ReLU(inplace=True)

        def forward(self, x):
            return self.relu(self.body(x) + self.shortcut(x))

    torch.manual_seed(0)
    parts = [*normed(3, 64, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    width = 64
    for stage, count in enumerate((3, 4, 6, 3)):
        inner = 64 << stage
        for number in range(count):
            parts.append(Bottleneck(width, inner, 2 if stage and not number else 1))
            width = 4 * inner
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 1000)).eval()


def images(task):
    count, side = SIZES[task]
    return torch.from_numpy(np.random.default_rng(0).normal(size=(count, 3, side, side)).astype("float32"))


def torch_ways(task):
    """Ours, and Captum's as it comes: all points of all samples in one batch."""
    from captum.attr import IntegratedGradients, NoiseTunnel, Saliency

    net, x = resnet50(), images(task)
    labels = torch.arange(len(x))
    saliency = Saliency(net)
    if task == "gradient":
        return {
            "wrt": lambda: wrt.gradient(net, x, labels),
            "captum": lambda: saliency.attribute(x.detach().requires_grad_(), labels, abs=False),
        }
    if task == "integrated gradients":
        integrated = IntegratedGradients(net)
        return {
            "wrt": lambda: wrt.methods.integrated_gradients(net, x, labels, steps=STEPS),
            "captum": lambda: integrated.attribute(x, target=labels, n_steps=STEPS),
        }
    tunnel, smooth = NoiseTunnel(saliency), wrt.smooth("gradient", repetitions=COPIES, noise=NOISE)
    options = {"nt_type": "smoothgrad", "nt_samples": COPIES, "stdevs": NOISE, "abs": False}
    return {
        "wrt": lambda: smooth(net, x, labels),
        "captum": lambda: tunnel.attribute(x.detach().requires_grad_(), target=labels, **options),
    }


def peak(task, way):
    """MiB that a process of its own needs at most for this alone, on Linux."""  # ru_maxrss has the parent's in it
    command = [sys.executable, __file__, *sys.argv[1:], "--only", task, way]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]) / 1024


def keras_ways():
    """A gradient of the label, and the model's own compiled forward pass."""
    import keras

    keras.utils.set_random_seed(0)
    side, count = (96, 4) if QUICK else (224, 8)
    net = keras.applications.MobileNet((side, side, 3), weights=None)
    x = keras.ops.convert_to_tensor(np.random.default_rng(0).normal(size=(count, side, side, 3)).astype("float32"))
    labels = np.arange(count)
    if ENGINE == "jax":
        import jax

        state = [v.value for v in net.trainable_variables], [v.value for v in net.non_trainable_variables]
        compiled = jax.jit(lambda state, x: net.stateless_call(*state, x, training=False)[0])
        ready = jax.block_until_ready
        return {
            "forward pass": lambda: ready(compiled(state, x)),
            "wrt": lambda: ready(wrt.gradient(net, x, wrt.logit(labels))),
        }
    import tensorflow as tf

    forward = tf.function(lambda x: net(x, training=False), autograph=False)
    return {"forward pass": lambda: forward(x), "wrt": lambda: wrt.gradient(net, x, wrt.logit(labels))}


if __name__ == "__main__":
    if "--only" in sys.argv:
        task, way = sys.argv[-2:]
        torch_ways(task)[way]()
        print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
    elif ENGINE == "torch":
        for task, (count, side) in SIZES.items():
            report(f"{task}, ResNet-50, {count} images of {side} x {side}, torch", torch_ways(task), rounds=ROUNDS)
            found = {way: peak(task, way) for way in ("wrt", "captum")}
            print(f"  peak memory: wrt {found['wrt']:.0f} MiB, {found['wrt'] / found['captum']:.2f} x captum")
    else:
        report(f"Gradient of a label, MobileNet, {ENGINE}", keras_ways(), ours="forward pass", rounds=ROUNDS)
