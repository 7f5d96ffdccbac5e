"""Singular values of many matrices at once, each known only by its products: NumPy in float64."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from wrt.errors import WrtWarning

Product = Callable[[np.ndarray], np.ndarray]  # (N, p) -> (N, q), one matrix per row

FIRST_CAPACITY = 16
CHECK_EVERY = 4  # steps between two looks at the residuals
VANISHED = 1e-13  # of a vector's length: what is left of it after projection is rounding


@dataclass(frozen=True)
class Triplets:
    """`U (N, m, k)`, `s (N, k)` falling, `Vh (N, k, n)`; the largest residual `(N,)`, relative to the largest value."""

    u: np.ndarray
    s: np.ndarray
    vh: np.ndarray
    residual: np.ndarray


@dataclass
class Basis:
    """Orthonormal vectors per sample, `(N, count, size)`, one more at a time."""

    samples: int
    size: int
    random: np.random.Generator
    count: int = 0
    vectors: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.vectors = np.zeros((self.samples, min(FIRST_CAPACITY, self.size), self.size))

    @property
    def used(self) -> np.ndarray:
        return self.vectors[:, : self.count]

    @property
    def is_full(self) -> bool:
        return self.count == self.size

    def project(self, vector: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients in the basis, and the rest; twice is enough (Giraud et al. 2005)."""
        coefficients = np.zeros((self.samples, self.count))
        for _ in range(2):
            part = np.matmul(self.used, vector[..., None])[..., 0]
            vector = vector - np.matmul(part[:, None], self.used)[:, 0]
            coefficients += part
        return coefficients, vector

    def add(self, vector: np.ndarray) -> np.ndarray:
        """Append what is new in `vector` and return its coefficients, `(N, count)`.

        Where nothing is new the coefficient is zero and a random direction keeps the basis growing.
        """
        length = np.linalg.norm(vector, axis=1)
        coefficients, rest = self.project(vector)
        norm = np.linalg.norm(rest, axis=1)
        norm = np.where(norm > VANISHED * length, norm, 0.0)
        fresh = self.direction() if not norm.all() else rest
        divisor = np.where(norm > 0, norm, 1.0)[:, None]
        self._append(np.where(norm[:, None] > 0, rest / divisor, fresh))
        return np.concatenate([coefficients, norm[:, None]], axis=1)

    def direction(self) -> np.ndarray:
        """A random unit vector outside the basis; the same draw for every sample, so that batches do not matter."""
        vector = np.broadcast_to(self.random.standard_normal(self.size), (self.samples, self.size))
        for _ in range(2):
            vector = self.project(vector)[1]
            vector = vector / np.linalg.norm(vector, axis=1, keepdims=True)
        return vector

    def _append(self, vector: np.ndarray) -> None:
        if self.count == self.vectors.shape[1]:
            more = np.zeros((self.samples, min(self.count, self.size - self.count), self.size))
            self.vectors = np.concatenate([self.vectors, more], axis=1)
        self.vectors[:, self.count] = vector
        self.count += 1


def triplets(
    push: Product, pull: Product, shape: tuple[int, int, int], k: int, tol: float, steps: int, seed: int
) -> Triplets:
    """The `k` largest singular triplets of N matrices `(m, n)`, by block Golub-Kahan-Lanczos bidiagonalisation.

    `push` is `v -> A v`, `pull` is `u -> Aᵀ u`. The basis is kept orthonormal in full and starts with `k` random
    vectors, so that a singular value of multiplicity up to `k` is found that often. min(m, n) steps are exact; each
    costs one product either way. It stops as soon as `|Aᵀu - s v| <= tol * s_max` for all.

    Source: Golub, Kahan 1965; Golub, Luk, Overton 1981 (blocks); Baglama, Reichel 2005 (residuals).
    """
    samples, m, n = shape
    if m < n:  # start in the smaller space, which the basis then exhausts
        found = triplets(pull, push, (samples, n, m), k, tol, steps, seed)
        return Triplets(_transpose(found.vh), found.s, _transpose(found.u), found.residual)
    random = np.random.default_rng(seed)
    right, left = Basis(samples, n, random), Basis(samples, m, random)
    for _ in range(k):
        right.add(np.zeros((samples, n)))
    state = _Bidiagonal(right, left, np.zeros(samples, bool))
    limit = max(k, min(n, steps))
    for step in range(1, limit + 1):
        state.advance(push, pull)
        if step >= k and (step % CHECK_EVERY == 0 or step == limit):
            found = state.ritz(k)
            if (found.residual <= tol).all():
                break
    _warn(found.residual, tol, limit)
    return found


