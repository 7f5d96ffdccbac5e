"""Penalties: against closed forms, differences of those, and the same penalties written by hand for each framework."""

import dataclasses
import doctest
import inspect
import math as python_math

import keras
import numpy as np
import pytest
import torch
from conftest import ENGINE
from subjects import B1, B2, W1, W2, array, close, keras_net, keras_tolerance, math, nets, points, tensor, truth, value

import wrt
from wrt.engines import registry
from wrt.errors import InputError, OptionError, SelectionError
from wrt.models.penalties import Cosine, InputGradient, JacobianNorm, RightReasons, SmallestK, TotalVariation

WEIGHTS = (W1, B1, W2, B2)
X = points(6)
LABELS = np.array([0, 3, 1, 2, 2, 1])
TARGETS = np.random.default_rng(3).normal(size=(6, 4))
DIRECTION = np.array([1.0, -2.0, 0.5])
MASK = np.array([1.0, 0.0, 1.0])
PROBES = np.random.default_rng(4).normal(size=(2, 6, 4))


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def label(w):
    return truth(X, w)[np.arange(6), LABELS]


def weighted(u, w):
    return np.einsum("no,noi->ni", u, truth(X, w))


def loss(w):
    return weighted(softmax(value(X, w)) - np.eye(4)[LABELS], w)


def squared(w):
    return weighted(2 * (value(X, w) - TARGETS), w)


def total(w):
    return weighted(1 - 4 * softmax(value(X, w)), w)


def norm(g, p=2):
    return (np.abs(g) ** p).sum(1).mean()


def smallest(g, k, a=100.0, b=1000.0):
    few = np.sort(np.abs(g), 1)[:, :k]
    return (a * few.sum(1) ** 2 + b * few[:, -1] ** 2).mean()


def cosine(g, d):
    return (1 - (g * d).sum(1) / np.linalg.norm(g, axis=1) / np.linalg.norm(d)).mean()


def projected(w):
    v = PROBES / np.linalg.norm(PROBES, axis=2, keepdims=True)
    return 4 / 2 * (np.einsum("pno,noi->pni", v, truth(X, w)) ** 2).sum((0, 2)).mean()


def with_probes(model, x, y=None):
    return JacobianNorm(2)(model, x, y, probes=PROBES)


def first_squared(output, y):
    return (output[:, 0] - y[:, 0]) ** 2


CASES = {
    "loss": (InputGradient(), LABELS, lambda w: norm(loss(w))),
    "loss, p=1": (InputGradient(p=1), LABELS, lambda w: norm(loss(w), 1)),
    "loss, p=1.5": (InputGradient(p=1.5), LABELS, lambda w: norm(loss(w), 1.5)),
    "loss, p=inf": (InputGradient(p=np.inf), LABELS, lambda w: np.abs(loss(w)).max(1).mean()),
    "squared error": (InputGradient(), TARGETS, lambda w: norm(squared(w))),
    "own loss": (
        InputGradient(loss=first_squared),
        TARGETS,
        lambda w: norm(2 * (value(X, w) - TARGETS)[:, :1] * truth(X, w)[:, 0]),
    ),
    "label": (InputGradient(of="label", p=3), LABELS, lambda w: norm(label(w), 3)),
    "unit": (InputGradient(of=2), None, lambda w: norm(truth(X, w)[:, 2])),
    "several units": (
        InputGradient(of=np.tile([0, 3], (6, 1))),
        None,
        lambda w: (truth(X, w)[:, [0, 3]] ** 2).sum() / 6,
    ),
    "exact": (JacobianNorm(exact=True), None, lambda w: (truth(X, w) ** 2).sum() / 6),
    "projected": (with_probes, None, projected),
    "smallest": (SmallestK(2), LABELS, lambda w: smallest(label(w), 2)),
    "smallest, weights": (SmallestK(1, "label", 3.0, 5.0), LABELS, lambda w: smallest(label(w), 1, 3.0, 5.0)),
    "variation": (TotalVariation(), LABELS, lambda w: np.abs(np.diff(label(w), axis=1)).sum(1).mean()),
    "cosine": (Cosine(DIRECTION), LABELS, lambda w: cosine(label(w), DIRECTION)),
    "cosine of x": (Cosine(lambda x: x, of=1), None, lambda w: (1 - _cosines(truth(X, w)[:, 1], X)).mean()),
    "right reasons": (RightReasons(MASK), None, lambda w: norm(total(w) * MASK)),
}


