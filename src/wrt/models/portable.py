"""What goes into a file: a model or its derivative as a pure function of arrays with names, and the truth about it."""

from __future__ import annotations

import dataclasses
import math
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from wrt.derive import inputs as inp
from wrt.derive.choose import Request
from wrt.derive.first import check_scalar
from wrt.derive.inputs import Inputs
from wrt.derive.job import Job, prepare
from wrt.derive.run import cotangent_dtype
from wrt.derive.unpack import unpack
from wrt.engines import adapt
from wrt.engines.base import Array, Arrays, Engine
from wrt.engines.network import Adapted, Network, Taps
from wrt.errors import InputError, OptionError, SelectionError, WrtWarning, reason, suggest
from wrt.models.derivative import Derivative
from wrt.trees import Structure, flatten, path_name, unflatten

DERIVATIVES = ("gradient", "jacobian", "backward")
EXAMPLES = 4  # samples made up where the model says what it takes
UNNAMED = re.compile(r"(keras_tensor|input_layer|input)(_\d+)?|\d+")
AT_ONCE = Request(mode="reverse", chunk=sys.maxsize, compile=False)  # every seed in one step


@dataclass(frozen=True)
class Port:
    """An input: its name, its shape per sample, and its dtype."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Portable:
    """A pure function `(weights, inputs) -> outputs` of lists of arrays, and what is known of it."""

    what: str  # "forward", "gradient", "jacobian" or "backward"
    adapted: Adapted
    function: Callable[[Arrays, Arrays], Arrays]
    inputs: tuple[Port, ...]
    outputs: tuple[str, ...]
    like: tuple[np.ndarray, ...]  # samples of the first inputs; the others are cotangents
    structure: Structure  # of these samples
    truth: Callable[[Sequence[np.ndarray]], list[np.ndarray]]

    @property
    def engine(self) -> Engine:
        return self.adapted.network.engine

    @property
    def weights(self) -> Arrays:
        return self.adapted.state(False)


def question(model: Any, of: Any, wrt: Any, what: str | None) -> tuple[Any, Derivative | None]:
    """The model to read, and which derivative of it is meant: `None` for its output.

    Raises:
        OptionError: `what` is none of the derivatives.
        SelectionError: `wrt` without anything that says of what.
    """
    kind = _kind(of, wrt, what)
    if kind is not None:
        return model, Derivative(kind, of, wrt)
    made = getattr(model, "derivative", None)
    if isinstance(made, Derivative):
        return model.model, dataclasses.replace(made, training=False)
    return model, None


def portable(model: Any, derivative: Derivative | None, like: Any, tiled: bool = False) -> Portable:
    """What is to be exported; `tiled` where the seeds of a Jacobian become samples.

    Raises:
        SelectionError: `of` and `wrt` do not fit the model, or labels that belong to the samples of `like`.
        InputError: `like` is missing, or does not fit the model.
    """
    return _forward(model, like) if derivative is None else _derivative(model, like, derivative, tiled)


def holds_derivative(model: Any) -> bool:
    """Whether the model, or a part of it, is itself a derivative."""
    parts = getattr(model, "modules", None) or getattr(model, "_flatten_layers", None)
    return parts is not None and any(isinstance(getattr(p, "derivative", None), Derivative) for p in parts())


def _kind(of: Any, wrt: Any, what: str | None) -> str | None:
    if what is not None and what not in DERIVATIVES:
        raise OptionError(
            f"what={what!r} is not a choice.{suggest(str(what), DERIVATIVES)} Leave it out for the model's own output"
        )
    if what is None and of is None and wrt is not None:
        raise SelectionError(f"wrt={wrt!r} belongs to a derivative; say which: what='jacobian', or of=3 for a gradient")
    return what or (None if of is None else "gradient")


def _samples(model: Any, like: Any) -> Any:
    """`like`, or something for a model that says what it takes."""
    if like is not None:
        return like
    network = adapt.adapt(model, None, None).network if hasattr(model, "inputs") else None
    specs = network.inputs if network else ()
    if not specs or any(spec.shape is None or None in spec.shape[1:] for spec in specs):
        raise InputError(
            "like= is missing, and the model does not say the shape of its input; give a few samples, like=x[:8]"
        )
    rng = np.random.default_rng(0)
    sizes = [tuple(size or 0 for size in (spec.shape or ())[1:]) for spec in specs]
    leaves = [drawn(rng, EXAMPLES, Port("", s, spec.dtype or "float32")) for s, spec in zip(sizes, specs, strict=True)]
    return leaves[0] if len(leaves) == 1 else unflatten(flatten(model.input)[1], leaves)


def drawn(rng: np.random.Generator, count: int, port: Port) -> np.ndarray:
    """Numbers for a place of which nothing is known; 0 and 1 are numbers of some token, whatever the vocabulary."""
    shape = (count, *port.shape)
    if "float" in port.dtype:
        return rng.normal(size=shape).astype(host_dtype(port.dtype))
    return rng.integers(0, 2, shape).astype(port.dtype)


def _forward(model: Any, like: Any) -> Portable:
    """The model's own output."""
    x = _samples(model, like)
    kind = inp.engine_of(x)
    adapted = adapt.adapt(model, x, kind)
    network = adapted.network
    taken = inp.accept(network, x, kind)

    def function(weights: Arrays, leaves: Arrays) -> Arrays:
        return flatten(network.apply(weights, unflatten(taken.structure, list(leaves)), Taps()))[0]

    def structured(leaves: Sequence[np.ndarray]) -> tuple[list[np.ndarray], Structure]:
        tensors = _tensors(network, leaves, taken.dtypes)
        try:
            y = network.apply(adapted.state(False), unflatten(taken.structure, tensors), Taps())
        except Exception as error:
            raise InputError(
                f"the model cannot be evaluated on like: {type(error).__name__}: {reason(error)}"
            ) from error
        found, structure = flatten(y)
        return [network.engine.numpy(network.engine.detach(a)) for a in found], structure

    samples = _host(network.engine, taken)
    y, structure = structured(samples)
    for a in y:
        if not a.shape or len(a) != len(samples[0]):
            raise InputError(f"{len(samples[0])} samples gave an output of shape {a.shape}; axis 0 must be samples")
    ports = _ports(taken)
    outputs = _unique(_parts("output", structure), taken=[p.name for p in ports])
    return Portable(
        "forward", adapted, function, ports, outputs, samples, taken.structure, lambda arrays: structured(arrays)[0]
    )


