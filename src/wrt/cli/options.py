"""What the options on the command line mean."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import inspect
import math
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import wrt
from wrt.demo import silence
from wrt.errors import EngineNotInstalledError, OptionError, SelectionError, WrtError, suggest
from wrt.io import read_arrays

ENGINES = ("torch", "jax", "tensorflow")  # in the order in which they are tried
TAKEN = ("method", "model", "x", "of", "wrt", "with_output", "with_gap")  # options of the command itself
WHAT = ("gradient", "jacobian", "backward", "model")
WRITERS = {".onnx": "torch", ".stablehlo": "jax", "": "tensorflow"}
OF = (
    "3, 0,3 (an index), max, top:2, all, logit:3, layer:NAME:UNIT, output:NAME:UNIT, or a .npy file with one label per "
    "sample"
)
UNITS = "3, 0,3 (an image for each), logit:3, layer:NAME:UNIT, output:NAME:UNIT, or a .npy file with one unit per image"
# units by number; in a layer 0,0,2 is a place, so that several come one by one
NUMBERED = re.compile(r"(|logit:|(?:layer|output):.+:(?=-?\d+$))(-?\d+(?:,-?\d+)*)")
# before a framework is imported: no chatter, and threads that wait asleep (a busy machine: four times as fast)
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "OMP_WAIT_POLICY": "PASSIVE"}
FACTORS = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12}
FACTORS |= {f"{letter}ib": FACTORS[letter] for letter in "kmgt"}


def use_engine(name: str | None) -> str:
    """Set the backend that Keras will run on: `name`, else KERAS_BACKEND, else the first that is installed.

    Raises:
        OptionError: not an engine, or Keras runs on another one already.
        EngineNotInstalledError: the engine is not installed.
    """
    wanted = name or os.environ.get("KERAS_BACKEND") or next(filter(_installed, ENGINES), ENGINES[0])
    if wanted not in ENGINES:
        raise OptionError(f"--engine {wanted}: expected {', '.join(ENGINES)}.{suggest(wanted, ENGINES)}")
    if not _installed(wanted):
        raise EngineNotInstalledError(f"--engine {wanted}: {wanted} is not installed: pip install 'wrt[{wanted}]'")
    if "keras" in sys.modules and sys.modules["keras"].backend.backend() != wanted:
        raise OptionError(f"--engine {wanted}: Keras is running on {sys.modules['keras'].backend.backend()} already")
    os.environ["KERAS_BACKEND"] = wanted
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    return wanted


def _installed(engine: str) -> bool:
    return importlib.util.find_spec(engine) is not None


def parse_of(text: str | None) -> Any:
    """The value of `of=` that `--of` means.

    Raises:
        SelectionError: it is none of the forms.
        FileError: a file of labels that cannot be read.
    """
    if text is None or text in ("max", "all"):
        return text
    kind, colon, rest = text.partition(":")
    if colon and kind in ("top", "logit", "layer", "output"):
        return _named(text, kind, rest)
    if text.endswith((".npy", ".npz")):
        return read_arrays(text)
    if re.fullmatch(r"\(?-?\d+(,-?\d+)*,?\)?", text.replace(" ", "")):
        numbers = tuple(map(int, re.findall(r"-?\d+", text)))
        return numbers if "," in text else numbers[0]
    raise SelectionError(f"--of {text}: expected {OF}.{suggest(text, ('max', 'all', 'top:2', 'logit:3'))}")


def _named(text: str, kind: str, rest: str) -> Any:
    if kind == "top":
        if not rest.isdecimal():
            raise SelectionError(f"--of {text}: expected a count, as in top:2")
        return wrt.top(int(rest))
    if kind == "logit":
        return wrt.logit(parse_of(rest or None))
    name, _, unit = rest.partition(":")
    if not name:
        raise SelectionError(f"--of {text}: expected a name, as in {kind}:NAME or {kind}:NAME:3")
    chosen: Any = int(name) if kind == "output" and name.isdecimal() else name
    return (wrt.layer if kind == "layer" else wrt.output)(chosen, parse_of(unit or None))


def parse_units(texts: Sequence[str]) -> Any:
    """The value of `of=` of `wrt.maximize` that one or more `--of` mean: one image for each unit.

    Raises:
        SelectionError: none of the forms, or several of different kinds.
    """
    said = " ".join(f"--of {text}" for text in texts)
    if any(text in ("max", "all") or text.startswith("top:") for text in texts):
        raise SelectionError(f"{said}: depends on the outputs of an input; expected {UNITS}")
    parts = [NUMBERED.fullmatch(text.replace(" ", "")) for text in texts]
    if len(texts) == 1 and not (parts[0] and "," in texts[0]):
        if ":" not in said and not parts[0] and not said.endswith((".npy", ".npz")):
            raise SelectionError(f"{said}: expected {UNITS}")
        return parse_of(texts[0])
    kinds = {part[1] if part else None for part in parts}
    if len(kinds) > 1 or None in kinds:
        raise SelectionError(f"{said}: several are single units of one kind, as in --of 0,3 or --of logit:0,3")
    numbers = [int(number) for part in parts if part for number in part[2].split(",")]
    kind = kinds.pop()
    return dataclasses.replace(parse_of(f"{kind}0"), unit=numbers) if kind else numbers


def parse_made(texts: Sequence[str] | None, kind: str) -> list[Any]:
    """What `--regularizer total_variation=0.1` or `--transform scale=0.9,1.1` mean; an array is the name of its file.

    Raises:
        OptionError: none of this name, or other numbers than it takes.
        FileError: a file that cannot be read.
    """
    makers = _makers(kind)
    found = []
    for text in texts or ():
        name, _, rest = text.partition("=")
        if name not in makers:
            forms = ", ".join(_form(name, maker) for name, maker in makers.items())
            raise OptionError(f"--{kind} {text}: expected one of {forms}.{suggest(name, makers)}")
        values = [_value(part) for part in rest.split(",")] if rest else []
        try:
            found.append(makers[name](*values))
        except TypeError as error:  # too few or too many
            raise OptionError(f"--{kind} {text}: expected {_form(name, makers[name])}") from error
        except WrtError as error:
            raise OptionError(f"--{kind} {text}: {error}") from error
    return found


def _makers(kind: str) -> dict[str, Any]:
    """The functions of `wrt.regularizers` or `wrt.transforms` that make one."""
    functions = inspect.getmembers(getattr(wrt, f"{kind}s"), inspect.isfunction)
    return {name: made for name, made in functions if made.__annotations__.get("return") == kind.capitalize()}


def _form(name: str, maker: Any) -> str:
    text = ""
    for parameter in inspect.signature(maker).parameters.values():
        word = f"{',' if text else ''}{parameter.name.upper()}"
        several = parameter.kind is parameter.VAR_POSITIONAL
        text += f"{word},..." if several else word if parameter.default is parameter.empty else f"[{word}]"
    return f"{name}={text}"


def parse_array(text: str | None) -> Any:
    """The array in a file, of several the one called `x`; other words as they are.

    Raises:
        FileError: a file that cannot be read, or has several arrays and none of this name.
    """
    if text is None or not text.endswith((".npy", ".npz")):
        return text
    found = read_arrays(text)
    return read_arrays(text, "x") if isinstance(found, dict) else found


def parse_wrt(texts: Sequence[str] | None) -> Any:
    """The value of `wrt=` that one or more `--wrt` mean: an input's number or name, or `layer:NAME`."""
    found = [_one_wrt(text) for text in texts or ()]
    return found if len(found) > 1 else next(iter(found), None)


