"""From a call to its result: prepare once, run in batches, halve when memory runs out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from wrt.derive import inputs as inp, target as targets
from wrt.derive.choose import Plan, Request, Sizes, choose, resized
from wrt.derive.compress import Sweep, compress
from wrt.derive.inputs import Inputs
from wrt.derive.problem import PROBE, Problem, Shapes, diff_of, inspect
from wrt.derive.target import Target
from wrt.derive.unpack import unpack
from wrt.engines import adapt, registry
from wrt.engines.base import Array, Arrays, Engine
from wrt.engines.network import Adapted
from wrt.errors import InputError, OutOfMemoryError
from wrt.progress import progress_bar
from wrt.trees import Structure, flatten, unflatten


@dataclass(frozen=True)
class Options:
    """The keyword arguments that every function shares."""

    request: Request = Request()
    progress: bool | None = None
    differentiable: bool = False
    with_output: bool = False
    sparse: bool = False


@dataclass(frozen=True)
class Recipe:
    """All that is kept between calls: shapes, plan and compiled program; no weights, no data."""

    problem: Problem
    shapes: Shapes
    plan: Plan
    program: Callable[..., Any]


@dataclass(frozen=True)
class Job:
    """One call: a recipe and its data. `what` is "rows" (the Jacobian), "jvp" or "vjp"."""

    adapted: Adapted
    inputs: Inputs
    recipe: Recipe
    what: str
    options: Options
    labels: Array | None
    extra: tuple[Array, ...] = ()

    @property
    def engine(self) -> Engine:
        return self.adapted.network.engine

    @property
    def graph(self) -> bool:
        return needs_graph(self.engine, self.inputs, self.options)


def needs_graph(engine: Engine, inputs: Inputs, options: Options) -> bool:
    """Whether the result must stay differentiable."""
    return not inputs.host and (options.differentiable or any(map(engine.carries_graph, inputs.leaves)))


def prepare(model: Any, x: Any, of: Any, wrt: Any, what: str, options: Options) -> Job:
    """Check the question, and find or make its recipe."""
    kind = inp.engine_of(x)
    target = targets.parse(of)
    adapted = adapt.adapt(model, x, kind)
    network = adapted.network
    inputs = inp.accept(network, x, kind)
    targets.check_labels(target, inputs.samples)
    chosen = inp.resolve(wrt, inputs, network)
    if inputs.host:
        inp.warn_not_finite(inputs)
    problem = Problem(network, inputs.structure, target, chosen)
    graph = needs_graph(network.engine, inputs, options)
    key = (target.key, chosen, inputs.signature, what, options.request, graph, network.fingerprint())
    recipe = adapted.cache.get(key)
    if recipe is None:
        recipe = adapted.cache[key] = _recipe(adapted, problem, inputs, what, options.request, graph)
    if network.batch is None:  # the recipe may come from a call with fewer samples
        recipe = dataclasses.replace(recipe, plan=resized(recipe.plan, inputs.samples, options.request))
    labels = _labels(recipe, target)
    return Job(adapted, inputs, recipe, what, options, labels)


def _recipe(adapted: Adapted, problem: Problem, inputs: Inputs, what: str, request: Request, graph: bool) -> Recipe:
    network, engine = adapted.network, adapted.network.engine
    example = _example(network, inputs)
    labels = _example_labels(problem.target, engine, example)
    state = adapted.state(False)
    shapes = inspect(problem, state, example, labels)
    diff, fixed = diff_of(problem, example, shapes.sites)

    def push_problem() -> str:
        return engine.push_problem(problem.function(state, fixed, labels), diff)

    plan = _plan(adapted, inputs, shapes, what, request, push_problem)
    program = _program(problem, shapes, plan, what, graph)
    return Recipe(problem, shapes, plan, engine.compile(program) if plan.compiled else program)


def _plan(
    adapted: Adapted, inputs: Inputs, shapes: Shapes, what: str, request: Request, push_problem: Callable[[], str]
) -> Plan:
    network = adapted.network
    single = what != "rows"
    if what == "vjp":
        request = dataclasses.replace(request, mode="reverse", chunk=1)
    if what == "jvp":
        request = dataclasses.replace(request, mode="forward", chunk=1)
    sizes = Sizes(
        samples=inputs.samples,
        outputs=1 if single else shapes.outputs,
        inputs=1 if single else shapes.inputs,
        intermediate=shapes.bytes,
        itemsize=8 if "64" in inputs.dtypes[0] else 4,
    )
    free = network.engine.free_memory(network.like())
    plan = choose(network.engine.name, sizes, request, network.engine.capabilities, push_problem, free, network.batch)
    plan = dataclasses.replace(plan, outputs=shapes.outputs, inputs=shapes.inputs)
    if what == "jvp" and plan.mode == "reverse":
        plan = dataclasses.replace(plan, mode="double")
    return plan


def _program(problem: Problem, shapes: Shapes, plan: Plan, what: str, graph: bool) -> Callable[..., Any]:
    """The function that is compiled: weights, data, labels and seeds are its arguments."""
    engine = problem.network.engine
    sweep = Sweep(plan.mode, plan.seeds, plan.chunk, graph)

    def program(state: Arrays, leaves: Arrays, labels: Array | None, extra: Arrays) -> tuple[Arrays, Arrays]:
        diff, fixed = diff_of(problem, leaves, shapes.sites)
        f = problem.function(state, fixed, labels)
        seeds = (lambda r, like: engine.unit(r, like)) if what == "rows" else (lambda r, like: extra)
        return compress(engine, f, diff, seeds, sweep)

    return program


def _example(network: Any, inputs: Inputs) -> Arrays:
    """A few samples to inspect the model with: the first ones, or zeros where there are no values yet."""
    engine, count = network.engine, network.batch or PROBE
    leaves = []
    for leaf, dtype in zip(inputs.leaves, inputs.dtypes, strict=True):
        if inputs.host or not engine.is_traced(leaf):
            rows = leaf if inputs.host else engine.numpy(leaf[:count])
            rows = np.asarray(rows)[:count]
            values = np.resize(rows, (count, *leaf.shape[1:])) if len(rows) else np.zeros((count, *leaf.shape[1:]))
        else:
            values = np.zeros((count, *leaf.shape[1:]))
        leaves.append(engine.asarray(values, dtype, network.like()))
    return leaves


def _example_labels(target: Target, engine: Engine, example: Arrays) -> Array | None:
    if target.labels is None:
        return None
    return engine.asarray(np.zeros((example[0].shape[0], *target.labels.shape[1:]), np.int64), None, example[0])


def _labels(recipe: Recipe, target: Target) -> Array | None:
    """Labels in range, negatives counted from the end; as they came where they have no values yet."""
    labels = target.labels
    if labels is None:
        return None
    owner = registry.owner(labels)
    if owner is not None and owner.is_traced(labels):
        return labels
    values = np.asarray(owner.numpy(labels) if owner else labels)
    targets.check_range(dataclasses.replace(target, labels=values), recipe.shapes.unit_shape)
    return np.where(values < 0, values + recipe.shapes.unit_shape[-1], values)


def with_extra(job: Job, tree: Any, name: str, shapes: tuple[tuple[int, ...], ...], structure: Structure) -> Job:
    """The job with a cotangent or tangent, checked against the shapes that it must have.

    Raises:
        InputError: wrong structure or shape.
    """
    leaves, found = flatten(tree)
    if len(leaves) != len(shapes):
        raise InputError(f"{name} holds {len(leaves)} array(s); expected {len(shapes)}, nested as {_sketch(structure)}")
    if found.kind == "dict" and structure.kind == "dict" and set(found.keys) == set(structure.keys):
        leaves = flatten({key: tree[key] for key in structure.keys})[0]
    samples = job.inputs.samples
    checked = []
    for leaf, shape in zip(leaves, shapes, strict=True):
        value = leaf if registry.owner(leaf) else np.asarray(leaf)
        wanted = (samples, *shape)
        if len(value.shape) != len(wanted) or any(
            None not in (a, b) and a != b for a, b in zip(value.shape, wanted, strict=True)
        ):
            raise InputError(f"{name} has shape {tuple(value.shape)}; expected {wanted}")
        if isinstance(value, np.ndarray) and value.dtype.kind not in "fiub":
            raise InputError(f"{name} has dtype {value.dtype}; expected real numbers")
        checked.append(value)
    return dataclasses.replace(job, extra=tuple(checked))


def _sketch(structure: Structure) -> str:
    return "one array" if structure.is_leaf else f"a {structure.kind} with keys {list(structure.keys)}"


@dataclass(frozen=True)
class Result:
    """Outputs and blocks, as lists; nesting is the caller's."""

    outputs: Arrays
    blocks: list[Any]


