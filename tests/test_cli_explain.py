"""`wrt explain`: pictures and numbers are those of `wrt.explain`, and every mistake is one line and an exit code."""

import os
from pathlib import Path

import keras
import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import wrt
from wrt.cli import options
from wrt.cli.app import app
from wrt.errors import FileError, OptionError
from wrt.io import read_arrays, read_images, scaled, write_arrays

rng = np.random.default_rng(8)
PIXELS = {"b.png": rng.integers(0, 256, (12, 10, 3)), "a.png": rng.integers(0, 256, (12, 10, 3))}
ORDER = ["a.png", "b.png"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with images of the size of a model whose units see one half each, left and right."""
    monkeypatch.chdir(tmp_path)
    inputs = keras.Input((12, 10, 3))
    halves = [keras.layers.Cropping2D(((0, 0), side))(inputs) for side in ((0, 5), (5, 0))]
    means = [keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2, 3, activation="tanh")(h)) for h in halves]
    units = keras.layers.Concatenate()([keras.layers.Dense(1)(mean) for mean in means])
    keras.Model(inputs, units).save("net.keras")
    Path("pics").mkdir()
    for name, pixels in PIXELS.items():
        Image.fromarray(pixels.astype("uint8")).save(f"pics/{name}")
    return tmp_path


def run(*words):
    """Exit code, standard output, standard error without line breaks."""
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["explain", *words])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, " ".join(done.stderr.split())


@pytest.fixture
def figures(monkeypatch):
    """What is drawn, the overview first."""
    found, draw = [], wrt.plots.maps

    def kept(*given, **options):
        found.append(draw(*given, **options))
        return found[-1]

    monkeypatch.setattr(wrt.plots, "maps", kept)
    return found


def test_what_is_written(here, figures):
    code, out, err = run("gradient", "net.keras", "pics", "-o", "out", "--batch-size", "1")
    assert (code, err) == (0, "")
    assert "12 x 10, colour, 0 to 1" in out
    assert sorted(os.listdir("out")) == ["a.png", "b.png", "explanations.npz", "overview.png"]
    x = np.stack([PIXELS[name] for name in ORDER]) / 255
    model, found = wrt.load_model("net.keras"), read_arrays("out/explanations.npz")
    values = keras.ops.convert_to_numpy(model(x))
    assert np.array_equal(found["labels"], values.argmax(-1))
    assert np.allclose(found["outputs"], values.max(-1), atol=1e-6)
    assert np.allclose(found["maps"], wrt.explain("gradient", model, x, "max").maps, atol=1e-5)
    assert found["files"].tolist() == ["pics/a.png", "pics/b.png"]
    overview, first, _ = figures
    assert [one.get_title() for one in overview.axes[:-1:2]] == ORDER
    assert [one.get_title() for one in overview.axes[1:-1:2]] == [f"unit {label}" for label in found["labels"]]
    assert np.allclose(first.axes[0].images[0].get_array(), x[0])
    assert np.allclose(first.axes[1].images[-1].get_array(), found["maps"][0].max(-1))


def test_the_picture_shows_where(here):
    """In the file itself: of unit 0 the right half of the image is left grey."""
    assert run("gradient", "net.keras", "pics/a.png", "-o", "out", "--of", "0")[0] == 0
    picture = np.asarray(Image.open("out/a.png").convert("RGB")) / 255
    colourful = np.ptp(picture, -1) > 0.15
    columns = np.nonzero(colourful.any(0))[0]
    original, overlay, _ = np.split(columns, np.nonzero(np.diff(columns) > 8)[0] + 1)  # and the colour bar
    assert np.isclose(np.ptp(overlay) / np.ptp(original), 0.5, atol=0.1)


def test_units_names_and_options(here, figures):
    Path("names.txt").write_text("left\nright, or starboard\n")
    words = ["--of", "top:2", "--names", "names.txt", "--set", "steps=3", "--set", "postprocess=signed_normalize"]
    assert run("integrated_gradients", "net.keras", "pics", "-o", "out", *words)[0] == 0
    x = np.stack([PIXELS[name] for name in ORDER]).astype("float32") / 255
    given = {"steps": 3, "postprocess": "signed_normalize"}
    wanted = wrt.explain("integrated_gradients", wrt.load_model("net.keras"), x, wrt.top(2), **given)
    found = read_arrays("out/explanations.npz")
    assert np.allclose(found["maps"], wanted.maps, atol=1e-5)
    assert found["labels"].shape == (2, 2)
    names = [["left", "right, or starboard"][label] for label in found["labels"][0]]
    first = figures[1]
    assert [one.get_title() for one in first.axes[:-1]] == ["a.png", *(n.replace(" s", "\ns") for n in names)]
    assert np.allclose(first.axes[1].images[-1].get_array(), wanted.maps[0, 0].sum(-1), atol=1e-5)  # signs are kept


@pytest.mark.parametrize("shape", ["(N,)", "(N, 1)"])
def test_one_output_need_not_be_chosen(here, figures, shape):
    inputs = keras.Input((12, 10, 3))
    score = keras.layers.Dense(1)(keras.layers.Flatten()(inputs))
    keras.Model(inputs, score if shape == "(N, 1)" else score[:, 0]).save("one.keras")
    assert run("gradient", "one.keras", "pics", "-o", "out")[0] == 0
    assert "labels" not in read_arrays("out/explanations.npz")
    assert [one.get_title() for one in figures[0].axes[:-1]] == ["a.png", "", "b.png", ""]


def test_smooth(here):
    assert run("gradient", "net.keras", "pics", "-o", "out", "--smooth", "3", "--of", "1")[0] == 0
    x = np.stack([PIXELS[name] for name in ORDER]).astype("float32") / 255
    method = wrt.smooth("gradient", repetitions=3, noise=0.15 * float(np.ptp(x)))
    wanted = wrt.explain(method, wrt.load_model("net.keras"), x, 1)
    assert np.allclose(read_arrays("out/explanations.npz", "maps"), wanted.maps, atol=1e-4)


@pytest.fixture
def seen(monkeypatch):
    """The inputs that are explained."""
    found, explain = [], wrt.explain

    def kept(method, model, x, *given, **options):
        found.append(x)
        return explain(method, model, x, *given, **options)

    monkeypatch.setattr(wrt, "explain", kept)
    return found


@pytest.mark.parametrize(("own", "words", "high"), [(True, [], 255), (False, [], 1), (True, ["--scale", "-1,1"], None)])
def test_scale(here, seen, own, words, high):
    """A model that scales by itself gets bytes."""
    inner = keras.Sequential([keras.Input((12, 10, 3)), *([keras.layers.Rescaling(1 / 255)] if own else [])])
    if not own:
        inner.add(keras.layers.Activation("linear"))
    tail = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2), keras.layers.Rescaling(2.0)]
    keras.Sequential([keras.Input((12, 10, 3)), inner, *tail]).save("own.keras")
    code, out, _ = run("gradient", "own.keras", "pics", "-o", "out", *words)
    assert code == 0
    bytes_ = np.stack([PIXELS[name] for name in ORDER])
    assert np.allclose(seen[-1], bytes_ / 127.5 - 1 if high is None else bytes_ / 255 * high, atol=1e-5)
    assert ("-1 to 1" if high is None else f"0 to {high}") in out


def test_torch_program(here, seen, figures):
    """Channels come first, and the size is said."""
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.LazyLinear(2))
    module(torch.zeros(2, 3, 8, 8))
    shapes = ({0: torch.export.Dim("n")},)
    torch.export.save(torch.export.export(module.eval(), (torch.zeros(2, 3, 8, 8),), dynamic_shapes=shapes), "net.pt2")
    code, _, err = run("gradient", "net.pt2", "pics", "-o", "out", "--trust")
    assert (code, os.path.exists("out")) == (2, False)
    assert "--size: net.pt2 does not say what size its images have; give it, as in --size 224" in err
    assert run("gradient", "net.pt2", "pics", "-o", "out", "--trust", "--size", "8", "--scale", "imagenet")[0] == 0
    assert seen[-1].shape == (2, 3, 8, 8)
    assert read_arrays("out/explanations.npz", "maps").shape == (2, 3, 8, 8)
    assert figures[0].axes[0].images[0].get_array().shape == (8, 8, 3)


def test_grey_model_and_open_size(here, seen):
    layers = [keras.layers.Conv2D(2, 3), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)]
    keras.Sequential([keras.Input((None, None, 1)), *layers]).save("grey.keras")
    assert "does not say what size" in run("gradient", "grey.keras", "pics", "-o", "out")[2]
    assert run("gradient", "grey.keras", "pics", "-o", "out", "--size", "6x5")[0] == 0
    assert seen[-1].shape == (2, 6, 5, 1)


def test_arrays(here):
    x = rng.normal(size=(11, 12, 10, 3)).astype("float32")
    write_arrays("x.npz", {"x": x, "y": np.zeros(3)})
    code, _, err = run("gradient", "net.keras", "x.npz", "-o", "out")
    assert code == 2
    assert "x.npz: it holds x, y; choose one with --key" in err
    write_arrays("labels.npy", np.arange(11) % 2)
    assert run("gradient", "net.keras", "x.npz", "-o", "out", "--key", "x", "--of", "labels.npy")[0] == 0
    assert sorted(os.listdir("out"))[:3] == ["explanations.npz", "overview.png", "x-00.png"]
    wanted = wrt.explain("gradient", wrt.load_model("net.keras"), x, np.arange(11) % 2).maps
    assert np.allclose(read_arrays("out/explanations.npz", "maps"), wanted, atol=1e-5)


def test_one_name_twice(here):
    Path("more").mkdir()
    for name in ("A.png", "overview.png", "notes.txt", ".hidden.png"):
        Path("more", name).write_bytes(Path("pics/a.png").read_bytes())
    assert run("gradient", "net.keras", "pics/a.png", "more", "-o", "out")[0] == 0
    assert sorted(os.listdir("out")) == ["A-2.png", "a.png", "explanations.npz", "overview-2.png", "overview.png"]


def test_what_is_not_ours_stays(here):
    before = Path("pics/a.png").read_bytes()
    code, _, err = run("gradient", "net.keras", "pics", "-o", "pics")
    assert code == 2
    assert "pics/a.png: is there already and of no earlier run; choose another folder" in err
    assert Path("pics/a.png").read_bytes() == before
    Path("out").mkdir()
    Path("out/notes.txt").write_text("mine")
    assert run("gradient", "net.keras", "pics", "-o", "out")[0] == 0
    assert run("gradient", "net.keras", "pics/b.png", "-o", "out")[0] == 0  # again: what was written before goes
    assert sorted(os.listdir("out")) == ["b.png", "explanations.npz", "notes.txt", "overview.png"]


def test_cut_off(here, monkeypatch):
    assert run("gradient", "net.keras", "pics", "-o", "out")[0] == 0
    before = {path: path.read_bytes() for path in Path("out").iterdir()}

    def interrupted(*given, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(wrt.plots, "maps", interrupted)
    code, _, err = run("gradient", "net.keras", "pics", "-o", "out", "--of", "1")
    assert code == 130
    assert "Interrupted" in err
    assert {path: path.read_bytes() for path in Path("out").iterdir()} == before
    assert sorted(os.listdir()) == ["net.keras", "out", "pics"]
    assert run("gradient", "net.keras", "pics", "-o", "new")[0] == 130
    assert sorted(os.listdir()) == ["net.keras", "out", "pics"]


MISTAKES = {
    "method": (["grdient"], "METHOD grdient: there is none of this name. Did you mean 'gradient'"),
    "model": (["gradient", "nett.keras"], "nett.keras: no such model file. Did you mean 'net.keras'"),
    "image missing": (["gradient", "net.keras", "pics/c.png"], "pics/c.png: no such image file. Did you mean"),
    "kind of file": (["gradient", "net.keras", "names.txt"], "names.txt: cannot read images with the suffix '.txt'"),
    "no images": (["gradient", "net.keras", "."], ".: the folder holds no images"),
    "broken": (["gradient", "net.keras", "pics", "bad/x.png"], "bad/x.png: cannot be read as an image, it may be cut"),
    "two kinds": (["gradient", "net.keras", "x.npy", "pics"], "x.npy: give one file of arrays alone"),
    "no image": (["gradient", "net.keras", "x.npy"], "x.npy: an array of shape (5, 3); expected images (N, H, W)"),
    "option": (["gradient", "net.keras", "pics", "--set", "stepz=3"], "gradient has no option 'stepz'"),
    "form of an option": (["gradient", "net.keras", "pics", "--set", "steps"], "--set steps: expected an option"),
    "value": (["integrated_gradients", "net.keras", "pics", "--set", "steps=many"], "steps='many'"),
    "needed": (
        ["expected_gradients", "net.keras", "pics"],
        "--set background=...: expected_gradients cannot do without",
    ),
    "unit": (["gradient", "net.keras", "pics", "--of", "2"], "2 is out of range: the output has 2 units"),
    "size": (["gradient", "net.keras", "pics", "--size", "12x"], "--size 12x: expected 224, 224x320"),
    "other size": (
        ["gradient", "net.keras", "pics", "--size", "12"],
        "net.keras takes images of (12, 10, 3); leave it",
    ),
    "scale": (["gradient", "net.keras", "pics", "--scale", "1"], "--scale 1: expected two numbers, as in --scale -1,1"),
    "names": (
        ["gradient", "net.keras", "pics", "--names", "names.txt", "--of", "1"],
        "holds 1 names, and the units go to 1",
    ),
    "names missing": (["gradient", "net.keras", "pics", "--names", "no.txt"], "--names no.txt: cannot be read as text"),
    "key": (["gradient", "net.keras", "pics", "--key", "x"], "--key x: belongs to an .npz file"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(here, mistake):
    words, message = MISTAKES[mistake]
    Path("names.txt").write_text("left\n")
    Path("bad").mkdir()
    Path("bad/x.png").write_bytes(Path("pics/a.png").read_bytes()[:200])
    write_arrays("x.npy", np.zeros((5, 3)))
    before = sorted(here.rglob("*"))
    full = [*words, *["net.keras", "pics"][max(0, len(words) - 1) :]] if len(words) < 3 else words
    code, _, err = run(*full, "-o", "out")
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert sorted(here.rglob("*")) == before


def test_a_model_of_something_else(here):
    keras.Sequential([keras.Input((5,)), keras.layers.Dense(2)]).save("table.keras")
    assert (
        "takes inputs of shape (None, 5); expected one of images"
        in run("gradient", "table.keras", "pics", "-o", "o")[2]
    )
    keras.Sequential([keras.Input((4, 4, 4)), keras.layers.Flatten(), keras.layers.Dense(2)]).save("four.keras")
    assert "takes images of 4 channels" in run("gradient", "four.keras", "pics", "-o", "o")[2]
    keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten(), keras.layers.Dense(21)]).save("many.keras")
    assert "21 units are too many" in run("gradient", "many.keras", "pics", "-o", "o", "--of", "all")[2]


def test_images_are_cut_in_the_middle(tmp_path):
    """The short side fits, and of the long one the middle is left: stripes, each twice as wide as it comes out."""
    wide = np.repeat(np.arange(8) * 30, 2)[None, :, None] * np.ones((8, 1, 3))
    Image.fromarray(wide.astype("uint8")).save(tmp_path / "wide.png")
    Image.fromarray(wide.astype("uint8").transpose(1, 0, 2)).save(tmp_path / "high.png")
    found = read_images([tmp_path / "wide.png", tmp_path / "high.png"], (4, 4), 3)
    assert found.dtype == np.uint8
    assert np.abs(found[0, :, :, 0].astype(int) - np.arange(2, 6) * 30).max() <= 10
    assert np.abs(found[1, :, :, 2].astype(int) - np.arange(2, 6)[:, None] * 30).max() <= 10
    assert read_images([tmp_path / "wide.png"], (3, 5), 1).shape == (1, 3, 5, 1)


def test_turned_transparent_and_palette_images(tmp_path):
    pixels = rng.integers(0, 256, (6, 4, 3)).astype("uint8")
    note = Image.Exif()
    note[0x0112] = 3  # upside down
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=note)
    assert np.array_equal(read_images([tmp_path / "turned.png"], (6, 4), 3)[0], pixels[::-1, ::-1])
    clear = np.concatenate([pixels, np.zeros((6, 4, 1), "uint8")], -1)
    clear[0, 0, 3] = 255
    Image.fromarray(clear).save(tmp_path / "clear.png")
    found = read_images([tmp_path / "clear.png"], (6, 4), 3)[0]
    assert np.array_equal(found[0, 0], pixels[0, 0])
    assert (found[1:] == 255).all()
    Image.fromarray(np.zeros((6, 4), "uint8") + 77).convert("P").save(tmp_path / "palette.gif")
    assert (read_images([tmp_path / "palette.gif"], (6, 4), 1) == 77).all()


def test_deep_images(tmp_path):
    Image.fromarray(np.full((6, 4), 40000, "uint16")).save(tmp_path / "deep.png")
    with pytest.raises(FileError, match=r"deep.png: its pixels have more than 8 bits"):
        read_images([tmp_path / "deep.png"], (6, 4), 1)


@pytest.mark.parametrize("scale", ["caffe", "imagenet"])
def test_scales_of_keras_applications(scale):
    images = rng.integers(0, 256, (2, 4, 5, 3)).astype("uint8")
    mode = {"caffe": "caffe", "imagenet": "torch"}[scale]
    from keras.src.applications.imagenet_utils import preprocess_input

    wanted = preprocess_input(images.astype("float32"), data_format="channels_last", mode=mode)
    assert np.allclose(scaled(images, scale), wanted, atol=1e-4)
    with pytest.raises(OptionError, match="1 channel"):
        scaled(images[..., :1], scale)


@pytest.mark.parametrize(
    ("text", "value"),
    [("a=3", 3), ("a=[1, 2]", [1, 2]), ("a=None", None), ("a=trapezoid", "trapezoid"), ("a=x=1", "x=1"), ("a=", "")],
)
def test_settings(text, value):
    assert options.parse_settings([text], "gradient") == {"a": value}


@pytest.mark.parametrize("text", ["", "=3", "a", "of=3", "wrt=1", "with_output=1", "a b=1"])
def test_settings_that_mean_nothing(text):
    with pytest.raises(OptionError, match=f"--set {text}: expected"):
        options.parse_settings([text], "gradient")


@pytest.mark.parametrize(
    ("text", "value"), [(None, None), ("8", (8, 8)), ("8x9", (8, 9)), ("8x9x1", (8, 9, 1)), ("8x9x3", (8, 9, 3))]
)
def test_size(text, value):
    assert options.parse_size(text) == value


@pytest.mark.parametrize("text", ["", "x", "0", "8x9x2", "8x9x3x1", "-8", "8,9"])
def test_size_that_means_nothing(text):
    with pytest.raises(OptionError, match=f"--size {text}: expected"):
        options.parse_size(text)


@pytest.mark.parametrize("text", ["", "1", "1,1", "1,2,3", "nan,1", "0,inf", "torch"])
def test_scale_that_means_nothing(text):
    with pytest.raises(OptionError, match=f"--scale {text}: expected"):
        options.parse_scale(text)
