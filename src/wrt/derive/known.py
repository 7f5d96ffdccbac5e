"""What is known of a question: shapes and a plan, learnt once; and what its function computes now."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from wrt.derive import losses
from wrt.derive.agree import Trial, disagreement
from wrt.derive.choose import Plan, Request, Sizes, choose, resized
from wrt.derive.inputs import Inputs
from wrt.derive.lost import check_bend, check_product
from wrt.derive.problem import PROBE, Problem, Shapes, diff_of, inspect
from wrt.derive.programs import ORDERS, Known, Programs, choice_of, trace_of
from wrt.derive.slope import slopes
from wrt.derive.target import Target
from wrt.engines import registry
from wrt.engines.base import Array, Arrays, Engine, Trace
from wrt.engines.network import Adapted, Bounded, Network
from wrt.errors import OutOfMemoryError

OPEN = 32  # a size for what a traced tensor leaves open
GRADIENT = 3  # a gradient's intermediate values, as a multiple of those of a forward pass


@dataclass(frozen=True)
class Ask:
    """A question, checked, before anything is known of it."""

    adapted: Adapted
    problem: Problem
    inputs: Inputs
    target: Target
    question: Hashable
    what: str
    request: Request
    graph: bool

    @property
    def key(self) -> Hashable:
        return self.question, self.what, self.request, self.graph

    @property
    def engine(self) -> Engine:
        return self.adapted.network.engine

    def resized(self, plan: Plan) -> Plan:
        """The plan of a call with other numbers of samples, for these."""
        fixed = self.adapted.network.batch
        return plan if fixed is not None else resized(plan, self.inputs.samples, self.request)

    def first(self, plan: Plan) -> tuple[Arrays, Array | None]:
        """What stands for the leaves and labels of the first batch."""
        count, spec = self.count(plan), self.engine.spec
        kinds = zip(self.inputs.leaves, self.inputs.dtypes, strict=True)
        labels = self.target.labels
        leaves = [spec((count, *leaf.shape[1:]), dtype) for leaf, dtype in kinds]
        return leaves, None if labels is None else spec((count, *labels.shape[1:]), dtype_of(labels))

    def count(self, plan: Plan) -> int | None:
        """Samples of the first batch."""
        samples, leaves = self.inputs.samples, self.inputs.leaves
        if self.inputs.host:
            count = min(plan.batch, max(samples or 0, 1))
            return padded(self.adapted.network, plan, count) or count
        whole = self.graph or any(map(self.engine.is_traced, leaves))
        if samples is None or (whole and self.request.batch_size is None):
            return samples
        return max(min(samples, plan.batch), 1)


def dtype_of(value: Array) -> str:
    """The name of its dtype, of a tensor or on the host."""
    owner = registry.owner(value)
    return owner.dtype(value) if owner else str(value.dtype)


def padded(network: Network, plan: Plan, count: int) -> int | None:
    """Samples to fill up to, where every number is compiled anew: one in eight of each power of two."""
    if network.batch is not None:
        return network.batch
    if not (network.engine.capabilities.static_batch and plan.compiled):
        return None
    step = 1 << max(count.bit_length() - 4, 0)
    return -(-count // step) * step


def known_of(ask: Ask) -> tuple[Known, Trace | None, Callable[[Any], None]]:
    """What is known of the question, found or made, and where to put what is learnt of it."""
    cache, key = ask.adapted.cache, ask.key
    follow = _follower(ask)
    if follow is None:
        known = cache.get(key)
        if known is None:
            known = cache[key] = _learn(ask)
        return replace(known, plan=ask.resized(known.plan)), None, _remember(cache, key)
    versions = cache.get(key)
    if versions is None:
        versions = cache[key] = Bounded()
    latest = next(reversed(versions.values()), None)
    trace = None if latest is None else _follow(ask, follow, latest)
    known = None if trace is None else versions.get(trace.key)
    if trace is None or known is None:  # of a function that computes something else than at any call before
        known = _learn(ask)
        trace = _follow(ask, follow, known)
        versions[trace.key] = known
    return replace(known, plan=ask.resized(known.plan)), trace, _remember(versions, trace.key)


def _follow(ask: Ask, follow: Callable[[Shapes, Plan], Trace], known: Known) -> Trace:
    """The trace at the first batch, or at a smaller one where the function has no memory for it."""
    plan = ask.resized(known.plan)
    while True:
        try:
            return follow(known.shapes, plan)
        except Exception as error:
            if not (ask.inputs.host and ask.engine.is_out_of_memory(error)):
                raise
            plan = smaller(plan, ask.adapted.network, error)


def smaller(plan: Plan, network: Network, error: BaseException) -> Plan:
    """The next smaller plan after memory ran out.

    Raises:
        OutOfMemoryError: there is none.
    """
    found = plan.halved()
    if found is None or network.batch is not None:
        raise OutOfMemoryError(
            "not even one sample and one seed fit into memory; choose fewer outputs with of=, or a smaller input"
        ) from error
    return found


def _remember(cache: dict[Any, Any], key: Hashable) -> Callable[[Any], None]:
    return lambda recipe: cache.__setitem__(key, Known(recipe.shapes, recipe.plan, recipe.programs, recipe.proof))


def _follower(ask: Ask) -> Callable[[Shapes, Plan], Trace] | None:
    """How to find out what the function computes now; `None` where the question shows it, or nothing is compiled."""
    network, problem = ask.adapted.network, ask.problem
    if not ask.engine.capabilities.traces or not (network.follows or problem.target.calls):
        return None

    def follow(shapes: Shapes, plan: Plan) -> Trace:
        leaves, labels = ask.first(plan)
        trace = None if network.follows else choice_of(problem, shapes, leaves[0].shape[0], labels)
        return trace or trace_of(problem, shapes, ask.adapted.state(False), leaves, labels)

    return follow


def _learn(ask: Ask) -> Known:
    """Inspect the function on a few samples, and plan."""
    adapted, problem, engine = ask.adapted, ask.problem, ask.engine
    example = example_of(adapted.network, ask.inputs)
    labels = _example_labels(problem.target, engine, example)
    state = adapted.state(False)
    fixed_for_good = _follower(ask) is None
    shapes = adapted.cache.get(ask.question) if fixed_for_good else None  # the same for a Jacobian and for products
    if shapes is None:
        shapes = inspect(problem, state, example, labels)
    if fixed_for_good:
        adapted.cache[ask.question] = shapes
    diff, fixed = diff_of(problem, example, shapes.sites)

    compiled = engine.capabilities.compiles if ask.request.compile is None else ask.request.compile
    trial = Trial(problem, shapes, state, example, labels, compiled)

    def push_problem() -> str:
        f = problem.function(state, fixed, labels)
        found = engine.push_problem(slopes(engine, f, shapes) if ask.what in ORDERS else f, diff)
        return found or disagreement(trial, ask.what in ORDERS)

    plan = plan_of(adapted, ask.inputs, shapes, ask.what, ask.request, push_problem)
    if plan.mode == "double":
        check_product(trial)
    if ask.what in ORDERS:
        check_bend(trial)
    return Known(shapes, plan, Programs())


def plan_of(
    adapted: Adapted, inputs: Inputs, shapes: Shapes, what: str, request: Request, push_problem: Callable[[], str]
) -> Plan:
    """Mode, chunk and batch of a question; a product is made of two pulls where there is no right push."""
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
