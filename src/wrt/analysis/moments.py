"""Means, magnitudes and their intervals, from one batch after the other, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np

ROWS = 1024  # of the weights that a bootstrap draws at a time


class Running:
    """Weighted moments of rows `(n, ...)` that come in batches; no more is kept than a few numbers for each entry.

    W = sum_n w_n, mean = sum_n w_n d_n / W, square = sum_n w_n (d_n - mean)², merged batch by batch; the same of |d|.

    Source: Chan, Golub and LeVeque, Updating formulae and a pairwise algorithm for computing sample variances, Stanford
    STAN-CS-79-773 (1979).
    """

    def __init__(self, replicates: int = 0) -> None:
        self.count, self.weight, self.weight_square = 0, 0.0, 0.0
        self.mean: Any = 0.0
        self.square: Any = 0.0
        self.mean_abs: Any = 0.0
        self.square_abs: Any = 0.0
        self.positive: Any = 0.0  # weight of the samples with this sign
        self.negative: Any = 0.0
        self.replicates = replicates
        self.drawn: Any = 0.0  # weight of every bootstrap sample, (B,)
        self.sums: Any = 0.0  # and its sums, (B, ...)
        self.sums_abs: Any = 0.0

    def add(self, rows: np.ndarray, weights: np.ndarray, rng: np.random.Generator | None = None) -> None:
        """Put a batch `(n, ...)` with weights `(n,)` to what is there; `rng` draws the bootstrap."""
        size, total = np.abs(rows), self.weight + weights.sum()
        self.mean, self.square = self._merged(rows, weights, self.mean, self.square)
        self.mean_abs, self.square_abs = self._merged(size, weights, self.mean_abs, self.square_abs)
        self.positive = self.positive + np.tensordot(weights, rows > 0, 1)
        self.negative = self.negative + np.tensordot(weights, rows < 0, 1)
        self.count, self.weight = self.count + len(rows), total
        self.weight_square += float(weights @ weights)
        if rng is not None:
            self._draw(rows, size, weights, rng)

    def _merged(self, rows: np.ndarray, weights: np.ndarray, mean: Any, square: Any) -> tuple[Any, Any]:
        own = weights.sum()
        center = np.tensordot(weights, rows, 1) / own
        off = rows - center
        np.square(off, out=off)
        step, total = center - mean, self.weight + own
        return mean + step * (own / total), square + np.tensordot(weights, off, 1) + step**2 * (
            self.weight * own / total
        )

    def _draw(self, rows: np.ndarray, size: np.ndarray, weights: np.ndarray, rng: np.random.Generator) -> None:
        """Every sample counts a Poisson number of times in each bootstrap sample, whatever batch it comes in."""
        for start in range(0, len(rows), ROWS):
            part = slice(start, start + ROWS)
            times = rng.poisson(1.0, (len(rows[part]), self.replicates)) * weights[part, None]
            self.drawn = self.drawn + times.sum(0)
            self.sums = self.sums + np.tensordot(times.T, rows[part], 1)
            self.sums_abs = self.sums_abs + np.tensordot(times.T, size[part], 1)

    @property
    def effective(self) -> float:
        """The number of equal weights that would say as much: W² / sum w²."""
        return self.weight**2 / self.weight_square

    def spread(self, square: Any) -> np.ndarray:
        """Standard deviation over samples, without bias for equal weights; NaN of one sample."""
        freedom = self.weight - self.weight_square / self.weight
        if self.count < 2:
            return np.full(np.shape(square), np.nan)
        return np.asarray(np.sqrt(square / freedom))

    def rms(self) -> np.ndarray:
        return np.asarray(np.sqrt(self.square / self.weight + self.mean**2))

    def agreement(self) -> np.ndarray:
        """The weight of the more frequent sign among the samples that have one."""
        signed = self.positive + self.negative
        most = np.maximum(self.positive, self.negative)
        return np.divide(most, signed, out=np.ones(np.shape(signed)), where=signed > 0)

    def intervals(self, confidence: float) -> tuple[np.ndarray, ...]:
        """Ends of the intervals of the mean and of the mean magnitude: `(low, high, low, high)`."""
        if self.count < 2:
            return (np.full(np.shape(self.mean), np.nan),) * 4
        pairs = ((self.mean, self.square, self.sums), (self.mean_abs, self.square_abs, self.sums_abs))
        if self.replicates:
            return tuple(end for _, _, sums in pairs for end in self._quantiles(sums, confidence))
        return tuple(end for mean, square, _ in pairs for end in self._student(mean, square, confidence))

    def _student(self, mean: Any, square: Any, confidence: float) -> tuple[np.ndarray, np.ndarray]:
        """mean ± t s / √n."""
        from scipy.special import stdtrit

        n = self.effective
        half = stdtrit(n - 1, (1 + confidence) / 2) * self.spread(square) / np.sqrt(n)
        return mean - half, mean + half

    def _quantiles(self, sums: Any, confidence: float) -> tuple[np.ndarray, np.ndarray]:
        """Of the means of the bootstrap samples; those in which nothing was drawn are none."""
        some = self.drawn > 0
        means = sums[some] / self.drawn[some].reshape(-1, *(1,) * (np.ndim(sums) - 1))
        low, high = np.quantile(means, ((1 - confidence) / 2, (1 + confidence) / 2), axis=0)
        return low, high
