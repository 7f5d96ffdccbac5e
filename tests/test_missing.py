"""Derivatives that a framework does not have, or that cannot run, are errors of the library that name the operator."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import ENGINE

import wrt
from wrt.errors import DerivativeError

X = np.array([[0.5, 0.7], [0.3, 1.1]])


def without_second(name):
    if ENGINE == "torch":
        import torch

        return {
            "hardsigmoid": lambda x: (torch.nn.functional.hardsigmoid(x) * x).sum(1),
            "cdist": lambda x: torch.cdist(x[:, None] + 1, x[:, None] ** 2)[:, 0, 0],
        }[name]
    if ENGINE == "jax":
        from jax.scipy import special

        return {
            "igamma_grad_a": lambda x: special.gammainc(x[:, 0], x[:, 1]),
            "constant handler": lambda x: special.expn(2, x).sum(1),
        }[name]
    import tensorflow as tf

    image = lambda x: tf.reshape(x, (-1, 2, 1, 1))
    filters = np.full((1, 1, 1), 0.2)
    return lambda x: tf.reduce_sum(tf.nn.dilation2d(image(x), filters, [1] * 4, "VALID", "NHWC", [1] * 4), (1, 2, 3))


NAMES = {
    "torch": ["hardsigmoid", "cdist"],
    "jax": ["igamma_grad_a", "constant handler"],
    "tensorflow": ["Dilation2DBackpropInput"],
}[ENGINE]


@pytest.mark.parametrize("compile", [False, None])
@pytest.mark.parametrize("name", NAMES)
def test_an_operator_without_a_second_derivative_is_named(name, compile):
    f = without_second(name)
    for mode in ("reverse", "forward"):
        with pytest.raises(DerivativeError, match=name):
            wrt.hessian(f, X, mode=mode, compile=compile)
    assert np.isfinite(wrt.gradient(f, X, compile=compile)).all()


if ENGINE == "torch":

    def test_a_backward_that_cannot_run_is_named():
        """torch raises powers in place, on what its own backward needs."""
        import torch

        vander = lambda x: torch.stack([torch.vander(row).sum() for row in x])
        with pytest.raises(DerivativeError, match="modified by an inplace operation"):
            wrt.gradient(vander, X)
        assert wrt.gradient(lambda x: torch.linalg.vander(x).sum((1, 2)), X).shape == X.shape
