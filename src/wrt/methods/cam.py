"""Class activation maps: the channels of a layer, weighted by what the output owes to them.

A map has the positions of the layer, `(N, *spatial)`, or `(N, K, *spatial)` for K units, and is not negative. Layer and
gradient come from one pass. Below, A[n, p, c] is the layer's output at position p in channel c, and G the gradient of
the chosen output with respect to it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Unpack

import numpy as np

from wrt.derive.first import answer, check_scalar, squeezed, warn_saturated
from wrt.derive.job import Job, prepare
from wrt.derive.layers import last_convolution, spatial_layers
from wrt.derive.layout import wrt_axis
from wrt.derive.run import Result, run
from wrt.engines import registry
from wrt.engines.base import Array, Engine
from wrt.errors import SelectionError, suggest
from wrt.methods.method import Common, options_of, register
from wrt.rules import positive_part

Combine = Callable[[Engine, Array, Array], Array]  # A (N, P, C), G (N, K, P, C) -> map (N, K, P)
CONSTANT = 1e-3  # relative: gradients that differ by less are the same, in half precision too


@register(
    paper="Zhou et al., Learning deep features for discriminative localization, CVPR 2016",
    postprocess="positive_normalize",
)
def cam(
    model: Any, x: Any, of: Any = None, *, wrt: Any = None, with_output: bool = False, **options: Unpack[Common]
) -> Any:
    """Class activation map, for a model that ends with global average pooling and a linear layer.

    relu(sum_c w[c] A[n, p, c]), w[c] being the weight of the pooled channel c in the chosen output: the gradient
    with respect to the pooled channels, which is sum_p G[n, p, c]. Shape `(N, *spatial)`, or `(N, K, *spatial)`.

    Args:
        model: a Keras model, a `torch.nn.Module`, or a function of the activation (with `wrt=0`).
        x: an array `(N, *in)`, or a dict, list or tuple of them.
        of: the scalar, in the forms of `wrt.gradient`; `wrt.logit(unit)` where the model ends with a softmax.
        wrt: `wrt.layer(name)`, the layer that is pooled; by default where the last convolution ends.
        with_output: return `(maps, chosen outputs)`.
        options: `batch_size`, `max_memory`, `compile`, `progress`, `differentiable`, as in `wrt.gradient`;
            `data_format` (`"channels_first"`, `"channels_last"`), where the model does not show where channels are.

    Raises:
        SelectionError: there is no convolution, no global average pooling after the layer, or `of` is a probability.

    Example:
        >>> import numpy as np, wrt
        >>> def head(a):  # global average pooling and a linear layer
        ...     return a.mean((1, 2)) @ np.array([[1.0], [-1.0]])
        >>> activation = np.array([[[[3.0, 1.0], [1.0, 3.0]]]])  # one sample, 1 x 2 positions, 2 channels
        >>> wrt.methods.cam(head, activation, 0, wrt=0).round(6)
        array([[[2., 0.]]])

    Source: Zhou et al., CVPR 2016, equation 2; negative evidence is left out.
    """
    job = prepared(model, x, of, wrt, with_output, options)
    if job.recipe.shapes.probability:
        raise SelectionError(
            f"of={of!r} chooses a probability; the score of a class activation map is the value before the softmax or "
            "sigmoid: of=wrt.logit(unit)"
        )

    def combine(home: Engine, a: Array, g: Array) -> Array:
        _check_pooled(home, job, g)
        return _weighted(home, a, home.sum(g, (2,)))

    return _mapped(job, of, combine)


@register(
    paper="Selvaraju et al., Grad-CAM: visual explanations from deep networks via gradient-based localization, "
    "ICCV 2017 (arXiv:1610.02391)",
    postprocess="positive_normalize",
)
def grad_cam(
    model: Any, x: Any, of: Any = None, *, wrt: Any = None, with_output: bool = False, **options: Unpack[Common]
) -> Any:
    """Grad-CAM: channels weighted by their mean gradient.

    relu(sum_c w[c] A[n, p, c]), w[c] = mean_p G[n, p, c]; shape `(N, *spatial)`, or `(N, K, *spatial)`.

    Args:
        model: a Keras model, a `torch.nn.Module`, or a function of the activation (with `wrt=0`).
        x: an array `(N, *in)`, or a dict, list or tuple of them.
        of: the scalar, in the forms of `wrt.gradient`.
        wrt: `wrt.layer(name)`, a layer with spatial axes; by default where the last convolution ends.
        with_output: return `(maps, chosen outputs)`.
        options: `batch_size`, `max_memory`, `compile`, `progress`, `differentiable`, as in `wrt.gradient`;
            `data_format` (`"channels_first"`, `"channels_last"`), where the model does not show where channels are.

    Raises:
        SelectionError: there is no convolution, or the layer has no spatial axes or is unknown.
        OptionError: `data_format` is needed, or no choice.

    Example:
        >>> import numpy as np, wrt
        >>> head = lambda a: a[:, 0, 0, 0] - a[:, 0, 1, 1]
        >>> activation = np.array([[[[3.0, 1.0], [1.0, 3.0]]]])  # one sample, 1 x 2 positions, 2 channels
        >>> wrt.methods.grad_cam(head, activation, wrt=0).round(6)
        array([[[1., 0.]]])

    Source: Selvaraju et al., ICCV 2017, equations 1 and 2.
    """
    return _mapped(prepared(model, x, of, wrt, with_output, options), of, _grad_cam)


@register(
    paper="Chattopadhyay et al., Grad-CAM++: improved visual explanations for deep convolutional networks, WACV 2018 "
    "(arXiv:1710.11063)",
    postprocess="positive_normalize",
)
def grad_cam_pp(
    model: Any, x: Any, of: Any = None, *, wrt: Any = None, with_output: bool = False, **options: Unpack[Common]
) -> Any:
    """Grad-CAM++: positive gradients, weighted so that every occurrence of a class counts the same.

    relu(sum_c w[c] A[n, p, c]), w[c] = sum_p relu(G[n, p, c]) / (2 + G[n, p, c] sum_q A[n, q, c]), which is
    a[p, c] = G² / (2 G² + G³ sum_q A) times relu(G): the paper's weights for the score exp(y), without its factor
    exp(y[n]) in common. Shape `(N, *spatial)`, or `(N, K, *spatial)`.

    Args:
        model: a Keras model, a `torch.nn.Module`, or a function of the activation (with `wrt=0`).
        x: an array `(N, *in)`, or a dict, list or tuple of them.
        of: the scalar, in the forms of `wrt.gradient`; the formula means a logit, `wrt.logit(unit)`.
        wrt: `wrt.layer(name)`, a layer with spatial axes; by default where the last convolution ends.
        with_output: return `(maps, chosen outputs)`.
        options: `batch_size`, `max_memory`, `compile`, `progress`, `differentiable`, as in `wrt.gradient`;
            `data_format` (`"channels_first"`, `"channels_last"`), where the model does not show where channels are.

    Raises:
        SelectionError: there is no convolution, or the layer has no spatial axes or is unknown.
        OptionError: `data_format` is needed, or no choice.

    Example:
        >>> import numpy as np, wrt
        >>> head = lambda a: a[:, 0, 0, 0] - a[:, 0, 1, 1]
        >>> activation = np.array([[[[1.0, 1.0], [1.0, 3.0]]]])  # one sample, 1 x 2 positions, 2 channels
        >>> wrt.methods.grad_cam_pp(head, activation, wrt=0).round(6)  # w = 1 / (2 + 2), 0
        array([[[0.25, 0.25]]])

    Source: Chattopadhyay et al., WACV 2018, equations 5, 6 and 19.
    """
    return _mapped(prepared(model, x, of, wrt, with_output, options), of, _grad_cam_pp)


@register(
    paper="Jiang et al., LayerCAM: exploring hierarchical class activation maps for localization, IEEE TIP 2021",
    postprocess="positive_normalize",
)
def layer_cam(
    model: Any, x: Any, of: Any = None, *, wrt: Any = None, with_output: bool = False, **options: Unpack[Common]
) -> Any:
    """LayerCAM: each position weighted by its own positive gradient, so that early layers give fine maps.

    relu(sum_c relu(G[n, p, c]) A[n, p, c]), shape `(N, *spatial)`, or `(N, K, *spatial)`.

    Args:
        model: a Keras model, a `torch.nn.Module`, or a function of the activation (with `wrt=0`).
        x: an array `(N, *in)`, or a dict, list or tuple of them.
        of: the scalar, in the forms of `wrt.gradient`.
        wrt: `wrt.layer(name)`, a layer with spatial axes; by default where the last convolution ends.
        with_output: return `(maps, chosen outputs)`.
        options: `batch_size`, `max_memory`, `compile`, `progress`, `differentiable`, as in `wrt.gradient`;
            `data_format` (`"channels_first"`, `"channels_last"`), where the model does not show where channels are.

    Raises:
        SelectionError: there is no convolution, or the layer has no spatial axes or is unknown.
        OptionError: `data_format` is needed, or no choice.

    Example:
        >>> import numpy as np, wrt
        >>> head = lambda a: a[:, 0, 0, 0] - a[:, 0, 1, 1]
        >>> activation = np.array([[[[3.0, 1.0], [1.0, 3.0]]]])  # one sample, 1 x 2 positions, 2 channels
        >>> wrt.methods.layer_cam(head, activation, wrt=0).round(6)
        array([[[3., 0.]]])

    Source: Jiang et al., IEEE TIP 2021, equations 5 and 6.
    """
    return _mapped(prepared(model, x, of, wrt, with_output, options), of, _layer_cam)


@register(
    paper="Draelos and Carin, Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural "
    "networks, arXiv:2011.08891",
    postprocess="positive_normalize",
)
def hires_cam(
    model: Any, x: Any, of: Any = None, *, wrt: Any = None, with_output: bool = False, **options: Unpack[Common]
) -> Any:
    """HiResCAM: each position weighted by its own gradient.

    relu(sum_c G[n, p, c] A[n, p, c]), shape `(N, *spatial)`, or `(N, K, *spatial)`.

    Args:
        model: a Keras model, a `torch.nn.Module`, or a function of the activation (with `wrt=0`).
        x: an array `(N, *in)`, or a dict, list or tuple of them.
        of: the scalar, in the forms of `wrt.gradient`.
        wrt: `wrt.layer(name)`, a layer with spatial axes; by default where the last convolution ends.
        with_output: return `(maps, chosen outputs)`.
        options: `batch_size`, `max_memory`, `compile`, `progress`, `differentiable`, as in `wrt.gradient`;
            `data_format` (`"channels_first"`, `"channels_last"`), where the model does not show where channels are.

    Raises:
        SelectionError: there is no convolution, or the layer has no spatial axes or is unknown.
        OptionError: `data_format` is needed, or no choice.

    Example:
        >>> import numpy as np, wrt
        >>> head = lambda a: a[:, 0, 0, 0] - a[:, 0, 1, 1]
        >>> activation = np.array([[[[3.0, 1.0], [1.0, 3.0]]]])  # one sample, 1 x 2 positions, 2 channels
        >>> wrt.methods.hires_cam(head, activation, wrt=0).round(6)
        array([[[3., 0.]]])

    Source: Draelos and Carin, arXiv:2011.08891, equation 6; negative evidence is left out.
    """
    return _mapped(prepared(model, x, of, wrt, with_output, options), of, _hires_cam)


def _grad_cam(home: Engine, a: Array, g: Array) -> Array:
    return _weighted(home, a, home.mean(g, (2,)))


def _grad_cam_pp(home: Engine, a: Array, g: Array) -> Array:
    total = home.reshape(home.sum(a, (1,)), (a.shape[0], 1, 1, a.shape[2]))
    positive = positive_part(g)
    below = 2 + positive * total
    zero = home.asarray(below == 0, home.dtype(g))  # only where an activation is negative
    return _weighted(home, a, home.sum(positive / (below + zero), (2,)))


def _layer_cam(home: Engine, a: Array, g: Array) -> Array:
    return _hires_cam(home, a, positive_part(g))


def _hires_cam(home: Engine, a: Array, g: Array) -> Array:
    return home.sum(g * home.reshape(a, (a.shape[0], 1, *a.shape[1:])), (3,))


def _weighted(home: Engine, a: Array, weights: Array) -> Array:
    """(N, P, C) and (N, K, C) to (N, K, P)."""
    return weights @ home.moveaxis(a, 1, 2)


def prepared(model: Any, x: Any, of: Any, wrt: Any, with_output: bool, given: Common) -> Job:
    """The gradient with respect to one layer with spatial axes, and the layer's output with it."""
    if isinstance(wrt, (list, tuple)):
        raise SelectionError(f"wrt={wrt!r}: a class activation map is made of one layer; choose one of them")
    layer = last_convolution(model, x) if wrt is None else wrt
    options = dataclasses.replace(options_of(given), with_output=with_output, with_values=True)
    job = prepare(model, x, of, layer, "rows", options)
    check_scalar(job, of)
    _check_spatial(job, model, x, wrt)
    return job


