"""A plan proves itself on its first call: what it finds, what it says, what it costs, and when it is silent."""

import asyncio
import copy
import importlib
import os
import random
import subprocess
import sys
import threading
import warnings

import keras
import numpy as np
import pytest
import torch
from conftest import ENGINE
from subjects import math, tensor
from test_check import with_rule

import wrt
from wrt.derive.verification import current
from wrt.engines import adapt
from wrt.errors import OptionError

FRAMEWORK = importlib.import_module(ENGINE)
X = np.random.default_rng(3).normal(size=(6, 4))


@pytest.fixture(autouse=True)
def _proved(monkeypatch):
    """Each test as in a process of its own: functions of the same code over the same values are proved once."""
    monkeypatch.delenv("WRT_VERIFICATION", raising=False)
    adapt._per_site.clear()


def said(call):
    """The warnings of wrt."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        call()
    return [w for w in found if issubclass(w.category, wrt.errors.WrtWarning)]


def squares(factor):
    """Squares mixed, whose rule is off by a factor."""
    square, weights = with_rule(lambda x: x * x, lambda x: 2 * factor * x), tensor(X.T[:, :3].copy())
    return lambda x: square(x) @ weights


# the switch


def test_the_switch():
    assert current() == "warn"
    with wrt.verification("off"):
        assert current() == "off"
        with wrt.verification("error"):
            assert current() == "error"
        assert current() == "off"
    assert current() == "warn"
    held = wrt.verification("off")
    assert current() == "off"
    with held:
        assert current() == "off"
    assert current() == "warn"
    with held:
        assert current() == "off"
    assert current() == "warn"


def test_another_word_is_refused():
    with pytest.raises(OptionError, match=r'verification\(.of.\).*"warn", "error" or "off".*Did you mean .off'):
        wrt.verification("of")


def test_the_switch_is_kept_per_thread_and_task():
    found = {}

    async def task(mode):
        wrt.verification(mode)
        await asyncio.sleep(0)
        return current()

    async def both():
        return await asyncio.gather(task("off"), task("error"))

    with wrt.verification("off"):
        thread = threading.Thread(target=lambda: found.update(mode=current()))
        thread.start()
        thread.join()
    assert found["mode"] == "warn"
    assert asyncio.run(both()) == ["off", "error"]
    assert current() == "warn"


@pytest.mark.parametrize(("value", "ends"), [("error", "error"), ("", "warn"), ("loud", "OptionError")])
def test_the_environment_variable(value, ends):
    script = "import wrt.derive.verification as v\ntry: print(v.current())\nexcept Exception as e: print(type(e), e)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "WRT_VERIFICATION": value},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ends in done.stdout
    assert value != "loud" or "WRT_VERIFICATION is 'loud'" in done.stdout


# what is found


def test_a_wrong_rule_is_said_once_and_named():
    model = squares(1.2)
    (found,) = said(lambda: wrt.jacobian(model, X))
    assert found.category is wrt.OwnRuleWarning
    assert found.filename == __file__
    assert "off by" in str(found.message)
    assert "wrt.verification" in str(found.message)
    assert {"torch": "'Rule'", "jax": "custom_vjp", "tensorflow": "'function'"}[ENGINE] in str(found.message)
    assert said(lambda: wrt.jacobian(model, X)) == []
    assert said(lambda: wrt.vjp(model, X, X[:, :3])) == []  # of this model it has been said


def test_the_right_rule_is_silent():
    assert said(lambda: wrt.jacobian(squares(1.0), X)) == []


def test_how_to_silence_just_that():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=wrt.OwnRuleWarning)
        wrt.jacobian(squares(1.2), X)
    with wrt.verification("off"):
        assert said(lambda: wrt.jacobian(squares(1.2), X)) == []


def test_an_error_where_it_is_asked_for():
    with wrt.verification("error"), pytest.raises(wrt.DerivativeError, match="off by"):
        wrt.jacobian(squares(1.2), X)


def test_off_puts_the_proof_off():
    model = squares(1.2)
    with wrt.verification("off"):
        wrt.jacobian(model, X)
    assert len(said(lambda: wrt.jacobian(model, X))) == 1


@pytest.mark.parametrize("what", ["gradient", "vjp", "hvp", "hessian", "diagonal", "taylor"])
def test_every_kind_of_plan_is_proved(what):
    """The second derivative of this square is three, where its rule is followed once more."""
    calls = {
        "gradient": lambda f: wrt.gradient(f, X),
        "vjp": lambda f: wrt.vjp(f, X, np.ones(6)),
        "hvp": lambda f: wrt.hvp(f, X, X),
        "hessian": lambda f: wrt.hessian(f, X),
        "diagonal": lambda f: wrt.hessian(f, X, diagonal=True),
        "taylor": lambda f: wrt.taylor(f, X, order=2),
    }
    total = math().sum if ENGINE != "tensorflow" else FRAMEWORK.reduce_sum

    def model(factor):
        square = with_rule(lambda x: x * x, lambda x: 2 * factor * x)
        return lambda x: total(square(x) * x, 1)

    assert len(said(lambda: calls[what](model(1.5)))) == 1
    assert said(lambda: calls[what](model(1.0))) == []


def test_detached_values_are_named():
    stop = {"torch": lambda x: x.detach(), "jax": lambda x: FRAMEWORK.lax.stop_gradient(x)}.get(
        ENGINE, lambda x: FRAMEWORK.stop_gradient(x)
    )
    (found,) = said(lambda: wrt.jacobian(lambda x: stop(x) * x, tensor(X)))
    assert found.category is wrt.OwnRuleWarning
    assert {"torch": "(detach)"}.get(ENGINE, "(stop_gradient)") in str(found.message)


def test_a_softmax_detaches_its_maximum_and_is_right():
    softmax = {"torch": lambda x: torch.softmax(x, 1), "jax": lambda x: FRAMEWORK.nn.softmax(x, -1)}.get(
        ENGINE, lambda x: FRAMEWORK.nn.softmax(x)
    )
    assert said(lambda: wrt.jacobian(softmax, X)) == []


def wrong_at_zero():
    """x² whose rule is right but at 0."""
    where = math().where
    rule = with_rule(lambda x: x * x + x, lambda x: where(x == 0, 0 * x + 3, 2 * x + 1))
    return lambda x: rule(x * tensor(np.ones(4)))


def test_a_rule_that_is_wrong_at_a_special_point_only():
    x = X.copy()
    x[2, 1] = 0
    assert len(said(lambda: wrt.jacobian(wrong_at_zero(), x))) == 1
    assert said(lambda: wrt.jacobian(wrong_at_zero(), X)) == []


MIXERS = {
    "mean": lambda n: lambda x: n * x - sum(x[i : i + 1] for i in range(2)) / 2,
    "first": lambda n: lambda x: n * x * x[:1],  # on JAX functions of the same code share their plans
}


@pytest.mark.parametrize("name", MIXERS)
@pytest.mark.parametrize("samples", [1, 6])
def test_samples_that_influence_one_another(name, samples):
    if name == "mean" and samples == 1:
        return
    (found,) = said(lambda: wrt.jacobian(MIXERS[name](samples), tensor(X[:samples])))
    assert "samples influence one another" in str(found.message)


def pairs(x):
    return x["image"] @ (x["text"].T if ENGINE == "torch" else math().transpose(x["text"]))


def test_samples_that_mix_through_inputs_that_are_left_out():
    x = {"image": X, "text": X[::-1].copy()}
    assert any("samples influence" in str(w.message) for w in said(lambda: wrt.gradient(pairs, x, 0, wrt="image")))
    found = wrt.check(pairs, x, 0, wrt="image", samples=3)
    assert found.mixes_samples
    assert not found.ok


def test_layers_labels_several_inputs_and_outputs():
    i, j = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    h = keras.layers.Dense(5, activation="relu", name="h")(i)
    g = keras.layers.Dense(5, activation="tanh")(j)
    model = keras.Model([i, j], [keras.layers.Dense(3)(h * g), keras.layers.Dense(2)(h + g)])
    x = [X.astype("float32"), X[:, :3].astype("float32")]
    with wrt.verification("error"):
        wrt.jacobian(model, x)
        wrt.jacobian(model, x, wrt=wrt.layer("h"))
    with wrt.verification("error"):
        wrt.gradient(keras.Model(i, h), x[0], np.array([0, 1, 2, 0, 4, -1]))
        wrt.gradient(keras.Model(i, h), x[0], wrt.top(2))


def test_modified_rules_are_silent():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5, activation="relu"), keras.layers.Dense(1)])
    assert said(lambda: wrt.gradient(model, X.astype("float32"), rules={"relu": wrt.rules.guided})) == []


def test_noise_is_not_judged():
    if ENGINE == "jax":
        noise = lambda x: 0.1 * math().asarray(np.random.normal(size=x.shape))
    else:
        noise = {"torch": lambda x: 0.1 * torch.randn_like(x)}.get(
            ENGINE, lambda x: 0.1 * FRAMEWORK.random.normal(FRAMEWORK.shape(x), dtype=x.dtype)
        )
    assert said(lambda: wrt.jacobian(lambda x: x * x + noise(x), X)) == []


# no false alarms


def black_images():
    x = np.random.default_rng(0).normal(size=(5, 8, 8, 1)).astype("float32")
    return x * (np.random.default_rng(1).random(x.shape) > 0.7)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_kinks_ties_and_coarse_numbers_are_no_alarm(dtype):
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, activation="relu", dtype=dtype),
            layers.MaxPooling2D(2, dtype=dtype),
            layers.Flatten(dtype=dtype),
            layers.Dense(6, activation="relu", dtype=dtype),
            layers.Dense(3, dtype=dtype),
        ]
    )
    before = [layer.dtype_policy for layer in model.layers]
    with wrt.verification("error"):
        wrt.jacobian(model, black_images())
    assert [layer.dtype_policy for layer in model.layers] == before


@pytest.mark.parametrize("what", ["gradient", "vjp", "jvp", "hvp", "hessian", "taylor"])
@pytest.mark.parametrize("name", ["rounding", "nothing"])
def test_equal_terms_that_cancel_are_no_alarm(what, name):
    """What is left of derivatives is rounding, of which the values tell nothing."""
    log, x = math().log, np.random.default_rng(0).uniform(0.3, 2, size=(3, 4)).astype("float32")
    total = (lambda a: a.sum(1)) if ENGINE != "tensorflow" else (lambda a: math().reduce_sum(a, 1))
    f = {
        "rounding": lambda x: total(log(x * x * x) - 3 * log(x)),
        "nothing": lambda x: total((x * log(x) - x * log(x)) * x - (log(x) * x - x * log(x)) / x),
    }[name]
    more = {"vjp": (np.ones(3, "float32"),), "jvp": (x,), "hvp": (x,)}.get(what, ())
    assert said(lambda: getattr(wrt, what)(f, x, *more, compile=False)) == []


@pytest.mark.parametrize("what", ["gradient", "hessian"])
def test_equal_values_of_which_one_is_in_the_middle_are_no_alarm(what):
    """The middle value has a slope along every line, and no derivative."""
    names = ("reduce_sum", "reduce_max", "reduce_min") if ENGINE == "tensorflow" else ("sum", "amax", "amin")
    total, largest, smallest = (getattr(math(), name) for name in names)

    def middle(x):
        return (total(x, 1) - largest(x, 1) - smallest(x, 1)) ** 2 + total(x, 1)

    x = np.float32([[0.5, 0.5, 0.5], [1, 1, 1], [0.3, 1.2, 0.7]])
    assert said(lambda: getattr(wrt, what)(middle, x, compile=False)) == []


def test_values_in_float32_whatever_is_given_are_no_alarm():
    """Steps that are fine enough for float64 are a few of their spacings."""
    cast = keras.ops.cast
    v = np.array([[0.08861053]])
    assert said(lambda: wrt.jvp(lambda x: cast(cast(x, "float32"), "float64"), 0.725 + 0 * v, v, compile=False)) == []


def test_a_large_offset_is_no_alarm():
    """Values whose rounding is large: 1e4 added and taken away again in float32."""
    with wrt.verification("error"):
        wrt.jacobian(lambda x: (x + 1e4) - 1e4 + x * x, tensor(X, "float32"))


# non-finite derivatives


def test_a_norm_at_zero_warns_with_the_place():
    x = np.abs(X) + 1
    x[2], x[4, 1] = 0, 0
    sqrt, total = math().sqrt, math().sum if ENGINE != "tensorflow" else FRAMEWORK.reduce_sum
    model = lambda x: sqrt(total(x * x, 1))
    (found,) = said(lambda: wrt.gradient(model, x))
    assert found.category is wrt.NonFiniteWarning
    assert "4 entries" in str(found.message)
    assert "first at sample 2, entry (0,)" in str(found.message)
    assert found.filename == __file__
    assert len(said(lambda: wrt.gradient(model, x))) == 1  # at every call
    assert said(lambda: wrt.gradient(model, np.abs(X) + 1)) == []


def test_non_finite_entries_of_sparse_results():
    x = np.abs(X) + 1
    x[1, 3] = 0
    (found,) = said(lambda: wrt.jacobian(lambda x: math().sqrt(x), x, sparse=True))
    assert "entries are NaN or infinite" in str(found.message)
    assert "first at sample 1, entry" in str(found.message)


# what it costs, and what it leaves alone


def test_the_function_is_called_once_more_and_only_at_first():
    count = []

    def model(x):
        count.append(1)
        return x * x

    with wrt.verification("off"):
        wrt.jacobian(lambda x: (count.append(1), x * x)[1], X)
    before = len(count)
    count.clear()
    wrt.jacobian(model, X)
    assert before < len(count) <= before + 1
    again = len(count)
    wrt.jacobian(model, X)
    with wrt.verification("off"):
        count.clear()
        wrt.jacobian(model, X)
    assert len(count) <= again


def test_generators_and_modes_are_as_before():
    states = lambda: (np.random.get_state()[1].tolist(), random.getstate(), torch.get_rng_state().tolist())
    before = states()
    wrt.jacobian(squares(1.0), X)
    assert states() == before


def test_inside_a_transformation_nothing_is_proved():
    model = MIXERS["first"](7)
    x = tensor(X)
    inside = {
        "jax": lambda: FRAMEWORK.jit(lambda x: wrt.jacobian(model, x))(x),
        "torch": lambda: torch.func.vmap(lambda x: wrt.jacobian(model, x[None]))(x),
        "tensorflow": lambda: FRAMEWORK.function(lambda x: wrt.jacobian(model, x), autograph=False)(x),
    }[ENGINE]
    assert said(inside) == []


if ENGINE == "torch":

    class Forward(torch.autograd.Function):
        """x², wrong forward at large x and right in reverse."""

        @staticmethod
        def forward(x):
            return x * x

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)
            ctx.save_for_forward(*inputs)

        @staticmethod
        def backward(ctx, u):
            return 2 * u * ctx.saved_tensors[0]

        @staticmethod
        def jvp(ctx, v):
            (x,) = ctx.saved_tensors
            return torch.where(x.abs() > 5, 3, 2) * v * x

    def test_wrong_forward_and_right_in_reverse_falls_back():
        """Where a push is wrong at the samples that a plan is tried on, it is noticed before: here it is not yet."""
        weights = tensor(np.random.default_rng(0).normal(size=(4, 40)))
        model = lambda x: Forward.apply(x) @ weights
        x = np.concatenate([X, 10 + X])
        plan = wrt.plan_jacobian(model, like=x, mode="forward")
        assert plan.plan.mode == "forward"
        with wrt.verification("error"):
            found = plan(x)
        np.testing.assert_allclose(found, 2 * x[:, None] * weights.numpy().T, rtol=1e-12)
        assert plan.plan.mode == "reverse"
        assert "wrong on the first call" in plan.plan.why[0]
        np.testing.assert_allclose(plan(x), found)
        J = wrt.linearize(model, x)
        for _ in range(2):
            np.testing.assert_allclose(J.matvec(x), (2 * x * x) @ weights.numpy(), rtol=1e-12)

    def test_at_most_six_passes_and_buffers_as_before():
        class Counted(torch.nn.Module):
            def __init__(self, factor):
                super().__init__()
                self.rule, self.calls = _torch_square(factor), 0
                self.register_buffer("seen", torch.zeros(1))

            def forward(self, x):
                self.calls += 1
                return self.rule(x) * (1 + 0 * self.seen)

        for factor in (1.0, 1.2):
            module = Counted(factor).double().eval()
            with wrt.verification("off"):
                wrt.jacobian(copy.deepcopy(module), X)
            first = Counted(factor).double().eval()
            with wrt.verification("off"):
                wrt.jacobian(first, X)
            said(lambda module=module: wrt.jacobian(module, X))
            assert 1 <= module.calls - first.calls <= 6
            assert module.seen.item() == 0
            assert not module.training

    def _torch_square(factor):
        return with_rule(lambda x: x * x, lambda x: 2 * factor * x)

    def test_a_bfloat16_module_is_judged_in_float64():
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).bfloat16()
        with wrt.verification("error"):
            wrt.jacobian(net, X)
        found = wrt.check(net, X)
        assert found.ok, str(found)
        assert found.precision == "float64"
        assert net[0].weight.dtype == torch.bfloat16

    def test_repeated_singular_values():
        x = np.stack([np.eye(2), np.array([[2.0, 1.0], [0.0, 1.0]])])
        found = said(lambda: wrt.jacobian(lambda x: torch.linalg.svd(x)[0], x))
        assert any(w.category is wrt.NonFiniteWarning and "sample 0" in str(w.message) for w in found)
