"""Functions whose derivatives follow the table of repairs, and what is found in their graphs.

The repairs apply to graphs that wrt traces, so the gradients of the user's own graphs stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable

import tensorflow as tf

from wrt.engines import (  # noqa: F401  (they fill the table)
    tensorflow_images,
    tensorflow_indexing,
    tensorflow_linalg,
    tensorflow_products,
    tensorflow_special,
)
from wrt.engines.base import Array, Arrays, Function
from wrt.engines.tensorflow_missing import between
from wrt.engines.tensorflow_repairs import ALWAYS, PREFIX, REPAIRS, repaired
from wrt.engines.tensorflow_rewrite import BODIES, bodies, is_custom, own_graph, recomputes, remade, rule_of

CUSTOM, RECOMPUTED = "tf.custom_gradient", "tf.recompute_grad"
AGAIN = frozenset(REPAIRS) | {RECOMPUTED}  # what needs care where a derivative is differentiated again
PUSHED = AGAIN - {"StopGradient"} | {CUSTOM}  # and where it is pushed, which passes by custom gradients


def differentiable(f: Function, kinds: Iterable[str] = ALWAYS) -> Function:
    """`f` with right derivatives where it holds one of these kinds of operators: as a graph of its own."""
    wanted = set(kinds)

    def inner(primals: Arrays) -> Arrays:
        with repaired():
            return f(primals)

    def g(primals: Arrays) -> Arrays:
        try:
            y, operations = _traced(f, primals)
        except (LookupError, ValueError):  # pushed one by one, operators need second derivatives that only the copy has
            return own_graph(remade(f))(primals)
        kinds = _kinds(operations)
        inside = _kinds(op for op in operators_inside(operations) if not rule_of(op).startswith(PREFIX))
        if (wanted - {CUSTOM}) & inside or (wanted & kinds and RECOMPUTED in kinds):
            return own_graph(remade(f))(primals)
        if wanted & kinds:  # a tape sees nothing of rules, so those of the table are no excuse here
            return own_graph(inner)(primals)
        return f(primals) if y is None else y  # a graph of its own takes half as long again

    return g


def _traced(f: Function, primals: Arrays) -> tuple[Arrays | None, list[tf.Operation]]:
    """The outputs in the graph that is being made, and the operators that lead there; outside graphs only these."""
    if not tf.inside_function():
        graph = tf.function(f, autograph=False).get_concrete_function(list(primals)).graph
        with graph.as_default():
            return None, between(graph.inputs[: len(primals)], graph.outputs)
    y = f(primals)
    return y, between(primals, y)


def operators_inside(operations: Iterable[tf.Operation]) -> list[tf.Operation]:
    """The operators in the functions that these operators call, loops and branches among them."""
    found: list[tf.Operation] = []
    graphs = [g for op in operations for g in bodies(op)]
    seen: set[int] = set()
    while graphs:
        graph = graphs.pop()
        if id(graph) in seen:
            continue
        seen.add(id(graph))
        inside = graph.get_operations()
        found += inside
        graphs += [g for op in inside for g in bodies(op)]
    return found


def _kinds(operations: Iterable[tf.Operation]) -> set[str]:
    """What there may be to repair; not what computes with integers, such as shapes."""
    real = [
        op for op in operations if op.outputs and (op.outputs[0].dtype.is_floating or op.outputs[0].dtype.is_complex)
    ]
    custom = [op for op in real if is_custom(op)]
    kinds = {op.type for op in real if op.type in REPAIRS} | ({CUSTOM} if custom else set())
    return kinds | ({RECOMPUTED} if any(map(recomputes, custom)) else set())


def not_pushed(accumulator: tf.autodiff.ForwardAccumulator, outputs: Arrays, leaves: Iterable[Array]) -> list[str]:
    """Kinds of operators that a tangent goes into but not out of, though a cotangent would come back."""
    single = [op for op in between(leaves, outputs) if op.type not in BODIES]  # functions have outputs of no use here
    kinds = {op.type for op in single if _stops(accumulator, op)}
    return sorted(kinds) or ["an operator"] * any(accumulator.jvp(a) is None for a in outputs)


def _stops(accumulator: tf.autodiff.ForwardAccumulator, op: tf.Operation) -> bool:
    if op.type == "Sign":  # zero both ways, once as a number and once as nothing
        return False
    moving = [t for t in op.inputs if accumulator.jvp(t) is not None]
    still = [t for t in op.outputs if t.dtype.is_floating and accumulator.jvp(t) is None]
    return bool(moving and still) and any(g is not None for g in tf.gradients(still, moving))