def _check_spatial(job: Job, model: Any, x: Any, wrt: Any) -> None:
    """The one layer of the job has positions and channels."""
    shape = job.recipe.shapes.ins[0]
    if len(shape) < 2:
        found = f"(N, {', '.join(map(str, shape))})" if shape else "(N,)"
        raise SelectionError(
            f"wrt={wrt!r} gives {found}, which has no spatial axes beside the channels; choose a layer that has them."
            f"{suggest('', spatial_layers(model, x))}"
        )


def channel_axis(job: Job) -> int:
    """The axis of the channels of the one layer of the job, or of the input in its place.

    Raises:
        OptionError: it is nowhere to be seen.
        SelectionError: there are none.
    """
    axis, shape = wrt_axis(job), job.recipe.shapes.ins[0]
    if axis is None:
        raise SelectionError(
            f"wrt= chooses (N, {', '.join(map(str, shape))}), to which the model adds channels, so there are none to "
            "weigh; choose a layer behind the first convolution"
        )
    return axis


def _mapped(job: Job, of: Any, combine: Combine) -> Any:
    """Run the job; every batch becomes maps before the next one is loaded."""
    home = registry.engine("reference") if job.inputs.host else job.engine
    outs, axis = job.recipe.shapes.outs, channel_axis(job)

    def reduce(result: Result) -> Result:
        *outputs, values = result.outputs
        pairs = zip(result.blocks, outs, strict=True)
        return Result(outputs, [_map(home, values, block, len(out), axis, combine) for block, out in pairs])

    result = run(dataclasses.replace(job, reduce=reduce))
    warn_saturated(job, result)
    return answer(job, squeezed(job, of, result))


