"""jax.numpy, jax.nn, jax.scipy.special, jax.lax: which functions are asked, and with what arguments."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.special  # not imported by jax itself
import numpy as np

from .makers import Table

TABLE = Table(
    jnp=jnp,
    nn=jax.nn,
    linalg=jnp.linalg,
    fft=jnp.fft,
    special=jax.scipy.special,
    lax=jax.lax,
    splinalg=jax.scipy.linalg,
)
each = TABLE.each


def const(like: Any, *shape: int, low: float = -1.0, high: float = 1.2) -> Any:
    """Fixed numbers, such as the weights of a layer."""
    return jnp.asarray(
        np.random.default_rng(5).permutation(np.linspace(low, high, int(np.prod(shape)))).reshape(shape), like.dtype
    )


def flipped(x: Any) -> Any:
    return jnp.swapaxes(x, -1, -2)


def spd(x: Any) -> Any:
    """A symmetric positive definite matrix per sample, from any square one."""
    return x @ flipped(x) + jnp.diag(0.7 + 0.6 * jnp.arange(x.shape[-1])).astype(x.dtype)


def well(x: Any) -> Any:
    """A matrix that can be inverted, and is not symmetric."""
    return x / 2 + jnp.diag(1.4 + 0.5 * jnp.arange(x.shape[-1])).astype(x.dtype)


def singly(f: Any, *x: Any) -> Any:
    """Functions without an axis for samples."""
    return jax.vmap(f)(*x)


def parts(y: Any) -> Any:
    """Real and imaginary part beside each other."""
    return jnp.concatenate([y.real, y.imag], -1) if jnp.iscomplexobj(y) else y


# entry by entry
each(
    "jnp.abs jnp.absolute jnp.arctan jnp.arcsinh jnp.asinh jnp.atan jnp.cbrt jnp.ceil jnp.conj "
    "jnp.conjugate jnp.copy jnp.cos jnp.cosh "
    "jnp.deg2rad jnp.degrees jnp.exp jnp.exp2 jnp.expm1 jnp.fabs jnp.floor jnp.i0 jnp.nan_to_num "
    "jnp.negative jnp.positive "
    "jnp.rad2deg jnp.radians jnp.real jnp.rint jnp.round jnp.around jnp.sign jnp.sin jnp.sinc jnp.sinh "
    "jnp.square jnp.tan jnp.tanh jnp.trunc "
    "jnp.array jnp.asarray jnp.atleast_1d jnp.atleast_2d "
    "nn.celu nn.elu nn.gelu nn.hard_sigmoid nn.hard_silu nn.hard_swish nn.hard_tanh nn.identity "
    "nn.leaky_relu nn.log_sigmoid "
    "nn.mish nn.relu nn.relu6 nn.selu nn.sigmoid nn.silu nn.soft_sign nn.softplus nn.sparse_plus "
    "nn.sparse_sigmoid nn.squareplus nn.swish nn.tanh "
    "special.erf special.erfc special.erfcx special.expit special.i0 special.i0e special.i1 special.i1e "
    "special.ndtr special.log_ndtr special.dawsn "
    "lax.abs lax.asinh lax.atan lax.cbrt lax.ceil lax.cos lax.cosh lax.erf lax.erfc lax.exp lax.exp2 "
    "lax.expm1 lax.floor lax.neg "
    "lax.bessel_i0e lax.bessel_i1e lax.logistic lax.sign lax.round lax.sin lax.sinh lax.square lax.tan lax.tanh"
)
each(
    "jnp.log jnp.log10 jnp.log1p jnp.log2 jnp.sqrt jnp.reciprocal special.digamma special.gammaln "
    "special.loggamma special.gamma special.factorial "
    "special.entr special.exp1 special.expi special.spence lax.log lax.log1p lax.sqrt lax.rsqrt "
    "lax.digamma lax.lgamma lax.reciprocal",
    domain="positive",
)
each("special.fresnel special.sici", lambda f, x: jnp.concatenate(f(x), 1), domain="positive")
each("special.wofz", lambda f, x: parts(f(x + 0j)), domain="positive")
each("nn.log1mexp", domain="positive")
each(
    "jnp.arccos jnp.acos jnp.arcsin jnp.asin jnp.arctanh jnp.atanh special.erfinv lax.acos lax.asin "
    "lax.atanh lax.erf_inv",
    domain="unit",
)
each("jnp.arccosh jnp.acosh lax.acosh", domain="above")
each("special.logit special.ndtri", domain="share")
each("special.polygamma", lambda f, x: f(1, x), domain="positive")
each("lax.polygamma", lambda f, x: f(jnp.ones_like(x), x), domain="positive")
each("special.zeta lax.zeta", lambda f, x: f(2.5 * jnp.ones_like(x), x), domain="positive")
each(
    "special.gammainc special.gammaincc lax.igamma lax.igammac",
    lambda f, x: f(1.7 * jnp.ones_like(x), x),
    domain="positive",
)
each("special.gammainc:both special.gammaincc:both", shapes="f f", domain="positive")
each("special.multigammaln", lambda f, x: f(x + 1, 2), domain="positive")
each("special.expn", lambda f, x: f(2, x), domain="positive")
each("special.bessel_jn", lambda f, x: singly(lambda a: f(a, v=2), x), domain="positive")
each(
    "special.boxcox special.boxcox1p special.poch special.beta special.betaln special.kl_div special.rel_entr",
    shapes="f f",
    domain="positive",
)
each("special.betainc lax.betainc", lambda f, x: f(1.3 * jnp.ones_like(x), 2.1 * jnp.ones_like(x), x), domain="share")
each("special.hyp1f1", lambda f, x: f(1.3, 2.1, x), domain="share")
each("special.hyp2f1", lambda f, x: f(1.3, 2.1, 1.7, x), domain="small")
each("special.xlogy special.xlog1py", shapes="f f", domain="real positive")
each("special.owens_t", lambda f, x: f(x, 0.7))
each("special.comb", lambda f, x: f(4.0, x), domain="positive")
each("jnp.clip", lambda f, x: f(x, -0.5, 0.7))
each("lax.clamp", lambda f, x: f(jnp.asarray(-0.5, x.dtype), x, jnp.asarray(0.7, x.dtype)))
each("jnp.astype", lambda f, x: f(x, x.dtype))
each("jnp.modf jnp.frexp", lambda f, x: f(x)[0])
each("jnp.ldexp", lambda f, x: f(x, 2))
each("jnp.nextafter lax.nextafter", lambda f, x: f(x, x + 1) + x)
each("jnp.spacing", lambda f, x: f(x) + x)
each("lax.integer_pow", lambda f, x: f(x, 3))
each("lax.reduce_precision", lambda f, x: f(x, 11, 52) * x)

# two arguments, entry by entry
each(
    "jnp.add jnp.subtract jnp.multiply jnp.maximum jnp.minimum jnp.fmax jnp.fmin jnp.logaddexp "
    "jnp.logaddexp2 jnp.hypot jnp.arctan2 jnp.atan2 jnp.copysign "
    "lax.add lax.sub lax.mul lax.max lax.min lax.atan2",
    shapes="f f",
)
each("jnp.heaviside", lambda f, a, b: f(a, b) * a, "f f")
each("jnp.divide jnp.true_divide jnp.fmod jnp.mod jnp.remainder lax.div lax.rem", shapes="f f", domain="real positive")
each(
    "jnp.floor_divide jnp.divmod",
    lambda f, a, b: a * (f(a, b) if f is jnp.floor_divide else f(a, b)[1]),
    "f f",
    "real positive",
)
each("jnp.power jnp.pow jnp.float_power lax.pow", shapes="f f", domain="positive real")
each("jnp.power:2 jnp.float_power:2", lambda f, x: f(x, 2))
each("jnp.power:3 lax.pow:3", lambda f, x: f(x, 3.0))
each("jnp.where lax.select", lambda f, a, b: f(a > b, a * a, b), "f f")
each("jnp.select", lambda f, a: f([a > 0.3, a > -0.4], [a * a, a], 0.5))
each("jnp.choose", lambda f, a, b: f(jnp.array([0]), [a, b], mode="clip"), "f f")
each("jnp.piecewise", lambda f, x: f(x, [x > 0.2], [lambda x: x * x, lambda x: jnp.sin(x)]))
each("jnp.interp", lambda f, x: f(x, jnp.array([-1.0, 0.0, 2.0], x.dtype), jnp.array([0.5, 1.0, -1.0], x.dtype)))
each("jnp.vectorize", lambda f, x: f(lambda a: a * a)(x))
each("jnp.apply_along_axis", lambda f, x: f(lambda a: a * a.sum(), 1, x))
each("jnp.apply_over_axes", lambda f, x: f(jnp.sum, x, (1,)))
each("jnp.polyval", lambda f, x: f(const(x, 3), x))
each(
    "jnp.polyadd jnp.polysub jnp.polymul jnp.convolve jnp.correlate jnp.outer jnp.inner jnp.kron "
    "jnp.dot jnp.vdot jnp.vecdot linalg.vecdot linalg.outer",
    lambda f, a, b: singly(f, a, b),
    "3 3",
)
each("jnp.cross linalg.cross", lambda f, a, b: f(a, b, axis=-1), "3 3")
each(
    "jnp.polyder jnp.polyint jnp.ediff1d jnp.diff jnp.vander jnp.ravel jnp.diag jnp.diagflat",
    lambda f, a: singly(f, a),
    "3",
)
each("jnp.polydiv", lambda f, a, b: singly(lambda p, q: f(p, q + 2)[0], a, b), "3 2")
each("jnp.polyfit", lambda f, a: singly(lambda p: f(jnp.arange(4.0, dtype=p.dtype), p, 2), a), "4")
each(
    "jnp.roots",
    lambda f, a: singly(
        lambda p: parts(f(jnp.concatenate([jnp.ones(1, p.dtype), p]), strip_zeros=False) ** 2).sum(keepdims=True), a
    ),
    "2",
)
each("jnp.poly", lambda f, a: singly(f, a), "2")
each("jnp.unwrap jnp.gradient", lambda f, a: f(a, axis=1), "4")
each("jnp.trapezoid", lambda f, a: f(a, axis=1), "4")
each("jnp.histogram", lambda f, a: singly(lambda p: f(p, weights=p)[0] * 1.0, a), "3")

# along axes
each(
    "jnp.sum jnp.mean jnp.prod jnp.max jnp.min jnp.amax jnp.amin jnp.std jnp.var jnp.nansum jnp.nanmean "
    "jnp.nanprod jnp.nanmax jnp.nanmin jnp.nanstd jnp.nanvar "
    "jnp.cumsum jnp.cumprod jnp.nancumsum jnp.nancumprod jnp.median jnp.nanmedian jnp.ptp jnp.average "
    "jnp.sort jnp.cumulative_sum jnp.cumulative_prod "
    "nn.softmax nn.log_softmax nn.logsumexp nn.logmeanexp nn.standardize special.logsumexp "
    "special.softmax special.log_softmax jnp.expand_dims",
    lambda f, x: f(x, axis=1),
    "3f",
)
each("jnp.sum:all jnp.prod:all jnp.max:all jnp.std:all nn.logsumexp:all", lambda f, x: f(x, axis=(1, 2)), "2f")
each("jnp.quantile jnp.nanquantile", lambda f, x: f(x, 0.3, axis=1), "4")
each("jnp.percentile jnp.nanpercentile", lambda f, x: f(x, 30, axis=1), "4")
each("nn.glu", shapes="h4")
each("jnp.cov jnp.corrcoef", lambda f, x: singly(f, x), "23")
each("lax.cumsum lax.cumprod lax.cumlogsumexp lax.cummax lax.cummin", lambda f, x: f(x, axis=1), "3f")
each("lax.cumprod:reverse lax.cumsum:reverse", lambda f, x: f(x, axis=1, reverse=True), "3f")
each("lax.reduce_sum lax.reduce_prod lax.reduce_max lax.reduce_min", lambda f, x: f(x, axes=(1,)), "3f")
each("lax.sort", lambda f, x: f(x, dimension=1), "4")
each("lax.top_k lax.approx_max_k lax.approx_min_k", lambda f, x: f(x, 2)[0], "4")
each("lax.associative_scan", lambda f, x: f(jnp.multiply, x, axis=1), "4")
each("jnp.partition", lambda f, x: f(x, 1, axis=1), "4")

# shapes
each("jnp.reshape lax.reshape", lambda f, x: f(x, (x.shape[0], x.shape[1] * x.shape[2])), "hf")
each("jnp.swapaxes jnp.moveaxis jnp.rollaxis", lambda f, x: f(x, 2, 1), "hf")
each("jnp.transpose jnp.permute_dims lax.transpose", lambda f, x: f(x, (0, 2, 1)), "hf")
each("jnp.matrix_transpose linalg.matrix_transpose jnp.fliplr jnp.atleast_3d", shapes="hf")
each("jnp.flipud jnp.rot90 jnp.trace jnp.tril jnp.triu linalg.trace", lambda f, x: singly(f, x), "23")
each("jnp.flip", lambda f, x: f(x, 1), "hf")
each("lax.rev", lambda f, x: f(x, (1,)), "hf")
each("jnp.roll", lambda f, x: f(x, 1, 1), "3f")
each("jnp.concatenate jnp.stack jnp.concat", lambda f, a, b: f([a, b, a], axis=1), "f f")
each("lax.concatenate", lambda f, a, b: f([a, b, a], 1), "f f")
each("jnp.hstack jnp.column_stack jnp.dstack", lambda f, a, b: f([a, b]), "hf hf")
each("jnp.vstack", lambda f, a, b: f([a.T, b.T]).T, "f f")
each("jnp.block", lambda f, a, b: f([[a, b]]), "f f")
each("jnp.append", lambda f, a, b: f(a, b, axis=1), "f f")
each("jnp.broadcast_to", lambda f, x: f(x[:, None], (x.shape[0], 2, x.shape[1])))
each("lax.broadcast", lambda f, x: jnp.moveaxis(f(x, (2,)), 0, 1))
each("lax.broadcast_in_dim", lambda f, x: f(x, (x.shape[0], 2, x.shape[1]), (0, 2)))
each("jnp.broadcast_arrays jnp.meshgrid", lambda f, a, b: singly(lambda p, q: jnp.stack(f(p, q)), a, b), "2 2")
each("jnp.tile", lambda f, x: f(x, (1, 2)))
each("jnp.repeat", lambda f, x: f(x, 2, axis=1))
each("jnp.split jnp.array_split", lambda f, x: f(x, 2, axis=1)[0], "4f")
each("lax.split", lambda f, x: f(x, (1, 3), axis=1)[1], "4f")
each("jnp.unstack", lambda f, x: f(x, axis=1)[0], "3f")
each("jnp.hsplit", lambda f, x: f(x, 2)[1], "4f")
each("jnp.vsplit", lambda f, x: singly(lambda a: f(a, 2)[1], x), "42")
each("jnp.dsplit", lambda f, x: f(x, 2)[1], "h4")
each("jnp.squeeze", lambda f, x: f(x, 1), "1f")
each("lax.squeeze lax.expand_dims", lambda f, x: f(x, (1,)), "1f")
each("lax.collapse", lambda f, x: f(x, 1, 3), "hf")
each("jnp.take", lambda f, x: f(x, jnp.array([2, 0, 2]), axis=1), "4f")
each("jnp.take_along_axis", lambda f, x: f(x, jnp.array([[2, 0, 2]]), axis=1), "4")
each(
    "jnp.put_along_axis", lambda f, x, b: f(x, jnp.array([[2, 0]]) + 0 * b.astype(int), b, axis=1, inplace=False), "4 2"
)
each("jnp.put", lambda f, x: singly(lambda a: f(a, jnp.array([1]), a[:1] ** 2, inplace=False), x), "4")
each("jnp.compress", lambda f, x: f([True, False, True], x, axis=1), "3")
each("jnp.delete", lambda f, x: f(x, 1, axis=1), "3")
each("jnp.insert", lambda f, x: f(x, 1, 0.5, axis=1), "3")
each("jnp.resize", lambda f, x: singly(lambda a: f(a, (5,)), x), "3")
each("jnp.fill_diagonal", lambda f, x: singly(lambda a: f(a, 0.5, inplace=False), x), "33")
each("jnp.pad", lambda f, x: f(x, ((0, 0), (1, 2))), "3")
for how in ("reflect", "edge", "wrap", "symmetric", "linear_ramp", "mean", "maximum"):
    each(f"jnp.pad:{how}", lambda f, x, how=how: f(x, ((0, 0), (1, 2)), how), "3")
each("lax.pad", lambda f, x: f(x, jnp.asarray(0.5, x.dtype), ((0, 0, 0), (1, 2, 1))), "3")
each("lax.slice_in_dim", lambda f, x: f(x, 1, 3, axis=1), "4")
each("lax.slice", lambda f, x: f(x, (0, 1), (x.shape[0], 4), (1, 2)), "4")
each("lax.dynamic_slice", lambda f, x: f(x, (0, 1), (x.shape[0], 2)), "4")
each("lax.dynamic_slice_in_dim", lambda f, x: f(x, 1, 2, axis=1), "4")
each("lax.dynamic_index_in_dim lax.index_in_dim", lambda f, x: f(x, 1, 1), "4")
each("lax.dynamic_update_slice", lambda f, x, b: f(x, b, (0, 1)), "4 2")
each("lax.dynamic_update_slice_in_dim", lambda f, x, b: f(x, b, 1, 1), "4 2")
each("lax.dynamic_update_index_in_dim", lambda f, x, b: f(x, b[:, 0], 1, 1), "4 1")
each("jnp.angle", lambda f, a, b: f(a + 1j * b), "f f", "positive")
each("jnp.imag jnp.conj:complex lax.imag", lambda f, a, b: parts(f((a + 1j * b) ** 2)), "f f")
each("lax.complex", lambda f, a, b: parts(f(a, b) ** 2), "f f")
each("lax.conj lax.real", lambda f, a, b: parts(f((a + 1j * b) ** 2)), "f f")
each("lax.tile", lambda f, x: f(x, (1, 2)))
each("lax.unstack", lambda f, x: f(x, axis=1)[0], "3f")
each("lax.stack", lambda f, a, b: f([a, b], axis=1), "f f")
each("lax.broadcast_to_rank", lambda f, x: singly(lambda a: f(a, 2), x))
each("lax.broadcast_like", lambda f, a, b: singly(lambda p, q: f(p, q) * q, a, b), "f f")
ROWS = jax.lax.ScatterDimensionNumbers((), (0,), (0,))
for kind in ("", "_add", "_mul", "_sub", "_min", "_max"):
    each(f"lax.scatter{kind}", lambda f, a, b: singly(lambda p, q: f(p, jnp.array([[2], [0]]), q, ROWS), a, b), "4 2")
each(
    "lax.scatter_apply",
    lambda f, a: singly(lambda p: f(p, jnp.array([[2], [0]]), jnp.sin, ROWS, update_shape=(2,)), a),
    "4",
)
each(
    "lax.gather",
    lambda f, a: singly(lambda p: f(p, jnp.array([[2], [0]]), jax.lax.GatherDimensionNumbers((), (0,), (0,)), (1,)), a),
    "4",
)
