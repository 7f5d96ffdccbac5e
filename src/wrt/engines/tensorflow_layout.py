"""Channels in TensorFlow programs: a walk through the traced graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.framework.function_def_to_graph import function_def_to_graph  # not public

from wrt.engines import layout as lay
from wrt.engines.base import Arrays, Function
from wrt.engines.layout import Claims, Ledger, Marks, Shape

WINDOWED = ("Conv", "DepthwiseConv", "MaxPool", "AvgPool", "FusedBatchNorm")
IN_ORDER = {"Slice", "StridedSlice", "Pad", "PadV2", "MirrorPad", "ReverseV2", "Roll", "ConcatV2", "Tile", "Split"}
REDUCTIONS = {"Mean", "Sum", "Max", "Min", "Prod", "All", "Any", "ArgMax", "ArgMin"}
MIXED = ("Einsum", "Gather", "Scatter", "Pack", "SpaceToDepth", "DepthToSpace")
CALLS = {"PartitionedCall", "StatefulPartitionedCall"}


def channels(f: Function, primals: Arrays) -> tuple[list[Claims], list[tuple[Claims, Claims]]]:
    """The verb of an engine: see `Engine.channels`."""

    def trace(*leaves: Any) -> Arrays:
        return [tf.identity(r) for r in f(list(leaves))]  # an input given back is no result of the graph

    graph = tf.function(trace, autograph=False).get_concrete_function(*primals).graph
    ledger = Ledger()
    known: dict[str, Marks] = {}
    watched = graph.inputs[: len(primals)]
    for tensor, marks in zip(watched, ledger.watch([_shape(t) for t in watched]), strict=True):
        known[tensor.name] = marks
    _walk(graph, known, ledger)
    return ledger.found(), [lay.put(_marks(known, t)) for t in graph.outputs]


def _walk(graph: Any, known: dict[str, Marks], ledger: Ledger) -> None:
    for op in graph.get_operations():
        if not op.inputs or not op.outputs or op.outputs[0].name in known:
            continue
        marks = [_marks(known, t) for t in op.inputs]
        for tensor, found in zip(op.outputs, _step(op, marks, ledger), strict=True):
            known[tensor.name] = found if len(found) == (tensor.shape.rank or 0) else _marks({}, tensor)


def _marks(known: dict[str, Marks], tensor: Any) -> Marks:
    return known.get(tensor.name, lay.lost(tensor.shape.rank or 0))


def _shape(tensor: Any) -> Shape:
    return tuple(tensor.shape) if tensor.shape.rank is not None else ()


def _step(op: Any, marks: list[Marks], ledger: Ledger) -> list[Marks]:
    """The marks of what one operator gives."""
    if op.type in CALLS:
        return _called(op, marks, ledger)
    operator = OPERATORS.get(op.type)
    if operator is None and op.type.startswith(WINDOWED) and "data_format" in op.node_def.attr:
        operator = _windowed
    elif operator is None and op.type in REDUCTIONS:
        operator = _reduce
    if operator is not None:
        try:
            return [operator(op, marks, ledger)] * len(op.outputs)
        except (IndexError, TypeError, ValueError):  # axes that are only known when it runs
            return [lay.lost(len(_shape(t))) for t in op.outputs]
    if op.type.startswith(MIXED):
        return [lay.lost(len(_shape(t))) for t in op.outputs]
    operands = [(_shape(t), m) for t, m in zip(op.inputs, marks, strict=True)]
    return [lay.merged(_shape(t), operands, sizes=op.type not in IN_ORDER) for t in op.outputs]


def _called(op: Any, marks: list[Marks], ledger: Ledger) -> list[Marks]:
    """A function inside: its own graph."""
    definition = op.graph._get_function(op.get_attr("f").name).cached_definition
    inner = function_def_to_graph(definition, [t.shape for t in op.inputs], include_library_functions=True)
    known = {t.name: m for t, m in zip(inner.inputs, marks, strict=True)}
    _walk(inner, known, ledger)
    return [_marks(known, t) for t in inner.outputs]


def _windowed(op: Any, marks: list[Marks], ledger: Ledger) -> Marks:
    image = marks[2] if "BackpropInput" in op.type else marks[0]  # transposed convolutions
    axis = 1 if op.get_attr("data_format").decode().startswith("NC") else len(image) - 1
    batch_norm = op.type.startswith("FusedBatchNorm")
    return ledger.normalized(image, axis) if batch_norm else ledger.taken(image, axis, len(image))


def _constant(tensor: Any) -> list[int]:
    """Integers that are known when the graph is made.

    Raises:
        ValueError: they are not.
    """
    value = tf.get_static_value(tensor)
    if value is None:
        raise ValueError
    found: list[int] = value.reshape(-1).tolist()
    return found


def _transpose(op: Any, marks: list[Marks], ledger: Ledger) -> Marks:
    return lay.moved(marks[0], _constant(op.inputs[1]))


def _reshape(op: Any, marks: list[Marks], ledger: Ledger) -> Marks:
    return lay.reshaped(ledger, marks[0], _shape(op.inputs[0]), _shape(op.outputs[0]))


def _expand(op: Any, marks: list[Marks], ledger: Ledger) -> Marks:
    return lay.with_axis(marks[0], _constant(op.inputs[1])[0])


def _squeeze(op: Any, marks: list[Marks], ledger: Ledger) -> Marks:
    axes = list(op.get_attr("squeeze_dims")) or [a for a, s in enumerate(_shape(op.inputs[0])) if s == 1]
    return lay.without(marks[0], axes)


def _reduce(op: Any, marks: list[Marks], ledger: Ledger) -> Marks:
    found = lay.reduced(ledger, marks[0], _constant(op.inputs[1]))
    if len(_shape(op.outputs[0])) > len(found):
        return lay.merged(_shape(op.outputs[0]), [(_shape(op.inputs[0]), marks[0])])
    return found


def _slice(op: Any, marks: list[Marks], ledger: Ledger) -> Marks:
    """Python's indices: axes are kept, dropped or added as the masks say."""
    added, dropped, hidden = (op.get_attr(f"{k}_mask") for k in ("new_axis", "shrink_axis", "ellipsis"))
    count = len(_constant(op.inputs[1]))
    eaten = sum(1 for k in range(count) if not (added | hidden) >> k & 1)
    rest, found = iter(marks[0]), []
    for k in range(count):
        if hidden >> k & 1:
            found += [next(rest) for _ in range(len(marks[0]) - eaten)]
        elif added >> k & 1:
            found.append(lay.ADDED)
        else:
            mark = next(rest)
            found += [] if dropped >> k & 1 else [mark]
    return (*found, *rest)


def _matmul(op: Any, marks: list[Marks], ledger: Ledger) -> Marks:
    left, right = marks[:2]
    if len(right) == 2 and not any(right):
        return lay.linear(left)
    return (*left[:-1], right[-1])


OPERATORS: dict[str, Callable[[Any, list[Marks], Ledger], Marks]] = {
    "Transpose": _transpose,
    "Reshape": _reshape,
    "ExpandDims": _expand,
    "Squeeze": _squeeze,
    "StridedSlice": _slice,
    **dict.fromkeys(["MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"], _matmul),
}
