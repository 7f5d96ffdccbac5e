"""Pictures of tables of features, by their content: every number where it belongs, and readable."""

import doctest
import importlib
import itertools
import pkgutil
import sys

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from wrt import plots
from wrt.errors import EngineNotInstalledError, InputError, OptionError
from wrt.plots.style import COLOURS, slope, stacked
from wrt.slices import Profile, Surface

rng = np.random.default_rng(3)
NAMES = ("pt [GeV]", "eta")


def plane(order=2, others="marginal", count=400, features=3):
    """A result as `wrt.surface` returns it, on 4 by 3 points."""
    axes = np.linspace(0, 3, 4), np.linspace(-1, 1, 3)
    parts = [rng.normal(size=(n, 4, 3)) for n in (1, 2, 3)]
    data = rng.normal(size=(count, 2)) * [0.5, 0.3] + [1.5, 0]
    first, second = parts[1] if order else None, parts[2] if order == 2 else None
    return Surface(NAMES, axes, parts[0][0], first, second, data, (0, 1), others, rng.normal(size=(7, features)))


def drawn(result, **options):
    """The panels, and their colour bars."""
    axes = plots.surface(result, figure=Figure(), **options).axes
    return [a for a in axes if a.images], [a for a in axes if not a.images]


def saved(figure):
    """Pixels, and that nothing leaves the page."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    box, (width, height) = figure.get_tightbbox(canvas.get_renderer()), figure.get_size_inches()
    assert min(box.x0, box.y0, width - box.x1, height - box.y1) > -0.03, (box, width, height)
    return np.asarray(canvas.buffer_rgba())


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


@pytest.mark.parametrize(
    ("order", "titles"),
    [
        (0, ["output"]),
        (1, ["output", "∂y/∂pt", "∂y/∂eta"]),
        (2, ["output", "∂y/∂pt", "∂y/∂eta", "∂²y/∂pt²", "∂²y/∂pt∂eta", "∂²y/∂eta²"]),
    ],
)
def test_a_panel_for_every_derivative(order, titles):
    result = plane(order)
    panels, bars = drawn(result, title="A surface")
    assert [axes.get_title() for axes in panels] == titles
    assert len(bars) == len(panels)
    values = [result.output, *([] if order == 0 else result.first), *([] if order < 2 else result.second)]
    for number, (axes, value) in enumerate(zip(panels, values, strict=True)):
        (image,) = axes.images
        np.testing.assert_array_equal(image.get_array(), value.T)  # upwards is the second feature
        assert image.origin == "lower"
        np.testing.assert_allclose(image.get_extent(), [-0.5, 3.5, -1.5, 1.5])
        low, high = image.get_clim()
        if number:
            assert low == -high < 0
            low, middle, high = image.cmap([0.0, 0.5, 1.0])[:, :3]
            assert np.ptp(middle) < 0.01  # grey between blue and red
            assert min(low[2] - low[0], high[0] - high[2]) > 0.2
        else:
            assert (low, high) == (value.min(), value.max())
    outer = {axes.get_xlabel() for axes in panels}, {axes.get_ylabel() for axes in panels}
    assert {"pt [GeV]"} <= outer[0] <= {"pt [GeV]", ""}
    assert {"eta"} <= outer[1] <= {"eta", ""}
    figure = panels[0].figure
    assert figure.get_size_inches()[0] == 3.4
    words = " ".join(text.get_text() for text in figure.texts).replace("\n", " ")
    assert words == "A surface other features averaged over 7 rows; lines hold 50 % and 90 % of the data"
    assert saved(figure).std() > 10


def test_panels_do_not_overlap():
    panels, bars = drawn(plane())
    boxes = [axes.get_position() for axes in (*panels, *bars)]
    for k, box in enumerate(boxes):
        for other in boxes[:k]:
            assert not box.overlaps(other)


def test_scales_on_request():
    result = plane()
    panels, _ = drawn(result, scales={"output": (0, 1), "first": 0.5, "second": 2})
    ends = [axes.images[0].get_clim() for axes in panels]
    assert ends == [(0, 1), *[(-0.5, 0.5)] * 2, *[(-2, 2)] * 3]
    panels, _ = drawn(plane(1), scales={"first": 3})
    assert [axes.images[0].get_clim() for axes in panels][1:] == [(-3, 3)] * 2


def test_contours_hold_their_share_of_the_data():
    panels, _ = drawn(plane(0, count=4000))
    (contours,) = [c for c in panels[0].collections if hasattr(c, "levels")]
    assert len(contours.levels) == 2
    outer, inner = (path.to_polygons(closed_only=False) for path in contours.get_paths())
    from matplotlib.path import Path

    result = plane(0, count=4000)
    for polygons, share in ((inner, 0.5), (outer, 0.9)):
        inside = np.any([Path(p).contains_points(result.data) for p in polygons], 0)
        assert inside.mean() == pytest.approx(share, abs=0.05)
    assert not any(hasattr(c, "levels") for c in drawn(plane(0), contours=False)[0][0].collections)
    (dots,) = drawn(plane(0, count=10, others="median"))[0][0].lines
    assert len(dots.get_xdata()) == 10
    few = drawn(plane(0, count=10, others="median"))[0][0].figure
    assert [t.get_text() for t in few.texts] == ["other features at their medians"]
    assert [t.get_text() for t in drawn(plane(0, count=10, features=2))[0][0].figure.texts if t.get_text()] == []


def test_what_is_not_finite_or_flat():
    result = plane(1)
    result.output[0, 0] = np.nan
    result.first[0][:] = 0
    panels, _ = drawn(result)
    assert panels[0].images[0].get_array().mask.sum() == 1
    assert panels[1].images[0].get_clim() == (-1, 1)
    result.output[:] = 2
    low, high = drawn(result)[0][0].images[0].get_clim()
    assert low < 2 < high


def test_axes_of_ones_own():
    figure = Figure()
    axes = figure.subplots(1, 3)
    assert plots.surface(plane(1), axes) is figure
    assert all(a.get_xlabel() == "pt [GeV]" and a.get_ylabel() == "eta" for a in axes)
    assert len(figure.axes) == 6
    one = Figure().subplots()
    assert plots.profile(course(), one) is one.figure
    assert plots.roc([0.0, 1.0], [0, 1], one) is one.figure


def course(order=1, name="pt [GeV]", shift=0.0):
    edges = np.array([0.0, 1.0, 2.0, 5.0])
    mean = np.array([-1.0, 0.5, 2.0]) + shift
    return Profile(name, order, edges, np.array([0.4, 1.5, 3.0]), mean, np.array([0.1, 0.2, 0.3]), np.full(3, 9), 0)


@pytest.mark.parametrize(("order", "said"), [(0, "mean output"), (1, "mean ∂y/∂pt"), (2, "mean ∂²y/∂pt²")])
def test_profile(order, said):
    result = course(order)
    axes = plots.profile(result, figure=Figure(), title="Where it matters").axes[0]
    (bars,) = axes.containers
    np.testing.assert_array_equal(bars.lines[0].get_xydata(), np.stack([result.centers, result.mean], 1))
    across, up = (np.array([path.vertices for path in lines.get_paths()]) for lines in bars.lines[2])
    np.testing.assert_allclose(across[:, :, 0], np.stack([result.edges[:-1], result.edges[1:]], 1))
    np.testing.assert_allclose(np.ptp(up[:, :, 1], axis=1), 2 * result.error)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("pt [GeV]", said)
    assert len(axes.lines) - 1 == (order > 0)  # zero
    assert saved(axes.figure).std() > 5


def test_profiles_of_classes():
    axes = plots.profile({"signal": course(), "background": course(shift=1)}, figure=Figure()).axes[0]
    assert legend(axes) == ["signal", "background"]
    assert len({bars.lines[0].get_color() for bars in axes.containers}) == 2
    for wrong in (course(2), course(name="eta"), 7):
        with pytest.raises(InputError, match="expected"):
            plots.profile({"a": course(), "b": wrong})
    with pytest.raises(InputError, match="0 profiles"):
        plots.profile({})


X = rng.normal(size=(900, 3)) * [10, 1, 0.1]
Y = np.repeat([0, 1, 2], [600, 290, 10])


def test_pairs():
    names = ["jet mass of two words [GeV]", "eta", "phi"]
    figure = plots.pairs(X, Y, names=names, classes=["a", "b", "c"], points=300, figure=Figure())
    assert len(figure.axes) == 6
    places = [(row, column) for row in range(3) for column in range(row + 1)]
    for axes, (row, column) in zip(figure.axes, places, strict=True):
        assert axes.get_xlabel().replace("\n", " ") == (names[column] if row == 2 else "")
        assert axes.get_ylabel().replace("\n", " ") == (names[row] if row and not column else "")
        low, high = np.percentile(X[:, column], (0.5, 99.5))
        assert axes.get_xlim()[0] < low < high < axes.get_xlim()[1]
        if row == column:
            continue
        (dots,) = axes.collections
        points = np.asarray(dots.get_offsets())
        assert len(points) == 100 + 100 + 10  # as many of each class, and all of the rare one
        colours = [to_hex(c) for c in dots.get_facecolors()]
        for point, colour in zip(points[::7], colours[::7], strict=True):
            (found,) = np.flatnonzero((X[:, [column, row]] == point).all(1))
            assert colour == COLOURS[Y[found]]
        changes = sum(a != b for a, b in itertools.pairwise(colours))
        assert changes > 50  # mixed
    assert legend(figure.axes[0]) == ["a", "b", "c"]
    assert figure.get_size_inches()[0] == pytest.approx(3.4, abs=0.3)
    assert saved(figure).std() > 10


def test_histograms_of_pairs_are_of_all_rows():
    axes = plots.pairs(X, Y, points=30, bins=20, figure=Figure()).axes[0]
    edges = np.linspace(*axes.get_xlim(), 21)
    lines = [patch for patch in axes.patches if not patch.get_fill()]
    for k, line in enumerate(lines):
        wanted = np.histogram(X[Y == k, 0], edges)[0] / (np.sum(Y == k) * np.diff(edges))
        assert line.get_xy()[:, 1].max() == pytest.approx(wanted.max())
        assert to_hex(line.get_edgecolor()) == COLOURS[k]


def test_pairs_of_few_and_many_features():
    one = plots.pairs(X[:, :1], Y, features=[0], figure=Figure())
    assert len(one.axes) == 1
    saved(one)
    wide = np.concatenate([X] * 4, 1)
    with pytest.raises(InputError, match="12 features are too many"):
        plots.pairs(wide)
    found = plots.pairs(wide, features=[11, 0], names=list("abcdefghijkl"), figure=Figure())
    assert found.axes[1].get_xlabel() == "l"
    assert found.axes[0].get_legend() is None
    flat = plots.pairs(X * [1, 0, 1], Y, features=["x1", 0], figure=Figure())
    assert flat.axes[0].get_xlim() == (-0.5, 0.5)
    assert len(plots.pairs(X[:1], [4], figure=Figure()).axes) == 6


@pytest.mark.parametrize(
    ("x", "y", "options", "error", "words"),
    [
        (X[:, 0], None, {}, InputError, r"expected features \(N, F\)"),
        (X[:0], None, {}, InputError, r"shape \(0, 3\)"),
        (np.where(X > 25, np.nan, X), None, {}, InputError, "rows of x hold NaN"),
        (X, Y[:5], {}, InputError, r"y has shape \(5,\)"),
        (X, X[:, 0], {}, InputError, "integers or words"),
        (X, np.arange(900), {}, InputError, "900 classes; expected at most 7"),
        (X, Y, {"names": ["a", "b"]}, OptionError, "3 different names"),
        (X, Y, {"names": ["a", "b", "a"]}, OptionError, "3 different names"),
        (X, Y, {"classes": ["a"]}, OptionError, "expected 3 names"),
        (X, None, {"classes": ["a"]}, OptionError, "there are none"),
        (X, Y, {"features": [0, 0]}, OptionError, "different features"),
        (X, Y, {"features": ["x7"]}, OptionError, "no 'x7'"),
        (X, Y, {"features": 3}, OptionError, "no 3"),
        (X, Y, {"points": 0}, OptionError, "points=0"),
        (X, Y, {"bins": 1.5}, OptionError, "bins=1.5"),
    ],
)
def test_bad_pairs(x, y, options, error, words):
    with pytest.raises(error, match=words):
        plots.pairs(x, y, **options)


LABELS = rng.random(300) < 0.4
SCORES = {
    "pt": rng.normal(size=300) + LABELS,
    "eta": rng.normal(size=300) - LABELS,
    "net": np.round(LABELS + X[:300, 1]),
}
WEIGHTS = rng.random(300)


def by_pairs(scores, labels, weights=None):
    """The Mann-Whitney statistic: how often signal scores higher than background, ties being half."""
    weights = np.ones(len(scores)) if weights is None else weights
    higher = scores[labels][:, None] - scores[~labels][None]
    both = weights[labels][:, None] * weights[~labels][None]
    return np.sum(both * ((higher > 0) + 0.5 * (higher == 0))) / both.sum()


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("kind", ["roc", "rejection"])
def test_areas(kind, weights):
    """Against scikit-learn, the statistic by hand, and the area under what is drawn."""
    axes = plots.roc(SCORES, LABELS, kind=kind, weights=weights, figure=Figure()).axes[0]
    chance, *curves = axes.lines
    assert chance.get_linestyle() == "--"
    for line, (name, scores), said in zip(curves, SCORES.items(), legend(axes), strict=True):
        area = by_pairs(scores, LABELS, weights)
        assert area == pytest.approx(roc_auc_score(LABELS, scores, sample_weight=weights))
        shown = area if name != "eta" else 1 - area
        assert said == f"{name}{', reversed' if name == 'eta' else ''}  {shown:.3f}"
        assert abs(np.trapezoid(line.get_ydata(), line.get_xdata())) == pytest.approx(shown, abs=1e-6)
    words = {
        "roc": ("false positive rate", "true positive rate"),
        "rejection": ("signal efficiency", "background rejection"),
    }
    assert (axes.get_xlabel(), axes.get_ylabel()) == words[kind]
    assert saved(axes.figure).std() > 5


def test_rejection_of_gaussians():
    """Signal at 1.5, background at 0: rejection Φ(t) at efficiency 1 - Φ(t - 1.5); the file stays small."""
    count = 40000
    labels = np.arange(2 * count) < count
    scores = norm.ppf((np.arange(count) + 0.5) / count)
    scores = np.concatenate([scores + 1.5, scores])
    axes = plots.roc({"score": scores}, labels, kind="rejection", figure=Figure()).axes[0]
    x, y = axes.lines[1].get_data()
    assert len(x) < 4000
    inner = slice(1, np.searchsorted(x, 0.9999))
    np.testing.assert_allclose(y[inner], norm.cdf(norm.isf(x[inner]) + 1.5), atol=1e-3)
    assert np.max(np.hypot(np.diff(x), np.diff(y))) < 0.01
    assert legend(axes) == [f"score  {norm.cdf(1.5 / np.sqrt(2)):.3f}"]


def test_transforms_are_the_users_choice():
    """|s| of a score that is signal at both ends; one that falls stays below the diagonal."""
    both = np.where(LABELS, rng.choice([-3, 3], 300), 0) + rng.normal(size=300)
    for turn, wanted in (
        (np.abs, by_pairs(np.abs(both), LABELS)),
        (lambda s: -np.abs(s), by_pairs(-np.abs(both), LABELS)),
    ):
        axes = plots.roc({"s": both}, LABELS, transform={"s": turn}, figure=Figure()).axes[0]
        assert legend(axes) == [f"s  {wanted:.3f}"]


def test_labels_of_many_kinds():
    area = f"{by_pairs(SCORES['pt'], LABELS):.3f}"
    words = np.where(LABELS, "a signal", "noise")
    for labels, positive in [(LABELS * 4 - 2, None), (LABELS.tolist(), None), (words, "a signal"), (~LABELS, False)]:
        axes = plots.roc(SCORES["pt"][:, None], labels, positive=positive, figure=Figure()).axes[0]
        assert legend(axes) == [f"score  {area}"]
    flipped = plots.roc(SCORES["pt"], LABELS, positive=False, figure=Figure()).axes[0]
    assert legend(flipped) == [f"score, reversed  {area}"]


def test_many_curves_have_their_legend_below():
    many = {f"a feature of many words {k}": rng.normal(size=300) for k in range(14)}
    figure = plots.roc(many, LABELS, figure=Figure())
    box = figure.axes[0].get_legend().get_window_extent()
    assert box.y1 < figure.axes[0].get_window_extent().y0
    saved(figure)
    styles = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines}
    assert len(styles) == 15
    widths = [line.get_linewidth() for line in figure.axes[0].lines[1:]]
    areas = [float(text.split()[-1]) for text in legend(figure.axes[0])]
    assert np.argmax(widths) == np.argmax(areas)
    with pytest.raises(InputError, match="15 names"):
        plots.roc({str(k): np.zeros(300) for k in range(15)}, LABELS)


HOLE = np.where(np.arange(300) == 3, np.nan, 0.0)


@pytest.mark.parametrize(
    ("scores", "labels", "options", "error", "words"),
    [
        (SCORES, LABELS, {"kind": "auc"}, OptionError, "kind='auc'"),
        (SCORES, LABELS * 0, {}, InputError, "1 classes"),
        (SCORES, np.arange(300), {}, InputError, r"300 classes \(0, 1, 2, 3, 4, ...\)"),
        (SCORES, np.eye(2)[LABELS * 1], {}, InputError, "one-hot"),
        (SCORES, np.zeros(0), {}, InputError, "0 classes"),
        (SCORES, LABELS[:9], {}, InputError, r"scores\['pt'\] has shape \(300,\); expected \(9,\)"),
        (SCORES, LABELS, {"positive": 7}, OptionError, "positive=7"),
        (SCORES, np.where(LABELS, "s", "b"), {}, OptionError, "say which is signal"),
        ({}, LABELS, {}, InputError, "0 names"),
        ({"hole": HOLE}, LABELS, {}, InputError, "1 of 300 are NaN"),
        (SCORES, LABELS, {"transform": {"mass": np.abs}}, OptionError, "no score"),
        (SCORES, LABELS, {"transform": {"pt": np.sum}}, InputError, r"shape \(\)"),
        (SCORES, LABELS, {"weights": -WEIGHTS}, InputError, "300 weights are negative"),
        (SCORES, LABELS, {"weights": WEIGHTS * LABELS}, InputError, "one class are all zero"),
        (SCORES, LABELS, {"weights": WEIGHTS[:4]}, InputError, r"weights has shape \(4,\)"),
        (SCORES, LABELS, {"ax": Figure().subplots(), "title": "a"}, OptionError, "ax= excludes"),
    ],
)
def test_bad_scores(scores, labels, options, error, words):
    with pytest.raises(error, match=words):
        plots.roc(scores, labels, **options)


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    with pytest.raises(EngineNotInstalledError, match=r"pip install 'wrt\[plots\]'"):
        plots.roc(SCORES, LABELS)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"scales": {"third": 1}}, OptionError, "'third' is not drawn"),
        ({"scales": {"second": 1}}, OptionError, "'second' is not drawn"),
        ({"scales": {"first": 0}}, OptionError, "a positive number"),
        ({"scales": {"first": (0, 1)}}, OptionError, "a positive number"),
        ({"scales": {"output": (1, 1)}}, OptionError, r"\(low, high\)"),
        ({"scales": {"output": 3}}, OptionError, r"\(low, high\)"),
        ({"scales": {"output": (0, np.inf)}}, OptionError, r"\(low, high\)"),
        ({"scales": 3}, OptionError, "expected a dict"),
        ({"ax": Figure().subplots()}, InputError, "holds 1 axes; expected 3"),
    ],
)
def test_bad_surface(options, error, words):
    with pytest.raises(error, match=words):
        plots.surface(plane(1), **options)
    with pytest.raises(InputError, match=r"what wrt\.surface returns"):
        plots.surface(course())
    with pytest.raises(InputError, match=r"what wrt\.profile returns"):
        plots.profile(plane())


def test_names():
    assert slope("pt (GeV)") == "∂y/∂pt"
    assert slope("jet mass [GeV]", "$p_T$ [GeV]") == "∂²y/∂(jet mass)∂$p_T$"
    assert slope("[GeV]") == "∂y/∂[GeV]"
    assert slope("averylongnameindeed") == "∂y/∂averylongname…"
    assert stacked("mass [GeV]", 2.0) == "mass [GeV]"
    assert stacked("mass [GeV]", 0.4) == "mass\n[GeV]"


@pytest.mark.parametrize("ratio", [1.01, 3, 30, 1e9])
def test_spectrum_can_be_read_in_every_range(ratio):
    axes = plots.spectrum(np.geomspace(1, 1 / ratio, 5)[None], figure=Figure()).axes[0]
    saved(axes.figure)
    low, high = axes.get_ylim()
    shown = [text for text in axes.get_yticklabels(which="both") if text.get_text()]
    assert 1 <= sum(low <= text.get_position()[1] <= high for text in shown) <= 9
    assert {text.get_fontsize() for text in shown} == {7}


def test_spectrum():
    values = np.geomspace(10, 0.01, 4) * np.array([[1.0], [2.0], [4.0]])
    values[0, 3] = 0
    axes = plots.spectrum((0, values, 0), figure=Figure(), title="Singular values").axes[0]
    *rows, middle = axes.lines
    for line, row in zip(rows, values, strict=True):
        np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3, 4])
        np.testing.assert_array_equal(line.get_ydata(), np.where(row > 0, row, np.nan))
    np.testing.assert_array_equal(middle.get_ydata(), values[1])
    assert (axes.get_yscale(), legend(axes)) == ("log", ["median of 3"])
    assert saved(axes.figure).std() > 5
    assert plots.spectrum(values[:1], figure=Figure()).axes[0].get_legend() is None
    for wrong in (values[0], values[:0], -values, values * np.nan, values * 0):
        with pytest.raises(InputError, match="singular values"):
            plots.spectrum(wrong)


@pytest.mark.parametrize("name", [found.name for found in pkgutil.iter_modules(plots.__path__)])
def test_examples_in_docstrings(name):
    assert doctest.testmod(importlib.import_module(f"wrt.plots.{name}")).failed == 0
