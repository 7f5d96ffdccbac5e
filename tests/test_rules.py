"""Modified backward rules, against the same rules by hand in NumPy."""

import keras
import numpy as np
import pytest
from conftest import ENGINE
from keras import layers as L
from subjects import array, tensor

import wrt
from wrt.errors import OptionError, SelectionError
from wrt.rules import Squareplus, deconvnet, guided, straight_through

RNG = np.random.default_rng(3)
SIZES = ((4, 6), (6,), (6, 5), (5,), (5, 2), (2,))
WEIGHTS = [RNG.normal(size=size) for size in SIZES]
X = RNG.normal(size=(7, 4))


def positive(a):
    return np.maximum(a, 0)


def own(u, x, back):
    """Arithmetic only: it works on every engine, and is no derivative of anything."""
    return 3 * back(u) + u * x


LOCAL = {
    "guided": (guided, lambda u, z: positive(u) * (z > 0)),
    "deconvnet": (deconvnet, lambda u, z: positive(u)),
    "straight": (straight_through, lambda u, z: u),
    "squareplus": (Squareplus(0.5), lambda u, z: u * (1 + z / np.sqrt(z * z + 0.5)) / 2),
    "own": (own, lambda u, z: 3 * u * (z > 0) + u * z),
    "ordinary": (lambda u, x, back: back(u), lambda u, z: u * (z > 0)),
}


def by_hand(first, second, unit=1, x=X):
    """Pulled back through both ReLUs by these local rules."""
    w1, b1, w2, b2, w3, _ = WEIGHTS
    z1 = x @ w1 + b1
    z2 = positive(z1) @ w2 + b2
    u = np.tile(w3[:, unit], (len(x), 1))
    return first(second(u, z2) @ w2.T, z1) @ w1.T


def ordinary(u, z):
    return u * (z > 0)


def filled(model):
    model.set_weights(WEIGHTS)
    return model


def by_activation():
    dense = [L.Dense(6, activation="relu", name="a"), L.Dense(5, activation="relu", name="b"), L.Dense(2)]
    return filled(keras.Sequential([keras.Input((4,)), *dense]))


def by_layers():
    return filled(
        keras.Sequential(
            [keras.Input((4,)), L.Dense(6), L.ReLU(name="a"), L.Dense(5), L.Activation("relu"), L.Dense(2)]
        )
    )


def by_function():
    x = keras.Input((4,))
    return filled(keras.Model(x, L.Dense(2)(keras.ops.relu(L.Dense(5)(keras.activations.relu(L.Dense(6)(x)))))))


class Own(keras.Model):
    """The same ReLU layer twice, and a functional one in `call`."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.end, self.relu = L.Dense(6), L.Dense(5), L.Dense(2), L.ReLU(name="again")

    def call(self, x):
        return self.end(keras.ops.relu(self.two(self.relu(self.relu(self.one(x))))))


@pytest.mark.parametrize("name", LOCAL)
@pytest.mark.parametrize("make", [by_activation, by_layers, by_function])
def test_everywhere(make, name):
    rule, local = LOCAL[name]
    model = make()
    for key in ("relu", "ReLU") if name == "guided" else ("relu",):
        found = wrt.gradient(model, X, 1, rules={key: rule})
        np.testing.assert_allclose(found, by_hand(local, local), rtol=1e-6, atol=1e-4)
    np.testing.assert_allclose(wrt.gradient(model, X, 1), by_hand(ordinary, ordinary), atol=1e-5)  # nothing stays


@pytest.mark.parametrize("make", [by_activation, by_layers])
def test_one_layer(make):
    rule, local = LOCAL["own"]
    found = wrt.gradient(make(), X, 1, rules={"a": rule})
    np.testing.assert_allclose(found, by_hand(local, ordinary), rtol=1e-6, atol=1e-4)


def test_types_of_layers():
    """`Dense` and `Activation` name the activations of all such layers; a layer's own name may differ."""
    rule, local = LOCAL["own"]
    np.testing.assert_allclose(
        wrt.gradient(by_activation(), X, 1, rules={"Dense": rule}), by_hand(local, local), rtol=1e-6, atol=1e-4
    )
    np.testing.assert_allclose(
        wrt.gradient(by_layers(), X, 1, rules={"Activation": rule}), by_hand(ordinary, local), atol=1e-4
    )


