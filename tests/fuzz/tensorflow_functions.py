"""tf, tf.math, tf.nn, tf.special, tf.signal, tf.image: which functions are asked, and with what arguments."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from .makers import Table

TABLE = Table(
    tf=tf, math=tf.math, linalg=tf.linalg, nn=tf.nn, special=tf.math.special, signal=tf.signal, image=tf.image
)
each = TABLE.each


def const(like: Any, *shape: int, low: float = -1.0, high: float = 1.2) -> Any:
    """Fixed numbers, such as the weights of a layer."""
    values = np.random.default_rng(5).permutation(np.linspace(low, high, int(np.prod(shape)))).reshape(shape)
    return tf.constant(values, like.dtype)


def spd(x: Any) -> Any:
    """A symmetric positive definite matrix per sample, from any square one."""
    return tf.matmul(x, x, transpose_b=True) + tf.linalg.diag(tf.constant(0.7 + 0.6 * np.arange(x.shape[-1]), x.dtype))


def well(x: Any) -> Any:
    """A matrix that can be inverted, and is not symmetric."""
    return x / 2 + tf.linalg.diag(tf.constant(1.4 + 0.5 * np.arange(x.shape[-1]), x.dtype))


def swapped(f: Any, x: Any) -> Any:
    """Functions of axis 0, with samples last meanwhile."""
    return tf.transpose(f(tf.transpose(x)))


def parts(y: Any) -> Any:
    """Real and imaginary part beside each other."""
    return tf.concat([tf.math.real(y), tf.math.imag(y)], -1) if y.dtype.is_complex else y


# entry by entry; a name of `tf.math` that `tf` exports too stands once
REAL = (
    "math.abs math.asinh math.atan math.ceil math.conj math.cos math.cosh math.erf math.erfc math.exp "
    "math.expm1 math.floor math.negative math.real "
    "math.rint math.round math.sigmoid math.sign math.sin math.sinh math.softplus math.softsign "
    "math.square math.tan math.tanh math.log_sigmoid "
    "math.bessel_i0 math.bessel_i0e math.bessel_i1 math.bessel_i1e nn.elu nn.gelu nn.leaky_relu nn.relu "
    "nn.relu6 nn.selu nn.silu nn.swish nn.crelu "
    "tf.identity tf.convert_to_tensor tf.guarantee_const special.dawsn special.fresnel_cos special.fresnel_sin"
)
each(REAL)
each(
    "math.log math.log1p math.sqrt math.rsqrt math.reciprocal math.lgamma math.digamma "
    "special.bessel_j0 special.bessel_j1 special.bessel_y0 special.bessel_y1 "
    "special.bessel_k0 special.bessel_k0e special.bessel_k1 special.bessel_k1e special.expint "
    "special.spence math.reciprocal_no_nan",
    domain="positive",
)
each("math.acos math.asin math.atanh math.erfinv", domain="unit")
each("math.acosh", domain="above")
each("math.erfcinv math.ndtri", domain="share")
each("math.polygamma", lambda f, x: f(tf.ones_like(x), x), domain="positive")
each("math.zeta", lambda f, x: f(2.5 * tf.ones_like(x), x), domain="positive")
each("math.igamma math.igammac", lambda f, x: f(1.7 * tf.ones_like(x), x), domain="positive")
each("math.igamma:both math.igammac:both", shapes="f f", domain="positive")
each("math.betainc", lambda f, x: f(1.3 * tf.ones_like(x), 2.1 * tf.ones_like(x), x), domain="share")
each("math.lbeta", shapes="f", domain="positive", call=lambda f, x: f(x) + x[:, 0])
each("math.nextafter", lambda f, x: f(x, x + 1) + x)
each("math.imag math.angle", lambda f, a, b: f(tf.complex(a, b)), "f f", "positive")
each("tf.complex", lambda f, a, b: parts(f(a, b) ** 2), "f f")
each("tf.clip_by_value", lambda f, x: f(x, -0.5, 0.7))
each("tf.clip_by_norm", lambda f, x: f(x, 0.8, axes=[1]), "3")
each("tf.cast tf.saturate_cast", lambda f, x: f(x, x.dtype))
each("tf.bitcast", lambda f, x: f(x, x.dtype))
each("tf.ensure_shape", lambda f, x: f(x, [None, 3]), "3")
each("tf.identity_n", lambda f, x: f([x, x])[1])

# two arguments, entry by entry
each(
    "math.add math.subtract math.multiply math.maximum math.minimum math.squared_difference math.atan2 "
    "math.multiply_no_nan",
    shapes="f f",
)
each(
    "math.divide math.truediv math.floormod math.mod math.divide_no_nan math.xdivy math.xlogy "
    "math.xlog1py tf.realdiv tf.truncatemod",
    shapes="f f",
    domain="real positive",
)
each("math.floordiv", lambda f, a, b: a * f(a, b), "f f", "real positive")
each("math.pow", shapes="f f", domain="positive real")
each("math.pow:2", lambda f, x: f(x, 2.0))
each("math.pow:3", lambda f, x: f(x, 3.0))
each("math.scalar_mul", lambda f, x: f(0.7, x))
each("math.add_n math.accumulate_n", lambda f, a, b: f([a, b * b]), "f f")
each("math.polyval", lambda f, x: f([tf.constant(c, x.dtype) for c in (0.3, -0.5, 1.0)], x))
each("tf.where", lambda f, a, b: f(a > b, a * a, b), "f f")
each("tf.where:safe", lambda f, a: f(a > 0, tf.sqrt(tf.where(a > 0, a, 1.0)), a))

# along axes
AXIS = (
    "math.cumsum math.cumprod math.cumulative_logsumexp math.reduce_sum math.reduce_mean "
    "math.reduce_prod math.reduce_max math.reduce_min math.reduce_std math.reduce_variance "
    "math.reduce_logsumexp math.reduce_euclidean_norm math.softmax math.log_softmax math.l2_normalize "
    "tf.sort tf.expand_dims"
)
each(AXIS, lambda f, x: f(x, axis=1), "3f")
each(
    "math.reduce_prod:all math.reduce_sum:all math.reduce_max:all math.reduce_variance:all "
    "math.reduce_euclidean_norm:all",
    lambda f, x: f(x, axis=[1, 2]),
    "2f",
)
each(
    "math.cumprod:other math.cumsum:other math.cumulative_logsumexp:other",
    lambda f, x: f(x, axis=1, exclusive=True, reverse=True),
    "4",
)
each("math.cumprod:exclusive", lambda f, x: f(x, axis=1, exclusive=True), "4")
each("math.reduce_euclidean_norm:square linalg.norm:square", lambda f, x: f(x, axis=1) ** 2, "3")
each("math.top_k", lambda f, x: f(x, 2)[0], "4")
each("nn.moments", lambda f, x: tf.concat(f(x, [1], keepdims=True), 1), "3f")
each("nn.weighted_moments", lambda f, x, w: tf.concat(f(x, [1], w, keepdims=True), 1), "3 3", "real positive")
each("nn.sufficient_statistics", lambda f, x: tf.concat(f(x, [1], keepdims=True)[1:3], 1), "3")
each(
    "nn.normalize_moments",
    lambda f, a, b: tf.concat(f(tf.constant(3.0, a.dtype), a, a * a + b, None), 1),
    "3 3",
    "positive",
)
each("nn.l2_loss", lambda f, x: tf.map_fn(f, x), "3")
each(
    "math.segment_sum math.segment_mean math.segment_prod math.segment_min math.segment_max",
    lambda f, x: tf.reshape(swapped(lambda a: f(a, tf.constant([0, 0, 1])), x), [-1, 2]),
    "3",
)
each(
    "math.unsorted_segment_sum math.unsorted_segment_mean math.unsorted_segment_prod "
    "math.unsorted_segment_min math.unsorted_segment_max math.unsorted_segment_sqrt_n",
    lambda f, x: swapped(lambda a: f(a, tf.constant([1, 0, 1]), 2), x),
    "3",
)

# shapes
each("tf.reshape", lambda f, x: f(x, [-1, x.shape[1] * x.shape[2]]), "hf")
each("tf.transpose", lambda f, x: f(x, [0, 2, 1]), "hf")
each("tf.reverse", lambda f, x: f(x, [1]), "hf")
each("tf.roll", lambda f, x: f(x, 1, 1), "3f")
each("tf.concat tf.stack", lambda f, a, b: f([a, b, a], 1), "f f")
each("tf.tile", lambda f, x: f(x, [1, 2]))
each("tf.repeat", lambda f, x: f(x, 2, axis=1))
each("tf.split", lambda f, x: f(x, 2, 1)[0], "4f")
each("tf.split:sizes", lambda f, x: f(x, [1, 3], 1)[1], "4f")
each("tf.unstack", lambda f, x: f(x, axis=1)[0], "3f")
each("tf.squeeze", lambda f, x: f(x, 1), "1f")
each("tf.slice", lambda f, x: f(x, [0, 1], [-1, 2]), "4")
each("tf.strided_slice", lambda f, x: f(x, [0, 0], tf.shape(x), [1, 2]), "4")
each("tf.gather", lambda f, x: f(x, [2, 0, 2], axis=1), "4f")
each("tf.gather:batch", lambda f, x: f(x, tf.argsort(x, 1), axis=1, batch_dims=1), "4")
each("tf.gather_nd", lambda f, x: swapped(lambda a: f(a, [[2], [0]]), x), "4")
each("tf.boolean_mask", lambda f, x: tf.reshape(f(x, [True, False, True], axis=1), [-1, 2]), "3")
each("tf.broadcast_to", lambda f, x: f(x[:, None], [tf.shape(x)[0], 2, x.shape[1]]))
each("tf.pad", lambda f, x: f(x, [[0, 0], [1, 2]]), "3")
for how in ("REFLECT", "SYMMETRIC"):
    each(f"tf.pad:{how}", lambda f, x, how=how: f(x, [[0, 0], [1, 2]], how), "3")
each(
    "tf.meshgrid",
    lambda f, a, b: tf.map_fn(lambda t: tf.stack(f(t[0], t[1])), (a, b), fn_output_signature=a.dtype),
    "2 2",
)
for kind in ("add", "sub", "update", "min", "max"):
    each(
        f"tf.tensor_scatter_nd_{kind}",
        lambda f, a, b: tf.transpose(f(tf.transpose(a), [[2], [0]], tf.transpose(b))),
        "4 2",
    )
each("tf.scatter_nd", lambda f, b: tf.transpose(f([[2], [0]], tf.transpose(b), [4, tf.shape(b)[0]])), "2")
each("tf.dynamic_stitch", lambda f, a, b: tf.transpose(f([[0, 2], [1]], [tf.transpose(a), tf.transpose(b)])), "2 1")
each("tf.dynamic_partition", lambda f, a: tf.reshape(tf.transpose(f(tf.transpose(a), [0, 1, 0], 2)[0]), [-1, 2]), "3")
each("tf.reverse_sequence", lambda f, x: f(x, tf.ones_like(x[:, 0, 0], tf.int32) * 2, seq_axis=1), "3f")
each("tf.map_fn tf.vectorized_map", lambda f, x: f(lambda a: a * tf.reduce_sum(a), x), "3")
each(
    "tf.scan tf.foldl tf.foldr",
    lambda f, x: swapped(
        lambda a: f(lambda c, b: tf.sin(c) * b + c, a) if f is tf.scan else f(lambda c, b: tf.sin(c) * b + c, a)[None],
        x,
    ),
    "3",
)
each(
    "tf.while_loop",
    lambda f, x: f(lambda i, c: i < 3, lambda i, c: (i + 1, c * tf.sin(c)), (0, x), maximum_iterations=3)[1],
)
each("tf.cond", lambda f, x: tf.map_fn(lambda a: f(a[0] > 0.2, lambda: tf.sin(a), lambda: a * a), x), "3")
each("tf.switch_case", lambda f, x: f(tf.constant(1), [lambda: tf.sin(x), lambda: x * x]))
each("tf.case", lambda f, x: f([(tf.constant(True), lambda: tf.sin(x))], default=lambda: x))
each("tf.recompute_grad", lambda f, x: f(lambda a: tf.sin(a) * a)(x))

# signals and images
each("signal.fft signal.ifft", lambda f, x: parts(f(tf.complex(x, 0 * x))), "4")
each("signal.fft2d signal.ifft2d", lambda f, x: parts(f(tf.complex(x, 0 * x))), "22")
each("signal.fft3d signal.ifft3d", lambda f, x: parts(f(tf.complex(x, 0 * x))), "222")
each("signal.rfft", lambda f, x: parts(f(x)), "4")
each("signal.rfft2d", lambda f, x: parts(f(x)), "24")
each("signal.rfft3d", lambda f, x: parts(f(x)), "224")
each("signal.irfft", lambda f, x: f(tf.signal.rfft(x) ** 2), "4")
each("signal.irfft2d", lambda f, x: f(tf.signal.rfft2d(x) ** 2), "24")
each("signal.irfft3d", lambda f, x: f(tf.signal.rfft3d(x) ** 2), "224")
each("signal.fftshift signal.ifftshift", lambda f, x: f(x, axes=1), "4")
each("signal.dct signal.idct", shapes="4")
each("signal.frame", lambda f, x: f(x, 2, 1), "4")
each("signal.overlap_and_add", lambda f, x: f(x, 1), "32")
each("signal.stft", lambda f, x: parts(f(x, 4, 2, 4)), "8")
each("signal.inverse_stft", lambda f, x: f(tf.signal.stft(x, 4, 2, 4) ** 2, 4, 2, 4), "8")
each("signal.mdct", lambda f, x: f(x, 4), "8")
each("signal.inverse_mdct", shapes="34")
each("signal.mfccs_from_log_mel_spectrograms", shapes="4")
each(
    "image.adjust_brightness image.adjust_contrast image.adjust_saturation image.adjust_hue",
    lambda f, x: f(x, 0.3),
    "223",
    "share",
)
each("image.adjust_gamma", lambda f, x: f(x, 1.7), "223", "share")
each("image.central_crop", lambda f, x: f(x, 0.5), "441")
each("image.crop_to_bounding_box", lambda f, x: f(x, 1, 0, 2, 2), "331")
each("image.pad_to_bounding_box", lambda f, x: f(x, 1, 0, 4, 4), "221")
each(
    "image.crop_and_resize",
    lambda f, x: f(
        x,
        tf.ones_like(x[:, 0, 0, :1], tf.float32) * tf.constant([[0.1, 0.2, 0.8, 0.9]]),
        tf.range(tf.shape(x)[0]),
        [2, 2],
    ),
    "331",
)
each("image.extract_patches", lambda f, x: f(x, [1, 2, 2, 1], [1, 1, 1, 1], [1, 1, 1, 1], "VALID"), "331")
each("tf.extract_volume_patches", lambda f, x: f(x, [1, 2, 2, 2, 1], [1, 1, 1, 1, 1], "VALID"), "2321")
each(
    "image.extract_glimpse",
    lambda f, x: f(tf.cast(x, tf.float32), [2, 2], tf.zeros([tf.shape(x)[0], 2]), noise="zero"),
    "331",
)
each("image.flip_left_right image.flip_up_down image.rot90 image.transpose image.sobel_edges", shapes="331")
each("image.grayscale_to_rgb", shapes="221")
each(
    "image.rgb_to_grayscale image.rgb_to_hsv image.rgb_to_yiq image.rgb_to_yuv image.hsv_to_rgb "
    "image.yiq_to_rgb image.yuv_to_rgb",
    shapes="223",
    domain="share",
)
each("image.image_gradients", lambda f, x: tf.concat(f(x), 3), "331")
each("image.per_image_standardization", shapes="331")
for how in ("bilinear", "nearest", "bicubic", "area", "lanczos3", "gaussian", "mitchellcubic"):
    each(f"image.resize:{how}", lambda f, x, how=how: f(x, [3, 4], how), "331")
each("image.resize:antialias", lambda f, x: f(x, [2, 2], antialias=True), "331")
each("image.resize_with_crop_or_pad image.resize_with_pad", lambda f, x: f(x, 2, 4), "331")
each("image.psnr", lambda f, a, b: f(a, b, 1.0), "331 331", "share")
each("image.ssim", lambda f, a, b: f(a, b, 1.0, filter_size=3), "441 441", "share")
each("image.total_variation", shapes="331")
