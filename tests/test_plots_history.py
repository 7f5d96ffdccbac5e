"""Pictures of an ascent and of a training, by their content: every number where it belongs, and readable."""

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import wrt
from wrt import plots
from wrt.errors import InputError, OptionError
from wrt.plots.found import contrasted

rng = np.random.default_rng(11)
FITTED = {"loss": [0.9, 0.5, 0.3, 0.25], "val_loss": [1.0, 0.7, 0.6, 0.65], "accuracy": [0.5, 0.7, 0.8, 0.9]}


def ascent(rows=3, steps=6, wanted=0.9, shape=(8, 8), units=True, x=None):
    """A result as `wrt.maximize` returns it: row 0 has arrived after two steps, the others not at all."""
    loss = np.cumsum(-rng.random((steps + 1, rows)), 0) + 10
    probability = np.sort(rng.random((steps + 1, rows)) * 0.8, 0)
    taken, reached = np.full(rows, steps), np.zeros(rows, bool)
    taken[0], reached[0] = 2, True
    for line in (loss, probability):
        line[2:, 0] = line[2, 0]
    history = {"objective": -loss, "loss": loss, **({"probability": probability} if wanted else {})}
    after = np.full((rows, 50), 0.01)
    after[np.arange(rows), np.arange(rows) + 4] = 0.25 + np.arange(rows) / 1000
    found = rng.normal(size=(rows, *shape)) if x is None else x
    numbers = np.arange(rows) + 4 if units is True else units
    return wrt.Maximization(found, history, after, after, taken, reached, "steps", None, numbers, wanted)


def panels(result, ax=None, **options):
    return plots.history(result, ax, figure=None if ax is not None else Figure(), **options).axes


def lines(axes):
    """What is drawn, without the dots of rows that have arrived and the wanted level."""
    return [line for line in axes.lines if line.get_linestyle() != "None" and line.get_zorder() == 2]


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_a_line_for_every_row_as_far_as_it_went():
    result = ascent()
    loss, probability = panels(result)
    assert [loss.get_ylabel(), probability.get_ylabel()] == ["loss", "probability"]
    assert [loss.get_xlabel(), probability.get_xlabel()] == ["", "step"]
    for name, axes in (("loss", loss), ("probability", probability)):
        for row, line in enumerate(lines(axes)):
            steps = result.steps[row]
            assert np.array_equal(line.get_xdata(), np.arange(steps + 1))
            assert np.array_equal(line.get_ydata(), result.history[name][: steps + 1, row])
        (dot,) = [line for line in axes.lines if line.get_linestyle() == "None"]
        assert dot.get_xydata().tolist() == [[2, result.history[name][2, 0]]]
    assert legend(loss) == ["4", "5", "6"]
    assert loss.get_legend().get_title().get_text() == "unit"
    (level,) = [line for line in probability.lines if line.get_zorder() == 1]
    assert level.is_dashed()
    assert set(level.get_ydata()) == {0.9}
    assert [text.get_text() for text in probability.texts] == ["wanted: 0.9"]
    assert probability.get_ylim()[0] < 0 < 1 < probability.get_ylim()[1]


def test_without_a_probability_there_is_one_panel_and_others_come_by_name():
    result = ascent(wanted=None)
    assert [axes.get_ylabel() for axes in panels(result)] == ["loss"]
    (axes,) = panels(result, metrics="objective")
    assert np.array_equal(lines(axes)[1].get_ydata(), result.history["objective"][:, 1])


@pytest.mark.parametrize(
    ("units", "labels", "heading", "words"),
    [
        (None, None, "row", ["0", "1", "2"]),
        (np.array([3, 3, 7]), None, "row", ["0 (unit 3)", "1 (unit 3)", "2 (unit 7)"]),
        (True, ["cat", "dog", "a name of many words"], "", ["cat", "dog", "a name of many …"]),
    ],
)
def test_labels(units, labels, heading, words):
    axes = panels(ascent(units=units), labels=labels)[0]
    assert (axes.get_legend().get_title().get_text(), legend(axes)) == (heading, words)


