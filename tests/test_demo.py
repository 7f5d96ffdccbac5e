"""The demo in a fast setting, and its picture: what is drawn is what was computed."""

import os

import numpy as np
import pytest
from conftest import ENGINE
from matplotlib.figure import Figure
from subjects import array

import wrt
from wrt import demo, plots
from wrt.errors import FileError, InputError
from wrt.io import read_arrays, write_arrays

rng = np.random.default_rng(5)
IMAGES, MAPS = rng.random((3, 6, 5)), rng.normal(size=(3, 4, 6, 5))


@pytest.fixture(scope="module")
def done():
    return demo.run(seed=1, steps=60)


def test_it_learns(done):
    assert done.digits.x_test.shape == (360, 8, 8, 1)
    assert done.accuracy > 0.9
    assert done.accuracy == np.mean(done.logits.argmax(1) == done.digits.y_test)


def test_every_image_once():
    digits = demo.bundled(3)
    images = np.concatenate([digits.x_train, digits.x_test]).reshape(1797, -1)
    again = demo.bundled(4)
    others = np.concatenate([again.x_train, again.x_test]).reshape(1797, -1)
    assert not np.array_equal(images, others)
    assert np.array_equal(np.unique(images, axis=0), np.unique(others, axis=0))
    assert images.max() == 1


def test_the_jacobian_is_that_of_the_logits(done):
    """Central differences of the trained network, at a few pixels."""
    x, step = done.digits.x_test[:5], 1e-2
    for pixel in ((2, 3, 0), (5, 4, 0)):
        up, down = x.copy(), x.copy()
        up[(slice(None), *pixel)] += step
        down[(slice(None), *pixel)] -= step
        slope = (array(done.model(up)) - array(done.model(down))) / (2 * step)
        assert np.allclose(done.jacobian[(slice(0, 5), slice(None), *pixel)], slope, atol=2e-2)


def test_check_and_plan(done):
    assert done.check.ok
    assert done.plan.engine == ENGINE
    assert done.ratio > 0


def test_what_is_written(done, tmp_path):
    demo.prepare(tmp_path / "new" / "folder")
    written = demo.write(done, tmp_path / "new" / "folder")
    assert sorted(os.listdir(tmp_path / "new" / "folder")) == ["demo.png", "digits.keras", "jacobian.npz"]
    numbers = read_arrays(written[0])
    assert np.array_equal(numbers["jacobian"], done.jacobian)
    assert np.array_equal(numbers["labels"], done.digits.y_test)
    assert numbers["accuracy"] == done.accuracy
    again = wrt.jacobian(wrt.load_model(written[2]), numbers["images"][:7])
    assert np.allclose(again, numbers["jacobian"][:7], atol=1e-4)
    assert written[1].read_bytes().startswith(b"\x89PNG")


def test_the_picture_shows_the_jacobian(done):
    rows = demo.worth_showing(done)
    axes = demo.draw(done, Figure()).axes
    assert len(axes) == len(rows) * 11 + 1
    shown = np.array([one.images[0].get_array() for one in axes[:-1]]).reshape(len(rows), 11, 8, 8)
    assert np.array_equal(shown[:, 0], done.digits.x_test[rows, ..., 0])
    assert np.array_equal(shown[:, 1:], done.jacobian[rows, ..., 0])


def test_images_worth_showing(done):
    *typical, doubtful = demo.worth_showing(done)
    assert [done.digits.y_test[row] for row in typical] == [0, 3, 4, 7]
    assert all(done.correct[typical])
    best = np.sort(demo.probabilities(done.logits), axis=1)
    assert doubtful == (best[:, -1] - best[:, -2]).argmin()


def test_batches_take_every_row_once_before_any_comes_again():
    rows = np.concatenate(list(demo.batches(2 * demo.BATCH, 4, seed=0)))
    assert np.array_equal(np.sort(rows), np.repeat(np.arange(2 * demo.BATCH), 2))
    assert np.array_equal(np.sort(rows[: 2 * demo.BATCH]), np.arange(2 * demo.BATCH))
    assert [len(b) for b in demo.batches(5, 3, seed=0)] == [5, 5, 5]


def arrays(**changed):
    made = {
        "x_train": rng.integers(0, 256, (40, 9, 7)).astype("uint8"),
        "y_train": np.arange(40) % 3,
        "x_test": rng.integers(0, 256, (1003, 9, 7)).astype("uint8"),
        "y_test": np.arange(1003) % 3,
    } | changed
    return {name: value for name, value in made.items() if value is not None}


