"""keras.ops, on the backend under test: which functions are asked, and why the rest is not."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from . import verbs
from .makers import Table

TABLE = Table(ops=ops)
each, without = TABLE.each, TABLE.without


def const(like: Any, *shape: int, low: float = -1.0, high: float = 1.2) -> Any:
    """Fixed numbers, such as the weights of a layer."""
    return verbs.like(
        np.random.default_rng(5).permutation(np.linspace(low, high, int(np.prod(shape)))).reshape(shape), like
    )


def spd(x: Any) -> Any:
    """A symmetric positive definite matrix per sample, from any square one."""
    return x @ ops.swapaxes(x, -1, -2) + verbs.like(np.diag(0.7 + 0.6 * np.arange(x.shape[-1])), x)


def well(x: Any) -> Any:
    """A matrix that can be inverted, and is not symmetric."""
    return x / 2 + verbs.like(np.diag(1.4 + 0.5 * np.arange(x.shape[-1])), x)


def singly(f: Any, *x: Any) -> Any:
    """Functions without an axis for samples."""
    if len(x) == 1:
        return ops.vectorized_map(f, x[0])
    return ops.vectorized_map(lambda row: f(*row), x)


def parts(pair: Any) -> Any:
    return ops.concatenate(pair, -1)


each(
    "ops.abs ops.absolute ops.arctan ops.arcsinh ops.ceil ops.conj ops.conjugate ops.copy ops.cos "
    "ops.cosh ops.deg2rad ops.erf ops.erfc ops.exp ops.exp2 ops.expm1 ops.fabs ops.floor "
    "ops.i0 ops.nan_to_num ops.negative ops.rad2deg ops.real ops.round ops.sign ops.sin ops.sinc "
    "ops.sinh ops.square ops.tan ops.tanh ops.trunc ops.celu ops.elu ops.gelu ops.hard_shrink "
    "ops.hard_sigmoid ops.hard_silu "
    "ops.hard_swish ops.hard_tanh ops.leaky_relu ops.log_sigmoid ops.relu ops.relu6 ops.selu "
    "ops.sigmoid ops.silu ops.soft_shrink ops.softplus ops.softsign ops.sparse_plus ops.sparse_sigmoid "
    "ops.squareplus ops.swish "
    "ops.tanh_shrink ops.array ops.convert_to_tensor ops.cbrt"
)
each("ops.log ops.log10 ops.log1p ops.log2 ops.sqrt ops.rsqrt ops.reciprocal", domain="positive")
each("ops.arccos ops.arcsin ops.arctanh ops.erfinv", domain="unit")
each("ops.arccosh", domain="above")
each("ops.clip", lambda f, x: f(x, -0.5, 0.7))
each("ops.cast ops.saturate_cast", lambda f, x: f(x, keras.backend.standardize_dtype(x.dtype)))
each("ops.view", lambda f, x: f(x, keras.backend.standardize_dtype(x.dtype)))
each("ops.threshold", lambda f, x: f(x, 0.33, 0.2))
each("ops.ldexp", lambda f, x: f(x, 2))
each("ops.power:2", lambda f, x: f(x, 2))
each("ops.power:3", lambda f, x: f(x, 3.0))
each(
    "ops.add ops.subtract ops.multiply ops.maximum ops.minimum ops.fmax ops.fmin ops.logaddexp "
    "ops.logaddexp2 ops.hypot ops.arctan2",
    shapes="f f",
)
each("ops.heaviside", lambda f, a, b: f(a, b) * a, "f f")
each("ops.nextafter", lambda f, a: f(a, a + 1) + a)
each("ops.divide ops.true_divide ops.fmod ops.mod ops.divide_no_nan", shapes="f f", domain="real positive")
each("ops.floor_divide", lambda f, a, b: a * f(a, b), "f f", "real positive")
each("ops.power", shapes="f f", domain="positive real")
each("ops.where", lambda f, a, b: f(a > b, a * a, b), "f f")
each("ops.select", lambda f, a: f([a > 0.3, a > -0.4], [a * a, a], 0.5))
each(
    "ops.sum ops.mean ops.prod ops.max ops.min ops.amax ops.amin ops.std ops.var ops.nansum ops.nanmean "
    "ops.nanprod ops.nanmax ops.nanmin ops.nanstd ops.nanvar ops.cumsum ops.cumprod ops.nancumsum "
    "ops.nancumprod ops.median ops.nanmedian "
    "ops.ptp ops.average ops.sort ops.logsumexp ops.softmax ops.log_softmax ops.sparsemax "
    "ops.expand_dims ops.normalize ops.norm",
    lambda f, x: f(x, axis=1),
    "3f",
)
each("ops.sum:all ops.prod:all ops.max:all ops.std:all ops.var:all ops.norm:all", lambda f, x: f(x, axis=(1, 2)), "2f")
each("ops.norm:square", lambda f, x: f(x, axis=1) ** 2, "3")
each("ops.norm:1", lambda f, x: f(x, 1, axis=1), "3")
each("ops.quantile ops.nanquantile", lambda f, x: f(x, 0.3, axis=1), "4")
each("ops.percentile ops.nanpercentile", lambda f, x: f(x, 30.0, axis=1), "4")
each("ops.moments", lambda f, x: parts(f(x, axes=[1], keepdims=True)), "34")
each("ops.glu", shapes="h4")
each("ops.diff", lambda f, x: f(x, axis=1), "4f")
each("ops.trapezoid", lambda f, x: f(x, axis=1), "4")
each("ops.top_k", lambda f, x: f(x, 2)[0], "4")
each("ops.polar", lambda f, a, b: ops.real(f(a, b) ** 2), "f f", "positive real")
each("ops.angle ops.imag", lambda f, a, b: f(ops.view_as_complex(ops.stack([a, b], -1))), "f f", "positive")
each("ops.view_as_real ops.view_as_complex", lambda f, x: ops.view_as_real(ops.view_as_complex(x) ** 2), "f2")

each("ops.reshape", lambda f, x: f(x, (-1, x.shape[1] * x.shape[2])), "hf")
each("ops.ravel", lambda f, x: ops.reshape(f(x), (-1, x.shape[1])))
each("ops.swapaxes ops.moveaxis", lambda f, x: f(x, 2, 1), "hf")
each("ops.transpose", lambda f, x: f(x, (0, 2, 1)), "hf")
each("ops.rearrange", lambda f, x: f(x, "n h f -> n f h"), "hf")
each("ops.flip", lambda f, x: f(x, 1), "hf")
each("ops.fliplr", shapes="hf")
each("ops.flipud", lambda f, x: ops.transpose(f(ops.transpose(x))), "4")
each("ops.rot90", lambda f, x: f(x, 1, (1, 2)), "hf")
each("ops.roll", lambda f, x: f(x, 1, 1), "3f")
each("ops.concatenate ops.stack", lambda f, a, b: f([a, b, a], axis=1), "f f")
each("ops.hstack ops.dstack", lambda f, a, b: f([a, b]), "hf hf")
each("ops.vstack", lambda f, a, b: ops.transpose(f([ops.transpose(a), ops.transpose(b)])), "f f")
each("ops.append", lambda f, a, b: f(a, b, axis=1), "f f")
each("ops.tile", lambda f, x: f(x, (1, 2)))
each("ops.repeat", lambda f, x: f(x, 2, axis=1))
each("ops.split ops.array_split", lambda f, x: f(x, 2, axis=1)[0], "4f")
each("ops.hsplit", lambda f, x: f(x, 2)[1], "4f")
each("ops.vsplit", lambda f, x: ops.transpose(f(ops.transpose(x), 2)[1]), "4")
each("ops.dsplit", lambda f, x: f(x, 2)[1], "h4")
each("ops.unstack", lambda f, x: f(x, axis=1)[0], "3f")
each("ops.squeeze", lambda f, x: f(x, 1), "1f")
each("ops.broadcast_to", lambda f, x: f(x[:, None], (*ops.shape(x)[:1], 2, x.shape[1])))
each("ops.take", lambda f, x: f(x, [2, 0, 2], axis=1), "4f")
each("ops.take_along_axis", lambda f, x: f(x, ops.argsort(x, axis=1)[:, :2], axis=1), "4")
each("ops.get_item", lambda f, x: f(x, (slice(None), slice(1, 3))), "4")
each("ops.slice", lambda f, x: f(x, (0, 1), (ops.shape(x)[0], 2)), "4")
each("ops.slice_update", lambda f, x, b: f(x, (0, 1), b), "4 2")
each("ops.scatter", lambda f, b: ops.transpose(f(np.array([[2], [0]]), ops.transpose(b), (4, ops.shape(b)[0]))), "2")
each("ops.scatter_update", lambda f, a, b: ops.transpose(f(ops.transpose(a), [[2], [0]], ops.transpose(b))), "4 2")
each("ops.pad", lambda f, x: f(x, ((0, 0), (1, 2))), "3")
for how in ("reflect", "symmetric"):
    each(f"ops.pad:{how}", lambda f, x, how=how: f(x, ((0, 0), (1, 2)), how), "3")
each(
    "ops.segment_sum ops.segment_max ops.segment_min ops.segment_prod",
    lambda f, x: ops.transpose(f(ops.transpose(x), ops.convert_to_tensor([0, 0, 1]), 2)),
    "3",
)
each("ops.diagonal ops.trace", lambda f, x: f(x, axis1=1, axis2=2), "33")
each("ops.tril ops.triu", shapes="33")
each("ops.diag ops.diagflat ops.vander", lambda f, x: singly(f, x), "3")
each("ops.kron ops.outer ops.inner ops.vdot ops.dot ops.correlate", lambda f, a, b: singly(f, a, b), "3 3")
each("ops.meshgrid", lambda f, a, b: singly(lambda p, q: ops.stack(f(p, q)), a, b), "2 2")
each("ops.corrcoef", lambda f, x: singly(f, x), "23")
each("ops.unfold", lambda f, x: f(x, 2), "133")
each("ops.fold", lambda f, x: f(x, (3, 3), 2), "44")
each("ops.extract_sequences", lambda f, x: f(x, 2, 1), "4")
each("ops.depth_to_space", lambda f, x: f(x, 2), "224")
each("ops.space_to_depth", lambda f, x: f(x, 2), "221")

each("ops.matmul", shapes="hk kf")
each("ops.einsum", lambda f, a, b: f("nij,njk->nki", a, b), "hk kf")
each("ops.tensordot", lambda f, a: f(a, const(a, 3, 2), 1), "h3")
each("ops.cross", shapes="3 3")
each("ops.cdist", shapes="2f 3f")
each("ops.det ops.inv ops.pinv", lambda f, x: f(well(x)), "22")
each("ops.slogdet", lambda f, x: f(well(x))[1], "22")
each("ops.logdet", lambda f, x: f(spd(x)), "22")
each("ops.cholesky", lambda f, x: f(spd(x)), "22")
each("ops.cholesky_inverse", lambda f, x: f(ops.cholesky(spd(x))), "22")
each("ops.eigh", lambda f, x: f(spd(x))[0], "22")
each("ops.svd", lambda f, x: f(well(x))[1], "22")
each("ops.qr", lambda f, x: parts(f(well(x))), "22")
each("ops.lu_factor", lambda f, x: f(well(x))[0], "22")
each("ops.solve ops.solve_triangular", lambda f, x, b: f(well(x), b), "22 21")
each("ops.lstsq", lambda f, x, b: singly(lambda p, q: f(well(p), q[:, None])[:, 0], x, b), "22 2")
each("ops.eig", lambda f, x: ops.sum(ops.real(f(well(x))[0] ** 2), 1), "22")

each("ops.rfft", lambda f, x: parts(f(x)), "4")
each("ops.irfft", lambda f, x: f(ops.rfft(x)), "4")
each("ops.fft", lambda f, a, b: parts(f((a, b))), "4 4")
each("ops.fft2 ops.ifft2", lambda f, a, b: parts(f((a, b))), "22 22")
each("ops.stft", lambda f, x: parts(f(x, 4, 2, 4)), "8")
each("ops.istft", lambda f, x: f(ops.stft(x, 4, 2, 4), 4, 2, 4), "8")
each("ops.conv", lambda f, x: f(x, const(x, 2, 2, 2), 1, "same"), "42")
each("ops.conv_transpose", lambda f, x: f(x, const(x, 2, 3, 2), 2, "same"), "32")
each("ops.depthwise_conv", lambda f, x: f(x, const(x, 2, 2, 2, 1), 1, "same"), "332")
each("ops.separable_conv", lambda f, x: f(x, const(x, 2, 2, 2, 1), const(x, 1, 1, 2, 2), 1, "same"), "332")
for padding in ("valid", "same"):
    each(f"ops.max_pool:{padding} ops.average_pool:{padding}", lambda f, x, p=padding: f(x, 2, 1, p), "332")
each("ops.adaptive_average_pool ops.adaptive_max_pool", lambda f, x: f(x, 2), "332")
each("ops.batch_normalization", lambda f, x: f(x, const(x, 3), const(x, 3, low=0.5, high=2.0), -1), "h3")
each("ops.layer_normalization ops.rms_normalization", shapes="h3")
each("ops.dot_product_attention", lambda f, a, b, c: f(a[:, :, None], b[:, :, None], c[:, :, None]), "2f 3f 3f")
each("ops.binary_crossentropy", lambda f, a, b: f(b, a), "f f", "share")
each("ops.binary_crossentropy:logits", lambda f, a, b: f(b, a, from_logits=True), "f f", "real share")
each("ops.categorical_crossentropy", lambda f, a: f(0 * a + verbs.like([0.2, 0.5, 0.3], a), a, from_logits=True), "3")
each("ops.sparse_categorical_crossentropy", lambda f, a: f(ops.cast(0 * a[:, 0], "int32"), a, from_logits=True), "3")
each(
    "ops.ctc_loss",
    lambda f, a: f(
        ops.cast(0 * a[:, :1, 0] + 1, "int32"),
        a,
        ops.cast(0 * a[:, 0, 0] + 1, "int32"),
        ops.cast(0 * a[:, 0, 0] + 4, "int32"),
    ),
    "43",
)
each("ops.vectorized_map ops.map", lambda f, x: f(lambda a: a * ops.sum(a), x), "3")
each("ops.vectorize", lambda f, x: f(lambda a: a * ops.sum(a), signature="(f)->(f)")(x), "3")
each(
    "ops.scan",
    lambda f, x: ops.transpose(f(lambda c, b: (ops.sin(c) * b, c + b), ops.transpose(x)[0], ops.transpose(x))[1]),
    "3",
)
each("ops.associative_scan", lambda f, x: f(lambda a, b: a * b, x, axis=1), "4")
each("ops.fori_loop", lambda f, x: f(0, 3, lambda i, c: c * ops.sin(c), x))
each(
    "ops.while_loop",
    lambda f, x: f(lambda i, c: i < 3, lambda i, c: (i + 1, c * ops.sin(c)), (0, x), maximum_iterations=3)[1],
)
each("ops.cond", lambda f, x: f(ops.convert_to_tensor(True), lambda: ops.sin(x), lambda: x * x), "3")
each("ops.switch", lambda f, x: f(1, [ops.sin, ops.square], x))

without(
    "creates an array",
    "ops.arange ops.bartlett ops.blackman ops.empty ops.empty_like ops.eye ops.full ops.full_like "
    "ops.geomspace ops.hamming ops.hanning ops.identity ops.kaiser ops.linspace ops.logspace ops.ones "
    "ops.ones_like ops.tri ops.zeros ops.zeros_like",
)
without(
    "an integer, a boolean or an object comes out",
    "ops.all ops.allclose ops.any ops.argmax ops.argmin ops.argpartition ops.argsort ops.bincount "
    "ops.bitwise_* ops.convert_to_numpy ops.count_nonzero ops.ctc_decode ops.digitize ops.dtype "
    "ops.equal ops.gcd ops.greater* ops.histogram ops.in_top_k ops.is* ops.lcm ops.left_shift ops.less* "
    "ops.logical_* ops.matrix_rank ops.multi_hot ops.nanargmax ops.nanargmin ops.ndim ops.nonzero "
    "ops.not_equal ops.one_hot ops.right_shift ops.searchsorted ops.shape ops.signbit ops.size "
    "ops.unique ops.unravel_index",
)
without("its rule is not the derivative on purpose: `wrt.check` says so", "ops.stop_gradient ops.custom_gradient")
without("one number for all samples", "ops.psnr")
without("a derivative itself", "ops.jvp")
