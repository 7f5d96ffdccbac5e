"""A model changes between two calls: weights, layers, attributes, precision; every answer is that of the model now."""

import keras
import numpy as np
import pytest
from conftest import ENGINE
from subjects import array, close, tensor

import wrt

X = np.array([[0.5, -1.0], [1.5, 2.0]])
OLD, NEW = 2.0, 5.0
SCALE = 1.0


def set_scale(s):
    global SCALE
    SCALE = s


def cube(x):
    return x * x * x


def diagonal(s):
    return 3 * s * X[:, :, None] ** 2 * np.eye(2)


class Scale(keras.layers.Layer):
    """s x³, with s a weight or a number of Python."""

    def __init__(self, s, weight=True, **kwargs):
        super().__init__(dtype="float64", **kwargs)
        self.number = 1.0 if weight else s
        self.s = self.add_weight(shape=(), initializer=keras.initializers.Constant(s if weight else 1.0))

    def call(self, x):
        return cube(x) * self.s * self.number


class Subclassed(keras.Model):
    def __init__(self, s):
        super().__init__(dtype="float64")
        self.first, self.second, self.use = Scale(s), Scale(NEW), "first"
        self.number, self.config = 1.0, {"scale": 1.0}

    def build(self, shape):
        self.first.build(shape)
        self.second.build(shape)

    def call(self, x):
        return getattr(self, self.use)(x) * self.number * self.config["scale"]


def functional(layer):
    inputs = keras.Input((2,), dtype="float64")
    return keras.Model(inputs, layer(inputs))


def keras_weight():
    layer = Scale(OLD)
    return functional(layer), lambda: layer.s.assign(NEW)


def keras_set_weights():
    model = functional(Scale(OLD))
    return model, lambda: model.set_weights([np.array(NEW)])


def keras_number_of_a_layer():
    layer = Scale(OLD, weight=False)
    return functional(layer), lambda: setattr(layer, "number", NEW)


def keras_lambda():
    set_scale(OLD)
    return functional(keras.layers.Lambda(lambda x: cube(x) * SCALE, dtype="float64")), lambda: set_scale(NEW)


def keras_activation():
    layer = keras.layers.Activation(lambda x: OLD * cube(x), dtype="float64")
    return functional(layer), lambda: setattr(layer, "activation", lambda x: NEW * cube(x))


def subclassed():
    model = Subclassed(OLD)
    model(tensor(X))
    return model


def keras_attribute():
    model = subclassed()
    return model, lambda: setattr(model, "number", NEW / OLD)


def keras_entry_of_a_dictionary():
    model = subclassed()
    return model, lambda: model.config.__setitem__("scale", NEW / OLD)


def keras_layer_replaced():
    model = subclassed()
    return model, lambda: setattr(model, "use", "second")


def keras_inside_a_function():
    held = type("Agent", (), {})()
    held.model = functional(Scale(OLD))
    return lambda x: held.model(x), lambda: held.model.set_weights([np.array(NEW)])


def keras_model_replaced_in_an_object():
    held = type("Agent", (), {})()
    held.model = functional(Scale(OLD))
    return lambda x: held.model(x), lambda: setattr(held, "model", functional(Scale(NEW)))


MODELS = {made.__name__: made for name, made in dict(globals()).items() if name.startswith("keras_")}

