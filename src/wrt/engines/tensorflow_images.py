"""Pooling, resizing and moments: second derivatives that TensorFlow leaves out or gets wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import tensorflow as tf

from wrt.engines.base import Array
from wrt.engines.tensorflow_repairs import own, repaired, repairs

repairs("MaxPool", "MaxPool3D")(own)
repairs("ResizeBilinear", "ResizeBicubic", "ResizeNearestNeighbor", "CropAndResize")(own)


@repairs("StopGradient")
def _moments(op: tf.Operation, grad: Array) -> Array | None:
    """`tf.nn.moments` detaches the mean inside the variance: right to first order only, where its share is zero."""
    mean, users = op.inputs[0].op, op.outputs[0].consumers()
    inside = mean.type == "Mean" and all(u.type == "SquaredDifference" and u.inputs[0] is mean.inputs[0] for u in users)
    return grad if inside else None


@repairs("MaxPoolGrad", "MaxPool3DGrad")
def _pooling(op: tf.Operation, grad: Array) -> tuple[None, None, Array]:
    """MaxPoolGradGrad writes into the buffer of its argument where both have one size, and reads zeros from it.

    On an input that is padded first the sizes differ, and nothing is shared.
    """
    window, strides, padding = (op.get_attr(name) for name in ("ksize", "strides", "padding"))
    x, y, _ = op.inputs
    if max(window) == 1:
        return None, None, tf.strided_slice(grad, [0] * len(window), tf.shape(grad), strides)
    if padding != b"VALID":
        given = op.get_attr("explicit_paddings") if padding == b"EXPLICIT" else None
        pads = tf.reshape(given, [-1, 2]) if given else _same_padding(tf.shape(x), window, strides)
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


@repairs("ResizeBilinearGrad")
def _bilinear(op: tf.Operation, grad: Array) -> tuple[Array, None]:
    return _resized(tf.raw_ops.ResizeBilinear, op, grad, tf.shape(op.inputs[0])[1:3]), None


@repairs("ResizeBicubicGrad")
def _bicubic(op: tf.Operation, grad: Array) -> tuple[Array, None]:
    return _resized(tf.raw_ops.ResizeBicubic, op, grad, tf.shape(op.inputs[0])[1:3]), None


@repairs("ResizeNearestNeighborGrad")
def _nearest(op: tf.Operation, grad: Array) -> tuple[Array, None]:
    return _resized(tf.raw_ops.ResizeNearestNeighbor, op, grad, tf.shape(op.inputs[0])[1:3]), None


def _resized(resize: Callable[..., Array], op: tf.Operation, grad: Array, size: Array) -> Array:
    flags = {name: op.get_attr(name) for name in ("align_corners", "half_pixel_centers")}
    return tf.cast(resize(images=grad, size=size, **flags), op.inputs[0].dtype)


@repairs("ScaleAndTranslate", always=True)
def _scale(op: tf.Operation, grad: Array) -> tuple[Array, None, None, None]:
    """TensorFlow's own wants float32 images."""
    flags = {name: op.get_attr(name) for name in ("kernel_type", "antialias")}
    image, _, scale, translation = op.inputs
    again = tf.raw_ops.ScaleAndTranslateGrad
    like = tf.cast(image, grad.dtype)
    with repaired():
        share = again(grads=grad, original_image=like, scale=scale, translation=translation, **flags)
    return tf.cast(share, image.dtype), None, None, None


@repairs("ScaleAndTranslateGrad")
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


@repairs("CropAndResizeGradImage")
def _crop(op: tf.Operation, grad: Array) -> tuple[Array, Array, None, None]:
    crops, boxes, box, _ = op.inputs
    method, size = op.get_attr("method"), tf.shape(crops)[1:3]
    again = tf.raw_ops.CropAndResize(image=grad, boxes=boxes, box_ind=box, crop_size=size, method=method)
    return again, tf.raw_ops.CropAndResizeGradBoxes(grads=crops, image=grad, boxes=boxes, box_ind=box), None, None


@repairs("MaxPoolWithArgmax")
def _pooling_with_places(op: tf.Operation, grad: Array, *_: Array) -> Array:
    """Every cotangent goes to where the maximum was."""
    x, places = op.inputs[0], op.outputs[1]
    samples = tf.cast(tf.shape(x)[0], places.dtype)
    size = tf.cast(tf.size(x), places.dtype) // samples
    if not op.get_attr("include_batch_in_index"):
        places += tf.reshape(tf.range(samples) * size, [-1, 1, 1, 1])
    flat = tf.scatter_nd(tf.reshape(places, [-1, 1]), tf.reshape(grad, [-1]), [samples * size])
    return tf.reshape(flat, tf.shape(x))


@repairs("LRN")
def _local_response(op: tf.Operation, grad: Array) -> Array:
    """Of x s^-beta with s = bias + alpha (sum of squares of the channels around)."""
    x, alpha, beta = op.inputs[0], op.get_attr("alpha"), op.get_attr("beta")
    radius, ones = op.get_attr("depth_radius"), tf.ones(2 * [tf.shape(x)[-1]], x.dtype)
    around = tf.linalg.band_part(ones, radius, radius)
    s = op.get_attr("bias") + alpha * tf.tensordot(x * x, around, 1)
    return grad * s**-beta - 2 * alpha * beta * x * tf.tensordot(grad * x * s ** (-beta - 1), around, 1)


@repairs("HSVToRGB", always=True)
def _hsv_to_rgb(op: tf.Operation, grad: Array) -> Array:
    """TensorFlow has none; this is its formula again."""
    hsv = tf.identity(op.inputs[0])
    hue, saturation, value = 6 * hsv[..., :1], hsv[..., 1:2], hsv[..., 2:]
    red, green, blue = abs(hue - 3) - 1, 2 - abs(hue - 2), 2 - abs(hue - 4)
    pure = tf.clip_by_value(tf.concat([red, green, blue], -1), 0, 1)
    return tf.gradients((1 - saturation + saturation * pure) * value, hsv, grad)[0]