def test_two_rules():
    (one, first), (two, second) = LOCAL["guided"], LOCAL["own"]
    found = wrt.gradient(by_activation(), X, 1, rules={"a": one, "b": two})
    np.testing.assert_allclose(found, by_hand(first, second), rtol=1e-6, atol=1e-4)


def test_a_reused_layer_and_a_functional_one():
    """ReLU twice is ReLU, but straight-through twice differs from once: all three calls are found."""
    model = Own()
    model(X[:1].astype("float32"))
    filled(model)
    np.testing.assert_allclose(
        wrt.gradient(model, X, 1, rules={"relu": straight_through}),
        by_hand(lambda u, z: u, lambda u, z: u),
        atol=1e-4,
    )
    np.testing.assert_allclose(
        wrt.gradient(model, X, 1, rules={"again": lambda u, x, back: 2 * u}),
        by_hand(lambda u, z: 4 * u, ordinary),
        atol=1e-4,
    )


def test_all_other_calls():
    """In vjp, for K units, with tensors, in batches and in a derivative model."""
    rule, local = LOCAL["guided"]
    model, wanted = by_activation(), by_hand(local, local)
    rules = {"relu": rule}
    unit = np.tile([0.0, 1.0], (7, 1))
    np.testing.assert_allclose(wrt.vjp(model, X, unit, rules=rules), wanted, atol=1e-5)
    np.testing.assert_allclose(wrt.gradient(model, X, "all", rules=rules)[:, 1], wanted, atol=1e-5)
    np.testing.assert_allclose(wrt.gradient(model, X, "all", rules=rules, chunk=2)[:, 1], wanted, atol=1e-5)
    np.testing.assert_allclose(wrt.gradient(model, X, 1, rules=rules, batch_size=3), wanted, atol=1e-5)
    np.testing.assert_allclose(array(wrt.gradient(model, tensor(X, "float32"), 1, rules=rules)), wanted, atol=1e-5)
    backward = wrt.backward_model(model, rules=rules)
    np.testing.assert_allclose(backward.predict([X, unit], verbose=0), wanted, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
@pytest.mark.parametrize(("name", "key"), [("guided", "relu"), ("squareplus", "relu"), ("own", "Dense")])
def test_trained_through_a_rule(name, key):
    """One step of descent is the derivative of the squared modified gradient, by differences of the formula.

    Forward, the weights act through ordinary ReLUs: the rule holds for the inner derivative only.
    """
    model = by_activation()
    rule, local = LOCAL[name]
    backward = wrt.backward_model(model, of=1, rules={key: rule})
    backward.compile(keras.optimizers.SGD(1.0), "mse")
    target = np.zeros_like(X)
    before = [array(v.value).copy() for v in model.variables]
    backward.fit(X, target, batch_size=7, verbose=0)
    steps = [b - array(v.value) for b, v in zip(before, model.variables, strict=True)]
    for number in (0, 1, 2, 4):
        direction = RNG.normal(size=SIZES[number])
        wanted = _slope(number, direction, local)
        assert np.sum(steps[number] * direction) == pytest.approx(wanted, rel=1e-3, abs=1e-5)


def _slope(number, direction, local, step=1e-6):
    losses = []
    for sign in (1, -2):
        WEIGHTS[number] += sign * step * direction
        losses.append(np.mean(by_hand(local, local) ** 2))
    WEIGHTS[number] += step * direction
    return (losses[0] - losses[1]) / (2 * step)


@pytest.mark.parametrize("name", ["elu", "leaky_relu", "selu", "sigmoid", "softplus", "tanh", "relu6", "softsign"])
def test_other_activations(name):
    """Straight-through makes a network of one activation linear."""
    model = keras.Sequential([keras.Input((4,)), L.Dense(6), L.Activation(name), L.Dense(2)])
    w1, _, w2, _ = model.get_weights()
    found = wrt.gradient(model, X, 1, rules={name: straight_through})
    np.testing.assert_allclose(found, np.tile(w1 @ w2[:, 1], (7, 1)), atol=1e-5)


KNOWN = {("torch", "gelu"), ("torch", "silu"), ("jax", "silu")}


@pytest.mark.parametrize("name", ["gelu", "silu", "mish"])
def test_activations_of_several_operators(name):
    """Found by the layer's name on every engine; by their own where the framework knows them, else an error."""
    model = keras.Sequential([keras.Input((4,)), L.Dense(6), L.Activation(name, name="act"), L.Dense(2)])
    w1, _, w2, _ = model.get_weights()
    wanted = np.tile(w1 @ w2[:, 1], (7, 1))
    np.testing.assert_allclose(wrt.gradient(model, X, 1, rules={"act": straight_through}), wanted, atol=1e-5)
    if (ENGINE, name) in KNOWN:
        np.testing.assert_allclose(wrt.gradient(model, X, 1, rules={name: straight_through}), wanted, atol=1e-5)
    else:
        with pytest.raises(SelectionError, match="layer's name"):
            wrt.gradient(model, X, 1, rules={name: straight_through})


def test_in_a_loop():
    """An activation inside a recurrent layer: found, or refused with a way out."""
    model = keras.Sequential([keras.Input((3, 2)), L.SimpleRNN(4, activation="relu", name="rnn"), L.Dense(1)])
    x = RNG.normal(size=(3, 3, 2))
    assert wrt.gradient(model, x, 0).any()
    if ENGINE == "tensorflow":
        with pytest.raises(SelectionError, match="loop"):
            wrt.gradient(model, x, 0, rules={"relu": nothing})
    else:
        assert not wrt.gradient(model, x, 0, rules={"relu": nothing}).any()


def nothing(u, x, back):
    return 0 * u


def bad(model, rules, **options):
    return lambda: wrt.gradient(model, X, 1, rules=rules, **options)


def slope():
    return keras.Sequential([keras.Input((4,)), L.ReLU(negative_slope=0.1, threshold=0.2, name="odd"), L.Dense(2)])


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (bad(by_activation(), {"tanh": guided}), SelectionError, "'tanh'.* matches nothing"),
        (bad(by_activation(), {"bb": guided}), SelectionError, "Did you mean 'b'"),
        (bad(by_activation(), {"dense_17": guided, "relu": guided}), SelectionError, "dense_17"),
        (bad(by_layers(), {"relu": guided, "b": guided}), SelectionError, "'b'"),
        (bad(by_activation(), {"relu": "guided"}), OptionError, r"rule\(u, x, back\)"),
        (bad(by_activation(), {"relu": Squareplus}), OptionError, r"rule\(u, x, back\)"),
        (bad(by_activation(), {}), OptionError, "expected a dict"),
        (bad(by_activation(), [guided]), OptionError, "expected a dict"),
        (bad(by_activation(), {"relu": guided}, mode="forward"), OptionError, "reverse"),
        (bad(slope(), {"relu": guided}), SelectionError, "'odd'"),
        (lambda: wrt.gradient(lambda x: x[:, 0] ** 2, X, rules={"relu": guided}), OptionError, "NumPy"),
        (lambda: Squareplus(0.0), OptionError, "positive"),
    ],
)
def test_bad_input(call, error, says):
    with pytest.raises(error, match=says):
        call()