def run(job: Job) -> Result:
    """Run the job on its data, in batches where that is possible."""
    if not job.inputs.host:
        return _run_tensors(job)
    return _run_host(job)


def _run_tensors(job: Job) -> Result:
    samples, batch = job.inputs.samples, job.recipe.plan.batch
    whole = job.graph or any(map(job.engine.is_traced, job.inputs.leaves))
    asked = job.options.request.batch_size is not None
    if samples is None or samples <= batch or (whole and not asked):
        return _piece(job, job.engine, slice(None), None)
    parts = [_piece(job, job.engine, slice(s, s + batch), None) for s in range(0, samples, batch)]
    join = job.engine.concatenate
    outputs = [join(column) for column in zip(*(p.outputs for p in parts), strict=True)]
    return Result(outputs, [join(column) for column in zip(*(p.blocks for p in parts), strict=True)])


def _run_host(job: Job) -> Result:
    samples = job.inputs.samples or 0
    sink = SparseSink(samples) if job.options.sparse else Sink(samples)
    numpy = registry.engine("reference")
    if samples == 0:
        return Result(*sink.of_nothing(_piece(job, numpy, slice(0, 0), job.adapted.network.batch or 1)))
    with progress_bar(samples, job.options.progress, job.what) as advance:
        for start, stop, part in _parts(job, samples, numpy):
            sink.put(start, stop, part)
            advance(stop - start)
    return Result(sink.outputs, sink.blocks)


