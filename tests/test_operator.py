"""`wrt.linearize`: products, norms and singular values against NumPy's linear algebra and closed forms."""

import importlib

import keras
import numpy as np
import pytest
import torch
from conftest import ENGINE
from scipy.sparse.linalg import LinearOperator, svds
from subjects import array, close, function_net, math, nets, points, tensor, truth, value

import wrt
from wrt.derive.products import Products
from wrt.errors import InputError, OptionError, SelectionError, WrtWarning

A = np.random.default_rng(3).normal(size=(4, 6))
DECADES = np.random.default_rng(4).normal(size=(40, 30)) * np.geomspace(1, 1e-3, 30)


def linear(matrix, dtype="float64"):
    """x -> matrix x on the engine under test."""
    weights = tensor(matrix.T, dtype)
    return lambda x: x @ weights


def dense_of(matrix):
    """x -> matrix x as a Keras layer, and what its own precision is."""
    layer = keras.layers.Dense(matrix.shape[0], use_bias=False)
    model = keras.Sequential([keras.Input(matrix.shape[1:]), layer])
    layer.set_weights([matrix.T.astype("float32")])
    return model


def random(shape, seed=5):
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize(("name", "make", "tolerance"), nets())
def test_against_the_jacobian_by_hand(name, make, tolerance):
    x = points(5)
    wanted = truth(x)
    jacobian = wrt.linearize(make(), x)
    v, u = random((5, 3)), random((5, 4))
    assert jacobian.shape == (5, 4, 3)
    close(jacobian.matvec(v), np.einsum("noi,ni->no", wanted, v), tolerance)
    close(jacobian.rmatvec(u), np.einsum("noi,no->ni", wanted, u), tolerance)
    close(jacobian.output, value(x), tolerance)
    close(jacobian.dense(), wanted, tolerance)
    close(jacobian.norm(2), np.linalg.norm(wanted, 2, axis=(1, 2)), tolerance)
    close(jacobian.norm("fro"), np.linalg.norm(wanted, axis=(1, 2)), tolerance)
    close(jacobian.svd(3)[1], np.linalg.svd(wanted)[1], tolerance)


@pytest.mark.parametrize("matrix", [A, A.T, DECADES, DECADES.T, A[:1], A[:, :1]], ids=lambda m: str(m.shape))
def test_singular_values_of_a_linear_map(matrix):
    m, n = matrix.shape
    k = min(m, n, 3)
    jacobian = wrt.linearize(linear(matrix), random((2, n)))
    u, s, vh = jacobian.svd(k)
    u_, s_, vh_ = np.linalg.svd(matrix)
    assert (u.shape, s.shape, vh.shape) == ((2, m, k), (2, k), (2, k, n))
    close(s, [s_[:k]] * 2, 1e-8)
    best = (u_[:, :k] * s_[:k]) @ vh_[:k]
    close((u * s[:, None]) @ vh, [best] * 2, 1e-5)  # vectors are as exact as the residual, values as its square
    close(np.swapaxes(u, 1, 2) @ u, [np.eye(k)] * 2, 1e-12)
    close(jacobian.norm(2), [s_[0]] * 2, 1e-8)


@pytest.mark.parametrize("values", [(2, 2, 2, 2, 2), (3, 3, 3, 1, 0), (5, 2, 2, 0, 0), (1, 0, 0, 0, 0)], ids=str)
def test_repeated_and_vanishing_singular_values(values):
    diagonal = tensor(np.array(values[::-1], "float64"))
    u, s, vh = wrt.linearize(lambda x: x * diagonal, random((3, 5))).svd(4)
    close(s, [values[:4]] * 3, 1e-10)
    close(np.swapaxes(u, 1, 2) @ u, [np.eye(4)] * 3, 1e-10)
    close(vh @ np.swapaxes(vh, 1, 2), [np.eye(4)] * 3, 1e-10)


def test_samples_with_a_jacobian_of_zeros():
    x = np.concatenate([np.ones((1, 5)), -np.ones((2, 5))])
    maximum = math().maximum
    jacobian = wrt.linearize(lambda x: 2 * x * maximum(x, 0 * x), x)  # 4x, and 0 where x is negative
    for order in (2, "fro"):
        found = jacobian.norm(order)
        close(found, [4 * (1 if order == 2 else np.sqrt(5)), 0, 0], 1e-10)
    u, s, vh = jacobian.svd(2)
    close(s, [[4, 4], [0, 0], [0, 0]], 1e-10)
    assert np.isfinite(u).all()
    assert np.isfinite(vh).all()


def test_a_sample_that_is_not_finite_spoils_no_other():
    x = np.ones((3, 3))
    x[1] = np.nan
    with pytest.warns(wrt.errors.NonFiniteWarning):
        found = wrt.linearize(function_net(), x).norm(2)
    wanted = np.linalg.norm(truth(np.ones((1, 3)))[0], 2)
    close(found, [wanted, np.nan, wanted], 1e-10)


