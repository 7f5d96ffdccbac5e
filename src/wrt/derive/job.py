"""One call, made ready: the question checked, and its recipe found or made."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from wrt import rules
from wrt.derive import inputs as inp, losses, target as targets
from wrt.derive.choose import Plan, Request
from wrt.derive.inputs import Inputs
from wrt.derive.known import Ask, known_of, plan_of
from wrt.derive.problem import Problem, Shapes
from wrt.derive.programs import Known, Programs, Proof, derivative, form
from wrt.derive.target import Target
from wrt.engines import adapt, registry
from wrt.engines.base import Array, Engine, Trace
from wrt.engines.identity import identity
from wrt.engines.network import Adapted
from wrt.errors import InputError, OptionError
from wrt.rules import Rule
from wrt.select import Loss
from wrt.trees import Structure, flatten, unflatten

NAMED = {"rows": "Jacobian", "jvp": "J v", "vjp": "Jᵀ u", "hessian": "Hessian", "diagonal": "Hessian", "hvp": "H v"}


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
    data_format: str | None = None  # where channels are; see `derive/layout.py`


@dataclass(frozen=True)
class Recipe:
    """What is known of a question, and what it is asked about now.

    `program` is what `run` calls: `derivative`, of which the proof is, or what a path or an attack puts in its place.
    """

    problem: Problem
    shapes: Shapes
    plan: Plan
    programs: Programs
    program: Callable[..., Any]
    derivative: Callable[..., Any]
    proof: Proof


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
    trace: Trace | None = None  # what the function computes now, where compiled programs may hold what it has read
    current: dict[Any, Any] = field(default_factory=dict)  # what its function computes now, found once for each program
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
    ask = Ask(adapted, problem, inputs, target, question, what, request, graph)
    known, trace, place = known_of(ask)
    first = None if trace is None else form(ask.first(known.plan))
    recipe = _recipe(problem, known, trace, first, what, graph)
    return Job(adapted, inputs, recipe, what, options, _labels(recipe, target), place, trace)


def _request(options: Options, ruled: rules.Rules) -> Request:
    """A rule stands for a pullback, so there is only reverse mode with it."""
    if ruled and options.request.mode == "forward":
        raise OptionError("mode='forward': a rule replaces a pullback, which only reverse mode uses; leave mode out")
    return dataclasses.replace(options.request, mode="reverse") if ruled else options.request


def _recipe(problem: Problem, known: Known, trace: Trace | None, first: Hashable, what: str, graph: bool) -> Recipe:
    program = derivative(problem, known, trace, first, what, graph)
    return Recipe(problem, known.shapes, known.plan, known.programs, program, program, known.proof)


def by_plan(job: Job, plan: Plan, proof: Proof) -> Recipe:
    """The recipe of the same question by another plan."""
    recipe = job.recipe
    known = Known(recipe.shapes, plan, recipe.programs, proof)
    return _recipe(recipe.problem, known, job.trace, None, job.what, job.graph)


def other_way(job: Job, why: str) -> Recipe:
    """The recipe of the same question without pushes, which are wrong."""
    recipe, request = job.recipe, job.options.request
    plan = plan_of(job.adapted, job.inputs, recipe.shapes, job.what, request, lambda: why)
    return by_plan(job, plan, Proof(done=True))


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
