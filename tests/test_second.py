"""Second order: Hessians, their diagonals, products and traces."""

import warnings

import keras
import numpy as np
import pytest
import torch
from conftest import ENGINE
from keras import layers as L
from subjects import array, close, function_net, keras_net, keras_tolerance, points, scenario, tensor, torch_net

import wrt
from wrt.derive.choose import Request
from wrt.derive.job import Options, prepare
from wrt.errors import DtypeError, InputError, NonFiniteWarning, OptionError, SaturationWarning, SelectionError

V = np.random.default_rng(3).normal(size=(5, 3))


def mlp(engine):
    """Two units of a network, and their Hessians by hand."""
    chosen = scenario("mlp")
    return chosen.on(engine), tensor(chosen.x[0]), chosen.hessian(chosen.x[0])


def test_closed_form(engine):
    f, x, wanted = mlp(engine)
    found, outputs = wrt.hessian(f, x, "all", mode="reverse", with_output=True)
    close(found, wanted, 1e-13)
    close(found, np.swapaxes(wanted, -1, -2), 1e-13)
    close(outputs, array(f(x)), 1e-13)
    close(wrt.laplacian(f, x, "all", mode="reverse"), np.einsum("nkii->nk", wanted), 1e-13)
    close(wrt.hvp(f, x, tensor(V), "all", mode="reverse"), np.einsum("nkij,nj->nki", wanted, V), 1e-13)


def test_closed_form_by_pushes(engine):
    f, x, wanted = mlp(engine)
    close(wrt.hessian(f, x, "all", mode="forward"), wanted, 1e-13)
    if ENGINE == "torch":  # the same pushes, taken otherwise
        close(wrt.hessian(f, x, "all", mode="forward", diagonal=True), np.einsum("nkii->nki", wanted), 1e-13)
        close(wrt.laplacian(f, x, "all", mode="forward"), np.einsum("nkii->nk", wanted), 1e-13)
        close(wrt.hvp(f, x, tensor(V), "all", mode="forward"), np.einsum("nkij,nj->nki", wanted, V), 1e-13)


def test_one_scalar_per_sample_and_the_diagonal(engine):
    chosen = scenario("sines")
    x = points(7, seed=1)
    wanted = chosen.hessian(x)
    close(wrt.hessian(chosen.on(engine), tensor(x)), wanted, 1e-13)
    close(wrt.hessian(chosen.on(engine), tensor(x), diagonal=True), np.einsum("nii->ni", wanted), 1e-13)
    if ENGINE == "torch":
        single = lambda a: chosen.on(engine)(a)[:, None]
        close(wrt.hessian(single, tensor(x)), wanted, 1e-13)
        close(wrt.hessian(single, tensor(x), "all"), wanted[:, None], 1e-13)
        close(wrt.laplacian(single, tensor(x)), np.einsum("nii->n", wanted), 1e-13)
        close(wrt.hessian(lambda a: np.sin(a).prod(1), x), wanted, 1e-7)  # NumPy: differences of differences


def torch_pooling():
    """A torch module, and its Hessian by `torch.func`."""
    layers = torch.nn.Conv2d(1, 2, 2, padding=1), torch.nn.Softplus(), torch.nn.MaxPool2d(2, stride=1, padding=1)
    model = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(50, 2), torch.nn.Tanh()).double()
    return model, torch.func.vmap(torch.func.hessian(lambda a: model(a[None])[0, 1]))


def jax_pooling():
    """A JAX function, and its Hessian by `jax.hessian`."""
    import jax
    import jax.numpy as jnp

    kernel, w = tensor(points(2)[:, :2].reshape(2, 1, 2, 1)), tensor(np.resize(points(7), (9, 2)))

    def f(x):
        y = jax.nn.softplus(jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME"))
        y = jax.lax.reduce_window(y, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 1, 1), "SAME")
        return jnp.tanh(y[:, 0].reshape(-1, 9) @ w)

    return f, jax.jit(jax.vmap(jax.hessian(lambda a: f(a[None])[0, 1])))


