"""Surfaces and profiles of single features, against closed forms."""

import numpy as np
import pytest
from subjects import close, function_net, keras_net, keras_tolerance, math, points, tensor, truth, value

import wrt
from wrt.analysis.features import Scalar
from wrt.errors import InputError, NonFiniteWarning, OptionError, SelectionError

rng = np.random.default_rng(5)
X = rng.normal(size=(31, 3)) * [1, 2, 3]
A, B = np.meshgrid(np.linspace(-1, 2, 4), np.linspace(0, 3, 4), indexing="ij")
RANGE = ((-1, 2), (0, 3))
DATA = {"numpy": np.asarray, "tensor": tensor}


def bumpy(x):
    """a²b + sin b + a c², with a, b and c the features 0, 2 and 1."""
    return x[:, 0] ** 2 * x[:, 2] + math().sin(x[:, 2]) + x[:, 0] * x[:, 1] ** 2


def by_hand(square):
    """The output, both first and the three second derivatives, for this value of c²."""
    output = A**2 * B + np.sin(B) + A * square
    return output, np.stack([2 * A * B + square, A**2 + np.cos(B)]), np.stack([2 * B, 2 * A, -np.sin(B)])


@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize(
    ("others", "square"),
    [
        ("median", np.median(X[:, 1]) ** 2),
        ("marginal", np.mean(X[:, 1] ** 2)),
        ([9, 0.5, 9], 0.25),
    ],
    ids=["median", "marginal", "values"],
)
def test_closed_form(kind, others, square):
    found = wrt.surface(bumpy, DATA[kind](X), features=(0, 2), range=RANGE, grid=4, others=others)
    for name, wanted in zip(("output", "first", "second"), by_hand(square), strict=True):
        close(getattr(found, name), wanted, 1e-10)
    np.testing.assert_array_equal(found.axes, [A[:, 0], B[0]])
    np.testing.assert_array_equal(found.data, X[:, [0, 2]])
    assert (found.names, found.features, found.order) == (("x0", "x2"), (0, 2), 2)
    assert found.others == (others if isinstance(others, str) else "values")
    np.testing.assert_array_equal(found.rows[:, 1] ** 2, X[:, 1] ** 2 if others == "marginal" else [square])


def test_a_mean_over_some_rows(monkeypatch):
    """The drawn rows are rows of the data, each once; made in parts, it is the same."""
    given = {"features": (0, 2), "range": RANGE, "grid": 4, "others": "marginal", "order": 1, "rows": 7}
    found = wrt.surface(bumpy, X, **given)
    square = found.first[0] - 2 * A * B
    assert len(found.rows) == 7
    assert np.ptp(square) < 1e-9
    drawn = X[np.random.default_rng(0).choice(31, 7, replace=False)]
    assert square[0, 0] == pytest.approx(np.mean(drawn[:, 1] ** 2))
    assert len(np.unique(drawn[:, 1])) == 7
    monkeypatch.setattr("wrt.analysis.surface.ROOM", 7 * 3 * 5)  # five points at a time
    sizes, slopes = [], Scalar.slopes
    monkeypatch.setattr(Scalar, "slopes", lambda s, x, f: (sizes.append(len(x)), slopes(s, x, f))[1])
    close(wrt.surface(bumpy, X, **given).first, found.first, 1e-12)
    assert sizes == [28] * 4
    assert wrt.surface(bumpy, X, **{**given, "seed": 1}).first[0, 0, 0] != found.first[0, 0, 0]


@pytest.mark.parametrize("make", [function_net, keras_net], ids=["function", "keras"])
def test_a_network_on_the_range_of_the_data(make):
    tolerance = 1e-10 if make is function_net else keras_tolerance()
    x = points(50)
    found = wrt.surface(make(), x, 2, features=("c", "a"), names=list("abc"), order=1, grid=5)
    np.testing.assert_allclose(found.axes, [np.linspace(*np.percentile(x[:, k], (1, 99)), 5) for k in (2, 0)])
    rows = np.tile(np.median(x, 0), (25, 1))
    rows[:, 2], rows[:, 0] = np.repeat(found.axes[0], 5), np.tile(found.axes[1], 5)
    close(found.output.ravel(), value(rows)[:, 2], tolerance)
    close(found.first.reshape(2, -1).T, truth(rows)[:, 2, [2, 0]], tolerance)
    assert (found.second, found.order, found.names) == (None, 1, ("c", "a"))
    assert repr(found).startswith("Surface: order 1, 5 x 5 points, c from -")
    flat = wrt.surface(make(), x, 2, features=(2, 0), order=0, grid=5)
    close(flat.output, found.output, tolerance)
    assert (flat.first, flat.second, flat.order) == (None, None, 0)


