"""One call, made ready: the question checked, and its recipe found or made."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from wrt import rules
from wrt.derive import inputs as inp, losses, target as targets
from wrt.derive.choose import Plan, Request, Sizes, choose, resized
from wrt.derive.compress import Sweep, compress
from wrt.derive.inputs import Inputs
from wrt.derive.problem import PROBE, Problem, Shapes, diff_of, inspect
from wrt.derive.slope import bend, slopes, turns
from wrt.derive.target import Target
from wrt.engines import adapt, registry
from wrt.engines.base import Array, Arrays, Engine, Function
from wrt.engines.identity import identity
from wrt.engines.network import Adapted
from wrt.errors import InputError, OptionError
from wrt.rules import Rule
from wrt.select import Loss
from wrt.trees import Structure, flatten, unflatten

OPEN = 32  # a size for what a traced tensor leaves open
NAMED = {"rows": "Jacobian", "jvp": "J v", "vjp": "Jᵀ u", "hessian": "Hessian", "diagonal": "Hessian", "hvp": "H v"}
ORDERS = {"hessian": 2, "diagonal": 2, "hvp": 2, "taylor 2": 2, "taylor 3": 3, "taylor 4": 4}  # of what is no Jacobian
GRADIENT = 3  # a gradient's intermediate values, as a multiple of those of a forward pass


@dataclass(frozen=True)
class Options:
    """The keyword arguments that every function shares."""

    request: Request = Request()
    progress: bool | None = None
    differentiable: bool = False
    with_output: bool = False
    sparse: bool = False
    training: bool = False
    rules: Mapping[str, Rule] | None = None
    with_values: bool = False  # the tensors of wrt= come behind the outputs
    affine: bool = False  # layers of wrt= are affine, reached before their activations; their values are for zeros


@dataclass
class Proof:
    """Whether a program has been held against its function, and the recipe that has taken its place."""

    program: Callable[..., Any] | None = None
    done: bool = False
    instead: Recipe | None = None


@dataclass(frozen=True)
class Recipe:
    """All that is kept between calls: shapes, plan and compiled program; no weights, no data."""

    problem: Problem
    shapes: Shapes
    plan: Plan
    program: Callable[..., Any]
    proof: Proof = field(default_factory=Proof, compare=False)  # of this program only, and of none put in its place


@dataclass(frozen=True)
class Job:
    """One call: a recipe and its data.

    `what` is "rows" (the Jacobian), "jvp", "vjp"; "hessian", "diagonal" (of the Hessian), "hvp"; or, up to the order
    that it names, "taylor 2", "taylor 3", "taylor 4".
    """

    adapted: Adapted
    inputs: Inputs
    recipe: Recipe
    what: str
    options: Options
    labels: Array | None
    remember: Callable[[Recipe], None]  # for the next call of this kind
    extra: tuple[Array, ...] = ()
    reduce: Callable[[Any], Any] | None = None  # what becomes of each batch's Result

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
    ruled = rules.parse(options.rules)
    flags = options.training, ruled, options.with_values, options.affine
    problem = Problem(network, inputs.structure, _without_data(target), chosen, *flags)
    graph = needs_graph(network.engine, inputs, options)
    request = _request(options, ruled)
    way = options.training, options.with_values, options.affine, tuple((name, identity(rule)) for name, rule in ruled)
    question = (target.key, chosen, inputs.signature, way, network.fingerprint())
    key = (question, what, request, graph)
    recipe = adapted.cache.get(key)
    if recipe is None:
        recipe = adapted.cache[key] = _recipe(adapted, problem, inputs, question, what, request, graph)
    if network.batch is None:  # the recipe may come from a call with fewer samples
        recipe = dataclasses.replace(recipe, plan=resized(recipe.plan, inputs.samples, options.request))
    labels = _labels(recipe, target)
    return Job(adapted, inputs, recipe, what, options, labels, functools.partial(adapted.cache.__setitem__, key))


def _request(options: Options, ruled: rules.Rules) -> Request:
    """A rule stands for a pullback, so there is only reverse mode with it."""
    if ruled and options.request.mode == "forward":
        raise OptionError("mode='forward': a rule replaces a pullback, which only reverse mode uses; leave mode out")
    return dataclasses.replace(options.request, mode="reverse") if ruled else options.request


def _recipe(
    adapted: Adapted, problem: Problem, inputs: Inputs, question: Hashable, what: str, request: Request, graph: bool
) -> Recipe:
    network, engine = adapted.network, adapted.network.engine
    example = example_of(network, inputs)
    labels = _example_labels(problem.target, engine, example)
    state = adapted.state(False)
    shapes = adapted.cache.get(question)  # the same for a Jacobian and for products
    if shapes is None:
        shapes = adapted.cache[question] = inspect(problem, state, example, labels)
    diff, fixed = diff_of(problem, example, shapes.sites)

    def push_problem() -> str:
        f = problem.function(state, fixed, labels)
        return engine.push_problem(slopes(engine, f, shapes) if what in ORDERS else f, diff)

    plan = _plan(adapted, inputs, shapes, what, request, push_problem)
    return _compiled(problem, shapes, plan, what, graph)


def _compiled(problem: Problem, shapes: Shapes, plan: Plan, what: str, graph: bool) -> Recipe:
    program = make_program(problem, shapes, plan, what, graph)
    program = problem.network.engine.compile(program) if plan.compiled else program
    return Recipe(problem, shapes, plan, program, Proof(program))


def other_way(job: Job, why: str) -> Recipe:
    """The recipe of the same question without pushes, which are wrong."""
    recipe, request = job.recipe, job.options.request
    plan = _plan(job.adapted, job.inputs, recipe.shapes, job.what, request, lambda: why)
    return _compiled(recipe.problem, recipe.shapes, plan, job.what, job.graph)


def _plan(
    adapted: Adapted, inputs: Inputs, shapes: Shapes, what: str, request: Request, push_problem: Callable[[], str]
) -> Plan:
    network, can = adapted.network, adapted.network.engine.capabilities
    if what == "vjp":
        request = dataclasses.replace(request, mode="reverse", chunk=1)
    if what == "jvp":
        request = dataclasses.replace(request, mode="forward", chunk=1)
    if what in ORDERS:
        can = dataclasses.replace(can, pull_cost=can.pull_again_cost, push_cost=can.push_again_cost)
    free = network.engine.free_memory(network.like())
    sizes = _sizes(inputs, shapes, what)
    plan = choose(network.engine.name, sizes, request, can, push_problem, free, network.batch)
    plan = dataclasses.replace(plan, outputs=shapes.outputs, inputs=shapes.inputs, order=ORDERS.get(what, 1))
    if what == "jvp" and plan.mode == "reverse":
        plan = dataclasses.replace(plan, mode="double")
    return plan


def _sizes(inputs: Inputs, shapes: Shapes, what: str) -> Sizes:
    """Rows and columns of what is swept, per output; at second order the gradient's values are there too."""
    m, n, order = shapes.outputs, shapes.inputs, ORDERS.get(what, 1)
    rows, columns, results = {
        "rows": (m, n, m * n),
        "hessian": (n, n, m * n * n),
        "diagonal": (n, n, m * n),
        "jvp": (1, 1, m + n),
        "vjp": (1, 1, m + n),
        "hvp": (1, 1, 2 * m * n),
    }.get(what, (n, n, m * n * math.comb(n + order - 1, order - 1)))
    itemsize = 8 if "64" in inputs.dtypes[0] else 4
    intermediate = shapes.bytes * GRADIENT ** (order - 1)
    return Sizes(inputs.samples, rows, columns, intermediate, itemsize, results)


