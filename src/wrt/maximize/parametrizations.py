"""Parametrisations of an image by name, and those that take data: `wrt.maximize(..., parametrization=...)`."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np

from wrt.engines.base import Array, Arrays, Engine
from wrt.errors import InputError, OptionError, suggest
from wrt.maximize.image import Channel, Fourier, Pixels, axes_of, finite, scale

PARAMETRIZATIONS = ("pixel", "fourier", "maco")
SMALL = 1e-12


@dataclass(frozen=True, eq=False)
class Magnitude:
    """Images whose spectrum's magnitude is kept; made by `wrt.parametrizations.maco`."""

    images: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Maco:
    """Phases of a spectrum whose magnitude is fixed.

    A phase is a vector (cos, sin) of length one, and is brought back to that length after every step.
    """

    fourier: Fourier
    magnitude: np.ndarray  # (C, H, W // 2 + 1)

    @property
    def key(self) -> Hashable:
        return "maco", self.fourier.key, hashlib.sha256(self.magnitude.tobytes()).hexdigest()

    def params(self, values: np.ndarray, bounds: Any) -> np.ndarray:
        """(N, 2, C, H, W // 2 + 1): cosines and sines of the phases of these values, 1 and 0 where there is none."""
        spectrum = self.fourier.spectrum(values, bounds)
        length = np.abs(spectrum)
        phase = np.where(length > 0, spectrum / np.where(length > 0, length, 1), 1)
        return np.stack([phase.real, phase.imag], 1)

    def image(self, engine: Engine, params: Array, bounds: Arrays) -> Array:
        """What these parameters stand for."""
        magnitude = engine.asarray(self.magnitude, engine.dtype(params), params)
        return self.fourier.shown(engine, self._phases(engine, params) * magnitude, bounds)

    def project(self, engine: Engine, params: Array, _bounds: Arrays) -> Array:
        """The phases, as vectors of length one again."""
        return self._phases(engine, params)

    def _phases(self, engine: Engine, params: Array) -> Array:
        """Length one, and what is there twice in the spectrum of a real image the conjugate of itself."""
        flip, edge = (engine.asarray(a, engine.dtype(params), params) for a in _mirror(*self.fourier.size))
        sign = engine.asarray(np.array([1.0, -1.0]).reshape(2, 1, 1, 1), engine.dtype(params), params)
        both = (params + flip @ params * sign) / 2
        params = params + edge * (both - params)
        length = (engine.sum(params * params, (1,)) + SMALL) ** 0.5
        return params / length[:, None]


def maco(images: Any = None) -> Magnitude:
    """Images of fixed magnitude: only the phases of their spectrum are moved, so that they keep natural frequencies.

    x = F⁻¹(r e^{iφ}), r the mean of |F(x_k)| over the given images, φ what is optimised; each channel by itself, three
    channels in decorrelated colours, and with `bounds=` before the sigmoid that keeps the image inside them.

    Without images r is one over the frequency, as natural images have it on average, with a mean of zero and a
    standard deviation of one, which suits inputs that were normalised and, with `bounds=`, any others;
    `parametrization="maco"` is short for that. The paper takes r from ImageNet and goes on to crop the image at random
    and to make it transparent where gradients are small: the first is left to `transforms=`, the second left out.
    Phases are angles: a `learning_rate` of 0.05 to 1 suits them.

    Args:
        images: an array `(K, *in)` of images like those that the model knows, one or many.

    Raises:
        InputError: no array of finite numbers.

    Example:
        >>> import numpy as np, wrt
        >>> wrt.parametrizations.maco(np.ones((5, 8, 8, 3))).images.shape
        (5, 8, 8, 3)

    Source: Fel et al., Unlocking feature visualization for deeper networks with magnitude constrained optimization,
    NeurIPS 2023.
    """
    return Magnitude(None if images is None else finite(images, "maco(images)", "(K, *in)"))


def picture_of(name: Any, shape: tuple[int, ...], channel: Channel, bounds: Any) -> Pixels | Fourier | Maco:
    """The parametrisation that is meant, for images of this shape.

    Raises:
        OptionError: an unknown name, or one that needs images.
        InputError: images of another shape, or beyond the bounds.
    """
    said = "maco" if isinstance(name, Magnitude) else name
    if not isinstance(said, str) or said not in PARAMETRIZATIONS:
        raise OptionError(
            f"parametrization={name!r} is not a choice.{suggest(str(name), PARAMETRIZATIONS)} "
            "Or give wrt.parametrizations.maco(images)"
        )
    if said == "pixel":
        return Pixels(bounds is not None)
    fourier = Fourier(bounds is not None, shape, axes_of(shape, channel, f"parametrization={said!r}"))
    if said == "fourier":
        return fourier
    return Maco(fourier, _magnitude(fourier, name.images if isinstance(name, Magnitude) else None, bounds))


def _magnitude(fourier: Fourier, images: np.ndarray | None, bounds: Any) -> np.ndarray:
    """(C, H, W // 2 + 1)."""
    if images is None:
        channels = 1 if fourier.axes.channel is None else fourier.shape[fourier.axes.channel - 1]
        return np.repeat(_natural(*fourier.size)[None], channels, 0)
    if images.shape[1:] != fourier.shape:
        raise InputError(f"maco(images): shape {images.shape}; expected (K, {str(fourier.shape)[1:]}")
    if bounds is not None and ((images < bounds[0]) | (images > bounds[1])).any():
        raise InputError(
            f"maco(images) lies between {images.min():.4g} and {images.max():.4g}, outside bounds=; scale the images "
            "as the model's input is, or give wider bounds"
        )
    mean: np.ndarray = np.abs(fourier.spectrum(images, bounds)).mean(0)
    return mean


def _natural(rows: int, columns: int) -> np.ndarray:
    """(H, W // 2 + 1): one over the frequency, for planes of mean 0 and standard deviation 1."""
    found = scale(rows, columns)
    found[0, 0] = 0
    half = np.arange(columns // 2 + 1)
    power = (found**2 * np.where((half == 0) | (2 * half == columns), 1, 2)).sum() / (rows * columns) ** 2
    return found / np.sqrt(power) if power else found


def _mirror(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """The matrix from each vertical frequency to its negative; the columns that hold both of these."""
    flip = np.eye(rows)[-np.arange(rows) % rows]
    half = np.arange(columns // 2 + 1)
    return flip, ((half == 0) | (2 * half == columns)).astype(float)
