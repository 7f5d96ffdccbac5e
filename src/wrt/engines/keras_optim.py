"""The optimisers of Keras, on the tensors of the backend that Keras runs on."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from wrt.engines.base import Arrays
from wrt.errors import OptionError, suggest

Compile = Callable[[Callable[..., Any]], Callable[..., Any]]
WRAPPERS = ("LossScaleOptimizer", "Optimizer")
KINDS: dict[str, Any] = {
    name.lower(): kind
    for name, kind in vars(keras.optimizers).items()
    if inspect.isclass(kind) and issubclass(kind, keras.optimizers.Optimizer) and name not in WRAPPERS
}


class KerasOptimizer:
    """One of `keras.optimizers`, by its name in any case."""

    def __init__(self, name: str, rate: float, params: Arrays, engine: str, compile: Compile = lambda f: f) -> None:
        if keras.backend.backend() != engine:
            raise OptionError(
                f"optimizer={name!r}: the optimisers for {engine} are those of Keras, which runs on "
                f"{keras.backend.backend()} here; set the environment variable KERAS_BACKEND={engine}"
                + (", or install optax" if engine == "jax" else "")
            )
        if name.lower() not in KINDS:
            raise OptionError(f"optimizer={name!r} is not one of keras.optimizers.{suggest(name.lower(), KINDS)}")
        self.leaves = [keras.Variable(p, dtype=p.dtype) for p in params]
        self.optimizer = KINDS[name.lower()](learning_rate=rate)
        self.optimizer.build(self.leaves)
        self.step = compile(self._step)

    def _step(self, params: Arrays, gradients: Arrays) -> Arrays:
        for leaf, value in zip(self.leaves, params, strict=True):
            leaf.assign(value)
        self.optimizer.apply(gradients, self.leaves)
        return [keras.ops.copy(leaf.value) for leaf in self.leaves]

    def state(self) -> Any:
        return [np.array(keras.ops.convert_to_numpy(v.value)) for v in self.optimizer.variables]

    def restore(self, state: Any) -> None:
        for variable, value in zip(self.optimizer.variables, state, strict=True):
            variable.assign(value)
