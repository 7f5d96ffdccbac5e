"""Which inputs matter, against gradients by hand."""

import numpy as np
import pytest
from subjects import keras_net, nets, points, tensor, truth, value

import wrt
from wrt.errors import InputError, OptionError, SelectionError


def sparse_net(x):
    """Depends on inputs 0 and 1 where x_1 > 0, on 0 alone elsewhere; never on 2."""
    return x[:, 0] + (x[:, 1] + abs(x[:, 1])) ** 2 + 0 * x[:, 2]


X = np.array([[1.0, 2.0, 3.0], [1.0, -2.0, 3.0], [0.0, 0.5, 0.0]])
MASK = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 0]], bool)


@pytest.mark.parametrize("kind", [np.asarray, tensor], ids=["numpy", "tensor"])
def test_counts(kind):
    found = wrt.support(sparse_net, kind(X))
    np.testing.assert_array_equal(found.mask, MASK)
    np.testing.assert_array_equal(found.counts, [2, 1, 2])
    assert repr(found) == "Support: 2 of 3 inputs matter in the median of 3 samples (1 to 2), threshold 0.0001"


@pytest.mark.parametrize("make", [make for _, make, _ in nets()], ids=[name for name, _, _ in nets()])
@pytest.mark.parametrize("of", [1, wrt.top(2)], ids=["unit", "top"])
def test_threshold(make, of):
    x, threshold = points(6), 0.3
    jacobian = truth(x)
    found = wrt.support(make(), x, of, threshold=threshold)
    rows = np.full((6, 1), 1) if of == 1 else np.argsort(-value(x), 1)[:, :2]
    wanted = np.abs(np.take_along_axis(jacobian, rows[:, :, None], 1)) > threshold
    wanted = wanted[:, 0] if of == 1 else wanted
    np.testing.assert_array_equal(found.mask, wanted)
    np.testing.assert_array_equal(found.counts, wanted.sum(-1))


def test_several_inputs():
    x = {"a": X, "b": X[:, :1]}
    found = wrt.support(lambda x: x["a"][:, 0] * x["b"][:, 0], x)
    np.testing.assert_array_equal(found.mask["a"], [[1, 0, 0], [1, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(found.mask["b"], [[1], [1], [0]])
    np.testing.assert_array_equal(found.counts, [2, 2, 0])
    assert "of 4 inputs" in repr(found)


def test_shared():
    found = wrt.support(sparse_net, X)
    np.testing.assert_array_equal(found.shared(), [False, False, True])
    by_class = found.shared([7, 3, 7])
    np.testing.assert_array_equal(by_class[7], [False, False, True])
    np.testing.assert_array_equal(by_class[3], [False, True, True])
    with pytest.raises(InputError, match=r"labels has shape \(2,\); expected \(3,\)"):
        found.shared([1, 2])


@pytest.mark.parametrize("threshold", [-1.0, float("nan"), "much", True, None])
def test_bad_threshold(threshold):
    with pytest.raises(OptionError, match="threshold="):
        wrt.support(sparse_net, X, threshold=threshold)


def test_bad_input():
    with pytest.raises(InputError, match="no sample"):
        wrt.support(sparse_net, X[:0])
    with pytest.raises(SelectionError, match="4 units"):
        wrt.support(keras_net(), points(2), 9)
