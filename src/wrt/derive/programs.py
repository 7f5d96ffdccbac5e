"""Compiled programs, and which of them belongs to what a function computes now."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wrt.derive import target as targets
from wrt.derive.choose import Plan
from wrt.derive.compress import Sweep, compress
from wrt.derive.problem import Problem, Shapes, diff_of
from wrt.derive.slope import bend, turns
from wrt.engines.base import Array, Arrays, Engine, Function, Trace
from wrt.engines.network import Bounded
from wrt.errors import PlanMismatchError
from wrt.trees import flatten, unflatten

if TYPE_CHECKING:
    from wrt.derive.job import Job

ORDERS = {"hessian": 2, "diagonal": 2, "hvp": 2, "taylor 2": 2, "taylor 3": 3, "taylor 4": 4}  # of what is no Jacobian
LARGEST_SEAL = 1 << 20  # bytes of captured arrays that a key may hold
Bound = Callable[[Arrays, Arrays, Any], Function]  # (state, fixed inputs, labels) -> f(diff)


class Programs:
    """What has been compiled for one question; as an object it stands for the question in the keys of others."""

    def __init__(self) -> None:
        self._found = Bounded()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What is kept under `key`, made now if it is not there."""
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = make()
        return found


@dataclass
class Proof:
    """Whether a plan has been held against its function on a first call, and the plan that goes on in its place."""

    done: bool = False
    instead: Plan | None = None


@dataclass(frozen=True)
class Known:
    """What is kept between calls of a question: shapes, plan and programs; no weights, no data, no function."""

    shapes: Shapes
    plan: Plan
    programs: Programs
    proof: Proof = field(default_factory=Proof)


class Current:
    """A program that finds out at its first call, for each form of its arguments, what it computes now.

    `find(*args)` gives a key, the program as a function of the constants and `args` that holds nothing else, and the
    constants. A job has its own, so that what a function reads is read once for each call of the library.
    """

    def __init__(self, engine: Engine, programs: Programs, find: Callable[..., tuple[Hashable, Any, Arrays]]) -> None:
        self._engine, self._programs, self._find = engine, programs, find
        self._forms: dict[Hashable, tuple[Callable[..., Any], Arrays]] = {}

    def __call__(self, *args: Any) -> Any:
        kind = form(args)
        if kind not in self._forms:
            key, function, constants = self._find(*args)
            self._forms[kind] = self._programs.get(key, lambda: self._engine.compile(function)), constants
        program, constants = self._forms[kind]
        return program(constants, *args)


def form(args: Any) -> Hashable:
    """Nesting, shapes and dtypes of arguments."""
    leaves, structure = flatten(args)
    return structure, tuple((tuple(a.shape), a.dtype) for a in leaves)


def kept(job: Job, what: Hashable, make: Callable[[], Callable[..., Any]], reads: bool = False) -> Callable[..., Any]:
    """A program of this question, compiled where its plan compiles; what the function computes now, not earlier.

    `reads`: it calls other functions of the user's besides, so that no trace of this one says what it computes.
    """
    engine, plan, programs, trace = job.engine, job.recipe.plan, job.recipe.programs, job.trace
    if not plan.compiled:
        return make()
    reads = reads and engine.capabilities.traces
    key = what, plan.mode, plan.chunk
    if not reads and (trace is None or (trace.sealed and trace.whole)):
        return programs.get((key, trace and trace.key), lambda: engine.compile(make()))
    if key not in job.current:
        job.current[key] = Current(engine, programs, lambda *args: _traced(engine, key, make(), args))
    return job.current[key]


def _traced(engine: Engine, what: Hashable, program: Callable[..., Any], args: Any) -> tuple[Hashable, Any, Arrays]:
    trace = engine.trace(program, args)
    return (what, trace.key), trace.function, trace.constants


def derivative(
    problem: Problem, known: Known, trace: Trace | None, first: Hashable, what: str, graph: bool
) -> Callable[..., tuple[Arrays, Arrays]]:
    """The program that `run` calls, with (weights, data, labels, seeds); compiled where the plan compiles.

    Where captured arrays are arguments it is made of the trace of the function, which is cheaper than tracing all
    seeds; `first` is the form of the arguments that `trace` is of.
    """
    engine, shapes, plan, programs = problem.network.engine, known.shapes, known.plan, known.programs
    what_for = ("derivative", plan.mode, plan.seeds, plan.chunk)
    whole = make_program(problem, shapes, plan, what, graph, problem.function)
    if not plan.compiled:
        return whole
    if trace is None or (trace.sealed and trace.whole):
        return programs.get((what_for, trace and trace.key), lambda: engine.compile(whole))
    if trace.sealed or not trace.whole or problem.rules:
        return Current(engine, programs, lambda *args: _traced(engine, what_for, whole, args))

    def find(state: Arrays, leaves: Arrays, labels: Array | None, _: Arrays) -> tuple[Hashable, Any, Arrays]:
        now = trace if form((leaves, labels)) == first else trace_of(problem, shapes, state, leaves, labels)
        _check_shapes(now, shapes)
        return (what_for, now.key), _of_trace(problem.bare, shapes, plan, what, graph, now.function), now.constants

    return Current(engine, programs, find)