def _transpose(a: np.ndarray) -> np.ndarray:
    return np.swapaxes(a, 1, 2)


def _warn(residual: np.ndarray, tol: float, limit: int) -> None:
    missed = int((residual > tol).sum())
    if missed:
        warnings.warn(
            f"the singular values of {missed} sample(s) are not converged after {limit} steps: residual "
            f"{np.nanmax(residual):.1e} of the largest, tol={tol:.1e}; raise steps= or tol=",
            WrtWarning,
            stacklevel=4,
        )


@dataclass
class _Bidiagonal:
    """`A V = W B` and `Aᵀ W = V Bᵀ + (rest of the basis) R`, one column more at every step."""

    right: Basis
    left: Basis
    bad: np.ndarray  # samples whose products are not finite
    forth: list[np.ndarray] = field(default_factory=list)  # columns of B
    back: list[np.ndarray] = field(default_factory=list)  # columns of Bᵀ over R

    def advance(self, push: Product, pull: Product) -> None:
        number = len(self.forth)
        self.forth.append(self.left.add(self._clean(push(self.right.vectors[:, number]))))
        product = self._clean(pull(self.left.vectors[:, number]))
        self.back.append(self.right.project(product)[0] if self.right.is_full else self.right.add(product))

    def _clean(self, product: np.ndarray) -> np.ndarray:
        self.bad |= ~np.isfinite(product).all(axis=1)
        return np.where(self.bad[:, None], 0.0, product)

    def ritz(self, k: int) -> Triplets:
        """The best approximation that the two bases hold."""
        number = len(self.forth)
        b = _stack(self.forth, number)
        p, s, qh = np.linalg.svd(b)
        rest = _stack(self.back, self.right.count)[:, number:]
        residual = np.linalg.norm(np.matmul(rest, p[:, :, :k]), axis=1).max(axis=1, initial=0.0)
        largest = s[:, 0] if number else np.zeros(len(s))
        relative = np.divide(residual, largest, out=np.zeros_like(residual), where=largest > 0)
        u = np.matmul(_transpose(self.left.used), p[:, :, :k])
        vh = np.matmul(qh[:, :k], self.right.vectors[:, :number])
        for array in (u, s, vh):
            array[self.bad] = np.nan
        return Triplets(u, s[:, :k], vh, relative)


def _stack(columns: list[np.ndarray], rows: int) -> np.ndarray:
    """Columns of growing length as one array `(N, rows, columns)`, zeros below."""
    whole = np.zeros((len(columns[0]), rows, len(columns)))
    for number, column in enumerate(columns):
        whole[:, : column.shape[1], number] = column
    return whole


def probe_square(pull: Product, samples: int, m: int, probes: int, seed: int) -> np.ndarray:
    """An unbiased estimate of `|A|_F²` per sample, from `probes` products with random orthonormal directions.

    `E[m (uᵀA)(uᵀA)ᵀ] = |A|_F²` for u uniform on the sphere; orthogonal directions make `probes = m` exact.

    Source: Hutchinson 1990; Hoffman, Roberts, Yaida 2019, eq. 9.
    """
    count = min(probes, m)
    draws = np.random.default_rng(seed).standard_normal((samples, m, count))
    directions = np.linalg.qr(draws)[0]
    total = np.zeros(samples)
    for number in range(count):
        total += np.square(pull(directions[:, :, number])).sum(axis=1)
    return total * m / max(count, 1)