def make_program(problem: Problem, shapes: Shapes, plan: Plan, what: str, graph: bool) -> Callable[..., Any]:
    """The function that is compiled: weights, data, labels and seeds are its arguments."""
    engine = problem.network.engine
    sweep = Sweep(plan.mode, plan.seeds, plan.chunk, graph)

    def program(state: Arrays, leaves: Arrays, labels: Array | None, extra: Arrays) -> tuple[Arrays, Arrays]:
        diff, fixed = diff_of(problem, leaves, shapes.sites)
        f = problem.function(state, fixed, labels)
        seeds = (lambda r, like: extra) if what in ("jvp", "vjp", "hvp") else engine.unit
        if what not in ORDERS:
            return compress(engine, f, diff, seeds, sweep)

        def higher(g: Function) -> Arrays:
            orders = range(3, ORDERS[what] + 1)
            return [b for order in orders for b in turns(engine, g, diff, order, sweep, plan.compiled)]

        y, g, products = bend(engine, f, diff, seeds, sweep, shapes, what == "diagonal", higher)
        return y, [*(a[None] for a in g if what.startswith("taylor")), *products]

    return program


def kept(job: Job, what: str, make: Callable[[], Callable[..., Any]]) -> Callable[..., Any]:
    """A program of this question, compiled where its plan compiles; made once."""
    cache, key = job.adapted.cache, (what, job.recipe.program)
    program = cache.get(key)
    if program is None:
        program = cache[key] = job.engine.compile(make()) if job.recipe.plan.compiled else make()
    return program


