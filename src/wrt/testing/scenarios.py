"""Functions with closed-form derivatives, written once for every array library."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from wrt.engines.base import Array, Engine

Blocks = list[list[np.ndarray]]  # [output][input] -> (N, *out, *in)

MODULES = {"jax": "jax.numpy", "torch": "torch", "tensorflow": "tensorflow", "reference": "numpy"}


@dataclass(frozen=True)
class Namespace:
    """The few functions that scenarios are written with; operators (`+ * / @`) and indexing do the rest."""

    sin: Callable[[Array], Array]
    exp: Callable[[Array], Array]
    tanh: Callable[[Array], Array]
    constant: Callable[[np.ndarray, Array], Array]  # (value, like) -> a tensor with the dtype and device of `like`


@dataclass(frozen=True)
class Scenario:
    """A function of one sample per row, points to evaluate it at, and its derivatives in closed form.

    `function(xp, *inputs)` returns one array or a tuple of them, `xp` being a `Namespace`.
    `jacobian(*inputs)[j][k]` is `(N, *out_j, *in_k)` in float64, and `hessian(*inputs)`, where there is one,
    `(N, *out, *in, *in)`.

    Example:
        >>> from wrt.testing import scenarios
        >>> [s.name for s in scenarios()]
        ['linear', 'quadratic', 'softmax', 'sines', 'mlp', 'two']
    """

    name: str
    function: Callable[..., Any]
    x: tuple[np.ndarray, ...]
    jacobian: Callable[..., Blocks]
    hessian: Callable[..., np.ndarray] | None = None

    def on(self, engine: Engine, module: Any = None) -> Callable[..., Any]:
        """The function on tensors of `engine`; `module` holds its `sin`, `exp` and `tanh` if it is not built in."""
        xp = namespace(engine, module)
        return lambda *inputs: self.function(xp, *inputs)

    def samples(self, count: int) -> tuple[np.ndarray, ...]:
        """Inputs with this many samples, taken from `x` in turn."""
        return tuple(np.resize(a, (count, *a.shape[1:])) if count else a[:0] for a in self.x)


def namespace(engine: Engine, module: Any = None) -> Namespace:
    """The namespace of an engine; `module` is needed for an engine that is not built in."""
    module = module or importlib.import_module(MODULES[engine.name])

    def constant(value: np.ndarray, like: Array) -> Array:
        return engine.asarray(value, engine.dtype(like), like)

    return Namespace(module.sin, module.exp, module.tanh, constant)


def scenarios() -> list[Scenario]:
    """All scenarios, with five samples each and no two sizes alike."""
    return [_linear(), _quadratic(), _softmax(), _sines(), _mlp(), _two()]


def _draw(name: str, *shape: int) -> np.ndarray:
    return np.random.default_rng(list(name.encode())).normal(size=shape)


def _linear() -> Scenario:
    """y = x B on the last axis: (N, 3, 2) -> (N, 3, 4)."""
    b = _draw("linear", 2, 4)

    def jacobian(x: np.ndarray) -> Blocks:
        return [[np.einsum("ij,ko,n->niojk", np.eye(3), b, np.ones(len(x)))]]

    def hessian(x: np.ndarray) -> np.ndarray:
        return np.zeros((len(x), 3, 4, 3, 2, 3, 2))

    return Scenario("linear", lambda xp, x: x @ xp.constant(b, x), (_draw("lx", 5, 3, 2),), jacobian, hessian)


def _quadratic() -> Scenario:
    """y = (x A) (x B), entry by entry: (N, 3) -> (N, 4)."""
    a, b = _draw("left", 3, 4), _draw("right", 3, 4)

    def jacobian(x: np.ndarray) -> Blocks:
        return [[np.einsum("io,no->noi", a, x @ b) + np.einsum("no,io->noi", x @ a, b)]]

    def hessian(x: np.ndarray) -> np.ndarray:
        half = np.einsum("io,jo,n->noij", a, b, np.ones(len(x)))
        return half + np.swapaxes(half, -1, -2)

    def function(xp: Namespace, x: Array) -> Array:
        return (x @ xp.constant(a, x)) * (x @ xp.constant(b, x))

    return Scenario("quadratic", function, (_draw("qx", 5, 3),), jacobian, hessian)


def _softmax() -> Scenario:
    """p = softmax(x): J = diag(p) - p pᵀ, with (N, 4) on both sides."""

    def value(x: np.ndarray) -> np.ndarray:
        return np.exp(x) / np.exp(x).sum(-1, keepdims=True)

    def jacobian(x: np.ndarray) -> Blocks:
        p = value(x)
        return [[np.einsum("no,oi->noi", p, np.eye(4)) - np.einsum("no,ni->noi", p, p)]]

    def hessian(x: np.ndarray) -> np.ndarray:
        p, slope = value(x), jacobian(x)[0][0]
        gap = np.eye(4) - p[:, None, :]  # δ_oi - p_i
        return np.einsum("no,noi,noj->noij", p, gap, gap) - np.einsum("no,nij->noij", p, slope)

    def function(xp: Namespace, x: Array) -> Array:
        return xp.exp(x) / (xp.exp(x) @ xp.constant(np.ones((4, 4)), x))

    return Scenario("softmax", function, (_draw("sx", 5, 4),), jacobian, hessian)


def _sines() -> Scenario:
    """y = sin x₀ · sin x₁ · sin x₂: (N, 3) -> (N,)."""

    def product(x: np.ndarray, *derived: int) -> np.ndarray:
        """The product with the factors in `derived` differentiated, once for each time they are named."""
        factors = [np.sin(x[:, k] + np.pi / 2 * derived.count(k)) for k in range(3)]
        return factors[0] * factors[1] * factors[2]

    def jacobian(x: np.ndarray) -> Blocks:
        return [[np.stack([product(x, i) for i in range(3)], -1)]]

    def hessian(x: np.ndarray) -> np.ndarray:
        return np.stack([np.stack([product(x, i, j) for j in range(3)], -1) for i in range(3)], -2)

    def function(xp: Namespace, x: Array) -> Array:
        return xp.sin(x[:, 0]) * xp.sin(x[:, 1]) * xp.sin(x[:, 2])

    return Scenario("sines", function, (_draw("nx", 5, 3),), jacobian, hessian)


def _mlp() -> Scenario:
    """y = tanh(x W₁ + b₁) W₂ + b₂, differentiated by hand: (N, 3) -> 5 -> (N, 2)."""
    w1, b1, w2, b2 = _draw("w1", 3, 5), _draw("b1", 5), _draw("w2", 5, 2), _draw("b2", 2)

    def jacobian(x: np.ndarray) -> Blocks:
        h = np.tanh(x @ w1 + b1)
        return [[np.einsum("ho,nh,ih->noi", w2, 1 - h**2, w1)]]

    def hessian(x: np.ndarray) -> np.ndarray:
        h = np.tanh(x @ w1 + b1)
        return np.einsum("ho,nh,ih,jh->noij", w2, -2 * h * (1 - h**2), w1, w1)

    def function(xp: Namespace, x: Array) -> Array:
        h = xp.tanh(x @ xp.constant(w1, x) + xp.constant(b1, x))
        return h @ xp.constant(w2, x) + xp.constant(b2, x)

    return Scenario("mlp", function, (_draw("mx", 5, 3),), jacobian, hessian)


def _two() -> Scenario:
    """p = (a A) (b B) and q = sin(a₀) b₁: inputs (N, 3) and (N, 2), outputs (N, 4) and (N,)."""
    left, right = _draw("tl", 3, 4), _draw("tr", 2, 4)

    def jacobian(a: np.ndarray, b: np.ndarray) -> Blocks:
        dq_da, dq_db = np.zeros_like(a), np.zeros_like(b)
        dq_da[:, 0] = np.cos(a[:, 0]) * b[:, 1]
        dq_db[:, 1] = np.sin(a[:, 0])
        dp_da = np.einsum("io,no->noi", left, b @ right)
        return [[dp_da, np.einsum("no,io->noi", a @ left, right)], [dq_da, dq_db]]

    def function(xp: Namespace, a: Array, b: Array) -> tuple[Array, Array]:
        p = (a @ xp.constant(left, a)) * (b @ xp.constant(right, b))
        return p, xp.sin(a[:, 0]) * b[:, 1]

    return Scenario("two", function, (_draw("ta", 5, 3), _draw("tb", 5, 2)), jacobian)