def _cosines(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def network(weights):
    """The network of `subjects`, of given tensors."""
    w1, b1, w2, b2 = weights
    return lambda x: 1 / (1 + math().exp(-(x @ w1 + b1))) @ w2 + b2


def slopes(scalar, weights):
    """d scalar(weights) / d weights, by the engine's own means."""
    if ENGINE == "jax":
        import jax

        return [np.asarray(g) for g in jax.grad(scalar)(weights)]
    if ENGINE == "torch":
        leaves = [w.detach().clone().requires_grad_() for w in weights]
        grads = torch.autograd.grad(scalar(leaves), leaves, allow_unused=True)
        return [np.zeros(w.shape) if g is None else g.numpy() for g, w in zip(grads, leaves, strict=True)]
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(weights)
        y = scalar(weights)
    return [g.numpy() for g in tape.gradient(y, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)]


def keras_slopes(penalty, model, x, y):
    """The same with respect to the weights of a Keras model, where they are."""
    if ENGINE == "jax":
        fixed = [v.value for v in model.non_trainable_variables]
        scalar = lambda weights: penalty(lambda x: model.stateless_call(weights, fixed, x)[0], x, y)
        return slopes(scalar, [v.value for v in model.trainable_variables])
    variables = [v.value for v in model.trainable_variables]
    if ENGINE == "torch":
        grads = torch.autograd.grad(penalty(model, x, y), variables, allow_unused=True)
        return [np.zeros(v.shape) if g is None else g.numpy() for g, v in zip(grads, variables, strict=True)]
    import tensorflow as tf

    with tf.GradientTape() as tape:
        scalar = penalty(model, x, y)
    return [tf.convert_to_tensor(g).numpy() for g in tape.gradient(scalar, variables, unconnected_gradients="zero")]


def differences(function, weights, step=1e-4):
    """Four-point central differences of a NumPy function of a tuple of arrays."""
    found = []
    for number, w in enumerate(weights):
        slope = np.zeros(w.shape)
        for index in np.ndindex(w.shape):
            for k, factor in ((1, 8 / 12), (-1, -8 / 12), (2, -1 / 12), (-2, 1 / 12)):
                moved = [v.copy() for v in weights]
                moved[number][index] += k * step
                slope[index] += factor / step * function(moved)
        found.append(slope)
    return found


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("net", nets(), ids=lambda net: net[0])
def test_value(case, net):
    _, make, tolerance = net
    penalty, y, wanted = CASES[case]
    found = penalty(make(), X, y)
    assert registry.owner(found).name == ENGINE
    close(found, wanted(WEIGHTS), 10 * tolerance)


@pytest.mark.parametrize("case", CASES)
def test_slopes_with_respect_to_weights(case):
    penalty, y, wanted = CASES[case]
    found = slopes(lambda weights: penalty(network(weights), X, y), [tensor(w) for w in WEIGHTS])
    for slope, truth_ in zip(found, differences(wanted, WEIGHTS), strict=True):
        close(slope, truth_, 1e-7)


@pytest.mark.parametrize("case", ["loss", "projected", "smallest", "right reasons"])
def test_slopes_with_respect_to_the_weights_of_a_keras_model(case):
    penalty, y, wanted = CASES[case]
    found = keras_slopes(penalty, keras_net(), tensor(X), y)
    for slope, truth_ in zip(found, differences(wanted, WEIGHTS), strict=True):
        close(slope, truth_, max(1e-7, 10 * keras_tolerance()))


def test_slope_with_respect_to_x():
    """L = mean (sum x^2)^p-ish: for f = sum x^4 / 4 the gradient is x^3 and the penalty mean sum x^6."""
    function = lambda x: (x**4)[:, 0] / 4 + (x**4)[:, 1] / 4
    x = X[:, :2]
    found = slopes(lambda leaves: InputGradient(of=None)(function, leaves[0]), [tensor(x)])
    close(found[0], 6 * x**5 / 6, 1e-10)


def cnn():
    keras.utils.set_random_seed(3)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((7, 7, 2)),
            layers.Conv2D(4, 3, activation="tanh"),
            layers.MaxPooling2D(2, strides=1, padding="same"),
            layers.BatchNormalization(),
            layers.Conv2D(3, 2, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(5),
        ]
    )


