"""The gradient as a saliency map, and gradients under modified backward rules."""

from __future__ import annotations

from typing import Any, Unpack

from wrt.derive.first import check_scalar, gradient as gradient, gradient_of
from wrt.derive.job import Options, prepare
from wrt.errors import SelectionError
from wrt.methods.method import Common, options_of, register
from wrt.rules import Rule, deconvnet as deconvnet_rule, guided

RECTIFIERS = ("relu", "relu6")

register(
    paper="Simonyan, Vedaldi and Zisserman, Deep inside convolutional networks, ICLR workshop 2014 (arXiv:1312.6034)",
    invariants={"symmetry", "implementation invariance", "zero on constants"},
)(gradient)


@register(paper="Springenberg et al., Striving for simplicity: the all convolutional net, ICLR workshop 2015")
def guided_backprop(
    model: Any, x: Any, of: Any = None, *, wrt: Any = None, with_output: bool = False, **options: Unpack[Common]
) -> Any:
    """Gradient for which every ReLU passes positive cotangents only.

    At a ReLU of input z: `max(u, 0) * (z > 0)`; shape `(N, *in)`, or `(N, K, *in)` for K units. Every ReLU and ReLU6 of
    the model counts, and Keras's ReLU layers with their options, however they are called. For other activations:
    `wrt.gradient` with `rules=`.

    Args:
        model: a Keras model, a `torch.nn.Module`, or a function of arrays.
        x: an array `(N, *in)`, or a dict, list or tuple of them.
        of: the scalar, in the forms of `wrt.gradient`.
        wrt: an input's index or name, a list of them, or `wrt.layer(name)`; by default every input.
        with_output: return `(maps, chosen outputs)`.
        options: `batch_size`, `max_memory`, `compile`, `progress`, `differentiable`, as in `wrt.gradient`.

    Raises:
        SelectionError: the model calls no ReLU, or `of` or `wrt` is missing or unknown.

    Example:
        >>> import torch, wrt
        >>> model = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Linear(2, 1, bias=False))
        >>> _ = model[1].weight.data.copy_(torch.tensor([[3.0, -4.0]]))
        >>> wrt.methods.guided_backprop(model, torch.ones(1, 2)), wrt.gradient(model, torch.ones(1, 2))
        (tensor([[3., 0.]]), tensor([[ 3., -4.]]))

    Source: Springenberg et al., ICLR workshop 2015, section 3.4.
    """
    return _ruled(model, x, of, wrt, guided, with_output, options)


@register(paper="Zeiler and Fergus, Visualizing and understanding convolutional networks, ECCV 2014")
def deconvnet(
    model: Any, x: Any, of: Any = None, *, wrt: Any = None, with_output: bool = False, **options: Unpack[Common]
) -> Any:
    """Gradient for which every ReLU passes positive cotangents, whatever its input was.

    At a ReLU: `max(u, 0)`; shape `(N, *in)`, or `(N, K, *in)` for K units. Every ReLU and ReLU6 of the model counts,
    however it is called. Max pooling passes the cotangent to where its maximum was.

    Args:
        model: a Keras model, a `torch.nn.Module`, or a function of arrays.
        x: an array `(N, *in)`, or a dict, list or tuple of them.
        of: the scalar, in the forms of `wrt.gradient`.
        wrt: an input's index or name, a list of them, or `wrt.layer(name)`; by default every input.
        with_output: return `(maps, chosen outputs)`.
        options: `batch_size`, `max_memory`, `compile`, `progress`, `differentiable`, as in `wrt.gradient`.

    Raises:
        SelectionError: the model calls no ReLU, or `of` or `wrt` is missing or unknown.

    Example:
        >>> import torch, wrt
        >>> model = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Linear(2, 1, bias=False))
        >>> _ = model[1].weight.data.copy_(torch.tensor([[3.0, 4.0]]))
        >>> wrt.methods.deconvnet(model, torch.tensor([[1.0, -1.0]])), wrt.gradient(model, torch.tensor([[1.0, -1.0]]))
        (tensor([[3., 4.]]), tensor([[3., 0.]]))

    Source: Zeiler and Fergus, ECCV 2014, section 2.1.
    """
    return _ruled(model, x, of, wrt, deconvnet_rule, with_output, options)


def _ruled(model: Any, x: Any, of: Any, wrt: Any, rule: Rule, with_output: bool, given: Common) -> Any:
    plain = options_of(given)
    job = prepare(model, x, of, wrt, "rows", plain)
    check_scalar(job, of)
    key = ("rectifiers", job.recipe.programs)
    if key not in job.adapted.cache:
        named = dict.fromkeys(job.adapted.network.rectifiers(), rule)
        found = [n for n in RECTIFIERS if _is_called(model, x, of, wrt, {n: rule, **named}, plain)]
        job.adapted.cache[key] = (*found, *named)
    names = job.adapted.cache[key]
    if not names:
        raise SelectionError(
            "the model calls neither relu nor relu6, whose derivative this method replaces; "
            "for other activations use wrt.gradient(model, x, of, rules={'gelu': wrt.rules.guided})"
        )
    options = Options(
        plain.request, plain.progress, plain.differentiable, with_output, rules=dict.fromkeys(names, rule)
    )
    return gradient_of(model, x, of, wrt, options)


def _is_called(model: Any, x: Any, of: Any, wrt: Any, rules: dict[str, Rule], plain: Options) -> bool:
    options = Options(plain.request, differentiable=plain.differentiable, rules=rules)
    try:
        prepare(model, x, of, wrt, "rows", options)
    except SelectionError:  # a rule that matches nothing; all else has been checked without it
        return False
    return True
