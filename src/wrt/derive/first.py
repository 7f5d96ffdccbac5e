"""First order: gradient, jacobian, jvp, vjp, and the plan of a Jacobian."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from wrt.derive import target as targets
from wrt.derive.choose import Plan, Request
from wrt.derive.run import Job, Options, Result, nest, prepare, run, with_extra
from wrt.errors import OptionError, PlanMismatchError, SaturationWarning, SelectionError
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
) -> Any:
    """Gradient of one scalar per sample, or of K of them."""
    options = _options(locals())
    _needs_choice(of)
    job = prepare(model, x, of, wrt, "rows", options)
    _check_scalar(job, of)
    result = run(job)
    _warn_saturated(job, result)
    if of is None and job.recipe.shapes.outs[0] == (1,):
        result = Result([_drop(job, a) for a in result.outputs], [_drop(job, b) for b in result.blocks])
    return _answer(job, result)


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
    """Jacobian of every sample."""
    job = prepare(model, x, of, wrt, "rows", _options(locals()))
    if sparse and not job.inputs.host:
        raise OptionError("sparse=True returns scipy arrays; pass x as NumPy (x.numpy(), np.asarray(x))")
    return _answer(job, run(job))


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
    """Product of every sample's Jacobian with a tangent `v`."""
    job = prepare(model, x, of, wrt, "jvp", _options(locals()))
    shapes = job.recipe.shapes
    job = with_extra(job, v, "v", shapes.ins, job.recipe.problem.wrt.structure)
    result = run(job)
    return _with_output(job, result, unflatten(shapes.out_structure, result.blocks))


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
) -> Any:
    """Product of a cotangent `u` with every sample's Jacobian."""
    job = prepare(model, x, of, wrt, "vjp", _options(locals()))
    shapes = job.recipe.shapes
    job = with_extra(job, u, "u", shapes.outs, shapes.out_structure)
    result = run(job)
    return _with_output(job, result, unflatten(job.recipe.problem.wrt.structure, result.blocks))


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
        return _answer(job, run(job))

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
    """Plan a Jacobian once, to look at the plan or to call it often."""
    return JacobianPlan(model, like, of, wrt, _options(locals()))


def _options(given: dict[str, Any]) -> Options:
    names = ("mode", "chunk", "batch_size", "max_memory", "compile")
    request = Request(**{name: given[name] for name in names if name in given})
    flags = ("progress", "differentiable", "with_output", "sparse")
    return Options(request, **{name: given[name] for name in flags if name in given})


def _needs_choice(of: Any) -> None:
    if isinstance(of, str) and of not in ("max", "all"):
        targets.parse(of)


def _check_scalar(job: Job, of: Any) -> None:
    """A gradient needs one scalar, or a list of them, per sample."""
    shapes = job.recipe.shapes
    target = job.recipe.problem.target
    if target.unit is None and (len(shapes.outs) != 1 or shapes.outs[0] not in ((), (1,))):
        found = ", ".join(f"(N, {', '.join(map(str, s))})" if s else "(N,)" for s in shapes.outs)
        raise SelectionError(f"gradient: the model gives {found}, so of= must say which scalar; {targets.WAYS}")
    for shape in shapes.outs:
        if len(shape) > 1:
            raise SelectionError(
                f"gradient: of={of!r} leaves {shape} values per sample; expected one, or a list of them. "
                "Choose an entry (of=(0, 3)), a function (of=lambda y: y[..., 3].sum(-1)), or use wrt.jacobian"
            )


def _warn_saturated(job: Job, result: Result) -> None:
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


def _drop(job: Job, value: Any) -> Any:
    """(N, 1, ...) becomes (N, ...)."""
    shape = (value.shape[0], *value.shape[2:])
    return value.reshape(shape) if job.inputs.host else job.engine.reshape(value, shape)


def _answer(job: Job, result: Result) -> Any:
    return _with_output(job, result, nest(job, result.blocks))


def _with_output(job: Job, result: Result, answer: Any) -> Any:
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
