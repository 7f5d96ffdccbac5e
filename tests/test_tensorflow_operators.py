"""Operators of which TensorFlow's own derivatives are wrong or missing: right here, or refused by name."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from subjects import close

import wrt
from wrt.errors import DerivativeError, NonFiniteWarning

X = np.array([[2.0, 3.0, 0.0, 0.5], [0.0, 3.0, 0.0, -1.0]])
IMAGES = np.random.default_rng(0).normal(size=(2, 3, 3, 2))
SPECIAL, CUT = tf.math.special, tf.stop_gradient


def square(x):
    return tf.reshape(x, (-1, 2, 2))


def along(f):
    """`f` over the last axis of a batch, where `f` wants the first."""
    return lambda x: tf.transpose(f(tf.transpose(x)))


def products(x):
    yield from (tf.math.cumprod(x, 1, exclusive=a, reverse=b) for a in (False, True) for b in (False, True))
    yield tf.reduce_prod(x, 1, keepdims=True)
    yield tf.reshape(tf.reduce_prod(square(x), [-1]), (-1, 2))
    yield tf.reshape(along(lambda t: tf.math.segment_prod(t, [0, 0, 0, 1]))(x), (-1, 2))
    yield along(lambda t: tf.math.unsorted_segment_prod(t, [1, 0, 1, -1], 2))(x)
    yield tf.math.imag(tf.math.cumprod(tf.complex(x, x + 1), 1))
    yield tf.math.real(tf.linalg.det(tf.complex(square(x), square(x) + 1)))[:, None]


def entries(x):
    y = tf.constant([1.0, 2.0, 3.0, 4.0], tf.float64) + x**2
    yield from (tf.math.xlogy(x, y), tf.math.xlog1py(x, y), tf.math.xdivy(x, y))
    yield from (SPECIAL.bessel_i0(x), SPECIAL.bessel_i1(x), SPECIAL.bessel_i1e(x + 2.1), SPECIAL.bessel_j1(x))
    yield from (SPECIAL.spence(x**2 + 1), tf.nn.softsign(x + 2.1))
    yield tf.nn.softmax_cross_entropy_with_logits(x**2, x)[:, None]  # labels that do not add up to one


def placed(x):
    yield along(lambda t: tf.dynamic_stitch([[0, 1], [2, 0]], [t[:2], t[2:]]))(x) ** 2
    yield along(lambda t: tf.tensor_scatter_nd_update(t, [[0], [0]], t[2:]))(x) ** 2
    yield tf.nn.moments(x**3, [1], keepdims=True)[1]
    yield tf.reshape(tf.image.hsv_to_rgb(tf.math.sigmoid(x[:, :3] + 0.3)), (-1, 3))


def images(x):
    yield tf.nn.max_pool2d(x**3, 2, 1, "SAME")
    yield tf.nn.max_pool2d(x**3, 2, 2, [[0, 0], [1, 1], [1, 1], [0, 0]])
    yield tf.nn.max_pool_with_argmax(x**3, 2, 1, "SAME")[0]
    yield tf.image.resize(x, (5, 2), "nearest") ** 2


def together(parts):
    """All outputs of the operators, per sample in one row."""
    return lambda x: tf.concat([tf.reshape(p, (-1, np.prod(p.shape[1:]))) for p in parts(x)], 1)


def differences(f, x, h=1e-5):
    """The Jacobian by central differences."""
    units = h * np.eye(x[0].size).reshape(-1, 1, *x.shape[1:])
    return np.stack([(f(tf.constant(x + e)).numpy() - f(tf.constant(x - e)).numpy()) / (2 * h) for e in units], -1)


GROUPS = [(products, X), (entries, X), (placed, X), (images, IMAGES)]
over_groups = pytest.mark.parametrize(("parts", "x"), GROUPS, ids=lambda a: getattr(a, "__name__", ""))


@over_groups
@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_first_order(parts, x, mode):
    f = together(parts)
    plan = wrt.plan_jacobian(f, tf.constant(x), mode=mode)
    assert plan.plan.mode == mode, plan.plan
    close(np.reshape(plan(tf.constant(x)), (len(x), -1, x[0].size)), differences(f, x), 1e-6)


@over_groups
def test_second_order(parts, x):
    """Against differences of the gradient, which the test above has compared."""
    f = together(parts)
    weights = np.random.default_rng(1).normal(size=f(tf.constant(x)).shape[1])
    mixed = tf.function(lambda x: tf.linalg.matvec(f(x), weights), autograph=False)
    found = wrt.hessian(mixed, tf.constant(x))
    units = 1e-5 * np.eye(x[0].size).reshape(-1, 1, *x.shape[1:])
    points = np.concatenate([x + e for e in (*units, *-units)])
    up, down = np.split(wrt.gradient(mixed, tf.constant(points)).numpy().reshape(-1, len(x), x[0].size), 2)
    close(np.reshape(found, (len(x), x[0].size, -1)), np.moveaxis(up - down, 0, -1) / 2e-5, 1e-5)
    direction = np.random.default_rng(2).normal(size=x.shape)
    pushed = wrt.hvp(mixed, tf.constant(x), tf.constant(direction), mode="forward")
    close(
        np.ravel(pushed),
        np.einsum("nij,nj->ni", np.reshape(found, (len(x), x[0].size, -1)), direction.reshape(len(x), -1)).ravel(),
        1e-10,
    )


@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_without_compilation(mode):
    def f(x):
        return tf.math.cumprod(x, 1)

    close(wrt.jacobian(f, tf.constant(X), mode=mode, compile=False), differences(f, X), 1e-6)


@tf.custom_gradient
def rounded(x):
    """A straight-through estimator whose slope depends on x."""
    return tf.round(x), lambda u: u * (2 + x)


@tf.custom_gradient
def swish(x):
    """A rule that is the derivative."""
    s = tf.math.sigmoid(x)
    return x * s, lambda u: u * s * (1 + x * (1 - s))


def multiplied(x):
    return tf.math.cumprod(x, -1) + swish(x)


NESTED = {
    "function": tf.function(multiplied),
    "fused": tf.function(lambda x: tf.math.cumprod(x, 1) + x, jit_compile=True),
    "loop": lambda x: tf.while_loop(lambda i, a: i < 2, lambda i, a: (i + 1, multiplied(a) / 2), (0, x))[1],
    "map": lambda x: tf.map_fn(multiplied, x),
    "branch": lambda x: tf.cond(tf.reduce_sum(x) > 0, lambda: tf.math.cumprod(x, 1), lambda: x),
    "case": lambda x: tf.switch_case(tf.constant(1), [lambda: x, lambda: tf.math.cumprod(x, 1)]),
    "recomputed": tf.recompute_grad(multiplied),
}


@pytest.mark.parametrize("name", NESTED)
def test_inside_other_graphs(name):
    """The operators of loops, branches and functions are repaired in a copy; the user's own stay as they are."""
    f = NESTED[name]
    truth = differences(f, X)
    close(wrt.jacobian(f, tf.constant(X), mode="reverse"), truth, 1e-6)
    close(wrt.jvp(f, tf.constant(X), tf.ones_like(X)), truth.sum(-1), 1e-6)
    gradients = wrt.gradient(f, tf.constant([X[1] + e for e in 1e-5 * np.array([*np.eye(4), *-np.eye(4)])]), 3).numpy()
    bend = wrt.hessian(f, tf.constant(X[1:2]), 3)
    close(np.asarray(bend)[0], (gradients[:4] - gradients[4:]) / 2e-5, 1e-5)


