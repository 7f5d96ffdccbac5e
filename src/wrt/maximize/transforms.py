"""Small random movements of the image before the model sees it, another one in every step.

An excitation that survives them does not hang on single pixels. All movements of a step become one map of the plane,
drawn on the host, and the image is read there by bilinear interpolation; what lies outside repeats the edge, or has the
value that `pad` says.

Source: Olah, Mordvintsev and Schubert, Feature visualization, Distill 2017, transformation robustness.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from wrt.engines.base import Array, Engine
from wrt.errors import OptionError
from wrt.maximize.image import Axes

Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]


@dataclass(frozen=True, eq=False)
class Transform:
    """A random affine map of the plane; made by the functions of `wrt.transforms`.

    `draw(rng, (H, W))` gives the map (2, 3) from places in the moved image to places in the image, both in pixels from
    the middle; `fill` is the value outside, `None` to repeat the edge.
    """

    name: str
    draw: Draw
    fill: float | None = None


def jitter(pixels: int) -> Transform:
    """Moved by up to so many pixels in each direction, whole ones.

    x'(i, j) = x(i + a, j + b), a and b uniform in -pixels ... pixels.

    Example:
        >>> import wrt
        >>> wrt.transforms.jitter(4).name
        'jitter'
    """
    if isinstance(pixels, bool) or not isinstance(pixels, int | np.integer) or pixels < 0:
        raise OptionError(f"jitter(pixels={pixels!r}): expected an integer of at least 0")
    return Transform(
        "jitter", lambda rng, size: np.column_stack([np.eye(2), rng.integers(-pixels, pixels, 2, endpoint=True)])
    )


def scale(*factors: float) -> Transform:
    """Larger or smaller about the middle, by one of these factors.

    x'(p) = x(p / f), f one of the factors, each as likely as the others.

    Example:
        >>> import wrt
        >>> wrt.transforms.scale(0.9, 1.0, 1.1).name
        'scale'
    """
    if not factors or not all(isinstance(f, int | float | np.number) and 0 < f < np.inf for f in factors):
        raise OptionError(f"scale{factors!r}: expected factors above 0, such as scale(0.9, 1.0, 1.1)")
    return Transform("scale", lambda rng, size: np.column_stack([np.eye(2) / rng.choice(factors), np.zeros(2)]))


def rotate(degrees: float) -> Transform:
    """Turned about the middle by up to so many degrees either way.

    x'(p) = x(R p), R a rotation by an angle uniform in -degrees ... degrees.

    Example:
        >>> import wrt
        >>> wrt.transforms.rotate(5).name
        'rotate'
    """
    if isinstance(degrees, bool) or not isinstance(degrees, int | float | np.number) or not 0 <= degrees <= 180:
        raise OptionError(f"rotate(degrees={degrees!r}): expected a number from 0 to 180")

    def draw(rng: np.random.Generator, _: tuple[int, int]) -> np.ndarray:
        angle = np.deg2rad(rng.uniform(-degrees, degrees))
        cos, sin = np.cos(angle), np.sin(angle)
        return np.array([[cos, -sin, 0.0], [sin, cos, 0.0]])

    return Transform("rotate", draw)


def pad(pixels: int, value: float = 0.0) -> Transform:
    """With so many pixels of a value around it, and then shrunk to its old size.

    x'(i, j) = x((H + 2 pixels) i / H, (W + 2 pixels) j / W) from the middle; `value` outside, for all movements.

    Example:
        >>> import wrt
        >>> wrt.transforms.pad(2, 0.5).fill
        0.5
    """
    if isinstance(pixels, bool) or not isinstance(pixels, int | np.integer) or pixels < 0:
        raise OptionError(f"pad(pixels={pixels!r}): expected an integer of at least 0")
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not np.isfinite(value):
        raise OptionError(f"pad(value={value!r}): expected a finite number")
    return Transform(
        "pad",
        lambda rng, size: np.column_stack([np.diag([(n + 2 * pixels) / n for n in size]), np.zeros(2)]),
        float(value),
    )


def checked(transforms: Any) -> tuple[Transform, ...]:
    """The transforms as a tuple.

    Raises:
        OptionError: something that is none.
    """
    given = transforms if isinstance(transforms, list | tuple) else (transforms,)
    for found in given:
        if not isinstance(found, Transform):
            raise OptionError(f"transforms= holds {found!r}; expected those of wrt.transforms, such as jitter(4)")
    return tuple(given)


def sample(given: tuple[Transform, ...], size: tuple[int, int], seed: int, step: int) -> list[np.ndarray]:
    """Where to read in step number `step`: four neighbours (4, H W), their weights, and what the outside adds (H W)."""
    rng = np.random.default_rng([seed, step])
    total = np.eye(3)
    for found in given:
        total = total @ np.vstack([found.draw(rng, size), [0, 0, 1]])
    fill = next((found.fill for found in reversed(given) if found.fill is not None), None)
    return neighbours(total[:2], size, fill)


def neighbours(move: np.ndarray, size: tuple[int, int], fill: float | None) -> list[np.ndarray]:
    """Bilinear interpolation at the places that a map (2, 3) sends the pixels to."""
    middle = (np.array(size) - 1) / 2
    grid = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij")).reshape(2, -1)
    places = np.round(move[:, :2] @ (grid - middle[:, None]) + move[:, 2:] + middle[:, None], 9)
    low = np.floor(places)
    share = places - low
    index, weights = [], []
    for down in (0, 1):
        for right in (0, 1):
            corner = (low + np.array([[down], [right]])).astype(int)
            inside = ((corner >= 0) & (corner < np.array(size)[:, None])).all(0)
            row, column = np.clip(corner, 0, np.array(size)[:, None] - 1)
            index.append(row * size[1] + column)
            weight = np.abs(1 - down - share[0]) * np.abs(1 - right - share[1])
            weights.append(weight if fill is None else weight * inside)
    outside = np.zeros(len(grid[0])) if fill is None else fill * (1 - np.sum(weights, 0))
    return [np.stack(index).astype(np.int32), np.stack(weights), outside]


def moved(engine: Engine, image: Array, axes: Axes, where: list[Array]) -> Array:
    """The image read at these places."""
    index, weights, outside = where
    planes = image if axes.channel in (None, 1) else engine.moveaxis(image, axes.channel, 1)
    shape = tuple(planes.shape)
    flat = engine.reshape(planes, (-1, shape[-2] * shape[-1]))
    every = engine.asarray(np.zeros((flat.shape[0], 1), np.int32), "int32", image)
    total = outside[None]
    for corner in range(4):
        total = total + engine.gather(flat, index[corner][None] + every) * weights[corner][None]
    found = engine.reshape(total, shape)
    return found if axes.channel in (None, 1) else engine.moveaxis(found, 1, axes.channel)
