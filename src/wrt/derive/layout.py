"""Which axis holds the channels: what the user says, what the model says of itself, and what its program shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from wrt.derive.inputs import Inputs, accept, engine_of, resolve
from wrt.derive.job import Job
from wrt.derive.known import example_of
from wrt.derive.problem import diff_of
from wrt.engines import adapt
from wrt.engines.base import Array, Arrays
from wrt.engines.layout import Claims
from wrt.engines.network import Adapted, Site, Taps
from wrt.errors import OptionError, suggest
from wrt.trees import flatten, unflatten

FORMATS = ("channels_first", "channels_last")
Shape = tuple[int, ...]
Found = tuple[Claims, Claims]  # axes of channels, and axes of features, which count where there are none of those


def axis_of(data_format: str | None, rank: int) -> int | None:
    """The axis, samples counted, that `data_format=` means; `None` where it says nothing.

    Raises:
        OptionError: another word.
    """
    check_format(data_format)
    return None if data_format is None else 1 if data_format == "channels_first" else rank - 1


def check_format(data_format: Any) -> None:
    """Raises `OptionError` where `data_format=` is none of Keras's words."""
    if data_format is not None and (not isinstance(data_format, str) or data_format not in FORMATS):
        raise OptionError(f"data_format={data_format!r} is not a choice.{suggest(str(data_format), FORMATS)}")


def input_axis(
    adapted: Adapted, inputs: Inputs, number: int, data_format: str | None = None, primary: bool = True
) -> int | None:
    """The axis of the channels of an input, samples counted; `None` where there are no channels beside positions.

    What the user says is about this input where it is `primary`. Where it is about a layer, what is found counts first.

    Raises:
        OptionError: they are nowhere to be seen, or the word is none.
    """
    shape = tuple(inputs.leaves[number].shape)
    said, rank = axis_of(data_format, len(shape)), len(shape)
    if rank < 3 or (said and primary):
        return said if rank > 2 else None
    network = adapted.network
    own = network.layout("", rank)
    found = frozenset({own}) if own else _kept(adapted, inputs, "inputs", lambda: _see_inputs(adapted, inputs))[number]
    return _decided(found, said or network.usual("", rank), "x", shape[1:])


def place_axis(
    adapted: Adapted, inputs: Inputs, place: int | Site, tensor: tuple[Shape, str], data_format: str | None = None
) -> int | None:
    """The axis of the channels of an input or of what a layer gives, a tensor of this shape per sample and dtype."""
    if isinstance(place, int):
        return input_axis(adapted, inputs, place, data_format)
    rank = len(tensor[0]) + 1
    said = axis_of(data_format, rank)
    return None if rank < 3 else said or _of_site(adapted, inputs, place, tensor, None)


def wrt_axis(job: Job) -> int | None:
    """The axis of the channels of the one tensor of `wrt=`."""
    place, shape = job.recipe.problem.wrt.chosen[0], job.recipe.shapes.ins[0]
    tensor = (shape, "") if isinstance(place, int) else job.recipe.shapes.sites[place]
    return place_axis(job.adapted, job.inputs, place, tensor, job.options.data_format)


def output_axis(job: Job) -> int:
    """The axis of the channels of what `of=` chooses from; the last one of (N, units).

    `data_format=` is about the input here, so that what is found counts first.

    Raises:
        OptionError: they are nowhere to be seen.
    """
    shape, target = job.recipe.shapes.outs[0], job.recipe.problem.target
    adapted, rank = job.adapted, len(shape) + 1
    if rank < 3:
        return rank - 1
    said = axis_of(job.options.data_format, rank)
    if target.source == "layer" and target.site is not None:
        tensor = shape, adapted.network.dtype or "float32"
        return _of_site(adapted, job.inputs, target.site, tensor, said) or rank - 1
    own = adapted.network.layout("", rank)
    if own is None:
        found = _best(_kept(adapted, job.inputs, ("output", target.key), lambda: _see_output(job)))
        own = _decided(found, said, "what of= chooses", shape)
    return own or rank - 1


def of_input(model: Any, x: Any, data_format: str | None = None, primary: bool = True, number: int = 0) -> int | None:
    """`input_axis` of the input of a model."""
    kind = engine_of(x)
    adapted = adapt.adapt(model, x, kind)
    return input_axis(adapted, accept(adapted.network, x, kind), number, data_format, primary)