def test_points_outside_the_data_are_said():
    product = lambda x: x[:, 0] * x[:, 1]
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.25, 0.25]])  # a triangle
    given = {"order": 0, "grid": 5, "names": ["a", "b"]}
    found = wrt.surface(product, corners, range=(0, 1), **given)
    a, b = np.meshgrid(*found.axes, indexing="ij")
    np.testing.assert_array_equal(found.outside, a + b > 1 + 1e-6)
    assert "; 40% of the plane is outside the data" in repr(found)
    assert "outside" not in repr(wrt.surface(product, corners, range=(0.1, 0.3), **given))
    line = wrt.surface(product, corners[[0, 1]] + [[0, 0], [0, 1]], range=(0, 1), **given)
    assert line.outside.all()


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("kind", DATA)
def test_profile_of_a_cubic(kind, order):
    """Mean and standard error of x³, 3x² or 6x (times y, which is 1 or 2) in five equal bins."""
    x = np.stack([np.tile([1.0, 2.0], 25), rng.permutation(np.linspace(-1, 2, 50))], 1)
    found = wrt.profile(lambda x: x[:, 0] * x[:, 1] ** 3, DATA[kind](x), -1, bins=5, order=order)
    wanted = x[:, 0] * [x[:, 1] ** 3, 3 * x[:, 1] ** 2, 6 * x[:, 1]][order]
    groups = np.argsort(x[:, 1]).reshape(5, 10)
    close(found.mean, wanted[groups].mean(1), 1e-10)
    close(found.error, wanted[groups].std(1, ddof=1) / np.sqrt(10), 1e-10)
    close(found.centers, x[groups, 1].mean(1), 1e-12)
    np.testing.assert_array_equal(found.counts, [10] * 5)
    np.testing.assert_allclose(found.edges, np.quantile(x[:, 1], np.linspace(0, 1, 6)))
    assert (found.name, found.order, found.feature) == ("x1", order, 1)


def test_bins_of_ties():
    """Three values, one of them once: coinciding edges are one, and a lone sample joins its neighbour."""
    x = np.repeat([0.0, 1.0, 2.0], [6, 5, 1])[:, None]
    found = wrt.profile(lambda x: x[:, 0] ** 2, x, "pt", bins=4, names=["pt"])
    np.testing.assert_array_equal(found.counts, [6, 6])
    np.testing.assert_allclose(found.mean, [0, (5 * 2 + 4) / 6], atol=1e-12)
    lone = np.repeat([0.0, 1.0, 2.0], [1, 10, 6])[:, None]
    np.testing.assert_array_equal(wrt.profile(lambda x: x[:, 0] ** 2, lone, 0, bins=3).counts, [11, 6])
    assert repr(found).startswith("Profile: mean first derivative in 2 bins of pt, 12 samples; largest 2.333 ± 0.33")


