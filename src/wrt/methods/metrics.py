"""How good a map is: what happens to the output when the entries that it names are taken away, and how sparse it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

import numpy as np

from wrt.derive.choose import check_count
from wrt.engines import registry
from wrt.errors import InputError, OptionError, SelectionError
from wrt.methods.masked import Subject, covers
from wrt.methods.method import Common, find, options_of, plain
from wrt.methods.quantus import explain_func as explain_func
from wrt.methods.randomization import Randomization as Randomization, randomization as randomization
from wrt.methods.values import rows_of, settled
from wrt.results import Curve
from wrt.trees import flatten, unflatten


def deletion(
    model: Any,
    x: Any,
    maps: Any,
    of: Any = None,
    *,
    wrt: Any = None,
    steps: int = 20,
    baseline: Any = 0.0,
    **options: Unpack[Common],
) -> Curve:
    """The output while the most important entries give way to a baseline, one part after the other.

    outputs[n, s] = y_of(x[n] with the baseline in the fraction s / steps of its positions with the highest map); `area`
    is the integral over the fraction. A good map makes the output of a class fall early: a small area.

    Args:
        model: a Keras model, a `torch.nn.Module`, or a function of arrays.
        x: an array `(N, *in)`, or a dict, list or tuple of them.
        maps: in the shape of `x`, or without its channels, which are summed over: positions go as a whole.
        of: one scalar per sample, in the forms of `wrt.gradient`; `"max"` chooses at `x`.
        wrt: the input that is changed, by index or name; needed where there are several.
        steps: into how many parts the positions are divided.
        baseline: what takes their place: a number, or an array in the shape of a sample or of `x`.
        options: `batch_size`, `max_memory`, `compile`, `progress`, as in `wrt.gradient`;
            `data_format` (`"channels_first"`, `"channels_last"`), where the model does not show where channels are.

    Raises:
        InputError: maps or a baseline of another shape, or maps that are not finite.
        OptionError: `steps` is not a positive integer, or `data_format` is needed.
        SelectionError: `of` chooses several units.

    Example:
        >>> import numpy as np, wrt
        >>> f, x = lambda x: x @ np.array([1.0, 3.0]), np.ones((1, 2))
        >>> curve = wrt.metrics.deletion(f, x, wrt.gradient(f, x), steps=2)
        >>> curve.outputs, curve.area
        (array([[4., 1., 0.]]), array([1.5]))

    Source: Petsiuk, Das and Saenko, RISE, BMVC 2018, section 4.1.
    """
    return _curve(Subject(model, x, of, wrt, options_of(options)), maps, steps, baseline, insert=False)


def insertion(
    model: Any,
    x: Any,
    maps: Any,
    of: Any = None,
    *,
    wrt: Any = None,
    steps: int = 20,
    baseline: Any = 0.0,
    **options: Unpack[Common],
) -> Curve:
    """The output while the most important entries are put into a baseline, one part after the other.

    outputs[n, s] = y_of(baseline with x[n] in the fraction s / steps of its positions with the highest map). A good map
    makes the output of a class rise early: a large area. Arguments and errors are those of `deletion`.

    Example:
        >>> import numpy as np, wrt
        >>> f, x = lambda x: x @ np.array([1.0, 3.0]), np.ones((1, 2))
        >>> wrt.metrics.insertion(f, x, wrt.gradient(f, x), steps=2).outputs
        array([[0., 3., 4.]])

    Source: Petsiuk, Das and Saenko, RISE, BMVC 2018, section 4.1.
    """
    return _curve(Subject(model, x, of, wrt, options_of(options)), maps, steps, baseline, insert=True)


def infidelity(
    model: Any,
    x: Any,
    maps: Any,
    of: Any = None,
    *,
    wrt: Any = None,
    noise: float = 0.1,
    samples: int = 50,
    seed: int | None = 0,
    **options: Unpack[Common],
) -> np.ndarray:
    """How far a map is from saying what a change of the input does, `(N,)`.

    mean over random changes I of (sum_i I_i m[n, i] - (y_of(x[n]) - y_of(x[n] - I)))², with I normally distributed of
    deviation `noise`, in units of `x`. Zero for the gradient of a linear function.

    Args:
        model: as in `deletion`, and so are `x`, `of`, `wrt` and `options`.
        x: the inputs.
        maps: in the shape of the input, such as gradients.
        of: one scalar per sample.
        wrt: the input that is changed.
        noise: standard deviation of the changes.
        samples: how many changes.
        seed: of the random numbers.
        options: as in `wrt.gradient`.

    Raises:
        InputError: maps of another shape.
        OptionError: `noise` or `samples` is not positive.
        SelectionError: `of` chooses several units.

    Example:
        >>> import numpy as np, wrt
        >>> f, x = lambda x: x @ np.array([1.0, 3.0]), np.ones((1, 2))
        >>> bool(wrt.metrics.infidelity(f, x, wrt.gradient(f, x))[0] < 1e-12)
        True

    Source: Yeh et al., On the (in)fidelity and sensitivity of explanations, NeurIPS 2019 (arXiv:1901.09392), definition
    2.1.
    """
    subject = _one_scalar(Subject(model, x, of, wrt, options_of(options)))
    map_ = _finite(maps)
    if map_.shape != (subject.samples, *subject.shape):
        raise InputError(f"maps have shape {map_.shape}; expected {(subject.samples, *subject.shape)}, as the input")
    count, deviation = check_count("samples", samples), _positive("noise", noise)
    rng, here, total = np.random.default_rng(seed), registry.host(subject.here()), np.zeros(len(map_))
    for part in subject.parts(count, "infidelity"):
        change = rng.normal(0, deviation, (part.stop - part.start, *map_.shape))
        found = registry.host(subject(subject.leaf - subject.tensor(change), len(change)))
        said = (change * map_).reshape(*change.shape[:2], -1).sum(-1)
        total = total + ((said - (here - found)[..., 0]) ** 2).sum(0)
    return total / count


def max_sensitivity(
    method: str | Callable[..., Any],
    model: Any,
    x: Any,
    of: Any = None,
    *,
    wrt: Any = None,
    radius: float = 0.02,
    samples: int = 10,
    seed: int | None = 0,
    **options: Any,
) -> np.ndarray:
    """How much a map changes, at most, where the input hardly does, `(N,)`.

    max over changes d with |d_i| <= radius of ||m(x[n] + d) - m(x[n])|| / ||m(x[n])||, estimated by uniform draws: a
    lower bound.

    Args:
        method: a name or function, as in `wrt.explain`.
        model: a Keras model, a `torch.nn.Module`, or a function of arrays.
        x: an array `(N, *in)`, or a dict, list or tuple of them.
        of: the units, in the forms of `wrt.gradient`; `"max"` and `wrt.top(k)` choose at `x`.
        wrt: as the method takes it.
        radius: the largest change of an entry, in units of `x`.
        samples: how many draws.
        seed: of the random numbers.
        options: those of the method.

    Raises:
        OptionError: an unknown method, or `radius` or `samples` is not positive.

    Example:
        >>> import numpy as np, wrt
        >>> wrt.metrics.max_sensitivity("gradient", lambda x: x @ np.array([1.0, 3.0]), np.ones((1, 2))).round(6)
        array([0.])

    Source: Yeh et al., NeurIPS 2019 (arXiv:1901.09392), definition 3.1.
    """
    function, count, size = find(method), check_count("samples", samples), _positive("radius", radius)
    if wrt is not None:
        options["wrt"] = wrt
    fixed = settled(model, x, of, wrt, plain(options))
    leaves, structure = flatten(x)
    arrays = [registry.host(leaf) for leaf in leaves]
    here, rng, worst = rows_of(function(model, x, fixed, **options)), np.random.default_rng(seed), 0.0
    for _ in range(count):
        moved = [a + rng.uniform(-size, size, a.shape).astype(a.dtype) if a.dtype.kind == "f" else a for a in arrays]
        there = rows_of(function(model, unflatten(structure, moved), fixed, **options))
        worst = np.maximum(worst, np.linalg.norm(there - here, axis=1))
    norms = np.linalg.norm(here, axis=1)
    return np.divide(worst, norms, out=np.where(worst > 0, np.inf, 0.0), where=norms > 0)


def gini(maps: Any) -> np.ndarray:
    """Gini index of the magnitudes of each map, `(N,)`: 0 where all are equal, towards 1 where few hold everything.

    1 - 2 sum_k |m|_(k) / ||m||_1 (P - k + 1/2) / P, |m|_(k) being the k-th smallest of P magnitudes; 0 for a map of
    zeros.

    Raises:
        InputError: maps that are not finite, or not `(N, ...)`.

    Example:
        >>> import numpy as np, wrt
        >>> wrt.metrics.gini(np.array([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, -3.0]]))
        array([0.  , 0.75])

    Source: Hurley and Rickard, Comparing measures of sparsity, IEEE Transactions on Information Theory 55 (2009).
    """
    map_ = _finite(maps)
    if map_.ndim < 2:
        raise InputError(f"maps have shape {map_.shape}; expected (N, ...), one map per sample")
    sizes = np.sort(np.abs(map_).reshape(len(map_), -1), 1)
    count, total = sizes.shape[1], sizes.sum(1, keepdims=True)
    share = np.divide(sizes, total, out=np.full_like(sizes, 1 / count), where=total > 0)
    return 1 - 2 * (share * (count - np.arange(1, count + 1) + 0.5) / count).sum(1)


def _curve(subject: Subject, maps: Any, steps: int, baseline: Any, insert: bool) -> Curve:
    _one_scalar(subject)
    steps = check_count("steps", steps)
    ranks, broad = _ranks(subject, _finite(maps))
    ends = np.round(np.linspace(0, ranks.shape[1], steps + 1))
    cover, found = covers(subject, baseline), []
    for part in subject.parts(steps + 1, "insertion" if insert else "deletion"):
        chosen = (ranks < ends[part, None, None]).astype(float).reshape(-1, subject.samples or 0, *broad)
        kept = subject.tensor(chosen if insert else 1 - chosen)
        found.append(registry.host(subject(subject.leaf * kept + cover * (1 - kept), len(chosen)))[..., 0])
    return Curve(ends / ranks.shape[1], np.concatenate(found).T)


def _ranks(subject: Subject, maps: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """(N, P): the place of every position in the order of the map, the highest first; and the shape of positions."""
    axes = subject.axes
    broad = [s if a in axes else 1 for a, s in enumerate(subject.shape)]
    whole, spatial = (subject.samples, *subject.shape), (subject.samples, *(subject.shape[a] for a in axes))
    if maps.shape == whole:
        maps = maps.sum(tuple(a + 1 for a in range(len(subject.shape)) if a not in axes))
    if maps.shape != spatial:
        also = "" if whole == spatial else f" or {spatial}"
        raise InputError(f"maps have shape {maps.shape}; expected {whole}{also}, as the input")
    order = np.argsort(-maps.reshape(len(maps), -1), 1, kind="stable")
    return np.argsort(order, 1), broad


def _one_scalar(subject: Subject) -> Subject:
    if np.prod(subject.units, dtype=int) != 1:
        raise SelectionError(f"of= chooses {subject.units} units per sample; expected one scalar, which a curve is of")
    return subject


def _finite(maps: Any) -> np.ndarray:
    found = registry.host(maps).astype(float)
    if not np.isfinite(found).all():
        raise InputError("maps hold numbers that are not finite, which have no order")
    return found


def _positive(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < np.inf:
        raise OptionError(f"{name}={value!r}; expected a positive number")
    return float(value)
