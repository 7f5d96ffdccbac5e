"""First order: gradient, jacobian, jvp, vjp, and the plan of a Jacobian."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from wrt.derive.choose import Plan, Request
from wrt.derive.job import Job, Options, nest, prepare, with_extra
from wrt.derive.run import Result, run
from wrt.derive.target import WAYS
from wrt.errors import OptionError, PlanMismatchError, SaturationWarning, SelectionError
from wrt.rules import Rule
from wrt.trees import unflatten

SATURATED = 1 - 1e-6


def gradient(
    model: Any,
    x: Any,
    of: Any = None,
    *,
    wrt: Any = None,
    with_output: bool = False,
    batch_size: int | None = None,
    chunk: int | None = None,
    max_memory: int | None = None,
    mode: str = "auto",
    compile: bool | None = None,
    progress: bool | None = None,
    differentiable: bool = False,
    rules: Mapping[str, Rule] | None = None,
) -> Any:
    """Gradient of one scalar per sample with respect to the input, or of K scalars.

    g[n] = d y_of(x[n]) / d x[n], shape `(N, *in)`; `(N, K, *in)` where `of` chooses K units.

    Args:
        model: a Keras model, a `torch.nn.Module`, or a function of arrays.
        x: an array `(N, *in)`, or a dict, list or tuple of them. NumPy in, NumPy out; a tensor in, a tensor out.
        of: the scalar: a unit, `(N,)` labels, `(N, K)` units, `"max"`, `"all"`, `wrt.top(k)`, `wrt.logit(unit)`,
            `wrt.output(name, unit)`, `wrt.layer(name, unit)`, or a function of the output. May be left out where
            the output is `(N,)` or `(N, 1)`.
        wrt: an input's index or name, a list of them, or `wrt.layer(name)`; by default every input.
        with_output: return `(gradient, chosen outputs)`.
        batch_size: samples at a time.
        chunk: seeds at a time.
        max_memory: bytes that both may take, by default a quarter of what is free. Results do not depend on it.
        mode: `"auto"`, `"reverse"` or `"forward"`.
        compile: whether to compile; by default on JAX and TensorFlow.
        progress: show a bar; by default on a terminal, for work of more than two seconds.
        differentiable: keep a torch graph through the gradient to `x` and to the weights.
        rules: other derivatives for activations, such as `{"relu": wrt.rules.guided}`, by an activation's name, a
            layer's name or a layer's type.

    Raises:
        SelectionError: `of` or `wrt` is missing, unknown, out of range or ambiguous.
        DependenceError: the output does not depend on the tensor.
        InputError: `x` does not fit the model.

    Example:
        >>> import numpy as np, wrt
        >>> wrt.gradient(lambda x: x[:, 0] ** 2 * x[:, 1], np.array([[3.0, 2.0]])).round(6)
        array([[12.,  9.]])
    """
    return gradient_of(model, x, of, wrt, options_from(locals()))


def jacobian(
    model: Any,
    x: Any,
    of: Any = None,
    *,
    wrt: Any = None,
    mode: str = "auto",
    sparse: bool = False,
    with_output: bool = False,
    batch_size: int | None = None,
    chunk: int | None = None,
    max_memory: int | None = None,
    compile: bool | None = None,
    progress: bool | None = None,
    differentiable: bool = False,
) -> Any:
    """Jacobian of every sample.

    J[n, i, j] = d y_i(x[n]) / d x_j[n], shape `(N, *out, *in)`. Outputs nest first, then inputs: `J["out"]["in"]`.

    Args:
        model: a Keras model, a `torch.nn.Module`, or a function of arrays.
        x: an array `(N, *in)`, or a dict, list or tuple of them.
        of: the outputs, in the forms of `wrt.gradient`; by default all. `(N, K)` indices give `(N, K, *in)`.
        wrt: an input's index or name, a list of them, or `wrt.layer(name)`; by default every input.
        mode: `"auto"` takes the cheaper of `"reverse"` (one pull per output) and `"forward"` (one push per input).
        sparse: return a list of `scipy.sparse` arrays, one `(prod(out), prod(in))` per sample.
        with_output: return `(jacobian, outputs)`.
        batch_size: samples at a time.
        chunk: seeds at a time.
        max_memory: bytes that both may take, by default a quarter of what is free. Results do not depend on it.
        compile: whether to compile; by default on JAX and TensorFlow.
        progress: show a bar; by default on a terminal, for work of more than two seconds.
        differentiable: keep a torch graph through the Jacobian to `x` and to the weights.

    Raises:
        SelectionError: `of` or `wrt` is unknown, out of range or ambiguous.
        DependenceError: the output does not depend on the tensor.
        InputError: `x` does not fit the model, or axis 0 of the output is not samples.

    Example:
        >>> import numpy as np, wrt
        >>> wrt.jacobian(lambda x: x**2, np.array([[1.0, 2.0]])).round(6)
        array([[[2., 0.],
                [0., 4.]]])
    """
    return jacobian_of(model, x, of, wrt, options_from(locals()))


def jvp(
    model: Any,
    x: Any,
    v: Any,
    of: Any = None,
    *,
    wrt: Any = None,
    with_output: bool = False,
    batch_size: int | None = None,
    max_memory: int | None = None,
    compile: bool | None = None,
    progress: bool | None = None,
    differentiable: bool = False,
) -> Any:
    """Product of every sample's Jacobian with a tangent.

    (J v)[n] = sum_j J[n, :, j] v[n, j], shape `(N, *out)`: the change of the output along `v`.

    Args:
        model: a Keras model, a `torch.nn.Module`, or a function of arrays.
        x: an array `(N, *in)`, or a dict, list or tuple of them.
        v: tangents, shaped and nested as the tensors of `wrt`.
        of: the outputs, in the forms of `wrt.gradient`; by default all.
        wrt: an input's index or name, a list of them, or `wrt.layer(name)`; by default every input.
        with_output: return `(product, outputs)`.
        batch_size: samples at a time.
        max_memory: bytes that a batch may take, by default a quarter of what is free.
        compile: whether to compile; by default on JAX and TensorFlow.
        progress: show a bar; by default on a terminal, for work of more than two seconds.
        differentiable: keep a torch graph through the product to `x` and to the weights.

    Raises:
        InputError: `v` has another shape or nesting than the tensors of `wrt`.

    Example:
        >>> import numpy as np, wrt
        >>> wrt.jvp(lambda x: x**2, np.array([[1.0, 2.0]]), np.array([[1.0, 10.0]])).round(6)
        array([[ 2., 40.]])
    """
    job = prepare(model, x, of, wrt, "jvp", options_from(locals()))
    shapes = job.recipe.shapes
    job = with_extra(job, v, "v", shapes.ins, job.recipe.problem.wrt.structure)
    result = run(job)
    return with_outputs(job, result, unflatten(shapes.out_structure, result.blocks))


def vjp(
    model: Any,
    x: Any,
    u: Any,
    of: Any = None,
    *,
    wrt: Any = None,
    with_output: bool = False,
    batch_size: int | None = None,
    max_memory: int | None = None,
    compile: bool | None = None,
    progress: bool | None = None,
    differentiable: bool = False,
    rules: Mapping[str, Rule] | None = None,
) -> Any:
    """Product of a cotangent with every sample's Jacobian.

    (Jᵀ u)[n] = sum_i u[n, i] J[n, i, :], shape `(N, *in)`: the gradient of `sum(u * y)`.

    Args:
        model: a Keras model, a `torch.nn.Module`, or a function of arrays.
        x: an array `(N, *in)`, or a dict, list or tuple of them.
        u: cotangents, shaped and nested as the outputs of `of`.
        of: the outputs, in the forms of `wrt.gradient`; by default all.
        wrt: an input's index or name, a list of them, or `wrt.layer(name)`; by default every input.
        with_output: return `(product, outputs)`.
        batch_size: samples at a time.
        max_memory: bytes that a batch may take, by default a quarter of what is free.
        compile: whether to compile; by default on JAX and TensorFlow.
        progress: show a bar; by default on a terminal, for work of more than two seconds.
        differentiable: keep a torch graph through the product to `x` and to the weights.
        rules: other derivatives for activations, such as `{"relu": wrt.rules.guided}`, by an activation's name, a
            layer's name or a layer's type.

    Raises:
        InputError: `u` has another shape or nesting than the outputs.

    Example:
        >>> import numpy as np, wrt
        >>> wrt.vjp(lambda x: x**2, np.array([[1.0, 2.0]]), np.array([[1.0, 10.0]])).round(6)
        array([[ 2., 40.]])
    """
    return vjp_of(model, x, u, of, wrt, options_from(locals()))


class JacobianPlan:
    """A Jacobian that is planned and compiled for one shape; call it on any number of samples."""

    def __init__(self, model: Any, like: Any, of: Any, wrt: Any, options: Options) -> None:
        self._model, self._of, self._wrt, self._options = model, of, wrt, options
        job = prepare(model, like, of, wrt, "rows", options)
        self._signature = job.inputs.signature
        self.plan: Plan = job.recipe.plan

    def __call__(self, x: Any) -> Any:
        """The Jacobian at `x`, with the weights that the model has now."""
        job = prepare(self._model, x, self._of, self._wrt, "rows", self._options)
        if job.inputs.signature != self._signature:
            raise PlanMismatchError(_mismatch(self._signature, job.inputs.signature))
        found = answer(job, run(job))
        self.plan = job.recipe.proof.instead or job.recipe.plan
        return found

    def __repr__(self) -> str:
        return f"JacobianPlan(\n{self.plan}\n)"


def plan_jacobian(
    model: Any,
    like: Any,
    of: Any = None,
    *,
    wrt: Any = None,
    mode: str = "auto",
    sparse: bool = False,
    with_output: bool = False,
    batch_size: int | None = None,
    chunk: int | None = None,
    max_memory: int | None = None,
    compile: bool | None = None,
    progress: bool | None = None,
    differentiable: bool = False,
) -> JacobianPlan:
    """Plan a Jacobian once, to look at the plan or to call it often.

    The result is a function of `x` with the attribute `plan`; it takes any N, the other dimensions must match
    those of `like`. It holds nothing of the model or function: weights, and all that a function reads, are those of the
    time of the call.

    Args:
        model: a Keras model, a `torch.nn.Module`, or a function of arrays.
        like: inputs of the shape and dtype that the plan is for.
        of: as in `wrt.jacobian`, like all that follow.
        wrt: the tensors to differentiate with respect to.
        mode: `"auto"`, `"reverse"` or `"forward"`.
        sparse: return `scipy.sparse` arrays.
        with_output: return `(jacobian, outputs)`.
        batch_size: samples at a time.
        chunk: seeds at a time.
        max_memory: bytes that both may take.
        compile: whether to compile.
        progress: show a bar.
        differentiable: keep a torch graph.

    Raises:
        PlanMismatchError: called with inputs of another shape, nesting or dtype.

    Example:
        >>> import numpy as np, wrt
        >>> plan = wrt.plan_jacobian(lambda x: x**2, like=np.ones((1, 3)))
        >>> plan.plan.mode, plan.plan.seeds
        ('forward', 3)
        >>> plan(np.ones((5, 3))).shape
        (5, 3, 3)
    """
    return JacobianPlan(model, like, of, wrt, options_from(locals()))


def gradient_of(model: Any, x: Any, of: Any, wrt: Any, options: Options) -> Any:
    """`gradient` with its options in one piece, as derivative models call it."""
    job = prepare(model, x, of, wrt, "rows", options)
    check_scalar(job, of)
    result = run(job)
    warn_saturated(job, result)
    return answer(job, squeezed(job, of, result))


def jacobian_of(model: Any, x: Any, of: Any, wrt: Any, options: Options) -> Any:
    """`jacobian` with its options in one piece."""
    job = prepare(model, x, of, wrt, "rows", options)
    if options.sparse and not job.inputs.host:
        raise OptionError("sparse=True returns scipy arrays; pass x as NumPy (x.numpy(), np.asarray(x))")
    return answer(job, run(job))


def vjp_of(model: Any, x: Any, u: Any, of: Any, wrt: Any, options: Options) -> Any:
    """`vjp` with its options in one piece."""
    job = prepare(model, x, of, wrt, "vjp", options)
    shapes = job.recipe.shapes
    job = with_extra(job, u, "u", shapes.outs, shapes.out_structure)
    result = run(job)
    return with_outputs(job, result, unflatten(job.recipe.problem.wrt.structure, result.blocks))


def options_from(given: dict[str, Any]) -> Options:
    """The keyword arguments of a public function, from its `locals()`."""
    names = ("mode", "chunk", "batch_size", "max_memory", "compile")
    request = Request(**{name: given[name] for name in names if name in given})
    flags = ("progress", "differentiable", "with_output", "sparse", "rules")
    return Options(request, **{name: given[name] for name in flags if name in given})


def check_scalar(job: Job, of: Any, what: str = "gradient") -> None:
    """A gradient needs one scalar, or a list of them, per sample; so does all that is made of gradients."""
    shapes = job.recipe.shapes
    target = job.recipe.problem.target
    if target.unit is None and (len(shapes.outs) != 1 or shapes.outs[0] not in ((), (1,))):
        found = ", ".join(f"(N, {', '.join(map(str, s))})" if s else "(N,)" for s in shapes.outs)
        raise SelectionError(f"{what}: the model gives {found}, so of= must say which scalar; {WAYS}")
    for shape in shapes.outs:
        if len(shape) > 1:
            raise SelectionError(
                f"{what}: of={of!r} leaves {shape} values per sample; expected one, or a list of them. "
                "Choose an entry (of=(0, 3)), a function (of=lambda y: y[..., 3].sum(-1))"
                f"{', or use wrt.jacobian' * (what == 'gradient')}"
            )


def warn_saturated(job: Job, result: Result) -> None:
    """Say where the chosen probabilities are so near to 1 that their gradients say nothing."""
    if not (job.inputs.host and job.recipe.shapes.probability):
        return
    count = sum(int(np.sum(np.asarray(y, np.float64) > SATURATED)) for y in result.outputs)
    if count:
        warnings.warn(
            f"{count} of the chosen probabilities are saturated (above 1 - 1e-6), so their gradients are nearly zero; "
            "of=wrt.logit(unit) differentiates the value before the softmax or sigmoid",
            SaturationWarning,
            stacklevel=3,
        )


def squeezed(job: Job, of: Any, result: Result) -> Result:
    """Without the axis of units where there is only one and nobody asked for it."""
    if of is not None or job.recipe.shapes.outs[0] != (1,):
        return result
    return Result([_drop(job, a) for a in result.outputs], [_drop(job, b) for b in result.blocks])


def _drop(job: Job, value: Any) -> Any:
    """(N, 1, ...) becomes (N, ...)."""
    shape = (value.shape[0], *value.shape[2:])
    return value.reshape(shape) if job.inputs.host else job.engine.reshape(value, shape)


def answer(job: Job, result: Result) -> Any:
    """The blocks, nested; with the outputs where these are wanted."""
    return with_outputs(job, result, nest(job, result.blocks))


def with_outputs(job: Job, result: Result, answer: Any) -> Any:
    """`answer`, with the outputs behind it where these are wanted."""
    if not job.options.with_output:
        return answer
    return answer, unflatten(job.recipe.shapes.out_structure, result.outputs)


def _mismatch(planned: tuple[Any, ...], found: tuple[Any, ...]) -> str:
    what = ("nesting", "shapes per sample", "dtypes", "kind (NumPy or tensor)")
    rows = [
        f"  {name}: planned {a}, found {b}" if a != b else f"  {name}: ok"
        for name, a, b in zip(what, planned, found, strict=True)
    ]
    return "x does not fit the plan; make another with wrt.plan_jacobian(model, like=x)\n" + "\n".join(rows)