def _parts(job: Job, samples: int, numpy: Engine) -> Iterator[tuple[int, int, Result]]:
    """One batch after the other; on an out-of-memory error halve and go on where it failed."""
    start = 0
    while start < samples:
        batch = job.recipe.plan.batch
        stop = min(start + batch, samples)
        fixed = job.adapted.network.batch is not None
        pad = batch if (job.engine.capabilities.static_batch and samples > batch) or fixed else None
        try:
            part = _piece(job, numpy, slice(start, stop), pad)
        except Exception as error:
            if not job.engine.is_out_of_memory(error):
                raise
            job = _smaller(job, error)
            continue
        yield start, stop, part
        start = stop


def _smaller(job: Job, error: BaseException) -> Job:
    plan = job.recipe.plan.halved()
    if plan is None or job.adapted.network.batch is not None:
        raise OutOfMemoryError(
            "not even one sample and one seed fit into memory; choose fewer outputs with of=, or a smaller input"
        ) from error
    recipe = job.recipe
    if plan.chunk != recipe.plan.chunk:
        program = _program(recipe.problem, recipe.shapes, plan, job.what, graph=False)
        recipe = dataclasses.replace(recipe, program=job.engine.compile(program) if plan.compiled else program)
    return dataclasses.replace(job, recipe=dataclasses.replace(recipe, plan=plan))


