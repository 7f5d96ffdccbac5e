"""Second order: Hessians, their diagonals, products and traces."""

import numpy as np
import pytest
from subjects import close, points, scenario, tensor

import wrt

MODES = ("reverse", "forward")
V = np.random.default_rng(3).normal(size=(5, 3))


@pytest.mark.parametrize("mode", MODES)
def test_closed_form(engine, mode):
    """Two units of a network by hand, in every form."""
    chosen = scenario("mlp")
    x, f = chosen.x[0], chosen.on(engine)
    wanted = chosen.hessian(x)
    options = {"of": "all", "mode": mode}
    found, outputs = wrt.hessian(f, tensor(x), with_output=True, **options)
    close(found, wanted, 1e-13)
    close(outputs, np.asarray(f(tensor(x))), 1e-13)
    close(wrt.hessian(f, tensor(x), diagonal=True, **options), np.einsum("nkii->nki", wanted), 1e-13)
    close(wrt.laplacian(f, tensor(x), **options), np.einsum("nkii->nk", wanted), 1e-13)
    close(wrt.hvp(f, tensor(x), tensor(V), **options), np.einsum("nkij,nj->nki", wanted, V), 1e-13)


def test_one_scalar_per_sample(engine):
    chosen = scenario("sines")
    x = points(7, seed=1)
    found = wrt.hessian(chosen.on(engine), tensor(x))
    close(found, chosen.hessian(x), 1e-13)
    close(found, np.swapaxes(chosen.hessian(x), 1, 2), 1e-13)