if ENGINE == "torch":
    import torch

    class Module(torch.nn.Module):
        def __init__(self, s, number=1.0):
            super().__init__()
            self.s = torch.nn.Parameter(torch.tensor(s, dtype=torch.float64))
            self.register_buffer("shift", torch.tensor(1.0, dtype=torch.float64))
            self.number = number

        def forward(self, x):
            return cube(x) * self.s * self.shift * self.number

    def torch_parameter():
        model = Module(OLD)
        return model, lambda: model.s.data.fill_(NEW)

    def torch_parameter_replaced():
        model = Module(OLD)
        return model, lambda: setattr(model, "s", torch.nn.Parameter(torch.tensor(NEW, dtype=torch.float64)))

    def torch_buffer():
        model = Module(OLD)
        return model, lambda: model.shift.fill_(NEW / OLD)

    def torch_buffer_replaced():
        model = Module(OLD)
        return model, lambda: setattr(model, "shift", torch.tensor(NEW / OLD, dtype=torch.float64))

    def torch_number():
        model = Module(OLD)
        return model, lambda: setattr(model, "number", NEW / OLD)

    def torch_layer_of_a_sequence():
        model = torch.nn.Sequential(Module(OLD))
        return model, lambda: model.__setitem__(0, Module(NEW))

    def torch_requires_grad():
        model = Module(OLD)

        def change():
            model.s.requires_grad_(False)
            model.s.fill_(NEW)

        return model, change

    def torch_training_mode():
        model = torch.nn.Sequential(Module(OLD), torch.nn.Dropout(0.5)).eval()

        def change():
            model.train()
            model[0].s.data.fill_(NEW)

        return model, change

    def torch_hook():
        model = Module(OLD)
        return model, lambda: model.register_forward_hook(lambda module, args, y: y * (NEW / OLD))

    def torch_forward_replaced():
        model = Module(OLD)
        return model, lambda: setattr(model, "forward", lambda x: NEW * cube(x))

    MODELS |= {made.__name__: made for name, made in dict(globals()).items() if name.startswith("torch_")}

