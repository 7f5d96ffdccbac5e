"""Functions of single entries whose derivatives TensorFlow leaves out or gets wrong at special points."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from wrt.engines.base import Array
from wrt.engines.tensorflow_repairs import own, repaired, repairs

repairs("Softsign", "FakeQuantWithMinMaxArgs", "FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxVarsPerChannel")(own)

SERIES = (1 / 2, 3 / 16, 5 / 384, 7 / 18432, 1 / 163840)  # I1'(x) by powers of x squared
NEAR = 0.1  # where they are exact to the last digit


@repairs("SoftsignGrad")
def _softsign(op: tf.Operation, grad: Array) -> tuple[Array, Array]:
    cotangent, x = op.inputs
    slope = 1 / tf.square(1 + tf.abs(x))
    return grad * slope, -2 * grad * cotangent * tf.sign(x) * slope / (1 + tf.abs(x))


@repairs("BesselI1", always=True)
def _bessel_i1(op: tf.Operation, grad: Array) -> Array:
    """I0 - I1 / x, of which TensorFlow makes 1 in place of 1/2 at 0."""
    x = op.inputs[0]
    with repaired():
        near, far = _near_and_far(x)
        return grad * tf.where(abs(x) < NEAR, near, tf.math.bessel_i0(far) - tf.math.bessel_i1(far) / far)


@repairs("BesselJ1")
def _bessel_j1(op: tf.Operation, grad: Array) -> Array:
    """J0 - J1 / x, whose own derivative is NaN at 0."""
    x = op.inputs[0]
    with repaired():
        near, far = _near_and_far(x, -1)
        slope = tf.math.special.bessel_j0(far) - tf.math.special.bessel_j1(far) / far
        return grad * tf.where(abs(x) < NEAR, near, slope)


@repairs("Spence")
def _spence(op: tf.Operation, grad: Array) -> Array:
    """log x / (1 - x), whose own derivative is NaN at 1."""
    t = op.inputs[0] - 1
    with repaired():
        small = abs(t) < NEAR / 10
        zero = tf.zeros_like(t)
        near = _polynomial([-1 / (k + 1) for k in range(10)], -tf.where(small, t, zero))
        far = tf.where(small, zero + 1, t)
        return grad * tf.where(small, near, -tf.math.log1p(far) / far)


@repairs("BesselI1e")
def _bessel_i1e(op: tf.Operation, grad: Array) -> Array:
    """The same, scaled by exp(-|x|)."""
    x = op.inputs[0]
    with repaired():
        near, far = _near_and_far(x)
        slope = tf.math.bessel_i0e(far) - tf.math.bessel_i1e(far) / far
        slope = tf.where(abs(x) < NEAR, tf.exp(-abs(x)) * near, slope)
        return grad * (slope - tf.sign(x) * tf.math.bessel_i1e(x))


def _near_and_far(x: Array, sign: int = 1) -> tuple[Array, Array]:
    """The series of I1' (or J1') where it holds, and x where it does not, with harmless values elsewhere."""
    small = abs(x) < NEAR
    square = sign * tf.where(small, x, tf.zeros_like(x)) ** 2
    return _polynomial(SERIES, square), tf.where(small, tf.ones_like(x), x)


def _polynomial(coefficients: Sequence[float], x: Array) -> Array:
    value = tf.zeros_like(x)
    for coefficient in reversed(coefficients):
        value = value * x + coefficient
    return value


@repairs("Xlogy", always=True)
def _xlogy(op: tf.Operation, grad: Array) -> tuple[Array, Array]:
    """By x it is log y, at x = 0 too, of which TensorFlow makes 0."""
    x, y = op.inputs
    if x.dtype.is_complex:
        return own(op, grad)
    with repaired():
        undefined = (x == 0) & (y <= 0)
        slope = tf.math.log(tf.where(undefined, tf.ones_like(y), y))
        return _as_inputs(op, grad * slope, grad * tf.math.xdivy(x, y))


@repairs("Xlog1py", always=True)
def _xlog1py(op: tf.Operation, grad: Array) -> tuple[Array, Array]:
    x, y = op.inputs
    if x.dtype.is_complex:
        return own(op, grad)
    with repaired():
        undefined = (x == 0) & (y <= -1)
        slope = tf.math.log1p(tf.where(undefined, tf.zeros_like(y), y))
        return _as_inputs(op, grad * slope, grad * tf.math.xdivy(x, y + 1))


@repairs("Xdivy", always=True)
def _xdivy(op: tf.Operation, grad: Array) -> tuple[Array, Array]:
    x, y = op.inputs
    if x.dtype.is_complex:
        return own(op, grad)
    with repaired():
        undefined = (x == 0) & (y == 0)
        slope = tf.where(undefined, tf.zeros_like(x), 1 / tf.where(undefined, tf.ones_like(y), y))
        return _as_inputs(op, grad * slope, grad * tf.math.xdivy(-x, y**2))


def _as_inputs(op: tf.Operation, *shares: Array) -> tuple[Array, Array]:
    """Shares of two inputs that were broadcast, summed to their shapes."""
    shapes = [tf.shape(a) for a in op.inputs]
    sums = [
        tf.reduce_sum(a, axes)
        for a, axes in zip(shares, tf.raw_ops.BroadcastGradientArgs(s0=shapes[0], s1=shapes[1]), strict=True)
    ]
    return tf.reshape(sums[0], shapes[0]), tf.reshape(sums[1], shapes[1])


@repairs("FakeQuantWithMinMaxArgsGradient")
def _fake_quant_args(op: tf.Operation, grad: Array) -> tuple[Array, None]:
    names = ("min", "max", "num_bits", "narrow_range")
    again = tf.raw_ops.FakeQuantWithMinMaxArgsGradient
    return again(gradients=grad, inputs=op.inputs[1], **{name: op.get_attr(name) for name in names}), None


@repairs("FakeQuantWithMinMaxVarsGradient", "FakeQuantWithMinMaxVarsPerChannelGradient")
def _fake_quant_vars(op: tf.Operation, grad: Array, low: Array, high: Array) -> tuple[Array | None, ...]:
    """A cotangent goes on inside the range, to the lower end below it and to the upper end above."""
    _, x, least, most = op.inputs
    flags = {name: op.get_attr(name) for name in ("num_bits", "narrow_range")}
    again = getattr(tf.raw_ops, op.type)
    inside = again(gradients=tf.ones_like(x), inputs=x, min=least, max=most, **flags)[0]
    outside = tf.where(x < (least + most) / 2, low, high)
    return inside * grad + (1 - inside) * outside, None, None, None


@repairs("QuantizeAndDequantizeV4Grad")
def _quantized(op: tf.Operation, grad: Array, *_: Array) -> tuple[Array, None, None, None]:
    again = tf.raw_ops.QuantizeAndDequantizeV4Grad
    _, x, least, most = op.inputs
    return (
        again(gradients=grad, input=x, input_min=least, input_max=most, axis=op.get_attr("axis"))[0],
        None,
        None,
        None,
    )


@repairs("SoftmaxCrossEntropyWithLogits", always=True)
def _cross_entropy(op: tf.Operation, grad: Array, again: Array) -> tuple[Array, Array]:
    """-sum(labels log softmax): TensorFlow takes for granted that labels add up to one."""
    logits, labels = op.inputs
    with repaired():
        grad, logs = grad[:, None], tf.nn.log_softmax(logits)
        p = tf.exp(logs)
        share = grad * (p * tf.reduce_sum(labels, -1, keepdims=True) - labels)
        # the second output, softmax - labels, is for TensorFlow's own derivative
        share += p * (again - tf.reduce_sum(again * p, -1, keepdims=True))
        return _as_inputs(op, share, -grad * logs - again)
