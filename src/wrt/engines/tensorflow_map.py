"""A function of seed numbers at all of them on TensorFlow: repeated, batched or in a loop."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from wrt.engines.base import Array, Arrays

Column = Callable[[Array], Arrays]


def mapped(f: Column, count: int, chunk: int, unroll: int) -> Arrays:
    """`f(r)` for r in range(count), stacked, `chunk` at a time; a loop where a graph would repeat it too often."""
    if count == 0:
        return [a[None][:0] for a in f(tf.constant(0))]
    steps = -(-count // chunk)
    parts = np.array_split(np.arange(count), steps)
    if steps > unroll and not tf.executing_eagerly():
        return _looped(f, count, chunk)
    pieces: list[Arrays] = []
    for part in parts:
        # one part after the other, so that memory holds one part at a time
        with tf.control_dependencies(pieces[-1] if pieces else []):
            pieces.append(_part(f, tf.constant(part), chunk))
    return [tf.concat(column, 0) for column in zip(*pieces, strict=True)]


def _part(f: Column, index: Array, chunk: int) -> Arrays:
    if chunk == 1:
        return [a[None] for a in f(index[0])]
    if _needs_xla():
        return [tf.stack(column) for column in zip(*map(f, tf.unstack(index)), strict=True)]
    return tf.vectorized_map(f, index)


def _looped(f: Column, count: int, chunk: int) -> Arrays:
    head = count % chunk or chunk
    first = _part(f, tf.range(head), chunk)
    signature = [tf.TensorSpec((None, *a.shape[1:]), a.dtype) for a in first]
    index = tf.reshape(tf.range(head, count), (-1, chunk))
    rest = tf.map_fn(lambda i: _part(f, i, chunk), index, fn_output_signature=signature, parallel_iterations=1)
    flat = [tf.reshape(a, tf.concat([[-1], tf.shape(a)[2:]], 0)) for a in rest]
    return [tf.concat([a, b], 0) for a, b in zip(first, flat, strict=True)]


def _needs_xla() -> bool:
    """Whether the graph being made holds what only XLA runs, as Keras's grouped convolutions; batching undoes that."""
    if tf.executing_eagerly():
        return False
    return any("_XlaMustCompile" in op.node_def.attr for op in tf.compat.v1.get_default_graph().get_operations())
