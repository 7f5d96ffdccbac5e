"""Adversarial inputs: closed forms, the published loop by hand, torchattacks, and what may not happen."""

import warnings

import keras
import numpy as np
import pytest
import torch
from conftest import ENGINE
from subjects import array, close, function_net, math, nets, points, tensor, torch_net, truth, value

import wrt
from wrt.engines import registry
from wrt.errors import DtypeError, InputError, NonFiniteWarning, OptionError, SaturationWarning, SelectionError

NORMS = [np.inf, 2]
ENDS = ["log_softmax", "sigmoid"]
SOME = NORMS[1:]  # what compiling makes long, in full where nothing is compiled
if ENGINE == "torch":
    SOME, ENDS = NORMS, ["logits", "softmax", *ENDS]
MODELS = [pytest.param(make, id=name) for name, make, _ in nets()]
WEIGHTS = np.random.default_rng(5).normal(size=(3, 4))
X, Y = points(5), np.array([3, 0, 2, 1, 1])


def linear(dtype="float64", scale=1.0):
    """A linear function of the engine's tensors to four logits."""
    weights = tensor(WEIGHTS * scale, dtype)
    return lambda x: x @ weights


LINEAR = linear()


def softmax(values):
    raised = np.exp(values - values.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


def direction(gradient, norm):
    """The steepest step of length 1, row by row."""
    if norm == 2:
        return np.array([row / np.linalg.norm(row) for row in gradient])
    return np.sign(gradient)


def lengths(delta, norm):
    return np.array([np.linalg.norm(row.ravel(), norm) for row in delta])


def given(make, x):
    """NumPy for models, a tensor for functions."""
    return tensor(x) if make is function_net else x


def by_hand(x, y, start, norm, epsilon, steps, size, clip, targeted):
    """Projected gradient descent as published, in NumPy, for the network of `subjects`."""
    at = start.copy()
    for _ in range(steps):
        error = softmax(value(at)) - np.eye(4)[y]
        at = at + (-size if targeted else size) * direction(np.einsum("no,noi->ni", error, truth(at)), norm)
        for n in range(len(x)):
            delta = at[n] - x[n]
            if norm == 2:
                delta = delta * min(1, epsilon / np.linalg.norm(delta))
            at[n] = np.clip(x[n] + np.clip(delta, -epsilon, epsilon), *clip)
    return at


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("norm", NORMS)
def test_fgsm_of_a_linear_softmax(norm, targeted):
    found = wrt.attack(LINEAR, tensor(X), Y, epsilon=0.3, norm=norm, targeted=targeted)
    gradient = (softmax(X @ WEIGHTS) - np.eye(4)[Y]) @ WEIGHTS.T
    expected = X + (-0.3 if targeted else 0.3) * direction(gradient, norm)
    close(found.x, expected, 1e-12)
    close(found.distance, np.full(5, 0.3), 1e-12)
    close(found.before, X @ WEIGHTS, 1e-12)
    close(found.after, expected @ WEIGHTS, 1e-12)
    np.testing.assert_array_equal(found.label_before, (X @ WEIGHTS).argmax(1))
    np.testing.assert_array_equal(found.label_after, (expected @ WEIGHTS).argmax(1))
    np.testing.assert_array_equal(found.success, (found.label_after == Y) == targeted)
    assert found.norm == norm


@pytest.mark.parametrize("norm", SOME)
def test_pgd_of_two_classes_ends_where_the_line_leaves_the_ball(norm):
    two = lambda x: LINEAR(x)[:, :2]
    found = wrt.attack(two, tensor(X), Y % 2, method="pgd", epsilon=0.4, norm=norm, steps=7, step_size=0.15)
    rise = (WEIGHTS[:, 1] - WEIGHTS[:, 0]) * np.where(Y % 2, -1, 1)[:, None]
    close(found.x, X + 0.4 * direction(rise, norm), 1e-12)


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize(
    ("norm", "targeted", "clip"), [(np.inf, False, (-3.0, 3.0)), (2, True, (-0.8, 0.7))], ids=["away", "target"]
)
def test_pgd_equals_the_published_loop(make, norm, targeted, clip):
    x, start = (np.clip(a, *clip) for a in (X, X + points(5, 1) * 0.05))
    options = {"epsilon": 0.5, "norm": norm, "steps": 4, "clip": clip, "targeted": targeted}
    found = wrt.attack(make(), given(make, x), Y, method="pgd", step_size=0.3, init=start, **options)
    close(found.x, by_hand(x, Y, start, size=0.3, **options), 1e-5 if make.__name__ == "keras_net" else 1e-12)
    assert (array(found.x) >= clip[0]).all()
    assert (array(found.x) <= clip[1]).all()


@pytest.mark.parametrize("norm", SOME)
def test_every_point_lies_in_the_ball_and_in_the_bounds(norm):
    net, low, high = function_net(dtype="float32"), np.array([-2.0, -1.1, -0.3]), np.array([0.3, 1.7, 2.0])
    x = np.clip(points(40), low, high).astype("float32")
    bounds = low.astype("float32"), high.astype("float32")
    options = {"method": "pgd", "epsilon": 0.2, "norm": norm, "init": "uniform", "clip": (low, high)}
    found = wrt.attack(net, tensor(x), np.arange(40) % 4, **options)
    ends = array(found.x)
    assert ends.dtype == "float32"
    assert ((bounds[0] <= ends) & (ends <= bounds[1])).all()
    assert (ends == bounds[0]).any()
    assert (ends == bounds[1]).any()
    assert 0.19 < found.distance.max() <= 0.2 + 1e-6
    close(found.distance, lengths(ends.astype(float) - x, norm), 1e-12)


def test_rows_are_independent_and_batches_change_nothing():
    net = function_net()
    options = {"method": "pgd", "epsilon": 0.4, "norm": 2, "steps": 3, "init": "uniform"}
    whole = wrt.attack(net, tensor(X), Y, **options)
    for x in (X, tensor(X))[: 1 + (ENGINE == "torch")]:
        part = wrt.attack(net, x, Y, batch_size=2, **options)
        close(part.x, array(whole.x), 1e-12)
        close(part.after, whole.after, 1e-12)
        np.testing.assert_array_equal(part.label_after, whole.label_after)
    alone = wrt.attack(net, tensor(X[:1]), Y[:1], **options)
    close(alone.x, array(whole.x)[:1], 1e-12)
    assert alone.distance.shape == alone.success.shape == (1,)
    none = wrt.attack(net, X[:0], Y[:0], **options)
    assert none.x.shape == (0, 3)
    assert none.success.shape == (0,)
    assert "0 of 0 succeeded" in repr(none)


def classifier(kind):
    units = 1 if kind == "sigmoid" else 4
    last = keras.layers.Dense(units, use_bias=False, activation=None if kind == "logits" else kind)
    model = keras.Sequential([keras.Input((3,)), last])
    model.set_weights([WEIGHTS[:, :units]])
    return model


@pytest.mark.parametrize("kind", ENDS)
def test_what_the_model_ends_in(kind):
    model, x = classifier(kind), X.astype("float32")
    y = Y % 2 if kind == "sigmoid" else Y
    kept = [w.copy() for w in model.get_weights()]
    found = wrt.attack(model, x, y, epsilon=0.25)
    assert all(np.array_equal(a, b) for a, b in zip(kept, model.get_weights(), strict=True))
    if kind == "sigmoid":
        rise, labels = np.where(y, -1, 1)[:, None] * WEIGHTS[:, 0], lambda x: (x @ WEIGHTS[:, 0] > 0).astype(int)
    else:
        rise, labels = (softmax(X @ WEIGHTS) - np.eye(4)[y]) @ WEIGHTS.T, lambda x: (x @ WEIGHTS).argmax(1)
    assert isinstance(found.x, np.ndarray)
    close(found.x, X + 0.25 * np.sign(rise), 1e-6)
    np.testing.assert_array_equal(found.label_before, labels(X))
    np.testing.assert_array_equal(found.label_after, labels(found.x))
    np.testing.assert_array_equal(found.success, found.label_after != y)
    close(found.after, model.predict(found.x, verbose=0), 1e-5)
    half = wrt.attack(model, x, y[:, None], epsilon=0.25)  # labels as a column
    np.testing.assert_array_equal(half.x, found.x)


def test_an_end_that_cannot_be_seen_is_not_taken_for_logits():
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(4, activation="sigmoid")(inputs)
    for end, message in [(keras.ops.softmax, "look like probabilities"), (keras.ops.sigmoid, "no sigmoid was found")]:
        last = hidden if end is keras.ops.softmax else keras.layers.Dense(1)(hidden)
        with pytest.raises(SelectionError, match=message):
            wrt.attack(keras.Model(inputs, end(last)), X, Y % 2, epsilon=0.1)


@pytest.mark.parametrize("norm", SOME)
def test_no_gradient_is_no_nan(norm):
    x, y = np.ones((2, 3)), np.full(2, (np.ones(3) @ WEIGHTS).argmax())
    with pytest.warns(SaturationWarning, match=r"zero in 2 rows \(0, 1\)"):
        found = wrt.attack(linear("float32", 1e5), tensor(x, "float32"), y, method="pgd", epsilon=0.01, norm=norm)
    np.testing.assert_array_equal(array(found.x), x)
    assert not found.success.any()
    faint = linear("float32", 1e-30)  # squares of the gradient are zero in float32, its direction is not
    moved = wrt.attack(faint, tensor(x, "float32"), y, epsilon=0.5, norm=norm)
    close(moved.distance, np.full(2, 0.5), 1e-6)


def test_a_gradient_that_is_not_finite_moves_nothing():
    sqrt = math().sqrt
    root = lambda x: LINEAR(sqrt(x))
    x = np.ones((2, 3))
    x[1, 0] = 0
    with pytest.warns(NonFiniteWarning, match=r"not finite in 1 rows \(1\)"):
        found = wrt.attack(root, tensor(x), [0, 0], epsilon=0.1, norm=2)
    np.testing.assert_array_equal(array(found.x)[1], x[1])
    assert found.distance[0] > 0.09


@pytest.mark.parametrize(("kind", "room"), [("float16", 0.004), *[("bfloat16", 0.03)] * (ENGINE == "torch")])
def test_half_precision(kind, room):
    x = X.astype("float16")
    found = wrt.attack(linear(kind), tensor(x, kind), Y, method="pgd", epsilon=0.25, norm=2, clip=(-4, 4))
    assert registry.engine(ENGINE).dtype(found.x) == kind
    assert abs(found.distance - 0.25).max() < room


def test_nested_and_with_a_graph():
    found = wrt.attack(lambda x: LINEAR(x["only"]), {"only": tensor(X)}, Y, epsilon=0.3)
    close(found.x["only"], array(wrt.attack(LINEAR, tensor(X), Y, epsilon=0.3).x), 1e-12)
    if ENGINE == "torch":
        model, x = torch_net(), torch.from_numpy(X).requires_grad_()
        found = wrt.attack(model, x, torch.from_numpy(Y), method="pgd", epsilon=0.3)
        assert not found.x.requires_grad
        assert x.grad is None
        assert all(p.grad is None and p.requires_grad for p in model.parameters())
        with torch.inference_mode():
            close(wrt.attack(model, x, Y, method="pgd", epsilon=0.3).x, array(found.x), 1e-12)
    if ENGINE == "tensorflow":
        import tensorflow as tf

        weights = tf.Variable(WEIGHTS)
        with tf.GradientTape() as tape:
            found = wrt.attack(lambda x: x @ weights, tensor(X), Y, norm=2, epsilon=0.3)
            total = tf.reduce_sum(found.x)
        assert tape.gradient(total, weights) is None


class Counted:
    """A linear function that counts how often Python runs it."""

    count = 0

    def __init__(self):
        self.net = linear()

    def __call__(self, x):
        Counted.count += 1
        return self.net(x)


def test_evaluations(compilations):
    net = Counted()
    attack = lambda **more: wrt.attack(net, tensor(X), Y, method="pgd", **more)
    counts = []
    for more in ({"steps": 2}, {"steps": 30}, {"steps": 5, "step_size": 0.2, "targeted": True, "init": "uniform"}):
        before = Counted.count
        attack(epsilon=0.1 * more["steps"], **more)
        counts.append((Counted.count - before, len(compilations)))
    if ENGINE == "torch":  # one for each step, and one at both ends
        assert [count for count, _ in counts[1:]] == [32, 7]
    else:  # traced as often for all steps and sizes, and compiled once
        assert counts[1] == counts[2]
        assert counts[1][1] == counts[0][1]


if ENGINE != "torch":

    def test_inside_a_transformation():
        if ENGINE == "jax":
            import jax

            inside = jax.jit(lambda x: wrt.attack(LINEAR, x, Y, epsilon=0.1).x)
        else:
            import tensorflow as tf

            inside = tf.function(lambda x: wrt.attack(LINEAR, x, Y, epsilon=0.1).x, autograph=False)
        with pytest.raises(InputError, match="x has no values yet"):
            inside(tensor(X))


if ENGINE == "torch":
    import torchattacks

    @pytest.fixture(scope="module")
    def digits():
        """A small network that tells digits, and images that it has right."""
        from sklearn.datasets import load_digits

        bunch = load_digits()
        x = torch.from_numpy(bunch.images[:, None] / 16).float()
        y = torch.from_numpy(bunch.target)
        torch.manual_seed(0)
        model = torch.nn.Sequential(
            torch.nn.Conv2d(1, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(288, 10)
        )
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        for _ in range(60):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        return model.eval(), x[:120], y[:120]

    @pytest.mark.parametrize("targeted", [False, True])
    @pytest.mark.parametrize(
        ("options", "make"),
        [
            ({"method": "fgsm"}, lambda m: torchattacks.FGSM(m, eps=0.1)),
            (
                {"method": "pgd", "steps": 5, "step_size": 0.04},
                lambda m: torchattacks.PGD(m, eps=0.1, alpha=0.04, steps=5, random_start=False),
            ),
            (
                {"method": "pgd", "norm": 2, "steps": 5, "step_size": 0.04},
                lambda m: torchattacks.PGDL2(m, 0.1, 0.04, 5, False, eps_for_division=1e-30),
            ),
        ],
        ids=["FGSM", "PGD", "PGDL2"],
    )
    def test_torchattacks(digits, options, make, targeted):
        model, x, y = digits
        theirs = make(model)
        if targeted:
            theirs.set_mode_targeted_by_label(quiet=True)
            y = (y + 1) % 10
        expected = theirs(x, y).numpy()
        found = wrt.attack(model, x.numpy(), y.numpy(), epsilon=0.1, clip=(0, 1), targeted=targeted, **options)
        np.testing.assert_allclose(found.x, expected, atol=1e-5)
        assert abs(expected - x.numpy()).max() > 0.01

    def test_torchattacks_from_a_random_start(digits, monkeypatch):
        model, x, y = digits
        noise = 0.1 * (2 * torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) - 1)
        monkeypatch.setattr(torch.Tensor, "uniform_", lambda self, *_: self.copy_(noise))
        expected = torchattacks.PGD(model, eps=0.1, alpha=0.02, steps=4)(x, y).numpy()
        found = wrt.attack(
            model, x, y, method="pgd", epsilon=0.1, steps=4, step_size=0.02, init=(x + noise).clamp(0, 1), clip=(0, 1)
        )
        np.testing.assert_allclose(found.x.numpy(), expected, atol=1e-5)

    @pytest.mark.parametrize("norm", NORMS)
    def test_success_rises_with_epsilon(digits, norm):
        model, x, y = digits
        scale = 8 if norm == 2 else 1
        rates = {
            method: [
                wrt.attack(model, x, y, method=method, epsilon=epsilon * scale, norm=norm, clip=(0, 1)).success.mean()
                for epsilon in (0.005, 0.05, 0.1, 0.3)
            ]
            for method in ("fgsm", "pgd")
        }
        for rate in rates.values():
            assert (np.diff(rate) >= 0).all()
            assert rate[0] < 0.1
        assert rates["pgd"][-1] > 0.9
        assert (np.array(rates["pgd"]) >= np.array(rates["fgsm"])).all()
        aimed = wrt.attack(
            model, x, (y + 1) % 10, method="pgd", epsilon=0.3 * scale, norm=norm, clip=(0, 1), targeted=True
        )
        assert aimed.success.mean() > 0.9
        np.testing.assert_array_equal(aimed.label_after[aimed.success], ((y + 1) % 10).numpy()[aimed.success])

    def test_default_steps():
        net, options = function_net(), {"method": "pgd", "epsilon": 0.3, "norm": 2}
        told = wrt.attack(net, tensor(X), Y, steps=10, step_size=0.075, **options)
        np.testing.assert_array_equal(array(wrt.attack(net, tensor(X), Y, **options).x), array(told.x))
        near = wrt.attack(net, tensor(X), Y, steps=4, **{**options, "epsilon": 1e-3})  # 2.5 epsilon, cut to one
        close(near.distance, np.full(5, 1e-3), 1e-9)
        single = wrt.attack(net, tensor(X), Y, steps=1, step_size=0.3, **options)
        once = wrt.attack(net, tensor(X), Y, epsilon=0.3, norm=2)
        np.testing.assert_array_equal(array(once.x), array(single.x))

    @pytest.mark.parametrize("norm", NORMS)
    def test_random_starts(norm):
        options = {"method": "pgd", "epsilon": 0.5, "norm": norm, "steps": 1, "step_size": 1e-9, "init": "uniform"}
        x = np.zeros((2000, 3))
        start = array(wrt.attack(LINEAR, tensor(x), np.arange(2000) % 4, **options).x)
        share = (lengths(start, norm) / 0.5) ** 3  # uniform on 0 to 1 where the points are uniform in the ball
        assert share.max() <= 1 + 1e-6
        assert abs(share.mean() - 0.5) < 0.03
        assert abs(np.mean(share < 0.25) - 0.25) < 0.04
        assert abs(start.mean(0)).max() < 0.03
        some = array(wrt.attack(LINEAR, tensor(x[:3]), np.arange(3) % 4, **options).x)
        np.testing.assert_allclose(some, start[:3], atol=1e-8)
        other = array(wrt.attack(LINEAR, tensor(x[:3]), np.arange(3) % 4, **options, seed=1).x)
        assert abs(other - some).max() > 0.01

    def test_memory_that_runs_out_halves_the_batch():
        class Small(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.inner, self.room = torch_net(), 5

            def forward(self, x):
                if len(x) > self.room:
                    raise MemoryError
                return self.inner(x)

        model, options = Small(), {"method": "pgd", "epsilon": 0.3, "init": "uniform"}
        whole = wrt.attack(model, X, Y, **options)
        model.room = 2
        close(wrt.attack(model, X, Y, **options).x, whole.x, 1e-12)

    BAD = [
        ({"method": "bim"}, OptionError, "method='bim' is not a choice"),
        ({"method": "fgms"}, OptionError, "Did you mean 'fgsm'"),
        ({"epsilon": 0}, OptionError, "epsilon=0; expected a number above 0"),
        ({"epsilon": -0.1}, OptionError, "epsilon=-0.1"),
        ({"epsilon": float("nan")}, OptionError, "epsilon=nan"),
        ({"epsilon": np.ones(5)}, OptionError, "epsilon="),
        ({"norm": 1}, OptionError, "norm=1 is not a choice; expected infinity"),
        ({"norm": "inf"}, OptionError, "norm='inf'"),
        ({"norm": True}, OptionError, "norm=True"),
        ({"norm": float("nan")}, OptionError, "norm=nan"),
        ({"steps": 3}, OptionError, "steps= does nothing with method='fgsm'"),
        ({"step_size": 0.1}, OptionError, "step_size= does nothing with method='fgsm'"),
        ({"init": "uniform"}, OptionError, "init= does nothing with method='fgsm'"),
        ({"method": "pgd", "steps": 0}, OptionError, "steps=0"),
        ({"method": "pgd", "steps": 2.0}, OptionError, "steps=2.0"),
        ({"method": "pgd", "step_size": -1}, OptionError, "step_size=-1"),
        ({"method": "pgd", "init": "gaussian"}, OptionError, "init='gaussian' is not a choice"),
        ({"method": "pgd", "init": X[:2]}, InputError, r"init= has shape \(2, 3\)"),
        ({"method": "pgd", "init": X * np.nan}, InputError, "init= holds NaN"),
        ({"method": "pgd", "init": X + 0.2}, InputError, r"init= lies up to 0.2 away from x, outside the ball"),
        (
            {"method": "pgd", "init": X + 0.05, "clip": (X.min(), X.max())},
            InputError,
            "init= lies between .* outside clip",
        ),
        ({"clip": (0, 1)}, InputError, "x lies between .* outside clip="),
        ({"clip": (1, 0)}, OptionError, r"clip=\(1, 0\); expected low < high"),
        ({"clip": 1}, OptionError, r"clip=1; expected \(low, high\)"),
        ({"clip": (np.zeros(2), np.ones(2))}, InputError, r"clip= holds shapes \(2,\) and \(2,\)"),
        ({"targeted": 3}, OptionError, "targeted=3"),
        ({"seed": -1}, OptionError, "seed=-1"),
        ({"batch_size": 0}, OptionError, "batch_size=0"),
        ({"y": Y[:3]}, InputError, r"y has shape \(3,\) but x holds 5 samples"),
        ({"y": None}, InputError, "y is missing"),
        ({"y": 3}, InputError, "y has shape"),
        ({"y": Y + 1}, InputError, "label 4 is out of range"),
        ({"y": Y - 1}, InputError, "label -1 is out of range"),
        ({"y": Y * 1.0}, InputError, r"y has shape \(5,\) and dtype float64; expected \(N,\) integers"),
        ({"y": np.eye(4)[Y]}, InputError, r"labels by y.argmax"),
        ({"y": np.eye(4, dtype=int)[Y]}, InputError, r"labels by y.argmax"),
        ({"y": [[1], [2, 3]]}, InputError, "y cannot become an array"),
        ({"y": [["a"]] * 5}, InputError, "y has shape"),
        ({"x": X * np.nan}, InputError, "x holds NaN or infinite values"),
        ({"x": X[:, :2]}, InputError, "cannot be evaluated on x"),
        ({"x": X.astype(int)}, DtypeError, "x is int64, and integers cannot change by a little"),
        ({"x": X.astype(complex)}, DtypeError, "complex"),
        ({"x": (X, X)}, InputError, "x holds 2 inputs"),
        ({"model": lambda x: torch.sigmoid(x)}, SelectionError, r"the model returns \(N, 3\).* 3 sigmoids"),
        ({"model": lambda x: x[:, 0]}, SelectionError, "no sigmoid was found"),
        ({"model": lambda x: x[:, :, None] * x[:, None]}, SelectionError, r"the model returns \(N, 3, 3\)"),
        ({"model": lambda x: (x, 2 * x)}, SelectionError, r"\(N, 3\) and \(N, 3\).*2 outputs"),
        ({"model": lambda x: torch.exp(x) / torch.exp(x).sum(1, keepdim=True)}, SelectionError, "look like probab"),
        ({"model": lambda x: torch.sigmoid(x[:, 0])}, InputError, "label 3 is out of range; the output is one sigmoid"),
        ({"model": lambda x: x.round().detach() @ torch.ones(3, 4).double()}, SelectionError, "does not depend on x"),
    ]

    @pytest.mark.parametrize(("wrong", "error", "message"), BAD)
    def test_bad_input(wrong, error, message):
        call = {"model": torch_net(), "x": X, "y": Y, "epsilon": 0.1, **wrong}
        with pytest.raises(error, match=message):
            wrt.attack(call.pop("model"), call.pop("x"), call.pop("y"), **call)

    def test_a_model_of_integers():
        model = keras.Sequential(
            [keras.Input((6,), dtype="int32"), keras.layers.Embedding(9, 4), keras.layers.Flatten()]
        )
        with pytest.raises(DtypeError, match="attack the part behind the embedding"):
            wrt.attack(model, np.ones((2, 6), int), [0, 1], epsilon=1)

    def test_labels_of_integers_in_bytes_and_images_of_bytes():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])
        x = np.array([[0, 255, 7], [3, 4, 5]], np.uint8)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = wrt.attack(model, x, np.array([1, 2], np.uint8), epsilon=2, clip=(0, 255))
        assert found.x.dtype == "float32"
        assert set(np.unique(abs(found.x - x))) <= {0.0, 2.0}