def test_a_layer_with_weights_and_no_activation():
    model = by_layers()
    with pytest.raises(SelectionError, match="no activation"):
        wrt.gradient(model, X, 1, rules={model.layers[0].name: guided})


def test_an_odd_relu_by_its_name():
    model = slope()
    kernel = model.get_weights()[0]
    found = wrt.gradient(model, X, 1, rules={"odd": straight_through})
    np.testing.assert_allclose(found, np.tile(kernel[:, 1], (7, 1)), atol=1e-6)


if ENGINE == "torch":
    import torch

    class Net(torch.nn.Module):
        """In-place, functional, method and clamped ReLUs."""

        def __init__(self, kind):
            super().__init__()
            self.one, self.two, self.end = (torch.nn.Linear(*SIZES[2 * i]) for i in range(3))
            self.act, self.kind = torch.nn.ReLU(inplace=True), kind
            for layer, i in zip((self.one, self.two, self.end), (0, 2, 4), strict=True):
                layer.weight.data = torch.tensor(WEIGHTS[i].T)
                layer.bias.data = torch.tensor(WEIGHTS[i + 1])

        def forward(self, x):
            x = self.one(x)
            if self.kind == "statement":
                x.relu_()
            else:
                x = {"module": self.act, "method": torch.Tensor.relu, "functional": torch.relu}[self.kind](x)
            return self.end(torch.nn.functional.relu(self.two(x), inplace=self.kind == "module"))

    @pytest.mark.parametrize("kind", ["statement", "module", "method", "functional"])
    @pytest.mark.parametrize("name", LOCAL)
    def test_torch_relus(kind, name):
        rule, local = LOCAL[name]
        found = wrt.gradient(Net(kind), X, 1, rules={"relu": rule})
        np.testing.assert_allclose(found, by_hand(local, local), atol=1e-12)

    def test_torch_modules_by_name_and_type():
        net = Net("module")
        rule, local = LOCAL["own"]
        np.testing.assert_allclose(wrt.gradient(net, X, 1, rules={"act": rule}), by_hand(local, ordinary), atol=1e-12)
        with pytest.raises(SelectionError, match="has weights"):
            wrt.gradient(net, X, 1, rules={"one": guided})
        assert "forward" not in net.act.__dict__

    def test_torch_double_backward_through_a_rule():
        """The derivative of the guided gradient's square with respect to x, against torch's own of the same formula."""
        net = Net("functional")
        x = torch.tensor(X, requires_grad=True)
        g = wrt.gradient(net, x, 1, rules={"relu": Squareplus(0.5)})
        (found,) = torch.autograd.grad((g**2).sum(), x)
        step, unit = 1e-6, np.zeros_like(X)
        unit[2, 3] = step
        local = LOCAL["squareplus"][1]
        losses = [(by_hand(local, local, x=X + sign * unit) ** 2).sum() for sign in (1, -1)]
        assert found[2, 3].item() == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=1e-6)