def _of_trace(
    problem: Problem, shapes: Shapes, plan: Plan, what: str, graph: bool, function: Callable[..., Arrays]
) -> Callable[..., tuple[Arrays, Arrays]]:
    """The program over a traced function; it holds neither what the function has read nor the function."""

    def program(constants: Arrays, state: Arrays, *data: Any) -> tuple[Arrays, Arrays]:
        def bound(state: Arrays, fixed: Arrays, labels: Array | None) -> Function:
            return lambda diff: function(constants, state, diff, fixed, labels)

        return make_program(problem, shapes, plan, what, graph, bound)(state, *data)

    return program


def make_program(
    problem: Problem, shapes: Shapes, plan: Plan, what: str, graph: bool, bound: Bound
) -> Callable[..., tuple[Arrays, Arrays]]:
    """The function that is compiled: weights, data, labels and seeds are its arguments."""
    engine = problem.network.engine
    sweep = Sweep(plan.mode, plan.seeds, plan.chunk, graph)

    def program(state: Arrays, leaves: Arrays, labels: Array | None, extra: Arrays) -> tuple[Arrays, Arrays]:
        diff, fixed = diff_of(problem, leaves, shapes.sites)
        f = bound(state, fixed, labels)
        seeds = (lambda r, like: extra) if what in ("jvp", "vjp", "hvp") else engine.unit
        if what not in ORDERS:
            return compress(engine, f, diff, seeds, sweep)

        def higher(g: Function) -> Arrays:
            orders = range(3, ORDERS[what] + 1)
            return [b for order in orders for b in turns(engine, g, diff, order, sweep, plan.compiled)]

        y, g, products = bend(engine, f, diff, seeds, sweep, shapes, what == "diagonal", higher)
        return y, [*(a[None] for a in g if what.startswith("taylor")), *products]

    return program


def trace_of(problem: Problem, shapes: Shapes, state: Arrays, leaves: Arrays, labels: Array | None) -> Trace:
    """The chosen outputs as a program of weights, chosen tensors, fixed inputs and labels; arrays like these."""
    engine, samples = problem.network.engine, leaves[0].shape[0]
    chosen, fixed = problem.split(leaves)
    stream = iter(chosen)
    places = problem.wrt.chosen
    diff = [next(stream) if isinstance(c, int) else _spec(engine, samples, shapes.sites[c]) for c in places]

    def function(state: Arrays, diff: Arrays, fixed: Arrays, labels: Array | None) -> Arrays:
        return problem.function(state, fixed, labels)(diff)

    return engine.trace(function, (state, diff, fixed, labels))


def _spec(engine: Engine, samples: int | None, kind: tuple[tuple[int, ...], str]) -> Array:
    shape, dtype = kind
    return engine.spec((samples, *shape), dtype)


def choice_of(problem: Problem, shapes: Shapes, samples: int | None, labels: Array | None) -> Trace | None:
    """The function of `of=` alone, sealed, over a model that shows all that it reads; `None` where it is no function.

    A model need not be traced for it. Where it holds much, as a head with weights of its own, it is part of the model.
    """
    engine = problem.network.engine
    if not problem.target.calls:
        return None

    def function(leaves: Arrays, labels: Array | None) -> Arrays:
        tree = unflatten(shapes.picked_structure, leaves)
        return targets.select(engine, problem.target, leaves, tree, labels)

    leaves = [_spec(engine, samples, kind) for kind in shapes.picked]
    return engine.seal(engine.trace(function, (leaves, labels)), LARGEST_SEAL)


def _check_shapes(trace: Trace, shapes: Shapes) -> None:
    """An operator that was made for other outputs cannot go on."""
    found = tuple(tuple(shape[1:]) for shape in trace.shapes)
    if found[: len(shapes.outs)] != shapes.outs:
        raise PlanMismatchError(
            f"the function gives {_listed(found)} per sample now and gave {_listed(shapes.outs)} when this was "
            "planned; plan again"
        )


def _listed(shapes: tuple[tuple[int, ...], ...]) -> str:
    return ", ".join(map(str, shapes))
