"""What the optimiser moves, and the image that it stands for: pixels, or a spectrum in decorrelated colours."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np

from wrt.engines import registry
from wrt.engines.base import Array, Arrays, Engine
from wrt.errors import InputError, OptionError

Channel = Callable[[], int | None]  # the axis of the channels, found when it is needed
COLORS = np.array([[0.26, 0.09, 0.02], [0.27, 0.0, -0.05], [0.27, -0.09, 0.03]])
EDGE = 1e-4  # how near to its bounds an image may start where a sigmoid keeps it inside


@dataclass(frozen=True)
class Axes:
    """The axes of a batch of images: where the channels are, if there are any, and the two of the plane."""

    channel: int | None
    plane: tuple[int, int]


def axes_of(shape: tuple[int, ...], channel: Channel, what: str) -> Axes:
    """The axes of images of this shape per sample; `channel` tells that of the channels.

    Raises:
        OptionError: these are no images, which `what` needs, or it is not known where their channels are.
    """
    if len(shape) == 2:
        return Axes(None, (1, 2))
    found = channel() if len(shape) == 3 else None
    if found is not None:
        rows, columns = (axis for axis in (1, 2, 3) if axis != found)
        return Axes(found, (rows, columns))
    raise OptionError(f"{what} needs images (N, H, W) or with channels; the model's input is (N, {str(shape)[1:]}")


@dataclass(frozen=True)
class Pixels:
    """The image itself; after every step what leaves the bounds is put on them."""

    bounded: bool

    @property
    def key(self) -> Hashable:
        return "pixel", self.bounded

    def params(self, values: np.ndarray, _bounds: Any) -> np.ndarray:
        """What stands for these values."""
        return values

    def image(self, _engine: Engine, params: Array, _bounds: Arrays) -> Array:
        """What these parameters stand for."""
        return params

    def project(self, engine: Engine, params: Array, bounds: Arrays) -> Array:
        """The nearest parameters inside the bounds."""
        return clipped(engine, params, bounds) if self.bounded else params


@dataclass(frozen=True)
class Fourier:
    """A spectrum whose frequencies have equal energy, in decorrelated colours; a sigmoid keeps it inside the bounds.

    Source: Olah, Mordvintsev and Schubert, Feature visualization, Distill 2017, preconditioning and parameterization.
    """

    bounded: bool
    shape: tuple[int, ...]
    axes: Axes

    @property
    def key(self) -> Hashable:
        return "fourier", self.bounded, self.shape, self.axes

    @property
    def size(self) -> tuple[int, int]:
        rows, columns = self.axes.plane
        return self.shape[rows - 1], self.shape[columns - 1]

    @property
    def colored(self) -> bool:
        return self.axes.channel is not None and self.shape[self.axes.channel - 1] == 3

    def spectrum(self, values: np.ndarray, bounds: Any) -> np.ndarray:
        """(N, C, H, W // 2 + 1), complex: the spectrum of what a sigmoid and a change of colours make these values."""
        if self.bounded:
            share = (values - bounds[0]) / (np.asarray(bounds[1]) - bounds[0])
            share = np.clip(share, EDGE, 1 - EDGE)
            values = np.log(share / (1 - share))
        planes = values[:, None] if self.axes.channel is None else np.moveaxis(values, self.axes.channel, 1)
        if self.colored:
            planes = np.einsum("nchw,cd->ndhw", planes, np.linalg.inv(_colors()).T)
        found: np.ndarray = np.fft.rfft2(planes)
        return found

    def params(self, values: np.ndarray, bounds: Any) -> np.ndarray:
        """(N, 2, C, H, W // 2 + 1): the real and imaginary parts of the spectrum, all frequencies of equal energy."""
        spectrum = self.spectrum(values, bounds) / scale(*self.size)
        return np.stack([spectrum.real, spectrum.imag], 1)

    def image(self, engine: Engine, params: Array, bounds: Arrays) -> Array:
        """What these parameters stand for."""
        scaled = params * engine.asarray(scale(*self.size), engine.dtype(params), params)
        return self.shown(engine, scaled, bounds)

    def shown(self, engine: Engine, spectrum: Array, bounds: Arrays) -> Array:
        """The image of a spectrum (N, 2, C, H, W // 2 + 1), real and imaginary parts."""

        def put(value: np.ndarray) -> Array:
            return engine.asarray(value, engine.dtype(spectrum), spectrum)

        planes = _inverse(spectrum[:, 0], spectrum[:, 1], *map(put, _waves(*self.size)))
        if self.colored:
            planes = engine.moveaxis(engine.moveaxis(planes, 1, 3) @ put(_colors().T), 3, 1)
        channel = self.axes.channel
        image = planes[:, 0] if channel is None else engine.moveaxis(planes, 1, channel)
        return self._inside(engine, image, bounds) if self.bounded else image

    def _inside(self, engine: Engine, image: Array, bounds: Arrays) -> Array:
        column = image[..., None]
        pair = engine.concatenate([column, engine.zeros_like(column)], len(image.shape))
        share = engine.exp(engine.log_softmax(pair))
        return clipped(engine, bounds[0] + (bounds[1] - bounds[0]) * share[..., 0], bounds)

    def project(self, _engine: Engine, params: Array, _bounds: Arrays) -> Array:
        """The parameters: every spectrum stands for an image inside the bounds."""
        return params


def clipped(engine: Engine, value: Array, bounds: Arrays) -> Array:
    """The value, or the bound that it is beyond."""
    low, high = bounds
    value = engine.where(value < low, low, value)
    return engine.where(value > high, high, value)


def finite(value: Any, what: str, expected: str) -> np.ndarray:
    """The array on the host.

    Raises:
        InputError: no array, or not of finite numbers.
    """
    values = np.asarray(registry.host(value))
    if values.dtype.kind not in "fiub" or not values.ndim or not values.size or not np.isfinite(values).all():
        raise InputError(f"{what}: {values.dtype} of shape {values.shape}; expected finite numbers, {expected}")
    return values


def _colors() -> np.ndarray:
    """From decorrelated colours to red, green and blue; natural images' correlations, largest column norm 1."""
    return COLORS / np.linalg.norm(COLORS, axis=0).max()


def scale(rows: int, columns: int) -> np.ndarray:
    """One over the frequency, so that every frequency moves the image as much as it has energy in natural ones."""
    down, across = np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns)[None]
    return np.sqrt(rows * columns) / np.maximum(np.hypot(down, across), 1 / max(rows, columns))


def _waves(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The inverse transform of real images as products: cosines and sines down, then across."""
    down = 2 * np.pi * np.outer(np.arange(rows), np.arange(rows)) / rows
    half = np.arange(columns // 2 + 1)
    across = 2 * np.pi * np.outer(half, np.arange(columns)) / columns
    twice = np.where((half == 0) | (2 * half == columns), 1, 2)[:, None] / columns
    return np.cos(down) / rows, np.sin(down) / rows, twice * np.cos(across), twice * np.sin(across)


def _inverse(real: Array, imaginary: Array, cos: Array, sin: Array, across: Array, aside: Array) -> Array:
    """(N, C, H, W) planes from their spectrum."""
    return (cos @ real - sin @ imaginary) @ across - (cos @ imaginary + sin @ real) @ aside