PICTURES = np.random.default_rng(8).normal(size=(4, 7, 7, 2)).astype("float32")
CLASSES = np.array([0, 4, 2, 2])


def by_hand(model, x, y):
    """Double backpropagation as one writes it: (penalty, slopes) of mean sum (d cross-entropy / d x)^2."""
    if ENGINE == "jax":
        import jax
        import jax.numpy as jnp

        fixed = [v.value for v in model.non_trainable_variables]

        def penalty(weights):
            def cross_entropy(x):
                z = model.stateless_call(weights, fixed, x, training=False)[0]
                return -jax.nn.log_softmax(z)[jnp.arange(len(y)), y].sum()

            return (jax.grad(cross_entropy)(jnp.asarray(x)) ** 2).sum() / len(x)

        return jax.value_and_grad(penalty)([v.value for v in model.trainable_variables])
    if ENGINE == "torch":
        leaf = torch.from_numpy(x).requires_grad_()
        cross_entropy = torch.nn.functional.cross_entropy(model(leaf), torch.from_numpy(y), reduction="sum")
        penalty = (torch.autograd.grad(cross_entropy, leaf, create_graph=True)[0] ** 2).sum() / len(x)
        weights = [v.value for v in model.trainable_variables]
        slopes = torch.autograd.grad(penalty, weights, allow_unused=True)
        return penalty, [torch.zeros_like(w) if g is None else g for g, w in zip(slopes, weights, strict=True)]
    import tensorflow as tf

    variables = [v.value for v in model.trainable_variables]
    with tf.GradientTape() as outer:
        leaf = tf.constant(x)
        with tf.GradientTape() as inner:
            inner.watch(leaf)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, model(leaf, training=False))
        penalty = tf.reduce_sum(inner.gradient(losses, leaf) ** 2) / len(x)
    slopes = outer.gradient(penalty, variables, unconnected_gradients="zero")
    return penalty, [tf.convert_to_tensor(g) for g in slopes]


def test_double_backpropagation_by_hand():
    """A network with max pooling of both kinds, batch normalisation and dropout, in inference mode."""
    model = cnn()
    penalty, wanted = by_hand(model, PICTURES, CLASSES)
    close(InputGradient()(model, PICTURES, CLASSES), array(penalty), 1e-5)
    found = keras_slopes(InputGradient(), model, tensor(PICTURES), CLASSES)
    assert any(np.abs(slope).max() > 0.01 for slope in found)
    for slope, truth_ in zip(found, wanted, strict=True):
        close(slope, array(truth_), 1e-4)


