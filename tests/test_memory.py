"""Within bounds: what would not fit in one go completes in parts, with the same numbers."""

import gc
import os
import subprocess
import sys
import weakref

import pytest
import torch
from conftest import ENGINE
from subjects import close, function_net, keras_net, keras_tolerance, points, tensor, torch_net, truth

import wrt
from wrt.engines import registry
from wrt.errors import OutOfMemoryError

X = points(8)

# The hidden layer of 6,000 samples takes 480 MB, before and after its activation, and again for their derivatives:
# not within 700 MB; the result takes 2 MB.
LIMITED = """
import os, resource, sys
os.environ["KERAS_BACKEND"] = {engine!r}
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np
import torch
import keras
import wrt
inputs = keras.Input((32,))
hidden = keras.layers.Dense(20_000, activation="relu")(inputs)
model = keras.Model(inputs, keras.layers.Dense(2)(hidden))
x = np.random.default_rng(0).normal(size=(6000, 32)).astype("float32")
model.predict(x[:8], verbose=0)
wrt.jacobian(model, x[:8])
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
before = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (used + (700 << 20), before[1]))
found = wrt.jacobian(model, x, **{options!r})
resource.setrlimit(resource.RLIMIT_AS, before)
assert found.shape == (6000, 2, 32)
k1, b1, k2 = [np.asarray(keras.ops.convert_to_numpy(w)) for w in model.weights[:3]]
for n in (0, 2999, 5999):
    wanted = (k1 * (x[n] @ k1 + b1 > 0)) @ k2
    assert np.abs(found[n] - wanted.T).max() < 1e-3 * np.abs(wanted).max(), n
print("done")
"""


@pytest.mark.parametrize("options", [{}, {"max_memory": 200 << 20}])
def test_completes_in_a_limited_address_space(options):
    code = LIMITED.format(engine=ENGINE, options=options)
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=500)
    assert ran.stdout.strip().endswith("done"), ran.stderr[-2000:]


def out_of_memory():
    if ENGINE == "jax":
        return RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes")
    if ENGINE == "torch":
        return torch.OutOfMemoryError("CUDA out of memory")
    import tensorflow as tf

    return tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")


def failing_above(largest, sizes):
    """A function that the framework has no memory for, above so many samples."""
    f = function_net()

    def g(x):
        if x.shape[0] is not None and x.shape[0] > largest:
            raise out_of_memory()
        sizes.add(int(x.shape[0] or 0))
        return f(x)

    return g


class Sizes:
    """No plain set, which would count as something that the function reads."""

    def __init__(self):
        self.found = set()

    def add(self, size):
        self.found.add(size)


@pytest.mark.parametrize("mode", ["reverse", "forward"])
@pytest.mark.parametrize("largest", [2, 3, 5])
def test_halves_when_memory_runs_out_and_goes_on(largest, mode):
    sizes = Sizes()
    found = wrt.jacobian(failing_above(largest, sizes), X, mode=mode, compile=False, batch_size=8)
    close(found, truth(X), 1e-10)
    assert max(sizes.found) <= largest


def test_the_next_call_remembers_what_fits():
    f, tried = function_net(), Sizes()

    def g(x):
        tried.add(int(x.shape[0] or 0))
        if (x.shape[0] or 0) > 3:
            raise out_of_memory()
        return f(x)

    wrt.jacobian(g, X, compile=False)
    assert max(tried.found) == 8
    tried.found.clear()
    close(wrt.jacobian(g, X, compile=False), truth(X), 1e-10)
    assert max(tried.found) <= 3


def test_says_so_when_nothing_fits():
    f = function_net()
    state = type("State", (), {"full": False})()

    def g(x):
        if state.full:
            raise out_of_memory()
        return f(x)

    wrt.jacobian(g, X, compile=False)
    type(state).full = True  # which torch does not see before it runs the function
    with pytest.raises(OutOfMemoryError, match="not even one sample and one seed"):
        wrt.jacobian(g, X, compile=False)


def test_other_errors_are_not_taken_for_it():
    f = function_net()
    state = type("State", (), {"broken": False})()

    def g(x):
        if state.broken:
            raise ZeroDivisionError("mine")
        return f(x)

    wrt.jacobian(g, X, compile=False)
    type(state).broken = True
    with pytest.raises(ZeroDivisionError, match="mine"):
        wrt.jacobian(g, X, compile=False)


def test_every_engine_knows_its_own_error():
    assert registry.engine(ENGINE).is_out_of_memory(out_of_memory())


@pytest.mark.parametrize("max_memory", [1, 1000, 10**9])
@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_numbers_do_not_depend_on_the_bound(mode, max_memory):
    close(wrt.jacobian(keras_net(), X, mode=mode, max_memory=max_memory), truth(X), keras_tolerance())


def test_a_small_bound_makes_small_batches():
    plan = wrt.plan_jacobian(torch_net(), X, max_memory=1).plan
    assert (plan.batch, plan.chunk) == (1, 1)
    large = wrt.plan_jacobian(torch_net(), X, max_memory=10**9).plan
    assert large.batch >= 8
    assert large.bytes <= 10**9


def test_tensors_go_in_batches_too():
    close(wrt.jacobian(function_net(), tensor(X), batch_size=3), truth(X), 1e-10)


if ENGINE == "torch":

    def test_what_a_single_pull_has_used_is_freed_on_the_way():
        """When the first operator is reached, none of what later ones had saved is alive."""
        alive, counts = weakref.WeakSet(), []

        class Saved:
            def __init__(self, value):
                self.value = value
                alive.add(self)

        class First(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x.clone()

            @staticmethod
            def backward(ctx, u):
                counts.append(len(alive))
                return u

        with torch.autograd.graph.saved_tensors_hooks(Saved, lambda saved: saved.value):
            wrt.gradient(lambda x: First.apply(x).exp().exp().exp(), tensor(X), 1)
            once = counts[-1]
            wrt.jacobian(lambda x: First.apply(x).exp().exp().exp(), tensor(X))
        assert once == 0
        assert counts[-1] == 3

    def test_the_first_look_at_a_model_leaves_nothing_behind():
        held = []

        def f(x):
            y = x.exp()  # whose derivative is its output
            held.append(weakref.ref(y))
            return y.sum(1)

        wrt.gradient(f, tensor(X))
        gc.collect()
        assert len(held) > 1
        assert not any(ref() is not None for ref in held)
