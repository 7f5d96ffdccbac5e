"""The same numbers as Captum on the same torch models; and ReLU in forms that its hooks do not see."""

import functools

import captum.attr as ca
import captum.metrics as cm
import numpy as np
import pytest
import torch
from subjects import close
from torch import nn
from torch.nn import functional as F

import wrt
from wrt.methods import METHODS, expected_gradients, integrated_gradients

# what Captum says of its own doings
pytestmark = [
    pytest.mark.filterwarnings("ignore:Input Tensor [01] did not already require gradients"),
    pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU"),
    pytest.mark.filterwarnings("ignore:Setting forward, backward hooks"),
]
TOLERANCE = 1e-6  # Captum keeps the weights of a quadrature in float32
LABELS = torch.tensor([0, 2, 1, 2])


class Residual(nn.Module):
    """Two convolutions beside a shortcut, with batch normalisation and a max pooling."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.relu = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()
        self.inner, self.inner_norm, self.inner_relu = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()
        self.pool, self.head = nn.MaxPool2d(2), nn.Linear(4, 3)

    def forward(self, x):
        x = self.pool(self.relu(self.norm(self.first(x))))
        x = self.inner_relu(x + self.inner_norm(self.inner(x)))
        return self.head(x.mean((2, 3)))


def mlp():
    return nn.Sequential(
        nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 5), nn.Tanh(), nn.Linear(5, 3)
    )


def cnn():
    features = (nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 2), nn.ReLU())
    return nn.Sequential(*features, nn.Flatten(), nn.Linear(20, 3))


MODELS = {"mlp": (mlp, (6,)), "cnn": (cnn, (2, 8, 9)), "residual": (Residual, (2, 8, 9))}
IMAGES = ["cnn", "residual"]
LAST = {"cnn": "4", "residual": "inner_relu"}


@functools.cache
def subject(name):
    """A model with weights and statistics drawn anew, in inference mode, and four samples."""
    make, shape = MODELS[name]
    generator = torch.Generator().manual_seed(3)
    return drawn(make(), generator), torch.randn(4, *shape, dtype=torch.float64, generator=generator)


def drawn(model, generator):
    model = model.double().eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_var.copy_(torch.rand(module.running_var.shape, generator=generator) + 0.5)
                module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=generator))
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * (0.8 if p.dim() == 1 else 2 / p[0].numel() ** 0.5))
    return model


def same(found, wanted):
    """As Captum says, and not all zero."""
    wanted = wanted.detach().numpy()
    assert np.abs(wanted).max() > 1e-3
    close(found, wanted, TOLERANCE)


# --- gradients


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("method", "theirs", "options"),
    [
        ("gradient", ca.Saliency, {"abs": False}),
        ("input_x_gradient", ca.InputXGradient, {}),
        ("guided_backprop", ca.GuidedBackprop, {}),
        ("deconvnet", ca.Deconvolution, {}),
    ],
)
def test_gradients(name, method, theirs, options):
    model, x = subject(name)
    same(METHODS[method].function(model, x, LABELS), theirs(model).attribute(x, target=LABELS, **options))


# --- paths

# Captum's trapezoid weighs each of S points with 1 / S, so that its weights add up to (S - 1) / S
QUADRATURES = {
    "gausslegendre": ("gausslegendre", 1),
    "trapezoid": ("riemann_trapezoid", 9 / 8),
    "riemann": ("riemann_right", 1),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("quadrature", QUADRATURES)
def test_integrated_gradients(name, quadrature):
    model, x = subject(name)
    method, factor = QUADRATURES[quadrature]
    starts = [torch.linspace(-1, 1, x[0].numel(), dtype=x.dtype).reshape(1, *x.shape[1:]), x.flip(0) / 2]
    if quadrature != "trapezoid":  # which has a node on the baseline: a constant image is a tie for a max pooling
        starts.append(0.3)
    for start in starts:
        wanted = ca.IntegratedGradients(model).attribute(x, start, LABELS, n_steps=9, method=method)
        ours = start[0] if torch.is_tensor(start) and len(start) == 1 else start  # of a single sample
        found = integrated_gradients(model, x, LABELS, baseline=ours, steps=9, quadrature=quadrature)
        same(found, wanted * factor)


class Two(nn.Module):
    """A model of two inputs."""

    def __init__(self):
        super().__init__()
        self.left, self.right = mlp(), cnn()

    def forward(self, a, b):
        return torch.tanh(self.left(a)) * self.right(b)


def test_a_model_of_two_inputs():
    model = drawn(Two(), torch.Generator().manual_seed(4))
    x = subject("mlp")[1], subject("cnn")[1]
    start = torch.ones_like(x[0]), x[1].flip(0)
    for ours, theirs in zip(
        integrated_gradients(model, x, LABELS, baseline=start, steps=9),
        ca.IntegratedGradients(model).attribute(x, start, LABELS, n_steps=9),
        strict=True,
    ):
        same(ours, theirs)
    for ours, theirs in zip(
        wrt.gradient(model, x, LABELS), ca.Saliency(model).attribute(x, LABELS, abs=False), strict=True
    ):
        same(ours, theirs)


def test_expected_gradients(monkeypatch):
    """With the draws of `expected_gradients`, each for one copy of a sample."""
    model, x = subject("cnn")
    background, rng = x.flip(0)[:3] * 0.7, np.random.default_rng(5)
    which, nodes = rng.integers(3, size=4 * 6), rng.uniform(size=4 * 6)
    monkeypatch.setattr(np.random, "choice", lambda *_: which)
    monkeypatch.setattr(np.random, "uniform", lambda *_: nodes)
    wanted = ca.GradientShap(model).attribute(x, background, n_samples=6, stdevs=0.0, target=LABELS)
    same(expected_gradients(model, x, LABELS, background=background, samples=6, seed=5), wanted)


# --- layers


@pytest.mark.parametrize(("name", "layer"), [("mlp", "3"), ("cnn", "1"), ("cnn", "3"), ("residual", "inner_norm")])
def test_layers(name, layer):
    model, x = subject(name)
    module, start = model.get_submodule(layer), x.flip(0) / 2
    wanted = ca.LayerGradientXActivation(model, module).attribute(x, LABELS)
    same(wrt.methods.input_x_gradient(model, x, LABELS, wrt=wrt.layer(layer)), wanted)
    same(wrt.gradient(model, x, LABELS, wrt=wrt.layer(layer)) * ca.LayerActivation(model, module).attribute(x), wanted)
    wanted = ca.LayerIntegratedGradients(model, module).attribute(x, start, LABELS, n_steps=9)
    begin = ca.LayerActivation(model, module).attribute(start)
    same(integrated_gradients(model, x, LABELS, wrt=wrt.layer(layer), baseline=begin, steps=9), wanted)


@pytest.mark.parametrize("name", IMAGES)
def test_grad_cam(name):
    model, x = subject(name)
    module, layer = model.get_submodule(LAST[name]), wrt.layer(LAST[name])
    wanted = ca.LayerGradCam(model, module).attribute(x, LABELS, relu_attributions=True)
    same(wrt.methods.grad_cam(model, x, LABELS, wrt=layer), wanted[:, 0])
    wanted = ca.GuidedGradCam(model, module).attribute(x, LABELS, interpolate_mode="bilinear")
    same(wrt.methods.guided_grad_cam(model, x, LABELS, wrt=layer), wanted)


# --- changed inputs


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize(("window", "stride"), [((3, 4), (2, 3)), ((2, 3), (2, 3))])
def test_occlusion(name, window, stride):
    """Windows over all channels; the last ones are cut off at the border."""
    model, x = subject(name)
    wanted = ca.Occlusion(model).attribute(x, (2, *window), (2, *stride), baselines=0.4, target=LABELS)
    same(wrt.methods.occlusion(model, x, LABELS, window=window, stride=stride, baseline=0.4), wanted)


@pytest.mark.parametrize(("kind", "theirs"), [("mean", "smoothgrad"), ("var", "vargrad"), ("squared", "smoothgrad_sq")])
@pytest.mark.parametrize(
    ("method", "tunnelled"), [("gradient", ca.Saliency), ("integrated_gradients", ca.IntegratedGradients)]
)
def test_noise(kind, theirs, method, tunnelled):
    """With Captum's noise, drawn for all copies of a sample before the next sample."""
    model, x = subject("cnn")
    options, named = ({}, {"abs": False}) if method == "gradient" else ({"steps": 5}, {"n_steps": 5})
    torch.manual_seed(8)
    noise = torch.normal(0, torch.full((4 * 6, *x.shape[1:]), 0.2)).reshape(4, 6, *x.shape[1:]).transpose(0, 1)
    torch.manual_seed(8)
    tunnel = ca.NoiseTunnel(tunnelled(model))
    wanted = tunnel.attribute(x, nt_type=theirs, nt_samples=6, stdevs=0.2, target=LABELS, **named)
    function = functools.partial(METHODS[method].function, **options)
    same(wrt.smooth(function, noise=noise, kind=kind)(model, x, LABELS), wanted)


