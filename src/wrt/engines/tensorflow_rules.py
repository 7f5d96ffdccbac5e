"""Modified backward rules on TensorFlow: activations are operators, whose gradient a graph can override."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import ops  # the derivatives that exist already have no public name

from wrt.engines.base import Array, Arrays, Function
from wrt.engines.network import WeakCache
from wrt.engines.tensorflow_gradients import FIRST
from wrt.errors import SelectionError
from wrt.rules import Rule

OPERATORS = {
    "elu": "Elu",
    "leakyrelu": "LeakyRelu",
    "relu": "Relu",
    "relu6": "Relu6",
    "selu": "Selu",
    "sigmoid": "Sigmoid",
    "softplus": "Softplus",
    "softsign": "Softsign",
    "tanh": "Tanh",
}
_registered = WeakCache()
_numbers = itertools.count()


def with_backward(h: Callable[[Array], Array], rule: Rule) -> Callable[[Array], Array]:
    """`h` whose pullback is the rule."""

    @tf.custom_gradient
    def ruled(x: Array) -> tuple[Array, Callable[[Array], Array]]:
        def pull(u: Array) -> Array:
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = h(x)
            return tape.gradient(y, x, u)

        return h(x), lambda u: tf.cast(rule(u, x, pull), x.dtype)

    return ruled


def with_rules(f: Function, rules: Mapping[str, Rule], seen: set[str]) -> Function:
    """`f` with these activations ruled, as a function of its own graph.

    Raises:
        SelectionError: an activation that is no operator, or inside a loop, which the override does not reach.
    """
    for name in rules:
        if name not in OPERATORS:
            raise SelectionError(
                f"rules: TensorFlow makes {name!r} of other operators, so that it cannot be found by this name; "
                f"give the rule by the layer's name, or for one of: {', '.join(sorted(OPERATORS))}"
            )
    overrides = {OPERATORS[name]: _gradient_name(rule) for name, rule in rules.items()}

    def inner(primals: Arrays) -> Arrays:
        graph = tf.compat.v1.get_default_graph()
        with graph.gradient_override_map({**FIRST, **overrides}):
            y = f(primals)
        _check_loops(graph, rules)
        kinds = {op.type for op in graph.get_operations()}
        seen.update(name for name in rules if OPERATORS[name] in kinds)
        return y

    return tf.function(inner, autograph=False)


def _gradient_name(rule: Rule) -> str:
    cache = _registered.of(rule)
    if "name" not in cache:
        cache["name"] = f"WrtRule{next(_numbers)}"
        tf.RegisterGradient(cache["name"])(_gradient(rule))
    return cache["name"]


def _gradient(rule: Rule) -> Callable[[tf.Operation, Array], Array]:
    def gradient(op: tf.Operation, u: Array) -> Array:
        ordinary = ops.gradient_registry.lookup(op.type)
        return rule(u, op.inputs[0], lambda u: ordinary(op, u))

    return gradient


def _check_loops(graph: Any, rules: Mapping[str, Any]) -> None:
    nested = {node.op for function in graph.as_graph_def().library.function for node in function.node_def}
    for name in rules:
        if OPERATORS[name] in nested:
            raise SelectionError(
                f"rules: the model calls {name!r} inside a loop or a tf.function of its own, where TensorFlow does not "
                "let it have another rule; give the rule by the layer's name"
            )