def test_own_data(tmp_path):
    write_arrays(tmp_path / "own.npz", arrays())
    done = demo.run(tmp_path / "own.npz", steps=2)
    assert done.jacobian.shape == (1000, 3, 9, 7, 1)
    assert done.digits.x_train.max() == 1
    assert len(demo.draw(done, Figure()).axes) == 4 * len(demo.worth_showing(done)) + 1


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"x_test": None}, "x_train, y_train, x_test, y_test"),
        (
            {"x_train": np.zeros((40, 9, 7, 3), "uint8")},
            "x_train is uint8 of shape (40, 9, 7, 3); expected grey",
        ),
        ({"x_test": np.zeros((0, 9, 7), "uint8")}, "x_test is uint8 of shape (0, 9, 7)"),
        ({"y_train": np.zeros((40, 3))}, "y_train is float64 of shape (40, 3); expected 40 labels"),
        ({"y_test": np.zeros(7, int)}, "y_test is int64 of shape (7,); expected 1003 labels"),
        ({"y_train": np.full(40, -1)}, "integers from 0"),
    ],
)
def test_unsuitable_data(tmp_path, changed, words):
    write_arrays(tmp_path / "own.npz", arrays(**changed))
    with pytest.raises(FileError) as caught:
        demo.from_file(tmp_path / "own.npz")
    assert words in str(caught.value)
    assert "own.npz" in str(caught.value)


def test_one_array_is_no_data(tmp_path):
    write_arrays(tmp_path / "own.npy", np.zeros((3, 2)))
    with pytest.raises(FileError, match="found one array"):
        demo.from_file(tmp_path / "own.npy")


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileError, match="file"):
        demo.prepare(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_preparing_destroys_nothing(tmp_path):
    (tmp_path / demo.NUMBERS).write_text("of the last run")
    demo.prepare(tmp_path)
    assert (tmp_path / demo.NUMBERS).read_text() == "of the last run"
    assert os.listdir(tmp_path) == [demo.NUMBERS]


@pytest.mark.parametrize("extra", [(), (1,)], ids=["grey", "one channel"])
def test_maps_draws_what_it_is_given(extra):
    figure = plots.maps(IMAGES.reshape(3, 6, 5, *extra), MAPS.reshape(3, 4, 6, 5, *extra), figure=Figure())
    shown = [one.images[0] for one in figure.axes[:-1]]
    assert len(shown) == 3 * 5
    for row in range(3):
        assert np.array_equal(shown[5 * row].get_array(), IMAGES[row])
        for k in range(4):
            assert np.array_equal(shown[5 * row + 1 + k].get_array(), MAPS[row, k])


def test_one_scale_with_zero_in_the_middle():
    figure = plots.maps(IMAGES, MAPS, figure=Figure())
    limits = {one.images[0].get_clim() for i, one in enumerate(figure.axes[:-1]) if i % 5}
    ((low, high),) = limits
    assert low == -high
    assert np.isclose(high, np.quantile(np.abs(MAPS), 0.99))


def test_names_labels_and_scores():
    scores = np.array([[0.7, 0.3, 0, 0], [0.001, 0.009, 0.99, 0], [0, 0, 0, 1]])
    figure = plots.maps(
        IMAGES, MAPS, labels=[0, 2, 7], names="abcd", scores=scores, title="T", note="N", figure=Figure()
    )
    grid = np.array(figure.axes[:-1]).reshape(3, 5)
    assert [one.get_title() for one in grid[0]] == ["", "a", "b", "c", "d"]
    wide = [[one.spines["left"].get_linewidth() > 2 for one in row[1:]] for row in grid]
    assert wide == [[True, False, False, False], [False, False, True, False], [False] * 4]
    assert [one.get_xlabel() for one in grid[:, 1:].flat if one.get_xlabel()] == ["70%", "30%", "1%", "99%", "100%"]
    assert [text.get_text() for text in figure.texts] == ["T", "N"]


def test_nothing_to_see_is_drawn_as_well():
    figure = plots.maps(np.zeros((1, 4, 4)), np.zeros((1, 2, 4, 4)), figure=Figure())
    assert figure.axes[1].images[0].get_clim() == (-1, 1)


@pytest.mark.parametrize("shape", [(2, 4, 6, 5), (3, 4, 5, 6), (3, 0, 6, 5)])
def test_shapes_that_do_not_belong_together(shape):
    with pytest.raises(InputError, match=r"images has shape \(3, 6, 5\)"):
        plots.maps(IMAGES, np.zeros(shape), figure=Figure())
