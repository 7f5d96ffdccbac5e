"""Penalties on derivatives, for training: each is `penalty(model, x, y)`, a differentiable scalar on every engine.

The value is the mean over the samples, in float32 at least. It carries the graph to the weights of `model` and to `x`:
torch's autograd, an open `tf.GradientTape`, or `jax.grad` of a function of the parameters, `lambda p: penalty(lambda x:
f(p, x), x, y)`. The model runs in inference mode. `wrt.penalize` adds a penalty to the training of a Keras model.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from wrt import select
from wrt.derive.choose import check_count
from wrt.derive.first import jacobian
from wrt.derive.job import Options, prepare, with_extra
from wrt.derive.layout import check_format, of_wrt
from wrt.derive.losses import wide
from wrt.derive.run import run
from wrt.engines import registry
from wrt.engines.base import Array
from wrt.errors import ModelError, OptionError
from wrt.models.measures import (
    alike,
    draw,
    flat,
    gradients,
    is_word,
    not_zero,
    power_sum,
    split,
    tensors,
    unit_rows,
    variation,
)
from wrt.trees import flatten, unflatten


def __getattr__(name: str) -> Any:
    if name == "Schedule":  # a Keras callback: Keras is imported when it is asked for
        from wrt.models.penalize import Schedule

        return Schedule
    raise AttributeError(f"module 'wrt.penalties' has no attribute {name!r}")


def penalize(model: Any, penalty: Callable[..., Any], weight: float = 1.0) -> Any:
    """A Keras model whose training adds a penalty; compile and fit it with `(x, y)` as usual.

    loss(y, model(x)) + weight * penalty(model, x, y). The weights are those of `model`, and so are the predictions. The
    mean penalty is the metric `penalty` in the history and in `evaluate`. `model.weight = 3.0` and
    `model.settings["k"] = 150` may change at any time, or by `wrt.penalties.Schedule`, without recompilation.
    `InputGradient(of="loss")` takes the compiled loss, without sample weights.

    Args:
        model: a `keras.Model`.
        penalty: one of `wrt.penalties`, or a function `(model, x, y)` that returns a scalar.
        weight: the weight of the penalty.

    Raises:
        ModelError: `model` is no Keras model, or penalised already.
        OptionError: `penalty` or `weight` is none.

    Example:
        >>> import keras, numpy as np, wrt
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> penalised = wrt.penalize(model, wrt.penalties.JacobianNorm(exact=True), weight=0.1)
        >>> penalised.compile("sgd", "mse")
        >>> sorted(penalised.fit(np.ones((8, 3)), np.ones((8, 2)), verbose=0).history)
        ['loss', 'penalty']
    """
    keras = sys.modules.get("keras")
    if keras is None or not isinstance(model, keras.Model):
        raise ModelError(
            f"model is {type(model).__name__}; wrt.penalize takes a keras.Model. In a training loop of your own add "
            "weight * penalty(model, x, y) to the loss"
        )
    from wrt.models.penalize import PenalizedModel

    return PenalizedModel(model, penalty, weight)


@dataclass(frozen=True, eq=False)
class Penalty:
    """What all penalties share; `parameters` are the numbers that may change while a model trains."""

    parameters: ClassVar[tuple[str, ...]] = ()

    def __call__(self, model: Any, x: Any, y: Any = None) -> Array:
        """The penalty of a batch, a scalar."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class InputGradient(Penalty):
    """Norm of the gradient of the loss, or of any scalar, with respect to the input: double backpropagation.

    mean_n sum_i |d L_n / d x_n,i|^p; for `p=inf` the largest |d L_n / d x_n,i|.

    Args:
        of: `"loss"`, `"label"` (the output of each sample's label), or any `of=` of `wrt.gradient`;
            `wrt.logit("label")` is the label's value before the softmax.
        p: at least 1; `math.inf` for the largest entry.
        loss: `loss(output, y)`, (N,). By default the cross-entropy for integer labels y (N,) and outputs (N, K), taken
            to be logits unless they come from a softmax in the model; where y has the shape of the output, the
            cross-entropy after a softmax or sigmoid, else the sum of squared errors. In a JAX function no softmax is
            seen: let it return logits.
        wrt: with respect to what, as in `wrt.gradient`.

    Raises:
        OptionError: `p` is below 1.
        InputError: `y` is missing, or does not fit the output.

    Example:
        >>> import numpy as np, wrt
        >>> penalty = wrt.penalties.InputGradient(of=None)
        >>> float(penalty(lambda x: 3 * x[:, 0] + 4 * x[:, 1], np.ones((5, 2)))).__round__(6)
        25.0

    Source: Drucker and Le Cun, Improving generalization performance using double backpropagation, IEEE Transactions on
    Neural Networks 3 (1992), equation 1.
    """

    of: Any = "loss"
    p: float = 2
    loss: Callable[[Any, Any], Any] | None = None
    wrt: Any = None

    def __post_init__(self) -> None:
        if isinstance(self.p, bool) or not isinstance(self.p, (int, float)) or not self.p >= 1:
            raise OptionError(f"p={self.p!r}; a norm needs p of at least 1, or p=math.inf for the largest entry")
        if self.loss is not None and not is_word(self.of, "loss"):
            raise OptionError(f"loss= belongs to of='loss', and of is {self.of!r}; leave one of them out")

    def __call__(self, model: Any, x: Any, y: Any = None) -> Array:
        engine, x = tensors(model, x)
        of = select.Loss(y, self.loss) if self.loss is not None else self.of
        leaves = gradients(engine, model, x, y, of, self.wrt)
        return engine.mean(power_sum(engine, flat(engine, leaves), self.p), (0,))


