"""Which layers a model runs through, in order, and where the last convolution ends."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from wrt.derive.inputs import Inputs, accept, engine_of
from wrt.derive.known import example_of
from wrt.derive.layout import positions
from wrt.engines import adapt
from wrt.engines.base import Array, Arrays
from wrt.engines.network import Adapted, Network, Site, Taps
from wrt.errors import InputError, SelectionError, WrtError, reason, suggest
from wrt.select import Layer
from wrt.trees import unflatten

Shape = tuple[int, ...]


@dataclass
class Log(Taps):
    """Notes every call of every layer in the order in which they end, with the shape per sample."""

    layers: frozenset[str] = frozenset()
    found: list[tuple[Site, Shape]] = field(default_factory=list)

    @property
    def names(self) -> set[str]:
        return set(self.layers)

    def visit(self, name: str, value: Array) -> Array:
        call = self.calls.get(name, 0)
        self.calls[name] = call + 1
        self.found.append(((name, call), tuple(getattr(value, "shape", ()))[1:]))
        return value

    def several(self, name: str) -> None:
        """Such a layer has its place, and no shape to note."""
        self.visit(name, None)

    def finish(self) -> None:
        """What is never called is no mistake here."""


def calls(model: Any, x: Any) -> list[tuple[Site, Shape]]:
    """Every call of a layer and the shape per sample of what it gave, in order; one abstract evaluation, kept.

    Raises:
        InputError: the model cannot be evaluated on x.
    """
    kind = engine_of(x)
    adapted = adapt.adapt(model, x, kind)
    inputs = accept(adapted.network, x, kind)
    if adapted.network.follows:  # as they are made now
        return _listen(adapted, inputs)
    key = ("calls", inputs.signature, adapted.network.fingerprint())
    found = adapted.cache.get(key)
    if found is None:
        found = adapted.cache[key] = _listen(adapted, inputs)
    return found


def _listen(adapted: Adapted, inputs: Inputs) -> list[tuple[Site, Shape]]:
    network, state = adapted.network, adapted.state(False)
    names = frozenset(network.layers())
    found: list[tuple[Site, Shape]] = []
    if not names:
        return found
    example = example_of(network, inputs)

    def look(_: Arrays) -> Arrays:
        log = Log(layers=names)
        network.apply(state, unflatten(inputs.structure, example), log)
        found[:] = log.found  # an engine may evaluate more than once
        return []

    try:
        network.engine.inspect(look, [])
    except WrtError:
        raise
    except Exception as error:
        raise InputError(f"the model cannot be evaluated on x: {type(error).__name__}: {reason(error)}") from error
    return found


def last_convolution(model: Any, x: Any) -> Layer:
    """Where the last convolution ends: the last layer whose output has the positions of the last convolution's.

    So normalisation, activation and addition behind it belong to it, and pooling does not. Convolutions of a single
    position, which follow a pooling in some models, do not count.

    Raises:
        SelectionError: the model has no convolutional layer, or no layers at all.
    """
    found = calls(model, x)
    network = adapt.adapt(model, x, engine_of(x)).network
    known = set(network.convolutions())
    places = [_positions(network, site, shape) for site, shape in found]
    last = [p for ((name, _), _), p in zip(found, places, strict=True) if name in known and math.prod(p) > 1]
    if not last:
        raise SelectionError(_no_convolution(found, places))
    name, call = [site for (site, _), place in zip(found, places, strict=True) if place == last[-1]][-1]
    return Layer(name, call=call)


def _positions(network: Network, site: Site, shape: Shape) -> Shape:
    """The positions of a layer as convolutions have them, which are looked for here."""
    rank = len(shape) + 1
    return positions(shape, network.layout(site[0], rank) or network.usual(site[0], rank) or 1)


def spatial_layers(model: Any, x: Any) -> list[str]:
    """The names of the layers that give several positions."""
    network = adapt.adapt(model, x, engine_of(x)).network
    found = [site[0] for site, shape in calls(model, x) if math.prod(_positions(network, site, shape)) > 1]
    return list(dict.fromkeys(found))


def _no_convolution(found: list[tuple[Site, Shape]], places: list[Shape]) -> str:
    if not found:
        return (
            "wrt= is missing: a function has no layers among which a convolution could be found; pass the Keras model "
            "or torch.nn.Module itself, or a function of the activation, which is then the x, with wrt=0"
        )
    names = [name for ((name, _), _), place in zip(found, places, strict=True) if math.prod(place) > 1]
    way = f"choose a layer with spatial axes by wrt=wrt.layer('name').{suggest('', names)}"
    none = "wrt= is missing, and the model has no convolutional layer with spatial axes; "
    return none + (way if names else "no other layer has them either, so there is no map to make")
