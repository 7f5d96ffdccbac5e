"""Closed forms x engines x modes x chunks x batches, and the check of engines itself."""

import dataclasses

import numpy as np
import pytest
import sympy
from conftest import ENGINE
from subjects import array, close, keras_net, keras_tolerance, math, nets, points, scenario, tensor, truth

import wrt
from wrt.engines import registry
from wrt.testing import check_engine, scenarios

NAMES = [s.name for s in scenarios()]
ENGINES = [ENGINE, "reference"]
TOLERANCE = {"reference": 1e-9}  # of differences; 1e-10 for the others


def blocks(tree):
    """Jacobian blocks, outputs first: a tuple of tuples, or one array."""
    rows = tree if isinstance(tree, tuple) else (tree,)
    return [list(row) if isinstance(row, tuple) else [row] for row in rows]


def compare(found, wanted, tolerance):
    for row, wanted_row in zip(blocks(found), wanted, strict=True):
        for block, wanted_block in zip(row, wanted_row, strict=True):
            close(block, wanted_block, tolerance)


def inputs(chosen, count):
    x = chosen.samples(count)
    return x if len(x) > 1 else x[0]


@pytest.mark.parametrize("batch_size", [None, 1, 2])
@pytest.mark.parametrize("chunk", [None, 2, 3])
@pytest.mark.parametrize("mode", ["reverse", "forward"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("engine", ENGINES)
def test_jacobian_is_the_closed_form(engine, name, mode, chunk, batch_size):
    chosen = scenario(name)
    f = chosen.on(registry.engine(engine))
    found = wrt.jacobian(f, inputs(chosen, 5), mode=mode, chunk=chunk, batch_size=batch_size)
    compare(found, chosen.jacobian(*chosen.x), TOLERANCE.get(engine, 1e-10))


@pytest.mark.parametrize("mode", ["reverse", "forward"])
@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("engine", ENGINES)
def test_no_sample_and_one_sample(engine, name, count, mode):
    chosen = scenario(name)
    f = chosen.on(registry.engine(engine))
    found = wrt.jacobian(f, inputs(chosen, count), mode=mode, batch_size=2)
    compare(found, chosen.jacobian(*chosen.samples(count)), TOLERANCE.get(engine, 1e-10))


@pytest.mark.parametrize("mode", ["reverse", "forward"])
@pytest.mark.parametrize("name", NAMES)
def test_float32_to_seven_digits_less_rounding(name, mode):
    chosen = scenario(name)
    x = tuple(a.astype("float32") for a in chosen.x)
    found = wrt.jacobian(chosen.on(registry.engine(ENGINE)), x if len(x) > 1 else x[0], mode=mode)
    compare(found, chosen.jacobian(*[a.astype("float64") for a in x]), 2e-5)
    assert all(block.dtype == np.float32 for row in blocks(found) for block in row)


@pytest.mark.parametrize("compile", [True, False] if ENGINE != "torch" else [False])
@pytest.mark.parametrize("mode", ["reverse", "forward"])
@pytest.mark.parametrize("name", NAMES)
def test_compiled_and_eager_agree_with_the_closed_form(name, mode, compile):
    chosen = scenario(name)
    found = wrt.jacobian(chosen.on(registry.engine(ENGINE)), inputs(chosen, 5), mode=mode, compile=compile)
    compare(found, chosen.jacobian(*chosen.x), 1e-10)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("engine", ENGINES)
def test_products_are_the_closed_form(engine, name):
    chosen = scenario(name)
    f, x = chosen.on(registry.engine(engine)), inputs(chosen, 5)
    wanted = chosen.jacobian(*chosen.x)
    v = [np.cos(a) for a in chosen.x]
    u = [
        np.sin(
            np.arange(row[0].size // chosen.x[0][0].size).reshape(row[0].shape[: row[0].ndim - chosen.x[0].ndim + 1])
        )
        for row in wanted
    ]
    flat = [[b.reshape(5, -1, a[0].size) for b, a in zip(row, chosen.x, strict=True)] for row in wanted]
    pushed = wrt.jvp(f, x, tuple(v) if len(v) > 1 else v[0])
    pulled = wrt.vjp(f, x, tuple(u) if len(u) > 1 else u[0])
    for found, row, like in zip(pushed if isinstance(pushed, tuple) else [pushed], flat, u, strict=True):
        rows = [np.einsum("noi,ni->no", b, a.reshape(5, -1)) for b, a in zip(row, v, strict=True)]
        close(found, sum(rows).reshape(like.shape), 1e-9)
    for k, found in enumerate(pulled if isinstance(pulled, tuple) else [pulled]):
        rows = [np.einsum("noi,no->ni", row[k], c.reshape(5, -1)) for row, c in zip(flat, u, strict=True)]
        close(found, sum(rows).reshape(chosen.x[k].shape), 1e-9)


@pytest.mark.parametrize("mode", ["reverse", "forward"])
@pytest.mark.parametrize(("name", "make", "tolerance"), nets())
def test_every_form_of_a_network(name, make, tolerance, mode):
    x = points(5)
    for chunk, batch_size in [(None, None), (2, 2), (3, 1)]:
        close(wrt.jacobian(make(), x, mode=mode, chunk=chunk, batch_size=batch_size), truth(x), tolerance)


@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_keras_in_float32(mode):
    x = points(4).astype("float32")
    close(wrt.jacobian(keras_net("float32"), x, mode=mode), truth(x.astype("float64")), 1e-5)


def test_many_seeds_take_the_looped_path():
    """More outputs than a program repeats: the engines then loop or batch the seeds."""
    w = np.random.default_rng(3).normal(size=(3, 70))
    f = function_of_matrix(w)
    x = points(4)
    wanted = np.einsum("no,io->noi", np.cos(x @ w), w)
    for chunk in (None, 1, 7, 70, 100):
        close(wrt.jacobian(f, x, mode="reverse", chunk=chunk), wanted, 1e-10)


def function_of_matrix(w):
    matrix, sin = tensor(w), math().sin
    return lambda x: sin(x @ matrix)


def expression(seed):
    """A random smooth expression of three symbols."""
    rng = np.random.default_rng(seed)
    symbols = sympy.symbols("a b c")
    found = [*symbols]
    for _ in range(6):
        left, right = (found[i] for i in rng.integers(len(found), size=2))
        unary = [sympy.sin, sympy.tanh, lambda e: sympy.exp(-e * e)][rng.integers(3)]
        found.append([left * right, left + 2 * right, unary(left)][rng.integers(3)])
    return symbols, found[-1] * symbols[0] + found[-2] + found[-3] * symbols[1] * symbols[2]


@pytest.mark.parametrize("mode", ["reverse", "forward"])
@pytest.mark.parametrize("seed", range(6))
def test_random_expressions_against_sympy(seed, mode):
    symbols, formula = expression(seed)
    engine_math = {n: getattr(math(), n) for n in ("sin", "tanh", "exp")}
    f = sympy.lambdify(symbols, formula, modules=[engine_math])
    slopes = [sympy.lambdify(symbols, sympy.diff(formula, s), modules="numpy") for s in symbols]
    x = points(5, seed) * 0.7
    wanted = np.stack([np.broadcast_to(s(*x.T), (5,)) for s in slopes], -1)
    assert np.abs(wanted).max() > 1e-3  # an expression that says something
    network = on_engine(lambda t: f(t[:, 0], t[:, 1], t[:, 2]))
    close(wrt.jacobian(network, x, mode=mode), wanted, 1e-10)


def on_engine(f):
    """A function that only takes this engine's tensors, so that NumPy is not tried first."""
    zero = tensor(np.zeros(1))
    return lambda t: f(t + zero)


@pytest.mark.parametrize("name", ENGINES)
def test_engine_keeps_its_contract(name):
    check_engine(registry.engine(name))


BREAKS = {
    "push": lambda e: lambda f, p, t: (lambda y, dy: (y, [2 * a for a in dy]))(*e.push(f, p, t)),
    "pull": lambda e: lambda *given: (lambda y, back: (y, lambda u: [-a for a in back(u)]))(*e.pull(*given)),
    "map": lambda e: (
        lambda f, count, chunk: [a[::-1] if count > 2 and ENGINE != "torch" else a * 2 for a in e.map(f, count, chunk)]
    ),
    "inspect": lambda e: lambda f, p: dataclasses.replace(e.inspect(f, p), connected=((True, True), (True, True))),
    "push_problem": lambda e: lambda f, p: "no forward mode",
    "gather": lambda e: lambda value, index: e.gather(value, index) * 0,
    "top": lambda e: lambda value, k: e.top(-value, k),
    "unit": lambda e: lambda r, like: e.unit(0 * r, like),
    "owns": lambda e: lambda value: True,
    "asarray": lambda e: lambda value, dtype=None, like=None: e.asarray(value, None, like),
    "is_out_of_memory": lambda e: lambda error: True,
    "moveaxis": lambda e: lambda value, source, target: value,
    "numpy": lambda e: lambda value: value,
    "carries_graph": lambda e: lambda value: True,
}


# of the broken engines that differ between frameworks; all of them on torch, which need not compile
VERBS = list(BREAKS) if ENGINE == "torch" else ["push", "pull", "map", "inspect", "top"]


@pytest.mark.parametrize("verb", VERBS)
def test_a_broken_engine_is_found_out(verb):
    broken = type(registry.engine(ENGINE))()
    setattr(broken, verb, BREAKS[verb](registry.engine(ENGINE)))
    with pytest.raises(AssertionError, match=rf"breaks its contract(.|\n)*{verb}"):
        check_engine(broken)


def test_a_subclass_whose_push_doubles_is_named_with_numbers():
    class Doubling(type(registry.engine(ENGINE))):
        def push(self, f, primals, tangents):
            y, dy = super().push(f, primals, tangents)
            return y, [2 * a for a in dy]

    with pytest.raises(AssertionError, match=r"push of linear, output 0: entry .* expected .*allowed error"):
        check_engine(Doubling())


def test_an_engine_without_a_verb_is_told_which():
    class Bare:
        name = "bare"

    with pytest.raises(AssertionError, match="lacks pull, push, map"):
        check_engine(Bare())


def test_third_party_engine_is_registered_and_used():
    from wrt.engines.reference import ReferenceEngine

    class Mine(ReferenceEngine):
        name = "mine"

    check_engine(Mine(), module=np)
    registry.register(Mine())
    try:
        assert "mine" in registry.names()
        assert registry.engine("mine").name == "mine"
    finally:
        registry._made.pop("mine")


def test_scenarios_hold_against_differences():
    """The closed forms themselves, in NumPy alone."""
    step = 1e-6
    for chosen in scenarios():
        f = chosen.on(registry.engine("reference"))
        for k, a in enumerate(chosen.x):
            for index in np.ndindex(*a.shape[1:]):
                at = (slice(None), *index)
                up, down = ([np.copy(b) for b in chosen.x] for _ in range(2))
                up[k][at] += step
                down[k][at] -= step
                ends = [y if isinstance(y, tuple) else (y,) for y in (f(*up), f(*down))]
                for row, high, low in zip(chosen.jacobian(*chosen.x), *ends, strict=True):
                    np.testing.assert_allclose(row[k][(..., *index)], (high - low) / (2 * step), atol=1e-7)


def test_hessians_hold_against_differences():
    step = 1e-6
    for chosen in (s for s in scenarios() if s.hessian is not None):
        (x,) = chosen.x
        for index in np.ndindex(*x.shape[1:]):
            at = (slice(None), *index)
            up, down = x.copy(), x.copy()
            up[at] += step
            down[at] -= step
            slope = (chosen.jacobian(up)[0][0] - chosen.jacobian(down)[0][0]) / (2 * step)
            np.testing.assert_allclose(chosen.hessian(x)[(..., *index)], slope, atol=1e-7)


def test_keras_tolerance_is_not_vacuous():
    """A wrong weight is seen at the tolerance used for Keras."""
    x = points(5)
    wrong = truth(x) + 3 * keras_tolerance()
    with pytest.raises(AssertionError):
        close(wrt.jacobian(keras_net(), x), wrong, keras_tolerance())


def test_scenarios_have_no_two_sizes_alike_between_inputs_and_outputs():
    for chosen in scenarios():
        if chosen.name not in ("softmax", "linear"):
            out = chosen.jacobian(*chosen.x)[0][0].shape[1:-1]
            assert out != chosen.x[0].shape[1:]
    assert array(scenario("linear").x[0]).shape == (5, 3, 2)