def test_float32_keras():
    jacobian = wrt.linearize(dense_of(DECADES), random((3, 30)).astype("float32"))
    found = jacobian.norm(2)
    assert found.dtype == np.float32
    close(found, [np.linalg.norm(DECADES, 2)] * 3, 1e-5)
    close(jacobian.norm("fro"), [np.linalg.norm(DECADES)] * 3, 1e-5)
    close(jacobian.svd(2)[1], [np.linalg.svd(DECADES)[1][:2]] * 3, 1e-5)


def test_probes():
    jacobian = wrt.linearize(linear(DECADES), random((400, 30)))
    exact = np.linalg.norm(DECADES)
    few = jacobian.norm("fro", probes=3, seed=1)
    assert np.ptp(few) > 0.05 * exact
    assert abs(np.mean(few**2) / exact**2 - 1) < 0.05  # the square is unbiased: 400 samples of the same matrix
    np.testing.assert_array_equal(few, jacobian.norm("fro", probes=3, seed=1))
    assert np.any(few != jacobian.norm("fro", probes=3, seed=2))
    close(wrt.linearize(linear(A), random((2, 6))).norm("fro", probes=4), [np.linalg.norm(A)] * 2, 1e-10)


@pytest.mark.parametrize("max_memory", [1, 3000, None])
@pytest.mark.parametrize("matrix", [A, A.T], ids=["wide", "tall"])
def test_memory_changes_nothing(max_memory, matrix):
    scale = random((5, 1))
    product = linear(matrix)
    jacobian = wrt.linearize(
        lambda x: product(x) * x[:, :1], np.concatenate([scale] * matrix.shape[1], 1), max_memory=max_memory
    )
    wanted = matrix[None] * scale[:, :, None]
    wanted[:, :, 0] += matrix.sum(1) * scale
    close(jacobian.norm("fro"), np.linalg.norm(wanted, axis=(1, 2)), 1e-10)
    for order in (1, 2, np.inf):
        close(jacobian.norm(order), np.linalg.norm(wanted, order, axis=(1, 2)), 1e-10)


def test_a_matrix_that_does_not_fit_is_never_formed(monkeypatch):
    jacobian, asked, run = wrt.linearize(linear(A), random((2, 6)), max_memory=1), [], Products.run
    monkeypatch.setattr(Products, "run", lambda self, what, *rest: (asked.append(what), run(self, what, *rest))[1])
    for order in (1, np.inf, "fro"):
        jacobian.norm(order)
    assert len(asked) == 3 * 4
    assert "rows" not in asked


def test_batches_change_nothing():
    x = points(7)
    whole, batched = (wrt.linearize(function_net(), x, batch_size=size) for size in (None, 3))
    for order in (1, 2, np.inf, "fro"):
        close(batched.norm(order), whole.norm(order), 1e-12)
    close(batched.matvec(x), whole.matvec(x), 1e-12)


def test_too_few_steps_are_told():
    jacobian = wrt.linearize(linear(DECADES[:, :10]), random((1, 10)))
    with pytest.warns(WrtWarning, match="not converged after 3 steps"):
        jacobian.svd(3, steps=3, tol=1e-9)


@pytest.mark.parametrize("samples", [0, 1])
def test_few_samples(samples):
    x = points(samples)
    wanted = truth(x)
    jacobian = wrt.linearize(function_net(), x)
    assert len(jacobian) == samples
    for order in (1, 2, np.inf):
        close(jacobian.norm(order), np.linalg.norm(wanted, order, axis=(1, 2)) if samples else np.zeros(0), 1e-10)
    close(jacobian.norm("fro"), np.linalg.norm(wanted, axis=(1, 2)), 1e-10)
    close(jacobian.norm("fro", probes=4), np.linalg.norm(wanted, axis=(1, 2)), 1e-10)
    assert [a.shape for a in jacobian.svd(2)] == [(samples, 4, 2), (samples, 2), (samples, 2, 3)]
    close(jacobian.dense(), wanted, 1e-10)
    close(jacobian.matvec(x), np.einsum("noi,ni->no", wanted, x), 1e-10)


def pair():
    """Two inputs, two outputs: p_j = a_j b_0j, q_jc = a_j² + b_jc."""

    def model(x):
        a, b = x["a"], x["b"]
        return {"p": a * b[:, 0], "q": (a * a)[:, :, None] + b}

    return model


