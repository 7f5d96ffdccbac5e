"""How often the model is evaluated, and that the second call compiles nothing."""

import numpy as np
import pytest
import torch
from conftest import ENGINE
from subjects import close, function_net, keras_net, keras_tolerance, points, tensor, truth

import wrt

X = points(6)


class Counting(torch.nn.Module):
    """Counts the calls, and remembers how many samples each had."""

    def __init__(self):
        super().__init__()
        self.inner, self.sizes = torch.nn.Linear(3, 4).double(), []

    def forward(self, x):
        self.sizes.append(len(x))
        return torch.tanh(self.inner(x))


def after_planning(model, x, **options):
    """The batches seen by a second call; the first plans as well."""
    wrt.jacobian(model, x, **options)
    model.sizes.clear()
    wrt.jacobian(model, x, **options)
    return model.sizes


def test_reverse_mode_evaluates_once_per_batch():
    assert after_planning(Counting(), X, mode="reverse", compile=False) == [6]
    assert after_planning(Counting(), X, mode="reverse", batch_size=2) == [2, 2, 2]
    assert after_planning(Counting(), X, mode="reverse", batch_size=4) == [4, 2]
    assert after_planning(Counting(), X, mode="reverse", batch_size=6, chunk=2) == [6]


@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_forward_mode_evaluates_once_per_chunk_and_once_for_the_output(chunk):
    chunks = -(-3 // chunk)
    assert after_planning(Counting(), X, mode="forward", chunk=chunk) == [6] * (chunks + 1)
    assert after_planning(Counting(), X, mode="forward", chunk=chunk, batch_size=3) == [3] * 2 * (chunks + 1)


def test_products_evaluate_once():
    model = Counting()
    for function, extra, most in [(wrt.vjp, np.ones((6, 4)), 1), (wrt.jvp, X, 2)]:
        function(model, X, extra)
        model.sizes.clear()
        function(model, X, extra)
        assert len(model.sizes) <= most


def test_planning_in_reverse_mode_costs_one_evaluation():
    model = Counting()
    with wrt.verification("off"):
        wrt.jacobian(model, X, mode="reverse")
    assert len(model.sizes) == 2
    assert model.sizes[-1] == 6
    assert model.sizes[0] <= 2


def test_the_output_comes_from_the_same_evaluation():
    assert after_planning(Counting(), X, mode="reverse", with_output=True) == [6]


class Traces:
    """Counts; no list, whose length would make the function that holds it another one."""

    def __init__(self):
        self.count = 0

    def add(self):
        self.count += 1


def traced():
    """A function of the engine that notes every time Python runs it."""
    f, calls = function_net(), Traces()

    def g(x):
        calls.add()
        return f(x)

    return g, calls


if ENGINE != "torch":  # whose functions are run each time

    @pytest.mark.parametrize("kind", ["numpy", "tensor"])
    @pytest.mark.parametrize("options", [{"mode": "reverse"}, {"mode": "forward"}, {"batch_size": 2}, {"chunk": 2}])
    def test_later_calls_trace_the_function_once_and_compile_nothing(options, kind, compilations):
        f, calls = traced()
        x = X if kind == "numpy" else tensor(X)
        close(wrt.jacobian(f, x, **options), truth(X), 1e-10)
        first, made = calls.count, len(compilations)
        assert first > 0
        assert made > 0
        for _ in range(3):
            close(wrt.jacobian(f, x, **options), truth(X), 1e-10)
        assert calls.count == first + 3
        assert len(compilations) == made

    def test_a_lambda_as_choice_is_not_compiled_again(compilations):
        f, calls = traced()
        for turn in range(3):
            wrt.gradient(f, tensor(X), of=lambda y: y[:, 0] * y[:, 1])
            if turn == 0:
                first, made = calls.count, len(compilations)
        assert calls.count == first + 2
        assert len(compilations) == made

    def test_new_labels_are_not_compiled_again(compilations):
        f, calls = traced()
        wrt.gradient(f, tensor(X), of=np.zeros(6, int))
        first, made = calls.count, len(compilations)
        wrt.gradient(f, tensor(X), of=np.ones(6, int))
        assert calls.count == first + 1
        assert len(compilations) == made

    def test_a_plan_is_compiled_once(compilations):
        f, calls = traced()
        plan = wrt.plan_jacobian(f, tensor(X))
        plan(tensor(X))
        first, made = calls.count, len(compilations)
        plan(tensor(X + 1))
        assert calls.count == first + 1
        assert len(compilations) == made

    def test_a_short_last_batch_is_padded_and_not_compiled(compilations):
        f, _ = traced()
        whole = wrt.jacobian(f, X[:4], batch_size=2)
        made = len(compilations)
        close(wrt.jacobian(f, X[:3], batch_size=2), whole[:3], 1e-12)
        assert len(compilations) == made


def test_keras_model_is_called_once_by_the_second_call(monkeypatch):
    model = keras_net()
    calls = []
    original = type(model).call
    monkeypatch.setattr(type(model), "call", lambda self, *a, **k: calls.append(1) or original(self, *a, **k))
    wrt.jacobian(model, X, mode="reverse")
    first = len(calls)
    close(wrt.jacobian(model, X, mode="reverse"), truth(X), keras_tolerance())
    assert len(calls) - first == (1 if ENGINE == "torch" else 0)


if ENGINE == "jax":

    def test_neighbouring_numbers_of_samples_share_a_program(compilations):
        import jax.numpy as jnp

        wrt.jacobian(jnp.sin, points(100))
        before = len(compilations)
        close(np.diagonal(wrt.jacobian(jnp.sin, points(97)), axis1=1, axis2=2), np.cos(points(97)), 1e-10)
        assert len(compilations) == before