@dataclass(frozen=True, eq=False)
class JacobianNorm(Penalty):
    """Squared Frobenius norm of the Jacobian, exact or by random projections.

    mean_n ||J_n||_F^2, or its unbiased estimate C / P * mean_n sum_p ||J_n^T v_np||^2 with P projections v, uniform on
    the unit sphere of the C outputs: P pulls instead of C.

    Args:
        projections: the number of random projections.
        exact: the norm itself, from the whole Jacobian.
        wrt: with respect to what, as in `wrt.gradient`.

    Raises:
        OptionError: `projections` is not a positive integer.
        InputError: `probes` do not fit the output.

    Example:
        >>> import numpy as np, wrt
        >>> float(wrt.penalties.JacobianNorm(exact=True)(lambda x: 2 * x, np.ones((5, 3)))).__round__(6)
        12.0

    Source: Hoffman, Roberts and Yaida, Robust learning with Jacobian regularization, arXiv:1908.02729, equations 6-9.
    """

    projections: int = 1
    exact: bool = False
    wrt: Any = None

    def __post_init__(self) -> None:
        check_count("projections", self.projections)

    def __call__(
        self,
        model: Any,
        x: Any,
        y: Any = None,  # noqa: ARG002  (all penalties are called alike)
        *,
        probes: Any = None,
        seed: int | None = None,
    ) -> Array:
        """The penalty of a batch.

        `probes` are normally distributed numbers (projections, N, *out); without them they are drawn by NumPy, from
        `seed` if there is one. Inside `jax.jit` or a `tf.function` pass probes, else the drawn ones are constants of
        the compiled program.
        """
        engine, x = tensors(model, x)
        if self.exact:
            blocks = flatten(jacobian(model, x, wrt=self.wrt, differentiable=True))[0]
            return engine.mean(power_sum(engine, flat(engine, [wide(engine, b) for b in blocks]), 2), (0,))
        job = prepare(model, x, None, self.wrt, "vjp", Options(differentiable=True))
        shapes, norms = job.recipe.shapes, []
        first = flatten(x)[0][0]
        if probes is None:
            probes = draw(seed, (self.projections, first.shape[0], shapes.outputs))
        for probe in unit_rows(engine, first, probes, (self.projections, first.shape[0], shapes.outputs)):
            u = unflatten(shapes.out_structure, split(engine, probe, shapes.outs))
            products = run(with_extra(job, u, "probes", shapes.outs, shapes.out_structure)).blocks
            norms.append(power_sum(engine, flat(engine, [wide(engine, b) for b in products]), 2))
        return engine.mean(sum(norms), (0,)) * (shapes.outputs / self.projections)