if ENGINE == "jax":
    import jax
    import jax.numpy as jnp

    @pytest.mark.parametrize("relu", [jax.nn.relu, lambda x: jnp.maximum(x, 0), lambda x: jnp.maximum(0.0, x)])
    @pytest.mark.parametrize("name", ["guided", "own"])
    def test_jax_functions(relu, name):
        w1, b1, w2, b2, w3, b3 = map(jnp.asarray, WEIGHTS)
        rule, local = LOCAL[name]

        def f(x):
            return relu(relu(x @ w1 + b1) @ w2 + b2) @ w3 + b3

        np.testing.assert_allclose(
            wrt.gradient(f, jnp.asarray(X), 1, rules={"relu": rule}), by_hand(local, local), atol=1e-12
        )
        jitted = jax.jit(lambda x: wrt.gradient(f, x, 1, rules={"relu": rule}))
        np.testing.assert_allclose(jitted(X), by_hand(local, local), atol=1e-12)

    def test_jax_in_a_scan():
        def f(x):
            return jax.lax.scan(lambda c, _: (jax.nn.relu(c - 0.1), None), x, length=3)[0]

        found = wrt.vjp(
            f, jnp.ones((2, 3)) * jnp.array([1, 0.2, -1]), jnp.ones((2, 3)), rules={"relu": straight_through}
        )
        np.testing.assert_array_equal(found, np.ones((2, 3)))
