"""`wrt demo`: train a small network on handwritten digits, and differentiate it with respect to the pixels."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import wrt
from wrt.errors import EngineNotInstalledError, FileError
from wrt.io import read_arrays, whole_file, write_arrays
from wrt.plots import maps
from wrt.progress import progress_bar

NUMBERS = "jacobian.npz"
KEYS = ("x_train", "y_train", "x_test", "y_test")
STEPS, BATCH = 300, 96
RATE, DECAY = 1e-2, 1e-2
NOISE = 0.3  # on the training images; without it the network lives on single pixels, and so do the maps
LARGEST_TEST = 1000
REPEATS = 5
TITLE = "Which pixels speak for each digit, and which against it?"
NOTE = "Framed: the true class. Below: the network's probability. The last image is the one that it is least sure of."
UNIT = "against    \N{LEFTWARDS ARROW}    change of the class's score    \N{RIGHTWARDS ARROW}    for"


@dataclass(frozen=True)
class Digits:
    """Images `(N, H, W, 1)` between 0 and 1, and labels `(N,)`."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray

    @property
    def classes(self) -> int:
        return int(max(self.y_train.max(), self.y_test.max())) + 1


@dataclass(frozen=True)
class Demo:
    """What came out: the trained network, the Jacobian of every test image, times and the check."""

    model: Any
    digits: Digits
    logits: np.ndarray
    jacobian: np.ndarray
    plan: Any
    check: Any
    seconds: dict[str, float]

    @property
    def correct(self) -> np.ndarray:
        return self.logits.argmax(axis=1) == self.digits.y_test

    @property
    def accuracy(self) -> float:
        return float(self.correct.mean())

    @property
    def ratio(self) -> float:
        """The time of the Jacobian in forward passes."""
        return self.seconds["jacobian"] / self.seconds["forward"]


def run(data: Path | None = None, seed: int = 0, steps: int = STEPS) -> Demo:
    """Train, differentiate, time and check, on the backend that Keras runs on.

    Raises:
        FileError: `data` cannot be read, or does not hold images in Keras's MNIST keys.
        EngineNotInstalledError: Keras or scikit-learn is missing.
    """
    digits = bundled(seed) if data is None else from_file(data)
    start = time.perf_counter()
    model = train(digits, seed, steps)
    trained = time.perf_counter() - start
    planned = wrt.plan_jacobian(model, like=digits.x_test, with_output=True)
    jacobian, logits = planned(digits.x_test)
    seconds = side_by_side(
        jacobian=lambda: planned(digits.x_test),
        forward=lambda: forward(model, digits.x_test, planned.plan.batch),
    )
    check = wrt.check(model, digits.x_test)
    return Demo(model, digits, logits, jacobian, planned.plan, check, {"training": trained, **seconds})


def bundled(seed: int) -> Digits:
    """scikit-learn's 1,797 digits of 8 x 8 pixels; every fifth of a random order is for testing."""
    if importlib.util.find_spec("sklearn") is None:
        raise EngineNotInstalledError(
            "the digits come with scikit-learn, which is missing: pip install 'wrt[demo]', or give --data mnist.npz"
        )
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = np.random.default_rng(seed).permutation(len(bunch.target))
    x, y = _scaled(bunch.images[order], 16), bunch.target[order]
    test = np.arange(len(x)) % 5 == 0
    return Digits(x[~test], y[~test], x[test], y[test])


def from_file(path: Path) -> Digits:
    """Images in Keras's MNIST keys, of the test images at most a thousand."""
    arrays = read_arrays(path)
    missing = [key for key in KEYS if not isinstance(arrays, dict) or key not in arrays]
    if missing:
        found = list(arrays) if isinstance(arrays, dict) else ["one array"]
        raise FileError(f"{path}: the demo needs {', '.join(KEYS)}, as in Keras's mnist.npz; found {', '.join(found)}")
    for part in ("train", "test"):
        _check_images(path, part, arrays[f"x_{part}"], arrays[f"y_{part}"])
    top = float(arrays["x_train"].max()) or 1.0
    x_test, y_test = arrays["x_test"][:LARGEST_TEST], arrays["y_test"][:LARGEST_TEST].ravel()
    return Digits(_scaled(arrays["x_train"], top), arrays["y_train"].ravel(), _scaled(x_test, top), y_test)


def _check_images(path: Path, part: str, x: np.ndarray, y: np.ndarray) -> None:
    grey = x.ndim == 3 or (x.ndim == 4 and x.shape[-1] == 1)
    if not grey or len(x) == 0 or x.dtype.kind not in "fiu":
        raise FileError(f"{path}: x_{part} is {x.dtype} of shape {x.shape}; expected grey images (N, H, W)")
    if y.dtype.kind not in "iu" or y.size != len(x) or y.min() < 0:
        raise FileError(f"{path}: y_{part} is {y.dtype} of shape {y.shape}; expected {len(x)} labels, integers from 0")


