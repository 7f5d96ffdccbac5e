"""`export`: models and derivatives as files that run without autodiff, checked before they count."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wrt.engines.network import Network
from wrt.errors import EngineNotInstalledError, ExportError, FileError, reason
from wrt.files import whole_file, whole_folder
from wrt.models.comparison import compare, dtypes, fresh, nudged
from wrt.models.portable import Portable, holds_derivative, portable, question

TOLERANCE = 1e-4  # of the largest number of an output; a runtime rounds in an order of its own
COARSE = {"float16": 2e-2, "bfloat16": 1e-1}
NUDGES = (1e-7, 1e-6, 1e-5)  # of the inputs, as large as what rounding does to the values inside
LARGEST_JUMP = 1e-2
KINK = 0.1  # an error up to here may be a kink that one of the samples lies on: others are drawn
DRAWS = 4
SIZES = (1, 5)  # samples to compare with; files are traced with another number


@dataclass(frozen=True)
class Format:
    """A kind of file: the module that writes and loads it, the engine it is written from, what it needs."""

    name: str
    module: str
    engine: str
    packages: tuple[str, ...] = ()
    folder: bool = False
    tiled: bool = False  # the seeds of a Jacobian become samples, where the engine's map cannot be had
    nested: bool = False  # derivatives inside the model, of an unknown number of samples
    instead: str = ""  # the way out for models of other engines


ONNX = Format(
    "ONNX",
    "wrt.models.onnx_export",
    "torch",
    ("onnx", "onnxscript", "onnxruntime"),
    tiled=True,
    instead="a Keras model and a torch module can become one, a JAX function can become .stablehlo",
)
STABLEHLO = Format(
    "StableHLO", "wrt.models.stablehlo", "jax", instead="run Keras on JAX (KERAS_BACKEND=jax), or choose .onnx"
)
SAVED_MODEL = Format(
    "SavedModel",
    "wrt.models.saved_model",
    "tensorflow",
    folder=True,
    tiled=True,
    nested=True,
    instead="run Keras on TensorFlow (KERAS_BACKEND=tensorflow), or choose .onnx",
)
FORMATS = {".onnx": ONNX, ".stablehlo": STABLEHLO, "": SAVED_MODEL}


def export(
    model: Any,
    path: str | os.PathLike[str],
    like: Any = None,
    *,
    of: Any = None,
    wrt: Any = None,
    what: str | None = None,
) -> Path:
    """Write a model, or a derivative of it, as a file that runs without `wrt` and without autodiff.

    The suffix says which kind: `.onnx`, `.stablehlo` (from JAX), or none for a SavedModel folder (from TensorFlow).
    The number of samples stays open. What was written is loaded into its runtime and compared with the model's own
    result on samples made from those of `like`, for two numbers of them; only then it appears at `path`.

    - nothing chosen: the output of `model`, which may itself be a derivative (`wrt.backward_model`, ...)
    - `what="gradient"`, or `of` alone: g[n] = d y_of(x[n]) / d x[n], shape `(N, *in)`
    - `what="jacobian"`: J[n, i, j] = d y_i(x[n]) / d x_j[n], shape `(N, *out, *in)`
    - `what="backward"`: (Jᵀ u)[n] of `(x, cotangent)`, shape `(N, *in)`

    Inputs keep the model's order and names (`x`, `x_1` where it has none), cotangents come last. A Keras model on JAX
    or TensorFlow becomes an ONNX file by way of torch, which must be installed.

    Args:
        model: a Keras model, a `torch.nn.Module`, or a function of arrays.
        path: where to write; what is there is replaced.
        like: samples, `(N, *in)` or nested as the model takes them; may be left out for a Keras model that knows the
            shapes of its inputs.
        of: as in `wrt.gradient` and `wrt.jacobian`, except labels of given samples.
        wrt: an input's index or name, a list of them, or `wrt.layer(name)`; by default every input.
        what: `"gradient"`, `"jacobian"` or `"backward"`.

    Returns:
        The path.

    Raises:
        ExportError: an operator that the format does not have (named), a model on the wrong engine, or a file that
            computes something else (the worst error is named).
        FileError: an unknown suffix, or a place that cannot be written.
        EngineNotInstalledError: a package that writes or runs the format is missing.
        InputError: `like` is missing, or does not fit the model.

    Example:
        >>> import tempfile, numpy as np, torch, wrt
        >>> net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
        >>> path = wrt.export(net, tempfile.mkdtemp() + "/g.onnx", np.ones((2, 3)), of=1)
        >>> import onnxruntime
        >>> session = onnxruntime.InferenceSession(path)
        >>> session.run(["gradient"], {"x": np.ones((5, 3), "float32")})[0].shape
        (5, 3)
    """
    path = Path(path)
    format_ = _format(path)
    with _place(path, format_) as part:
        module = _module(format_)
        inner, derivative = question(model, of, wrt, what)
        source = portable(inner, derivative, like, format_.tiled)
        _check_origin(format_, inner, source.adapted.network)
        with _built_for(source.adapted.network.batch):
            _write(module, format_, (inner, derivative), source, part)
            _verify(module, format_, inner, source, part)
    return path


def _format(path: Path) -> Format:
    if path.suffix not in FORMATS:
        known = "; ".join(f"{suffix or 'none'} ({format_.name})" for suffix, format_ in FORMATS.items())
        raise FileError(f"{path}: cannot export to the suffix {path.suffix!r}; expected {known}")
    return FORMATS[path.suffix]


def _place(path: Path, format_: Format) -> contextlib.AbstractContextManager[Path]:
    return whole_folder(path, "saved_model.pb") if format_.folder else whole_file(path)


def _module(format_: Format) -> Any:
    """The module that writes the format, once all that it needs is there."""
    missing = [name for name in format_.packages if importlib.util.find_spec(name) is None]
    if missing:
        raise EngineNotInstalledError(
            f"{format_.name} files need {', '.join(missing)}, which is missing: pip install 'wrt[export]'"
        )
    if importlib.util.find_spec(format_.engine) is None:
        raise EngineNotInstalledError(
            f"{format_.name} files are written by {format_.engine}, which is missing: pip install "
            f"'wrt[{format_.engine},export]'"
        )
    return importlib.import_module(format_.module)


def _check_origin(format_: Format, model: Any, network: Network) -> None:
    """Whether such a file can be made of such a model."""
    if holds_derivative(model) and not format_.nested:
        raise ExportError(
            f"the model holds a derivative model inside, and {format_.name} files are made of ordinary layers and one "
            f"derivative of them; export that part alone, or all of it with Keras on TensorFlow as a SavedModel"
        )
    if network.engine.name != format_.engine and not (format_ is ONNX and network.kind == "keras"):
        raise ExportError(
            f"{format_.name} is written from {format_.engine}, and this {network.kind} runs on "
            f"{network.engine.name}; {format_.instead}"
        )


def _write(module: Any, format_: Format, asked: tuple[Any, Any], source: Portable, part: Path) -> None:
    from importlib.metadata import version as version_of  # which takes long to import

    version = version_of("wrt")
    if source.engine.name == format_.engine:
        module.write(source, part, version)
    else:
        from wrt.models import rebuild

        rebuild.write(*asked, source, part, version)


@contextlib.contextmanager
def _built_for(batch: int | None) -> Iterator[None]:
    """A model that names a number of samples may work for any; where it does not, this is the likely cause."""
    try:
        yield
    except ExportError as error:
        if batch is None:
            raise
        raise ExportError(f"{error}; the model is built for {batch} samples at a time: give its inputs none") from error


def _verify(module: Any, format_: Format, model: Any, source: Portable, part: Path) -> None:
    """Run what was written on new samples, in two numbers."""
    run = _loaded(module, format_, part)
    tolerance = max((size for name, size in COARSE.items() if name in dtypes(model, source)), default=TOLERANCE)
    for count in SIZES:
        error, name = _off(run, format_, source, count, tolerance)
        if not error <= tolerance:
            raise ExportError(
                f"the {format_.name} file computes something else: on {count} new samples {name!r} is off by "
                f"{error:.1e} of its largest number (allowed: {tolerance:g}); nothing was kept"
            )


def _off(run: Any, format_: Format, source: Portable, count: int, tolerance: float) -> tuple[float, str]:
    """The worst error on new samples and its output; zero when it is no more than the truth itself moves by."""
    error, name = float("inf"), ""
    for seed in range(DRAWS):
        arrays = fresh(source, count, DRAWS * count + seed)
        found = _called(run, format_, dict(zip((p.name for p in source.inputs), arrays, strict=True)))
        true = source.truth(arrays)
        error, name = compare(found, true, source.outputs)
        if not error <= KINK:
            break
        if error <= tolerance or error <= _jump(source, arrays, true):
            return 0.0, name
    return error, name


def _jump(source: Portable, arrays: Sequence[np.ndarray], true: Sequence[np.ndarray]) -> float:
    """How far the truth itself moves under rounding: the derivative of a ReLU jumps at its kink, in any runtime."""
    jumps = []
    for seed, size in enumerate(NUDGES):
        moved = dict(zip(source.outputs, source.truth(nudged(arrays, size, seed)), strict=True))
        jumps.append(compare(moved, true, source.outputs)[0])
    return min(3 * max(jumps), LARGEST_JUMP)


def _loaded(module: Any, format_: Format, part: Path) -> Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]:
    try:
        return module.load(part)
    except Exception as error:  # runtimes raise whatever they meet
        raise ExportError(f"the {format_.name} file cannot be loaded into its runtime: {reason(error)}") from error


def _called(run: Any, format_: Format, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    try:
        return run(arrays)
    except Exception as error:
        count = len(next(iter(arrays.values())))
        raise ExportError(f"the {format_.name} file cannot be run on {count} samples: {reason(error)}") from error
