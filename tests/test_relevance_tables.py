"""Relevance of features, against NumPy over all derivatives at once, and the truth where it is known."""

import importlib
import sys

import numpy as np
import pandas
import pytest
import torch
from scipy import stats
from subjects import close, points, torch_net

import wrt
from wrt.analysis.moments import Running
from wrt.errors import DtypeError, EngineNotInstalledError, InputError, OptionError, SelectionError
from wrt.summary import FIELDS

module = importlib.import_module("wrt.analysis.relevance")
rng = np.random.default_rng(3)
X = points(23, seed=1) * [1.0, 5.0, 0.2] + [0.0, 1.0, 2.0]
WEIGHTS = rng.integers(1, 4, 23)
WHERE = rng.random(23) < 0.6
NAMES = ["pt", "eta", "phi"]


def bowl(x):
    """Its derivative is x."""
    return (x**2).sum(1) / 2


def relevance(f=bowl, x=X, of=None, **options):
    return wrt.relevance(f, torch.as_tensor(x) if isinstance(x, np.ndarray) else x, of, **options)


def by_hand(d, w):
    """Moments over axis 0, in one go."""
    mean, size = np.average(d, 0, w), np.average(np.abs(d), 0, w)
    total = w.sum()
    spread = np.sqrt(np.tensordot(w, (d - mean) ** 2, 1) / (total - (w**2).sum() / total))
    up, down = np.tensordot(w, d > 0, 1), np.tensordot(w, d < 0, 1)
    return {
        "mean": mean,
        "mean_abs": size,
        "rms": np.sqrt(np.average(d**2, 0, w)),
        "spread": spread,
        "agreement": np.maximum(up, down) / (up + down),
    }


def same(found, other, tolerance=1e-12):
    for one, two in zip((*found.orders, *found.raw), (*other.orders, *other.raw), strict=True):
        for field in FIELDS:
            close(getattr(one, field), getattr(two, field), tolerance)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weights"])
@pytest.mark.parametrize("where", [None, WHERE], ids=["all", "where"])
def test_moments_are_those_of_all_derivatives(weights, where):
    net, rows = torch_net(), np.ones(23, bool) if where is None else where
    x, w = X[rows], (np.ones(23) if weights is None else weights)[rows].astype(float)
    found = wrt.relevance(net, X, "all", weights=weights, where=where, batch_size=5)
    s = np.sqrt(np.average((x - np.average(x, 0, w)) ** 2, 0, w))
    first, second = wrt.gradient(net, x, "all"), wrt.hessian(net, x, "all")
    for order, d, scale in ((1, first, s), (2, second, np.outer(s, s))):
        for field, wanted in by_hand(d, w).items():
            close(getattr(found.raw[order - 1], field), wanted, 1e-12)
            close(getattr(found.of(order), field), wanted * (1 if field == "agreement" else scale), 1e-12)
        half = stats.t.ppf(0.975, w.sum() ** 2 / (w**2).sum() - 1) * np.sqrt((w**2).sum()) / w.sum()
        close(found.raw[order - 1].high - found.raw[order - 1].mean, half * by_hand(d, w)["spread"], 1e-12)
        close(found.raw[order - 1].abs_low, by_hand(d, w)["mean_abs"] - half * by_hand(abs(d), w)["spread"], 1e-12)
    assert found.samples == rows.sum()
    shares = found.second.share[:, *np.triu_indices(3)]
    close(shares.sum(1), np.ones(4), 1e-12)
    close(found.first.share.sum(1), np.ones(4), 1e-12)
    close(shares[:, 1] / shares[:, 0], found.second.mean_abs[:, 0, 1] / found.second.mean_abs[:, 0, 0], 1e-9)


@pytest.mark.parametrize("options", [{}, {"bootstrap": 20}, {"standardize": "whiten", "weights": WEIGHTS}], ids=str)
def test_batches_of_any_size_give_the_same(options):
    net = torch_net()
    whole = wrt.relevance(net, X, "all", **options)
    for size in (1, 7, 22):
        same(wrt.relevance(net, X, "all", batch_size=size, **options), whole)


def test_far_from_zero_nothing_is_lost():
    x = X * 1e-3 + 1e6  # squares of sums would keep none of the digits of the spread
    found = relevance(x=x, batch_size=4, standardize=None, order=1)
    close(found.first.spread / x.std(0, ddof=1), np.ones(3), 1e-5)