class TestRandomProjections:
    def test_all_unit_vectors_give_the_norm_itself(self):
        units = np.broadcast_to(np.eye(4)[:, None], (4, 6, 4)) * 3.0  # their length does not count
        found = JacobianNorm(4)(network(list(map(tensor, WEIGHTS))), X, probes=units)
        close(found, (truth(X) ** 2).sum() / 6, 1e-10)

    def test_unbiased(self):
        """The mean of 500 single projections lies within four standard errors of the norm."""
        exact = (truth(X) ** 2).sum((1, 2)).mean()
        units = np.random.default_rng(0).normal(size=(500, 6, 4))
        singles = 4 * (np.einsum("pno,noi->pni", units / np.linalg.norm(units, axis=2)[..., None], truth(X)) ** 2).sum(
            2
        )
        error = singles.mean(1).std() / np.sqrt(500)
        found = float(array(JacobianNorm(500)(network(list(map(tensor, WEIGHTS))), X, seed=1)))
        assert 1e-3 < error < 0.05 * exact
        assert abs(found - exact) < 4 * error

    def test_drawn_anew_unless_seeded(self):
        model, penalty = network(list(map(tensor, WEIGHTS))), JacobianNorm()
        seeded = [float(array(penalty(model, X, seed=s))) for s in (1, 1, 2)]
        assert seeded[0] == seeded[1] != seeded[2]
        assert len({float(array(penalty(model, X))) for _ in range(3)}) == 3

    def test_global_generators_stay_as_they_are(self):
        np.random.seed(5)
        wanted = np.random.normal()
        np.random.seed(5)
        JacobianNorm()(network(list(map(tensor, WEIGHTS))), X)
        assert np.random.normal() == wanted

    @pytest.mark.parametrize("shape", [(1, 6, 3), (2, 6, 4), (1, 5, 4), (6, 4)])
    def test_probes_that_do_not_fit(self, shape):
        with pytest.raises(InputError, match=r"expected \(1, 6, 4\): projections, samples, outputs"):
            JacobianNorm()(network(list(map(tensor, WEIGHTS))), X, probes=np.ones(shape))

    def test_several_outputs_and_inputs(self):
        a, b = X[:, :2], X[:, 2:]
        function = lambda inputs: {"p": inputs["a"] * 2, "q": inputs["b"][:, 0] * inputs["a"][:, 0]}
        exact = 2 * 4 + (b[:, 0] ** 2 + a[:, 0] ** 2).mean()
        x = {"a": tensor(a), "b": tensor(b)}
        close(JacobianNorm(exact=True)(function, x), exact, 1e-10)
        units = np.broadcast_to(np.eye(3)[:, None], (3, 6, 3))
        close(JacobianNorm(3)(function, x, probes=units), exact, 1e-10)


class TestSmallest:
    @pytest.mark.parametrize("k", [1, 2, 17, 39, 40])
    def test_against_a_sort(self, k):
        """For f = sum s x^2 the gradient is 2 s x."""
        s, x = np.random.default_rng(1).normal(size=(40, 1)), np.random.default_rng(2).normal(size=(5, 40))
        column = tensor(s)
        scalar = lambda x: (x**2 @ column)[:, 0]
        for number in (k, tensor(np.int32(k))):
            close(SmallestK(number, of=None)(scalar, x), smallest(2 * s[:, 0] * x, k), 1e-10)

    def test_equal_entries_count_as_often_as_asked(self):
        column = tensor(np.array([[2.0], [-2.0], [2.0], [5.0]]))
        scalar = lambda x: (x @ column)[:, 0]
        close(SmallestK(2, of=None)(scalar, np.ones((3, 4))), 100 * 4.0**2 + 1000 * 2.0**2, 1e-10)

    def test_k_changes_inside_a_compiled_function(self):
        traces, column, x = [], tensor(W1[:, :1]), tensor(X)

        def penalty(k):
            traces.append(1)
            return SmallestK(k, of=None)(lambda x: (x @ column)[:, 0], x)

        compiled = registry.engine(ENGINE).compile(penalty) if ENGINE != "torch" else penalty
        for k in (1, 2, 3):
            close(compiled(tensor(np.int32(k))), smallest(np.tile(W1[:, 0], (6, 1)), k), 1e-10)
        assert len(traces) == (3 if ENGINE == "torch" else 1)


@pytest.mark.parametrize("p", [1, 1.5, 2, 3, math, np.inf], ids=lambda p: getattr(p, "__name__", str(p)))
def test_zero_gradients(p):
    """At a gradient of zero every penalty has a value and a slope, which is zero."""
    if p is math:
        penalties = [SmallestK(2, of=None), TotalVariation(of=None), Cosine(DIRECTION, of=None), JacobianNorm()]
    else:
        penalties = [InputGradient(of=None, p=p)]
    for penalty in penalties:
        scalar = lambda weights, penalty=penalty: penalty(lambda x: (x**2 @ weights[0])[:, 0], X)
        zero = tensor(np.zeros((3, 1)))
        assert float(array(scalar([zero]))) == (1.0 if isinstance(penalty, Cosine) else 0.0)
        found = slopes(scalar, [zero])[0]
        assert np.isfinite(found).all()
        assert (isinstance(penalty, InputGradient) and p == np.inf) or p == 1 or np.abs(found).max() < 10


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("case", ["loss", "projected", "smallest", "cosine"])
def test_precision(case, dtype):
    penalty, y, wanted = CASES[case]
    weights = [tensor(w, dtype) for w in WEIGHTS]
    found = penalty(network(weights), tensor(X, dtype), y)
    assert registry.engine(ENGINE).dtype(found) == "float32"
    tolerance = {"float16": 1e-2, "bfloat16": 0.1}[dtype]
    np.testing.assert_allclose(array(found), wanted(WEIGHTS), rtol=tolerance)
    assert all(np.isfinite(array(slope).astype("float32")).all() for slope in slopes_of(penalty, weights, dtype, y))


