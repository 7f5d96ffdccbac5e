"""Gradients collected on the way from a baseline to the input: integrated and expected gradients, input x gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Unpack

import numpy as np

from wrt.derive.choose import check_count
from wrt.derive.job import Job
from wrt.errors import InputError, OptionError, suggest
from wrt.methods.baselines import background_of, baselines_of
from wrt.methods.method import Common, options_of, register
from wrt.methods.walk import Course, walk

Quadrature = Literal["gausslegendre", "trapezoid", "riemann"]


@register(
    paper="Shrikumar et al., Not just a black box: learning important features through propagating activation "
    "differences, arXiv:1605.01713",
    invariants={"symmetry", "implementation invariance", "zero on constants"},
)
def input_x_gradient(
    model: Any, x: Any, of: Any = None, *, wrt: Any = None, with_output: bool = False, **options: Unpack[Common]
) -> Any:
    """The input times its gradient.

    m[n] = x[n] * d y_of(x[n]) / d x[n], shape `(N, *in)`, or `(N, K, *in)` for K units. With `wrt` a layer: the layer's
    output times the gradient with respect to it.

    Args:
        model: a Keras model, a `torch.nn.Module`, or a function of arrays.
        x: an array `(N, *in)`, or a dict, list or tuple of them.
        of: the scalar, in the forms of `wrt.gradient`.
        wrt: an input's index or name, a list of them, or `wrt.layer(name)`; by default every input.
        with_output: return `(maps, chosen outputs)`.
        options: `batch_size`, `max_memory`, `compile`, `progress`, `differentiable`, as in `wrt.gradient`.

    Raises:
        SelectionError: `of` or `wrt` is missing, unknown, out of range or ambiguous.

    Example:
        >>> import numpy as np, wrt
        >>> wrt.methods.input_x_gradient(lambda x: x[:, 0] ** 2 * x[:, 1], np.array([[3.0, 2.0]])).round(6)
        array([[36., 18.]])

    Source: Shrikumar et al., arXiv:1605.01713, section 2.
    """

    def here(job: Job) -> Course:
        return Course(np.ones((1, 1)), np.ones(1), np.zeros((1, 1), int), baselines_of(job, None))

    return walk(model, x, of, wrt, here, options_of(options), "input x gradient", with_output=with_output)


@register(
    paper="Sundararajan, Taly and Yan, Axiomatic attribution for deep networks, ICML 2017 (arXiv:1703.01365)",
    invariants={"completeness", "symmetry", "implementation invariance", "zero on constants"},
)
def integrated_gradients(
    model: Any,
    x: Any,
    of: Any = None,
    *,
    wrt: Any = None,
    baseline: Any = None,
    steps: int = 50,
    quadrature: Quadrature = "gausslegendre",
    with_output: bool = False,
    with_gap: bool = False,
    **options: Unpack[Common],
) -> Any:
    """Gradients integrated on the straight line from a baseline to the input.

    m[n] = (x[n] - b[n]) * ∫₀¹ dy_of/dx (b[n] + t (x[n] - b[n])) dt, shape `(N, *in)`, or `(N, K, *in)` for K units; the
    mean over the baselines where several are given. The sum of a map is `y_of(x) - y_of(b)`, up to the error of
    the quadrature (`with_gap`). The units of `"max"` and `wrt.top(k)` are those at `x`.

    Args:
        model: a Keras model, a `torch.nn.Module`, or a function of arrays.
        x: an array `(N, *in)`, or a dict, list or tuple of them.
        of: the scalar, in the forms of `wrt.gradient`.
        wrt: an input's index or name, a list of them, or `wrt.layer(name)`: the line then lies in the space of the
            layer's output (an embedding). By default every input.
        baseline: zeros by default; a number, one sample `(*in)`, one for each sample `(N, *in)`, or a set of B of them,
            `(B, 1, *in)` or `(B, N, *in)`; nested as the tensors of `wrt`.
        steps: points on each line.
        quadrature: `"gausslegendre"` is exact for polynomials in t of degree `2 steps - 1`; `"trapezoid"` includes both
            ends; `"riemann"` sums at the right ends, as in the paper.
        with_output: return the chosen outputs as well, `(maps, outputs)`.
        with_gap: return the completeness gap as well, last: the sum of each map minus the difference of the outputs.
        options: `batch_size` (points on the lines at a time), `max_memory`, `compile`, `progress`, `differentiable`, as
            in `wrt.gradient`; the maps do not depend on it.

    Raises:
        OptionError: `steps` or `quadrature` cannot be honoured.
        InputError: the baseline has another shape than `x`, or is not finite.
        SelectionError: `of` or `wrt` is missing, unknown, out of range or ambiguous.

    Example:
        >>> import numpy as np, wrt
        >>> f, x = lambda x: x[:, 0] ** 2 * x[:, 1], np.array([[3.0, 2.0]])
        >>> maps, gap = wrt.methods.integrated_gradients(f, x, steps=2, with_gap=True)
        >>> maps.round(6), np.abs(gap) < 1e-6
        (array([[12.,  6.]]), array([ True]))

    Source: Sundararajan, Taly and Yan, ICML 2017, equations 1 and 3.
    """
    nodes, weights = rule(quadrature, steps)

    def lines(job: Job) -> Course:
        sources = baselines_of(job, baseline)
        count = sources.count
        which = np.repeat(np.arange(count), len(nodes))[:, None]
        return Course(np.tile(nodes, count)[:, None], np.tile(weights / count, count), which, sources)

    what = "integrated gradients"
    return walk(model, x, of, wrt, lines, options_of(options), what, with_output=with_output, with_gap=with_gap)


@register(
    paper="Erion et al., Improving performance of deep learning models with axiomatic attribution priors and expected "
    "gradients, Nature Machine Intelligence 2021 (arXiv:1906.10670)",
    invariants={"implementation invariance", "zero on constants"},
)
def expected_gradients(
    model: Any,
    x: Any,
    of: Any = None,
    *,
    background: Any,
    wrt: Any = None,
    samples: int = 50,
    seed: int = 0,
    with_output: bool = False,
    **options: Unpack[Common],
) -> Any:
    """Integrated gradients averaged over baselines drawn from data, at points drawn on the lines.

    m[n] = E over b, t of (x[n] - b) * dy_of/dx (b + t (x[n] - b)), b uniform among the rows of `background`, t uniform
    in (0, 1); shape `(N, *in)`, or `(N, K, *in)` for K units. In expectation a map adds up to
    `y_of(x) - mean(y_of(background))`.

    Args:
        model: a Keras model, a `torch.nn.Module`, or a function of arrays.
        x: an array `(N, *in)`, or a dict, list or tuple of them.
        of: the scalar, in the forms of `wrt.gradient`.
        background: samples of the data, `(B, *in)`, nested as the tensors of `wrt`.
        wrt: an input's index or name, a list of them, or `wrt.layer(name)`; by default every input.
        samples: draws for each sample of `x`.
        seed: of the draws; the same seed gives the same maps, whatever the batches.
        with_output: return the chosen outputs as well, `(maps, outputs)`.
        options: `batch_size`, `max_memory`, `compile`, `progress`, `differentiable`, as in `wrt.gradient`.

    Raises:
        OptionError: `samples` is no positive integer.
        InputError: `background` has another shape than `x`, holds nothing, or is not finite.
        SelectionError: `of` or `wrt` is missing, unknown, out of range or ambiguous.

    Example:
        >>> import numpy as np, wrt
        >>> f, x = lambda x: 2 * x[:, 0] - x[:, 1], np.array([[3.0, 2.0]])
        >>> wrt.methods.expected_gradients(f, x, background=np.ones((1, 2))).round(6)
        array([[ 4., -1.]])

    Source: Erion et al., arXiv:1906.10670, equation 3.
    """
    check_count("samples", samples)

    def draws(job: Job) -> Course:
        count = job.inputs.samples
        if count is None:
            raise InputError("x has an open number of samples here; expected_gradients draws for a known number")
        rng, sources = np.random.default_rng(seed), background_of(job, background)
        which = rng.integers(sources.count, size=(count, samples)).T
        nodes = rng.uniform(size=(count, samples)).T
        return Course(nodes, np.full(samples, 1 / samples), which, sources)

    return walk(model, x, of, wrt, draws, options_of(options), "expected gradients", with_output=with_output)


def rule(quadrature: str, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on the interval from 0 to 1."""
    check_count("steps", steps)
    if quadrature not in RULES:
        raise OptionError(f"quadrature={quadrature!r} is not a choice.{suggest(str(quadrature), RULES)}")
    return RULES[quadrature](int(steps))


def _gausslegendre(steps: int) -> tuple[np.ndarray, np.ndarray]:
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return (nodes + 1) / 2, weights / 2


def _trapezoid(steps: int) -> tuple[np.ndarray, np.ndarray]:
    if steps < 2:
        raise OptionError("steps=1: the trapezoid needs both ends of the line; expected at least 2")
    weights = np.full(steps, 1 / (steps - 1))
    weights[[0, -1]] /= 2
    return np.linspace(0, 1, steps), weights


def _riemann(steps: int) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(1, steps + 1) / steps, np.full(steps, 1 / steps)


RULES: dict[str, Callable[[int], tuple[np.ndarray, np.ndarray]]] = {
    "gausslegendre": _gausslegendre,
    "trapezoid": _trapezoid,
    "riemann": _riemann,
}