def test_weights_are_repetitions():
    one = relevance(weights=WEIGHTS)
    other = relevance(x=np.repeat(X, WEIGHTS, 0))
    close(one.scale, other.scale, 1e-13)
    for field in ("mean", "mean_abs", "rms", "agreement", "share"):
        for order in (1, 2):
            close(getattr(one.of(order), field), getattr(other.of(order), field), 1e-12)
    same(relevance(weights=WEIGHTS), relevance(weights=WEIGHTS * 7.5))
    same(relevance(weights=WHERE.astype(float)), relevance(where=WHERE))


def test_labels_follow_the_rows():
    labels = np.arange(23) % 4
    net, options = torch_net(), {"where": WHERE, "order": 1, "standardize": None}
    wanted = wrt.gradient(net, X, labels)[WHERE].mean(0)
    for of in (labels, torch.as_tensor(labels), labels.tolist(), wrt.logit(labels)):
        close(wrt.relevance(net, X, of, **options).first.mean, wanted, 1e-12)
    close(relevance(lambda x: (net(x),), X, wrt.output(0, labels), **options).first.mean, wanted, 1e-12)


def test_likelihood_ratio_of_two_gaussians():
    """log p1(x) / p0(x): its gradient is S0⁻¹(x - m0) - S1⁻¹(x - m1), its Hessian S0⁻¹ - S1⁻¹."""
    m0, m1 = np.zeros(3), np.array([1.0, -1.0, 0.5])
    roots = rng.normal(size=(2, 3, 3)) + 2 * np.eye(3)
    p0, p1 = (np.linalg.inv(r @ r.T) for r in roots)
    normal = torch.distributions.MultivariateNormal
    one, two = (normal(torch.tensor(m), precision_matrix=torch.tensor(p)) for m, p in ((m0, p0), (m1, p1)))
    found = relevance(lambda x: two.log_prob(x) - one.log_prob(x), batch_size=10)
    s = X.std(0)
    close(found.first.mean, (p0 @ (X.mean(0) - m0) - p1 @ (X.mean(0) - m1)) * s, 1e-10)
    close(found.second.mean_abs, np.abs(p0 - p1) * np.outer(s, s), 1e-10)


def saturated():
    """The exact classifier of two Gaussians of the same spread, whose logit is linear; and its slope."""
    layer = torch.nn.Linear(3, 1).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[40.0, 0.0, -20.0]]))
        layer.bias.zero_()
    return torch.nn.Sequential(layer, torch.nn.Sigmoid()), np.array([40.0, 0.0, -20.0])


def test_saturated_probabilities_are_named():
    model, slope = saturated()
    y = 1 / (1 + np.exp(-X @ slope))
    count = int(((y > 1 - 1e-6) | (y < 1e-6)).sum())
    said = wrt.relevance(model, X, batch_size=6).warnings
    assert 0 < count < 23
    assert sum(f"{count} of 23 probabilities" in sentence and "wrt.logit" in sentence for sentence in said) == 1
    found = wrt.relevance(model, X, wrt.logit(0))
    close(found.first.mean, slope * X.std(0), 1e-12)
    assert not any("Saturated" in sentence for sentence in found.warnings)


def test_whitening():
    """Along uncorrelated features the squared slopes of a linear function add up to its variance."""
    mixed = X @ np.array([[1.0, 0.8, 0.0], [0.0, 0.6, 0.3], [0.0, 0.0, 1.0]])
    slope = np.array([1.0, -2.0, 0.5])
    linear = lambda x: x @ torch.as_tensor(slope)
    found = relevance(linear, mixed, standardize="whiten", weights=WEIGHTS)
    centred = mixed @ slope - np.average(mixed @ slope, weights=WEIGHTS)
    close((found.first.mean**2).sum(), np.average(centred**2, weights=WEIGHTS), 1e-12)
    close(found.raw[0].mean, slope, 1e-12)
    form = torch.tensor([[1.0, 2.0, 0.0], [2.0, -1.0, 0.0], [0.0, 0.0, 3.0]]).double()
    curved = relevance(lambda x: ((x @ form) * x).sum(1) / 2, mixed, standardize="whiten")
    close(np.trace(curved.second.mean), np.trace(form.numpy() @ np.cov(mixed.T, ddof=0)), 1e-12)
    vectors = np.linalg.eigh(np.cov(mixed.T))[1]
    apart = (mixed - mixed.mean(0)) @ vectors * np.arange(1, 4)
    same(relevance(x=apart, standardize="whiten"), relevance(x=apart))


