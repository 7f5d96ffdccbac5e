"""The optimisers of optax on JAX arrays."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import optax

from wrt.engines.base import Arrays
from wrt.errors import OptionError, suggest

NAMES = """adabelief adadelta adagrad adam adamax adamaxw adamw adan amsgrad lamb lars lion nadam nadamw novograd
optimistic_gradient_descent radam rmsprop rprop sgd sign_sgd sm3 yogi"""
KINDS = [name for name in NAMES.split() if hasattr(optax, name)]


class OptaxOptimizer:
    """One of optax, by its name in any case."""

    def __init__(self, name: str, rate: float, params: Arrays) -> None:
        if name.lower() not in KINDS:
            raise OptionError(f"optimizer={name!r} is not one of optax.{suggest(name.lower(), KINDS)}")
        start, self.update = _functions(name.lower(), rate)
        self.memory = start(params)

    def step(self, params: Arrays, gradients: Arrays) -> Arrays:
        found, self.memory = self.update(params, gradients, self.memory)
        return list(found)

    def state(self) -> Any:
        return self.memory

    def restore(self, state: Any) -> None:
        self.memory = state


@functools.lru_cache(maxsize=64)
def _functions(name: str, rate: float) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Start and step; kept, so that the next ascent compiles nothing."""
    optimizer = getattr(optax, name)(rate)

    def update(params: Arrays, gradients: Arrays, memory: Any) -> tuple[Any, Any]:
        changes, memory = optimizer.update(gradients, memory, params)
        return optax.apply_updates(params, changes), memory

    return optimizer.init, jax.jit(update)