def _piece(job: Job, home: Engine, rows: slice, pad: int | None) -> Result:
    """The result for some rows; `home` is where it ends up: NumPy, or the engine itself."""
    engine, inputs, recipe = job.engine, job.inputs, job.recipe
    like = job.adapted.network.like()

    def load(value: Array, dtype: str | None) -> Array:
        part = value[rows] if rows != slice(None) else value
        if pad is not None and isinstance(part, np.ndarray) and len(part) < pad:
            part = np.concatenate([part, np.zeros((pad - len(part), *part.shape[1:]), part.dtype)])
        return engine.asarray(part, dtype, like if like is not None else None)

    leaves = [load(leaf, dtype) for leaf, dtype in zip(inputs.leaves, inputs.dtypes, strict=True)]
    labels = None if job.labels is None else load(job.labels, None)
    extra = [load(e, d) for e, d in zip(job.extra, _extra_dtypes(job), strict=True)]
    outputs, products = recipe.program(job.adapted.state(job.graph), leaves, labels, extra)
    if not job.graph:
        outputs, products = list(map(engine.detach, outputs)), list(map(engine.detach, products))
    if inputs.host:
        count = rows.stop - rows.start
        outputs = [engine.numpy(a)[:count] for a in outputs]
        products = [engine.numpy(a)[:, :count] for a in products]
    return Result(outputs, _blocks(job, home, products))


def _extra_dtypes(job: Job) -> list[str]:
    dtype = next((d for d in job.inputs.dtypes if "float" in d), job.adapted.network.dtype or "float32")
    return [dtype] * len(job.extra)


def _blocks(job: Job, home: Engine, products: Arrays) -> Arrays:
    shapes, mode = job.recipe.shapes, job.recipe.plan.mode
    if job.what != "rows":
        return [p[0] for p in products]
    rows = unpack(home, products, mode, shapes.outs, shapes.ins)
    blocks = [block for row in rows for block in row]
    if not job.options.sparse:
        return blocks
    sizes = [(math.prod(out), math.prod(in_)) for out in shapes.outs for in_ in shapes.ins]
    return [home.reshape(b, (b.shape[0], *size)) for b, size in zip(blocks, sizes, strict=True)]


class Sink:
    """Collects batches into arrays of the full length, allocated once."""

    def __init__(self, samples: int) -> None:
        self.samples = samples
        self.outputs: Arrays = []
        self.blocks: list[Any] = []

    def put(self, start: int, stop: int, part: Result) -> None:
        if not self.blocks:
            self.outputs = [self.room(a) for a in part.outputs]
            self.blocks = [self.room(a) for a in part.blocks]
        for whole, piece in zip((*self.outputs, *self.blocks), (*part.outputs, *part.blocks), strict=True):
            whole[start:stop] = piece

    def room(self, part: np.ndarray) -> np.ndarray:
        return np.empty((self.samples, *part.shape[1:]), part.dtype)

    def of_nothing(self, part: Result) -> tuple[Arrays, list[Any]]:
        return part.outputs, part.blocks


class SparseSink(Sink):
    """Keeps only the non-zero entries of each sample's Jacobian."""

    def put(self, start: int, stop: int, part: Result) -> None:
        from scipy import sparse

        if not self.blocks:
            self.outputs = [self.room(a) for a in part.outputs]
            self.blocks = [[] for _ in part.blocks]
        for whole, piece in zip(self.outputs, part.outputs, strict=True):
            whole[start:stop] = piece
        for rows, piece in zip(self.blocks, part.blocks, strict=True):
            rows += [sparse.csr_array(sample) for sample in piece]

    def of_nothing(self, part: Result) -> tuple[Arrays, list[Any]]:
        return part.outputs, [[] for _ in part.blocks]


def nest(job: Job, blocks: list[Any]) -> Any:
    """Outputs first, then inputs."""
    outs, ins = job.recipe.shapes.out_structure, job.recipe.problem.wrt.structure
    width = len(job.recipe.shapes.ins)
    rows = [unflatten(ins, blocks[i : i + width]) for i in range(0, len(blocks), width)]
    return unflatten(outs, rows)
