"""`maximize`: the input that excites a unit."""

from __future__ import annotations

from typing import Any

import numpy as np

from wrt.derive.choose import Request, check_count
from wrt.derive.job import Options
from wrt.derive.layout import check_format, of_input
from wrt.errors import OptionError
from wrt.maximize import regularizers as reg, transforms as tra
from wrt.maximize.goal import Selection, Terms, goal_of, listed, outputs_of, rows_of
from wrt.maximize.image import Channel, axes_of
from wrt.maximize.loop import Ascent
from wrt.maximize.parametrizations import picture_of
from wrt.maximize.start import bounds_of, start_of
from wrt.maximize.step import Question
from wrt.results import Maximization


def maximize(
    model: Any,
    of: Any,
    *,
    like: Any = None,
    init: Any = "gaussian",
    probability: float | None = None,
    ends: str | None = None,
    loss: Any = None,
    steps: int = 500,
    optimizer: str = "adam",
    learning_rate: float = 5e-3,
    regularizers: Any = (),
    transforms: Any = (),
    parametrization: Any = "pixel",
    bounds: Any = None,
    data_format: str | None = None,
    seed: int = 0,
    compile: bool | None = None,
    progress: bool | None = None,
) -> Maximization:
    """The input that excites a unit, by gradient ascent from a start; the weights stay as they are.

    x* = argmax_x o(x) - r(x), `(N, *in)`, o the objective, r the regularisers; with `probability=p` it solves
    (log p_of(x) - log p)² + r(x) = min, the squared error of the log-probability, and each row stops when it is there
    (within 0.02 of p and 0.2 of its logit: between 0.880 and 0.917 for 0.9). A step that leaps over p goes back on its
    way to where p is met. The row of a stopped image moves no more.

    Args:
        model: a Keras model, a `torch.nn.Module`, or a function of a framework's tensors, with one input.
        of: a unit, a list of units (one image each, in one batch), `wrt.logit(unit)`, `wrt.layer(name, unit)`,
            `wrt.output(name, unit)`, a function of the output, those of `wrt.objectives` (all of a layer, a direction
            in it, a caricature), or a sum of these: `wrt.logit(3) - 0.5 * wrt.logit(7)`, `wrt.objective(3) + ...`.
            A unit of a layer counts in the forms of `wrt.gradient`: an integer on the last axis, `(3,)` on the first
            one (a channel of torch), `(i, j, c)` a single neuron, or a function of what the layer gives; what is
            left, such as places, is averaged. In a list: `wrt.layer(name, [3, 7])`, or `[(3,), (7,)]` for channels of
            torch. All terms of a sum are read from one evaluation of the model.
        like: an array `(N, *in)` of the shape of the input, where neither model nor start tell it; its values are not
            used. NumPy in, NumPy out; a tensor of the framework in, a tensor out.
        init: the start: `"gaussian"` (of deviation 0.01), `"uniform"` (within the bounds, else 0 to 1), `"zeros"`, an
            array `(N, *in)` or `(1, *in)`, or an earlier result, which goes on as if it had not been interrupted.
        probability: of the class `of`, to be reached; for models that end in logits, softmax or log-softmax.
        ends: in what the model ends, where that cannot be found: `"logits"`, `"probabilities"`, `"log-probabilities"`.
        loss: a function of the chosen values, `(N,)` to `(N,)`, which is minimised in place of their negative.
        steps: at most so many.
        optimizer: a name from torch.optim, optax (for JAX) or keras.optimizers (for TensorFlow), in any case.
        learning_rate: of the optimiser.
        regularizers: those of `wrt.regularizers`, or functions of the image, `(N, *in)` to `(N,)`; added to the loss.
        transforms: those of `wrt.transforms`: small movements, others in every step, before the model sees the image.
            What the history says is measured without them.
        parametrization: `"pixel"`; for images `"fourier"`, a spectrum of equal energy in decorrelated colours, or
            `"maco"`, the phases alone of a spectrum of natural magnitude, or of that of given images:
            `wrt.parametrizations.maco(images)`.
        bounds: `(low, high)`, numbers or arrays, that no entry leaves.
        data_format: `"channels_first"` or `"channels_last"`: where the channels of the image are, for regularisers,
            transforms and parametrisations of images. By default where the model's convolutions have them; of layers
            it counts where nothing is found.
        seed: of the start and the transforms; the same seed gives the same result.
        compile: whether to compile; by default on JAX and TensorFlow.
        progress: show a bar; by default on a terminal, for work of more than two seconds.

    Returns:
        A `Maximization`: of every row the best image (the lowest loss, or the first at the wanted probability), the
        history, and the model's outputs before and after. Ctrl-C returns what there is.

    Raises:
        SelectionError: a unit that does not exist, or a probability of what is no class.
        OptionError: a probability, an optimiser or another option that cannot be honoured, or `data_format` is needed.
        InputError: a start that does not fit the model, the units or the bounds, or where the loss is not finite.

    Example:
        >>> import torch, wrt
        >>> found = wrt.maximize(lambda x: -((x - 2) ** 2), 0, init=torch.zeros(1, 1), learning_rate=0.1, steps=200)
        >>> found.x.round(decimals=2)
        tensor([[2.]])

    Source: Erhan et al., Visualizing higher-layer features of a deep network, 2009; Olah, Mordvintsev and Schubert,
    Feature visualization, Distill 2017.
    """
    _check(steps, optimizer, learning_rate, seed)
    check_format(data_format)
    terms, bounds = listed(of), bounds_of(bounds)
    start = start_of(model, init, like, rows_of(terms), bounds, seed)
    image = start.put(start.values)
    options = Options(Request(mode="reverse", compile=compile), False, data_format=data_format)
    given = reg.listed(regularizers)
    goal = goal_of(model, image, terms, loss, probability, ends, options, reg.layers_of(given))

    def channel() -> int | None:
        return of_input(model, image, data_format)

    question = _question(start, goal, given, transforms, parametrization, bounds, probability, seed, channel)
    ascent = _begin(question, init, optimizer, float(learning_rate))
    before = outputs_of(goal, _image(question, ascent.params), ends)
    ascent.run(steps, progress)
    return _result(ascent, before, ends, optimizer.lower(), _units_of(terms, len(start.values)))


