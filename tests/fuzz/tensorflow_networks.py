"""tf.nn, tf.linalg: which functions are asked, and why the rest is not."""

from __future__ import annotations

import tensorflow as tf

from .tensorflow_functions import TABLE, const, each, spd, well

without = TABLE.without

each("linalg.matmul", shapes="hk kf")
each("linalg.matvec", shapes="hk k")
each("linalg.einsum", lambda f, a, b: f("nij,njk->nki", a, b), "hk kf")
each("linalg.tensordot", lambda f, a: f(a, const(a, 3, 2), 1), "h3")
each("linalg.cross", shapes="3 3")
each("linalg.det linalg.inv linalg.pinv linalg.expm", lambda f, x: f(well(x)), "22")
each("linalg.det:any", lambda f, x: f(x), "33")
each("linalg.logdet", lambda f, x: f(spd(x)), "33")
each("linalg.slogdet", lambda f, x: f(well(x))[1], "33")
each("linalg.cholesky", lambda f, x: f(spd(x)), "33")
each("linalg.cholesky_solve", lambda f, x, b: f(tf.linalg.cholesky(spd(x)), b), "22 21")
each("linalg.eigh", lambda f, x: f(spd(x))[0], "33")
each(
    "linalg.eigh:projector",
    lambda f, x: (lambda v: tf.matmul(v[..., :1], v[..., :1], transpose_b=True))(f(spd(x))[1]),
    "22",
)
each("linalg.eigvalsh", lambda f, x: f(spd(x)), "33")
each("linalg.eigvals", lambda f, x: tf.math.real(tf.reduce_sum(f(well(x)) ** 2, 1)), "22")
each("linalg.eig", lambda f, x: tf.math.real(tf.reduce_sum(f(well(x))[0] ** 2, 1)), "22")
each("linalg.svd", lambda f, x: f(well(x))[0], "22")
each("linalg.svd:low", lambda f, x: (lambda s, u, v: u[..., :1] * s[..., None, :1])(*f(well(x))) ** 2, "22")
each("linalg.qr", lambda f, x: tf.concat(f(well(x)), 1), "22")
each("linalg.lu", lambda f, x: f(well(x))[0], "22")
each("linalg.lu_matrix_inverse linalg.lu_reconstruct", lambda f, x: f(*tf.linalg.lu(well(x))), "22")
each("linalg.lu_solve", lambda f, x, b: f(*tf.linalg.lu(well(x)), b), "22 21")
each("linalg.solve", lambda f, x, b: f(well(x), b), "22 21")
each("linalg.lstsq", lambda f, x, b: f(well(x), b), "22 21")
each("linalg.triangular_solve", lambda f, x, b: f(well(x), b), "22 21")
each("linalg.banded_triangular_solve", lambda f, x, b: f(x + 1.5, b), "23 31")
each("linalg.tridiagonal_solve", lambda f, x, b: f(x + tf.constant([[0.0], [3.0], [0.0]], x.dtype), b), "33 31")
each(
    "linalg.tridiagonal_matmul", lambda f, x, b: f((x[:, 0], x[:, 1], x[:, 2]), b, diagonals_format="sequence"), "33 32"
)
each(
    "linalg.eigh_tridiagonal",
    lambda f, x: tf.map_fn(lambda a: f(a + tf.constant([1.0, 2.0, 3.5], a.dtype), a[:2] + 0.1), x),
    "3",
)
each("linalg.sqrtm", lambda f, x: f(spd(x)), "22")
each("linalg.logm", lambda f, x: tf.math.real(f(tf.complex(spd(x), 0 * x))), "22")
each("linalg.norm", lambda f, x: f(x, axis=1), "3")
each("linalg.norm:1", lambda f, x: f(x, 1, axis=1), "3")
each("linalg.norm:3", lambda f, x: f(x, 3, axis=1), "3")
each("linalg.norm:matrix", lambda f, x: f(x, "fro", axis=[1, 2]), "22")
each("linalg.normalize", lambda f, x: f(x, axis=1)[0], "3")
each("linalg.adjoint linalg.matrix_transpose linalg.trace linalg.diag_part", shapes="33")
each("linalg.diag", shapes="3")
each("linalg.band_part", lambda f, x: f(x, 1, 0), "33")
each("linalg.set_diag", lambda f, x, b: f(x, b), "33 3")
each("linalg.tensor_diag", lambda f, x: tf.map_fn(f, x), "2")
each("linalg.tensor_diag_part", lambda f, x: tf.map_fn(f, x), "22")

