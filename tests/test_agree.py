"""A push is right where it agrees with a pull: else plans fall back to reverse mode, and say why."""

import keras
import numpy as np
import pytest
import torch
from conftest import ENGINE
from subjects import close, math, nets, points, tensor, truth

import wrt

X, V = points(3), points(3, seed=1)
DISAGREE = "products disagree"


class HalfPush(torch.autograd.Function):
    """Sine with the right pull and half of the push."""

    @staticmethod
    def forward(x):
        return x.sin()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0].cos()

    @staticmethod
    def jvp(ctx, t):
        return t * ctx.saved_tensors[0].cos() / 2


def of_wrong_push():
    """`(f, f')`: an elementwise function whose push is wrong on this engine, alone or beside another path."""
    if ENGINE == "torch":
        return lambda x: HalfPush.apply(x) + 3 * x, lambda x: np.cos(x) + 3
    import tensorflow as tf

    @tf.custom_gradient
    def rounded(x):  # forward mode in a graph sees the rounding
        return tf.round(x), lambda u: u

    return lambda x: rounded(x) + 3 * x, lambda x: 4 + 0 * x


def wrong_push(test):
    """A test for engines that can have a wrong push: JAX makes pulls by transposing pushes."""
    return None if ENGINE == "jax" else test


@wrong_push
def test_a_push_that_disagrees_is_not_used():
    f, slope = of_wrong_push()
    J = slope(X)[:, :, None] * np.eye(3)
    plan = wrt.plan_jacobian(lambda x: math().stack([f(x)] * 9, 2), tensor(X))
    if ENGINE == "torch":  # TensorFlow pushes such functions as graphs of their own, where it follows the rule
        assert plan.plan.mode == "reverse"
        assert DISAGREE in str(plan.plan)
    close(plan(tensor(X))[:, :, 4], J, 1e-12)
    close(wrt.jacobian(f, tensor(X), mode="forward"), J, 1e-12)
    close(wrt.jvp(f, tensor(X), tensor(V)), slope(X) * V, 1e-12)
    close(wrt.linearize(f, tensor(X)).matvec(tensor(V)), slope(X) * V, 1e-12)


@wrong_push
def test_a_small_output_and_a_small_input_are_judged_by_themselves():
    f, slope = of_wrong_push()
    found = wrt.jvp(lambda x: {"large": 1e9 * x, "small": f(x)}, tensor(X), tensor(V))
    close(found["small"], slope(X) * V, 1e-12)

    def both(a, b):
        return 1e9 * a + f(b)

    close(wrt.jvp(both, {"a": tensor(0 * X), "b": tensor(X)}, {"a": tensor(0 * V), "b": tensor(V)}), slope(X) * V, 1e-7)


@wrong_push
def test_the_push_of_a_gradient():
    f, _ = of_wrong_push()

    square = (lambda x: x.square().sum(-1)) if ENGINE == "torch" else lambda x: math().reduce_sum(x * x, -1)
    # of (sin x + 3 x)², and of (round(x) + 3 x)² with 1 for the derivative of the rounding
    bend = 2 * (np.cos(X) + 3) ** 2 - 2 * (np.sin(X) + 3 * X) * np.sin(X) if ENGINE == "torch" else 32 + 0 * X
    for mode in ("reverse", "forward"):
        found = wrt.hessian(lambda x: [square(x), square(f(x))], tensor(X), diagonal=True, mode=mode, of="all")
        close(found[1], bend, 1e-10)


if ENGINE == "tensorflow":  # only there a trace hides values from a push that may be wrong

    def test_inside_a_trace():
        f, slope = of_wrong_push()
        traced = math().function(lambda x, v: wrt.jvp(f, x, v), autograph=False)
        close(traced(tensor(X), tensor(V)), slope(X) * V, 1e-12)


@pytest.mark.parametrize(("name", "make", "tolerance"), nets(), ids=lambda a: a if isinstance(a, str) else "")
def test_a_right_push_is_used(name, make, tolerance):
    net = make()
    wide = wrt.plan_jacobian(net, X, mode="forward")
    assert wide.plan.mode == "forward", wide.plan
    close(wide(X), truth(X), tolerance)
    assert "disagree" not in str(wrt.plan_jacobian(net, X).plan)


@pytest.mark.parametrize("policy", ["float32", "float16", "bfloat16", "mixed_bfloat16"])
def test_rounding_is_no_disagreement(policy):
    layers = [
        keras.Input((6, 6, 3)),
        keras.layers.Conv2D(8, 3, activation="gelu", dtype=policy),
        keras.layers.LayerNormalization(dtype=policy),
        keras.layers.MaxPooling2D(2, dtype=policy),
        keras.layers.Flatten(dtype=policy),
        keras.layers.Dense(20, activation="softmax", dtype=policy),
    ]
    images = np.random.default_rng(0).normal(size=(2, 6, 6, 3))
    assert DISAGREE not in str(wrt.plan_jacobian(keras.Sequential(layers), images, mode="forward").plan)


def test_samples_that_mix_and_functions_that_draw_are_no_disagreement():
    mean = (lambda x: x - x.mean(0)) if ENGINE == "torch" else lambda x: x - keras.ops.mean(x, 0)
    assert wrt.plan_jacobian(mean, tensor(X), mode="forward").plan.mode == "forward"
    if ENGINE == "torch":
        noisy = wrt.plan_jacobian(lambda x: x * torch.randn_like(x), tensor(X), mode="forward")
        assert noisy.plan.mode == "forward"