def test_rows_are_told_apart_and_more_than_fourteen_have_a_median():
    few = [(line.get_color(), line.is_dashed()) for line in lines(panels(ascent(14))[0])]
    assert len(set(few)) == 14
    result = ascent(15)
    loss = panels(result)[0]
    assert legend(loss) == ["15 rows", "median"]
    *thin, middle = lines(loss)
    assert len(thin) == 15
    assert max(line.get_linewidth() for line in thin) < middle.get_linewidth()
    assert np.array_equal(middle.get_ydata(), np.median(result.history["loss"], 1))


def test_training_and_validation_share_a_panel():
    loss, accuracy = panels(FITTED)
    assert [loss.get_ylabel(), accuracy.get_ylabel(), accuracy.get_xlabel()] == ["loss", "accuracy", "epoch"]
    training, validation = loss.lines
    assert training.get_xydata().tolist() == [[k + 1, y] for k, y in enumerate(FITTED["loss"])]
    assert validation.get_xydata().tolist() == [[k + 1, y] for k, y in enumerate(FITTED["val_loss"])]
    assert training.get_linestyle() != validation.get_linestyle()
    assert training.get_color() != validation.get_color()
    assert legend(loss) == ["training", "validation"]
    assert len(accuracy.lines) == 1
    assert legend(panels(FITTED, labels=["Lernen", "Probe"])[0]) == ["Lernen", "Probe"]
    (alone,) = panels({"train_error": [3.0, 2.0]}, xlabel="iteration")
    assert (alone.get_legend(), alone.get_ylabel(), alone.get_xlabel()) == (None, "train error", "iteration")


def test_a_history_of_keras():
    import keras

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", metrics=["mae"])
    x, y = rng.normal(size=(2, 8, 2)).astype("float32")
    fitted = model.fit(
        x, y[:, :1], epochs=5, initial_epoch=1, validation_data=(x, y[:, :1]), validation_freq=2, verbose=0
    )
    loss, mae = panels(fitted, validation_freq=2)
    assert {loss.get_ylabel(), mae.get_ylabel()} == {"loss", "mae"}
    assert loss.lines[0].get_xdata().tolist() == [2, 3, 4, 5]
    assert loss.lines[1].get_xydata().tolist() == [
        [e, v] for e, v in zip([2, 4], fitted.history["val_loss"], strict=True)
    ]
    assert len(panels(fitted.history | {"val_loss": [1.0], "val_mae": [2.0]}, validation_freq=[3])) == 2
    with pytest.raises(InputError, match=r"'val_loss'\] has 2 entries; expected 4 of 4 epochs with validation_freq=1"):
        plots.history(fitted, figure=Figure())


def test_several_numbers_for_each_step_and_what_is_not_finite():
    scores = rng.random((4, 3))
    classes, loss, bad = panels({"f1": torch.tensor(scores), "loss": [1, np.nan, 2, np.inf], "bad": [np.nan] * 4})
    assert np.allclose([line.get_ydata() for line in classes.lines], scores.T)
    assert loss.lines[0].get_xydata().tolist() == [[1, 1], [3, 2]]
    assert [text.get_text() for text in bad.texts] == ["not finite"]
    assert panels({"loss": [torch.tensor(0.5)]})[0].lines[0].get_marker() == "."


def test_axes_of_ones_own():
    figure = Figure()
    pair = figure.subplots(1, 2)
    assert plots.history(ascent(), pair) is figure
    assert [len(lines(axes)) for axes in pair] == [3, 3]
    assert [axes.get_xlabel() for axes in pair] == ["step", "step"]
    one = Figure().subplots()
    assert plots.history(FITTED, one, metrics="loss").axes == [one]
    with pytest.raises(
        InputError, match="ax= holds 1 axes; expected 2, for 'loss', 'accuracy'; metrics= chooses fewer"
    ):
        plots.history(FITTED, one)
    with pytest.raises(OptionError, match="ax= excludes figure= and title="):
        plots.history(FITTED, pair, title="T")


