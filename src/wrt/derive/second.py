"""Second order: hessian, hvp, laplacian."""

from __future__ import annotations

import dataclasses
from typing import Any

from wrt.derive.first import answer, check_scalar, options_from, squeezed, warn_saturated, with_outputs
from wrt.derive.job import Job, Options, prepare, with_extra
from wrt.derive.run import Result, run
from wrt.engines import registry
from wrt.errors import OptionError
from wrt.trees import unflatten


def hessian(
    model: Any,
    x: Any,
    of: Any = None,
    *,
    wrt: Any = None,
    diagonal: bool = False,
    mode: str = "auto",
    with_output: bool = False,
    batch_size: int | None = None,
    chunk: int | None = None,
    max_memory: int | None = None,
    compile: bool | None = None,
    progress: bool | None = None,
    differentiable: bool = False,
) -> Any:
    """Hessian of one scalar per sample with respect to the input, or of K scalars.

    H[n, i, j] = d² y_of(x[n]) / d x_i[n] d x_j[n], shape `(N, *in, *in)`; `(N, K, *in, *in)` where `of` chooses K
    units. With `diagonal=True` only d² y_of / d x_i², shape `(N, *in)` or `(N, K, *in)`; the rest is never stored.
    Several outputs and inputs nest outputs first, then inputs twice: `H["out"]["a"]["b"]` is `(N, *a, *b)`; the
    diagonal is nested as a gradient.

    A network of ReLU, max pooling and affine layers is linear in pieces: its logits have a Hessian of zeros.

    Args:
        model: a Keras model, a `torch.nn.Module`, or a function of arrays.
        x: an array `(N, *in)`, or a dict, list or tuple of them. NumPy in, NumPy out; a tensor in, a tensor out.
        of: the scalar, in the forms of `wrt.gradient`. May be left out where the output is `(N,)` or `(N, 1)`.
        wrt: an input's index or name, a list of them, or `wrt.layer(name)`; by default every input.
        diagonal: only the second derivatives with respect to each entry of `x`.
        mode: `"reverse"` (pulls of the gradient), `"forward"` (pushes of it) or `"auto"`, the cheaper on this engine.
        with_output: return `(hessian, chosen outputs)`.
        batch_size: samples at a time.
        chunk: seeds at a time; every entry of the input is a seed.
        max_memory: bytes that both may take, by default a quarter of what is free. Results do not depend on it.
        compile: whether to compile; by default on JAX and TensorFlow.
        progress: show a bar; by default on a terminal, for work of more than two seconds.
        differentiable: keep a torch graph through the Hessian to `x` and to the weights.

    Raises:
        SelectionError: `of` or `wrt` is missing, unknown, out of range or ambiguous.
        DependenceError: the output does not depend on the tensor.
        InputError: `x` does not fit the model.

    Example:
        >>> import numpy as np, wrt
        >>> wrt.hessian(lambda x: x[:, 0] ** 2 * x[:, 1] ** 2, np.array([[3.0, 2.0]])).round(6)
        array([[[ 8., 24.],
                [24., 18.]]])

    Source: Pearlmutter, Fast exact multiplication by the Hessian, Neural Computation 6 (1994).
    """
    if not isinstance(diagonal, bool):
        raise OptionError(f"diagonal={diagonal!r}; expected True or False")
    job = prepare(model, x, of, wrt, "diagonal" if diagonal else "hessian", options_from(locals()))
    check_scalar(job, of, "hessian")
    result = run(job)
    warn_saturated(job, result)
    return answer(job, squeezed(job, of, result))


