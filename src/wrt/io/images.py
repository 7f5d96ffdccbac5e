"""Image files: found, read, cut to one size and scaled."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from wrt.errors import EngineNotInstalledError, FileError, OptionError
from wrt.io.files import check_content
from wrt.progress import progress_bar

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, from 0 to 1, RGB
BYTES_MEAN = (103.939, 116.779, 123.68)  # of ImageNet, from 0 to 255, BGR

Scale = tuple[float, float] | Literal["imagenet", "caffe"]


def image_files(paths: Sequence[Path]) -> list[Path]:
    """The files among the paths, and in order of their names those in the folders.

    Raises:
        FileError: no such file, another format, or a folder without images.
    """
    found = []
    for path in paths:
        if path.is_dir():
            own = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and p.name[0] != ".")
            if not own:
                raise FileError(f"{path}: the folder holds no images ({', '.join(SUFFIXES)}); its folders are not read")
            found += own
        elif path.suffix.lower() in SUFFIXES:
            check_content(path, "image")
            found.append(path)
        elif not path.exists():
            raise FileError(f"{path}: there is no such file or folder")
        else:
            raise FileError(
                f"{path}: cannot read images with the suffix {path.suffix!r}; expected {', '.join(SUFFIXES)}"
            )
    return found


def read_images(files: Sequence[Path], size: tuple[int, int], channels: int) -> np.ndarray:
    """Bytes `(N, H, W, C)`: each image with its short side brought to the size, and the middle of it.

    Args:
        files: of images; one that is turned by its camera's note is turned.
        size: `(H, W)`.
        channels: 1 for grey, 3 for colours.

    Raises:
        FileError: a file that cannot be read, named.
        EngineNotInstalledError: Pillow is missing.
    """
    found = np.empty((len(files), *size, channels), np.uint8)
    with progress_bar(len(files), None, "reading") as advance:
        for row, file in zip(found, files, strict=True):
            row[:] = _read(file, size, channels)
            advance(1)
    return found


def _read(path: Path, size: tuple[int, int], channels: int) -> np.ndarray:
    image_, ops = _pillow()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", image_.DecompressionBombWarning)
            with image_.open(path) as opened:
                image = ops.exif_transpose(opened)
    except (OSError, SyntaxError, ValueError, image_.DecompressionBombError, image_.DecompressionBombWarning) as error:
        raise FileError(f"{path}: cannot be read as an image, it may be cut off or damaged ({error})") from error
    if image.mode[0] in "IF":
        raise FileError(f"{path}: its pixels have more than 8 bits; save it with 8, or give the numbers as .npy")
    image = _on_white(image, image_).convert("RGB" if channels == 3 else "L")
    return np.asarray(ops.fit(image, size[::-1], image_.Resampling.BILINEAR)).reshape(*size, channels)


def _on_white(image: Any, image_: Any) -> Any:
    """What is transparent, on white."""
    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    return image_.alpha_composite(image_.new("RGBA", image.size, "white"), image)


def _pillow() -> tuple[Any, Any]:
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise EngineNotInstalledError("reading images needs Pillow: pip install 'wrt[plots]'") from error
    return Image, ImageOps


def scaled(images: np.ndarray, scale: Scale) -> np.ndarray:
    """Bytes `(N, H, W, C)` as a network takes them, `float32`.

    Args:
        images: from 0 to 255.
        scale: what 0 and 255 become; `"imagenet"`, the mean of ImageNet's colours subtracted and their deviation
            divided out (torchvision, DenseNet); or `"caffe"`, blue first, the mean subtracted (VGG, ResNet50).

    Raises:
        OptionError: colours of ImageNet for grey images.
    """
    if isinstance(scale, str):
        if images.shape[-1] != 3:
            raise OptionError(f"scale {scale!r} is for colour images, and these have {images.shape[-1]} channel")
        found = (images / 255 - MEAN) / DEVIATION if scale == "imagenet" else images[..., ::-1] - np.array(BYTES_MEAN)
        return found.astype(np.float32)
    low, high = scale
    return (low + images * ((high - low) / 255)).astype(np.float32)