@pytest.mark.parametrize(
    ("result", "options"),
    [
        (ascent(14), {"title": "Fourteen"}),
        (ascent(14, wanted=None), {}),
        (ascent(3), {"labels": ["American black bear", "cat", "a dog of any kind"]}),
        (ascent(40), {}),
        (FITTED, {"title": "Fitted"}),
        ({"sparse_top_k_categorical_accuracy": [1e-7, 2e-7], "loss": [1e6, 2e7]}, {}),
    ],
)
def test_in_a_column_of_a_paper_nothing_is_cut_off_or_overlaps(result, options):
    figure = plots.history(result, figure=Figure(dpi=100), **options)
    assert 3.3 <= figure.get_size_inches()[0] <= 3.5
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer, page = canvas.get_renderer(), figure.bbox.padded(1)
    boxes = [axes.get_tightbbox(renderer) for axes in figure.axes]
    boxes += [text.get_window_extent(renderer) for text in figure.texts]
    for box in boxes:
        assert page.x0 <= box.x0 <= box.x1 <= page.x1
        assert page.y0 <= box.y0 <= box.y1 <= page.y1
    found = figure.axes[0].get_legend()
    if found is not None:
        for axes in figure.axes:
            assert not axes.get_window_extent(renderer).padded(-1).overlaps(found.get_window_extent(renderer))
    assert min(text.get_fontsize() for axes in figure.axes for text in axes.findobj(type(axes.title))) >= 7


WRONG = {
    "nothing": (3, {}, "result is a int; expected what wrt.maximize returns"),
    "empty": ({}, {}, "result holds no metric"),
    "no numbers": ({"loss": ["a", "b"]}, {}, r"result\['loss'\] holds"),
    "no sequence": ({"loss": 3.0}, {}, r"result\['loss'\] is a float"),
    "no step": ({"loss": []}, {}, r"result\['loss'\] has shape \(0,\)"),
    "no labels": (FITTED, {"labels": ["a"]}, "expected 2, for training and validation"),
    "labels": (ascent(), {"labels": "abc"}, "expected 3, one for every row"),
    "metric": (FITTED, {"metrics": ["los"]}, "metrics='los' is not in the history. Did you mean 'loss'"),
    "no metric": (FITTED, {"metrics": []}, r"metrics=\[\] leaves nothing to draw"),
    "frequency": (FITTED, {"validation_freq": 0}, "validation_freq=0; expected 1 or more"),
}


@pytest.mark.parametrize("case", WRONG)
def test_mistakes(case):
    result, options, message = WRONG[case]
    with pytest.raises((InputError, OptionError), match=message):
        plots.history(result, figure=Figure(), **options)


def shown(axes):
    return np.asarray(axes.images[0].get_array())


@pytest.mark.parametrize("shape", [(8, 6), (8, 6, 1), (1, 8, 6), (8, 6, 3), (3, 8, 6), (40, 40)])
def test_images_of_an_ascent(shape):
    result = ascent(shape=shape)
    axes = plots.maps(result, figure=Figure()).axes
    assert [one.get_title() for one in axes] == ["unit 4", "unit 5", "unit 6"]
    assert [one.get_xlabel() for one in axes] == ["25.0%", "25.1%", "25.2%"]
    dark, pale, also = (one.xaxis.label.get_color() for one in axes)
    assert dark != pale == also  # the first alone has reached what was wanted
    x = np.moveaxis(result.x, 1, -1) if shape[0] in (1, 3) else result.x
    x = x[..., 0] if x.ndim == 4 and x.shape[-1] == 1 else x
    for image, one in zip(x, axes, strict=True):
        end = np.quantile(np.abs(image), 0.99, method="lower")
        wanted = np.clip((image + end) / (2 * end), 0, 1)
        ink = wanted.ndim == 2 and max(wanted.shape) <= 32
        assert np.allclose(shown(one), 1 - wanted if ink else wanted)
        assert one.images[0].get_clim() == (0, 1)


def test_contrast():
    """Every image is seen, whatever its range; zero stays in the middle where there are signs."""
    ramp = np.linspace(0, 1, 100).reshape(10, 10)
    for image in (0.5 + 1e-4 * ramp, 300 * ramp, 2 + ramp):
        seen = contrasted(image)
        assert (seen.min(), seen.max()) == (0, 1)
        assert np.allclose(seen, ramp, atol=0.02)
    for image in (ramp - 0.25, 1e-6 * (ramp - 0.25)):
        seen = contrasted(image)
        assert np.allclose(seen, 0.5 + (ramp - 0.25) / 0.74 / 2, atol=0.02)
    lone = np.zeros((20, 20))
    lone[3, 4] = 5.0
    assert contrasted(lone)[3, 4] == 1 > contrasted(lone)[0, 0] == 0
    lone[5, 6] = -2.5
    assert (contrasted(-lone)[3, 4], contrasted(-lone)[0, 0], contrasted(-lone)[5, 6]) == (0, 0.5, 0.75)
    spike = ramp.copy()
    spike[0, 0] = 1e6
    assert np.ptp(contrasted(spike)[1:]) > 0.8
    assert np.isfinite(contrasted(np.full((3, 3), np.nan))).all()
    assert (contrasted(np.full((3, 3), 2.0)) == 0).all()


