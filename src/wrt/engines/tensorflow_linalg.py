"""Linear algebra: TensorFlow leaves out terms where eigenvalues repeat, and a conjugate where numbers are complex."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from wrt.engines.base import Array
from wrt.engines.tensorflow_repairs import own, repaired, repairs

ROUNDING = 10  # units of it, within which eigenvalues are the same


@repairs("SelfAdjointEigV2", "Svd", always=True)
def _decomposition(op: tf.Operation, *grads: Array) -> Array:
    """NaN where vectors of one and the same value matter: TensorFlow takes 0 for the quotient of 0 by 0 there."""
    share = own(op, *grads)
    if not op.get_attr("compute_v" if op.type == "SelfAdjointEigV2" else "compute_uv"):
        return share
    values, *vectors = op.outputs
    count = values.shape[-1]
    with repaired():
        for v, g in zip(vectors, grads[1:], strict=True):
            mixed = tf.matmul(v[..., :count], g[..., :count], adjoint_a=True)
            unknown = tf.cast(_repeated(values), mixed.dtype)
            share += tf.reduce_sum(tf.math.multiply_no_nan(unknown, mixed), [-2, -1], keepdims=True)
        return share


def _repeated(values: Array) -> Array:
    """NaN for every pair of the same values, zero elsewhere."""
    apart = tf.abs(values[..., :, None] - values[..., None, :])
    largest = tf.reduce_max(tf.abs(values), -1, keepdims=True)[..., None]
    rounding = ROUNDING * np.finfo(values.dtype.as_numpy_dtype).eps
    same = (apart <= rounding * largest) & ~tf.eye(values.shape[-1], dtype=tf.bool)
    return tf.where(same, tf.constant(float("nan"), values.dtype), tf.zeros_like(apart))


@repairs("MatrixDeterminant", always=True)
def _determinant(op: tf.Operation, grad: Array) -> Array:
    """TensorFlow multiplies by the determinant itself, which is right for real numbers only."""
    if not grad.dtype.is_complex:
        return own(op, grad)
    with repaired():
        factor = (grad * tf.math.conj(op.outputs[0]))[..., None, None]
        return factor * tf.linalg.inv(op.inputs[0], adjoint=True)