@dataclass(frozen=True, eq=False)
class SmallestK(Penalty):
    """Sparsity: the k smallest entries of |gradient| of each sample are pressed to zero, the others are left alone.

    mean_n sum_weight * (sum of the k smallest)^2 + max_weight * (the largest of them)^2.

    Args:
        k: how many entries should vanish; an integer, or an integer tensor that may change without recompilation.
        of: `"label"` (the output of each sample's label), or any `of=` of `wrt.gradient`.
        sum_weight: weight of the squared sum.
        max_weight: weight of the squared largest one.
        wrt: with respect to what, as in `wrt.gradient`.

    Raises:
        OptionError: `k` is not between 1 and the number of inputs.

    Example:
        >>> import numpy as np, wrt
        >>> def f(x):
        ...     return x @ np.array([3.0, -1.0, 2.0])
        >>> float(wrt.penalties.SmallestK(2, of=None)(f, np.ones((5, 3)))).__round__(6)  # 100 * 3**2 + 1000 * 2**2
        4900.0
    """

    parameters: ClassVar[tuple[str, ...]] = ("k", "sum_weight", "max_weight")

    k: Any = None
    of: Any = "label"
    sum_weight: Any = 100.0
    max_weight: Any = 1000.0
    wrt: Any = None

    def __post_init__(self) -> None:
        if self.k is None or registry.owner(self.k) is None:
            check_count("k", self.k)

    def __call__(self, model: Any, x: Any, y: Any = None) -> Array:
        engine, x = tensors(model, x)
        sizes = abs(flat(engine, gradients(engine, model, x, y, self.of, self.wrt)))
        count = sizes.shape[1]
        self.check_inputs(count)
        ordered = engine.gather(sizes, engine.top(sizes, count))  # the largest first
        place = engine.asarray(np.arange(count, 0, -1), "int32", sizes)  # 1 for the smallest
        k = engine.asarray(self.k, "int32", sizes)
        total = engine.sum(ordered * engine.asarray(place <= k, engine.dtype(sizes)), (1,))
        largest = engine.sum(ordered * engine.asarray(place == k, engine.dtype(sizes)), (1,))
        weights = [engine.asarray(w, engine.dtype(sizes), sizes) for w in (self.sum_weight, self.max_weight)]
        return engine.mean(weights[0] * total * total + weights[1] * largest * largest, (0,))

    def check_inputs(self, count: int | None) -> None:
        """Whether a sample has as many numbers as should vanish."""
        if count is not None and isinstance(self.k, (int, np.integer)) and self.k > count:
            raise OptionError(f"k={self.k} is more than the {count} entries of the gradient of a sample; choose fewer")


@dataclass(frozen=True, eq=False)
class TotalVariation(Penalty):
    """Total variation of the gradient along its spatial axes: smooth saliency.

    mean_n sum over axes of sum |g[i + 1] - g[i]| (anisotropic).

    Args:
        of: `"label"` (the output of each sample's label), or any `of=` of `wrt.gradient`.
        axes: the spatial axes, axis 0 being samples; by default all but that of the channels of the model.
        wrt: with respect to what, as in `wrt.gradient`.
        data_format: `"channels_first"` or `"channels_last"`, where that is not to be seen.

    Raises:
        OptionError: `axes` do not exist, or these or `data_format` must be given, as where x has two axes beside N.

    Example:
        >>> import numpy as np, wrt
        >>> def f(x):
        ...     return x @ np.array([3.0, -1.0, 2.0])
        >>> float(wrt.penalties.TotalVariation(of=None)(f, np.ones((5, 3)))).__round__(6)  # |-1 - 3| + |2 + 1|
        7.0

    Source: Rudin, Osher and Fatemi, Nonlinear total variation based noise removal algorithms, Physica D 60 (1992).
    """

    of: Any = "label"
    axes: Sequence[int] | None = None
    wrt: Any = None
    data_format: str | None = None

    def __post_init__(self) -> None:
        check_format(self.data_format)

    def __call__(self, model: Any, x: Any, y: Any = None) -> Array:
        engine, x = tensors(model, x)
        leaves = gradients(engine, model, x, y, self.of, self.wrt)
        spatial = self._spatial(model, x, [tuple(g.shape[1:]) for g in leaves])
        parts = [variation(engine, g, axis) for g, axes in zip(leaves, spatial, strict=True) for axis in axes]
        return engine.mean(sum(parts), (0,))

    def _spatial(self, model: Any, x: Any, shapes: list[tuple[int, ...]]) -> list[list[int]]:
        if self.axes is not None:
            return [self._given(len(shape) + 1) for shape in shapes]
        if self.data_format is None and any(len(shape) == 2 for shape in shapes):
            raise OptionError("axes= is needed for gradients (N, a, b): (1,) for series, (1, 2) for pictures")
        channels = of_wrt(model, x, self.wrt, shapes, self.data_format)
        pairs = zip(shapes, channels, strict=True)
        return [[axis for axis in range(1, len(shape) + 1) if axis != channel] for shape, channel in pairs]

    def _given(self, rank: int) -> list[int]:
        axes = [axis + rank if axis < 0 else axis for axis in self.axes or ()]
        if not axes or len(set(axes)) != len(axes) or not all(0 < axis < rank for axis in axes):
            raise OptionError(f"axes={self.axes}; expected different ones of 1 to {rank - 1}, axis 0 being samples")
        return axes