def slopes_of(penalty, weights, dtype, y):
    widened = [w for w in weights]
    if dtype == "bfloat16" and ENGINE == "torch":  # NumPy has no such dtype
        leaves = [w.detach().clone().requires_grad_() for w in weights]
        grads = torch.autograd.grad(penalty(network(leaves), tensor(X, dtype), y), leaves, allow_unused=True)
        return [g.float().numpy() for g in grads if g is not None]
    return slopes(lambda w: penalty(network(w), tensor(X, dtype), y), widened)


class TestLabels:
    def model(self):
        return network(list(map(tensor, WEIGHTS)))

    @pytest.mark.parametrize(
        "y",
        [
            LABELS,
            LABELS.astype("uint8"),
            LABELS[:, None],
            np.eye(4)[LABELS],
            np.eye(4, dtype=int)[LABELS],
            tensor(LABELS),
            tensor(LABELS[:, None]),
            tensor(np.eye(4)[LABELS]),
        ],
        ids=["(N,)", "uint8", "(N, 1)", "one-hot", "integer one-hot", "tensor", "tensor (N, 1)", "tensor one-hot"],
    )
    def test_forms(self, y):
        close(InputGradient(of="label")(self.model(), X, y), norm(label(WEIGHTS)), 1e-10)
        close(SmallestK(2)(self.model(), X, y), smallest(label(WEIGHTS), 2), 1e-10)

    @pytest.mark.parametrize(
        "y", [LABELS, LABELS[:, None], tensor(LABELS.astype("int32"))], ids=["(N,)", "(N, 1)", "tensor"]
    )
    def test_forms_of_the_loss(self, y):
        close(InputGradient()(self.model(), X, y), norm(loss(WEIGHTS)), 1e-10)

    def test_logit_of_the_label(self):
        model = TestLosses().ended("softmax")
        close(InputGradient(of=wrt.logit("label"))(model, X, LABELS), norm(label(WEIGHTS)), 10 * keras_tolerance())


