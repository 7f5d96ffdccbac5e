"""The engines by name; nothing is imported before it is asked for."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np

from wrt.engines.base import Engine
from wrt.errors import EngineNotInstalledError, OptionError, suggest

_BUILT_IN = {
    "jax": ("wrt.engines.jax", "JaxEngine", "pip install 'wrt[jax]'"),
    "torch": ("wrt.engines.torch", "TorchEngine", "pip install 'wrt[torch]'"),
    "tensorflow": ("wrt.engines.tensorflow", "TensorflowEngine", "pip install 'wrt[tensorflow]'"),
    "reference": ("wrt.engines.reference", "ReferenceEngine", ""),
}
_made: dict[str, Engine] = {}


def register(engine: Engine) -> None:
    """Add an engine of one's own, or replace one; check it with `wrt.testing.check_engine` first."""
    _made[engine.name] = engine


def names() -> list[str]:
    """The engines that can be asked for."""
    return sorted({*_BUILT_IN, *_made})


def engine(name: str) -> Engine:
    """The engine of this name, imported on first use.

    Raises:
        OptionError: there is no engine of this name.
        EngineNotInstalledError: its framework is not installed.
    """
    if name not in _made:
        if name not in _BUILT_IN:
            raise OptionError(f"unknown engine {name!r}.{suggest(name, names())}")
        module, attribute, install = _BUILT_IN[name]
        try:
            _made[name] = getattr(importlib.import_module(module), attribute)()
        except ImportError as error:
            raise EngineNotInstalledError(f"engine {name!r} needs a package that is missing: {install}") from error
    return _made[name]


def owner(value: Any) -> Engine | None:
    """The engine whose tensor `value` is; asks only frameworks that are already imported."""
    candidates = [n for n in names() if n in _made or n in sys.modules]
    return next((e for e in map(engine, candidates) if e.owns(value)), None)


def host(value: Any) -> np.ndarray:
    """The values of a tensor or array, without its graph."""
    found = owner(value)
    return np.asarray(found.numpy(found.detach(value)) if found else value)
