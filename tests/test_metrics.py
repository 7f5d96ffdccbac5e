"""Quality of maps: against closed forms of linear functions and slow loops."""

import doctest

import numpy as np
import pytest
from subjects import keras_net, points, tensor, value

import wrt
from wrt.errors import InputError, OptionError, SelectionError

WEIGHTS = np.array([3.0, -1.0, 2.0])
X = np.array([[1.0, 2.0, 3.0], [2.0, 1.0, -1.0]])


def linear(x):
    return 3 * x[:, 0] - x[:, 1] + 2 * x[:, 2]


def by_hand(f, x, maps, steps, baseline, insert):
    """One sample and one step after the other."""
    found = np.zeros((len(x), steps + 1))
    for n, row in enumerate(x):
        order = sorted(range(row.size), key=lambda i: -maps[n].ravel()[i])
        for s in range(steps + 1):
            chosen = order[: round(s * row.size / steps)]
            changed = np.full(row.size, baseline) if insert else row.ravel().copy()
            changed[chosen] = row.ravel()[chosen] if insert else baseline
            found[n, s] = f(changed.reshape(1, *row.shape))[0]
    return found


@pytest.mark.parametrize("insert", [False, True], ids=["deletion", "insertion"])
@pytest.mark.parametrize("baseline", [0.0, 0.5])
def test_curves(insert, baseline):
    x, maps = points(5), np.random.default_rng(3).normal(size=(5, 3))
    function = wrt.metrics.insertion if insert else wrt.metrics.deletion
    found = function(keras_net(), x, maps, 2, steps=3, baseline=baseline)
    wanted = by_hand(lambda a: value(a)[:, 2], x, maps, 3, baseline, insert)
    np.testing.assert_allclose(found.outputs, wanted, atol=1e-4)
    np.testing.assert_allclose(found.fraction, np.arange(4) / 3)
    ends = wanted[:, 0] + 2 * wanted[:, 1] + 2 * wanted[:, 2] + wanted[:, 3]
    np.testing.assert_allclose(found.area, ends / 6, atol=1e-4)


def test_tensors_give_the_same():
    maps = WEIGHTS * X
    numpy, tensors = (wrt.metrics.deletion(linear, k(X), k(maps), steps=3).outputs for k in (np.asarray, tensor))
    np.testing.assert_allclose(tensors, numpy, atol=1e-6)
    np.testing.assert_allclose(numpy[:, 0], X @ WEIGHTS)
    np.testing.assert_allclose(numpy[:, -1], 0, atol=1e-6)


def test_a_right_map_is_better_than_its_opposite():
    for sign in (1, -1):
        maps = sign * WEIGHTS * X
        out, into = (m(linear, X, maps, steps=3).area for m in (wrt.metrics.deletion, wrt.metrics.insertion))
        assert ((into - out) * sign > 0).all()


def test_positions_go_with_all_their_channels():
    rng = np.random.default_rng(0)
    x, maps, weights = rng.normal(size=(2, 2, 3, 2)), rng.normal(size=(2, 2, 3)), np.arange(12.0).reshape(2, 3, 2)
    f = lambda x: sum(weights[i] * x[(slice(None), *i)] for i in np.ndindex(2, 3, 2))
    plain = wrt.metrics.deletion(f, x, maps, steps=6, data_format="channels_last").outputs
    split = np.stack([maps - 1, np.ones_like(maps)], -1)  # whose sum over the channels is the same
    np.testing.assert_allclose(wrt.metrics.deletion(f, x, split, steps=6, data_format="channels_last").outputs, plain)
    order = np.argsort(-maps.reshape(2, -1), 1)
    terms = (x * weights).reshape(2, 6, 2).sum(-1)
    wanted = [[terms[n, order[n, s:]].sum() for s in range(7)] for n in range(2)]
    np.testing.assert_allclose(plain, wanted, atol=1e-5)


def test_infidelity():
    """E (I·m - I·w)² = noise² |m - w|² for a linear function."""
    maps = np.zeros_like(X)
    found = wrt.metrics.infidelity(linear, X, maps, noise=0.2, samples=4000)
    np.testing.assert_allclose(found, 0.04 * (WEIGHTS**2).sum(), rtol=0.1)
    np.testing.assert_allclose(wrt.metrics.infidelity(linear, X, maps + WEIGHTS), 0, atol=1e-9)


def test_max_sensitivity():
    """The gradient of |x|² is 2 x, and the largest change of a coordinate is the radius."""
    square = lambda x: x[:, 0] ** 2 + x[:, 1] ** 2 + x[:, 2] ** 2
    found = wrt.metrics.max_sensitivity("gradient", square, X, radius=0.1, samples=200)
    most = 0.1 * np.sqrt(3) / np.linalg.norm(X, axis=1)
    assert (found <= most).all()
    assert (found > 0.6 * most).all()
    np.testing.assert_allclose(wrt.metrics.max_sensitivity(wrt.gradient, linear, X), 0, atol=1e-9)


def test_gini():
    rows = np.array([[1.0, 1, 1, 1], [0, 0, 0, -5], [0, 0, 0, 0], [1, 2, 3, 4]])
    np.testing.assert_allclose(wrt.metrics.gini(rows), [0, 0.75, 0, 0.25])
    np.testing.assert_allclose(wrt.metrics.gini(-7 * rows.reshape(4, 2, 2)), wrt.metrics.gini(rows))
    assert wrt.metrics.gini(tensor(rows)).shape == (4,)


BAD = {
    "shape": (
        lambda: wrt.metrics.deletion(linear, X, X[:, :2]),
        InputError,
        r"maps have shape \(2, 2\); expected \(2, 3\)",
    ),
    "nan": (lambda: wrt.metrics.deletion(linear, X, X * np.nan), InputError, "not finite"),
    "steps": (lambda: wrt.metrics.deletion(linear, X, X, steps=0), OptionError, "steps=0"),
    "baseline": (lambda: wrt.metrics.insertion(linear, X, X, baseline=np.ones(2)), InputError, "baseline has shape"),
    "units": (lambda: wrt.metrics.deletion(keras_net(), X, X, wrt.top(2)), SelectionError, "expected one scalar"),
    "no unit": (lambda: wrt.metrics.deletion(keras_net(), X, X), SelectionError, "of="),
    "noise": (lambda: wrt.metrics.infidelity(linear, X, X, noise=0), OptionError, "noise=0"),
    "samples": (lambda: wrt.metrics.infidelity(linear, X, X, samples=1.5), OptionError, "samples=1.5"),
    "map": (lambda: wrt.metrics.infidelity(linear, X, X[:1]), InputError, r"expected \(2, 3\)"),
    "method": (lambda: wrt.metrics.max_sensitivity("gradeint", linear, X), OptionError, "gradient"),
    "radius": (lambda: wrt.metrics.max_sensitivity("gradient", linear, X, radius=-1), OptionError, "radius=-1"),
    "gini": (lambda: wrt.metrics.gini(np.ones(3)), InputError, "one map per sample"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("name", ["deletion", "insertion", "infidelity", "max_sensitivity", "gini"])
def test_docstring(name):
    tests = doctest.DocTestFinder(recurse=False).find(getattr(wrt.metrics, name), name, globs={})
    assert sum(len(test.examples) for test in tests) >= 2
    assert all(doctest.DocTestRunner().run(test).failed == 0 for test in tests)
