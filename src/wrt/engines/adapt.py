"""From whatever the user has to a pure function: dispatch by type, importing no framework that is not loaded."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np

from wrt.engines import registry
from wrt.engines.base import Engine
from wrt.engines.identity import identity
from wrt.engines.network import Adapted, Bounded, Network, Taps, WeakCache, arguments, weak
from wrt.engines.reach import held, site
from wrt.errors import ModelError
from wrt.trees import flatten, map_leaves

_per_model = WeakCache()
_per_site = Bounded()  # of functions, which are often made anew: by where they are written


@dataclass(frozen=True, eq=False)
class Reweighted:
    """A model computed with other weights, in the order of its state; the model itself stays as it is."""

    model: Any
    weights: list[Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise ModelError(
            "the model is given with other weights, which the functions of wrt put in for one evaluation, so it cannot "
            "be called; take derivatives and outputs by them (wrt.gradient, wrt.explain, ...)"
        )


def adapt(model: Any, x: Any, engine: Engine | None) -> Adapted:
    """The network of `model`; `engine` is the one whose tensors `x` holds, `None` for NumPy.

    Raises:
        ModelError: `model` is nothing that can be differentiated.
    """
    if isinstance(model, Reweighted):
        return dataclasses.replace(adapt(model.model, x, engine), state=lambda live: model.weights)
    keras = sys.modules.get("keras")
    if keras is not None and isinstance(model, keras.layers.Layer):
        return _keras(model, x)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(model, torch.nn.Module):
        return _torch(model, x)
    if isinstance(model, type) or not callable(model):
        raise ModelError(_not_a_model(model))
    if engine is None:
        cache = _per_model.of(model)
        engine = cache.get("engine") or cache.setdefault("engine", _engine_of_function(model, x))
    if engine.name == "jax":
        return _jax(model)
    return _function(model, engine)


def _keras(model: Any, x: Any) -> Adapted:
    from wrt.engines import adapt_keras

    adapt_keras.build(model, x)
    network = adapt_keras.adapt(model)  # anew: inputs and dtype are those of now
    return Adapted(network, lambda live: adapt_keras.weights(model, live), _per_model.of(model))


def _torch(model: Any, x: Any) -> Adapted:
    from wrt.engines import adapt_torch, torch_dtype

    cache = _per_model.of(model)
    network = cache.get("network") or cache.setdefault("network", adapt_torch.adapt(model))
    network = dataclasses.replace(network, dtype=torch_dtype.dtype_of_inputs(model, network, x))
    return Adapted(network, lambda live: adapt_torch.weights(model, live), cache)


def _jax(model: Any) -> Adapted:
    from wrt.engines import adapt_jax

    place, network, weights = adapt_jax.adapt(model)
    return Adapted(network, lambda live: weights, _of_site(place))


def _of_site(place: Hashable) -> dict[Any, Any]:
    cache = _per_site.get(place)
    if cache is None:
        cache = _per_site[place] = Bounded()
    return cache


def _function(model: Any, engine: Engine) -> Adapted:
    if engine.name == "torch":
        from wrt.engines import adapt_torch

        return Adapted(adapt_torch.adapt_function(model), lambda live: [], _of_site(site(model)))
    return Adapted(_plain(model, engine), lambda live: [], _per_model.of(model))


def _plain(function: Any, engine: Engine) -> Network:
    reference = weak(function)

    def apply(state: list[Any], x: Any, taps: Taps) -> Any:
        for name in taps.names:
            raise ModelError(f"layer {name!r}: a function has no named layers; pass the model itself")
        function = reference()
        args, kwargs = arguments(function, x)
        return function(*args, **kwargs)

    traced = engine.capabilities.traces  # and what it reads is found that way
    return Network(engine, apply, fingerprint=lambda: None if traced else identity(reference()))


def _engine_of_function(function: Any, x: Any) -> Engine:
    """Which framework a function speaks, found by what it returns for one sample of NumPy numbers."""
    for module in held(function, lambda value: bool(_engine_of_module(value))):  # which run on nothing else
        return registry.engine(_engine_of_module(module))
    jax = sys.modules.get("jax")
    if jax is not None and isinstance(function, (jax.custom_jvp, jax.custom_vjp)):  # also where NumPy arrays would do
        return registry.engine("jax")
    failures = []
    for name in ("reference", "torch", "jax", "tensorflow"):
        if name != "reference" and name not in sys.modules:
            continue
        engine = registry.engine(name)
        args, kwargs = arguments(function, _first_row(engine, x))
        try:
            found = _first_leaf_engine(function(*args, **kwargs))
        except Exception as error:
            failures.append(f"{name}: {(str(error).splitlines() or [type(error).__name__])[0]}")
            continue
        return found or registry.engine("reference")
    raise ModelError(
        "model is a function that takes neither NumPy arrays nor the tensors of an imported framework "
        f"({'; '.join(failures)}); pass x as a tensor of the function's framework"
    )


def _engine_of_module(value: Any) -> str:
    """The framework of a module; not of one of Keras, which takes NumPy arrays and returns its backend's."""
    for engine, name in (("jax", "flax.nnx"), ("jax", "equinox"), ("torch", "torch.nn")):
        if name in sys.modules and isinstance(value, sys.modules[name].Module):
            return engine
    return ""


def _first_row(engine: Engine, x: Any) -> Any:
    return map_leaves(lambda a: engine.asarray(np.asarray(a)[:1]), x)


def _first_leaf_engine(y: Any) -> Engine | None:
    leaves, _ = flatten(y)
    return next((e for e in map(registry.owner, leaves) if e is not None), None)


def _not_a_model(model: Any) -> str:
    found = f"model is {type(model).__name__} {model!r:.60}"
    if isinstance(model, type):
        return f"model is the class {model.__name__}, not an instance of it: call it first"
    if isinstance(model, (str, bytes)) or hasattr(model, "__fspath__"):
        return f"{found}: load the file first, with wrt.load_model(path)"
    return f"{found}; expected a Keras model, a torch.nn.Module or a function of arrays"
