"""Second derivatives that TensorFlow leaves out or gets wrong, put right inside the graphs that wrt traces.

The repairs apply through `Graph.gradient_override_map`, so the gradients of the user's own graphs stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import ops  # the derivatives that exist already have no public name

from wrt.engines.base import Array, Arrays, Function

FIRST: dict[str, str] = {}  # operators of the forward pass whose derivative has to be made with care
_SECOND: dict[str, str] = {}  # operators of that derivative, whose own derivative is missing or wrong


def differentiable(f: Function) -> Function:
    """`f` with derivatives of every order that follow the repairs below: where one applies, as a graph of its own."""

    def inner(primals: Arrays) -> Arrays:
        with tf.compat.v1.get_default_graph().gradient_override_map(FIRST):
            return f(primals)

    repaired = tf.function(inner, autograph=False)

    def g(primals: Arrays) -> Arrays:
        if not tf.inside_function():
            return repaired(primals)
        graph = tf.compat.v1.get_default_graph()
        before = len(graph.get_operations())
        y = f(primals)
        operations = graph.get_operations()[before:]
        kinds = {op.type for op in operations} | kinds_inside(graph, operations)
        return repaired(primals) if kinds & set(FIRST) else y  # a graph of its own takes half as long again

    return g


def kinds_inside(graph: Any, operations: Iterable[tf.Operation]) -> set[str]:
    """Kinds of the operators in the functions that these operators call, loops among them."""
    nodes = [op.node_def for op in operations]
    library: dict[str, Any] | None = None
    kinds: set[str] = set()
    while names := {f.name for node in nodes for a in node.attr.values() for f in (a.func, *a.list.func)} - {""}:
        if library is None:
            library = {f.signature.name: f for f in graph.as_graph_def().library.function}
        nodes = [node for name in names & set(library) for node in library.pop(name).node_def]
        kinds |= {node.op for node in nodes}
    return kinds


def wrong_push(graph: Any) -> str:
    """Name an operator of a graph whose forward derivative would be silently wrong inside it."""
    found = [_keeps_size(op.inputs[0].shape, op.outputs[0].shape) for op in graph.get_operations() if _pools(op.type)]
    nested = [node for function in graph.as_graph_def().library.function for node in function.node_def]
    found += [_may_keep_size(node.attr) for node in nested if _pools(node.op)]
    return "TensorFlow's forward derivative of a max pooling that keeps the size is zero inside a graph" * any(found)


def _pools(kind: str) -> bool:
    return kind in ("MaxPool", "MaxPool3D")


def _keeps_size(before: tf.TensorShape, after: tf.TensorShape) -> bool:
    pairs = zip(before[1:].as_list(), after[1:].as_list(), strict=True)
    return all(a == b or None in (a, b) for a, b in pairs)


def _may_keep_size(attributes: Any) -> bool:
    return attributes["padding"].s == b"SAME" or max(attributes["ksize"].list.i) == 1


def _repairs(*kinds: str, of: dict[str, str]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        name = f"Wrt{kinds[0]}"
        tf.RegisterGradient(name)(function)
        of.update(dict.fromkeys(kinds, name))
        return function

    return register


@_repairs(
    *("MaxPool", "MaxPool3D", "Softsign"),
    *("ResizeBilinear", "ResizeBicubic", "ResizeNearestNeighbor", "ScaleAndTranslate"),
    of=FIRST,
)
def _as_ever(op: tf.Operation, *grads: Array) -> Any:
    """TensorFlow's own derivative, made of operators that have a right one themselves."""
    with tf.compat.v1.get_default_graph().gradient_override_map(_SECOND):
        return ops.gradient_registry.lookup(op.type)(op, *grads)


@_repairs("StopGradient", of=FIRST)
def _moments(op: tf.Operation, grad: Array) -> Array | None:
    """`tf.nn.moments` detaches the mean inside the variance: right to first order only, where its share is zero."""
    mean, users = op.inputs[0].op, op.outputs[0].consumers()
    inside = mean.type == "Mean" and all(u.type == "SquaredDifference" and u.inputs[0] is mean.inputs[0] for u in users)
    return grad if inside else None


@_repairs("MaxPoolGrad", "MaxPool3DGrad", of=_SECOND)
def _pooling(op: tf.Operation, grad: Array) -> tuple[None, None, Array]:
    """MaxPoolGradGrad writes into the buffer of its argument where both have one size, and reads zeros from it.

    On an input that is padded first the sizes differ, and nothing is shared.
    """
    window, strides, padding = (op.get_attr(name) for name in ("ksize", "strides", "padding"))
    x, y, _ = op.inputs
    if max(window) == 1:
        return None, None, tf.strided_slice(grad, [0] * len(window), tf.shape(grad), strides)
    if padding == b"SAME":
        pads = _same_padding(tf.shape(x), window, strides)
        x, grad = tf.pad(x, pads, constant_values=-np.inf), tf.pad(grad, pads)
    again = tf.raw_ops.MaxPoolGradGrad if op.type == "MaxPoolGrad" else tf.raw_ops.MaxPool3DGradGrad
    layout = op.get_attr("data_format")
    return (
        None,
        None,
        again(
            orig_input=x, orig_output=y, grad=grad, ksize=window, strides=strides, padding="VALID", data_format=layout
        ),
    )


def _same_padding(size: Array, window: Iterable[int], strides: Iterable[int]) -> Array:
    total = tf.maximum((-(-size // strides) - 1) * strides + window - size, 0)
    return tf.stack([total // 2, total - total // 2], 1)


@_repairs("ResizeBilinearGrad", of=_SECOND)
def _bilinear(op: tf.Operation, grad: Array) -> tuple[Array, None]:
    return _resized(tf.raw_ops.ResizeBilinear, op, grad, tf.shape(op.inputs[0])[1:3]), None


@_repairs("ResizeBicubicGrad", of=_SECOND)
def _bicubic(op: tf.Operation, grad: Array) -> tuple[Array, None]:
    return _resized(tf.raw_ops.ResizeBicubic, op, grad, tf.shape(op.inputs[0])[1:3]), None


@_repairs("ResizeNearestNeighborGrad", of=_SECOND)
def _nearest(op: tf.Operation, grad: Array) -> tuple[Array, None]:
    return _resized(tf.raw_ops.ResizeNearestNeighbor, op, grad, tf.shape(op.inputs[0])[1:3]), None


def _resized(resize: Callable[..., Array], op: tf.Operation, grad: Array, size: Array) -> Array:
    flags = {name: op.get_attr(name) for name in ("align_corners", "half_pixel_centers")}
    return tf.cast(resize(images=grad, size=size, **flags), op.inputs[0].dtype)


@_repairs("ScaleAndTranslateGrad", of=_SECOND)
def _scaled(op: tf.Operation, grad: Array) -> tuple[Array, None, None, None]:
    cotangent, _, scale, translation = op.inputs
    again = tf.raw_ops.ScaleAndTranslate(
        images=grad,
        size=tf.shape(cotangent)[1:3],
        scale=scale,
        translation=translation,
        kernel_type=op.get_attr("kernel_type"),
        antialias=op.get_attr("antialias"),
    )
    return again, None, None, None


@_repairs("SoftsignGrad", of=_SECOND)
def _softsign(op: tf.Operation, grad: Array) -> tuple[Array, Array]:
    cotangent, x = op.inputs
    slope = 1 / tf.square(1 + tf.abs(x))
    return grad * slope, -2 * grad * cotangent * tf.sign(x) * slope / (1 + tf.abs(x))
