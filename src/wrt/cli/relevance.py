"""`wrt relevance`: which features of a table matter, and which pairs of them."""

import csv
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.text import Text

import wrt
from wrt.cli import options
from wrt.cli.common import BatchSize, Engine, Key, Memory, Mode, Model, Of, Trust, in_words, say, show
from wrt.errors import OptionError, suggest
from wrt.io import joined_folder
from wrt.io.tables import read_table
from wrt.plots.panels import need_matplotlib

NUMBERS, PICTURE = "relevance.csv", "relevance.png"
HEAD = "order,"  # of the numbers of an earlier run
DOTS = 200  # per inch

Data = Annotated[
    Path, typer.Argument(help="A table, one row per sample: .csv with names in the first line, .parquet, .npy or .npz.")
]
Folder = Annotated[Path, typer.Option("--out", "-o", help=f"The folder for {NUMBERS} and {PICTURE}.")]
Names = Annotated[
    str | None, typer.Option(metavar="A,B,C", help="Of the features, in order; otherwise those of the table.")
]
Outputs = Annotated[str | None, typer.Option(metavar="A,B", help="Names of the units of --of all.")]
Order = Annotated[int, typer.Option(help="1 for features alone, 2 for pairs of them as well.")]
Drop = Annotated[
    list[str] | None,
    typer.Option("--drop", "--target-column", metavar="COLUMN", help="That the model does not take. May be repeated."),
]
Weights = Annotated[str | None, typer.Option(metavar="COLUMN", help="The column with the weight of each sample.")]
Standardize = Annotated[str, typer.Option(help="std, whiten (for correlated features) or none (per unit).")]
Confidence = Annotated[float, typer.Option(help="Of the intervals.")]
Bootstrap = Annotated[int, typer.Option(help="Draw the samples anew so often for the intervals; 0 for s/√n.")]
Seed = Annotated[int, typer.Option(help="Of the bootstrap.")]
Top = Annotated[int, typer.Option(help="How many are drawn, at most.")]


def relevance(
    model: Model,
    data: Data,
    out: Folder,
    of: Of = None,
    names: Names = None,
    outputs: Outputs = None,
    order: Order = 2,
    drop: Drop = None,
    weights: Weights = None,
    standardize: Standardize = "std",
    confidence: Confidence = 0.95,
    bootstrap: Bootstrap = 0,
    seed: Seed = 0,
    top: Top = 10,
    key: Key = None,
    mode: Mode = "auto",
    batch_size: BatchSize = None,
    max_memory: Memory = None,
    engine: Engine = None,
    trust: Trust = False,
) -> None:
    """Say which features of a table matter, and which pairs of them: a table of numbers, and a picture."""
    given: dict[str, Any] = {
        **{"order": order, "standardize": None if standardize == "none" else standardize, "confidence": confidence},
        **{"bootstrap": bootstrap, "seed": seed, "mode": mode, "batch_size": batch_size},
        **{"max_memory": options.parse_memory(max_memory), "outputs": _listed(outputs)},
    }
    chosen = options.parse_of(of)
    need_matplotlib()
    with joined_folder(out, [NUMBERS, PICTURE], _ours(out)) as part:
        table = read_table(data, key)
        weight = None if weights is None else _taken(table, weights, "--weights")
        for name in drop or ():
            _taken(table, name, "--drop")
        titles = _listed(names) or list(table)
        network = options.load(model, engine, trust)
        start = time.perf_counter()
        found = wrt.relevance(network, _stacked(table), chosen, names=titles, weights=weight, **given)
        show(("relevance", f"of {len(titles)} features in {in_words(time.perf_counter() - start)}"))
        Console(soft_wrap=True).print(Text(repr(found)))
        _write(part / NUMBERS, found.rows())
        written = [*_draw(part, found, top), NUMBERS]
    show(*(("written", out / name) for name in written))


def _listed(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",")]


def _taken(table: dict[str, np.ndarray], name: str, option: str) -> np.ndarray:
    """A column, which is then no feature."""
    if name not in table:
        raise OptionError(f"{option} {name}: there is no such column.{suggest(name, table)}")
    return table.pop(name)


def _stacked(columns: dict[str, np.ndarray]) -> np.ndarray:
    """`(N, F)`; of objects where a column holds words, which is for the library to refuse."""
    if not columns:
        raise OptionError("--drop leaves no column")
    return np.stack(list(columns.values()), 1)


def _ours(out: Path) -> list[str]:
    """The files that an earlier run wrote into the folder."""
    try:
        with (out / NUMBERS).open(encoding="utf-8") as file:
            return [NUMBERS, PICTURE] if file.readline().startswith(HEAD) else []
    except (OSError, UnicodeDecodeError):
        return []


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _draw(part: Path, found: wrt.Relevance, top: int) -> list[str]:
    """The picture, if there are colours for all outputs: that does not cost the numbers."""
    from matplotlib.figure import Figure

    try:
        figure = wrt.plots.relevance(found, top=top, figure=Figure())
    except OptionError as error:
        say(f"No {PICTURE}: {error}", "yellow")
        return []
    figure.savefig(part / PICTURE, dpi=DOTS)
    return [PICTURE]
