"""`wrt maximize`: the inputs that excite units of a network."""

import dataclasses
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

import wrt
from wrt.cli import options
from wrt.cli.common import INTERRUPTED, Engine, Model, Trust, in_words, say, show
from wrt.errors import FileError, InputError
from wrt.io import joined_folder, read_arrays, write_arrays
from wrt.plots.panels import need_matplotlib

NUMBERS, HISTORY, IMAGES = "maximize.npz", "history.png", "inputs.png"
MOST_SHOWN, MOST_TOLD = 60, 40  # images on a page, and rows of a table
DOTS = 200  # per inch

Folder = Annotated[Path, typer.Option("--out", "-o", help=f"The folder for {NUMBERS}, {HISTORY} and {IMAGES}.")]
Units = Annotated[
    list[str], typer.Option("--of", metavar="UNIT", help=f"What is maximised: {options.UNITS}. May be repeated.")
]
Probability = Annotated[float | None, typer.Option(help="Of the class --of; each image stops when it is reached.")]
Ends = Annotated[
    str | None,
    typer.Option(help="What the model ends in, if that is not found: logits, probabilities, log-probabilities."),
]
Steps = Annotated[int, typer.Option(help="At most so many.")]
Optimizer = Annotated[str, typer.Option(help="A name of torch.optim, optax (for JAX) or keras.optimizers.")]
Rate = Annotated[float, typer.Option(help="Of the optimiser.")]
Seed = Annotated[int, typer.Option(help="Of the start and the transforms.")]
Bounds = Annotated[tuple[float, float] | None, typer.Option(metavar="LOW HIGH", help="That no entry leaves.")]
Regularizers = Annotated[
    list[str] | None,
    typer.Option(
        "--regularizer",
        metavar="NAME=WEIGHT",
        help="Of wrt.regularizers, as in total_variation=0.1, blur=0.1,2 or near=image.npy,0.1. May be repeated.",
    ),
]
Transforms = Annotated[
    list[str] | None,
    typer.Option(
        "--transform",
        metavar="NAME=VALUE",
        help="Of wrt.transforms, as in jitter=4, rotate=5 or scale=0.9,1,1.1. May be repeated.",
    ),
]
Parametrization = Annotated[str, typer.Option(help="What is moved: pixel, fourier (a spectrum) or others there are.")]
DataFormat = Annotated[
    str | None, typer.Option(help="channels_first or channels_last, of images, if the model's layers do not show it.")
]
Like = Annotated[Path | None, typer.Option(help="A .npy of the shape of the inputs, if the model does not tell it.")]
Init = Annotated[
    str, typer.Option(metavar="START", help=f"gaussian, uniform, zeros, a .npy, or {NUMBERS} of an earlier run.")
]
Shape = Annotated[str | None, typer.Option(help="28x28 or 32x32x3: of images that the model takes flattened.")]


def maximize(
    model: Model,
    out: Folder,
    of: Units,
    probability: Probability = None,
    steps: Steps = 500,
    optimizer: Optimizer = "adam",
    learning_rate: Rate = 5e-3,
    regularizer: Regularizers = None,
    transform: Transforms = None,
    parametrization: Parametrization = "pixel",
    bounds: Bounds = None,
    data_format: DataFormat = None,
    init: Init = "gaussian",
    like: Like = None,
    shape: Shape = None,
    ends: Ends = None,
    seed: Seed = 0,
    engine: Engine = None,
    trust: Trust = False,
) -> None:
    """Find the inputs that excite units, or reach a probability: numbers, the images, and how the loss fell."""
    units, box = options.parse_units(of), options.parse_size(shape, "--shape")
    given: dict[str, Any] = {
        "regularizers": options.parse_made(regularizer, "regularizer"),
        "transforms": options.parse_made(transform, "transform"),
        "init": options.parse_array(init),
        "like": None if like is None else options.parse_array(str(like)),
        **{"probability": probability, "ends": ends, "bounds": bounds, "parametrization": parametrization},
        "data_format": data_format,
        **{"steps": steps, "optimizer": optimizer, "learning_rate": learning_rate, "seed": seed},
    }
    need_matplotlib()
    with joined_folder(out, [NUMBERS, HISTORY, IMAGES], _ours(out)) as part:
        network = options.load(model, engine, trust)
        start = time.perf_counter()
        found = wrt.maximize(network, units, **given)
        _tell(found, time.perf_counter() - start)
        names = [*_draw(part, found, box), NUMBERS]
        write_arrays(part / NUMBERS, _numbers(found))
    show(*(("written", out / name) for name in names))
    _tell_end(found, steps)


