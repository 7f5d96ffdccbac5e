"""Modified backward rules on TensorFlow: activations are operators, whose gradient a graph can override."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import ops  # the derivatives that exist already have no public name

from wrt.engines.base import Array, Arrays, Function
from wrt.engines.tensorflow_gradients import operators_inside
from wrt.engines.tensorflow_missing import named
from wrt.engines.tensorflow_repairs import REPAIRS, repaired
from wrt.errors import OptionError, SelectionError
from wrt.rules import Rule, Switch

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
_numbers = itertools.count()


def with_backward(h: Callable[[Array], Array], rule: Rule, switch: Switch) -> Callable[[Array], Array]:
    """`h` whose pullback is the rule, while the switch is on."""

    @tf.custom_gradient
    def ruled(x: Array) -> tuple[Array, Callable[[Array], Array]]:
        def back(u: Array) -> Array:
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = h(x)
            return tape.gradient(y, x, u)

        return h(x), lambda u: tf.cast(rule(u, x, back), x.dtype) if switch.on else back(u)

    return ruled


def with_rules(f: Function, rules: Mapping[str, Rule], seen: set[str], switch: Switch) -> Function:
    """`f` with these activations ruled in the graph that is being made.

    Raises:
        SelectionError: an activation that is no operator, or inside a loop, which the override does not reach.
    """
    for name in rules:
        if name not in OPERATORS:
            raise SelectionError(
                f"rules: TensorFlow makes {name!r} of other operators, so that it cannot be found by this name; "
                f"give the rule by the layer's name, or for one of: {', '.join(sorted(OPERATORS))}"
            )
    overrides = {OPERATORS[name]: _register(rule, switch) for name, rule in rules.items()}

    def g(primals: Arrays) -> Arrays:
        graph = tf.compat.v1.get_default_graph()
        before = len(graph.get_operations())
        with graph.gradient_override_map(overrides):
            y = f(primals)
        operations = graph.get_operations()[before:]
        _check_loops(operations, rules)
        kinds = {op.type for op in operations}
        seen.update(name for name in rules if OPERATORS[name] in kinds)
        return y

    return g


def pull(f: Function, primals: Arrays) -> tuple[Arrays, Callable[[Arrays], Arrays]]:
    """The pullback of a ruled function, whose graph is differentiated operator by operator: tapes know no overrides."""
    if not tf.inside_function():
        raise OptionError("compile=False: TensorFlow has modified rules in compiled functions only; leave compile out")
    made = _forward(f, primals)
    graph = tf.compat.v1.get_default_graph()

    def back(cotangents: Arrays) -> Arrays:
        here = tf.compat.v1.get_default_graph() is graph  # else in the body of a loop over seeds: evaluate again
        y, leaves = made if here else _forward(f, primals)
        seeds = [tf.cast(u, a.dtype) for u, a in zip(cotangents, y, strict=True)]
        with f.switch, named():  # type: ignore[attr-defined]
            grads = tf.gradients(y, leaves, seeds, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return [tf.convert_to_tensor(g) for g in grads]

    return made[0], back


def _forward(f: Function, primals: Arrays) -> tuple[Arrays, Arrays]:
    leaves = [tf.identity(p) for p in primals]
    with repaired():
        return f(leaves), leaves


def _register(rule: Rule, switch: Switch) -> str:
    """The registry keeps its entries for good, so there is one for each use of a rule in a model, not for each call."""
    name = f"WrtRule{next(_numbers)}"

    @tf.RegisterGradient(name)
    def gradient(op: tf.Operation, u: Array) -> Array:
        lookup = ops.gradient_registry.lookup
        ordinary = lookup(REPAIRS.get(op.type, op.type))
        return rule(u, op.inputs[0], lambda u: ordinary(op, u)) if switch.on else ordinary(op, u)

    return name


def _check_loops(operations: list[Any], rules: Mapping[str, Any]) -> None:
    """The functions that these operators call hold none of the activations."""
    nested = {op.type for op in operators_inside(operations)}
    for name in rules:
        if OPERATORS[name] in nested:
            raise SelectionError(
                f"rules: the model calls {name!r} inside a loop or a tf.function of its own, where TensorFlow does not "
                "let it have another rule; give the rule by the layer's name"
            )