@dataclass(frozen=True, eq=False)
class Cosine(Penalty):
    """How far the gradient points away from a given direction.

    mean_n 1 - <g_n, d_n> / (|g_n| |d_n|), between 0 (the same direction) and 2; 1, without a slope, where g_n is zero.

    Args:
        direction: an array in the shape of one sample or of x, nested as x, or a function of x that returns one.
        of: `"label"` (the output of each sample's label), or any `of=` of `wrt.gradient`.
        wrt: with respect to what, as in `wrt.gradient`.

    Raises:
        InputError: the direction has another shape than the gradient.

    Example:
        >>> import numpy as np, wrt
        >>> penalty = wrt.penalties.Cosine(np.array([1.0, 0.0]), of=None)
        >>> float(penalty(lambda x: 3 * x[:, 0] + 4 * x[:, 1], np.ones((5, 2)))).__round__(6)
        0.4
    """

    direction: Any = None
    of: Any = "label"
    wrt: Any = None

    def __post_init__(self) -> None:
        _check_given("direction", self.direction)

    def __call__(self, model: Any, x: Any, y: Any = None) -> Array:
        engine, x = tensors(model, x)
        leaves = gradients(engine, model, x, y, self.of, self.wrt)
        directions = alike(engine, "direction", self.direction, x, leaves)
        g, d = flat(engine, leaves), flat(engine, directions)
        squares, known = not_zero(engine, engine.sum(g * g, (1,)))
        lengths, aimed = not_zero(engine, engine.sum(d * d, (1,)))
        return engine.mean(1 - known * aimed * engine.sum(g * d, (1,)) / (squares**0.5 * lengths**0.5), (0,))


@dataclass(frozen=True, eq=False)
class RightReasons(Penalty):
    """Right for the right reasons: the explanation must not lie where the mask is.

    mean_n sum_i (mask_i * d/dx_n,i sum_k log p_nk)^2, p being the softmax (or sigmoid) of the model's output.

    Args:
        mask: an array in the shape of one sample or of x, nested as x, one where the gradient should vanish; or a
            function of x that returns one.
        wrt: with respect to what, as in `wrt.gradient`.

    Raises:
        InputError: the mask has another shape than the gradient.

    Example:
        >>> import numpy as np, wrt
        >>> def f(x):  # logits; log p_1 + log p_2 is flat where they are equal
        ...     return np.stack([x[:, 0], x[:, 1]], 1)
        >>> penalty = wrt.penalties.RightReasons(np.array([1.0, 0.0]))
        >>> float(penalty(f, np.array([[np.log(3.0), 0.0]]))).__round__(6)  # (1 - 2 * 3/4)**2
        0.25

    Source: Ross, Hughes and Doshi-Velez, Right for the right reasons, IJCAI 2017, equation 1.
    """

    mask: Any = None
    wrt: Any = None

    def __post_init__(self) -> None:
        _check_given("mask", self.mask)

    def __call__(self, model: Any, x: Any, y: Any = None) -> Array:
        engine, x = tensors(model, x)
        leaves = gradients(engine, model, x, y, select.LogProbabilities(), self.wrt)
        masks = alike(engine, "mask", self.mask, x, leaves)
        masked = flat(engine, [g * m for g, m in zip(leaves, masks, strict=True)])
        return engine.mean(power_sum(engine, masked, 2), (0,))


def _check_given(name: str, value: Any) -> None:
    if value is None:
        raise OptionError(f"{name} is missing; expected an array in the shape of a sample, or a function of x")
    if isinstance(value, np.ndarray) and not value.any():
        raise OptionError(f"{name} is zero everywhere, so the penalty would say nothing")