def _ours(out: Path) -> list[str]:
    """The files that an earlier run wrote into the folder."""
    try:
        read_arrays(out / NUMBERS, "history/loss")
    except FileError:
        return []
    return [NUMBERS, HISTORY, IMAGES]


def _numbers(found: wrt.Maximization) -> dict[str, Any]:
    names = ("x", "history", "before", "after", "steps", "reached", "units", "wanted")
    given = {name: getattr(found, name) for name in names}
    return {name: value for name, value in given.items() if value is not None} | {"stopped": np.array(found.stopped)}


def _draw(part: Path, found: wrt.Maximization, shape: Any) -> list[str]:
    """The pictures, and which there are: what is no image does not cost the numbers."""
    from matplotlib.figure import Figure

    wrt.plots.history(found, figure=Figure()).savefig(part / HISTORY, dpi=DOTS)
    count = len(found.steps)
    note = f"The first {MOST_SHOWN} of {count}" if count > MOST_SHOWN else None
    try:
        figure = wrt.plots.maps(_first(found, MOST_SHOWN), shape=shape, note=note, figure=Figure())
    except InputError:
        inputs = found.x.shape[1:]
        why = f"inputs of shape {inputs} are no images; --shape, as in --shape 28x28, draws them if they are"
        say(
            f"No {IMAGES}: {why if shape is None else f'--shape {shape} does not fit inputs of shape {inputs}'}",
            "yellow",
        )
        return [HISTORY]
    figure.savefig(part / IMAGES, dpi=DOTS)
    return [IMAGES, HISTORY]


def _first(found: wrt.Maximization, count: int) -> wrt.Maximization:
    rows = {name: getattr(found, name)[:count] for name in ("x", "steps", "reached")}
    after = found.after if found.wanted is None else found.after[:count]
    return dataclasses.replace(found, **rows, after=after, units=None if found.units is None else found.units[:count])


def _tell(found: wrt.Maximization, seconds: float) -> None:
    """A row for every image: where it stood and where it got to."""
    count = len(found.steps)
    show(("maximised", f"{count} of shape {found.x.shape[1:]} in {in_words(seconds)}"))
    what = "objective" if found.wanted is None else "probability"
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="cyan")
    for name in ("row" if found.units is None else "unit", f"{what} before", "after", "steps"):
        table.add_column(name, justify="right")
    if found.wanted is not None:
        table.add_column(f"reached {found.wanted:g}")
    for row, (before, after) in enumerate(_values(found)[:MOST_TOLD]):
        name = str(row if found.units is None else found.units[row])
        words = [] if found.wanted is None else ["yes" if found.reached[row] else "no"]
        table.add_row(name, f"{before:.4g}", f"{after:.4g}", str(found.steps[row]), *words)
    Console().print(table)
    if count > MOST_TOLD:
        show(("and", f"{count - MOST_TOLD} more, in {NUMBERS}"))


def _values(found: wrt.Maximization) -> list[tuple[float, float]]:
    """Before and after, of every row: its probability, or its objective at the least loss."""
    rows = np.arange(len(found.steps))
    if found.wanted is not None and found.units is not None:
        before, after = (outputs[rows, found.units] for outputs in (found.before, found.after))
    else:
        line, loss = found.history["objective"], found.history["loss"]
        best = np.where(np.isfinite(loss), loss, np.inf).argmin(0)
        before, after = line[0], line[best, rows]
    return list(zip(before.tolist(), after.tolist(), strict=True))


def _tell_end(found: wrt.Maximization, steps: int) -> None:
    """What the reader must know beside the numbers; an interruption has its exit code."""
    if found.stopped == "interrupted":
        say(f"Interrupted after {found.steps.max()} of {steps} steps; what was found until then is written.", "yellow")
        raise typer.Exit(INTERRUPTED)
    missing = int((~found.reached).sum())
    if found.wanted is not None and missing:
        say(
            f"{missing} of {len(found.steps)} did not reach {found.wanted:g}; more --steps, a larger --learning-rate "
            "or smaller weights of --regularizer may help.",
            "yellow",
        )
