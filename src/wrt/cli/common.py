"""What the commands share: their options, and how they speak."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from wrt.cli import options

Model = Annotated[Path, typer.Argument(help="A .keras or .h5 file, or a .pt2 file of torch.export with --trust.")]
Data = Annotated[Path, typer.Argument(help="The inputs, axis 0 samples: .npy, or .npz (several: by name).")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Where to write: .npz (with the outputs), or .npy.")]
Of = Annotated[str | None, typer.Option("--of", metavar="UNIT", help=f"What is differentiated: {options.OF}.")]
Wrt = Annotated[
    list[str] | None,
    typer.Option("--wrt", metavar="INPUT", help="With respect to what: an input's name or number, or layer:NAME."),
]
Key = Annotated[str | None, typer.Option(help="The array to take from an .npz file.")]
Mode = Annotated[str, typer.Option(help="auto, reverse or forward.")]
BatchSize = Annotated[int | None, typer.Option(help="Samples at a time; the plan chooses otherwise.")]
Chunk = Annotated[int | None, typer.Option(help="Seeds at a time; the plan chooses otherwise.")]
Memory = Annotated[str | None, typer.Option(metavar="SIZE", help="The most to take, such as 2GiB.")]
Trust = Annotated[bool, typer.Option("--trust", help="Load a file that can run code: Lambda layers, .pt2.")]
Engine = Annotated[
    str | None,
    typer.Option(
        help="What Keras runs on: jax, torch or tensorflow. Otherwise KERAS_BACKEND decides, "
        "or the first that is installed of torch, jax, tensorflow."
    ),
]

FAILED, WRONG, INTERRUPTED = 1, 2, 130  # exit codes: the check fails, the request is wrong, Ctrl-C


def say(text: str, style: str = "") -> None:
    """A line on standard error, as it is."""
    Console(stderr=True, soft_wrap=True).print(Text(text, style=style))


def show(*rows: tuple[str, Any]) -> None:
    """A small table of names and values."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, Text(str(value)))
    Console().print(table)


def in_words(seconds: float) -> str:
    """A time."""
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"
