"""Score-CAM, which weighs channels by what the model says of the input seen through them; and guided Grad-CAM."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Unpack

from wrt.derive.inputs import engine_of
from wrt.derive.job import Job, prepare
from wrt.derive.layout import input_axis, positions
from wrt.derive.values import forward_of
from wrt.engines import registry
from wrt.engines.base import Array, Engine
from wrt.errors import InputError, SelectionError
from wrt.methods.cam import channel_axis, grad_cam, prepared
from wrt.methods.filters import normalize
from wrt.methods.gradient import guided_backprop
from wrt.methods.masked import Subject, places
from wrt.methods.method import Common, register
from wrt.methods.resize import resized
from wrt.rules import positive_part
from wrt.select import Layer
from wrt.trees import flatten, unflatten


@register(
    paper="Wang et al., Score-CAM: score-weighted visual explanations for convolutional neural networks, CVPR "
    "workshops 2020 (arXiv:1910.01279)",
    postprocess="positive_normalize",
)
def score_cam(
    model: Any, x: Any, of: Any = None, *, wrt: Any = None, with_output: bool = False, **options: Unpack[Common]
) -> Any:
    """Score-CAM: channels weighted by the output for the input seen through them; no gradient.

    relu(sum_c w[c] A[n, p, c]), w = softmax over c of y_of(x[n] * H[n, c]), H[n, c] being channel c of the layer,
    linearly interpolated to the size of the input and scaled to 0..1. Shape `(N, *spatial)`, or `(N, K, *spatial)`.
    One forward pass per channel; units are chosen at `x`.

    Args:
        model: a Keras model or a `torch.nn.Module`.
        x: an array `(N, *in)`, or a dict, list or tuple of them, one of which has the spatial axes of the layer.
        of: the scalar, in the forms of `wrt.gradient`; the formula means a logit, `wrt.logit(unit)`.
        wrt: `wrt.layer(name)`, a layer with spatial axes; by default where the last convolution ends.
        with_output: return `(maps, chosen outputs)`.
        options: `batch_size`, `max_memory`, `compile`, `progress`, `differentiable`, as in `wrt.gradient`;
            `data_format` (`"channels_first"`, `"channels_last"`), where the model does not show where channels are.

    Raises:
        SelectionError: there is no convolution, or the layer has no spatial axes or is unknown.
        OptionError: `data_format` is needed, or no choice.

    Example:
        >>> import torch, wrt
        >>> model = torch.nn.Sequential(torch.nn.Conv1d(1, 1, 1), torch.nn.Flatten(), torch.nn.Linear(2, 1))
        >>> _ = model[0].weight.data.fill_(2.0), model[0].bias.data.fill_(0.0)
        >>> wrt.methods.score_cam(model, torch.tensor([[[1.0, 3.0]]]))  # of one channel, whose weight is 1
        tensor([[2., 6.]])

    Source: Wang et al., CVPR workshops 2020, algorithm 1.
    """
    job = prepared(model, x, of, wrt, with_output, options)
    site = job.recipe.problem.wrt.chosen[0]
    if isinstance(site, int):
        raise SelectionError(
            f"wrt={wrt!r} is an input; Score-CAM looks at the input through a layer: wrt.layer('name')"
        )
    axis = channel_axis(job)
    spatial = positions(job.recipe.shapes.ins[0], axis)
    subject = Subject(model, x, of, _seen(job.inputs.leaves, spatial), job.options)
    layer = Layer(site[0], call=site[1])
    values = forward_of(prepare(model, x, layer, subject.number, "vjp", subject.options))[0]
    home = subject.home
    values = home.moveaxis(values, axis, 1)
    where = _where(job, subject.number, subject.shape, len(spatial))
    scores = home.moveaxis(_scores(subject, values, where), 0, 2)
    weights = math.e ** home.log_softmax(scores)
    rows = home.reshape(values, (-1, values.shape[1], math.prod(spatial)))
    maps = home.reshape(positive_part(weights @ rows), (-1, *subject.units, *spatial))
    return (maps, subject.outputs(subject.here())) if with_output else maps


@register(
    paper="Selvaraju et al., Grad-CAM: visual explanations from deep networks via gradient-based localization, "
    "ICCV 2017 (arXiv:1610.02391)",
)
def guided_grad_cam(
    model: Any, x: Any, of: Any = None, *, wrt: Any = None, with_output: bool = False, **options: Unpack[Common]
) -> Any:
    """Guided Grad-CAM: guided backpropagation where Grad-CAM looks.

    m[n] = guided_backprop(x[n]) * grad_cam(x[n]), the latter linearly interpolated to the size of the input. Shape
    `(N, *in)`, or `(N, K, *in)` for K units.

    Args:
        model: a Keras model or a `torch.nn.Module`.
        x: an array `(N, *in)`, or a dict, list or tuple of them, all with the spatial axes of the layer.
        of: the scalar, in the forms of `wrt.gradient`.
        wrt: `wrt.layer(name)`, the layer of Grad-CAM; by default where the last convolution ends.
        with_output: return `(maps, chosen outputs)`.
        options: `batch_size`, `max_memory`, `compile`, `progress`, `differentiable`, as in `wrt.gradient`;
            `data_format` (`"channels_first"`, `"channels_last"`), where the model does not show where channels are.

    Raises:
        SelectionError: there is no convolution or no ReLU, or the layer has no spatial axes or is unknown.
        InputError: an input has other spatial axes than the layer.

    Example:
        >>> import torch, wrt
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv1d(1, 1, 1), nn.ReLU(), nn.Flatten(), nn.Linear(2, 1))
        >>> _ = [p.data.fill_(1.0) for p in model.parameters()]
        >>> wrt.methods.guided_grad_cam(model, torch.tensor([[[1.0, 3.0]]]))
        tensor([[[2., 4.]]])

    Source: Selvaraju et al., ICCV 2017, section 3.3.
    """
    coarse, outputs = grad_cam(model, x, of, wrt=wrt, with_output=True, **options)
    fine = guided_backprop(model, x, of, **options)
    units = len(outputs.shape) - 1
    home = engine_of(x) or registry.engine("reference")
    job = prepared(model, x, of, wrt, True, options)
    leaves, structure = flatten(fine)
    maps = unflatten(structure, [a * _at_size(job, home, coarse, a, units, k) for k, a in enumerate(leaves)])
    return (maps, outputs) if with_output else maps


def _seen(leaves: Sequence[Array], spatial: tuple[int, ...]) -> int:
    """The number of the one input that has as many spatial axes as the layer."""
    fits = [i for i, leaf in enumerate(leaves) if len(leaf.shape) in (len(spatial) + 1, len(spatial) + 2)]
    if len(fits) != 1:
        shapes = ", ".join(str(tuple(leaf.shape)) for leaf in leaves)
        raise InputError(f"x has shapes {shapes}; expected one input with the {len(spatial)} spatial axes of the layer")
    return fits[0]


def _where(job: Job, number: int, shape: Sequence[int], spatial: int) -> tuple[int, ...]:
    """The spatial axes of an input, which may have no channels; `data_format=` is about the layer."""
    whole = len(shape) == spatial
    data_format = job.options.data_format
    return places(shape, None if whole else input_axis(job.adapted, job.inputs, number, data_format, primary=False))


def _scores(subject: Subject, values: Array, axes: tuple[int, ...]) -> Array:
    """(C, N, K): the outputs for the input seen through each channel of `values (N, C, *spatial)`."""
    home, shape = subject.home, subject.shape
    sizes = [shape[a] for a in axes]
    broad = [s if a in axes else 1 for a, s in enumerate(shape)]
    found = []
    for part in subject.parts(values.shape[1], "Score-CAM"):
        count = part.stop - part.start
        masks = normalize(resized(home, values[:, part], sizes, 2), lead=2)
        masks = home.moveaxis(home.reshape(masks, (-1, count, *broad)), 1, 0)
        found.append(subject(subject.leaf * masks, count))
    return home.concatenate(found)


def _at_size(job: Job, home: Engine, maps: Array, leaf: Array, units: int, number: int) -> Array:
    """`(N, *units, *spatial)` maps at the size of input number `number`, `leaf (N, *units, *in)`, channels one."""
    before, spatial = 1 + units, len(maps.shape) - 1 - units
    inside = tuple(leaf.shape[before:])
    if len(inside) not in (spatial, spatial + 1):
        raise InputError(
            f"x has an input of shape (N, {', '.join(map(str, inside))}), but the layer {spatial} spatial axes"
        )
    axes = _where(job, number, inside, spatial)
    fine = resized(home, maps, [inside[a] for a in axes], before)
    return home.reshape(fine, (*maps.shape[:before], *(s if a in axes else 1 for a, s in enumerate(inside))))