def test_the_functions_of_the_user_are_left_alone():
    f = tf.function(lambda x: tf.math.cumprod(x, 1))
    x = tf.constant([[2.0, 3.0, 0.0]])
    close(wrt.vjp(f, x, tf.ones_like(x)), [[4.0, 2.0, 6.0]], 1e-6)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = f(x)
    close(tape.gradient(y, x), [[4.0, 2.0, 0.0]], 1e-6)  # TensorFlow's own


def test_in_keras_models():
    inputs = keras.Input((3,))
    ops = keras.ops
    model = keras.Model(inputs, ops.concatenate([ops.prod(inputs, -1, keepdims=True), ops.cumprod(inputs, -1)], -1))
    x = np.array([[2.0, 0.0, 3.0]], "float32")
    close(wrt.jacobian(model, x)[0], [[0, 6, 0], [1, 0, 0], [0, 2, 0], [0, 6, 0]], 1e-6)
    for mode in ("reverse", "forward"):
        close(wrt.hessian(model, x, 0, mode=mode)[0], [[0, 3, 0], [3, 0, 2], [0, 2, 0]], 1e-6)


FOLLOWED = {
    "custom": (lambda x: rounded(x) * x, lambda x: np.round(x) + x * (2 + x)),
    "in a function": (lambda x: tf.function(rounded)(x) * x, lambda x: np.round(x) + x * (2 + x)),
    "passed through": (lambda x: tf.grad_pass_through(tf.round)(x) * x, lambda x: np.round(x) + x),
    "detached": (lambda x: CUT(x) * x, lambda x: x),
    "steps": (lambda x: tf.sign(x) * x + tf.round(x), np.sign),
}


@pytest.mark.parametrize("name", FOLLOWED)
def test_a_push_follows_the_rules_of_the_user(name):
    f, slope = FOLLOWED[name]
    x = X + 0.1
    plan = wrt.plan_jacobian(f, tf.constant(x), mode="forward")
    assert plan.plan.mode == "forward", plan.plan
    for found in (plan(tf.constant(x)), wrt.jacobian(f, tf.constant(x), mode="reverse")):
        close(found, slope(x)[:, :, None] * np.eye(4), 1e-12)
    close(wrt.linearize(f, tf.constant(x)).matvec(tf.ones_like(x)), slope(x), 1e-12)


