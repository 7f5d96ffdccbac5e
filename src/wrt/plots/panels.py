"""One panel of a page: an image, or a map by itself, over the image, or with the outline of what it shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from wrt.errors import EngineNotInstalledError

SIGNED = "RdBu_r"  # red speaks for, blue against; told apart by the colour-blind as well
UNSIGNED = "inferno"
WHITE_TO_RED = (0.5, 1.0)  # the part of SIGNED for magnitudes beside an outline, which is dark
CLIPPED = 0.01  # of the entries, the largest, lie beyond the ends of the colour scale
OPAQUE, RISE = 0.9, 0.75  # of a map over an image: its strongest entry, and the power by which others come near that
FINER = 6  # points of an outline per pixel
INK, FAINT = "0.15", "0.55"
LUMINANCE = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Scale:
    """From numbers to colours: from `low`, 0 or `-high`, to `high`."""

    low: float
    high: float
    colours: Any

    @staticmethod
    def of(maps: np.ndarray, signed: bool, way: Any) -> Scale:
        """The scale that these maps share; zero is its middle, or its beginning where there are no signs."""
        finite = np.abs(maps[np.isfinite(maps)])
        end = float(np.quantile(finite, 1 - CLIPPED)) or float(finite.max()) if finite.any() else 1.0
        return Scale(-end if signed else 0.0, end, _colours(signed, way))


def is_signed(maps: np.ndarray) -> bool:
    """Whether any entry is negative; or none is anything."""
    finite = maps[np.isfinite(maps)]
    return not finite.any() or bool((finite < 0).any())


def _colours(signed: bool, way: Any) -> Any:
    """Blue, white, red for signs; bright on dark otherwise. Over an image, zero is transparent."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    name, part = (
        (SIGNED, (0.0, 1.0)) if signed else (SIGNED, WHITE_TO_RED) if way == "outline" else (UNSIGNED, (0.0, 1.0))
    )
    table = colormaps[name](np.linspace(part[0], part[1], 513))
    if way is True:
        strength = np.abs(np.linspace(-1.0 if signed else 0.0, 1.0, len(table)))
        table[:, 3] = OPAQUE * strength**RISE
    return ListedColormap(table)


def need_matplotlib() -> None:
    """See that one can draw.

    Raises:
        EngineNotInstalledError: matplotlib is missing.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise EngineNotInstalledError("drawing needs matplotlib: pip install 'wrt[plots]'") from error


def bare(axes: Any, edge: str) -> None:
    """No ticks, a thin frame."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(color=edge, linewidth=0.6)


def visible(image: np.ndarray) -> np.ndarray:
    """Brightness between 0 and 1: bytes and numbers between 0 and 1 as they are, others from the least to the most."""
    if image.dtype.kind in "iu" and image.min() >= 0 and image.max() <= 255:
        return image / 255
    finite = image[np.isfinite(image)].astype(float)
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if 0 <= low and high <= 1:
        low, high = 0.0, 1.0
    return np.clip((np.nan_to_num(image.astype(float)) - low) / ((high - low) or 1.0), 0, 1)


def draw_image(axes: Any, image: np.ndarray, ink: bool) -> None:
    """As it is; with `ink` dark on white, as a digit is written."""
    if ink:
        axes.imshow(image, cmap="gray_r", interpolation="nearest")
    else:
        axes.imshow(visible(image), cmap="gray", vmin=0, vmax=1)
    bare(axes, FAINT)


def draw_map(axes: Any, image: np.ndarray, values: np.ndarray, scale: Scale, way: Any, ink: bool) -> None:
    """The map: over the faded image, with its outline, or by itself."""
    if way is True:
        _draw_faded(axes, image, ink)
    sharp = None if way is True else "nearest"
    axes.imshow(values, cmap=scale.colours, vmin=scale.low, vmax=scale.high, interpolation=sharp)
    if way == "outline" and image.min() < image.max():
        _draw_outline(axes, image)
    bare(axes, "0.85")


def _draw_faded(axes: Any, image: np.ndarray, ink: bool) -> None:
    light = visible(image) @ np.array(LUMINANCE) if image.ndim == 3 else visible(image)
    light = 1 - light if ink else light
    axes.imshow(0.35 + 0.65 * light, cmap="gray", vmin=0, vmax=1)


def _draw_outline(axes: Any, image: np.ndarray) -> None:
    """Where the image is half dark, smoothly; a blank border closes what touches the edge."""
    from scipy.ndimage import zoom

    low, high = float(image.min()), float(image.max())
    fine = zoom(np.pad(image.astype(float), 1, constant_values=low), FINER, order=3, mode="nearest", grid_mode=True)
    down, right = ((np.arange(size) + 0.5) / FINER - 1.5 for size in fine.shape)
    axes.contour(right, down, fine, levels=[(low + high) / 2], colors=INK, linewidths=1.0, alpha=0.7)
    axes.set(xlim=(-0.5, image.shape[1] - 0.5), ylim=(image.shape[0] - 0.5, -0.5))


def mark(axes: Any) -> None:
    """A frame that one sees."""
    for spine in axes.spines.values():
        spine.set(color="black", linewidth=2.4, zorder=5)


def colour_bar(figure: Any, axes: Any, scale: Scale, unit: str | None, relative: bool) -> None:
    """What the colours mean; relative to the largest where scales differ."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    drawn = ScalarMappable(Normalize(scale.low, scale.high), scale.colours)
    extend = "both" if scale.low else "max"
    bar = figure.colorbar(drawn, cax=axes, extend=extend, extendfrac=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8.5, length=2, color=FAINT, labelcolor=INK)
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}".replace("-", "\N{MINUS SIGN}"))
    if relative:
        ticks = (
            {scale.low: "\N{MINUS SIGN}max", 0.0: "0", scale.high: "max"} if scale.low else {0: "0", scale.high: "max"}
        )
        bar.set_ticks(list(ticks), labels=list(ticks.values()))
    if unit:
        bar.set_label(unit, fontsize=9.5, color=INK)