each("nn.bias_add", lambda f, x: f(x, const(x, 3)), "h3")
each(
    "nn.batch_normalization",
    lambda f, x: f(x, const(x, 3), const(x, 3, low=0.5, high=2.0), const(x, 3), const(x, 3), 1e-3),
    "h3",
)
each(
    "nn.batch_norm_with_global_normalization",
    lambda f, x: f(x, const(x, 3), const(x, 3, low=0.5, high=2.0), const(x, 3), const(x, 3), 1e-3, True),
    "223",
)
SINGLE = "float32"  # the kernel is missing in float64
each("nn.local_response_normalization nn.lrn", lambda f, x: f(tf.cast(x, SINGLE), 1), "224")
each("nn.conv1d", lambda f, x: f(x, const(x, 2, 2, 3), 1, "SAME"), "42")
each("nn.conv2d nn.convolution", lambda f, x: f(x, const(x, 2, 2, 2, 2), 1, "SAME"), "332")
each("tf.conv", lambda f, x: f(x, const(x, 2, 2, 2, 2), [1, 1, 1, 1], "SAME"), "332")
each("nn.conv3d", lambda f, x: f(x, const(x, 2, 2, 2, 1, 2), [1] * 5, "SAME"), "2221")
each("nn.conv1d_transpose", lambda f, x: f(x, const(x, 2, 3, 2), [tf.shape(x)[0], 4, 3], 2), "22")
each("nn.conv2d_transpose", lambda f, x: f(x, const(x, 2, 2, 1, 2), [tf.shape(x)[0], 4, 4, 1], 2), "222")
each("nn.conv3d_transpose", lambda f, x: f(x, const(x, 2, 2, 2, 1, 1), [tf.shape(x)[0], 2, 2, 2, 1], 1), "2221")
each("nn.conv_transpose", lambda f, x: f(x, const(x, 2, 3, 2), [tf.shape(x)[0], 4, 3], 2), "22")
each("nn.atrous_conv2d", lambda f, x: f(x, const(x, 2, 2, 2, 1), 2, "SAME"), "442")
each("nn.atrous_conv2d_transpose", lambda f, x: f(x, const(x, 2, 2, 1, 2), [tf.shape(x)[0], 4, 4, 1], 2, "SAME"), "442")
each("nn.depthwise_conv2d", lambda f, x: f(x, const(x, 2, 2, 2, 2), [1, 1, 1, 1], "SAME"), "332")
each(
    "nn.depthwise_conv2d_backprop_input",
    lambda f, x: f([tf.shape(x)[0], 3, 3, 2], const(x, 2, 2, 2, 1), x, [1, 1, 1, 1], "SAME"),
    "332",
)
each("nn.separable_conv2d", lambda f, x: f(x, const(x, 2, 2, 2, 2), const(x, 1, 1, 4, 3), [1, 1, 1, 1], "SAME"), "332")
each("nn.dilation2d", lambda f, x: f(x, const(x, 2, 2, 2), [1, 1, 1, 1], "SAME", "NHWC", [1, 1, 1, 1]), "332")
each("nn.erosion2d", lambda f, x: f(x, const(x, 2, 2, 2), [1, 1, 1, 1], "SAME", "NHWC", [1, 1, 1, 1]), "332")
for padding in ("VALID", "SAME"):
    each(f"nn.avg_pool1d:{padding} nn.max_pool1d:{padding}", lambda f, x, p=padding: f(x, 2, 1, p), "42")
    each(f"nn.avg_pool2d:{padding} nn.max_pool2d:{padding}", lambda f, x, p=padding: f(x, 2, 1, p), "332")
    each(f"nn.avg_pool:{padding} nn.max_pool:{padding}", lambda f, x, p=padding: f(x, 2, 1, p), "332")
    each(
        f"nn.avg_pool3d:{padding} nn.max_pool3d:{padding}",
        lambda f, x, p=padding: f(tf.cast(x, SINGLE), 2, 1, p),
        "2331",
    )
    each(f"nn.pool:{padding}", lambda f, x, p=padding: f(x, [2, 2], "AVG", padding=p), "332")
each("nn.max_pool_with_argmax", lambda f, x: f(x, 2, 2, "VALID")[0], "442")
each("nn.isotonic_regression", lambda f, x: f(x)[0], "4")
each("nn.depth_to_space", lambda f, x: f(x, 2), "224")
each("nn.space_to_depth", lambda f, x: f(x, 2), "221")
each("nn.dropout", lambda f, x: f(x, 0.0))
each("nn.log_poisson_loss nn.sigmoid_cross_entropy_with_logits", lambda f, a, b: f(b, a), "f f", "real share")
each("nn.weighted_cross_entropy_with_logits", lambda f, a, b: f(b, a, 1.7), "f f", "real share")
# labels add up to one, as TensorFlow's rule takes for granted
each("nn.softmax_cross_entropy_with_logits", lambda f, a, b: f(tf.nn.softmax(b), a), "3 3")
each("nn.sparse_softmax_cross_entropy_with_logits", lambda f, a: f(tf.ones_like(a[:, 0], tf.int32), a), "3")
each(
    "nn.ctc_loss",
    lambda f, a: f(
        tf.ones_like(a[:, :1, 0], tf.int32),
        tf.cast(a, SINGLE),
        tf.ones_like(a[:, 0, 0], tf.int32),
        tf.ones_like(a[:, 0, 0], tf.int32) * 4,
        False,
    ),
    "43",
)
each("nn.embedding_lookup", lambda f, x: tf.transpose(f(tf.transpose(x), [2, 0])), "3")

# `tf`, `tf.linalg`, `tf.nn` and `tf.math` export many functions twice
known = {id(maker.function) for maker in TABLE.makers}
for short, module in TABLE.modules.items():
    for name, value in vars(module).items():
        if id(value) in known and f"{short}.{name}" not in TABLE.asked():
            without("another name of a function that is asked", f"{short}.{name}")
