"""Operators that place values: TensorFlow gives a share to values that were overwritten, and none to some others."""

from __future__ import annotations

import tensorflow as tf

from wrt.engines.base import Array
from wrt.engines.tensorflow_repairs import own, repaired, repairs


@repairs("DynamicStitch", "ParallelDynamicStitch", always=True)
def _stitch(op: tf.Operation, grad: Array) -> list[Array | None]:
    """Of values with the same index the last one stays, and only that has a share."""
    count = len(op.inputs) // 2
    indices = op.inputs[:count]
    with repaired():
        flat = tf.concat([tf.reshape(i, [-1]) for i in indices], 0)
        kept = _kept(flat, tf.shape(grad)[0])
        shares, start = [], 0
        for index in indices:
            stop = start + tf.size(index)
            mask = tf.reshape(tf.gather(kept, tf.range(start, stop)), tf.shape(index))
            share = tf.gather(grad, index)
            shares.append(share * _beside(tf.cast(mask, grad.dtype), share))
            start = stop
    return [None] * count + shares


@repairs("TensorScatterUpdate", always=True)
def _scatter(op: tf.Operation, grad: Array) -> tuple[Array, None, Array]:
    """The same of updates to the same place."""
    _, indices, _ = op.inputs
    share, _, updates = own(op, grad)
    with repaired():
        depth = tf.shape(indices)[-1]
        sizes = tf.cast(tf.shape(grad)[:depth], indices.dtype)
        strides = tf.math.cumprod(sizes, exclusive=True, reverse=True)
        flat = tf.reshape(tf.reduce_sum(indices * strides, -1), [-1])
        mask = tf.reshape(_kept(flat, tf.cast(tf.reduce_prod(sizes), tf.int32)), tf.shape(indices)[:-1])
        return share, None, updates * _beside(tf.cast(mask, grad.dtype), updates)


def _kept(flat: Array, size: Array) -> Array:
    """Which of these indices is the last of its kind."""
    numbers = tf.range(tf.size(flat))
    last = tf.math.unsorted_segment_max(numbers, flat, size)
    return tf.equal(tf.gather(last, flat), numbers)


def _beside(mask: Array, values: Array) -> Array:
    """The mask with axes of one behind it, as many as the values have more."""
    return tf.reshape(mask, tf.concat([tf.shape(mask), tf.ones([tf.rank(values) - tf.rank(mask)], tf.int32)], 0))


@repairs("OneHot", always=True)
def _one_hot(op: tf.Operation, grad: Array) -> tuple[None, None, Array, Array]:
    indices, depth = op.inputs[:2]
    with repaired():
        on = tf.one_hot(indices, depth, axis=op.get_attr("axis"), dtype=grad.dtype)
        return None, None, tf.reduce_sum(grad * on), tf.reduce_sum(grad * (1 - on))
