"""Do maps depend on what the model has learnt? Their likeness to maps of the same model with random weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from wrt.derive.inputs import engine_of
from wrt.derive.layers import calls
from wrt.engines import adapt, registry
from wrt.engines.base import Engine
from wrt.errors import InputError, ModelError, OptionError, suggest
from wrt.methods.method import find, plain
from wrt.methods.values import rows_of, settled
from wrt.progress import progress_bar

Order = Literal["cascading", "independent"]


@dataclass(frozen=True, eq=False)
class Randomization:
    """How alike maps stay while layers get random weights.

    Attributes:
        layers: in the order in which they were randomised, the last of the model first.
        correlations: rank correlations with the maps of the model, `(L, N)`.
    """

    layers: tuple[str, ...]
    correlations: np.ndarray

    def __repr__(self) -> str:
        width, means = max(map(len, self.layers)), self.correlations.mean(1)
        rows = [f"  {name:<{width}}  {mean:5.2f}" for name, mean in zip(self.layers, means, strict=True)]
        return f"Randomization: rank correlation, mean of {self.correlations.shape[1]} samples\n" + "\n".join(rows)


def randomization(
    method: str | Callable[..., Any],
    model: Any,
    x: Any,
    of: Any = None,
    *,
    wrt: Any = None,
    order: Order = "cascading",
    seed: int | None = 0,
    **options: Any,
) -> Randomization:
    """How alike the maps of a model and of the same model with random weights are: a sanity check of a method.

    correlations[l, n] is Spearman's rank correlation of `|m(x[n])|` with the map after the first l + 1 of the layers,
    counted from the last of the model, have got random weights. A map that depends on what the model has learnt loses
    its likeness; one that stays the same shows the input rather than the model. All units of a sample count together;
    the correlation with a constant map is 0.

    Weights with two axes or more are drawn from a normal distribution of their own mean and deviation; vectors (biases,
    scales, running statistics) are shuffled, those of one layer and length alike. The model is not touched: the weights
    are arguments of its evaluation.

    Args:
        method: a name or function, as in `wrt.explain`; a function gets its numbers by those of wrt.
        model: a Keras model or a `torch.nn.Module`.
        x: an array `(N, *in)`, or a dict, list or tuple of them.
        of: the units, in the forms of `wrt.gradient`; `"max"` and `wrt.top(k)` choose with the weights of the model.
        wrt: as the method takes it.
        order: `"cascading"` randomises one layer after the other and leaves those before random; `"independent"`
            one layer alone at a time.
        seed: of the random numbers; `None` for others each time.
        options: those of the method.

    Returns:
        A `Randomization`: `.layers` (L names), `.correlations` `(L, N)`.

    Raises:
        ModelError: `model` is a function, or has no layers with weights.
        OptionError: an unknown method or order.
        InputError: maps that are not finite.

    Example:
        >>> import torch, wrt
        >>> model = torch.nn.Sequential(torch.nn.Linear(9, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> found = wrt.metrics.randomization("gradient", model, torch.ones(3, 9), 1)
        >>> found.layers, found.correlations.shape
        (('2', '0'), (2, 3))

    Source: Adebayo et al., Sanity checks for saliency maps, NeurIPS 2018 (arXiv:1810.03292), sections 3 and 4.1.
    """
    function = find(method)
    if order not in get_args(Order):
        raise OptionError(f"order={order!r} is not a choice.{suggest(str(order), get_args(Order))}")
    if wrt is not None:
        options["wrt"] = wrt
    layers = _layers(model, x)
    fixed = settled(model, x, of, wrt, plain(options))
    here = _finite(function(model, x, fixed, **options), "the model")
    adapted = adapt.adapt(model, x, engine_of(x))
    engine, learnt = adapted.network.engine, list(adapted.state(False))
    weights, found = list(learnt), []
    with progress_bar(len(layers), options.get("progress"), "randomization") as advance:
        for (name, numbers), source in zip(
            layers.items(), np.random.SeedSequence(seed).spawn(len(layers)), strict=True
        ):
            weights = list(learnt) if order == "independent" else weights
            for number, value in zip(numbers, _drawn(engine, [learnt[k] for k in numbers], source), strict=True):
                weights[number] = value
            maps = function(adapt.Reweighted(model, list(weights)), x, fixed, **options)
            found.append(_likeness(here, _finite(maps, f"the model with random weights in layer {name!r}")))
            advance(1)
    return Randomization(tuple(layers), np.stack(found))


def _layers(model: Any, x: Any) -> dict[str, list[int]]:
    """The numbers of the floating weights of each layer, the last layer first."""
    adapted = adapt.adapt(model, x, engine_of(x))
    network = adapted.network
    if network.kind == "function":
        raise ModelError(
            "model is a function, whose weights belong to no named layers that could be randomised; pass the Keras "
            "model or torch.nn.Module itself"
        )
    order = {name: k for k, ((name, _), _) in enumerate(calls(model, x))}
    found: dict[str, list[int]] = {}
    for number, (name, weight) in enumerate(zip(network.owners(), adapted.state(False), strict=True)):
        if "float" in network.engine.dtype(weight):
            found.setdefault(name, []).append(number)
    if not found:
        raise ModelError("model has no weights, so there is nothing to randomise")
    names = sorted(found, key=lambda name: _place(name, order), reverse=True)
    return {name or "the model itself": found[name] for name in names}


def _place(name: str, order: dict[str, int]) -> int:
    """When a layer is called for the last time; one that is never called, when what it is a part of is."""
    while name and name not in order:
        name = name[: max(name.rfind("/"), name.rfind("."), 0)]
    return order.get(name, -1)


def _drawn(engine: Engine, weights: list[Any], source: np.random.SeedSequence) -> list[Any]:
    """Random weights in place of those of a layer."""
    rng = np.random.default_rng(source)
    orders: dict[int, np.ndarray] = {}
    found = []
    for weight in weights:
        value = registry.host(weight)
        if value.ndim == 1:
            new = value[orders.setdefault(len(value), rng.permutation(len(value)))]
        else:
            new = rng.normal(value.mean(), value.std(), value.shape) if value.ndim else value
        found.append(engine.asarray(np.asarray(new), engine.dtype(weight), weight))
    return found


def _finite(maps: Any, what: str) -> np.ndarray:
    rows = rows_of(maps)
    if not np.isfinite(rows).all():
        raise InputError(f"the maps of {what} hold numbers that are not finite, which have no order")
    return np.abs(rows)


def _likeness(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation of rows, `(N,)`; 0 where a row is constant."""
    from scipy.stats import rankdata

    ranks = [rankdata(rows, axis=1) for rows in (a, b)]
    first, second = (r - r.mean(1, keepdims=True) for r in ranks)
    size = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.divide((first * second).sum(1), size, out=np.zeros(len(a)), where=size > 0)