class TestLosses:
    """Which loss is meant follows from y and from the model's last activation."""

    def ended(self, end, units=4):
        inputs = keras.Input((3,), dtype="float64")
        net = keras_net()(inputs)
        if units == 1:
            net = keras.layers.Lambda(lambda z: z[:, :1], output_shape=(1,), dtype="float64")(net)
        return keras.Model(inputs, keras.layers.Activation(end, dtype="float64")(net))

    @pytest.mark.parametrize("y", [LABELS, np.eye(4)[LABELS]], ids=["labels", "one-hot"])
    @pytest.mark.parametrize("end", ["softmax", "log_softmax"])
    def test_softmax(self, end, y):
        close(InputGradient()(self.ended(end), X, y), norm(loss(WEIGHTS)), 10 * keras_tolerance())

    def test_right_reasons_of_probabilities(self):
        close(RightReasons(MASK)(self.ended("softmax"), X), norm(total(WEIGHTS) * MASK), 10 * keras_tolerance())

    def test_one_sigmoid(self):
        y = np.array([0, 1, 1, 0, 1, 0])
        z = value(X)[:, 0]
        wanted = norm((1 / (1 + np.exp(-z)) - y)[:, None] * truth(X)[:, 0])
        for form in (y, y[:, None], y.astype(float)):
            close(InputGradient()(self.ended("sigmoid", 1), X, form), wanted, 10 * keras_tolerance())
        wanted = norm((1 - 2 / (1 + np.exp(-z)))[:, None] * truth(X)[:, 0])
        close(RightReasons(np.ones(3))(self.ended("sigmoid", 1), X), wanted, 10 * keras_tolerance())

    def test_many_sigmoids(self):
        y = np.eye(4)[LABELS] + np.eye(4)[(LABELS + 1) % 4]
        wanted = norm(weighted(1 / (1 + np.exp(-value(X))) - y, WEIGHTS))
        close(InputGradient()(self.ended("sigmoid"), X, y), wanted, 10 * keras_tolerance())
        with pytest.raises(InputError, match="no distribution over classes"):
            InputGradient()(self.ended("sigmoid"), X, LABELS)

    def test_saturated(self):
        """Logarithms are made from logits, so a certain network has no NaN."""
        weights = (W1, B1, 1e4 * W2, B2)
        for y in (LABELS, np.eye(4)[LABELS]):
            model = keras.Sequential([keras_net(weights=weights), keras.layers.Softmax(dtype="float64")])
            found = keras_slopes(InputGradient(), model, tensor(X), y) if ENGINE != "jax" else []
            assert np.isfinite(array(InputGradient()(model, X, y)))
            assert all(np.isfinite(slope).all() for slope in found)

    def test_probabilities_without_a_softmax_in_sight(self):
        exp = math().exp
        weights = [tensor(w) for w in WEIGHTS]

        def probabilities(weights):
            def function(x):
                e = exp(network(weights)(x))
                return e / (e @ tensor(np.ones((4, 4))))

            return function

        with pytest.raises(SelectionError, match="look like probabilities"):
            InputGradient()(probabilities(weights), X, LABELS)
        with pytest.raises(SelectionError, match="look like probabilities"):
            slopes(lambda w: InputGradient()(probabilities(w), X, LABELS), weights)


class TestData:
    def test_labels_are_data_of_the_compiled_program(self, monkeypatch):
        compiled = []
        kind = type(registry.engine(ENGINE))
        before = kind.compile
        monkeypatch.setattr(kind, "compile", lambda self, f: compiled.append(f) or before(self, f))
        model = keras_net()
        for labels in (LABELS, np.roll(LABELS, 1), np.roll(LABELS, 2)):
            wanted = norm(weighted(softmax(value(X)) - np.eye(4)[labels], WEIGHTS))
            close(InputGradient()(model, X, labels), wanted, 10 * keras_tolerance())
            InputGradient(loss=first_squared)(model, X, TARGETS)
        assert len(compiled) == (2 if registry.engine(ENGINE).capabilities.compiles else 0)

    def test_inside_a_compiled_function(self):
        weights = [tensor(w) for w in WEIGHTS]
        scalar = lambda x, y: InputGradient()(network(weights), x, y)
        compiled = registry.engine(ENGINE).compile(scalar) if ENGINE != "torch" else scalar
        close(compiled(tensor(X), tensor(LABELS)), norm(loss(WEIGHTS)), 1e-10)
        other = np.roll(LABELS, 1)
        wanted = norm(weighted(softmax(value(X)) - np.eye(4)[other], WEIGHTS))
        close(compiled(tensor(X), tensor(other)), wanted, 1e-10)

    def test_several_inputs(self):
        function = lambda inputs: inputs["a"][:, 0] ** 2 + 3 * inputs["b"][:, 0]
        x = {"a": X[:, :2], "b": X[:, 2:]}
        x = {name: tensor(a) for name, a in x.items()}
        close(InputGradient(of=None)(function, x), (4 * X[:, 0] ** 2 + 9).mean(), 1e-10)
        close(InputGradient(of=None, wrt="b")(function, x), 9.0, 1e-10)
        close(
            SmallestK(2, of=None)(function, x),
            smallest(np.stack([2 * X[:, 0], 0 * X[:, 0], 3 + 0 * X[:, 0]], 1), 2),
            1e-10,
        )
        masks = {"a": np.array([1.0, 5.0]), "b": np.array([1.0])}
        wanted = (
            1 - _cosines(np.stack([2 * X[:, 0], 0 * X[:, 0], 3 + 0 * X[:, 0]], 1), np.tile([1.0, 5.0, 1.0], (6, 1)))
        ).mean()
        close(Cosine(masks, of=None)(function, x), wanted, 1e-10)

    def test_embedding(self):
        layers = keras.layers
        model = keras.Sequential(
            [keras.Input((5,), dtype="int32"), layers.Embedding(7, 3, name="words"), layers.Flatten(), layers.Dense(4)]
        )
        x = np.random.default_rng(0).integers(0, 7, (6, 5))
        kernel = array(model.layers[-1].kernel.value)
        close(InputGradient(of="label", wrt="words")(model, x, LABELS), (kernel[:, LABELS] ** 2).sum() / 6, 1e-5)

    def test_nothing_of_the_users_is_touched(self):
        model = cnn()
        before = [array(v.value).copy() for v in model.variables]
        InputGradient()(model, PICTURES, CLASSES)
        assert all(np.array_equal(a, array(v.value)) for a, v in zip(before, model.variables, strict=True))
        if ENGINE == "torch":
            assert all(p.grad is None for p in model.parameters())


