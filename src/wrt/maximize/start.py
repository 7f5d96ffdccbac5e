"""Where an ascent begins: how many images of what shape, and the values they have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from wrt.derive import inputs as inp
from wrt.engines import adapt, registry
from wrt.engines.base import Array, Engine
from wrt.engines.network import Network
from wrt.errors import DtypeError, InputError, ModelError, OptionError, suggest
from wrt.results import Maximization
from wrt.trees import flatten

DRAWN = ("gaussian", "uniform", "zeros")
DEVIATION = 0.01  # of a Gaussian start
GIVE = "pass like=, an array (N, *in) of the shape of the model's input, or the start itself as init="


@dataclass(frozen=True)
class Start:
    """The first images, and where they live."""

    network: Network
    values: np.ndarray  # (N, *in)
    dtype: str
    tensor: bool  # a tensor came in, so a tensor goes out
    like: Array | None  # a weight or the tensor that came in, for the device

    @property
    def engine(self) -> Engine:
        return self.network.engine

    def put(self, value: Any) -> Array:
        """Values as a tensor beside the model's weights."""
        return self.engine.asarray(value, self.dtype, self.like)


def start_of(model: Any, init: Any, like: Any, rows: int | None, bounds: Any, seed: int) -> Start:
    """The start that `init=` means, for `rows` images.

    Raises:
        InputError: the shape is not known, or an array does not fit the model, the units or the bounds.
        OptionError: the name of no distribution.
    """
    drawn = isinstance(init, str)
    if drawn and init not in DRAWN:
        raise OptionError(f"init={init!r} is not a distribution.{suggest(init, DRAWN)} Or give an array (N, *in)")
    sample = like if drawn else init.x if isinstance(init, Maximization) else init
    network, shape = _network(model, sample)
    dtype = _dtype(network, sample)
    _check_bounds(bounds, (max(rows or 1, 1 if drawn else len(sample)), *shape))
    if drawn:
        values = _draw(init, (rows or 1, *shape), bounds, seed)
    else:
        values = _given(registry.host(sample), rows, bounds)
    tensor = registry.owner(sample) is not None
    weight = network.like()
    return Start(network, values, dtype, tensor, sample if weight is None and tensor else weight)


def bounds_of(given: Any, name: str = "bounds") -> tuple[np.ndarray, np.ndarray] | None:
    """The lowest and the highest values that are allowed; `None` where none were given.

    Raises:
        OptionError: no pair of numbers or arrays, the first below the second.
    """
    if given is None:
        return None
    try:
        low, high = (np.asarray(b, float) for b in given)
    except (TypeError, ValueError) as error:
        raise OptionError(f"{name}={given!r}; expected (low, high), two numbers or arrays") from error
    if not (low < high).all():  # NaN is no bound either
        raise OptionError(f"{name}={given!r}; expected low < high everywhere")
    return low, high


def _check_bounds(bounds: Any, shape: tuple[int, ...]) -> None:
    for bound in () if bounds is None else bounds:
        try:
            fits = np.broadcast_shapes(bound.shape, shape) == shape
        except ValueError:
            fits = False
        if not fits:
            raise InputError(
                f"bounds= holds an array of shape {bound.shape}; expected numbers, or the shape {shape[1:]}"
            )


def _network(model: Any, sample: Any) -> tuple[Network, tuple[int, ...]]:
    """The model's network and the shape of one input."""
    if len(flatten(sample)[0]) > 1 and (isinstance(sample, dict) or any(hasattr(s, "shape") for s in sample)):
        raise InputError("init= and like= are one array; models with several inputs cannot be maximised yet")
    kind = None if sample is None else inp.engine_of(sample)
    try:
        network = adapt.adapt(model, sample, kind).network
    except ModelError as error:
        if sample is None and callable(model) and not isinstance(model, type):
            raise InputError(f"the model does not tell the shape of its input; {GIVE}") from error
        raise
    if len(network.inputs) > 1:
        names = ", ".join(repr(spec.name) for spec in network.inputs)
        raise InputError(f"the model has {len(network.inputs)} inputs ({names}); wrt.maximize takes models with one")
    if sample is not None:
        checked = inp.accept(network, sample, kind)
        return network, tuple(int(size) for size in checked.leaves[0].shape[1:])
    known = network.inputs[0].shape if network.inputs else None
    if known is None or None in known[1:]:
        raise InputError(f"the model does not tell the shape of its input; {GIVE}")
    return network, tuple(int(size or 0) for size in known[1:])


def _dtype(network: Network, sample: Any) -> str:
    said = network.inputs[0].dtype if network.inputs else network.dtype
    if said is not None and "float" not in said:
        raise DtypeError(
            f"the model takes {said}, and integers cannot climb by a little; of a model of token ids take the part "
            "behind the embedding, or reach its layers with wrt.gradient(..., wrt='<the embedding layer>')"
        )
    if said is not None:
        return said
    owner = registry.owner(sample) if sample is not None else None
    found = owner.dtype(sample) if owner else str(getattr(sample, "dtype", "float32"))
    return found if "float" in found else "float32"


def _draw(name: str, shape: tuple[int, ...], bounds: Any, seed: int) -> np.ndarray:
    """Drawn values, those outside the bounds moved to them."""
    rng = np.random.default_rng(seed)
    low, high = (0.0, 1.0) if bounds is None else bounds
    if name == "gaussian":
        values = rng.normal(0, DEVIATION, shape)
    else:
        values = np.zeros(shape) if name == "zeros" else rng.uniform(low, high, shape)
    return values if bounds is None else np.clip(values, low, high)


def _given(values: np.ndarray, rows: int | None, bounds: Any) -> np.ndarray:
    if len(values) == 0:
        raise InputError("init= holds no row; expected (N, *in), one row per image")
    if not np.isfinite(values).all():
        raise InputError("init= holds NaN or infinite values; an ascent begins at finite ones")
    if rows not in (None, 1, len(values)) and len(values) != 1:
        raise InputError(f"init= has {len(values)} rows but of= asks for {rows} images; expected 1 or {rows} rows")
    if bounds is not None and ((values < bounds[0]) | (values > bounds[1])).any():
        raise InputError(
            f"init= lies between {values.min():.4g} and {values.max():.4g}, outside bounds=; "
            "clip the start, or give wider bounds"
        )
    count = max(rows or 1, len(values))
    return np.repeat(values, count, 0) if len(values) == 1 else values