def test_fake_quantisation():
    """Inside the range the rule is that of the identity, outside it is zero."""

    def f(x):
        return tf.quantization.fake_quant_with_min_max_args(x, -1.5, 1.5) * x

    x = tf.constant(X, tf.float32)
    value, inside = (f(x) / x).numpy(), np.abs(X) < 1.5
    value[X == 0] = 0
    for mode in ("reverse", "forward"):
        close(wrt.jacobian(f, x, mode=mode), (value + X * inside)[:, :, None] * np.eye(4), 1e-5)
        close(wrt.hessian(f, x, 3, mode=mode)[:, 3, 3], 2.0 * inside[:, 3], 1e-5)


def test_vectors_of_repeated_values_have_no_derivative():
    """TensorFlow takes their share for zero; what depends on values alone is right."""
    x = tf.constant([[1.0, 0.0, 0.0, 1.0], [1.0, 0.5, 0.5, 2.0]], tf.float64)

    def exponential(x):
        values, vectors = tf.linalg.eigh(square(x + tf.gather(x, [0, 2, 1, 3], axis=1)) / 2)
        return tf.matmul(vectors * tf.exp(values)[:, None], vectors, transpose_b=True)

    with pytest.warns(NonFiniteWarning, match="8 entries"):
        found = wrt.jacobian(exponential, x, mode="reverse").numpy()
    assert np.isnan(found[0]).any()
    close(found[1].reshape(4, 4), differences(exponential, x.numpy())[1].reshape(4, 4), 1e-8)
    with pytest.warns(NonFiniteWarning):
        inverse = wrt.jacobian(lambda x: tf.linalg.pinv(square(x)), x, mode="reverse").numpy()
    assert np.isnan(inverse[0]).any()
    close(
        wrt.jacobian(lambda x: tf.linalg.svd(square(x), compute_uv=False), x, mode="reverse")[0].numpy().sum(0),
        [1, 0, 0, 1],
        1e-8,
    )


REFUSED = {
    "PyFunc": lambda x: tf.ensure_shape(tf.numpy_function(np.square, [x], x.dtype), x.shape) + x,
    "Betainc": lambda x: tf.math.betainc(abs(x) + 1, tf.constant(0.7, x.dtype), tf.constant(0.3, x.dtype)) + x,
    "MatrixLogarithm": lambda x: tf.math.real(tf.linalg.logm(tf.cast(square(x), tf.complex128))) + square(x),
    "Lu": lambda x: tf.linalg.lu(square(x))[0] + square(x),
    "eigh_tridiagonal": lambda x: tf.linalg.eigh_tridiagonal(x[:, 0], x[:1, 1]),
    "ImageProjectiveTransformV3": lambda x: keras.ops.image.affine_transform(
        tf.reshape(x, (-1, 2, 2, 1)), tf.constant([[1.0, 0.2, 0, 0, 0.9, 0.1, 0, 0]])
    ),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("nested", [False, True])
def test_refused(name, nested):
    f = tf.function(REFUSED[name], autograph=False) if nested else REFUSED[name]
    with pytest.raises(DerivativeError, match=name):
        wrt.jacobian(f, tf.constant(X))


@pytest.mark.parametrize("name", ["Dilation2D", "FractionalMaxPool", "IgammaGradA"])
def test_refused_at_second_order(name):
    kernel = tf.constant([[[0.1, 0.2], [0.3, 0.1]]], tf.float64)
    f = {
        "Dilation2D": lambda x: tf.nn.dilation2d(x, kernel, [1, 1, 1, 1], "SAME", "NHWC", [1, 1, 1, 1]) ** 2,
        "FractionalMaxPool": lambda x: tf.nn.fractional_max_pool(x, [1, 1.5, 1.5, 1], seed=1)[0] ** 2,
        "IgammaGradA": lambda x: tf.math.igamma(abs(x) + 0.5, tf.constant(0.7, tf.float64)),
    }[name]
    wrt.jacobian(f, tf.constant(IMAGES), mode="reverse")
    with pytest.raises(DerivativeError, match=name):
        wrt.hessian(f, tf.constant(IMAGES), lambda y: tf.reduce_sum(y, [1, 2, 3]))


def test_the_ways_out_of_a_refusal():
    @tf.custom_gradient
    def ruled(x):
        return REFUSED["PyFunc"](x), lambda u: u * (2 * x + 1)

    close(wrt.jacobian(ruled, tf.constant(X)), (2 * X + 1)[:, :, None] * np.eye(4), 1e-12)
    f = lambda x: CUT(REFUSED["PyFunc"](x)) + x**2
    close(wrt.jacobian(f, tf.constant(X)), 2 * X[:, :, None] * np.eye(4), 1e-12)
