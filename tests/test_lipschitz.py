"""Local Lipschitz estimates against NumPy's norms of Jacobians by hand."""

import numpy as np
import pytest
from subjects import close, function_net, keras_net, keras_tolerance, points, tensor, truth, value

import wrt
from wrt.errors import InputError, OptionError, SelectionError

X = points(20)


@pytest.mark.parametrize("norm", [1, 2, np.inf])
@pytest.mark.parametrize("kind", [np.asarray, tensor], ids=["numpy", "tensor"])
def test_norms(norm, kind):
    found = wrt.lipschitz(function_net(), kind(X), norm=norm)
    wanted = np.linalg.norm(truth(X), norm, axis=(1, 2))
    assert isinstance(found.values, np.ndarray)
    close(found.values, wanted, 1e-10)
    assert (found.norm, found.lower, found.worst) == (norm, found.values.max(), np.argmax(wanted))


def test_a_local_norm_is_a_lower_bound():
    """Between neighbours the output changes by as much as is said, for some direction; by no more near them."""
    net, step = function_net(), 1e-6
    found = wrt.lipschitz(net, X)
    directions = np.random.default_rng(1).normal(size=(300, 1, 3))
    directions *= step / np.linalg.norm(directions, axis=-1, keepdims=True)
    moved = (X + directions).reshape(-1, 3)
    change = np.linalg.norm((value(moved) - value(np.tile(X, (300, 1)))).reshape(300, 20, 4), axis=-1) / step
    assert (change.max(0) <= found.values * (1 + 1e-4)).all()
    assert (change.max(0) >= found.values * 0.9).all()
    low, high = found.values.min(), found.values.max()
    assert repr(found).startswith(f"Lipschitz: {low:.4g} to {high:.4g} near 20 samples, ")
    assert repr(found).endswith("how much more is not known")


def test_of_and_keras():
    found = wrt.lipschitz(keras_net(), X, 2, norm=1)
    close(found.values, np.abs(truth(X)[:, 2]).max(1), keras_tolerance())


@pytest.mark.parametrize("norm", [0, 3, "fro", True, None, float("nan")])
def test_bad_norms(norm):
    with pytest.raises(OptionError, match="expected 1, 2 or"):
        wrt.lipschitz(function_net(), X, norm=norm)


def test_bad_input():
    hole = X.copy()
    hole[[2, 5], 0] = np.nan
    with pytest.raises(InputError, match="2 of 20 samples hold NaN"):
        wrt.lipschitz(function_net(), hole)
    with pytest.raises(InputError, match="no sample"):
        wrt.lipschitz(function_net(), X[:0])
    with pytest.raises(InputError, match="expected an array"):
        wrt.lipschitz(function_net(), 3.0)
    with pytest.raises(SelectionError, match="out of range"):
        wrt.lipschitz(keras_net(), X, 9)
    with pytest.raises(InputError, match="of 1 samples are not finite"):
        wrt.lipschitz(lambda x: x**0.5, tensor(np.zeros((1, 1))), norm=1)