class TestVariation:
    def picture(self, *shape):
        slope = np.random.default_rng(2).normal(size=shape)
        return slope, lambda x: (x * tensor(slope)).reshape((x.shape[0], -1)) if ENGINE != "tensorflow" else x * slope

    @pytest.mark.parametrize("rank", [1, 3, 4])
    def test_channels_last(self, rank):
        shape = (5, 4, 3, 2)[:rank]
        model = keras.Sequential([keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(1)])
        g = array(model.layers[-1].kernel.value).reshape(shape)
        axes = range(max(1, rank - 1))
        wanted = sum(np.abs(np.diff(g, axis=a)).sum() for a in axes)
        close(TotalVariation(of=None)(model, np.ones((2, *shape), "float32")), wanted, 1e-5)
        wanted = np.abs(np.diff(g, axis=-1)).sum()
        close(TotalVariation(of=None, axes=[-1])(model, np.ones((2, *shape), "float32")), wanted, 1e-5)

    def test_channels_first(self):
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(24, 1))
        g = model[1].weight.detach().numpy().reshape(2, 3, 4)
        wanted = np.abs(np.diff(g, axis=1)).sum() + np.abs(np.diff(g, axis=2)).sum()
        close(
            TotalVariation(of=None, data_format="channels_first")(model, np.ones((2, 2, 3, 4), "float32")), wanted, 1e-5
        )

    def test_two_axes_may_be_either(self):
        model = keras.Sequential([keras.Input((5, 4)), keras.layers.Flatten(), keras.layers.Dense(1)])
        with pytest.raises(OptionError, match=r"\(1,\) for series, \(1, 2\) for pictures"):
            TotalVariation(of=None)(model, np.ones((2, 5, 4), "float32"))
        with pytest.raises(OptionError, match="different ones of 1 to 2"):
            TotalVariation(of=None, axes=(0, 1))(model, np.ones((2, 5, 4), "float32"))


