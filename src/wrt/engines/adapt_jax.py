"""JAX functions, flax.nnx and equinox modules as pure functions."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import jax

from wrt.engines import registry
from wrt.engines.base import Arrays
from wrt.engines.network import Network, Taps, arguments
from wrt.engines.reach import held, site
from wrt.errors import ModelError, SelectionError

FLAGS = ("deterministic", "use_running_average", "inference")  # of modules, true when they infer


def adapt(function: Any) -> tuple[Hashable, Network, Arrays]:
    """Where the function is written, its network and its weights now.

    Modules with explicit state are split into it and a function; arrays that a plain function reads are found when
    it is traced, and are no weights here. The place where it is written stands for functions that are made anew.
    """
    rebuild, weights = _split(function)

    def apply(state: Arrays, x: Any, taps: Taps) -> Any:
        for name in taps.names:
            raise SelectionError(
                f"layer {name!r}: a JAX function has no named layers; return the value from the function, "
                "or make it an input"
            )
        rebuilt = rebuild(state)
        args, kwargs = arguments(rebuilt, x)
        try:
            with inferring(function):
                return rebuilt(*args, **kwargs)
        except Exception as error:
            if type(error).__name__ != "TraceContextError":
                raise
            raise ModelError(_moves_state(error)) from error

    return site(function), Network(registry.engine("jax"), apply), weights


def _moves_state(error: Exception) -> str:
    return (
        "the function changes the state of an nnx module that it holds, which JAX does not allow in a derivative "
        f"({str(error).split(' (http')[0]}); call eval() on the module, or pass the module itself as the model"
    )


def _split(function: Any) -> tuple[Callable[[Arrays], Any], Arrays]:
    """How to put a module together from weights, and its weights; a plain function has none."""
    nnx, equinox = sys.modules.get("flax.nnx"), sys.modules.get("equinox")
    if nnx is not None and isinstance(function, nnx.Module):
        return _split_nnx(nnx, function)
    if equinox is not None and isinstance(function, equinox.Module):
        return _split_equinox(equinox, function)
    return (lambda _: function), []


def _split_nnx(nnx: Any, module: Any) -> tuple[Callable[[Arrays], Any], Arrays]:
    graphdef, state = nnx.split(module)
    leaves, structure = jax.tree.flatten(state)

    def rebuild(weights: Arrays) -> Any:
        rebuilt = nnx.merge(graphdef, jax.tree.unflatten(structure, weights))
        rebuilt.eval()
        return rebuilt

    return rebuild, leaves


def _split_equinox(equinox: Any, module: Any) -> tuple[Callable[[Arrays], Any], Arrays]:
    leaves, structure = jax.tree.flatten(equinox.nn.inference_mode(module))
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, jax.Array)]
    rest = [None if isinstance(leaf, jax.Array) else leaf for leaf in leaves]

    def rebuild(weights: Arrays) -> Any:
        filled = dict(zip(places, weights, strict=True))
        return jax.tree.unflatten(structure, [filled.get(i, leaf) for i, leaf in enumerate(rest)])

    return rebuild, [leaves[i] for i in places]


def is_module(value: Any) -> bool:
    """Whether this is a module of flax.nnx or equinox."""
    kinds = [getattr(sys.modules.get(name), "Module", None) for name in ("flax.nnx", "equinox")]
    return isinstance(value, tuple(kind for kind in kinds if kind is not None))


@contextlib.contextmanager
def inferring(function: Any) -> Iterator[None]:
    """The modules that a plain function holds in inference, for one call: statistics stay, nothing is drawn."""
    changed: list[tuple[Any, str, Any]] = []
    try:
        for module in {id(m): m for top in held(function, is_module) for m in _inner(top)}.values():
            for name in FLAGS:
                if vars(module).get(name) is False:
                    changed.append((module, name, False))
                    object.__setattr__(module, name, True)
        yield
    finally:
        for module, name, value in changed:
            object.__setattr__(module, name, value)


def _inner(module: Any) -> list[Any]:
    """The module and all modules inside it."""
    nnx = sys.modules.get("flax.nnx")
    if nnx is not None and isinstance(module, nnx.Module):
        return [inner for _, inner in nnx.iter_modules(module)]
    found: list[Any] = []

    def note(value: Any) -> bool:
        if is_module(value) and value is not module:
            found.extend(_inner(value))
            return True
        return False

    jax.tree.leaves(module, is_leaf=note)
    return [module, *found]