def _question(
    start: Any, goal: Any, given: Any, transforms: Any, name: Any, bounds: Any, wanted: Any, seed: int, channel: Channel
) -> Question:
    rows, *shape = start.values.shape
    axes = reg.prepared(given, tuple(shape), rows, channel)
    moves = tra.checked(transforms)
    axes = axes_of(tuple(shape), channel, "transforms=") if moves else axes
    picture = picture_of(name, tuple(shape), channel, bounds)
    return Question(start, goal, picture, given, moves, axes, bounds, wanted, seed)


def _begin(question: Question, init: Any, name: str, rate: float) -> Ascent:
    """An ascent at its start, or where an earlier one stood."""
    start = question.start
    old = init.resume if isinstance(init, Maximization) else None
    if old is None:
        params = start.put(question.picture.params(start.values, question.bounds))
        return Ascent(question, start.engine.optimizer(name, rate, [params]), params)
    if (old["optimizer"], old["picture"]) != (name.lower(), question.picture.key):
        raise OptionError(
            "init= is a result of another optimizer= or parametrization=; start from its image: init=result.x"
        )
    params = start.put(old["params"])
    optimizer = start.engine.optimizer(name, rate, [params])
    optimizer.restore(old["memory"])
    return Ascent(question, optimizer, params, old["step"], start.put(old["best"]))


def _result(ascent: Ascent, before: Any, ends: str | None, name: str, units: np.ndarray | None) -> Maximization:
    question, host = ascent.question, ascent.question.engine.numpy
    image = _image(question, ascent.best)
    resume = {
        "params": host(ascent.params),
        "best": host(ascent.best),
        "memory": ascent.optimizer.state(),
        "step": ascent.first + int(ascent.taken),
        "optimizer": name,
        "picture": question.picture.key,
    }
    history = {name: np.stack(lines) for name, lines in ascent.lines.items()}
    x = image if question.start.tensor else np.array(host(image))
    after = outputs_of(question.goal, image, ends)
    counts = ascent.steps, ascent.reached, ascent.stopped
    return Maximization(x, history, before, after, *counts, resume, units, question.wanted)


def _units_of(terms: Terms, rows: int) -> np.ndarray | None:
    """The number of the unit of each row; none for sums, functions, and units in several axes."""
    of = terms[0][1]
    unit = of.unit if isinstance(of, Selection) else of
    unit = unit[0] if isinstance(unit, tuple) and len(unit) == 1 else unit
    unit = np.array(unit)[:, 0] if isinstance(unit, list) and len(unit[0]) == 1 else unit  # channels, as tuples
    if len(terms) > 1 or not isinstance(unit, int | np.integer | np.ndarray) or np.ndim(unit) > 1:
        return None
    found: np.ndarray = np.array(np.broadcast_to(unit, (rows,)))
    return found


def _image(question: Question, params: Any) -> Any:
    return question.picture.image(question.engine, params, question.data()["bounds"])


def _check(steps: Any, optimizer: Any, rate: Any, seed: Any) -> None:
    check_count("steps", steps)
    check_count("seed", seed, least=0)
    if not isinstance(optimizer, str):
        raise OptionError(f"optimizer={optimizer!r}; expected a name of the framework's, such as 'adam'")
    if not reg.is_positive(rate):
        raise OptionError(f"learning_rate={rate!r}; expected a number above 0")