def _derivative(model: Any, like: Any, derivative: Derivative, tiled: bool) -> Portable:
    """A derivative of the model: the program of `wrt.gradient`, `wrt.jacobian` or `wrt.vjp`, not compiled."""
    pulls = tiled or derivative.what == "backward"
    job = _prepared(model, _samples(model, like), derivative, "vjp" if pulls else "rows")
    ports = _ports(job.inputs)
    cotangents = _cotangents(job) if derivative.what == "backward" else ()
    names = _unique(_blocks_of(job, derivative.what), taken=[p.name for p in (*ports, *cotangents)])
    samples = _host(job.engine, job.inputs)
    function = _backward(job) if derivative.what == "backward" else (_tiled if tiled else _rows)(job)
    if derivative.what == "gradient" and derivative.of is None:
        function = _without_unit_axis(function, job)
    truth = _truth(model, job, derivative)
    return Portable(
        derivative.what, job.adapted, function, (*ports, *cotangents), names, samples, job.inputs.structure, truth
    )


def _prepared(model: Any, x: Any, derivative: Derivative, kind: str) -> Job:
    options = dataclasses.replace(derivative.options(), request=AT_ONCE)
    job = prepare(model, x, derivative.of, derivative.wrt, kind, options)
    if job.labels is not None:
        raise SelectionError(
            "of= holds labels of the samples in like, which a file for any samples cannot keep; choose a unit (of=3), "
            "of='max', or what='backward', whose cotangent can be one-hot rows"
        )
    if derivative.what == "gradient":
        check_scalar(job, derivative.of)
    return job


def _backward(job: Job) -> Callable[[Arrays, Arrays], Arrays]:
    """Products with one cotangent."""
    count = len(job.inputs.leaves)

    def function(weights: Arrays, arrays: Arrays) -> Arrays:
        _, products = job.recipe.program(weights, list(arrays[:count]), None, list(arrays[count:]))
        return [product[0] for product in products]

    return function


def _rows(job: Job) -> Callable[[Arrays, Arrays], Arrays]:
    """Blocks of the Jacobian; the engine runs all seeds at once."""
    shapes = job.recipe.shapes

    def function(weights: Arrays, arrays: Arrays) -> Arrays:
        _, products = job.recipe.program(weights, list(arrays), None, [])
        return [*chain(*unpack(job.engine, products, "reverse", shapes.outs, shapes.ins))]

    return function


def _tiled(job: Job) -> Callable[[Arrays, Arrays], Arrays]:
    """Blocks of the Jacobian from one product for all seeds, which are so many more samples."""
    engine, shapes = job.engine, job.recipe.shapes
    count, pull = shapes.outputs, _backward(job)

    def function(weights: Arrays, arrays: Arrays) -> Arrays:
        repeated = [engine.concatenate([a] * count) for a in arrays]
        products = pull(weights, [*repeated, *_units(job, repeated[0])])
        stacked = [engine.reshape(p, (count, -1, *p.shape[1:])) for p in products]
        return [*chain(*unpack(engine, stacked, "reverse", shapes.outs, shapes.ins))]

    return function


