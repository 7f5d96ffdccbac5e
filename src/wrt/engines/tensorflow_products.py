"""Products: TensorFlow divides by their factors or multiplies around them, which goes wrong where factors are zero.

Here nothing is divided, so that derivatives of every order are right at zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from wrt.engines.base import Array
from wrt.engines.tensorflow_repairs import own, repaired, repairs

LONGEST = 31  # doublings that reach the end of any axis


@repairs("Cumprod", always=True)
def _cumprod(op: tf.Operation, grad: Array) -> tuple[Array, None]:
    """x_k has the share (product before k) R_k, where R_k = g_k + x_(k+1) R_(k+1); exclusive: with g_(k+1)."""
    x, axis = op.inputs
    there, back = _last(x, tf.get_static_value(axis), op.get_attr("reverse"))
    with repaired():
        x, grad = there(x), there(grad)
        before = tf.math.cumprod(x, -1, exclusive=True)
        after = _recurrence(_shifted(tf.math.conj(x), 1), _shifted(grad, 1) if op.get_attr("exclusive") else grad)
        return back(tf.math.conj(before) * after), None


def _last(x: Array, axis: Any, reverse: bool) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """Ways to bring an axis to the end, turned round if `reverse`, and back."""
    if axis is None or x.shape.rank is None:
        raise NotImplementedError("TensorFlow's derivative of Cumprod is wrong at zeros; give it a constant axis")
    order = [*range(x.shape.rank)]
    order.append(order.pop(int(axis)))
    inverse = sorted(order, key=order.__getitem__)

    def flip(a: Array) -> Array:
        return tf.reverse(a, [-1]) if reverse else a

    return lambda a: flip(tf.transpose(a, order)), lambda a: tf.transpose(flip(a), inverse)


def _shifted(a: Array, steps: int) -> Array:
    """Entry k + steps of the last axis in place of k, zeros behind the end."""
    return tf.concat([a[..., steps:], tf.zeros_like(a[..., :steps])], -1)


def _recurrence(factor: Array, term: Array) -> Array:
    """R_k = term_k + factor_k R_(k+1) along the last axis, in a number of steps that grows as the logarithm."""
    for doubling in range(_doublings(factor.shape[-1])):
        term += factor * _shifted(term, 1 << doubling)
        factor *= _shifted(factor, 1 << doubling)
    return term


def _doublings(length: int | None) -> int:
    return LONGEST if length is None else max(length - 1, 0).bit_length()


@repairs("Prod")
def _prod(op: tf.Operation, grad: Array) -> tuple[Array, None]:
    """The product of all other factors, as the products before and behind each."""
    x, axes = op.inputs[0], tf.get_static_value(op.inputs[1])
    if axes is None or x.shape.rank is None:
        return own(op, grad)
    reduced = sorted({int(a) % x.shape.rank for a in axes.ravel()})
    order = [a for a in range(x.shape.rank) if a not in reduced] + reduced
    with repaired():
        moved = tf.transpose(x, order)
        sizes = tf.concat([tf.shape(moved)[: len(order) - len(reduced)], [_size(x, reduced)]], 0)
        flat = tf.reshape(moved, sizes)
        others = tf.math.cumprod(flat, -1, exclusive=True) * tf.math.cumprod(flat, -1, exclusive=True, reverse=True)
        others = tf.transpose(tf.reshape(others, tf.shape(moved)), sorted(order, key=order.__getitem__))
        for axis in reduced if not op.get_attr("keep_dims") else []:
            grad = tf.expand_dims(grad, axis)
        return grad * tf.math.conj(others), None


def _size(x: Array, axes: list[int]) -> Any:
    known = tf.TensorShape([x.shape[a] for a in axes]).num_elements()
    return tf.reduce_prod(tf.gather(tf.shape(x), axes)) if known is None else known


@repairs("SegmentProd", "UnsortedSegmentProd")
def _segment_prod(op: tf.Operation, grad: Array, *_: Any) -> list[Array | None]:
    """The product of all other factors of the same segment; those of no segment (negative) have no share."""
    x, ids = op.inputs[:2]
    with repaired():
        flat = tf.reshape(ids, [-1])
        rows = tf.reshape(x, tf.concat([tf.shape(flat), tf.shape(x)[tf.rank(ids) :]], 0))
        order = tf.argsort(flat, stable=True)
        rows, sorted_ids = tf.gather(rows, order), tf.gather(flat, order)
        behind = tf.reverse(_before(tf.reverse(rows, [0]), tf.reverse(sorted_ids, [0])), [0])
        others = tf.gather(_before(rows, sorted_ids) * behind, tf.argsort(order))
        share = tf.reshape(tf.math.conj(others), tf.shape(x)) * tf.gather(grad, tf.maximum(ids, 0))
        inside = tf.reshape(ids >= 0, tf.concat([tf.shape(ids), tf.ones_like(tf.shape(x)[tf.rank(ids) :])], 0))
        return [tf.where(inside, share, tf.zeros_like(share)), *(None for _ in op.inputs[1:])]


def _before(rows: Array, ids: Array) -> Array:
    """For every row the product of the rows before it that have its id; equal ids lie together."""
    product = _earlier(rows, ids, 1)
    for doubling in range(_doublings(rows.shape[0])):
        product *= _earlier(product, ids, 1 << doubling)
    return product


def _earlier(rows: Array, ids: Array, steps: int) -> Array:
    """The row so many steps before, ones where that has another id."""
    moved = tf.concat([tf.ones_like(rows[:steps]), rows[:-steps]], 0)
    same = tf.concat([tf.zeros_like(ids[:steps], tf.bool), ids[:-steps] == ids[steps:]], 0)
    same = tf.reshape(same, tf.concat([tf.shape(ids), tf.ones_like(tf.shape(rows)[1:])], 0))
    return tf.where(same, moved, tf.ones_like(moved))