def hvp(
    model: Any,
    x: Any,
    v: Any,
    of: Any = None,
    *,
    wrt: Any = None,
    mode: str = "auto",
    with_output: bool = False,
    batch_size: int | None = None,
    max_memory: int | None = None,
    compile: bool | None = None,
    progress: bool | None = None,
    differentiable: bool = False,
) -> Any:
    """Product of every sample's Hessian with a direction, without the Hessian.

    (H v)[n] = sum_j H[n, :, j] v[n, j], shape `(N, *in)`, or `(N, K, *in)` where `of` chooses K units: the change of
    the gradient along `v`, at the cost of a few gradients.

    Args:
        model: a Keras model, a `torch.nn.Module`, or a function of arrays.
        x: an array `(N, *in)`, or a dict, list or tuple of them.
        v: directions, shaped and nested as the tensors of `wrt`.
        of: the scalar, in the forms of `wrt.gradient`. May be left out where the output is `(N,)` or `(N, 1)`.
        wrt: an input's index or name, a list of them, or `wrt.layer(name)`; by default every input.
        mode: `"reverse"`, `"forward"` or `"auto"`, as in `wrt.hessian`.
        with_output: return `(product, chosen outputs)`.
        batch_size: samples at a time.
        max_memory: bytes that a batch may take, by default a quarter of what is free.
        compile: whether to compile; by default on JAX and TensorFlow.
        progress: show a bar; by default on a terminal, for work of more than two seconds.
        differentiable: keep a torch graph through the product to `x` and to the weights.

    Raises:
        InputError: `v` has another shape or nesting than the tensors of `wrt`.
        SelectionError: `of` or `wrt` is missing, unknown, out of range or ambiguous.

    Example:
        >>> import numpy as np, wrt
        >>> wrt.hvp(lambda x: x[:, 0] ** 2 * x[:, 1], np.array([[3.0, 2.0]]), np.array([[1.0, 10.0]])).round(6)
        array([[64.,  6.]])

    Source: Pearlmutter, Fast exact multiplication by the Hessian, Neural Computation 6 (1994).
    """
    return hvp_of(model, x, v, of, wrt, options_from(locals()))


def hvp_of(model: Any, x: Any, v: Any, of: Any, wrt: Any, options: Options) -> Any:
    """`hvp`, given its options as one object."""
    job = prepare(model, x, of, wrt, "hvp", options)
    check_scalar(job, of, "hvp")
    job = with_extra(job, v, "v", job.recipe.shapes.ins, job.recipe.problem.wrt.structure)
    return answer(job, squeezed(job, of, run(job)))


def laplacian(
    model: Any,
    x: Any,
    of: Any = None,
    *,
    wrt: Any = None,
    mode: str = "auto",
    with_output: bool = False,
    batch_size: int | None = None,
    chunk: int | None = None,
    max_memory: int | None = None,
    compile: bool | None = None,
    progress: bool | None = None,
    differentiable: bool = False,
) -> Any:
    """Laplacian of one scalar per sample, or of K scalars: the trace of the Hessian, exact, without the Hessian.

    L[n] = sum_i d² y_of(x[n]) / d x_i[n]², over all entries of all tensors of `wrt`; shape `(N,)`, or `(N, K)` where
    `of` chooses K units.

    Args:
        model: a Keras model, a `torch.nn.Module`, or a function of arrays.
        x: an array `(N, *in)`, or a dict, list or tuple of them.
        of: the scalar, in the forms of `wrt.gradient`. May be left out where the output is `(N,)` or `(N, 1)`.
        wrt: an input's index or name, a list of them, or `wrt.layer(name)`; by default every input.
        mode: `"reverse"`, `"forward"` or `"auto"`, as in `wrt.hessian`.
        with_output: return `(laplacian, chosen outputs)`.
        batch_size: samples at a time.
        chunk: seeds at a time; every entry of the input is a seed.
        max_memory: bytes that both may take, by default a quarter of what is free.
        compile: whether to compile; by default on JAX and TensorFlow.
        progress: show a bar; by default on a terminal, for work of more than two seconds.
        differentiable: keep a torch graph through the Laplacian to `x` and to the weights.

    Raises:
        SelectionError: `of` or `wrt` is missing, unknown, out of range or ambiguous.
        InputError: `x` does not fit the model.

    Example:
        >>> import numpy as np, wrt
        >>> wrt.laplacian(lambda x: x[:, 0] ** 2 * x[:, 1], np.array([[3.0, 2.0]])).round(6)
        array([4.])
    """
    job = prepare(model, x, of, wrt, "diagonal", options_from(locals()))
    check_scalar(job, of, "laplacian")
    result = run(dataclasses.replace(job, reduce=lambda part: _summed(job, part)))
    warn_saturated(job, result)
    result = squeezed(job, of, result)
    return with_outputs(job, result, unflatten(job.recipe.shapes.out_structure, result.blocks))


def _summed(job: Job, part: Result) -> Result:
    """For each output the sum over all entries of its diagonal."""
    home = registry.engine("reference") if job.inputs.host else job.engine
    shapes, width = job.recipe.shapes, len(job.recipe.shapes.ins)
    sums = []
    for number, block in enumerate(part.blocks):
        first = 1 + len(shapes.outs[number // width])
        axes = tuple(range(first, len(block.shape)))
        sums.append(home.sum(block, axes) if axes else block)
    totals = [sum(sums[i + 1 : i + width], sums[i]) for i in range(0, len(sums), width)]
    return Result(part.outputs, totals)