def of_wrt(model: Any, x: Any, wrt: Any, shapes: Sequence[Shape], data_format: str | None) -> list[int | None]:
    """`place_axis` of every tensor of `wrt=`, of these shapes per sample."""
    kind = engine_of(x)
    adapted = adapt.adapt(model, x, kind)
    inputs = accept(adapted.network, x, kind)
    chosen = resolve(wrt, inputs, adapted.network).chosen
    dtype = adapted.network.dtype or "float32"
    return [place_axis(adapted, inputs, p, (s, dtype), data_format) for p, s in zip(chosen, shapes, strict=True)]


def positions(shape: Shape, axis: int | None) -> Shape:
    """A shape per sample without its channels; none where there are no channels beside positions."""
    if len(shape) < 2:
        return ()
    return shape if axis is None else shape[: axis - 1] + shape[axis:]


def _of_site(adapted: Adapted, inputs: Inputs, site: Site, tensor: tuple[Shape, str], said: int | None) -> int | None:
    network, rank = adapted.network, len(tensor[0]) + 1
    own = network.layout(site[0], rank)
    if own:
        return own
    found = _kept(adapted, inputs, ("layer", site), lambda: _see_layer(adapted, inputs, site, tensor))
    return _decided(_best(found), said or network.usual(site[0], rank), f"layer {site[0]!r}", tensor[0])


def _best(found: Found) -> Claims:
    return found[0] or found[1]


def _decided(found: Claims, fallback: int | None, what: str, shape: Shape) -> int | None:
    """The one axis that was found, or what else there is to go by."""
    if len(found) == 1:
        return next(iter(found))
    if fallback is not None and not found:
        return fallback
    seen = (
        f"what takes its channels does not agree where they are (axes {sorted(a or 0 for a in found)})"
        if found
        else "no convolution, pooling or other layer was seen that takes or gives its channels"
    )
    raise OptionError(
        f"data_format= is needed: {what} has shape (N, {', '.join(map(str, shape))}), and {seen}; "
        "say whether they come first or last by data_format='channels_first' or data_format='channels_last'"
    )


def _kept(adapted: Adapted, inputs: Inputs, what: Any, see: Callable[[], Any]) -> Any:
    if adapted.network.follows:  # as it is now
        return see()
    key = ("channels", what, inputs.signature, adapted.network.fingerprint())
    found = adapted.cache.get(key)
    if found is None:
        found = adapted.cache[key] = see()
    return found


def _see_inputs(adapted: Adapted, inputs: Inputs) -> list[Claims]:
    """Of every input, the axes that the program takes for its channels."""
    network, state = adapted.network, adapted.state(False)

    def f(leaves: Arrays) -> Arrays:
        return flatten(network.apply(state, unflatten(inputs.structure, leaves), Taps()))[0]

    return _walked(network, f, example_of(network, inputs))[0]


def _see_layer(adapted: Adapted, inputs: Inputs, site: Site, tensor: tuple[Shape, str]) -> Found:
    """Where a layer puts its channels, and where what comes behind it takes them."""
    network, state = adapted.network, adapted.state(False)
    example = example_of(network, inputs)

    def f(arrays: Arrays) -> Arrays:
        taps = Taps(add={site: arrays[0]}, watch=(site,))
        y = network.apply(state, unflatten(inputs.structure, arrays[1:]), taps)
        return [taps.seen[site], *flatten(y)[0]]

    taken, put = _walked(network, f, [network.engine.zeros(example[0], *tensor), *example])
    channels, features = put[0]
    _kept(adapted, inputs, "inputs", lambda: taken[1:])  # the same evaluation shows these
    return channels | taken[0], features


def _see_output(job: Job) -> Found:
    network, problem = job.adapted.network, job.recipe.problem
    example = example_of(network, job.inputs)
    diff, fixed = diff_of(problem, example, job.recipe.shapes.sites)
    return _walked(network, problem.function(job.adapted.state(False), fixed, None), diff)[1][0]


def _walked(network: Any, f: Callable[[Arrays], Arrays], primals: list[Array]) -> tuple[list[Claims], list[Found]]:
    """What the program shows; nothing where it cannot be walked through, of whatever kind the reason is."""
    try:
        return network.engine.channels(f, primals)  # type: ignore[no-any-return]
    except Exception:  # that the model runs at all is checked where it is differentiated or evaluated
        return [frozenset()] * len(primals), [(frozenset(), frozenset())]