# --- metrics


@pytest.mark.parametrize("name", MODELS)
def test_infidelity(name):
    model, x = subject(name)
    maps = wrt.gradient(model, x, LABELS)
    changes = np.random.default_rng(2).normal(0, 0.3, (7, *x.shape))
    change = torch.from_numpy(changes).transpose(0, 1).reshape(-1, *x.shape[1:])
    wanted = cm.infidelity(model, lambda a: (change, a - change), x, maps, target=LABELS, n_perturb_samples=7)
    same(wrt.metrics.infidelity(model, x, maps, LABELS, noise=0.3, samples=7, seed=2), wanted)


@pytest.mark.parametrize("name", MODELS)
def test_max_sensitivity(name):
    model, x = subject(name)
    rng = np.random.default_rng(2)
    changes = np.stack([rng.uniform(-0.3, 0.3, x.shape) for _ in range(7)])
    change = torch.from_numpy(changes).transpose(0, 1).reshape(-1, *x.shape[1:])
    saliency = ca.Saliency(model).attribute
    wanted = cm.sensitivity_max(saliency, x, lambda a: a + change, n_perturb_samples=7, target=LABELS, abs=False)
    same(wrt.metrics.max_sensitivity("gradient", model, x, LABELS, radius=0.3, samples=7, seed=2), wanted)


