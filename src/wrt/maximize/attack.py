"""`attack`: small changes of the input that mislead a classifier."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from wrt.derive.choose import Request, check_count
from wrt.derive.job import Job, Options
from wrt.derive.run import Result, run
from wrt.engines import registry
from wrt.errors import InputError, NonFiniteWarning, OptionError, SaturationWarning, suggest
from wrt.maximize.ball import NORMS, distances, drawn
from wrt.maximize.labelled import accepted, question
from wrt.maximize.pursuit import Pursuit
from wrt.maximize.regularizers import is_positive
from wrt.maximize.start import bounds_of
from wrt.progress import progress_bar
from wrt.results import Attack
from wrt.trees import unflatten

METHODS = ("fgsm", "pgd")
STEPS = 10  # of pgd
REACH = 2.5  # the default steps add up to so many radii, as in the paper


def attack(
    model: Any,
    x: Any,
    y: Any,
    *,
    method: str = "fgsm",
    epsilon: float,
    norm: float = math.inf,
    steps: int | None = None,
    step_size: float | None = None,
    init: Any = None,
    targeted: bool = False,
    clip: Any = None,
    seed: int = 0,
    batch_size: int | None = None,
    max_memory: int | None = None,
    compile: bool | None = None,
    progress: bool | None = None,
) -> Attack:
    """Adversarial inputs: each row of x changed by at most `epsilon` so that the model no longer finds its label.

    With L the cross-entropy of the label, `fgsm` takes one step, x + epsilon sign(dL/dx), or x + epsilon g / |g| with
    g = dL/dx where `norm` is 2. `pgd` takes many smaller ones and after each of them goes back to the nearest point
    within `epsilon` of x, then into `clip`. Rows do not depend on one another, and the weights stay as they are.

    Args:
        model: a Keras model, a `torch.nn.Module`, or a function of a framework's tensors, with one input; its output
            is logits, softmax or log-softmax `(N, K)`, or one sigmoid.
        x: an array `(N, *in)`. NumPy in, NumPy out; a tensor in, a tensor out, without a graph.
        y: the labels, `(N,)` integers; 0 or 1 where the output is one sigmoid.
        method: `"fgsm"` or `"pgd"`.
        epsilon: the largest distance from x, in units of x as the model sees it.
        norm: of the distance: infinity (the largest change of an entry) or 2 (Euclidean).
        steps: of pgd; 10 by default.
        step_size: of pgd, in the same norm; by default 2.5 epsilon / steps.
        init: where pgd begins: at x, at `"uniform"` random points within `epsilon`, or at an array `(N, *in)`.
        targeted: y is what the model should say, and the loss is descended.
        clip: `(low, high)`, numbers or arrays `(*in)` that no entry leaves, such as `(0, 1)`; x lies within.
        seed: of a random start; the same seed gives the same result.
        batch_size: samples at a time.
        max_memory: bytes that a batch may take, by default a quarter of what is free.
        compile: whether to compile; by default on JAX and TensorFlow.
        progress: show a bar; by default on a terminal, for work of more than two seconds.

    Returns:
        An `Attack`: the inputs after the last step, their distances, outputs and labels before and after, and which
        rows succeeded.

    Raises:
        OptionError: a number or name that cannot be honoured, or an option that would do nothing.
        InputError: x, y or the start do not fit the model, one another or `clip`.
        SelectionError: the cross-entropy of a label is not known for what the model returns.

    Example:
        >>> import torch, wrt
        >>> found = wrt.attack(lambda logits: logits, torch.tensor([[2.0, 1.0]]), [0], epsilon=0.6)
        >>> found.x, found.success
        (tensor([[1.4000, 1.6000]]), array([ True]))

    Source: Goodfellow, Shlens and Szegedy, Explaining and harnessing adversarial examples, 2015, section 4; Madry et
    al., Towards deep learning models resistant to adversarial attacks, 2018, section 2.1.
    """
    steps, step_size = _steps(method, epsilon, norm, steps, step_size, init)
    if not isinstance(targeted, bool | np.bool_):
        raise OptionError(f"targeted={targeted!r}; expected True or False, and the wanted labels as y")
    check_count("seed", seed, least=0)
    bounds = bounds_of(clip, "clip")
    x, leaf = accepted(model, x)
    job, labels = question(model, x, y, Options(Request("reverse", None, batch_size, max_memory, compile), progress))
    values = registry.host(leaf)
    bounds = _fitting(job, values, bounds)
    start = _start(job, values, init, float(epsilon), float(norm), bounds, seed)
    numbers = np.array([epsilon, -step_size if targeted else step_size], float)
    with progress_bar(len(values) * steps, progress, "Attack") as advance:
        result = run(Pursuit(job, float(norm), steps, numbers, bounds, advance).job(start))
    return _attack(job, values, labels, result, float(norm), bool(targeted))


def _steps(method: Any, epsilon: Any, norm: Any, steps: Any, size: Any, init: Any) -> tuple[int, float]:
    """How many steps of what length."""
    if not isinstance(method, str) or method not in METHODS:
        raise OptionError(f"method={method!r} is not a choice.{suggest(str(method), METHODS)}")
    if not is_positive(epsilon):
        raise OptionError(f"epsilon={epsilon!r}; expected a number above 0, the largest distance from x")
    if isinstance(norm, bool) or not isinstance(norm, int | float | np.number) or norm not in NORMS:
        raise OptionError(f"norm={norm!r} is not a choice; expected infinity (float('inf'), np.inf) or 2")
    if method == "fgsm":
        for name, value in {"steps": steps, "step_size": size, "init": init}.items():
            if value is not None:
                raise OptionError(f"{name}= does nothing with method='fgsm', one step of epsilon from x; use 'pgd'")
        return 1, float(epsilon)
    steps = STEPS if steps is None else check_count("steps", steps)
    if size is not None and not is_positive(size):
        raise OptionError(f"step_size={size!r}; expected a number above 0, or None for 2.5 epsilon / steps")
    return steps, float(REACH * epsilon / steps if size is None else size)


def _fitting(job: Job, x: np.ndarray, bounds: Any) -> Any:
    """`clip=` in the shape of one sample, where x lies within."""
    if bounds is None:
        return None
    try:
        low, high = (np.broadcast_to(bound, x.shape[1:]) for bound in bounds)
    except ValueError as error:
        shapes = " and ".join(str(bound.shape) for bound in bounds)
        raise InputError(f"clip= holds shapes {shapes}; expected numbers, or the shape {x.shape[1:]}") from error
    _check_within(job, "x", x, (low, high))
    return low, high


def _check_within(job: Job, name: str, values: np.ndarray, bounds: Any) -> None:
    """Inside the bounds, or at what these are in the numbers of the model."""
    low, high = bounds
    lowest, highest = (_rounded(job, bound) for bound in bounds)
    if ((values < np.minimum(low, lowest)) | (values > np.maximum(high, highest))).any():
        raise InputError(
            f"{name} lies between {values.min():.4g} and {values.max():.4g}, outside clip= ({low.min():.4g} to "
            f"{high.max():.4g}); scale it first, or give the bounds that it has"
        )


def _rounded(job: Job, value: Any) -> np.ndarray:
    """In the numbers that the model computes with."""
    return registry.host(job.engine.asarray(value, job.inputs.dtypes[0])).astype(float)


def _start(job: Job, x: np.ndarray, init: Any, radius: float, norm: float, bounds: Any, seed: int) -> np.ndarray | None:
    """Where the first step begins; `None` for x itself."""
    if init is None:
        return None
    if isinstance(init, str):
        if init != "uniform":
            raise OptionError(f"init={init!r} is not a choice.{suggest(init, ['uniform'])} Or give an array (N, *in)")
        return x + drawn(x.shape, radius, norm, seed)
    start = registry.host(init)
    if start.shape != x.shape or start.dtype.kind not in "fiu":
        raise InputError(
            f"init= has shape {start.shape} and dtype {start.dtype}; expected numbers in the shape {x.shape}"
        )
    if not np.isfinite(start).all():
        raise InputError("init= holds NaN or infinite values; an attack begins at finite ones")
    if bounds is not None:
        _check_within(job, "init=", start, bounds)
    far = distances(start, x, norm).max(initial=0)
    if far > 1.001 * radius + _rounding(job, x, norm):
        raise InputError(f"init= lies up to {far:.4g} away from x, outside the ball of epsilon={radius:.4g}")
    return start


def _rounding(job: Job, x: np.ndarray, norm: float) -> float:
    """How far rounding may move a row."""
    kind = job.inputs.dtypes[0]
    unit = 2.0**-7 if kind == "bfloat16" else float(np.finfo(kind).eps)
    return unit * float(abs(x).max(initial=0)) * (math.sqrt(math.prod(x.shape[1:])) if norm == 2 else 1)


def _attack(job: Job, x: np.ndarray, labels: np.ndarray, result: Result, norm: float, targeted: bool) -> Attack:
    before, logits, after, moved, sizes = map(registry.host, result.outputs)
    was, now = _named(logits), _named(moved)
    success = now == labels if targeted else now != labels
    _warn(sizes, success)
    (end,) = result.blocks
    values = registry.host(end)
    if not job.inputs.host:  # made anew, so that no tape leads back through the steps
        end = job.engine.asarray(values, job.engine.dtype(end), end)
    found = unflatten(job.inputs.structure, [end])
    return Attack(found, distances(values, x, norm), before, after, was, now, success, norm)


def _named(logits: np.ndarray) -> np.ndarray:
    """The label of each row, `(N,)`."""
    if logits.shape[1:] in ((), (1,)):
        return (logits.reshape(-1) > 0).astype(int)
    return logits.argmax(1)


def _warn(sizes: np.ndarray, success: np.ndarray) -> None:
    lost, still = np.flatnonzero(~np.isfinite(sizes)), np.flatnonzero((sizes == 0) & ~success)
    if len(lost):
        warnings.warn(
            f"the gradient of the loss is not finite in {len(lost)} rows ({_listed(lost)}), which do not move where it "
            "is not; wrt.check finds out where that comes from",
            NonFiniteWarning,
            stacklevel=4,
        )
    if len(still):
        warnings.warn(
            f"the gradient of the loss is zero in {len(still)} rows ({_listed(still)}), which stay where they began: "
            "the model is too sure of them; attack its logits divided by a number, or begin at init='uniform'",
            SaturationWarning,
            stacklevel=4,
        )


def _listed(rows: np.ndarray) -> str:
    return ", ".join(map(str, rows[:8])) + ", ..." * (len(rows) > 8)