@pytest.mark.parametrize("way", ["student", "bootstrap", "weights"])
def test_intervals_cover_the_truth(way):
    """1000 features are 1000 experiments: the derivative of each is its value, drawn around 0.3."""
    samples = 200 if way == "bootstrap" else 12
    x = np.random.default_rng(8).normal(0.3, 1.0, (samples, 1000))
    options = {"bootstrap": {"bootstrap": 150}, "weights": {"weights": rng.random(samples) + 0.5}}.get(way, {})
    found = relevance(x=x, order=1, standardize=None, confidence=0.9, **options).first
    share = ((found.low < 0.3) & (found.high > 0.3)).mean()
    assert abs(share - 0.9) < 4 * np.sqrt(0.9 * 0.1 / 1000) + 0.01 * (way != "student")
    mean_abs = np.sqrt(2 / np.pi) * np.exp(-0.045) + 0.3 * 0.2358228  # of |N(0.3, 1)|; erf(0.3 / √2)
    covered = ((found.abs_low < mean_abs) & (found.abs_high > mean_abs)).mean()
    assert abs(covered - 0.9) < 0.05


def test_bootstrap_heeds_weights():
    x = np.random.default_rng(2).normal(size=(400, 1))
    found = relevance(x=x, weights=np.exp(x[:, 0]), bootstrap=100, order=1, standardize=None).first
    assert 0.5 < found.low < found.mean < found.high < 1.5  # around 1, where the plain mean is 0


def test_bootstrap_is_seeded():
    one, two, other = (relevance(bootstrap=30, seed=seed).first for seed in (1, 1, 2))
    assert np.array_equal(one.low, two.low)
    assert not np.array_equal(one.low, other.low)
    assert np.array_equal(one.mean, other.mean)


def test_first_order_takes_no_hessian(monkeypatch):
    asked, prepare = [], module.prepare
    monkeypatch.setattr(module, "prepare", lambda *args: asked.append(args[4]) or prepare(*args))
    x = np.abs(X)
    x[4, 1] = 0.0
    f = lambda x: (x**1.5).sum(1)  # whose second derivative is infinite at zero
    assert np.isfinite(relevance(f, x, order=1).first.mean).all()
    assert asked == ["rows"]
    with pytest.raises(InputError, match=r"derivatives at x\[4\] .*not finite"):
        relevance(f, x, where=np.arange(23) > 2, batch_size=3)


def test_a_batch_that_fails_leaves_no_trace(monkeypatch):
    options = {"bootstrap": 20, "standardize": "whiten", "batch_size": 8}
    wanted, add, calls = wrt.relevance(torch_net(), X, "all", **options), Running.add, []

    def failing(self, *args):
        calls.append(1)
        add(self, *args)
        if len(calls) in (1, 4):  # after the batch was put in, here and in the second sums of a batch
            raise MemoryError

    monkeypatch.setattr(Running, "add", failing)
    same(wrt.relevance(torch_net(), X, "all", **options), wanted)
    assert len(calls) > 6


def trap(word, found):
    """The one sentence that begins so."""
    sentences = [sentence for sentence in found.warnings if sentence.startswith(word)]
    assert len(sentences) <= 1
    return sentences[0] if sentences else ""


def test_signs_that_cancel():
    x = np.concatenate([X - X.mean(0), X.mean(0) - X])
    assert "of 'eta' is near" in trap("Signs cancel", relevance(x=x, names=NAMES))  # the others are too small to count
    assert "(output 1)" in trap("Signs cancel", relevance(lambda x: torch.stack([x[:, 0], x[:, 0] ** 2], 1), x, "all"))
    assert not trap("Signs cancel", relevance(x=np.abs(X)))


def test_no_influence():
    sentence = trap("No influence", relevance(lambda x: torch.stack([x[:, 0], 0 * x[:, 2]], 1), X, "all", names=NAMES))
    assert "to 'eta', 'phi' is zero" in sentence
    assert not trap("No influence", relevance())


def test_scales():
    x = X * [1.0, 1e-3, 100.0]
    sentence = trap("Scales differ", relevance(x=x, names=NAMES, standardize=None))
    assert "('eta')" in sentence
    assert "('phi')" in sentence
    assert not trap("Scales differ", relevance(x=x))


