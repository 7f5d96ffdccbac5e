"""Pictures of relevance, by their content: every number where it belongs, and readable."""

import dataclasses

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from subjects import points, torch_net

import wrt
from wrt.errors import InputError, OptionError
from wrt.plots import relevance
from wrt.plots.relevance import FALLS, RISES

X = points(40)
FOUND = wrt.relevance(torch_net(), X, 1, names=["lead pT [GeV]", "eta", "phi"])
FEW = wrt.relevance(torch_net(), X[:3], 1)
CLASSES = wrt.relevance(torch_net(), X, "all", outputs=["signal", "top", "W", "Z"])


def panels(result, ax=None, **options):
    return relevance(result, ax, figure=None if ax is not None else Figure(), **options).axes


def labels(axes):
    return [text.get_text() for text in axes.get_yticklabels()]


@pytest.mark.parametrize("found", [FOUND, FEW], ids=["many", "few"])
def test_bars(found):
    for order, axes in enumerate(panels(found), 1):
        table, ranked = found.of(order), found.ranking(order)
        bars = axes.patches
        assert labels(axes) == [found.name(index) for index in ranked]
        assert len(bars) == len(ranked)
        for index, bar in zip(ranked, bars, strict=True):
            assert bar.get_width() == table.mean_abs[index]
            assert bar.get_facecolor()[:3] == to_rgb(RISES if table.mean[index] > 0 else FALLS)
        (diamonds,) = [line for line in axes.lines if line.get_marker() == "D"]
        assert np.array_equal(diamonds.get_xdata(), [abs(table.mean[index]) for index in ranked])
        (spans,) = [c.get_segments() for c in axes.collections]
        wanted = [(max(table.abs_low[i], 0), table.abs_high[i]) for i in ranked]
        np.testing.assert_allclose([span[:, 0] for span in spans], wanted, rtol=1e-12)
        assert found is FOUND or table.abs_low.min() < 0  # where the line ends at zero
        assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first on top
    assert {RISES, FALLS} == {"#0072b2", "#d55e00"}


def test_dots_for_every_class():
    first, second = panels(CLASSES, top=4)
    assert len(labels(second)) == 4
    drawn = [c.lines[0] for c in first.containers]
    ranked = [index[0] for index in CLASSES.ranking()]
    for number, dots in enumerate(drawn):
        assert np.array_equal(dots.get_xdata(), CLASSES.first.mean_abs[number][ranked])
    assert len({dots.get_color() for dots in drawn}) == 4
    assert [text.get_text() for text in first.get_legend().get_texts()] == ["signal", "top", "W", "Z"]
    (alone,) = panels(CLASSES, output="W", order=1)
    assert [bar.get_width() for bar in alone.patches] == sorted(CLASSES.first.mean_abs[2], reverse=True)


def test_scales_are_named():
    names = {None: "per unit", "whiten": "whitened", "std": "sigma"}
    for standardize, word in names.items():
        found = wrt.relevance(torch_net(), X, 1, standardize=standardize)
        assert all(word in axes.get_xlabel() for axes in panels(found))


@pytest.mark.parametrize("result", [FOUND, CLASSES], ids=["bars", "dots"])
def test_everything_is_inside_a_column_of_a_paper(result):
    result = dataclasses.replace(
        result, names=("a name of more than twenty-four letters", "costs 5 $", r"$p_\mathrm{T}$")
    )
    figure = relevance(result, title="A title", figure=Figure())
    FigureCanvasAgg(figure).draw()
    box = figure.get_tightbbox()
    assert figure.get_size_inches()[0] == pytest.approx(3.4)
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= 3.4
    assert box.y1 <= figure.get_size_inches()[1]
    sizes = [text.get_fontsize() for axes in figure.axes for text in (axes.xaxis.label, *axes.get_yticklabels())]
    assert min(sizes) >= 7


def test_dollars():
    result = dataclasses.replace(FOUND, names=("a $", "b $", r"$p_\mathrm{T}$"))
    assert set(labels(panels(result)[1])) >= {r"a \$ · b \$", r"a \$ · $p_\mathrm{T}$"}


def test_one_sample_and_given_axes():
    found = wrt.relevance(torch_net(), X[:1], 1, standardize=None)
    figure = Figure()
    ax = figure.subplots(2)
    assert found.plot(ax) is figure
    assert not ax[0].collections
    with pytest.raises(InputError, match=r"ax= holds 1 axes; expected 2.*order=1"):
        relevance(found, ax[0])


def test_bad_options():
    with pytest.raises(InputError, match="result is a dict"):
        relevance({})
    with pytest.raises(OptionError, match="top=0"):
        relevance(FOUND, top=0)
    with pytest.raises(OptionError, match="order=3"):
        relevance(FOUND, order=3)
    with pytest.raises(OptionError, match="excludes"):
        relevance(FOUND, Figure().subplots(2), title="a")
    many = wrt.relevance(lambda x: x.repeat(1, 3), torch.as_tensor(X), "all", order=1)
    with pytest.raises(OptionError, match="9 outputs, more than 7 colours; choose one with output="):
        relevance(many)