def _scaled(images: np.ndarray, top: float) -> np.ndarray:
    return (images.reshape(*images.shape[:3], 1) / top).astype("float32")


def network(shape: tuple[int, ...], classes: int) -> Any:
    """Two convolutions and a dense layer, smooth, with logits as output."""
    import keras
    from keras import layers

    smooth = {"padding": "same", "activation": "gelu"}
    return keras.Sequential(
        [
            keras.Input(shape, name="image"),
            layers.GaussianNoise(NOISE),
            layers.Conv2D(24, 3, **smooth),
            layers.Conv2D(48, 3, strides=2, **smooth),
            layers.Flatten(),
            layers.Dropout(0.3),
            layers.Dense(classes, name="logits"),
        ],
        name="digits",
    )


def train(digits: Digits, seed: int, steps: int) -> Any:
    """A trained network."""
    with silence():
        import keras

        keras.utils.set_random_seed(seed)
    model = network(digits.x_train.shape[1:], digits.classes)
    rate = keras.optimizers.schedules.CosineDecay(RATE, steps)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(rate, weight_decay=DECAY), loss)
    with progress_bar(steps, None, "training") as advance:
        for rows in batches(len(digits.x_train), steps, seed):
            model.train_on_batch(digits.x_train[rows], digits.y_train[rows])
            advance(1)
    return model


def batches(samples: int, steps: int, seed: int) -> Iterator[np.ndarray]:
    """Row numbers, `steps` times, every row once before any comes again."""
    rng, size = np.random.default_rng(seed), min(BATCH, samples)
    left = np.array([], int)
    for _ in range(steps):
        left = left if len(left) >= size else rng.permutation(samples)
        yield left[:size]
        left = left[size:]


def forward(model: Any, x: np.ndarray, batch: int) -> np.ndarray:
    """The outputs, in batches of the same size as the Jacobian's."""
    return np.concatenate([model.predict_on_batch(x[s : s + batch]) for s in range(0, len(x), batch)])


def side_by_side(**work: Callable[[], Any]) -> dict[str, float]:
    """Median seconds of each, taken in turns, so that a busy machine slows all of them alike."""
    for one in work.values():
        one()
    times = [{name: _seconds(one) for name, one in work.items()} for _ in range(REPEATS)]
    return {name: float(np.median([t[name] for t in times])) for name in work}


def _seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def worth_showing(demo: Demo) -> list[int]:
    """A typical image of each of four classes that the network gets right, and the one that it is least sure of."""
    x, y = demo.digits.x_test, demo.digits.y_test
    two_best = np.sort(probabilities(demo.logits), axis=1)[:, -2:]
    rows = []
    for label in (0, 3, 4, 7):
        own = np.flatnonzero((y == label) & demo.correct)
        if len(own):
            distance = ((x[own] - x[y == label].mean(axis=0)) ** 2).sum(axis=(1, 2, 3))
            rows.append(int(own[distance.argmin()]))
    return [*rows, int((two_best[:, 1] - two_best[:, 0]).argmin())]


def draw(demo: Demo, figure: Any = None) -> Any:
    """The picture: digits, and which pixels speak for and against each class."""
    rows = worth_showing(demo)
    shown = slice(0, min(demo.digits.classes, 10))
    return maps(
        demo.digits.x_test[rows],
        demo.jacobian[rows, shown],
        labels=demo.digits.y_test[rows].tolist(),
        scores=probabilities(demo.logits)[rows, shown],
        title=TITLE,
        note=NOTE,
        unit=UNIT,
        figure=figure,
    )


def write(demo: Demo, folder: Path) -> list[Path]:
    """The numbers, the picture and the network, in `folder`.

    Raises:
        FileError: the folder cannot be written.
    """
    numbers, picture, model = (folder / name for name in (NUMBERS, "demo.png", "digits.keras"))
    write_arrays(
        numbers,
        {
            "images": demo.digits.x_test,
            "labels": demo.digits.y_test,
            "logits": demo.logits,
            "jacobian": demo.jacobian,
            "accuracy": np.float64(demo.accuracy),
            **{f"seconds_{name}": np.float64(value) for name, value in demo.seconds.items()},
        },
    )
    with whole_file(picture) as part:
        draw(demo, _figure()).savefig(part, dpi=100)
    with whole_file(model) as part, silence():
        demo.model.save(part)
    return [numbers, picture, model]


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Nothing on standard error, where TensorFlow's libraries greet whoever imports them, as Keras does in passing."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _figure() -> Any:
    """A figure without a window."""
    from matplotlib.figure import Figure

    return Figure()


def prepare(folder: Path) -> None:
    """Make the folder, and see that everything can be written, before anything is computed.

    Raises:
        FileError: the folder cannot be made or written.
        EngineNotInstalledError: matplotlib is missing.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise EngineNotInstalledError("the picture needs matplotlib, which is missing: pip install 'wrt[demo]'")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{folder}: cannot be made ({error.strerror or error})") from error
    with whole_file(folder / NUMBERS):
        pass
