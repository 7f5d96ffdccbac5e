"""flax.nnx and equinox modules, which are JAX functions."""

from __future__ import annotations

import jax
import pytest

import wrt

from .battery import close, separated
from .test_architectures import differences


@pytest.mark.parametrize("library", ["nnx", "equinox"])
def test_module(library):
    if library == "nnx":
        from flax import nnx

        model = nnx.Sequential(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), nnx.tanh, nnx.Linear(4, 2, rngs=nnx.Rngs(1)))
        function = model
    else:
        import equinox

        function = jax.vmap(equinox.nn.MLP(3, 2, 4, 1, activation=jax.nn.tanh, key=jax.random.key(0)))
    x = separated([(3,)])[0].astype("float32")
    close(library, wrt.jacobian(function, x), differences(function, x), 2e-3)
