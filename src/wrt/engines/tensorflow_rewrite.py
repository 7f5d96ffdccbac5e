"""TensorFlow programs made again operator by operator, with derivatives from the table.

`Graph.gradient_override_map` reaches the operators of one graph that are made after it was set. Loops, branches and
functions of the user's are graphs of their own; they are left alone, and what is differentiated is a copy.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import ops  # the derivatives that exist already have no public name

from wrt.engines.base import Array, Arrays, Function
from wrt.engines.tensorflow_repairs import repaired

CALLS = ("PartitionedCall", "StatefulPartitionedCall")
RULE = "_gradient_op_type"  # the attribute that names another derivative
BODIES = {  # the operators that hold functions, and the names under which they do
    **dict.fromkeys(CALLS, ("f",)),
    **dict.fromkeys(("While", "StatelessWhile"), ("cond", "body")),
    **dict.fromkeys(("If", "StatelessIf"), ("then_branch", "else_branch")),
    **dict.fromkeys(("Case", "StatelessCase"), ("branches",)),
}


def remade(f: Function) -> Function:
    """`f` with derivatives from the table everywhere, in loops and functions too."""

    def g(primals: Arrays) -> Arrays:
        traced = tf.function(f, autograph=False).get_concrete_function(list(primals))
        graph = tf.compat.v1.get_default_graph()
        for variable in traced.graph.variables:  # tapes outside see only what is announced
            graph.watch_variable(variable)
        return copied(traced.graph, [*primals, *traced.captured_inputs])

    return g


def own_graph(f: Function) -> Function:
    """`f` as a function in TensorFlow's sense, made for one call."""
    return lambda primals: tf.function(f, autograph=False).get_concrete_function(list(primals))(list(primals))


def bodies(op: tf.Operation) -> list[Any]:
    """The graphs of the functions that an operator calls."""
    found = [op.get_attr(name) for name in BODIES.get(op.type, ())]
    names = [f.name for item in found for f in (item if isinstance(item, list) else [item])]
    return [_function(op.graph, name).graph for name in names]


def _function(graph: Any, name: str) -> Any:
    while (function := graph._get_function(name)) is None:
        graph = graph.outer_graph
    return function


def rule_of(op: tf.Operation) -> str:
    """The name of the derivative that was given to an operator in place of its own, or nothing."""
    try:
        return op.get_attr(RULE).decode()
    except ValueError:
        return ""


def is_custom(op: tf.Operation) -> bool:
    """Whether this is where `tf.custom_gradient` has put its rule."""
    return op.type == "IdentityN" and rule_of(op).startswith("CustomGradient")


def recomputes(op: tf.Operation) -> bool:
    """Whether a custom gradient is that of `tf.recompute_grad`: the same as without it, but to first order only."""
    rule = _held(ops.gradient_registry.lookup(rule_of(op)), "tape_grad_fn", "grad_fn")
    return getattr(rule, "__qualname__", "").startswith("recompute_grad.")


def results_of(op: tf.Operation) -> int:
    """How many inputs of a custom gradient are the results, to which no cotangent goes."""
    return int(_held(ops.gradient_registry.lookup(rule_of(op)), "tape_grad_fn", "flat_result_len") or 0)


def _held(rule: Any, *names: str) -> Any:
    """What a function holds under a name, and what that holds under the next."""
    for name in names:
        rule = inspect.getclosurevars(rule).nonlocals.get(name) if inspect.isfunction(rule) else None
    return rule


def copied(source: Any, inputs: Sequence[Array]) -> Arrays:
    """The outputs of a traced function at other inputs, in the graph that is being made."""
    made = {old.ref(): new for old, new in zip(source.inputs, inputs, strict=True)}
    with repaired():
        for op in source.get_operations():
            if any(t.ref() not in made for t in op.outputs) or not op.outputs:
                outputs = _again(op, [made[t.ref()] for t in op.inputs], made)
                made |= {old.ref(): new for old, new in zip(op.outputs, outputs, strict=True)}
    return [made[t.ref()] for t in source.outputs]


def _again(op: tf.Operation, arguments: Arrays, made: dict[Any, Array]) -> Arrays:
    inner = [_copier(body, len(op.outputs)) for body in bodies(op)]
    if op.type in CALLS:
        fused = op.node_def.attr["_XlaMustCompile"].b
        return (tf.function(inner[0], autograph=False, jit_compile=True) if fused else inner[0])(*arguments)
    if op.type in ("While", "StatelessWhile"):
        shapes, parallel = [t.shape for t in op.outputs], op.get_attr("parallel_iterations")
        return tf.while_loop(lambda *a: inner[0](*a)[0], inner[1], arguments, shapes, parallel)
    if inner:
        branches = [lambda g=g: g(*arguments[1:]) for g in inner]
        case = op.type in ("Case", "StatelessCase")
        return tf.switch_case(arguments[0], branches) if case else tf.cond(arguments[0], *branches)
    return _operator(op, arguments, made)


def _copier(body: Any, count: int) -> Callable[..., Arrays]:
    """Derivatives that were taken of a function have left further outputs behind its own."""
    return lambda *arguments: copied(body, arguments)[:count]


def _operator(op: tf.Operation, arguments: Arrays, made: dict[Any, Array]) -> Arrays:
    graph = tf.compat.v1.get_default_graph()
    attributes = {name: value for name, value in op.node_def.attr.items() if name[0] != "_" or name == RULE}
    custom = is_custom(op)
    if custom and recomputes(op):
        del attributes[RULE]
    for value in attributes.values():
        for called in (value.func, *value.list.func):
            if called.name:
                graph._add_function_recursive(_function(op.graph, called.name))
    dtypes = [t.dtype for t in op.outputs]
    new = graph.create_op(op.type, arguments, dtypes, name=op.name, attrs=attributes, op_def=op.op_def)
    if custom and RULE in attributes:
        new._gradient_function = _custom(op, made)
    return list(new.outputs)


def _custom(op: tf.Operation, made: dict[Any, Array]) -> Callable[..., Arrays]:
    """The rule of a `tf.custom_gradient`, which holds tensors of the graph that it was made for, in the copy."""

    def gradient(_: tf.Operation, *grads: Array) -> list[Array | None]:
        rule = ops.gradient_registry.lookup(rule_of(op))
        like = [tf.TensorSpec(g.shape, g.dtype) for g in grads]
        with op.graph.as_default():
            back = tf.function(lambda *g: rule(op, *g), autograph=False).get_concrete_function(*like)
        outside = [made.get(t.ref(), t) for t in back.captured_inputs]
        shares = iter(copied(back.graph, [*grads, *outside]))
        return [None if share is None else next(shares) for share in tf.nest.flatten(back.structured_outputs)]

    return gradient
