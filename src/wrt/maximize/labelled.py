"""Samples with labels, ready to be attacked: what the model takes and returns, checked."""

from __future__ import annotations

from typing import Any

import numpy as np

from wrt.derive import inputs as inp, losses
from wrt.derive.job import Job, Options, prepare
from wrt.derive.known import example_of
from wrt.derive.target import pick_output
from wrt.engines import adapt, registry
from wrt.engines.base import Array
from wrt.engines.network import Taps
from wrt.errors import DependenceError, DtypeError, InputError, SelectionError
from wrt.select import Loss
from wrt.trees import unflatten

READS = "wrt.attack takes models that return logits, softmax or log-softmax (N, K), or one sigmoid"


def accepted(model: Any, x: Any) -> tuple[Any, Array]:
    """`x` without a graph, and the one array that it holds.

    Raises:
        InputError: several arrays, or values that are not there or not finite.
        DtypeError: integers, for a model that takes these.
    """
    kind = inp.engine_of(x)
    inputs = inp.accept(adapt.adapt(model, x, kind).network, x, kind)
    if len(inputs.leaves) > 1:
        names = ", ".join(map(repr, inputs.names))
        raise InputError(f"x holds {len(inputs.leaves)} inputs ({names}); wrt.attack takes models with one")
    if "float" not in inputs.dtypes[0]:
        raise DtypeError(
            f"x is {inputs.dtypes[0]}, and integers cannot change by a little: pass x.astype('float32') if these are "
            "measurements; of a model of token ids attack the part behind the embedding"
        )
    (leaf,) = inputs.leaves
    if kind is not None:
        if kind.is_traced(leaf):
            raise InputError("x has no values yet, inside jit, tf.function or a transformation; attack outside of it")
        leaf = kind.detach(leaf)
    if not np.isfinite(registry.host(leaf)).all():
        raise InputError("x holds NaN or infinite values; an attack begins at finite ones")
    return unflatten(inputs.structure, [leaf]), leaf


def question(model: Any, x: Any, y: Any, options: Options) -> tuple[Job, np.ndarray]:
    """The cross-entropy of the labels `y` as a job, and the labels, `(N,)`.

    Raises:
        InputError: y is not one label of the model's for each sample.
        SelectionError: the model returns something that has no cross-entropy of a label.
    """
    labels = _labels(y)
    try:
        job = prepare(model, x, Loss(labels), None, "rows", options)
    except DependenceError as error:
        raise DependenceError(
            "the loss does not depend on x: there is no differentiable path between them (an integer cast, an "
            "embedding lookup or a detached value ends one); attack the part of the model behind it"
        ) from error
    except (InputError, SelectionError) as error:
        if "loss=" not in str(error):  # a way out that is none here
            raise
        raise _unknown(model, x, options, str(error).split(";")[0]) from error
    if job.recipe.shapes.unit_shape in ((), (1,)):
        _check_binary(job, labels)
    return job, labels


def _labels(y: Any) -> np.ndarray:
    try:
        values = registry.host(losses.data_of(y))
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"y cannot become an array ({error}); expected (N,) integers, one label per sample") from error
    if not losses.is_integer(values) or values.shape[1:] not in ((), (1,)):
        several = values.ndim > 1 and values.shape[1] > 1
        way = "; one-hot rows become labels by y.argmax(axis=-1)" if several else ""
        raise InputError(
            f"y has shape {values.shape} and dtype {values.dtype}; expected (N,) integers, one label per sample{way}"
        )
    return values.reshape(-1).astype(int)


def _unknown(model: Any, x: Any, options: Options, why: str) -> SelectionError:
    shapes = prepare(model, x, None, None, "rows", options).recipe.shapes.outs
    found = " and ".join(f"({', '.join(['N', *map(str, shape)])})" if shape else "(N,)" for shape in shapes)
    return SelectionError(
        f"the model returns {found}, and the cross-entropy of a label is not known for it ({why}); {READS}: give a "
        "function that returns the logits, or the logarithms of the probabilities"
    )


def _check_binary(job: Job, labels: np.ndarray) -> None:
    """One number per sample is the probability of label 1, if a sigmoid gave it."""
    cache, key = job.adapted.cache, ("ends in", job.recipe.programs)
    activation = cache.get(key)
    if activation is None:
        activation = cache[key] = _ending(job)
    if not activation:
        raise SelectionError(
            "the model returns one number per sample, and no sigmoid was found that makes it the probability of label "
            f"1; {READS}: give a function that returns (N, 2) logits, 0 and the logit of label 1"
        )
    if labels.size and not 0 <= labels.min() <= labels.max() <= 1:
        wrong = labels.min() if labels.min() < 0 else labels.max()
        raise InputError(f"y: label {wrong} is out of range; the output is one sigmoid, the probability of label 1")


def _ending(job: Job) -> str:
    """The activation that the output comes from."""
    network, problem = job.adapted.network, job.recipe.problem
    taps = Taps(want_logit=True)
    x = unflatten(problem.structure, example_of(network, job.inputs))
    y = network.apply(job.adapted.state(False), x, taps)
    _, _, (_, activation) = pick_output(problem.target, y, taps)
    return str(activation)