def tensorflow_pooling():
    """A Keras model of what TensorFlow's second derivatives are wrong for, and differences of its gradient."""
    inputs = keras.Input((3, 3, 1), dtype="float64")
    y = L.Conv2D(2, 2, padding="same", activation="softplus", dtype="float64")(inputs)
    y = L.LayerNormalization(dtype="float64")(L.MaxPooling2D(2, strides=1, padding="same", dtype="float64")(y))
    y = L.Dense(2, activation="softsign", dtype="float64")(L.Flatten(dtype="float64")(y))
    model = keras.Model(inputs, L.Softmax(dtype="float64")(y))

    def differences(x):
        steps = 1e-5 * np.eye(9).reshape(9, 3, 3, 1)
        moved = np.stack([array(x) + h for h in (*steps, *-steps)])
        slopes = wrt.gradient(model, moved.reshape(-1, 3, 3, 1), wrt.logit(1)).reshape(2, 9, -1, 3, 3, 1)
        return np.moveaxis((slopes[0] - slopes[1]) / 2e-5, 0, -1).reshape(-1, 3, 3, 1, 3, 3, 1)

    return model, differences


def test_a_network_with_pooling():
    """Max pooling that keeps the size, inside what is compiled."""
    makers = {"torch": (torch_pooling, 1), "jax": (jax_pooling, 1), "tensorflow": (tensorflow_pooling, wrt.logit(1))}
    make, of = makers[ENGINE]
    model, own = make()
    x = tensor(np.random.default_rng(4).normal(size=(3, 3, 3, 1) if ENGINE == "tensorflow" else (3, 1, 3, 3)))
    wanted = array(own(x))
    largest = np.abs(wanted).max()
    assert largest > 1e-3
    close(wrt.hessian(model, x, of), wanted, 1e-8 if ENGINE == "tensorflow" else 1e-12 * largest)


def test_units_labels_and_batches():
    """Of a Keras model, NumPy in and out; batches change nothing."""
    x, model = points(7), keras_net()
    every = wrt.hessian(model, x, "all", batch_size=3)
    assert every.shape == (7, 4, 3, 3)
    assert isinstance(every, np.ndarray)
    close(every, np.swapaxes(every, -1, -2), 1e-6)
    labels = np.array([0, 1, 2, 3, -1, 0, 1])
    close(wrt.hessian(model, x, labels), every[np.arange(7), labels], keras_tolerance())
    if ENGINE == "torch":
        close(
            wrt.hessian(model, x, labels[:, None].repeat(2, 1)), every[np.arange(7), labels][:, None].repeat(2, 1), 1e-4
        )
        close(wrt.hessian(model, x, lambda y: y[:, 0] - y[:, 2]), every[:, 0] - every[:, 2], 1e-4)
        close(wrt.hessian(model, x[:1], 2), every[:1, 2], 1e-4)
        close(wrt.hessian(torch_net(), x, 2), wrt.hessian(function_net(), tensor(x), 2), 1e-12)


def test_the_second_call_compiles_nothing():
    x = tensor(points(4))
    for _ in range(2):
        TRACED.clear()
        close(wrt.hessian(traced, x, mode="reverse"), 2 * np.einsum("i,j,n->nij", *[[1, 2, 3]] * 2, np.ones(4)), 1e-12)
    assert len(TRACED) == 1  # torch evaluates, where the others trace and have compiled


TRACED = []


def traced(x):
    TRACED.append(1)
    return (x[:, 0] + 2 * x[:, 1] + 3 * x[:, 2]) ** 2