def example_of(network: Any, inputs: Inputs) -> Arrays:
    """A few samples to inspect the model with: the first ones, or zeros where there are no values yet."""
    engine, count = network.engine, network.batch or PROBE
    leaves = []
    for leaf, dtype in zip(inputs.leaves, inputs.dtypes, strict=True):
        shape = (count, *(OPEN if s is None else s for s in leaf.shape[1:]))
        first = leaf[:count]
        if inputs.host or not engine.is_traced(first):  # a part of a constant is traced inside jit
            rows = np.asarray(first if inputs.host else engine.numpy(first))
            values = np.resize(rows, shape) if len(rows) else np.zeros(shape)
        else:
            values = np.zeros(shape)
        leaves.append(engine.asarray(values, dtype, network.like()))
    return leaves


def _example_labels(target: Target, engine: Engine, example: Arrays) -> Array | None:
    if target.labels is None:
        return None
    like = losses.empty(target.labels)
    return engine.asarray(np.zeros((example[0].shape[0], *like.shape[1:]), like.dtype), None, example[0])


def _without_data(target: Target) -> Target:
    """The target as a recipe keeps it: the form of the labels, not their values."""
    if target.labels is None:
        return target
    return dataclasses.replace(target, labels=losses.empty(target.labels))


def _labels(recipe: Recipe, target: Target) -> Array | None:
    """Labels in range, negatives counted from the end; as they came where they have no values yet."""
    labels = target.labels
    if labels is None:
        return None
    owner = registry.owner(labels)
    given = isinstance(target.unit, Loss)
    if (owner is not None and owner.is_traced(labels)) or (given and not losses.is_integer(labels)):
        return labels
    values = registry.host(labels)
    if given:
        losses.check_range(values, target.unit, recipe.shapes.unit_shape)
        return labels
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
    checked = [_check_extra(a, (job.inputs.samples, *s), name) for a, s in zip(leaves, shapes, strict=True)]
    return dataclasses.replace(job, extra=tuple(checked))


def _check_extra(value: Any, wanted: tuple[int | None, ...], name: str) -> Array:
    value = value if registry.owner(value) else np.asarray(value)
    pairs = list(zip(value.shape, wanted, strict=False))
    if len(value.shape) != len(wanted) or any(None not in pair and pair[0] != pair[1] for pair in pairs):
        raise InputError(f"{name} has shape {tuple(value.shape)}; expected {wanted}")
    if isinstance(value, np.ndarray) and value.dtype.kind not in "fiub":
        raise InputError(f"{name} has dtype {value.dtype}; expected real numbers")
    return value


def _sketch(structure: Structure) -> str:
    return "one array" if structure.is_leaf else f"a {structure.kind} with keys {list(structure.keys)}"


def nest(job: Job, blocks: list[Any]) -> Any:
    """Outputs first, then inputs; for a Hessian inputs twice."""
    outs, ins = job.recipe.shapes.out_structure, job.recipe.problem.wrt.structure
    rows = blocks
    for _ in range(2 if job.what == "hessian" else 1):
        rows = _grouped(ins, rows, len(job.recipe.shapes.ins))
    return unflatten(outs, rows)


def _grouped(structure: Structure, leaves: list[Any], width: int) -> list[Any]:
    return [unflatten(structure, leaves[i : i + width]) for i in range(0, len(leaves), width)]
