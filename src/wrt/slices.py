"""What comes out of slices through a model along one or two features: plain data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Surface:
    """An output and its derivatives over the plane of two features a and b; what `wrt.surface` returns.

    Attributes:
        names: of a and b.
        axes: the values of a and of b, `(G,)` each.
        output: `(G, G)`; the entry `[i, j]` is at `axes[0][i]` and `axes[1][j]`, as in all that follow.
        first: ∂/∂a and ∂/∂b, `(2, G, G)`; `None` below order 1.
        second: ∂²/∂a², ∂²/∂a∂b and ∂²/∂b², `(3, G, G)`; `None` below order 2.
        data: the two columns of the data, `(N, 2)`.
        features: the numbers of a and b.
        others: `"median"`, `"values"` or `"marginal"`: what the other features are.
        rows: `(R, F)`, the values of the other features; the mean is over these rows. Those of a and b mean nothing.
    """

    names: tuple[str, str]
    axes: tuple[np.ndarray, np.ndarray]
    output: np.ndarray
    first: np.ndarray | None
    second: np.ndarray | None
    data: np.ndarray
    features: tuple[int, int]
    others: str
    rows: np.ndarray

    @property
    def order(self) -> int:
        return 0 if self.first is None else 1 if self.second is None else 2

    @property
    def outside(self) -> np.ndarray:
        """Which points lie outside the convex hull of the data, `(G, G)`: what is seen there is extrapolated."""
        from scipy.spatial import ConvexHull, QhullError

        points = np.stack(np.meshgrid(*self.axes, indexing="ij"), -1)
        try:
            sides = ConvexHull(self.data).equations
        except (QhullError, ValueError):  # fewer than three rows, or rows on a line
            return np.ones(points.shape[:2], bool)
        gaps = points @ sides[:, :2].T + sides[:, 2]
        return np.asarray((gaps > 1e-9 * np.ptp(self.data)).any(-1))

    def __repr__(self) -> str:
        (a, b), (first, second) = self.names, self.axes
        share = self.outside.mean()
        far = f"; {share:.0%} of the plane is outside the data, where derivatives are extrapolated" if share else ""
        ways = {
            "median": "other features at their medians",
            "values": "other features held",
            "marginal": f"mean over {len(self.rows)} rows",
        }
        return (
            f"Surface: order {self.order}, {len(first)} x {len(second)} points, {a} from {first[0]:.4g} to "
            f"{first[-1]:.4g}, {b} from {second[0]:.4g} to {second[-1]:.4g}, {ways[self.others]}{far}"
        )


@dataclass(frozen=True, eq=False)
class Profile:
    """The mean derivative against the value of a feature; what `wrt.profile` returns.

    Attributes:
        name: of the feature.
        order: of the derivative; 0 is the output itself.
        edges: of the bins, `(B + 1,)`; the last bin holds its upper edge.
        centers: the mean of the feature in each bin, `(B,)`.
        mean: of the derivative, `(B,)`.
        error: of that mean: the standard deviation over the root of the count, `(B,)`.
        counts: samples in each bin, at least 2, `(B,)`.
        feature: its number.
    """

    name: str
    order: int
    edges: np.ndarray
    centers: np.ndarray
    mean: np.ndarray
    error: np.ndarray
    counts: np.ndarray
    feature: int

    def __repr__(self) -> str:
        best = int(np.argmax(np.abs(self.mean)))
        what = ("output", "first derivative", "second derivative")[self.order]
        return (
            f"Profile: mean {what} in {len(self.mean)} bins of {self.name}, {self.counts.sum()} samples; largest "
            f"{self.mean[best]:.4g} ± {self.error[best]:.2g} near {self.centers[best]:.4g}"
        )