ONES = np.ones((6, 4))
BAD = {
    "k of zero": (lambda: SmallestK(0), OptionError, "at least 1"),
    "no k": (lambda: SmallestK(), OptionError, "at least 1"),
    "k too large": (lambda: SmallestK(4), OptionError, "k=4 is more than the 3 entries"),
    "p below 1": (lambda: InputGradient(p=0.5), OptionError, "p of at least 1"),
    "p not a number": (lambda: InputGradient(p=float("nan")), OptionError, "p of at least 1"),
    "loss of something else": (lambda: InputGradient("label", loss=first_squared), OptionError, "belongs to of='loss'"),
    "projections": (lambda: JacobianNorm(0), OptionError, "at least 1"),
    "no direction": (lambda: Cosine(), OptionError, "direction is missing"),
    "direction zero": (lambda: Cosine(np.zeros(3)), OptionError, "zero everywhere"),
    "direction's shape": (lambda: Cosine(np.ones(4)), InputError, r"direction has shape \(4,\); expected \(3,\)"),
    "no mask": (lambda: RightReasons(), OptionError, "mask is missing"),
    "mask's shape": (lambda: RightReasons(np.ones((3, 1))), InputError, r"mask has shape \(3, 1\); expected \(3,\)"),
    "mask of two": (lambda: RightReasons([np.ones(3), np.ones(3)]), InputError, r"2 array\(s\); expected 1"),
}
BAD_Y = {
    "missing": (InputGradient(), None, "y is missing"),
    "label missing": (SmallestK(2), None, "y is missing"),
    "out of range": (InputGradient(), LABELS + 2, "label 5 is out of range; the output has 4 classes"),
    "negative": (InputGradient(), LABELS - 1, "label -1 is out of range"),
    "wrong shape": (InputGradient(), np.ones((6, 3)), r"y has shape \(N, 3\); expected integer labels"),
    "wrong count": (InputGradient(), LABELS[:5], "6 samples"),
    "floats": (InputGradient(), LABELS / 2, "expected integer labels"),
    "text": (InputGradient(), np.array(["a"] * 6), "numbers"),
    "several": (InputGradient(), {"a": LABELS, "b": LABELS}, "several arrays"),
    "label of floats": (SmallestK(2), LABELS / 2, "needs integer labels"),
    "label count": (SmallestK(2), LABELS[:5], "6 samples"),
    "label range": (SmallestK(2), LABELS + 2, "out of range"),
    "one-hot width": (SmallestK(2), np.eye(5)[LABELS], "one-hot rows of 5, but the output has 4 units"),
    "not one-hot": (SmallestK(2), np.ones((6, 4)), "not one-hot"),
    "mean of losses": (InputGradient(loss=lambda z, y: z[0, 0]), LABELS, "not their mean"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_penalty(case):
    make, error, message = BAD[case]
    with pytest.raises(error, match=message):
        make()(network(list(map(tensor, WEIGHTS))), X, LABELS)


@pytest.mark.parametrize("case", BAD_Y)
def test_bad_y(case):
    penalty, y, message = BAD_Y[case]
    with pytest.raises((InputError, SelectionError), match=message):
        penalty(network(list(map(tensor, WEIGHTS))), X, y)


@pytest.mark.parametrize("penalty", [InputGradient(), SmallestK(2)], ids=["loss", "label"])
def test_labels_out_of_range_that_are_tensors(penalty):
    with pytest.raises((InputError, SelectionError), match="label 5 is out of range"):
        penalty(network(list(map(tensor, WEIGHTS))), tensor(X), tensor(LABELS + 2, "int32"))


@pytest.mark.parametrize("penalty", [InputGradient(), SmallestK(2), JacobianNorm()], ids=["loss", "label", "norm"])
def test_no_sample(penalty):
    with pytest.raises(InputError, match="no sample"):
        penalty(network(list(map(tensor, WEIGHTS))), X[:0], LABELS[:0])


def test_several_outputs_need_a_loss():
    function = lambda x: (x[:, :1], x[:, 1:])
    with pytest.raises(SelectionError, match="2 outputs; give the loss"):
        InputGradient()(function, tensor(X), LABELS)
    own = InputGradient(loss=lambda outputs, y: outputs[0][:, 0] ** 2 * y)
    close(own(function, tensor(X), LABELS * 1.0), ((2 * X[:, 0] * LABELS) ** 2).mean(), 1e-10)


CLASSES_OF_PENALTIES = (Cosine, InputGradient, JacobianNorm, RightReasons, SmallestK, TotalVariation)


@pytest.mark.parametrize("kind", CLASSES_OF_PENALTIES)
def test_docstring(kind):
    finder, runner = doctest.DocTestFinder(recurse=False), doctest.DocTestRunner()
    tests = finder.find(kind, kind.__name__, globs={})
    assert sum(len(test.examples) for test in tests) >= 2
    assert all(runner.run(test).failed == 0 for test in tests)


def test_every_penalty_is_here():
    found = {c for c in vars(wrt.penalties).values() if inspect.isclass(c) and issubclass(c, wrt.penalties.Penalty)}
    assert found - {wrt.penalties.Penalty} == set(CLASSES_OF_PENALTIES)


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SmallestK(2).k = 3
    assert python_math.isinf(InputGradient(p=python_math.inf).p)
