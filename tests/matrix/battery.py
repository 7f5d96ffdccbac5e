"""What is asked of one model, and the differences that the answers are compared with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

import wrt

ENGINE = keras.backend.backend()
Arrays = list[np.ndarray]
# factor of each point of a central difference, in steps
STENCILS = {"narrow": ((1, 1 / 2), (-1, -1 / 2)), "wide": ((2, -1 / 12), (1, 2 / 3), (-1, -2 / 3), (-2, 1 / 12))}


class Differences:
    """Central differences with one call of the function for all points."""

    def __init__(self, kind: str, step: float) -> None:
        self.stencil, self.step = STENCILS[kind], step

    def along(self, f: Callable[[Arrays], np.ndarray], x: Arrays, directions: list[Arrays]) -> np.ndarray:
        """`(directions, N, *out)` derivatives of `f` along these directions."""
        shifts = [s * self.step for s, _ in self.stencil]
        y = f([np.concatenate([a + s * d[k] for d in directions for s in shifts]) for k, a in enumerate(x)])
        y = np.asarray(y, np.float64).reshape(len(directions), len(self.stencil), *x[0].shape[:1], *y.shape[1:])
        return np.einsum("ds...,s->d...", y, [c for _, c in self.stencil]) / self.step

    def jacobian(self, f: Callable[[Arrays], np.ndarray], x: Arrays) -> Arrays:
        """One block `(N, *out, *in)` per input."""
        blocks = []
        for k, a in enumerate(x):
            units = np.eye(a[0].size).reshape(a[0].size, *a.shape[1:])
            seeds = [[np.broadcast_to(u, b.shape) if i == k else 0 * b for i, b in enumerate(x)] for u in units]
            columns = np.moveaxis(self.along(f, x, seeds), 0, -1)
            blocks.append(columns.reshape(*columns.shape[:-1], *a.shape[1:]))
        return blocks


def separated(shapes: list[tuple[int, ...]], samples: int = 2, seed: int = 0) -> Arrays:
    """Values far from one another and from zero, so that no corner lies within a difference."""
    rng = np.random.default_rng(seed)
    sizes = [samples * int(np.prod(s)) for s in shapes]
    values = rng.permutation(np.linspace(-1.3, 1.2, sum(sizes) + sum(sizes) % 2))
    parts = np.split(values[: sum(sizes)], np.cumsum(sizes)[:-1])
    return [part.reshape(samples, *shape) for part, shape in zip(parts, shapes, strict=True)]


def tree(x: list[Any]) -> Any:
    return x[0] if len(x) == 1 else list(x)


def leaves(x: Any) -> list[Any]:
    return list(x) if isinstance(x, (list, tuple)) else [x]


def score(y: Any) -> Any:
    """A scalar per sample, linear nowhere; plain operators, as `keras.ops.sin` of float64 is float32 on JAX."""
    return keras.ops.sum(y * y + y * y * y / 6, axis=tuple(range(1, len(y.shape))))


def forward(model: keras.Model, x: Arrays) -> np.ndarray:
    """The model's output, in one compiled call."""
    return np.asarray(model.predict_on_batch(tree(x)), np.float64)


def answers(model: keras.Model, x: Arrays, v: Arrays, u: np.ndarray, chunk: int) -> tuple[dict[str, Any], Any]:
    """All of first order, each as wrt compiles it, and the plan of the forward mode.

    On JAX in one program, whose compilation takes long. Where pushes fall back to pulls there is nothing more to run
    but the product; elsewhere a compiled product, one seed of the Jacobian, is asked for on torch alone.
    """
    plans = []

    def ask(x: list[Any], v: list[Any], u: Any) -> dict[str, Any]:
        x, v = tree(x), tree(v)
        plan = wrt.plan_jacobian(model, x, mode="forward", chunk=chunk)
        plans.append(plan.plan)
        reverse = leaves(wrt.jacobian(model, x, mode="reverse", chunk=chunk))
        pushed = plan.plan.mode == "forward"
        return {
            "reverse": reverse,
            "forward": leaves(plan(x)) if pushed else reverse,
            "gradient": leaves(wrt.gradient(model, x, score)),
            **({"jvp": wrt.jvp(model, x, v)} if ENGINE == "torch" or not pushed else {}),
            **({"vjp": leaves(wrt.vjp(model, x, u))} if ENGINE == "torch" else {}),
        }

    if ENGINE != "jax":
        return ask(x, v, u), plans[0]
    import jax

    dtype = model.inputs[0].dtype
    found = jax.jit(ask)([a.astype(dtype) for a in x], [a.astype(dtype) for a in v], u.astype(dtype))
    return jax.tree.map(np.asarray, found), plans[0]


