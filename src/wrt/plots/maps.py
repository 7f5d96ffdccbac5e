"""Images beside the maps that belong to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from wrt.errors import EngineNotInstalledError, InputError

COLOURS = "RdBu_r"  # red speaks for, blue against; told apart by the colour-blind as well
CLIPPED = 0.01  # of the entries, the largest, lie beyond the ends of the colour scale
CELL = 0.98  # inches
FINER = 6  # points of an outline per pixel
INK, FAINT = "0.15", "0.55"


def maps(
    images: Any,
    maps: Any,
    *,
    labels: Sequence[int] | None = None,
    scores: Any = None,
    names: Sequence[str] | None = None,
    title: str | None = None,
    note: str | None = None,
    unit: str | None = None,
    figure: Any = None,
) -> Any:
    """A row for every image: the image, then each of its maps, all on one colour scale with zero in the middle.

    Args:
        images: `(N, H, W)` or `(N, H, W, 1)`, drawn dark on white.
        maps: `(N, K, H, W)` or `(N, K, H, W, 1)`, for instance a Jacobian.
        labels: `(N,)`; the map of this number gets a frame.
        scores: `(N, K)` fractions, written below the maps.
        names: K headings.
        title: above everything.
        note: a line in small print below the title.
        unit: what the colours count.
        figure: a matplotlib figure to draw in; a new one of pyplot otherwise.

    Returns:
        The matplotlib figure.

    Raises:
        InputError: the shapes do not belong together.
        EngineNotInstalledError: matplotlib is missing.

    Example:
        >>> import numpy as np
        >>> import wrt
        >>> rng = np.random.default_rng(0)
        >>> figure = wrt.plots.maps(rng.random((2, 8, 8)), rng.normal(size=(2, 3, 8, 8)), labels=[0, 2])
        >>> len(figure.axes)  # two rows of an image and three maps, and the colour bar
        9
    """
    images, maps = _checked(images, maps)
    rows, columns = maps.shape[0], maps.shape[1] + 1
    figure = _figure(figure, rows, columns, title, note)
    axes = figure.subplots(rows, columns, squeeze=False, gridspec_kw={"wspace": 0.12, "hspace": 0.34})
    end = _end_of_scale(maps)
    for row, (image, own) in enumerate(zip(images, maps, strict=True)):
        _draw_image(axes[row, 0], image)
        for column, values in enumerate(own):
            drawn = _draw_map(axes[row, column + 1], image, values, end)
    _head(axes[0], names if names is not None else [str(k) for k in range(columns - 1)])
    _mark(axes[:, 1:], labels)
    _write(axes[:, 1:], scores)
    _colour_bar(figure, axes, drawn, unit)
    return figure


def _checked(images: Any, maps: Any) -> tuple[np.ndarray, np.ndarray]:
    images, maps = np.asarray(images), np.asarray(maps)
    images = images[..., 0] if images.ndim == 4 and images.shape[-1] == 1 else images
    maps = maps[..., 0] if maps.ndim == 5 and maps.shape[-1] == 1 else maps
    fits = images.ndim == 3 and maps.ndim == 4 and images.shape == (maps.shape[0], *maps.shape[2:]) and maps.size
    if not fits:
        raise InputError(f"images has shape {images.shape} and maps {maps.shape}; expected (N, H, W) and (N, K, H, W)")
    return images, maps


def _figure(figure: Any, rows: int, columns: int, title: str | None, note: str | None) -> Any:
    if figure is None:
        try:
            from matplotlib import pyplot
        except ImportError as error:
            raise EngineNotInstalledError("drawing needs matplotlib: pip install 'wrt[plots]'") from error
        figure = pyplot.figure()
    head = 0.4 + 0.35 * bool(title) + 0.25 * bool(note)
    width, height = CELL * columns + 1.15, CELL * 1.16 * rows + head + 0.2
    figure.set_size_inches(width, height)
    figure.subplots_adjust(0.15 / width, 0.3 / height, 1 - 1.0 / width, 1 - head / height)
    if title:
        figure.text(0.15 / width, 1 - 0.1 / height, title, va="top", fontsize=15, color=INK)
    if note:
        figure.text(0.15 / width, 1 - 0.42 / height, note, va="top", fontsize=9.5, color="0.4")
    return figure


def _end_of_scale(maps: np.ndarray) -> float:
    finite = np.abs(maps[np.isfinite(maps)])
    return float(np.quantile(finite, 1 - CLIPPED)) if finite.any() else 1.0


def _bare(axes: Any, edge: str) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(color=edge, linewidth=0.6)


def _draw_image(axes: Any, image: np.ndarray) -> None:
    axes.imshow(image, cmap="gray_r", interpolation="nearest")
    _bare(axes, FAINT)


def _draw_map(axes: Any, image: np.ndarray, values: np.ndarray, end: float) -> Any:
    """The map, and over it the outline of the image, so that one sees what a patch lies on."""
    drawn = axes.imshow(values, cmap=COLOURS, vmin=-end, vmax=end, interpolation="nearest")
    if image.min() < image.max():
        _draw_outline(axes, image)
    _bare(axes, "0.85")
    return drawn


def _draw_outline(axes: Any, image: np.ndarray) -> None:
    """Where the image is half dark, smoothly; a blank border closes what touches the edge."""
    from scipy.ndimage import zoom

    low, high = float(image.min()), float(image.max())
    fine = zoom(np.pad(image.astype(float), 1, constant_values=low), FINER, order=3, mode="nearest", grid_mode=True)
    down, right = ((np.arange(size) + 0.5) / FINER - 1.5 for size in fine.shape)
    axes.contour(right, down, fine, levels=[(low + high) / 2], colors=INK, linewidths=1.0, alpha=0.7)
    axes.set(xlim=(-0.5, image.shape[1] - 0.5), ylim=(image.shape[0] - 0.5, -0.5))


def _head(axes: Any, names: Sequence[str]) -> None:
    for one, name in zip(axes[1:], names, strict=True):
        one.set_title(name, fontsize=13, color=INK, pad=5)


def _mark(axes: Any, labels: Sequence[int] | None) -> None:
    for row, label in zip(axes, labels if labels is not None else (), strict=labels is not None):
        frame = row[label].spines.values() if 0 <= label < len(row) else ()
        for spine in frame:
            spine.set(color="black", linewidth=2.4, zorder=5)


def _write(axes: Any, scores: Any) -> None:
    if scores is None:
        return
    for row, own in zip(axes, np.asarray(scores), strict=True):
        for k, (one, score) in enumerate(zip(row, own, strict=True)):
            best = k == own.argmax()
            if score >= 0.005:
                one.set_xlabel(f"{score:.0%}", fontsize=9, color=INK if best else FAINT, labelpad=3)


def _colour_bar(figure: Any, axes: Any, drawn: Any, unit: str | None) -> None:
    top, bottom = axes[0, -1].get_position(), axes[-1, -1].get_position()
    width = figure.get_size_inches()[0]
    place = figure.add_axes((top.x1 + 0.22 / width, bottom.y0, 0.12 / width, top.y1 - bottom.y0))
    bar = figure.colorbar(drawn, cax=place, extend="both", extendfrac=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8.5, length=2, color=FAINT, labelcolor=INK)
    if unit:
        bar.set_label(unit, fontsize=9.5, color=INK)
