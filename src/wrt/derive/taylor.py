"""Taylor coefficients: derivatives up to the fourth order, over the factorials of their multi-indices."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from wrt.derive.choose import check_count, free_host_memory
from wrt.derive.first import check_scalar, gradient_of, options_from, squeezed, warn_saturated
from wrt.derive.inputs import with_values
from wrt.derive.job import Job, Options, prepare
from wrt.derive.run import Result, run
from wrt.derive.slope import sorted_tuples
from wrt.engines.base import Engine
from wrt.errors import OptionError, SelectionError
from wrt.results import Taylor
from wrt.trees import map_leaves, unflatten

HIGHEST = 4


def taylor(
    model: Any,
    x: Any,
    of: Any = None,
    *,
    order: int = 2,
    wrt: Any = None,
    names: Sequence[str] | None = None,
    mode: str = "auto",
    batch_size: int | None = None,
    chunk: int | None = None,
    max_memory: int | None = None,
    compile: bool | None = None,
    progress: bool | None = None,
) -> Taylor:
    """Taylor coefficients of one scalar per sample around every sample, or of K scalars.

    y_of(x[n] + d) ≈ y_of(x[n]) + sum_i c_i[n] d_i + sum_{i <= j} c_ij[n] d_i d_j + ..., where c of a tuple of features
    is the derivative along them divided by the factorial of the multi-index (how often each feature occurs): c_i is
    the gradient, c_ii half of d² y / d x_i², c_ij the mixed derivative itself. Every sorted tuple occurs once.

    It is a table of numbers, and always on the host: NumPy arrays whatever `x` is, without a graph.

    Args:
        model: a Keras model, a `torch.nn.Module`, or a function of arrays.
        x: features `(N, F)`. Entries of `(N, *in)` are numbered flat, the last axis fastest; where there are several
            inputs, choose one with `wrt`.
        of: the scalar, in the forms of `wrt.gradient`. May be left out where the output is `(N,)` or `(N, 1)`.
        order: the highest order, 1 to 4. F features have (F + order)! / (F! order!) - 1 coefficients.
        wrt: an input's index or name, or `wrt.layer(name)`.
        names: of the F features; by default `x0`, `x1`, ...
        mode: `"reverse"`, `"forward"` or `"auto"`, as in `wrt.hessian`.
        batch_size: samples at a time.
        chunk: seeds at a time, of the first and second order.
        max_memory: bytes that both may take, by default a quarter of what is free.
        compile: whether to compile; by default on JAX and TensorFlow.
        progress: show a bar; by default on a terminal, for work of more than two seconds.

    Returns:
        A `wrt.Taylor`: `.coefficients[(0, 1)]` is `(N,)`, or `(N, K)` where `of` chooses K units; `.expand(d)`
        evaluates the expansion and `.remainder(d)` compares it with the model.

    Raises:
        OptionError: another order, too many coefficients, names that do not fit, or inside a transformation.
        SelectionError: several inputs or outputs; `of` or `wrt` is missing, unknown, out of range or ambiguous.

    Example:
        >>> import numpy as np, wrt
        >>> series = wrt.taylor(lambda x: x[:, 0] * x[:, 1] ** 2, np.array([[3.0, 2.0]]))
        >>> {index: float(c[0].round(6)) for index, c in series.coefficients.items() if c[0].round(6)}
        {(0,): 4.0, (1,): 12.0, (0, 1): 4.0, (1, 1): 3.0}
    """
    _check_order(order)
    given = options_from(locals())
    what = "rows" if order == 1 else f"taylor {order}"
    x = map_leaves(lambda leaf: with_values(leaf, "taylor", ", or use wrt.gradient and wrt.hessian here"), x)
    job = prepare(model, x, of, wrt, what, given)
    check_scalar(job, of, "taylor")
    _check_one(job)
    _check_size(job, order)
    titles = _titles(names, job.recipe.shapes.inputs)
    result = run(dataclasses.replace(job, reduce=lambda part: _selected(job, part)))
    warn_saturated(job, result)
    result = squeezed(job, of, result)
    value, *terms = (_host(job, a) for a in (*result.outputs, *result.blocks))
    return Taylor(_points(job), value, tuple(terms), titles, _evaluation(job, model, of, wrt, given))


def _check_order(order: Any) -> None:
    if check_count("order", order) > HIGHEST:
        raise OptionError(f"order={order!r}; expected 1 to {HIGHEST}")


def _check_one(job: Job) -> None:
    """Coefficients are numbered by the entries of one tensor, of one output."""
    shapes = job.recipe.shapes
    if len(shapes.ins) != 1:
        raise SelectionError(
            f"taylor: there are {len(shapes.ins)} inputs; choose one with wrt= (its name or number), or give a "
            "function of one array that splits it"
        )
    if len(shapes.outs) != 1:
        raise SelectionError(f"taylor: the model has {len(shapes.outs)} outputs; choose one with wrt.output(name)")


def _check_size(job: Job, order: int) -> None:
    shapes, samples = job.recipe.shapes, job.inputs.samples or 0
    count = math.comb(shapes.inputs + order, order) - 1
    bytes_, free = 16 * count * shapes.outputs * samples, free_host_memory()
    if bytes_ > free:
        raise OptionError(
            f"order={order}: {shapes.inputs} features have {count:,} coefficients, which for {samples} samples take "
            f"{bytes_ / 2**30:.1f} GiB of {free / 2**30:.1f} GiB free; choose a lower order, fewer samples, or "
            "a function of fewer features"
        )


def _titles(names: Sequence[str] | None, count: int) -> tuple[str, ...]:
    if names is None:
        return tuple(f"x{i}" for i in range(count))
    if isinstance(names, str) or len(names) != count:
        raise OptionError(f"names={names!r}; expected {count} names, one for each feature")
    return tuple(map(str, names))


def _selected(job: Job, part: Result) -> Result:
    """Of every order the coefficients `(N, *out, T)` of sorted tuples, from rows `(N, directions, *out, *in)`."""
    host = [job.engine.numpy(b) if not job.inputs.host else b for b in part.blocks]
    if job.what == "rows":
        host = [host[0][:, None]]
    axes = len(job.recipe.shapes.outs[0])
    blocks = [_coefficients(rows, d, axes, job.recipe.shapes.inputs) for d, rows in enumerate(host, 1)]
    if job.inputs.host:
        return Result(part.outputs, blocks)
    engine: Engine = job.engine
    return Result(part.outputs, [engine.asarray(b) for b in blocks])


def _coefficients(rows: np.ndarray, order: int, axes: int, features: int) -> np.ndarray:
    """The last direction of a tuple runs over all features; those that sort behind the others are kept."""
    tuples = sorted_tuples(features, order)
    firsts = sorted_tuples(features, order - 1)
    last = firsts[:, -1:] if order > 1 else np.zeros((1, 1), int)
    kept = np.flatnonzero(np.arange(features) >= last)
    rows = np.moveaxis(rows.reshape(*rows.shape[: 2 + axes], features), 1, 1 + axes)
    flat = rows.reshape(*rows.shape[: 1 + axes], len(firsts) * features)[..., kept]
    return flat / np.array([_factorial(t) for t in tuples.tolist()], flat.dtype)


def _factorial(index: Sequence[int]) -> int:
    return math.prod(math.factorial(index.count(i)) for i in set(index))


def _host(job: Job, value: Any) -> np.ndarray:
    return np.asarray(value if job.inputs.host else job.engine.numpy(value))


def _points(job: Job) -> np.ndarray | None:
    """The tensor that the expansion is in; none for a layer, whose values nobody gave."""
    (chosen,) = job.recipe.problem.wrt.chosen
    return _host(job, job.inputs.leaves[chosen]) if isinstance(chosen, int) else None


def _evaluation(job: Job, model: Any, of: Any, wrt: Any, options: Options) -> Any:
    """The chosen outputs for other values of the tensor, as a function on the host; one that costs a gradient."""
    chosen = job.recipe.problem.wrt.chosen[0]
    if not isinstance(chosen, int):
        return None
    options = dataclasses.replace(
        options, with_output=True, request=dataclasses.replace(options.request, mode="reverse", chunk=None)
    )
    leaves, structure = job.inputs.leaves, job.inputs.structure

    def evaluate(points: np.ndarray) -> np.ndarray:
        value = points if job.inputs.host else job.engine.asarray(points, job.inputs.dtypes[chosen], leaves[chosen])
        moved = [value if i == chosen else leaf for i, leaf in enumerate(leaves)]
        return _host(job, gradient_of(model, unflatten(structure, moved), of, wrt, options)[1])

    return evaluate
