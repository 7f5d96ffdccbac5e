"""`wrt explain`: images, and what a network sees in them."""

import dataclasses
import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

import wrt
from wrt.cli import options
from wrt.cli.common import BatchSize, Engine, Key, Memory, Model, Trust, Wrt, in_words, show
from wrt.errors import FileError, InputError, OptionError, SelectionError
from wrt.io import image_files, joined_folder, read_arrays, read_images, scaled, write_arrays
from wrt.plots.page import score_texts
from wrt.plots.panels import need_matplotlib
from wrt.progress import progress_bar

NUMBERS, OVERVIEW = "explanations.npz", "overview.png"
ARRAYS = (".npy", ".npz")
OWN_SCALE = ("Rescaling", "Normalization")  # layers of Keras
MOST_UNITS, MOST_SHOWN = 20, 60  # on a page: maps of an image, and images
NOISE = 0.15  # of --smooth, by the range of the inputs
DOTS = 150  # per inch

Method = Annotated[str, typer.Argument(help=f"One of {', '.join(wrt.methods.METHODS)}.")]
Images = Annotated[
    list[Path], typer.Argument(help="Image files and folders of them; or one .npy or .npz as the model takes it.")
]
Folder = Annotated[Path, typer.Option("--out", "-o", help="The folder for the pictures and explanations.npz.")]
Units = Annotated[
    str | None,
    typer.Option(
        "--of", metavar="UNIT", help=f"What is explained: {options.OF}. By default max, each image's highest."
    ),
]
Names = Annotated[Path | None, typer.Option(help="A text file with the name of a class on each line.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="An option of the method, as in --set steps=64.")
]
Smooth = Annotated[int | None, typer.Option(metavar="N", min=1, help="The mean over N noisy copies (SmoothGrad).")]
Size = Annotated[
    str | None,
    typer.Option(help="224, 224x320 or 28x28x1: what images are cut to where the model does not say (.pt2)."),
]
Scale = Annotated[
    str | None,
    typer.Option(
        metavar="LOW,HIGH",
        help="What black and white become. By default 0,255 for Keras models that begin with a layer Rescaling or "
        "Normalization (EfficientNet, ConvNeXt, MobileNetV3), else 0,1. Others of keras.applications: -1,1 for "
        "MobileNet, MobileNetV2, Inception, Xception, NASNet, ResNet V2; 'caffe' for VGG and ResNet50; 'imagenet' for "
        "DenseNet, as for torchvision.",
    ),
]


@dataclasses.dataclass(frozen=True)
class Samples:
    """Images as they are shown and as the network takes them, in one layout, and what they are called."""

    shown: np.ndarray
    x: np.ndarray
    files: list[str]


def explain(
    method: Method,
    model: Model,
    images: Images,
    out: Folder,
    of: Units = None,
    names: Names = None,
    settings: Settings = None,
    smooth: Smooth = None,
    size: Size = None,
    scale: Scale = None,
    wrt_: Wrt = None,
    key: Key = None,
    batch_size: BatchSize = None,
    max_memory: Memory = None,
    engine: Engine = None,
    trust: Trust = False,
) -> None:
    """Show what in images speaks for an output: a picture of each, all on one page, and the numbers."""
    options.check_method(method)
    given = options.parse_settings(settings, method)
    chosen, box, range_ = options.parse_of(of), options.parse_size(size), options.parse_scale(scale)
    limits = {"batch_size": batch_size, "max_memory": options.parse_memory(max_memory), "wrt": options.parse_wrt(wrt_)}
    limits = {name: value for name, value in limits.items() if value is not None}
    known = None if names is None else _class_names(names)
    need_matplotlib()
    files, arrays = _found(images, key)
    pictures = _pictures(images[0], files, arrays)
    with joined_folder(out, [NUMBERS, OVERVIEW, *pictures], _ours(out)) as part:
        network = options.load(model, engine, trust)
        if arrays is None:
            samples = _cut(network, model, files, box, range_)
        else:
            samples = Samples(arrays, arrays, [picture.removesuffix(".png") for picture in pictures])
        start = time.perf_counter()
        units = _units(network, samples.x, chosen, limits)
        noisy = wrt.smooth(method, repetitions=smooth, noise=NOISE * float(np.ptp(samples.x))) if smooth else method
        found = wrt.explain(noisy, network, samples.x, units, **{**given, **limits})
        show(("explained", f"{len(samples.x)} images in {in_words(time.perf_counter() - start)}"))
        labels = _labels(units, found.outputs)
        _draw(part, samples, pictures, found, _titles(samples.files, labels, found.outputs, names, known))
        numbers = {"outputs": found.outputs, "maps": found.maps, "files": np.array(samples.files)}
        numbers |= {} if labels is None else {"labels": labels}
        write_arrays(part / NUMBERS, {**numbers, "pictures": np.array(pictures)})
    show(
        *(("written", out / name) for name in (OVERVIEW, NUMBERS)),
        ("and", f"{len(pictures)} pictures of single images"),
    )


def _found(paths: Sequence[Path], key: str | None) -> tuple[list[Path], np.ndarray | None]:
    """The image files, or the array in a file."""
    arrays = [path for path in paths if path.suffix in ARRAYS]
    if not arrays:
        if key is not None:
            raise OptionError(f"--key {key}: belongs to an .npz file; leave it out")
        return image_files(paths), None
    if len(paths) > 1:
        raise OptionError(f"{arrays[0]}: give one file of arrays alone, or image files and folders")
    x = read_arrays(arrays[0], key)
    if isinstance(x, dict):
        raise OptionError(f"{arrays[0]}: it holds {', '.join(x)}; choose one with --key")
    if x.ndim not in (3, 4) or not len(x):
        raise InputError(
            f"{arrays[0]}: an array of shape {x.shape}; expected images (N, H, W), (N, H, W, C) or (N, C, H, W)"
        )
    return [], x


def _pictures(path: Path, files: Sequence[Path], arrays: np.ndarray | None) -> list[str]:
    """A file name for every picture, none of them twice."""
    stems = [file.stem for file in files]
    if arrays is not None:
        stems = [f"{path.stem}-{k:0{len(str(len(arrays) - 1))}}" for k in range(len(arrays))]
    taken, found = {Path(OVERVIEW).stem}, []
    for stem in stems:
        name = next(n for n in _variants(stem) if n.lower() not in taken)
        taken.add(name.lower())  # some file systems take Cat and cat for one
        found.append(f"{name}.png")
    return found


def _variants(stem: str) -> Iterator[str]:
    yield stem
    for k in itertools.count(2):
        yield f"{stem}-{k}"


def _ours(out: Path) -> list[str]:
    """The files that an earlier run wrote into the folder."""
    try:
        pictures = read_arrays(out / NUMBERS, "pictures")
    except FileError:
        return []
    return [NUMBERS, OVERVIEW, *(name for name in map(str, pictures.ravel()) if Path(name).name == name)]


def _class_names(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(
            f"--names {path}: cannot be read as text ({getattr(error, 'strerror', None) or error})"
        ) from error


def _cut(network: Any, model: Path, files: Sequence[Path], box: tuple[int, ...] | None, scale: Any) -> Samples:
    """The images as the network takes them."""
    sizes, channels, first = _takes(network, model, box)
    shown = read_images(files, sizes, channels)
    scale = scale or ((0.0, 255.0) if _scales_itself(network) else (0.0, 1.0))
    x = scaled(shown, scale)
    words = scale if isinstance(scale, str) else f"{scale[0]:g} to {scale[1]:g}"
    show(("inputs", f"{sizes[0]} x {sizes[1]}, {'colour' if channels == 3 else 'grey'}, {words}"))
    if first:
        shown, x = (np.ascontiguousarray(np.moveaxis(a, -1, 1)) for a in (shown, x))
    return Samples(shown, x, list(map(str, files)))


def _takes(network: Any, model: Path, box: tuple[int, ...] | None) -> tuple[tuple[int, int], int, bool]:
    """Height and width, channels, and whether these come first."""
    shape = (None, None, None, None) if model.suffix == ".pt2" else getattr(network, "input_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4:
        raise InputError(f"{model}: takes inputs of shape {shape}; expected one of images, (N, H, W, 1 or 3)")
    first = model.suffix == ".pt2" or (shape[1] in (1, 3) and shape[3] not in (1, 3))
    own = (*shape[2:], shape[1]) if first else shape[1:]
    asked = (None, None, None) if box is None else (*box, None)[:3]
    if any(a not in (None, b) for a, b in zip(asked, own, strict=True) if b is not None):
        raise OptionError(f"--size: asks for {box}, and {model} takes images of {own}; leave it out")
    height, width, channels = (b if b is not None else a for a, b in zip(asked, own, strict=True))
    if height is None or width is None:
        raise OptionError(f"--size: {model} does not say what size its images have; give it, as in --size 224")
    if channels not in (1, 3, None):
        raise InputError(f"{model}: takes images of {channels} channels, and files have 1 or 3; give arrays, as .npy")
    return (height, width), channels or 3, first


def _scales_itself(network: Any) -> bool:
    """Whether a Keras model begins with a layer that scales."""
    for layer in _layers(network):
        if type(layer).__name__ in OWN_SCALE:
            return True
        if layer.weights:
            return False
    return False


def _layers(network: Any) -> Iterator[Any]:
    for layer in getattr(network, "layers", ()):
        inner = getattr(layer, "layers", None)
        yield from _layers(layer) if inner else [layer]


def _units(network: Any, x: np.ndarray, of: Any, limits: dict[str, Any]) -> Any:
    """`of` with the numbers of the units where it asks for the highest: what `wrt.explain` tells a function of ours."""
    seen = []

    def look(_: Any, x: Any, of: Any = None, **options: Any) -> np.ndarray:  # noqa: ARG001
        seen.append(of)
        return np.zeros(len(x))

    def outputs_of(of: Any) -> Any:
        return wrt.explain(look, network, x, of, postprocess=None, resize=None, **limits).outputs

    try:
        outputs = outputs_of(of)
    except SelectionError:
        if of is not None:
            raise
        outputs = outputs_of("max")  # of several units
    count = outputs.shape[1] if outputs.ndim == 2 else 1
    if count > MOST_UNITS:
        raise OptionError(f"--of: {count} units are too many for a picture; choose {MOST_UNITS} at most, as in top:5")
    return seen[-1]


def _labels(units: Any, outputs: np.ndarray) -> np.ndarray | None:
    """The numbers of the units, `(N,)` or `(N, K)`; none where they have no single number."""
    unit = getattr(units, "unit", units)
    if isinstance(unit, str):
        unit = np.arange(outputs.shape[-1])
    if isinstance(unit, tuple) or unit is None:
        return None
    return np.broadcast_to(np.asarray(unit), outputs.shape)


def _titles(
    files: Sequence[str], labels: np.ndarray | None, outputs: np.ndarray, path: Path | None, names: list[str] | None
) -> list[list[str]]:
    """Above the panels of every image: its file, and the classes."""
    if labels is None:
        return [[Path(file).name, *[""] * (outputs.size // len(outputs))] for file in files]
    if names is not None and labels.max() >= len(names):
        raise FileError(f"--names {path}: holds {len(names)} names, and the units go to {labels.max()}")
    rows = labels.reshape(len(files), -1).tolist()
    return [
        [Path(file).name, *(f"unit {label}" if names is None else names[label] for label in row)]
        for file, row in zip(files, rows, strict=True)
    ]


def _draw(part: Path, samples: Samples, pictures: Sequence[str], found: Any, titles: list[list[str]]) -> None:
    """A picture of every image, and one of all."""
    from matplotlib.figure import Figure

    outputs = found.outputs
    scores = np.array(score_texts(outputs.reshape(len(outputs), -1))).reshape(outputs.shape)
    channels: Any = "sum" if (found.maps < 0).any() else "max"
    most = slice(0, MOST_SHOWN)
    note = f"The first {MOST_SHOWN} of {len(outputs)}" if len(outputs) > MOST_SHOWN else None

    def draw(name: str, rows: slice, **words: Any) -> None:
        given = wrt.Explanation(outputs[rows], found.maps[rows])
        figure = wrt.plots.maps(
            samples.shown[rows],
            given,
            scores=scores[rows],
            titles=titles[rows],
            names=[""] * (len(titles[0]) - 1),
            channels=channels,
            figure=Figure(),
            **words,
        )
        figure.savefig(part / name, dpi=DOTS)

    with progress_bar(len(pictures) + 1, None, "drawing") as advance:
        draw(OVERVIEW, most, note=note)
        advance(1)
        for k, name in enumerate(pictures):
            draw(name, slice(k, k + 1))
            advance(1)