def _units(job: Job, like: Array) -> Arrays:
    """Every unit vector of the outputs' space, each for all samples."""
    engine, outs, dtype = job.engine, job.recipe.shapes.outs, cotangent_dtype(job)
    count = job.recipe.shapes.outputs
    columns = np.split(np.eye(count), np.cumsum([math.prod(out) for out in outs])[:-1], axis=1)
    seeds = []
    for column, out in zip(columns, outs, strict=True):
        unit = engine.asarray(column.reshape(count, 1, *out), dtype, like)
        room = engine.reshape(engine.zeros(like, out, dtype), (count, -1, *out))
        seeds.append(engine.reshape(unit + room, (-1, *out)))
    return seeds


def _without_unit_axis(function: Callable[[Arrays, Arrays], Arrays], job: Job) -> Callable[[Arrays, Arrays], Arrays]:
    """`(N, 1, *in)` becomes `(N, *in)`, where nobody chose the only output."""
    if job.recipe.shapes.outs[0] != (1,):
        return function
    reshape = job.engine.reshape
    return lambda weights, arrays: [reshape(a, (a.shape[0], *a.shape[2:])) for a in function(weights, arrays)]


def _truth(model: Any, job: Job, derivative: Derivative) -> Callable[[Sequence[np.ndarray]], list[np.ndarray]]:
    """The derivative as the public functions give it, of NumPy arrays, or of tensors where `like` is made of them."""
    count, shapes, network = len(job.inputs.leaves), job.recipe.shapes, job.adapted.network

    def truth(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        leaves = list(arrays) if job.inputs.host else _tensors(network, arrays, [None] * len(arrays))
        x = unflatten(job.inputs.structure, leaves[:count])
        u = unflatten(shapes.out_structure, leaves[count:]) if derivative.what == "backward" else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", WrtWarning)
            found = flatten(derivative(model, x, u))[0]
        return [a if job.inputs.host else network.engine.numpy(a) for a in found]

    return truth


def _tensors(network: Network, arrays: Sequence[np.ndarray], dtypes: Sequence[str | None]) -> Arrays:
    return [network.engine.asarray(a, dtype, network.like()) for a, dtype in zip(arrays, dtypes, strict=True)]


def _host(engine: Engine, taken: Inputs) -> tuple[np.ndarray, ...]:
    samples = tuple(np.asarray(a if taken.host else engine.numpy(a)) for a in taken.leaves)
    if len(samples[0]) == 0:
        raise InputError("like holds no sample; give a few, so that the file can be checked on their like")
    return samples


def _ports(taken: Inputs) -> tuple[Port, ...]:
    paths = taken.structure.paths()
    given = [_own_name(name, path) for name, path in zip(taken.names, paths, strict=True)]
    names = _unique([name or "x" for name in given], taken=())
    shapes = [tuple(leaf.shape[1:]) for leaf in taken.leaves]
    return tuple(Port(*port) for port in zip(names, shapes, taken.dtypes, strict=True))


def _own_name(name: str, path: tuple[str | int, ...]) -> str | None:
    """The name of an input, unless a framework or a position gave it."""
    plain = _plain(name)
    if not UNNAMED.fullmatch(plain):
        return plain
    key = path[-1] if path else None
    return _plain(key) if isinstance(key, str) else None


def _cotangents(job: Job) -> tuple[Port, ...]:
    shapes, dtype = job.recipe.shapes, cotangent_dtype(job)
    names = _parts("cotangent", shapes.out_structure)
    return tuple(Port(name, shape, dtype) for name, shape in zip(names, shapes.outs, strict=True))


def _blocks_of(job: Job, what: str) -> list[str]:
    """Names of the blocks: outputs first, then the tensors of `wrt`."""
    chosen = job.recipe.problem.wrt.chosen
    ports = _ports(job.inputs)
    ins = [ports[c].name if isinstance(c, int) else _plain(c[0]) for c in chosen]
    outs = [""] if what == "backward" else _parts("", job.recipe.shapes.out_structure)
    name = "gradient" if what == "backward" else what
    return ["_".join(filter(None, (name, out, in_ if len(ins) > 1 else ""))) for out in outs for in_ in ins]


def _parts(name: str, structure: Structure) -> list[str]:
    """`name` for one leaf, `name_key` for several."""
    paths = structure.paths()
    if len(paths) == 1:
        return [name]
    return ["_".join(filter(None, (name, _plain(path_name(path))))) for path in paths]


def _plain(name: str) -> str:
    return re.sub(r"\W+", "_", str(name))


def _unique(names: Iterable[str], taken: Iterable[str]) -> tuple[str, ...]:
    used, found = set(taken), []
    for name in names:
        count, own = 0, name
        while own in used:
            count += 1
            own = f"{name}_{count}"
        used.add(own)
        found.append(own)
    return tuple(found)


def host_dtype(dtype: str) -> str:
    """The dtype that NumPy has for it."""
    return "float32" if dtype == "bfloat16" else dtype
