"""The few things that the fuzz does with the tensors of the engine under test."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from conftest import ENGINE

from wrt.engines import registry

Arrays = list[np.ndarray]
_MATH = importlib.import_module({"jax": "jax.numpy"}.get(ENGINE, ENGINE))
tanh = _MATH.tanh
if ENGINE == "torch":
    _MATH.set_num_threads(1)  # tiny tensors: threads only wait for one another


def like(value: Any, y: Any) -> Any:
    """A constant with the dtype of `y`."""
    if ENGINE == "torch":
        return _MATH.as_tensor(np.asarray(value), dtype=y.dtype)
    return _MATH.asarray(value, dtype=y.dtype) if ENGINE == "jax" else _MATH.constant(value, dtype=y.dtype)


def reshape(y: Any, shape: tuple[int, ...]) -> Any:
    """`(N, *shape)`; N may be open while TensorFlow traces."""
    return _MATH.reshape(y, (_MATH.shape(y)[0] if ENGINE == "tensorflow" else y.shape[0], *shape))


def width(y: Any) -> int:
    return int(np.prod([int(n) for n in y.shape[1:]]))


def mapped(y: Any, shape: tuple[int, ...], seed: int) -> Any:
    """What `y` becomes by a fixed matrix: any shape makes any other."""
    rows, columns = width(y), int(np.prod(shape))
    matrix = np.random.default_rng([seed, rows, columns]).normal(size=(rows, columns)) / np.sqrt(rows)
    return reshape(_MATH.matmul(reshape(y, (rows,)), like(matrix, y)), shape)


def score(y: Any) -> Any:
    """A scalar per sample that is linear nowhere and in which no two entries play the same part."""
    flat = reshape(y, (width(y),))
    weights = like(0.4 + 0.3 * np.arange(width(y)) % 1.1, y)
    mixed = flat * flat / 4 + flat * weights
    return _MATH.reduce_sum(mixed, 1) if ENGINE == "tensorflow" else mixed.sum(1)


def forward(f: Callable[..., Any]) -> Callable[[Arrays], np.ndarray]:
    """The function itself, on NumPy arrays of float64: what every derivative is judged by."""
    engine = registry.engine(ENGINE)
    run = f
    if ENGINE == "jax":
        import jax

        run = jax.jit(f)
    if ENGINE == "tensorflow":
        run = _program(f)

    def values(x: Arrays) -> np.ndarray:
        tensors = [engine.asarray(np.asarray(a), "float64") for a in x]
        if ENGINE != "torch":
            return np.asarray(run(*tensors), np.float64)
        with _MATH.no_grad():
            return run(*tensors).detach().to(_MATH.float64).numpy()

    return values


def _program(f: Callable[..., Any]) -> Callable[..., Any]:
    """Loops over samples take minutes one operator at a time; some functions of Keras are none in a graph."""
    program = _MATH.function(f, autograph=False)

    def run(*x: Any) -> Any:
        try:
            return program(*x)
        except Exception:
            return f(*x)

    return run
