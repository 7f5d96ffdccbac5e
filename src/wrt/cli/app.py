"""The commands."""

import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

import wrt
from wrt import demo as demonstration
from wrt.cli import options
from wrt.cli.common import (
    FAILED,
    INTERRUPTED,
    WRONG,
    BatchSize,
    Chunk,
    Data,
    Engine,
    Key,
    Memory,
    Mode,
    Model,
    Of,
    Out,
    Trust,
    Wrt,
    in_words,
    say,
    show,
)
from wrt.cli.explain import explain
from wrt.cli.maximize import maximize
from wrt.cli.relevance import relevance
from wrt.errors import WrtError, WrtWarning
from wrt.io import output_file, read_arrays

Save = Callable[[Any], None]


class Guarded(typer.core.TyperGroup):
    """Errors become one red line, warnings a yellow one, and Ctrl-C ends without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("default", WrtWarning)
            warnings.showwarning = lambda message, *rest: say(str(message), "yellow")
            try:
                return super().invoke(ctx)
            except (WrtError, OSError) as error:
                say(str(error), "bold red")
                raise typer.Exit(WRONG) from error
            except KeyboardInterrupt as error:
                say("Interrupted; nothing half-written is left.", "yellow")
                raise typer.Exit(INTERRUPTED) from error


app = typer.Typer(
    name="wrt",
    cls=Guarded,
    help="Derivatives of neural networks with respect to their inputs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _say_version(wanted: bool) -> None:
    if wanted:
        print(f"wrt {wrt.__version__}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say which version.")]


@app.callback()
def common(
    version: Version = False,
) -> None:
    """Derivatives of neural networks with respect to their inputs."""


@app.command()
def jacobian(
    model: Model,
    data: Data,
    out: Out,
    of: Of = None,
    wrt_: Wrt = None,
    key: Key = None,
    mode: Mode = "auto",
    batch_size: BatchSize = None,
    chunk: Chunk = None,
    max_memory: Memory = None,
    engine: Engine = None,
    trust: Trust = False,
) -> None:
    """Jacobian of every sample: all outputs, or those of --of, with respect to the input."""
    limit = options.parse_memory(max_memory)
    with output_file(out) as save:
        network, x, chosen = _load(model, data, key, of, engine, trust)
        given: dict[str, Any] = {"mode": mode, "batch_size": batch_size, "chunk": chunk, "max_memory": limit}
        planned = wrt.plan_jacobian(network, x, chosen, wrt=options.parse_wrt(wrt_), with_output=True, **given)
        Console(soft_wrap=True).print(Text(str(planned.plan), style="dim"))
        _answer(out, "jacobian", save, lambda: planned(x))


@app.command()
def gradient(
    model: Model,
    data: Data,
    out: Out,
    of: Of = None,
    wrt_: Wrt = None,
    key: Key = None,
    mode: Mode = "auto",
    batch_size: BatchSize = None,
    chunk: Chunk = None,
    max_memory: Memory = None,
    engine: Engine = None,
    trust: Trust = False,
) -> None:
    """Gradient of one output of every sample, or of several, with respect to the input."""
    limit = options.parse_memory(max_memory)
    with output_file(out) as save:
        network, x, chosen = _load(model, data, key, of, engine, trust)
        given: dict[str, Any] = {"mode": mode, "batch_size": batch_size, "chunk": chunk, "max_memory": limit}
        respect = options.parse_wrt(wrt_)
        _answer(out, "gradient", save, lambda: wrt.gradient(network, x, chosen, wrt=respect, with_output=True, **given))


@app.command()
def export(
    model: Model,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Where to write: .onnx, .stablehlo, or no suffix for a SavedModel.")
    ],
    what: Annotated[
        str | None,
        typer.Option(
            help="gradient, jacobian, backward (a cotangent comes in) or model. By default the model, or the "
            "gradient of --of."
        ),
    ] = None,
    of: Of = None,
    wrt_: Wrt = None,
    like: Annotated[
        Path | None, typer.Option(help="Samples, .npy or .npz, to compare the file on; a Keras model can do without.")
    ] = None,
    key: Key = None,
    engine: Engine = None,
    trust: Trust = False,
) -> None:
    """Write the model or a derivative of it as a file that runs without wrt, and compare the two before it counts."""
    what = options.parse_what(what, of)
    chosen, respect = options.parse_of(of), options.parse_wrt(wrt_)
    x = None if like is None else read_arrays(like, key)
    network = options.load(model, engine or options.engine_of(out), trust)
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as said, demonstration.silence():  # frameworks greet whoever imports them
        warnings.simplefilter("always", WrtWarning)
        written = wrt.export(network, out, x, of=chosen, wrt=respect, what=what)
    for warning in said:
        if issubclass(warning.category, WrtWarning):
            say(str(warning.message), "yellow")
    show(
        ("compared", f"with autodiff on new samples, in {in_words(time.perf_counter() - start)}"), ("written", written)
    )


app.command()(explain)
app.command()(maximize)
app.command()(relevance)


@app.command()
def check(
    model: Model,
    data: Data,
    of: Of = None,
    wrt_: Wrt = None,
    key: Key = None,
    engine: Engine = None,
    trust: Trust = False,
) -> None:
    """Compare the derivatives with finite differences, and look for dead, saturated and non-finite values."""
    network, x, chosen = _load(model, data, key, of, engine, trust)
    found = wrt.check(network, x, chosen, wrt=options.parse_wrt(wrt_))
    Console(soft_wrap=True).print(Text(str(found)))
    if not found.ok:
        raise typer.Exit(FAILED)


@app.command()
def demo(
    engine: Engine = None,
    out: Annotated[Path, typer.Option(help="The folder for the numbers, the picture and the network.")] = Path("demo"),
    data: Annotated[
        Path | None, typer.Option(help="An .npz in Keras's MNIST keys, instead of scikit-learn's digits.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the network's first weights and the order of the images.")] = 0,
    steps: Annotated[int, typer.Option(min=1, help="Of training.")] = demonstration.STEPS,
) -> None:
    """Train a small network on handwritten digits, and see which pixels speak for and against each class."""
    name = options.use_engine(engine)
    demonstration.prepare(out)
    say(f"A small convolutional network, Keras on {name}: training, then all its derivatives ...", "dim")
    done = demonstration.run(data, seed, steps)
    written = demonstration.write(done, out)
    tell(done)
    show(*(("written", path) for path in written))
    if not done.check.ok:
        raise typer.Exit(FAILED)


def tell(done: demonstration.Demo) -> None:
    """The numbers of the demo, its plan and its check."""
    seconds, images = done.seconds, f"{len(done.digits.x_test):,} test images"
    show(
        ("trained", f"on {len(done.digits.x_train):,} images in {seconds['training']:.1f} s"),
        ("accuracy", f"{done.accuracy:.1%} of {images}"),
        ("Jacobian", f"{done.jacobian.shape}: every score by every pixel"),
        (
            "time",
            f"{in_words(seconds['jacobian'])}, {done.ratio:.1f} forward passes ({in_words(seconds['forward'])} each)",
        ),
    )
    for part in (done.plan, done.check):
        Console(soft_wrap=True).print("", Text(str(part)), sep="\n")
    print()


def _load(model: Path, data: Path, key: str | None, of: str | None, engine: str | None, trust: bool) -> tuple[Any, ...]:
    """The network, the inputs, and what `--of` means; the quick things first."""
    chosen = options.parse_of(of)
    x = read_arrays(data, key)
    return options.load(model, engine, trust), x, chosen


def _answer(out: Path, what: str, save: Save, compute: Callable[[], tuple[Any, Any]]) -> None:
    """Compute the derivative and the outputs, write them, and say what they are."""
    start = time.perf_counter()
    derivative, outputs = compute()
    seconds = time.perf_counter() - start
    save(derivative if out.suffix == ".npy" else {what: derivative, "output": outputs})
    show((what, f"{_shapes(derivative)} in {in_words(seconds)}"), ("written", out))


def _shapes(tree: Any) -> str:
    if isinstance(tree, dict):
        return ", ".join(f"{name}: {_shapes(part)}" for name, part in tree.items())
    return ", ".join(map(_shapes, tree)) if isinstance(tree, list | tuple) else str(tree.shape)
