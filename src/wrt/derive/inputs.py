"""`x` and `wrt=`: what comes in, and which tensors are differentiated with respect to."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wrt.engines import registry
from wrt.engines.base import Array, Engine
from wrt.engines.network import InputSpec, Network, Site
from wrt.errors import DtypeError, InputError, NonFiniteWarning, OptionError, SelectionError, suggest
from wrt.select import Layer
from wrt.trees import LEAF, Path, Structure, flatten, path_name


@dataclass(frozen=True)
class Inputs:
    """The leaves of `x`, checked, and the dtype each has inside the model."""

    leaves: tuple[Array, ...]
    dtypes: tuple[str, ...]
    structure: Structure
    names: tuple[str, ...]
    host: bool  # NumPy in, NumPy out

    @property
    def samples(self) -> int | None:
        return self.leaves[0].shape[0]

    @property
    def signature(self) -> tuple[Any, ...]:
        shapes = tuple(tuple(leaf.shape[1:]) for leaf in self.leaves)
        return self.structure, shapes, self.dtypes, self.host


@dataclass(frozen=True)
class Wrt:
    """A normalised `wrt=`: numbers of leaves of `x`, or layers, in order, and how results nest."""

    chosen: tuple[int | Site, ...]
    structure: Structure

    @property
    def inputs(self) -> tuple[int, ...]:
        return tuple(c for c in self.chosen if isinstance(c, int))

    @property
    def sites(self) -> tuple[Site, ...]:
        return tuple(c for c in self.chosen if not isinstance(c, int))


def engine_of(x: Any) -> Engine | None:
    """The engine whose tensors `x` holds; `None` for NumPy and what converts to it.

    Raises:
        InputError: tensors of two frameworks, or a framework's mixed with NumPy.
    """
    leaves, structure = flatten(x)
    if any(isinstance(leaf, int | float) for leaf in leaves):
        what = "a single number" if structure.is_leaf else f"nested lists of {len(leaves)} Python numbers"
        raise InputError(f"x is {what}; expected an array whose axis 0 is samples: np.asarray(x)")
    found = {engine.name if engine else "numpy" for engine in map(registry.owner, leaves)}
    if len(found) > 1:
        raise InputError(f"x mixes {' and '.join(sorted(found))} arrays; give all inputs as one kind")
    name = found.pop() if found else "numpy"
    return None if name == "numpy" else registry.engine(name)


def accept(network: Network, x: Any, kind: Engine | None) -> Inputs:
    """Check `x` against what the model says of its inputs.

    Raises:
        InputError: wrong structure, rank or size, or a tensor of another framework.
        DtypeError: strings, objects or complex numbers.
    """
    if kind is not None and kind.name != network.engine.name:
        raise InputError(
            f"x is a {kind.name} tensor but the model runs on {network.engine.name}; "
            f"pass a NumPy array or a {network.engine.name} tensor"
        )
    leaves, structure = flatten(x)
    if not leaves:
        raise InputError("x holds no array; expected an array or a dict, list or tuple of arrays, axis 0 being samples")
    paths = structure.paths()
    specs = _match(network.inputs, paths)
    names = tuple(spec.name or path_name(path) for spec, path in zip(specs, paths, strict=True))
    checked = [_check_leaf(network, leaf, spec, path) for leaf, spec, path in zip(leaves, specs, paths, strict=True)]
    counts = {leaf.shape[0] for leaf, _ in checked}
    if len(counts) > 1:
        found = ", ".join(f"{path_name(p)}: {leaf.shape[0]}" for p, (leaf, _) in zip(paths, checked, strict=True))
        raise InputError(f"x has inputs with different numbers of samples on axis 0 ({found}); they must agree")
    return Inputs(tuple(a for a, _ in checked), tuple(d for _, d in checked), structure, names, kind is None)


def _match(specs: Sequence[InputSpec], paths: Sequence[Path]) -> list[InputSpec]:
    """The spec of each leaf: by name where x is a dict, by order otherwise."""
    if not specs:
        return [InputSpec()] * len(paths)
    if len(specs) != len(paths):
        wanted = ", ".join(repr(s.name) for s in specs)
        raise InputError(f"x holds {len(paths)} array(s); the model has {len(specs)} input(s): {wanted}")
    by_name = {s.name: s for s in specs}
    if all(path_name(p) in by_name for p in paths):
        return [by_name[path_name(p)] for p in paths]
    keys = [p[0] for p in paths if p and isinstance(p[0], str)]
    if keys and not any(k in by_name for k in keys):
        return [InputSpec()] * len(paths)  # named otherwise than the tensors: the model will check
    unknown = [k for k in keys if k not in by_name]
    if unknown:
        raise InputError(
            f"x has no input for the model's {sorted(map(str, by_name))}: unknown key {unknown[0]!r}."
            f"{suggest(unknown[0], [str(n) for n in by_name])}"
        )
    return list(specs)


def _check_leaf(network: Network, leaf: Any, spec: InputSpec, path: Path) -> tuple[Array, str]:
    name = spec.name or path_name(path)
    engine = network.engine
    framework = registry.owner(leaf) is not None
    value = leaf if framework else _host_array(leaf, name)
    dtype = engine.dtype(value) if framework else str(value.dtype)
    if len(value.shape) == 0:
        raise InputError(f"x (input {name!r}) is a single number; expected an array whose axis 0 is samples")
    _check_shape(tuple(value.shape), spec, name)
    if "complex" in dtype:
        raise DtypeError(
            f"x (input {name!r}) is {dtype}; complex inputs are not supported: pass real and imaginary parts"
        )
    return value, _model_dtype(network, dtype, spec)


def _host_array(leaf: Any, name: str) -> np.ndarray:
    try:
        value = np.asarray(leaf)
    except Exception as error:
        raise InputError(f"x (input {name!r}) cannot become an array: {error}") from error
    if value.dtype.kind not in "fiub" and "float" not in str(value.dtype):
        raise DtypeError(f"x (input {name!r}) is {type(leaf).__name__} of dtype {value.dtype}; expected numbers")
    return value


def _check_shape(shape: tuple[int | None, ...], spec: InputSpec, name: str) -> None:
    if spec.shape is None:
        return
    fits = len(shape) == len(spec.shape) and all(
        want is None or have is None or have == want for have, want in zip(shape[1:], spec.shape[1:], strict=True)
    )
    if not fits:
        wanted = ", ".join(["N", *("any" if s is None else str(s) for s in spec.shape[1:])])
        raise InputError(
            f"x (input {name!r}) has shape {tuple(shape)}; expected ({wanted}){_way_out(shape, spec.shape)}"
        )


def _way_out(shape: tuple[int | None, ...], wanted: tuple[int | None, ...]) -> str:
    if shape == wanted[1:]:
        return ": one sample needs a batch axis, x[None]"
    if len(shape) == len(wanted) - 1 and wanted[-1] == 1:
        return ": add the channel axis, x[..., None]"
    if len(shape) == len(wanted) - 1 and wanted[1] == 1:
        return ": add the channel axis, x[:, None]"
    if len(shape) == len(wanted) >= 3 and shape[1] == wanted[-1] and shape[2:] == wanted[1:-1]:
        return ": the channels are first, use np.moveaxis(x, 1, -1)"
    return ""


def _model_dtype(network: Network, dtype: str, spec: InputSpec) -> str:
    if spec.dtype is not None:
        return spec.dtype
    if "float" in dtype:
        return network.dtype or dtype
    return dtype


def resolve(wrt: Any, inputs: Inputs, network: Network) -> Wrt:
    """The tensors that a user's `wrt=` means.

    Raises:
        SelectionError: no input or layer has this name or number.
        DtypeError: the chosen input holds integers.
    """
    if wrt is None:
        found = Wrt(tuple(range(len(inputs.leaves))), inputs.structure)
    elif isinstance(wrt, (list, tuple)):
        chosen = tuple(_one(w, inputs, network) for w in wrt)
        if not chosen:
            raise SelectionError("wrt=[] chooses nothing; give an input's index or name, or wrt.layer('name')")
        found = Wrt(chosen, Structure("list", tuple(range(len(chosen))), (LEAF,) * len(chosen)))
    else:
        found = Wrt((_one(wrt, inputs, network),), LEAF)
    for index in found.inputs:
        _check_float(index, inputs, network)
    return found


def _one(wrt: Any, inputs: Inputs, network: Network) -> int | Site:
    if isinstance(wrt, Layer):
        if wrt.unit is not None:
            raise SelectionError(f"wrt=wrt.layer({wrt.name!r}, {wrt.unit!r}): a unit belongs to of=; leave it out here")
        return wrt.name, wrt.call
    if isinstance(wrt, (int, np.integer)) and not isinstance(wrt, bool):
        if not -len(inputs.leaves) <= wrt < len(inputs.leaves):
            raise SelectionError(f"wrt={wrt}: there are {len(inputs.leaves)} inputs, 0 to {len(inputs.leaves) - 1}")
        return int(wrt) % len(inputs.leaves)
    if not isinstance(wrt, str):
        raise SelectionError(f"wrt={wrt!r}; expected an input's index or name, a list of them, or wrt.layer('name')")
    paths = [path_name(p) for p in inputs.structure.paths()]
    for names in (paths, list(inputs.names)):
        if names.count(wrt) == 1:
            return names.index(wrt)
    layers = network.layers()
    if wrt in layers or any(name.split("/")[-1] == wrt for name in layers):
        return wrt, None
    raise SelectionError(f"wrt={wrt!r} is neither an input nor a layer.{suggest(wrt, [*inputs.names, *layers])}")


def _check_float(index: int, inputs: Inputs, network: Network) -> None:
    dtype = inputs.dtypes[index]
    if "float" in dtype:
        return
    embeddings = network.embeddings()
    way = f"choose wrt={embeddings[0]!r}, the embedding layer" if embeddings else "choose wrt='<the embedding layer>'"
    cast = "" if network.inputs else ", or pass x.astype('float32') if the values are measurements"
    raise DtypeError(
        f"x (input {inputs.names[index]!r}) is {dtype}: there is no derivative with respect to integers; {way}{cast}"
    )


def warn_not_finite(inputs: Inputs) -> None:
    """Count NaN and infinity in host arrays."""
    for name, leaf in zip(inputs.names, inputs.leaves, strict=True):
        if leaf.dtype.kind == "f" and not np.isfinite(leaf).all():
            nan, inf = int(np.isnan(leaf).sum()), int(np.isinf(leaf).sum())
            rows = int((~np.isfinite(leaf.reshape(len(leaf), -1)).all(1)).sum())
            warnings.warn(
                f"x (input {name!r}) holds {nan} NaN and {inf} infinite values in {rows} of {len(leaf)} samples; "
                "their derivatives mean nothing",
                NonFiniteWarning,
                stacklevel=5,
            )


def with_values(leaf: Any, what: str, way: str = "") -> Any:
    """An array that has values now, without its graph, for what is made on the host.

    Raises:
        OptionError: inside a transformation, which hides the values; `way` is another way out.
    """
    owner = registry.owner(leaf)
    if owner is None:
        return leaf
    if owner.is_traced(leaf):
        raise OptionError(
            f"{what} makes a table on the host and needs the values of x, which a transformation (jit, grad, vmap, "
            f"tf.function) hides; call it outside{way}"
        )
    return owner.detach(leaf)