def test_flat_images_have_a_shape():
    result = ascent(shape=(48,), wanted=None)
    (first, *_) = plots.maps(
        result, shape=(4, 4, 3), titles=["a", "b", "c"], scores=[1.0, 20.0, 300.0], figure=Figure()
    ).axes
    assert shown(first).shape == (4, 4, 3)
    assert np.allclose(shown(first), contrasted(result.x[0].reshape(4, 4, 3)))
    assert (first.get_title(), first.get_xlabel()) == ("a", "1")
    with pytest.raises(InputError, match=r"result.x has shape \(3, 48\), which are no images.* as in shape=\(H, W\)"):
        plots.maps(result, figure=Figure())
    with pytest.raises(InputError, match=r"as in shape=\(28, 28\)"):
        plots.maps(ascent(shape=(784,)), figure=Figure())
    with pytest.raises(InputError, match=r"shape=\(7, 7\) does not fit result.x of shape \(3, 48\)"):
        plots.maps(result, shape=(7, 7), figure=Figure())


def test_rows_of_images_wrap_and_what_is_not_known_is_left_out():
    axes = plots.maps(ascent(10, units=None, wanted=None), figure=Figure()).axes
    assert [one.get_title() for one in axes] == [f"row {k}" for k in range(10)]
    assert not any(one.get_xlabel() for one in axes)
    tops = [round(one.get_position().y1, 6) for one in axes]
    assert [tops.count(top) for top in sorted(set(tops))] == [5, 5]
    tops = [round(one.get_position().y1, 6) for one in plots.maps(ascent(4), cols=3, figure=Figure()).axes]
    assert tops.count(max(tops)) == 3


def test_options_that_belong_to_maps_are_refused():
    given = {"maps": np.zeros((3, 8, 8)), "labels": [1, 1, 1], "overlay": True, "original": False, "scale": "all"}
    for name, value in {**given, "names": ["a"], "unit": "u", "channels": "sum"}.items():
        with pytest.raises(OptionError, match=f"{name}= belongs to images and maps"):
            plots.maps(ascent(), figure=Figure(), **{name: value})
    with pytest.raises(InputError, match="maps is missing"):
        plots.maps(np.zeros((3, 8, 8)), figure=Figure())
    with pytest.raises(OptionError, match="shape= belongs to what"):
        plots.maps(np.zeros((3, 8, 8)), np.zeros((3, 8, 8)), shape=(8, 8), figure=Figure())
    with pytest.raises(InputError, match=r"scores has shape \(2,\)"):
        plots.maps(ascent(), scores=[1, 2], figure=Figure())


def test_what_maximize_says_about_its_rows():
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    like = np.zeros((1, 4, 4), "float32")
    given = {"like": like, "steps": 200, "learning_rate": 0.05}
    found = wrt.maximize(net, [2, 0], probability=0.8, **given)
    assert (found.units.tolist(), found.wanted) == ([2, 0], 0.8)
    assert found.reached.all()
    reached = torch.softmax(net(torch.tensor(found.x)), -1).detach().numpy()[[0, 1], [2, 0]]
    axes = plots.maps(found, figure=Figure()).axes
    assert [one.get_xlabel() for one in axes] == [f"{p:.1%}" for p in reached]
    given["steps"] = 1
    sums = wrt.logit(1) - wrt.objective(2)
    for of, units in ((1, [1]), ((1,), [1]), (wrt.layer("1", [0, 2]), [0, 2]), (sums, None), (lambda y: y[:, 0], None)):
        found = wrt.maximize(net, of, **given)
        assert (found.units if units is None else found.units.tolist(), found.wanted) == (units, None)
