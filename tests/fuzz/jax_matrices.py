"""jax.numpy.linalg, jax.numpy.fft, convolutions and control flow, and why the rest is not asked."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from .jax_functions import TABLE, const, each, flipped, parts, singly, spd, well

without = TABLE.without
MATRIX = jnp.linalg

each("jnp.matmul linalg.matmul", shapes="hk kf")
each("lax.batch_matmul", shapes="hk kf")
each("jnp.matvec", shapes="hk k")
each("jnp.vecmat", shapes="k kf")
each("lax.dot", lambda f, a, b: singly(f, a, b), "hk kf")
each("lax.dot_general", lambda f, a, b: f(a, b, (((2,), (1,)), ((0,), (0,)))), "hk kf")
each("jnp.einsum", lambda f, a, b: f("nij,njk->nki", a, b), "hk kf")
each("jnp.tensordot linalg.tensordot", lambda f, a, b: singly(lambda p, q: f(p, q, axes=1), a, b), "hk kf")
each("linalg.multi_dot", lambda f, a, b: singly(lambda p, q: f([p, q, p]), a, b), "33 33")
each(
    "linalg.det linalg.inv linalg.pinv linalg.svdvals splinalg.det splinalg.inv splinalg.expm",
    lambda f, x: f(well(x)),
    "22",
)
each("linalg.det:any", shapes="33")
each("linalg.slogdet", lambda f, x: f(well(x))[1], "33")
each("linalg.matrix_power", lambda f, x: f(x, 3), "22")
each("linalg.matrix_power:inverse", lambda f, x: f(well(x), -2), "22")
each("linalg.cholesky", lambda f, x: f(spd(x)), "33")
each("splinalg.cholesky", lambda f, x: f(spd(x), lower=True), "22")
each("linalg.eigh", lambda f, x: f(spd(x))[0], "33")
each("splinalg.eigh", lambda f, x: f(spd(x))[0], "33")
each("linalg.eigh:projector", lambda f, x: (lambda v: v[..., :1] @ flipped(v[..., :1]))(f(spd(x))[1]), "22")
each("linalg.eigvalsh", lambda f, x: f(spd(x)), "33")
each("linalg.eig", lambda f, x: (f(well(x))[0] ** 2).real.sum(1), "22")
each("linalg.eigvals", lambda f, x: (f(well(x)) ** 2).real.sum(1), "22")
each("linalg.svd splinalg.svd", lambda f, x: f(well(x))[1], "22")
each("linalg.svd:low", lambda f, x: (lambda u, s, v: u[..., :1] * s[..., None, :1])(*f(well(x))) ** 2, "22")
each("linalg.qr splinalg.qr", lambda f, x: jnp.concatenate(f(well(x)), 1), "22")
each("splinalg.lu", lambda f, x: singly(lambda a: f(well(a))[2], x), "22")
each("splinalg.lu_factor", lambda f, x: f(well(x))[0], "22")
each("linalg.solve splinalg.solve", lambda f, x, b: f(well(x), b), "22 21")
each("splinalg.solve_triangular", lambda f, x, b: f(well(x), b), "22 21")
each("splinalg.cho_solve", lambda f, x, b: singly(lambda p, q: f((MATRIX.cholesky(spd(p)), True), q), x, b), "22 21")
each("splinalg.cho_factor", lambda f, x: jnp.triu(singly(lambda a: f(spd(a))[0], x)), "22")
each("splinalg.lu_solve", lambda f, x, b: singly(lambda p, q: f(jax.scipy.linalg.lu_factor(well(p)), q), x, b), "22 21")
each("splinalg.sqrtm", lambda f, x: parts(singly(lambda a: f(spd(a)), x)), "22")
each("splinalg.expm_frechet", lambda f, x: singly(lambda a: f(a, a @ a)[1], x), "22")
each("splinalg.block_diag", lambda f, a, b: singly(f, a, b), "2 2")
each(
    "splinalg.toeplitz splinalg.hankel splinalg.circulant splinalg.fiedler splinalg.companion "
    "splinalg.fiedler_companion",
    lambda f, a: singly(f, a),
    "3",
    "positive",
)
each("splinalg.convolution_matrix", lambda f, a: singly(lambda p: f(p, 3), a), "2")
each("splinalg.leslie", lambda f, a, b: singly(f, a, b), "3 2")
each("splinalg.solve_sylvester", lambda f, a, b: singly(lambda p, q: parts(f(well(p), well(q), p @ q)), a, b), "22 22")
each("splinalg.qr_multiply", lambda f, a, b: singly(lambda p, q: f(well(p), q)[0], a, b), "22 22")
each("splinalg.polar", lambda f, x: singly(lambda a: f(well(a))[0], x), "22")
each(
    "splinalg.eigh_tridiagonal",
    lambda f, a: singly(lambda d: f(d + jnp.arange(3), d[:2] * 0 + 0.5, eigvals_only=True), a),
    "3",
)
each(
    "linalg.tensorsolve linalg.tensorinv",
    lambda f, x: singly(lambda a: f(well(a), a[0]) if f is MATRIX.tensorsolve else f(well(a), 1), x),
    "22",
)
each("linalg.lstsq", lambda f, x, b: singly(lambda p, q: f(well(p), q)[0], x, b), "22 2")
each("linalg.norm linalg.matrix_norm", lambda f, x: singly(f, x), "23")
each("linalg.norm:vector linalg.vector_norm", lambda f, x: f(x, axis=-1), "3")
each("linalg.norm:1", lambda f, x: f(x, 1, axis=-1), "3")
each("linalg.norm:3", lambda f, x: f(x, 3, axis=-1), "3")
each("linalg.norm:square", lambda f, x: f(x, axis=-1) ** 2, "3")
each("linalg.norm:nuc", lambda f, x: f(well(x), "nuc", axis=(-2, -1)), "22")
each("linalg.cond", lambda f, x: f(well(x)), "22")
each("linalg.diagonal jnp.diagonal", lambda f, x: f(x, axis1=1, axis2=2) if f is jnp.diagonal else f(x), "34")

each("fft.fft fft.rfft fft.ifft fft.ihfft fft.hfft", lambda f, x: parts(f(x)), "4")
each("fft.fft2 fft.fftn fft.ifft2 fft.ifftn fft.rfft2 fft.rfftn", lambda f, x: parts(f(x, axes=(1, 2))), "23")
each("fft.irfft", lambda f, x: f(jnp.fft.rfft(x) ** 2), "4")
each("fft.irfft2 fft.irfftn", lambda f, x: f(jnp.fft.rfft2(x) ** 2, axes=(1, 2)), "24")
each("fft.fftshift fft.ifftshift", lambda f, x: f(x, axes=1), "4")
each("lax.fft", lambda f, x: parts(f(x, "RFFT", (4,))), "4")

each(
    "lax.conv lax.conv_with_general_padding",
    lambda f, x: f(
        x,
        const(x, 2, 2, 2, 2),
        (1, 1),
        "SAME" if f is jax.lax.conv else ((0, 1), (1, 0)),
        *([] if f is jax.lax.conv else [None, None]),
    ),
    "233",
)
each("lax.conv_general_dilated", lambda f, x: f(x, const(x, 2, 2, 2), (1,), "SAME", rhs_dilation=(2,)), "24")
each("lax.conv_general_dilated_local", lambda f, x: f(x, const(x, 2, 4, 3), (1,), "VALID", (2,)), "24")
each("lax.conv_general_dilated_patches", lambda f, x: f(x, (2,), (1,), "VALID"), "24")
each("lax.conv_transpose", lambda f, x: f(x, const(x, 2, 2, 3), (2,), "SAME"), "32")
for how, start in (("max", -jnp.inf), ("add", 0.0), ("min", jnp.inf)):
    each(
        "lax.reduce_window:" + how,
        lambda f, x, how=how, start=start: f(x, start, getattr(jax.lax, how), (1, 2), (1, 1), "VALID"),
        "4",
    )
    each(
        "lax.reduce:" + how,
        lambda f, x, how=how, start=start: f(x, jnp.asarray(start, x.dtype), getattr(jax.lax, how), (1,)),
        "4",
    )
each("lax.reduce:mul", lambda f, x: f(x, jnp.asarray(1, x.dtype), jax.lax.mul, (1,)), "4")
each("nn.dot_product_attention", lambda f, a, b, c: f(a[:, :, None], b[:, :, None], c[:, :, None]), "2f 3f 3f")
each("nn.gelu:exact", lambda f, x: f(x, approximate=False))

each("lax.map", lambda f, x: f(lambda a: a * a.sum(), x), "3")
each("lax.scan", lambda f, x: singly(lambda a: f(lambda c, b: (jnp.sin(c) * b, c + b), a[0], a)[1], x), "3")
each("lax.fori_loop", lambda f, x: f(0, 3, lambda i, c: c * jnp.sin(c) + i, x))
each("lax.cond", lambda f, x: singly(lambda a: f(a[0] > 0.2, jnp.sin, jnp.square, a), x), "3")
each("lax.switch", lambda f, x: f(1, [jnp.sin, jnp.square], x))
each(
    "lax.custom_root",
    lambda f, x: f(lambda y: y**3 + y - x, x, lambda g, y: _newton(g, y), lambda g, y: y / g(jnp.ones_like(y))),
)
each("lax.custom_linear_solve", lambda f, x: f(lambda y: 3.0 * y, x, lambda g, b: b / 3.0, symmetric=True))
each("lax.select_n", lambda f, a, b: f(a > b, a * a, b), "f f")
each("lax.full_like", lambda f, x: f(x, 0.5) * x)
each("lax.convert_element_type", lambda f, x: f(x, x.dtype))
each("lax.index_take", lambda f, x: jnp.moveaxis(f(x, (jnp.array([0, 2]),), (1,)), 0, 1), "3")


def _newton(g, y):
    for _ in range(30):
        y = y - g(y) / (3 * y * y + 1)
    return y


without(
    "creates an array",
    "jnp.arange jnp.bartlett jnp.blackman jnp.hamming jnp.hanning jnp.kaiser jnp.diag_indices "
    "jnp.diag_indices_from jnp.empty* jnp.eye jnp.frombuffer jnp.from* jnp.full* jnp.geomspace "
    "jnp.identity jnp.indices jnp.linspace jnp.logspace jnp.mask_indices jnp.ones* jnp.tri "
    "jnp.tril_indices* jnp.triu_indices* jnp.zeros* fft.fftfreq fft.rfftfreq lax.full lax.iota "
    "lax.broadcasted_iota lax.rng_* lax.empty* splinalg.dft splinalg.hadamard splinalg.hilbert "
    "splinalg.invhilbert splinalg.pascal splinalg.invpascal splinalg.helmert",
)
without(
    "an integer, a boolean or an object comes out",
    "jnp.all jnp.allclose jnp.any jnp.argmax jnp.argmin jnp.nanargmax jnp.nanargmin lax.mulhi "
    "lax.shape_as_value jnp.argpartition jnp.argsort jnp.argwhere jnp.array_equal jnp.array_equiv "
    "jnp.array_repr jnp.array_str jnp.bincount jnp.bitwise_* jnp.broadcast_shapes jnp.can_cast "
    "jnp.count_nonzero jnp.digitize jnp.einsum_path jnp.equal jnp.flatnonzero jnp.gcd jnp.greater* "
    "jnp.intersect1d jnp.invert jnp.is* jnp.iterable jnp.ix_ jnp.lcm jnp.left_shift jnp.less* "
    "jnp.lexsort jnp.logical_* jnp.ndim jnp.nonzero jnp.not_equal jnp.packbits jnp.unpackbits "
    "jnp.promote_types jnp.result_type jnp.ravel_multi_index jnp.unravel_index jnp.right_shift "
    "jnp.searchsorted jnp.setdiff1d jnp.setxor1d jnp.shape jnp.signbit jnp.size jnp.union1d jnp.unique* "
    "jnp.histogram_bin_edges linalg.matrix_rank  lax.argmax lax.argmin lax.bitwise_* lax.clz  lax.eq* "
    "lax.ge* lax.gt* lax.is_finite lax.le* lax.lt* lax.ne lax.not* lax.or* lax.population_count "
    "lax.shift_* lax.xor* lax.reduce_and lax.reduce_or lax.reduce_xor lax.broadcast_shapes lax.dtype "
    "lax.bitcast_convert_type nn.one_hot special.bernoulli",
)
without("its rule is not the derivative on purpose: `wrt.check` says so", "lax.stop_gradient")
without("a loop of unknown length has no derivative in reverse; tests/matrix has one", "lax.while_loop")
without("a name of a type", "lax.ConvGeneralDilatedDimensionNumbers lax.DotDimensionNumbers lax.PrecisionLike")
without(
    "files, printing, types",
    "jnp.load jnp.save jnp.savez jnp.printoptions jnp.get_printoptions jnp.set_printoptions jnp.issubdtype",
)
without("a shape that depends on values", "jnp.extract jnp.trim_zeros jnp.histogram2d jnp.histogramdd")
without(
    "integer arguments, or complex ones alone",
    "special.sph_harm_y special.lpmn* special.gammasgn jnp.sort_complex splinalg.funm splinalg.rsf2csf "
    "splinalg.schur splinalg.hessenberg",
)
without("raises: arrays of JAX do not change", "jnp.place jnp.frompyfunc")
without(
    "across devices, or the machinery of JAX's own rules",
    "lax.all_* lax.axis_* lax.p* lax.psum* lax.pbroadcast lax.ragged_* lax.*_p lax.*sharding* "
    "lax.optimization_barrier lax.after_all lax.create_token   lax.platform_dependent lax.stage* "
    "lax.composite lax.dce_sink  lax.conv_dimension_numbers lax.conv_shape_tuple lax.conv_general_* "
    "lax.conv_transpose_* lax.padtype_to_pads lax.*_dtype lax.standard_*  lax.naryop_* lax.unop* "
    "lax.zeros_like_* lax.random_gamma_grad lax.igamma_grad_a lax.sort_key_val "
    "lax.reduce_window_shape_tuple  lax.scaled_dot* lax.scaled_matmul* lax.top_k_*",
)
without(
    "float8 and other arithmetic of accelerators",
    "nn.scaled_dot_general nn.scaled_matmul nn.get_scaled_dot_general_config",
)