def test_labels_and_samples_that_are_not_finite():
    x = points(40)
    labels = np.arange(40) % 4
    found = wrt.profile(function_net(), x, 0, labels, bins=1)
    close(found.mean, truth(x)[np.arange(40), labels, 0].mean(keepdims=True), 1e-10)
    x[:, 0] = np.abs(x[:, 0])
    x[:2, 0] = 0
    with pytest.warns(NonFiniteWarning, match="2 of 40 derivatives"):
        root = wrt.profile(lambda x: x[:, 0] ** 0.5, tensor(x), 0, bins=2)
    assert root.counts.sum() == 38
    assert np.isfinite(root.mean).all()
    with pytest.warns(NonFiniteWarning, match="at 2 of 4 points"):
        wrt.surface(lambda x: x[:, 0] ** 0.5, tensor(x), range=(0, 1), grid=2, order=1)
    with pytest.raises(InputError, match="too many for a mean"):
        wrt.profile(lambda x: (0 * x[:, 0]) ** 0.5, tensor(x), 0)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"features": (0,)}, SelectionError, "expected two"),
        ({"features": "x0"}, SelectionError, "expected two"),
        ({"features": (1, -2)}, SelectionError, "twice the same"),
        ({"features": (0, 3)}, SelectionError, "out of range"),
        ({"features": (0, "x9")}, SelectionError, "no feature 'x9'"),
        ({"features": (0, 1.5)}, SelectionError, "expected a number"),
        ({"order": 3}, OptionError, "order=3"),
        ({"order": True}, OptionError, "order=True"),
        ({"grid": 1}, OptionError, "at least 2"),
        ({"range": (2, 1)}, OptionError, "low < high"),
        ({"range": (1, 1)}, OptionError, "low < high"),
        ({"range": (0, np.nan)}, OptionError, "finite"),
        ({"range": ((0, 1), (0, 1), (0, 1))}, OptionError, "such a pair"),
        ({"range": "data"}, OptionError, "such a pair"),
        ({"others": "mean"}, OptionError, "'marginal'"),
        ({"others": [1, 2]}, OptionError, "3 finite values"),
        ({"rows": 0}, OptionError, "rows=0"),
        ({"names": ["a", "b"]}, OptionError, "2 names; expected 3"),
        ({"names": ["a", "b", "a"]}, OptionError, "'a' occurs more than once"),
        ({"names": "abc"}, OptionError, "'abc'; expected 3"),
        ({"of": np.zeros(31, int)}, SelectionError, "a label for every sample"),
        ({"of": "all"}, SelectionError, "chooses 4 numbers"),
        ({"of": None}, SelectionError, "of= must say which"),
        ({"of": 4}, SelectionError, "out of range"),
    ],
)
def test_bad_options(options, error, words):
    with pytest.raises(error, match=words):
        wrt.surface(keras_net(), X, **{"of": 0, **options})


def test_bad_data():
    hole = X.copy()
    hole[3, 1] = np.nan
    for call in (lambda x: wrt.surface(bumpy, x), lambda x: wrt.profile(bumpy, x, 0)):
        for x, words in [
            (X[:, None], r"shape \(31, 1, 3\); expected a table"),
            (X[0], r"shape \(3,\)"),
            (X[:0], r"shape \(0, 3\)"),
            (hole, "1 of 31 rows"),
            ({"a": X, "b": X}, "2 arrays; expected one table"),
            (X.astype(str), "no numbers"),
            (X[:1], "in all 1 rows"),
            (X * [0, 1, 1], "'x0' is 0 in all 31 rows"),
        ]:
            with pytest.raises(InputError, match=words):
                call(x)
    for given, error in [({"bins": 0}, OptionError), ({"order": 4}, OptionError), ({"names": ["a"]}, OptionError)]:
        with pytest.raises(error):
            wrt.profile(bumpy, X, 0, **given)
    with pytest.raises(SelectionError, match="of= must say"):
        wrt.profile(keras_net(), X, 0)
    found = wrt.surface(bumpy, X[:1], range=(0, 1), grid=2, order=1)  # a single row has values for the others
    close(found.first[0], 2 * np.array([0, 1])[:, None] * X[0, 2] + np.array([0, 1]) ** 2, 1e-10)


def test_values_are_needed(engine, monkeypatch):
    """Inside jit there are none."""
    monkeypatch.setattr(type(engine), "is_traced", lambda *_: True)
    for call in (lambda x: wrt.surface(bumpy, x), lambda x: wrt.profile(bumpy, x, 0)):
        with pytest.raises(OptionError, match="call it outside"):
            call(tensor(X))


def test_a_bulk_of_one_value_has_the_range_of_all():
    x = np.zeros((200, 2))
    x[0], x[:, 1] = 5, np.arange(200)
    found = wrt.surface(lambda x: x[:, 0] * x[:, 1], x, order=0, grid=2)
    np.testing.assert_array_equal(found.axes[0], [0, 5])