def test_nesting():
    """Outputs first, then inputs twice."""
    if ENGINE != "torch":
        return
    f = lambda a, b: {"p": a[:, :2] * b, "q": torch.sin(a[:, 0]) * b[:, 1] ** 2}
    a, b = points(4), points(4, seed=5)[:, :2]
    x = {"a": tensor(a), "b": tensor(b)}
    found = wrt.hessian(f, x, "all")
    assert found["p"]["a"]["b"].shape == (4, 2, 3, 2)
    mixed = np.zeros((4, 3, 2))
    mixed[:, 0, 1] = 2 * np.cos(a[:, 0]) * b[:, 1]
    close(found["q"]["a"]["b"], mixed, 1e-13)
    close(found["q"]["b"]["a"], np.swapaxes(mixed, 1, 2), 1e-13)
    forward = wrt.hessian(f, x, "all", mode="forward")
    close(forward["p"]["b"]["a"], array(found["p"]["b"]["a"]), 1e-13)
    trace = -np.sin(a[:, 0]) * b[:, 1] ** 2 + 2 * np.sin(a[:, 0])
    close(wrt.laplacian(f, x, wrt.output("q")), trace, 1e-13)
    every = wrt.laplacian(f, x, "all")
    close(every["q"], trace, 1e-13)
    close(every["p"], np.zeros((4, 2)), 1e-13)
    alone = wrt.hessian(f, x, wrt.output("q"), wrt="b")
    close(alone, array(found["q"]["b"]["b"]), 1e-13)
    v = {"a": tensor(points(4, seed=6)), "b": tensor(points(4, seed=7)[:, :2])}
    product = wrt.hvp(f, x, v, "all")
    blocks = found["q"]["b"]
    wanted = np.einsum("nij,nj->ni", array(blocks["a"]), array(v["a"]))
    wanted += np.einsum("nij,nj->ni", array(blocks["b"]), array(v["b"]))
    close(product["q"]["b"], wanted, 1e-13)


def test_an_embedding():
    """With respect to a layer: as that of the rest of the network at the layer's values."""
    if ENGINE != "torch":
        return
    embedding, rest = torch.nn.Embedding(7, 3), torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(6, 4))
    model = torch.nn.Sequential(embedding, rest, torch.nn.Tanh(), torch.nn.Linear(4, 2)).double()
    words = np.array([[1, 2], [3, 3], [6, 0]])
    tail = torch.nn.Sequential(*list(model)[1:])
    own = torch.func.vmap(torch.func.hessian(lambda a: tail(a[None])[0]))
    found = wrt.hessian(model, words, "all", wrt=wrt.layer("0"))
    assert found.shape == (3, 2, 2, 3, 2, 3)
    close(found, array(own(embedding(torch.from_numpy(words)).detach())), 1e-12)