def _map(home: Engine, values: Array, gradient: Array, units: int, axis: int, combine: Combine) -> Array:
    """From `(N, *layer)` and `(N, *units, *layer)` to `(N, *units, *spatial)`."""
    values = home.moveaxis(values, axis, len(values.shape) - 1)
    gradient = home.moveaxis(gradient, axis + units, len(gradient.shape) - 1)
    samples, *spatial, channels = values.shape
    selected = tuple(gradient.shape[1 : 1 + units])
    a = home.reshape(values, (samples, math.prod(spatial), channels))
    g = home.reshape(gradient, (samples, *(selected or (1,)), math.prod(spatial), channels))
    found = home.reshape(positive_part(combine(home, a, g)), (samples, *selected, *spatial))
    return found.astype(gradient.dtype) if isinstance(found, np.ndarray) else found


def _check_pooled(home: Engine, job: Job, g: Array) -> None:
    """Behind a global average every position has the same gradient; values that are not known yet pass."""
    if not isinstance(g, np.ndarray) and job.engine.is_traced(g):
        return
    values = home.numpy(g)
    if np.abs(values - values[:, :, :1]).max(initial=0) <= CONSTANT * np.abs(values).max(initial=0):
        return
    site = job.recipe.problem.wrt.chosen[0]
    name = f"layer {site[0]!r}" if isinstance(site, tuple) else "the activation"
    raise SelectionError(
        f"wrt= is {name}, but the output does not depend on its global average alone (the gradient differs between "
        "positions), so there is no class activation map: choose the layer that is pooled globally, or use grad_cam"
    )