def _one_wrt(text: str) -> Any:
    if text.startswith("layer:"):
        return wrt.layer(text.removeprefix("layer:"))
    return int(text) if re.fullmatch(r"-?\d+", text) else text


def parse_what(text: str | None, of: str | None) -> str | None:
    """The value of `what=` that `--what` means: `model` is none.

    Raises:
        OptionError: not a choice, or a model of which `--of` chooses a part.
    """
    if text not in (None, *WHAT):
        raise OptionError(f"--what {text}: expected {', '.join(WHAT)}.{suggest(str(text), WHAT)}")
    if text == "model" and of is not None:
        raise OptionError(f"--of {of}: belongs to a derivative; leave --what model out")
    return None if text == "model" else text


def engine_of(out: Path) -> str | None:
    """The engine that writes this kind of file, where neither `--engine` nor KERAS_BACKEND says which."""
    return None if os.environ.get("KERAS_BACKEND") else WRITERS.get(out.suffix)


def parse_memory(text: str | None) -> int | None:
    """Bytes: `2GiB`, `500MB`, `4096`.

    Raises:
        OptionError: not a size.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip().lower())
    if match is None or match[2] not in FACTORS or not float(match[1]):
        raise OptionError(f"--max-memory {text}: expected a size such as 2GiB, 500MB or a number of bytes")
    return int(float(match[1]) * FACTORS[match[2]])


def check_method(name: str) -> None:
    """See that there is such a method.

    Raises:
        OptionError: there is none.
    """
    if name not in wrt.methods.METHODS:
        raise OptionError(f"METHOD {name}: there is none of this name.{suggest(name, wrt.methods.METHODS)}")


def parse_settings(texts: Sequence[str] | None, method: str) -> dict[str, Any]:
    """The options of a method that `--set name=value` means: numbers, words, lists, `None`, or an array in a file.

    Raises:
        OptionError: not of this form, or one that the method cannot do without is missing.
        FileError: a file that cannot be read.
    """
    found: dict[str, Any] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier() or name in TAKEN:
            raise OptionError(f"--set {text}: expected an option of the method, as in --set steps=64")
        found[name] = _value(value)
    for name, parameter in inspect.signature(wrt.methods.METHODS[method].function).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty and name not in found:
            raise OptionError(
                f"--set {name}=...: {method} cannot do without it; an array comes as the name of its file"
            )
    return found


def _value(text: str) -> Any:
    if text.endswith((".npy", ".npz")):
        return read_arrays(text)
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def parse_size(text: str | None, option: str = "--size") -> tuple[int, ...] | None:
    """`(H, W)` or `(H, W, C)`: `224`, `224x320`, `28x28x1`.

    Raises:
        OptionError: not a size.
    """
    if text is None:
        return None
    numbers = tuple(int(part) for part in text.split("x") if part.isdecimal())
    if len(numbers) != text.count("x") + 1 or len(numbers) > 3 or 0 in numbers or numbers[2:] not in ((), (1,), (3,)):
        raise OptionError(f"{option} {text}: expected 224, 224x320 (height, width) or 28x28x1 (and 1 or 3 channels)")
    return numbers * 2 if len(numbers) == 1 else numbers


def parse_scale(text: str | None) -> Any:
    """What bytes become: the two ends of a range, or `imagenet` or `caffe`.

    Raises:
        OptionError: not a scale.
    """
    if text in (None, "imagenet", "caffe"):
        return text
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        low = high = math.nan
    if not math.isfinite(high - low) or low == high:
        raise OptionError(f"--scale {text}: expected two numbers, as in --scale -1,1, or imagenet or caffe")
    return low, high


def load(model: Path, engine: str | None, trust: bool) -> Any:
    """The model in a file, on the engine that was asked for.

    Raises:
        OptionError: a torch program on another engine.
        FileError: it cannot be read.
    """
    if model.suffix != ".pt2":
        use_engine(engine)
    elif engine not in (None, "torch"):
        raise OptionError(f"--engine {engine}: {model} is a torch program; leave the option out")
    with silence():
        return wrt.load_model(model, trust=trust)
