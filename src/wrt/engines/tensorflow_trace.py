"""TensorFlow graphs as keys: what a Python function computes now, found by tracing it, whatever it has read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable
from typing import Any

import tensorflow as tf

from wrt.engines.base import Trace
from wrt.engines.identity import Held
from wrt.trees import flatten, unflatten

NAMES = ("_gradient_op_type", "_class", "_user_specified_name")  # attributes that hold what TensorFlow names anew


def trace(f: Callable[..., Any], arguments: tuple[Any, ...]) -> Trace:
    """The graph of `f` now, its constants by value, and the tensors and variables that it captures by identity.

    A variable is read when the graph runs; a tensor never changes. So a program that `f` gave once is that of every
    later `f` with this key.
    """
    graph = tf.__internal__.FuncGraph("wrt")
    leaves, structure = flatten(arguments)
    with graph.as_default():
        given = [tf.compat.v1.placeholder(leaf.dtype, leaf.shape) for leaf in leaves]
        results, nesting = flatten(f(*unflatten(structure, given)))
        results = [tf.convert_to_tensor(r) for r in results]
    definition = graph.as_graph_def()
    ruled = _is_ruled(definition)
    captured = tuple(Held(outside) for outside, _ in graph.captures)
    names = {inside.op.name: f"captured {i}" for i, (_, inside) in enumerate(graph.captures)}
    key = _written(definition, names), nesting, tuple(names.get(r.op.name, r.name) for r in results), captured
    shapes = tuple(tuple(r.shape) if r.shape.rank is not None else () for r in results)
    return Trace(key, [], lambda _, *args: f(*args), shapes, whole=not ruled, sealed=True)


def _is_ruled(definition: Any) -> bool:
    """Whether a derivative is a Python function of the user's, which may read what the graph does not show."""
    nodes = [*definition.node, *(node for function in definition.library.function for node in function.node_def)]
    return any(node.attr["_gradient_op_type"].s.startswith(b"CustomGradient") for node in nodes)


def _written(definition: Any, names: dict[str, str]) -> Hashable:
    """The graph without the names that TensorFlow gives to functions anew every time: loops, branches, calls."""
    functions = {function.signature.name: function for function in definition.library.function}
    known: dict[str, str] = {}

    def rename(name: str) -> str:
        if name not in functions:
            return name
        if name not in known:
            known[name] = "itself"  # a function that calls itself
            known[name] = _of_function(functions[name], rename)
        return known[name]

    return tuple(_node(node, names, rename) for node in definition.node)


def _of_function(function: Any, rename: Callable[[str], str]) -> str:
    """A name for a function made of all that it does."""
    signature = function.signature
    names = {argument.name: f"argument {i}" for i, argument in enumerate(signature.input_arg)}
    nodes = sorted(function.node_def, key=lambda node: node.name)
    kinds = [argument.type for argument in signature.input_arg]
    results = [names.get(function.ret[a.name], function.ret[a.name]) for a in signature.output_arg]
    parts = kinds, [_node(node, names, rename) for node in nodes], results, sorted(function.control_ret.values())
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _node(node: Any, names: dict[str, str], rename: Callable[[str], str]) -> Hashable:
    inputs = tuple(names.get(name, name) for name in node.input)
    return names.get(node.name, node.name), node.op, inputs, _attributes(node, rename)


def _attributes(node: Any, rename: Callable[[str], str]) -> Hashable:
    found = []
    for name in sorted(node.attr):
        value = node.attr[name]
        if name in NAMES:
            continue
        for function in (value.func, *value.list.func):
            if function.name:
                function.name = rename(function.name)
        found.append((name, value.SerializeToString(deterministic=True)))
    return tuple(found)