def second(model: keras.Model, x: Arrays, v: Arrays) -> Arrays:
    """The gradient of `v . wrt.gradient(x)`, by the framework's own means, compiled where it compiles."""
    return {"jax": _second_jax, "torch": _second_torch, "tensorflow": _second_tensorflow}[ENGINE](model, x, v)


def _second_jax(model: keras.Model, x: Arrays, v: Arrays) -> Arrays:
    import jax

    def product(x: list[Any]) -> Any:
        g = leaves(wrt.gradient(model, tree(x), score))
        return sum((a * b).sum() for a, b in zip(g, v, strict=True))

    dtype = model.inputs[0].dtype
    return list(map(np.asarray, jax.jit(jax.grad(product))([a.astype(dtype) for a in x])))


def _second_torch(model: keras.Model, x: Arrays, v: Arrays) -> Arrays:
    import torch

    dtype = getattr(torch, model.inputs[0].dtype)
    x = [torch.tensor(a, dtype=dtype, requires_grad=True) for a in x]
    g = leaves(wrt.gradient(model, tree(x), score))
    product = sum((a * torch.tensor(b, dtype=dtype)).sum() for a, b in zip(g, v, strict=True))
    if not product.requires_grad:
        return [np.zeros(a.shape) for a in x]
    found = torch.autograd.grad(product, x, allow_unused=True)
    return [np.zeros(a.shape) if g is None else g.numpy() for a, g in zip(x, found, strict=True)]


def _second_tensorflow(model: keras.Model, x: Arrays, v: Arrays) -> Arrays:
    import tensorflow as tf

    def product(x: list[Any]) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            g = leaves(wrt.gradient(model, tree(x), score))
            total = sum(tf.reduce_sum(a * tf.cast(b, a.dtype)) for a, b in zip(g, v, strict=True))
        return tape.gradient(total, x)

    found = tf.function(product, autograph=False)([tf.cast(a, model.inputs[0].dtype) for a in x])
    return [a.numpy() for a in found]


def close(name: str, found: Any, wanted: Any, tolerance: float) -> None:
    """Equal up to a fraction of the largest entry; never `None`, never a NaN."""
    assert found is not None, name
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    assert found.shape == wanted.shape, f"{name}: {found.shape}, expected {wanted.shape}"
    assert np.isfinite(found).all(), f"{name}: {(~np.isfinite(found)).sum()} entries are not finite"
    error, scale = np.abs(found - wanted).max(initial=0), np.abs(wanted).max(initial=0)
    assert error <= tolerance * max(scale, 1e-3), f"{name}: {error / max(scale, 1e-3):.1e} of the largest entry"


def check_first(model: keras.Model, x: Arrays, differences: Differences, tolerance: float, chunk: int = 64) -> Any:
    """Every product of first order against differences; the plan of the forward mode."""
    rng = np.random.default_rng(1)
    y = forward(model, x)
    v, u = [rng.normal(size=a.shape) for a in x], rng.normal(size=y.shape)
    truth = differences.jacobian(lambda points: forward(model, points), x)
    assert any(np.abs(block).max() > 1e-3 for block in truth), "the model is constant: the case shows nothing"
    found, plan = answers(model, x, v, u, chunk)
    matrices = [block.reshape(len(y), -1, a[0].size) for block, a in zip(truth, x, strict=True)]
    pushed = sum(np.einsum("noi,ni->no", j, d.reshape(len(y), -1)) for j, d in zip(matrices, v, strict=True))
    if "jvp" in found:
        close("jvp", found["jvp"], pushed.reshape(y.shape), tolerance)
    pulls = {"vjp": u, "gradient": 2 * y + y * y / 2}
    for k, (block, matrix) in enumerate(zip(truth, matrices, strict=True)):
        for name, weights in ((n, w) for n, w in pulls.items() if n in found):
            pulled = np.einsum("no,noi->ni", weights.reshape(len(y), -1), matrix)
            close(f"{name}, input {k}", found[name][k], pulled.reshape(x[k].shape), tolerance)
        for mode in ("reverse", "forward"):
            close(f"{mode} jacobian, input {k}", found[mode][k], block, tolerance)
    return plan


def check_second(model: keras.Model, x: Arrays, differences: Differences, tolerance: float) -> None:
    """The Hessian is symmetric: `H v` is the derivative of the gradient along `v`."""
    v = [np.random.default_rng(3).normal(size=a.shape) for a in x]
    found = second(model, x, v)
    for k in range(len(x)):
        wanted = differences.along(lambda p, k=k: np.asarray(leaves(wrt.gradient(model, tree(p), score))[k]), x, [v])[0]
        close(f"second derivative, input {k}", found[k], wanted, 10 * tolerance)