def pair_dense(a, b):
    """Its Jacobian by hand, (N, 6, 6): p (2) and q (2, 2) above one another, a (2) and b (2, 2) side by side."""
    rows = np.zeros((len(a), 6, 6))
    for j in range(2):
        rows[:, j, j] = b[:, 0, j]
        rows[:, j, 2 + j] = a[:, j]
        for c in range(2):
            rows[:, 2 + 2 * j + c, j] = 2 * a[:, j]
            rows[:, 2 + 2 * j + c, 2 + 2 * j + c] = 1
    return rows


def pair_of(samples=3):
    return {"a": random((samples, 2), 1), "b": random((samples, 2, 2), 2)}


def test_inputs_and_outputs_nest():
    x = pair_of()
    flat = pair_dense(x["a"], x["b"])
    jacobian = wrt.linearize(pair(), x)
    assert jacobian.shape == (3, 6, 6)
    assert jacobian.output_shape == {"p": (3, 2), "q": (3, 2, 2)}
    assert jacobian.input_shape == {"a": (3, 2), "b": (3, 2, 2)}
    v = {"a": random((3, 2), 8), "b": random((3, 2, 2), 9)}
    product = jacobian.matvec(v)
    wanted = np.einsum("nij,nj->ni", flat, np.concatenate([v["a"], v["b"].reshape(3, 4)], 1))
    close(product["p"], wanted[:, :2], 1e-10)
    close(product["q"], wanted[:, 2:].reshape(3, 2, 2), 1e-10)
    back = jacobian.rmatvec(product)
    wanted = np.einsum("nij,ni->nj", flat, wanted)
    close(back["a"], wanted[:, :2], 1e-10)
    close(back["b"], wanted[:, 2:].reshape(3, 2, 2), 1e-10)
    for order in (1, 2, np.inf, "fro"):
        close(jacobian.norm(order), np.linalg.norm(flat, order, axis=(1, 2)), 1e-10)
    u, s, vh = jacobian.svd(6)
    close((u * s[:, None]) @ vh, flat, 1e-10)
    close(jacobian[2] @ np.eye(6), flat[2], 1e-10)
    close(jacobian.dense()["q"]["a"].reshape(3, 4, 2), flat[:, 2:, :2], 1e-10)


def test_of_and_wrt():
    x, wanted = points(4), truth(points(4))
    chosen = wrt.linearize(function_net(), x, np.array([[0, 3], [1, 1], [2, 0], [-1, 2]]))
    rows = np.take_along_axis(wanted, np.array([[0, 3], [1, 1], [2, 0], [3, 2]])[:, :, None], 1)
    close(chosen.norm("fro"), np.linalg.norm(rows, axis=(1, 2)), 1e-10)
    close(chosen[3] @ np.eye(3), rows[3], 1e-10)
    pairs = pair_of()
    flat = pair_dense(pairs["a"], pairs["b"])
    close(wrt.linearize(pair(), pairs, wrt="b").norm(2), np.linalg.norm(flat[:, :, 2:], 2, axis=(1, 2)), 1e-10)
    close(wrt.linearize(function_net(), x, 2).norm(2), np.linalg.norm(wanted[:, 2], axis=1), 1e-10)


def test_adjoint():
    x, v, u = points(6), random((6, 3)), random((6, 4))
    jacobian = wrt.linearize(function_net(), x)
    close((u * jacobian.matvec(v)).sum(1), (jacobian.rmatvec(u) * v).sum(1), 1e-12)


def test_scipy():
    x, wanted = points(5), truth(points(5))
    jacobian = wrt.linearize(function_net(), x)
    one = jacobian[-2]
    assert isinstance(one, LinearOperator)
    assert one.shape == (4, 3)
    close(one.matmat(np.eye(3)), wanted[3], 1e-10)
    close(one.matvec(np.ones((3, 1)))[:, 0], wanted[3].sum(1), 1e-10)
    close(one.T @ np.eye(4), wanted[3].T, 1e-10)
    close(one.H @ np.eye(4), wanted[3].T, 1e-10)
    close(one.rmatmat(np.eye(4)), wanted[3].T, 1e-10)
    close(svds(one, k=2)[1][::-1], np.linalg.svd(wanted[3])[1][:2], 1e-8)
    close(jacobian[1:4].norm(2), np.linalg.norm(wanted[1:4], 2, axis=(1, 2)), 1e-10)
    close(jacobian[1:4][0] @ np.eye(3), wanted[1], 1e-10)


def test_tensors():
    x, wanted = points(3), truth(points(3))
    jacobian = wrt.linearize(function_net(), tensor(x))
    v = random((3, 3))
    results = {
        "matvec": (jacobian.matvec(tensor(v)), np.einsum("noi,ni->no", wanted, v)),
        "dense": (jacobian.dense(), wanted),
        "norm": (jacobian.norm(2), np.linalg.norm(wanted, 2, axis=(1, 2))),
        "fro": (jacobian.norm("fro"), np.linalg.norm(wanted, axis=(1, 2))),
        "svd": (jacobian.svd(3)[1], np.linalg.svd(wanted)[1]),
    }
    for found, expected in results.values():
        assert type(found) is type(tensor(x))
        close(found, expected, 1e-10)
    close(jacobian[1] @ np.eye(3), wanted[1], 1e-10)