def test_correlations():
    x = np.column_stack([X[:, 0], X[:, 1], X[:, 0] + 0.1 * X[:, 2]])
    sentence = trap("Correlated", relevance(x=x, names=NAMES))
    assert f"pt and phi ({np.corrcoef(x.T)[0, 2]:.2f});" in sentence
    assert not trap("Correlated", relevance(x=x, standardize="whiten"))
    assert not trap("Correlated", relevance())


def test_one_hot_columns():
    codes = np.eye(3)[np.arange(23) % 3]
    x = np.column_stack([codes[:, 0], X[:, 0], codes[:, 1:], X[:, 1] > 0])
    sentence = trap("One-hot", relevance(x=x, names=["red", "pt", "green", "blue", "high"]))
    assert "'red', 'green', 'blue' are 0 or 1" in sentence
    assert not trap("One-hot", relevance(x=x[:, [0, 1, 2, 4]]))


def test_kinks():
    assert trap("Kinks", relevance(lambda x: torch.relu(x).sum(1)))
    assert not trap("Kinks", relevance(lambda x: x.sum(1)))
    assert not trap("Kinks", relevance())


def test_one_sample_has_no_interval():
    found = relevance(x=X[:1], standardize=None)
    close(found.first.mean, X[0], 1e-13)
    assert np.isnan([found.first.low, found.first.abs_high, found.first.spread]).all()
    assert trap("One sample", found)
    assert "none" in repr(found)
    with pytest.raises(InputError, match="one sample has no standard deviation"):
        relevance(x=X[:1])


CONSTANT = np.where([False, True, False], 0.1, X)
MISSING = np.where((np.arange(23)[:, None] < 2) & [True, False, False], np.nan, X)
WORDS = np.array([[1.0, "red", None], [2.0, "blue", 3.0]], object)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"x": CONSTANT, "names": NAMES}, InputError, r"'eta' is constant.*standardize=None"),
        ({"x": MISSING, "names": NAMES}, InputError, r"'pt' \(2\) of 23 samples are missing"),
        ({"x": WORDS, "names": NAMES}, DtypeError, "'eta', 'phi' hold no numbers"),
        ({"x": X[0]}, InputError, r"expected a table .* x\[:, None\]"),
        ({"x": X[:0]}, InputError, r"shape \(0, 3\)"),
        ({"x": {"a": X}}, InputError, "a nest of 1 arrays"),
        ({"names": 3}, OptionError, "names holds 3; expected 3"),
        ({"x": X.astype(int)}, DtypeError, "no derivative with respect to integers.*astype"),
        ({"names": ["a", "b"]}, OptionError, "names holds 2 names; expected 3"),
        ({"names": "pt"}, OptionError, "names holds 'pt'"),
        ({"names": ["a", "b", "a"]}, OptionError, "'a' occurs more than once"),
        ({"order": 0}, OptionError, "order=0; expected an integer of at least 1"),
        ({"order": 3}, OptionError, "order=3.*wrt.taylor"),
        ({"f": lambda x: x[:, :2]}, SelectionError, "of= must say which scalar"),
        ({"outputs": ["a"]}, OptionError, "of= chooses a single output"),
        ({"f": lambda x: x, "of": "all", "outputs": ["a", "b"]}, OptionError, "outputs holds 2 names; expected 3"),
        ({"weights": np.where(np.arange(23) == 3, -1.0, 1.0)}, InputError, r"1 of 23 are negative \(weights\[3\] = -1"),
        ({"weights": np.full(23, np.nan)}, InputError, "23 of 23 are not finite"),
        ({"weights": np.ones(22)}, InputError, r"weights has shape \(22,\)"),
        ({"weights": np.zeros(23)}, InputError, "weights are all zero"),
        ({"where": np.ones(22, bool)}, InputError, r"where has shape \(22,\)"),
        ({"where": np.arange(23)}, InputError, "expected booleans"),
        ({"where": np.zeros(23, bool)}, InputError, "chooses none"),
        ({"where": WHERE, "weights": ~WHERE}, InputError, "leave no sample"),
        ({"standardize": "white"}, OptionError, "Did you mean 'whiten'"),
        ({"confidence": 95}, OptionError, "confidence=95"),
        ({"bootstrap": -1}, OptionError, "bootstrap=-1"),
        ({"bootstrap": 5}, OptionError, "bootstrap=5; expected 0, or at least 20"),
    ],
    ids=lambda value: "",
)
def test_bad_input(options, error, words):
    options = {"x": X, **options}
    if options["x"] is not WORDS and isinstance(options["x"], np.ndarray):
        options["x"] = torch.as_tensor(options["x"])
    with pytest.raises(error, match=words):
        wrt.relevance(options.pop("f", bowl), options.pop("x"), options.pop("of", None), **options)