if ENGINE == "jax":
    import equinox
    import jax
    from flax import nnx

    class Net(nnx.Module):
        def __init__(self, s):
            self.s, self.number = nnx.Param(jax.numpy.asarray(s)), 1.0

        def __call__(self, x):
            return cube(x) * self.s[...] * self.number

    class Outer(nnx.Module):
        def __init__(self, s):
            self.net = Net(s)

        def __call__(self, x):
            return self.net(x)

    def nnx_variable():
        model = Net(OLD)
        return model, lambda: setattr(model.s, "value", jax.numpy.asarray(NEW))

    def nnx_number():
        model = Net(OLD)
        return model, lambda: setattr(model, "number", NEW / OLD)

    def nnx_module_replaced():
        model = Outer(OLD)
        return model, lambda: setattr(model, "net", Net(NEW))

    def nnx_inside_a_function():
        model = Net(OLD)
        return lambda x: model(x), lambda: setattr(model.s, "value", jax.numpy.asarray(NEW))

    MODELS |= {made.__name__: made for name, made in dict(globals()).items() if name.startswith("nnx_")}

    class Tree(equinox.Module):
        s: jax.Array
        power: int = equinox.field(static=True, default=3)

        def __call__(self, x):
            return self.s * x**self.power

    def test_equinox_trees_made_anew():
        model = Tree(jax.numpy.asarray(OLD))
        close(wrt.jacobian(model, tensor(X)), diagonal(OLD), 1e-10)
        model = equinox.tree_at(lambda tree: tree.s, model, jax.numpy.asarray(NEW))
        close(wrt.jacobian(model, tensor(X)), diagonal(NEW), 1e-10)
        close(wrt.jacobian(Tree(model.s, 1), tensor(X)), NEW * np.broadcast_to(np.eye(2), (2, 2, 2)), 1e-10)

    @pytest.mark.parametrize("lift", [jax.vmap, equinox.filter_vmap])
    def test_what_a_transformation_adds(lift):
        """`filter_grad` wraps: its function and what it wraps are two functions, and so are two of one code."""
        for s in (OLD, NEW):
            total = lambda x, s=s: (s * x**4).sum()
            close(wrt.jacobian(lift(equinox.filter_grad(total)), tensor(X)), 4 * diagonal(s), 1e-9)
            close(wrt.gradient(lift(total), tensor(X)), 4 * s * X**3, 1e-9)
            close(wrt.gradient(lift(jax.jit(total)), tensor(X)), 4 * s * X**3, 1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_model(name):
    model, change = MODELS[name]()
    plan, operator = wrt.plan_jacobian(model, tensor(X)), wrt.linearize(model, tensor(X))
    close(plan(tensor(X)), diagonal(OLD), 1e-10)
    close(operator.dense(), diagonal(OLD), 1e-10)
    change()
    close(wrt.jacobian(model, tensor(X)), diagonal(NEW), 1e-10)
    close(plan(tensor(X)), diagonal(NEW), 1e-10)
    close(operator.dense(), diagonal(NEW), 1e-10)


# a function that calls a module in training mode is a training pass
@pytest.mark.parametrize("name", [name for name in MODELS if name != "torch_training_mode"])
def test_of_reads_a_model(name):
    """A callable `of=` that calls another model, a module or a function."""
    critic, change = MODELS[name]()
    read = lambda y: critic(y)[:, 0]
    square = functional(keras.layers.Lambda(lambda x: x * x, dtype="float64"))
    wanted = lambda s: np.stack([6 * s * X[:, 0] ** 5, 0 * X[:, 0]], -1)
    close(wrt.gradient(square, tensor(X), read), wanted(OLD), 1e-9)
    change()
    close(wrt.gradient(square, tensor(X), read), wanted(NEW), 1e-9)


DERIVED = {
    "backward_model": (lambda model: wrt.backward_model(model, of=0), lambda s: diagonal(s)[:, 0]),
    "jacobian_model": (wrt.jacobian_model, diagonal),
}


def changes():
    """What a derivative model shares with its model."""
    names = ["keras_weight", "keras_number_of_a_layer", "keras_lambda", "keras_activation"]
    return names + [name for name in MODELS if name.startswith("torch_") and name != "torch_training_mode"]


@pytest.mark.parametrize("name", changes())
@pytest.mark.parametrize("kind", DERIVED)
def test_derivative_model(kind, name):
    model, change = MODELS[name]()
    make, wanted = DERIVED[kind]
    derived = make(model)
    call = lambda: array(derived(tensor(X))) if ENGINE != "torch" else derived(tensor(X)).detach().numpy()
    close(call(), wanted(OLD), 1e-10)
    change()
    close(call(), wanted(NEW), 1e-10)


def test_predictions_of_a_derivative_model_follow_its_weights():
    """`predict` has a program of its own, made by Keras."""
    model, change = keras_weight()
    derived = wrt.jacobian_model(model)
    close(derived.predict(X, verbose=0), diagonal(OLD), 1e-10)
    change()
    close(derived.predict(X, verbose=0), diagonal(NEW), 1e-10)


def test_augnet():
    layer = Scale(OLD)
    inputs = keras.Input((2,), dtype="float64")
    net = wrt.AugNet(inputs, layer(inputs))
    for s in (OLD, NEW):
        layer.s.assign(s)
        close(net.return_jacobian(X), diagonal(s), 1e-10)
        close(net.return_gradient(X, of=0), diagonal(s)[:, 0], 1e-10)


def test_training_moves_the_derivative():
    model = functional(Scale(OLD))
    before = array(wrt.jacobian(model, X))
    model.compile(keras.optimizers.SGD(0.01), "mse")
    model.fit(X, 4 * X**3, epochs=2, verbose=0)
    s = float(keras.ops.convert_to_numpy(model.weights[0]))
    assert abs(s - OLD) > 0.1
    close(before, diagonal(OLD), 1e-10)
    close(wrt.jacobian(model, X), diagonal(s), 1e-10)


def test_precision_changed():
    """A Keras layer of another policy, a torch module made double."""
    third = np.array([[1 / 3, 0.1], [-2 / 3, 0.7]])
    layer = keras.layers.Dense(2, use_bias=False)
    model = keras.Sequential([keras.Input((2,)), layer])
    layer.set_weights([third])
    found = wrt.jacobian(model, X.astype(np.float32))
    close(found[0], third.T, 1e-6)
    layer.dtype_policy = keras.DTypePolicy("mixed_bfloat16")
    rounded = keras.ops.convert_to_numpy(keras.ops.cast(keras.ops.cast(third, "bfloat16"), "float32"))
    close(np.asarray(wrt.jacobian(model, X.astype(np.float32)), np.float64)[0], rounded.T, 1e-6)
    if ENGINE == "torch":
        module = torch.nn.Linear(2, 2, bias=False)
        assert wrt.jacobian(module, torch.ones(1, 2)).dtype == torch.float32
        module.double()
        module.weight.data.copy_(torch.from_numpy(third))
        close(wrt.jacobian(module, torch.ones(1, 2, dtype=torch.float64))[0], third, 1e-14)
