"""Everything that a function may read besides its argument: y = s x³ with s kept in one place after another.

Each case makes a function that finds `s` there, and a way to change it.
"""

import contextvars
import dataclasses
import functools
import types

import numpy as np
from conftest import ENGINE
from subjects import tensor

CASES = {}
SCALE = 1.0  # read as a global by the functions below
NESTED = types.SimpleNamespace(scale=1.0)


def case(make):
    """`make(s)` returns the function and `change(s)`."""
    CASES[make.__name__] = make
    return make


def numbers(values):
    """What a function multiplies by: JAX takes NumPy arrays as they are."""
    return values if ENGINE == "jax" else tensor(values)


def cube(x):
    return x * x * x


def set_scale(s):
    global SCALE
    SCALE = s


@case
def cell(s):
    def change(new):
        nonlocal s
        s = new

    return lambda x: s * cube(x), change


@case
def cell_of_an_inner_function(s):
    def change(new):
        nonlocal s
        s = new

    def f(x):
        def inner(a):
            return (lambda b: s * cube(b))(a)

        return inner(x)

    return f, change


@case
def global_name(s):
    set_scale(s)
    return lambda x: SCALE * cube(x), set_scale


@case
def global_of_an_inner_function(s):
    set_scale(s)

    def f(x):
        def inner(a):
            return SCALE * cube(a)

        return inner(x)

    return f, set_scale


@case
def global_of_a_comprehension(s):
    set_scale(s)
    return lambda x: sum([SCALE * cube(x) / 2 for _ in range(2)]), set_scale


@case
def global_of_an_inner_lambda(s):
    set_scale(s)
    return lambda x: (lambda a: SCALE * cube(a))(x), set_scale


def _helper(x):
    return SCALE * cube(x)


@case
def global_of_a_called_function(s):
    set_scale(s)
    return lambda x: _helper(x), set_scale


@case
def attribute_of_a_global(s):
    NESTED.scale = s
    return lambda x: NESTED.scale * cube(x), lambda new: setattr(NESTED, "scale", new)


@case
def attribute_of_a_module(s):
    module = types.ModuleType("settings")
    module.scale = s
    return lambda x: module.scale * cube(x), lambda new: setattr(module, "scale", new)


@case
def default(s):
    def f(x, scale=s):
        return scale * cube(x)

    return f, lambda new: setattr(f, "__defaults__", (new,))


@case
def keyword_only_default(s):
    def f(x, *, scale=s):
        return scale * cube(x)

    return f, lambda new: f.__kwdefaults__.update(scale=new)


@case
def attribute_of_the_function(s):
    def f(x):
        return f.scale * cube(x)

    f.scale = s
    return f, lambda new: setattr(f, "scale", new)


@case
def code(s):
    other = {2.0: lambda x: 2.0 * cube(x), 5.0: lambda x: 5.0 * cube(x)}
    f = types.FunctionType(other[s].__code__, globals())
    return f, lambda new: setattr(f, "__code__", other[new].__code__)


class Scaled:
    shared = 1.0

    def __init__(self, s):
        self.scale, self.params = s, {"w": [s]}

    def __call__(self, x):
        return self.scale * cube(x)

    def method(self, x):
        return self.params["w"][0] * cube(x)

    @property
    def twice(self):
        return 2 * self.scale

    def through_a_property(self, x):
        return self.twice / 2 * cube(x)

    @classmethod
    def of_the_class(cls, x):
        return cls.shared * cube(x)


@case
def attribute_of_a_callable_object(s):
    f = Scaled(s)
    return f, lambda new: setattr(f, "scale", new)


@case
def container_of_a_bound_method(s):
    held = Scaled(s)
    return held.method, lambda new: held.params["w"].__setitem__(0, new)


@case
def container_replaced(s):
    held = Scaled(s)
    return lambda x: held.method(x), lambda new: setattr(held, "params", {"w": [new]})


@case
def property_of_an_object(s):
    held = Scaled(s)
    return held.through_a_property, lambda new: setattr(held, "scale", new)


@case
def class_attribute(s):
    kind = type("Kind", (Scaled,), {"shared": s})
    return kind.of_the_class, lambda new: setattr(kind, "shared", new)


@case
def class_attribute_of_an_instance(s):
    kind = type("Kind", (), {"shared": s, "__call__": lambda self, x: self.shared * cube(x)})
    return kind(), lambda new: setattr(kind, "shared", new)


@case
def method_of_a_class_replaced(s):
    kind = type("Kind", (), {"__call__": lambda self, x: s * cube(x)})
    return kind(), lambda new: setattr(kind, "__call__", lambda self, x: new * cube(x))


@case
def dataclass_in_a_list(s):
    config = [dataclasses.make_dataclass("Config", ["scale"])(s)]
    return lambda x: config[0].scale * cube(x), lambda new: setattr(config[0], "scale", new)


@case
def dictionary(s):
    config = {"model": {"scale": s}}
    return lambda x: config["model"]["scale"] * cube(x), lambda new: config["model"].update(scale=new)


@case
def length_of_a_list(s):
    layers = [1.0] * int(s)
    return lambda x: sum(cube(x) * k for k in layers), lambda new: layers.extend([1.0] * int(new - len(layers)))


@case
def numpy_in_place(s):
    scale = np.full(2, s)
    return lambda x: cube(x) * numbers(scale), lambda new: scale.__setitem__(slice(None), new)


@case
def numpy_integers_in_place(s):
    scale = np.full(2, int(s))
    return lambda x: cube(x) * float(scale[1]), lambda new: scale.__setitem__(slice(None), int(new))


@case
def numpy_as_a_condition(s):
    scale = np.array([s, 1.0])
    return lambda x: 2.0 * cube(x) if scale[0] < 3 else 5.0 * cube(x), lambda new: scale.__setitem__(0, new)


@case
def numpy_in_an_attribute(s):
    held = types.SimpleNamespace(mean=np.array([s, s]))
    return lambda x: cube(x) * numbers(held.mean), lambda new: setattr(held, "mean", np.array([new, new]))


@case
def tensor_replaced(s):
    held = {"w": tensor([s, s])}
    return lambda x: cube(x) * held["w"], lambda new: held.update(w=tensor([new, new]))


@case
def keywords_of_a_partial(s):
    f = functools.partial(lambda x, scale: scale * cube(x), scale=s)
    return f, lambda new: f.keywords.update(scale=new)


@case
def inside_a_partial(s):
    held = Scaled(s)
    return functools.partial(lambda model, x: model(x), held), lambda new: setattr(held, "scale", new)


class Times:
    """A decorator that is a class: what it adds is not in the function that it wraps."""

    def __init__(self, f, s):
        functools.update_wrapper(self, f)
        self.s = s

    def __call__(self, x):
        return self.s * self.__wrapped__(x)


@case
def decorator_of_a_class(s):
    f = Times(cube, s)
    return f, lambda new: setattr(f, "s", new)


@case
def what_is_wrapped(s):
    f = Times(lambda x: s * cube(x), 1.0)
    return f, lambda new: setattr(f, "__wrapped__", lambda x: new * cube(x))


@case
def decorator_of_a_function(s):
    held = {"s": s}

    @functools.wraps(cube)
    def f(x):
        return held["s"] * cube(x)

    return f, lambda new: held.update(s=new)


@case
def context_variable(s):
    variable = contextvars.ContextVar("scale")
    variable.set(s)
    return lambda x: variable.get() * cube(x), variable.set