def differentiated(function, x):
    """Gradient of sum(function(x)) by the framework itself, compiled where it compiles."""
    framework = importlib.import_module(ENGINE)
    if ENGINE == "jax":
        return framework.jit(framework.grad(lambda x: function(x).sum()))(tensor(x))
    if ENGINE == "torch":
        x = tensor(x).requires_grad_()
        return torch.autograd.grad(function(x).sum(), x)[0]
    return _tape(framework, function, tensor(x))


def _tape(tf, function, x):
    @tf.function(autograph=False)  # which would wrap our errors in its own
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.reduce_sum(function(x))
        return tape.gradient(y, x)

    return gradient(x)


def test_products_are_differentiable_inside_the_framework():
    """d/dx sum(J v) for y = (x0³, x1² x0): rows 3 x0² v0 and x1² v0 + 2 x1 x0 v1."""
    x, v = points(4)[:, :2], random((4, 2))
    stack = math().stack

    def model(x):
        return stack([x[:, 0] ** 3, x[:, 1] ** 2 * x[:, 0]], 1)

    def product(x):
        return wrt.linearize(model, x, differentiable=True).matvec(tensor(v))

    wanted = np.stack([6 * x[:, 0] * v[:, 0] + 2 * x[:, 1] * v[:, 1], 2 * x[:, 1] * v[:, 0] + 2 * x[:, 0] * v[:, 1]], 1)
    close(differentiated(product, x), wanted, 1e-10)


@pytest.mark.parametrize("what", ["norm", "svd", "J\\[i\\]"])
def test_values_are_needed(what):
    def ask(x):
        jacobian = wrt.linearize(function_net(), x, differentiable=True)
        return {"norm": lambda: jacobian.norm(2), "svd": lambda: jacobian.svd(1)[1]}.get(what, lambda: jacobian[0])()

    with pytest.raises(OptionError, match=f"{what}.*J.matvec"):
        differentiated(ask, points(2))


def test_the_second_product_compiles_nothing(compilations):
    calls = []

    def model(x):
        calls.append(1)
        return math().tanh(x) * x

    jacobian = wrt.linearize(model, points(4))
    jacobian.matvec(points(4)), jacobian.rmatvec(points(4)), jacobian.norm(2)
    before, made = len(calls), len(compilations)
    jacobian.matvec(points(4, 1))
    jacobian.rmatvec(points(4, 1))
    assert len(calls) - before <= (3 if ENGINE == "torch" else 2)  # torch is not compiled: pull, push and value
    assert len(compilations) == made


def test_weights_are_read_at_each_product():
    model = dense_of(A)
    jacobian = wrt.linearize(model, random((2, 6)).astype("float32"))
    close(jacobian.norm("fro"), [np.linalg.norm(A)] * 2, 1e-5)
    model.layers[0].set_weights([2 * A.T])
    close(jacobian.norm("fro"), [2 * np.linalg.norm(A)] * 2, 1e-5)


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda j: j[5], SelectionError, "there are 5 samples, 0 to 4"),
        (lambda j: j[-6], SelectionError, "there are 5 samples"),
        (lambda j: j["a"], SelectionError, "number of a sample"),
        (lambda j: j.norm(3), OptionError, "ord=3 is not a choice"),
        (lambda j: j.norm(2, probes=3), OptionError, "ord=2 with probes="),
        (lambda j: j.norm("fro", probes=0), OptionError, "probes=0"),
        (lambda j: j.norm(2, steps=0), OptionError, "steps=0"),
        (lambda j: j.svd(4), OptionError, "from 1 to min"),
        (lambda j: j.svd(0), OptionError, "from 1 to min"),
        (lambda j: j.matvec(np.ones((5, 4))), InputError, "v has shape"),
        (lambda j: j.rmatvec(np.ones((5, 3))), InputError, "u has shape"),
    ],
)
def test_bad_requests(ask, error, message):
    with pytest.raises(error, match=message):
        ask(wrt.linearize(function_net(), points(5)))


def test_errors_come_at_once():
    with pytest.raises(SelectionError):
        wrt.linearize(function_net(), points(5), 9)


def test_description():
    assert (
        repr(wrt.linearize(function_net(), points(5)))
        == f"JacobianOperator(5 samples, 4 outputs x 3 inputs, on {ENGINE})"
    )


def test_array_helper():
    """`close` can fail, for tensors too."""
    with pytest.raises(AssertionError):
        close(tensor(np.ones(2)), array(tensor(np.ones(2))) + 1e-3, 1e-4)