def test_pieces_of_lines_have_a_hessian_of_zeros():
    model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.ReLU(), torch.nn.Linear(5, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not wrt.hessian(model, points(4), 0).any()
    w = tensor(points(3))
    close(wrt.hessian(lambda x: x @ w, tensor(points(2)), 1), np.zeros((2, 3, 3)), 0)


def test_of_nothing_and_in_half():
    model = torch_net()
    assert wrt.hessian(model, points(0), 1).shape == (0, 3, 3)
    assert wrt.hessian(model, points(0), "all", diagonal=True).shape == (0, 4, 3)
    assert wrt.laplacian(model, points(0), 1).shape == (0,)
    assert wrt.hessian(model, torch.empty(0, 3, dtype=torch.float64), 1).shape == (0, 3, 3)
    half = wrt.hessian(torch_net(torch.float16), points(4).astype("float16"), 1)
    assert half.dtype == np.float16
    close(half, wrt.hessian(model, points(4), 1), 0.05)


def test_a_graph_through_the_hessian():
    """The gradient of the Laplacian, which training on a differential equation needs."""
    x = torch.tensor(points(4), requires_grad=True)
    f = lambda x: x[:, 0] ** 3 * x[:, 1] + x[:, 2] ** 2
    (found,) = torch.autograd.grad(wrt.laplacian(f, x).sum(), x)
    values = x.detach()
    wanted = torch.stack([6 * values[:, 1], 6 * values[:, 0], 0 * values[:, 0]], 1)
    close(found, wanted, 1e-12)
    assert not wrt.hessian(f, values).requires_grad


class Cube(torch.autograd.Function):
    """Without a forward derivative."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, u):
        return 3 * u * ctx.saved_tensors[0] ** 2


def test_the_plan_says_which_way_and_why():
    x = tensor(points(2))
    plan = prepare(function_net(), x, 1, None, "hessian", Options()).recipe.plan
    assert plan.mode == {"jax": "forward"}.get(ENGINE, "reverse")
    assert f"Hessian block of 1 x 3 x 3 per sample on {ENGINE}" in str(plan)
    assert "3 pulls cost about" in str(plan)
    if ENGINE == "torch":
        request = Options().request.__class__(mode="forward")
        f = lambda x: Cube.apply(x)[:, 0]
        fallen = prepare(f, x, None, None, "hessian", Options(request)).recipe.plan
        assert fallen.mode == "reverse"
        assert "forward mode is not available" in str(fallen)
        close(wrt.hessian(f, x, mode="forward")[:, 0, 0], 6 * points(2)[:, 0], 1e-12)


def test_bad_input():
    x, model = points(5), torch_net()
    cases = [
        (SelectionError, "hessian: the model gives", lambda: wrt.hessian(model, x)),
        (SelectionError, "laplacian: the model gives", lambda: wrt.laplacian(model, x)),
        (SelectionError, "hvp: of=None leaves|hvp: the model gives", lambda: wrt.hvp(model, x, x)),
        (SelectionError, "out of range", lambda: wrt.hessian(model, x, np.array([0, 1, 2, 3, 4]))),
        (SelectionError, "out of range", lambda: wrt.hessian(model, x, 4)),
        (SelectionError, "one label per sample", lambda: wrt.hessian(model, x, np.zeros(5))),
        (InputError, r"v has shape \(5, 2\); expected \(5, 3\)", lambda: wrt.hvp(model, x, x[:, :2], 1)),
        (InputError, r"v has shape \(4, 3\)", lambda: wrt.hvp(model, x, x[:4], 1)),
        (DtypeError, "integers", lambda: wrt.hessian(lambda a: a * 1.0, torch.ones(5, 3).long(), 1)),
        (OptionError, "diagonal='yes'", lambda: wrt.hessian(model, x, 1, diagonal="yes")),
        (OptionError, "mode='both'", lambda: wrt.hessian(model, x, 1, mode="both")),
    ]
    for error, words, call in cases:
        with pytest.raises(error, match=words):
            call()
    spoilt = np.where(np.arange(15).reshape(5, 3) == 4, np.nan, x)
    with pytest.warns(NonFiniteWarning, match="1 of 5 samples"):
        found = wrt.hessian(model, spoilt, 1)
    assert np.isfinite(np.delete(found, 1, 0)).all()
    sure = torch.nn.Sequential(torch.nn.Linear(3, 1), torch.nn.Sigmoid()).double()
    torch.nn.init.constant_(sure[0].bias, 50.0)
    with pytest.warns(SaturationWarning, match="wrt.logit"):
        wrt.hessian(sure, x)


if ENGINE == "jax":

    def test_the_push_that_counts_is_that_of_the_gradient():
        """A function with a pull of its own has no push, but its gradient has one."""
        import jax

        cube = jax.custom_vjp(lambda x: x**3)
        cube.defvjp(lambda x: (x**3, x), lambda x, u: (3 * x**2 * u,))
        x = tensor(points(4))
        job = prepare(lambda x: cube(x).sum(-1), x, None, None, "hessian", Options(Request(mode="forward"), False))
        assert job.recipe.plan.mode == "forward", str(job.recipe.plan)
        found = wrt.hessian(lambda x: cube(x).sum(-1), x, mode="forward")
        close(found, np.einsum("ni,ij->nij", 6 * points(4), np.eye(3)), 1e-12)
