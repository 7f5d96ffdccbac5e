"""Pictures, by their content: what is drawn is what was given, where it was given."""

import ml_dtypes
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import wrt
from wrt import plots
from wrt.errors import InputError, OptionError
from wrt.plots.panels import visible

rng = np.random.default_rng(6)
PHOTOS = rng.integers(0, 256, (5, 40, 36, 3)).astype("uint8")
ONE, THREE = rng.random((5, 40, 36)), rng.normal(size=(5, 3, 40, 36))
CHANNELS = rng.normal(size=(5, 40, 36, 3))


def drawn(images, maps, **options):
    """The panels, without the colour bar."""
    return plots.maps(images, maps, figure=Figure(), **options).axes[:-1]


def shown(axes):
    """What lies on top in a panel."""
    return np.asarray(axes.images[-1].get_array())


def pixels(figure, axes):
    """The middle of a panel as it comes out, from 0 to 1, `(h, w, 3)`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    every = np.asarray(canvas.buffer_rgba())[..., :3] / 255
    box = axes.get_window_extent().extents.round().astype(int)
    return every[len(every) - box[3] + 2 : len(every) - box[1] - 2, box[0] + 2 : box[2] - 2]


def test_one_map_for_each_image_stands_beside_it_and_the_rows_wrap():
    axes = drawn(PHOTOS, ONE, cols=2)
    assert len(axes) == 10
    lefts = [round(one.get_position().x0, 6) for one in axes]
    assert lefts[:4] == sorted(set(lefts[:4]))
    assert lefts[4:8] == lefts[:4]
    assert lefts[8:] == lefts[:2]
    for k in range(5):
        assert np.array_equal(axes[2 * k].images[0].get_array(), PHOTOS[k] / 255)
        assert np.array_equal(shown(axes[2 * k + 1]), ONE[k])


@pytest.mark.parametrize(("maps", "cols", "panels"), [(ONE, 3, 2), (THREE, 1, 4)])
def test_as_many_images_side_by_side_as_make_six_panels(maps, cols, panels):
    tops = [round(one.get_position().y1, 6) for one in drawn(PHOTOS, maps)]
    assert tops.count(tops[0]) == cols * panels


def test_the_colour_bar_stands_beside_all_rows():
    *panels, bar = (one.get_position() for one in plots.maps(PHOTOS, ONE, cols=2, title="T", figure=Figure()).axes)
    assert np.allclose([bar.y0, bar.y1], [panels[-1].y0, panels[0].y1])
    assert max(panel.x1 for panel in panels) < bar.x0 < bar.x1 < 1


def test_without_the_originals():
    axes = drawn(PHOTOS, ONE, original=False, cols=9)
    assert len(axes) == 5
    assert np.array_equal(shown(axes[4]), ONE[4])


GREY = rng.random((5, 40, 36))
LAYOUTS = {
    "channels last": (PHOTOS, CHANNELS),
    "channels first": (PHOTOS.transpose(0, 3, 1, 2), CHANNELS.transpose(0, 3, 1, 2)),
    "units, channels last": (PHOTOS, np.stack([CHANNELS, 2 * CHANNELS], 1)),
    "units, channels first": (
        PHOTOS.transpose(0, 3, 1, 2),
        np.stack([CHANNELS, 2 * CHANNELS], 1).transpose(0, 1, 4, 2, 3),
    ),
    "grey": (GREY, CHANNELS),
    "one channel": (GREY[..., None], CHANNELS),
    "one channel first": (GREY[:, None], CHANNELS),
    "tensors": (torch.tensor(PHOTOS), torch.tensor(CHANNELS)),
    "bfloat16": (PHOTOS, CHANNELS.astype(ml_dtypes.bfloat16)),
}


@pytest.mark.parametrize(
    ("layout", "how"), [*((name, "max") for name in LAYOUTS), ("channels last", "sum"), ("channels first", "norm")]
)
def test_layouts_and_channels(layout, how):
    images, maps = LAYOUTS[layout]
    axes = drawn(images, maps, channels=how)
    wanted = wrt.filters.reduce_channels(CHANNELS, how)
    step = len(axes) // 5
    for k in range(5):
        assert np.allclose(shown(axes[step * k + 1]), wanted[k], atol=0.05 if layout == "bfloat16" else 1e-9)
        assert axes[step * k].images[0].get_array().shape[:2] == (40, 36)
        if step == 3:
            assert np.allclose(shown(axes[3 * k + 2]), 2 * wanted[k])


@pytest.mark.parametrize("outputs", [np.ones(5), np.ones((5, 3))], ids=["channels", "units"])
def test_outputs_tell_units_from_channels(outputs):
    """Channels first, of three channels, and three maps of each."""
    images = PHOTOS.transpose(0, 3, 1, 2)
    axes = drawn(images, wrt.Explanation(outputs, THREE))
    assert len(axes) == (10 if outputs.ndim == 1 else 20)
    assert np.array_equal(shown(axes[1]), np.abs(THREE[0]).max(0) if outputs.ndim == 1 else THREE[0, 0])


def test_methods_side_by_side():
    outputs = np.array([0.9, 0.004, 0.5, 0.25, 1.0])
    given = {"one": wrt.Explanation(outputs, ONE), "other": wrt.Explanation(outputs, 7 * ONE)}
    axes = np.array(drawn(PHOTOS, given)).reshape(5, 3)
    assert [one.get_title() for one in axes[0]] == ["", "one", "other"]
    assert {one.get_title() for one in axes[1:].flat} == {""}
    assert [one.get_xlabel() for one in axes[:, 0]] == ["90%", "", "50%", "25%", "100%"]
    assert not any(one.get_xlabel() for one in axes[:, 1:].flat)
    assert np.array_equal(shown(axes[4, 2]), 7 * ONE[4])
    assert np.allclose(axes[0, 2].images[-1].get_clim(), 7 * np.array(axes[0, 1].images[-1].get_clim()))


def test_methods_with_outputs_of_their_own():
    given = {"a": wrt.Explanation(np.arange(5.0), ONE), "b": wrt.Explanation(-3.25 * np.ones((5, 3)), THREE)}
    axes = np.array(drawn(PHOTOS, given)).reshape(5, 5)
    assert [one.get_title() for one in axes[0]] == ["", "a", "b 0", "b 1", "b 2"]
    assert [one.get_xlabel() for one in axes[4]] == ["", "4", "-3.25", "-3.25", "-3.25"]


def test_scales():
    grown = ONE * 10.0 ** np.arange(5)[:, None, None]
    ends = {
        scale: [one.images[-1].get_clim()[1] for one in drawn(PHOTOS, np.stack([grown, 3 * grown], 1), scale=scale)]
        for scale in ("all", "column", "each")
    }
    ends = {scale: np.reshape(found, (5, 3))[:, 1:] for scale, found in ends.items()}
    assert len(set(ends["all"].flat)) == 1
    assert np.allclose(ends["column"], ends["column"][0])
    assert np.allclose(ends["column"][:, 1], 3 * ends["column"][:, 0])
    assert np.allclose(ends["each"][:, 0], [np.quantile(one, 0.99) for one in grown])


@pytest.mark.parametrize(("signed", "low"), [(True, -1), (False, 0)])
def test_zero_is_in_the_middle_of_signs_and_the_beginning_otherwise(signed, low):
    image = drawn(PHOTOS, THREE[:, 0] if signed else ONE)[1].images[-1]
    assert image.get_clim()[0] == low * image.get_clim()[1]
    assert image.cmap(image.norm(0.0))[3] < 0.01  # nothing lies over the image
    assert image.cmap(1.0)[3] > 0.8


def test_the_overlay_is_where_the_map_is():
    images, maps = np.full((1, 40, 40, 3), 128, "uint8"), np.zeros((1, 40, 40))
    maps[0, 5:15, 25:35] = 1
    figure = plots.maps(images, maps, figure=Figure(dpi=100))
    found = pixels(figure, figure.axes[1])
    colourful = np.ptp(found, -1) > 0.2
    rows, columns = np.nonzero(colourful)
    size = len(found) / 40
    assert np.allclose([rows.min(), rows.max()], [5 * size, 15 * size], atol=size)
    assert np.allclose([columns.min(), columns.max()], [25 * size, 35 * size], atol=size)
    grey = found[~colourful]
    assert np.allclose(np.median(grey), 0.35 + 0.65 * 128 / 255, atol=0.02)  # faded


def test_the_image_is_seen_below_the_map():
    images, maps = np.zeros((1, 40, 40, 3), "uint8"), np.zeros((1, 40, 40))
    images[0, :, 20:] = 255
    figure = plots.maps(images, maps, figure=Figure(dpi=100))
    found = pixels(figure, figure.axes[1]).mean((0, 2))
    assert found[-10:].mean() - found[:10].mean() > 0.3


@pytest.mark.parametrize(
    ("size", "overlay", "images", "outline"),
    [
        (8, None, 1, True),
        (8, True, 2, False),
        (8, False, 1, False),
        (40, None, 2, False),
        (40, False, 1, False),
        (40, "outline", 1, True),
    ],
)
def test_ways(size, overlay, images, outline):
    digit = np.zeros((1, size, size))
    digit[0, 2:5, 2:5] = 1
    panel = drawn(digit, rng.random((1, size, size)), overlay=overlay)[1]
    assert len(panel.images) == images
    assert bool(panel.collections) == outline


def test_titles_names_and_scores():
    titles = [[f"file {k}", f"class {k}"] for k in range(5)]
    axes = np.array(drawn(PHOTOS, ONE, titles=titles, names=["CAM"], scores=np.arange(5), cols=5)).reshape(5, 2)
    assert [one.get_title() for one in axes[:, 0]] == [f"file {k}" for k in range(5)]
    assert [one.get_title() for one in axes[:, 1]] == [f"CAM\nclass {k}" for k in range(5)]
    assert [one.get_xlabel() for one in axes[:, 1]] == list("01234")
    words = drawn(PHOTOS, ONE, scores=["0.5 ± 0.1"] * 5)
    assert {one.get_xlabel() for one in words[1::2]} == {"0.5 ± 0.1"}
    above = drawn(PHOTOS, ONE, titles=list("abcde"))
    assert [one.get_title() for one in above[::2]] == list("abcde")


def test_long_titles_stay_above_their_panel():
    figure = plots.maps(
        PHOTOS,
        ONE,
        titles=["a dog with a name of many words that go on and on and do not end here"] * 5,
        figure=Figure(),
    )
    pixels(figure, figure.axes[0])
    text = figure.axes[0].title.get_window_extent()
    panel = figure.axes[0].get_window_extent()
    assert text.width < panel.width * 1.1
    assert text.y1 < figure.bbox.height
    assert "…" in figure.axes[0].get_title()


@pytest.mark.parametrize("value", [0.0, 1.0, -2.0, np.nan, np.inf])
@pytest.mark.parametrize("kind", ["grey", "colour"])
def test_constant_maps(value, kind):
    images = PHOTOS[:1] if kind == "colour" else np.zeros((1, 8, 8))
    figure = plots.maps(images, np.full(images.shape[:3], value), figure=Figure(), scale="each")
    assert np.isfinite(pixels(figure, figure.axes[1])).all()
    assert np.isfinite(figure.axes[1].images[-1].get_clim()).all()


def test_brightness():
    part = rng.random((4, 4)) * 0.5
    assert np.array_equal(visible(part), part)
    assert np.array_equal(visible(np.array([[0, 51], [255, 102]])), [[0, 0.2], [1, 0.4]])
    assert np.array_equal(visible(np.array([[-1.0, 0.0, 1.0]])), [[0, 0.5, 1]])
    assert np.array_equal(visible(np.array([[7.0, 7.0]])), [[0, 0]])
    assert np.array_equal(visible(np.array([[np.nan, 1.0, 3.0]])), [[0, 0, 1]])


MISTAKES = {
    "series": (ONE[:, 0], ONE[:, 0], {}, r"images has shape \(5, 36\) and maps \(5, 36\); expected \(N, H, W\)"),
    "coarse": (PHOTOS, ONE[:, :7, :7], {}, r"maps \(5, 7, 7\).*in the size of the images from .*resize="),
    "count": (PHOTOS, ONE[:4], {}, r"images has shape \(5, 40, 36, 3\) and maps \(4, 40, 36\)"),
    "by name": (PHOTOS, {"a": ONE, "b": ONE[:, :3]}, {}, r"\(5, 40, 36\) \(a\), \(5, 3, 36\) \(b\)"),
    "nothing": (PHOTOS[:0], ONE[:0], {}, r"images has shape \(0, 40, 36, 3\)"),
    "empty dict": (PHOTOS, {}, {}, "maps is an empty dict"),
    "nest": (PHOTOS, wrt.Explanation(np.ones(5), {"a": ONE}), {}, "maps.maps is a dict of 'a'; choose the array"),
    "graph": (PHOTOS, torch.tensor(ONE, requires_grad=True), {}, r"maps is a Tensor that NumPy cannot read.*detach"),
    "words": (PHOTOS, np.full((5, 40, 36), "x"), {}, "maps holds <U1; expected an array of numbers"),
    "titles": (PHOTOS, ONE, {"titles": ["a"]}, r"titles=\['a'\]; expected 5 strings"),
    "names": (PHOTOS, THREE, {"names": "ab"}, "names='ab' holds 2; expected 3"),
    "scores": (PHOTOS, THREE, {"scores": np.ones((5, 2))}, r"scores has shape \(5, 2\); expected \(5,\) or \(5, 3\)"),
    "labels": (PHOTOS, THREE, {"labels": [1]}, r"labels has shape \(1,\) and dtype int64; expected \(5,\)"),
    "overlay": (PHOTOS, ONE, {"overlay": "yes"}, "overlay='yes'"),
    "scale": (PHOTOS, ONE, {"scale": "columns"}, "Did you mean 'column'"),
    "cols": (PHOTOS, ONE, {"cols": 0}, "cols=0; expected"),
    "channels": (PHOTOS, ONE, {"channels": "mean"}, "channels='mean' is not a choice"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake):
    images, maps, options, message = MISTAKES[mistake]
    with pytest.raises((InputError, OptionError), match=message):
        plots.maps(images, maps, figure=Figure(), **options)


def found(*shape, share=0.5, lead=1):
    mask = rng.random(shape) < share
    return wrt.Support(mask, mask.reshape(*shape[:lead], -1).sum(-1), 1e-4)


@pytest.mark.parametrize("lead", [1, 2])
def test_support_of_images(lead):
    result = found(*(30, 4)[:lead], 7, 6, 3, share=0.1, lead=lead)
    counts, often, _ = plots.support(result, figure=Figure()).axes
    bars = counts.patches
    numbers = np.concatenate(
        [[round(b.get_x() + b.get_width() / 2)] * int(b.get_height()) for b in bars if b.get_height()]
    )
    assert np.array_equal(numbers, np.sort(result.counts.ravel()))
    assert np.allclose(often.images[0].get_array(), result.mask.any(-1).mean(tuple(range(lead))))
    assert counts.get_xlabel() == "inputs that matter (of 126)"
    assert counts.get_ylabel() == ("samples" if lead == 1 else "units of samples")


@pytest.mark.parametrize(
    ("shape", "given", "image"),
    [
        ((20, 12), None, None),
        ((20, 12), (3, 4), (3, 4)),
        ((20, 12), (2, 2, 3), (2, 2)),
        ((20, 5, 4), None, (5, 4)),
        ((20, 3, 5, 4), None, (5, 4)),
        ((20, 6, 5, 4), None, None),
    ],
)
def test_support_of_other_shapes(shape, given, image):
    axes = plots.support(found(*shape), shape=given, title="T", figure=Figure()).axes
    assert [one.images[0].get_array().shape for one in axes if one.images] == ([image] if image else [])
    assert sum(b.get_height() for b in axes[0].patches) == 20


def test_support_of_many_inputs_has_no_more_bars_than_one_can_see():
    result = found(50, 30, 30, share=rng.random((50, 1, 1)))
    bars = plots.support(result, figure=Figure()).axes[0].patches
    assert len(bars) <= 40
    assert sum(b.get_height() for b in bars) == 50


def test_support_of_several_inputs():
    mask = {"a": np.ones((4, 3), bool), "b": np.zeros((4, 2), bool)}
    axes = plots.support(wrt.Support(mask, np.full(4, 3), 0.0), figure=Figure()).axes
    assert len(axes) == 1
    assert axes[0].get_xlabel() == "inputs that matter (of 5)"
    with pytest.raises(InputError, match="several inputs"):
        plots.support(wrt.Support(mask, np.full(4, 3), 0.0), shape=(3, 1))


def test_support_mistakes():
    with pytest.raises(InputError, match=r"shape=\(3, 3\) does not fit inputs of shape \(12,\)"):
        plots.support(found(20, 12), shape=(3, 3))
    with pytest.raises(InputError, match=r"result is a ndarray; expected what wrt.support returns"):
        plots.support(np.ones(3))


def test_where_the_channels_of_images_are():
    """Either end may be that of the channels: three rows of colours are no guess."""
    images = np.random.default_rng(0).random((2, 3, 8, 3))
    with pytest.raises(OptionError, match=r"data_format= is needed: images of shape \(2, 3, 8, 3\)"):
        wrt.plots.maps(images, images)
    first = wrt.plots.maps(images, images, data_format="channels_first")
    assert first.axes[0].images[0].get_array().shape[:2] == (8, 3)
    last = wrt.plots.maps(images, images, data_format="channels_last")
    assert last.axes[0].images[0].get_array().shape[:2] == (3, 8)
    with pytest.raises(OptionError, match="'first' is not a choice"):
        wrt.plots.maps(images, images, data_format="first")