def test_rows_that_do_not_count_may_be_bad():
    found = relevance(x=MISSING, where=np.arange(23) > 1)
    same(found, relevance(x=X[2:]))
    constant = relevance(x=CONSTANT, standardize=None)
    assert constant.scale[1] == 0


def test_data_frames():
    frame = pandas.DataFrame({"pt": X[:, 0], "eta": pandas.array(WEIGHTS, dtype="Int64"), "phi": X[:, 2]})
    found = wrt.relevance(torch_net(), frame, 1, where=frame.pt > 0)
    assert found.names == ("pt", "eta", "phi")
    values = np.column_stack([X[:, 0], WEIGHTS, X[:, 2]])
    same(found, wrt.relevance(torch_net(), values[values[:, 0] > 0], 1))
    for column in (["a"] * 23, pandas.Categorical(["a"] * 23), pandas.date_range("2020-01-01", periods=23)):
        with pytest.raises(DtypeError, match="'eta' holds no numbers"):
            wrt.relevance(torch_net(), frame.assign(eta=column), 1)
    with pytest.raises(InputError, match="23 samples are missing"):
        wrt.relevance(torch_net(), frame.assign(eta=pandas.array([None] * 23, dtype="Int64")), 1)
    with pytest.raises(InputError, match="'eta' is there more than once"):
        wrt.relevance(torch_net(), frame.rename(columns={"pt": "eta"}), 1)


def test_what_comes_out(monkeypatch):
    found = wrt.relevance(torch_net(), X, [[0, 1]] * 23, names=["pt", "<eta>", "phi"], outputs=["signal", "top"])
    rows = found.rows()
    assert len(rows) == 2 * 3 + 2 * 6
    first = next(r for r in rows if (r["order"], r["output"], r["feature"]) == (1, "top", "<eta>"))
    assert first["mean"] == found.first.mean[1, 1]
    assert first["raw_mean"] == found.raw[0].mean[1, 1]
    pair = next(r for r in rows if (r["output"], r["feature"], r["feature_2"]) == ("signal", "pt", "phi"))
    assert pair["abs_low"] == found.second.abs_low[0, 0, 2]
    sizes = [r["mean_abs"] for r in rows if (r["order"], r["output"]) == (2, "top")]
    assert sizes == sorted(sizes, reverse=True)

    pandas.testing.assert_frame_equal(found.to_pandas(), pandas.DataFrame(rows))
    data = found.to_xarray()
    assert data.sizes == {"output": 2, "feature": 3, "feature_2": 3}
    for field in FIELDS:
        np.testing.assert_array_equal(data[f"second_{field}"], getattr(found.second, field))
    assert data.first_mean.sel(output="top", feature="<eta>").item() == found.first.mean[1, 1]
    assert data.attrs["samples"] == 23
    for name in ("pandas", "xarray"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(EngineNotInstalledError, match=r"pip install 'wrt\[tables\]'"):
            getattr(found, f"to_{name}")()


def test_what_is_printed():
    found = relevance(x=np.abs(X), names=["pt", "<eta> c", "phi"], bootstrap=20)
    lines = repr(found).splitlines()
    assert lines[0].startswith("Relevance of 3 features over 23 samples, per standard deviation (95 % intervals, boot")
    assert [line.split("  ")[0] for line in lines[1:5]] == ["first order", "<eta> c", "pt", "phi"]
    assert f"{found.first.mean_abs[1]:.3g}" in lines[2]
    assert f"{found.first.low[1]:.3g} to {found.first.high[1]:.3g}" in lines[2]
    assert lines[6].startswith("(<eta> c)²")
    assert lines[-1].startswith("! ") == bool(found.warnings)
    page = found._repr_html_()
    assert "&lt;eta&gt; c" in page
    assert "<eta>" not in page


def test_what_is_not_in_the_table():
    found = relevance(order=1)
    with pytest.raises(OptionError, match="order=1 has first derivatives only"):
        _ = found.second
    with pytest.raises(OptionError, match="There is one output only"):
        found.of(1, 0)
    with pytest.raises(OptionError, match="order=3"):
        found.ranking(3)