# --- modified gradients, where hooks on modules see nothing, or where they had trouble


class Rectified(nn.Module):
    """Three linear layers with something between them."""

    def __init__(self, call):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, 9), nn.Linear(9, 8), nn.Linear(8, 3)])
        self.call = call

    def forward(self, x):
        a, b, c = self.layers
        return c(self.call(b(self.call(a(x)))))


def rectifiers():
    """ReLU in other forms than that of a module of its own for every call."""
    return {
        "functional": F.relu,
        "functional in place": functools.partial(F.relu, inplace=True),
        "torch.relu_": torch.relu_,
        "method": lambda z: z.relu(),
        "method in place": lambda z: z.relu_(),
        "module in place": nn.ReLU(inplace=True),
        "module used twice": nn.ReLU(),
        "module in place used twice": nn.ReLU(inplace=True),
    }


@pytest.mark.parametrize("call", rectifiers())
@pytest.mark.parametrize(
    ("method", "theirs"), [("guided_backprop", ca.GuidedBackprop), ("deconvnet", ca.Deconvolution)]
)
def test_rectifiers_that_hooks_miss(call, method, theirs):
    """Truth: Captum on the same weights with a module of its own for every call."""
    model, x = drawn(Rectified(rectifiers()[call]), torch.Generator().manual_seed(6)), subject("mlp")[1]
    a, b, c = model.layers
    wanted = theirs(nn.Sequential(a, nn.ReLU(), b, nn.ReLU(), c)).attribute(x, target=LABELS)
    assert (wanted - wrt.gradient(model, x, LABELS)).abs().max() > 1e-2
    same(METHODS[method].function(model, x, LABELS), wanted)
