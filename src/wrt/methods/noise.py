"""Any method over several versions of the input: with noise (SmoothGrad, VarGrad), or resized and mirrored."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from wrt.derive.choose import check_count
from wrt.derive.inputs import accept, engine_of
from wrt.derive.layout import of_input
from wrt.derive.values import outputs_of
from wrt.engines import adapt, registry
from wrt.engines.base import Array
from wrt.errors import DtypeError, InputError, OptionError, suggest
from wrt.methods.masked import ROWS, repeated
from wrt.methods.method import METHODS, find, plain, takes
from wrt.methods.resize import mirrored, resized
from wrt.methods.values import settled
from wrt.progress import progress_bar
from wrt.select import Layer
from wrt.trees import flatten, unflatten

Kind = Literal["mean", "var", "squared"]
REPETITIONS = 20


def smooth(
    method: str | Callable[..., Any],
    *,
    repetitions: int | None = None,
    noise: Any = 0.1,
    kind: Kind = "mean",
    seed: int = 0,
) -> Callable[..., Any]:
    """A method over noisy copies of the input: SmoothGrad for any method.

    The result is a method itself, `f(model, x, of=None, *, wrt=None, with_output=False, ...)`. Its maps are the mean of
    the method's maps at `x + noise` (SmoothGrad), their variance (VarGrad) or the mean of their squares, `(N, *in)`, or
    `(N, K, *in)` for K units. The units of `"max"` and `wrt.top(k)`, and the outputs, are those at `x` itself.

    Args:
        method: a name in `wrt.methods.METHODS`, or a function such as `wrt.gradient`.
        repetitions: noisy copies; 20 by default, or as many as `noise` holds.
        noise: the standard deviation of normal noise, in units of `x`; or the noise itself, `(repetitions, N, *in)` or
            `(repetitions, 1, *in)`, nested as `x`.
        kind: `"mean"`, `"var"` or `"squared"`.
        seed: of the noise; the same seed gives the same maps.

    Raises:
        OptionError: an argument has a value that cannot be honoured.
        InputError: the noise does not fit `x` (when the result is called).
        DtypeError: `x` holds integers only, to which no noise can be added (when the result is called).

    Example:
        >>> import numpy as np, wrt
        >>> f, x = lambda x: x[:, 0] ** 2, np.array([[3.0]])
        >>> wrt.smooth("gradient", noise=np.array([[[-1.0]], [[2.0]]]))(f, x).round(6)
        array([[7.]])

    Source: Smilkov et al., arXiv:1706.03825 (SmoothGrad); Adebayo et al., arXiv:1810.03307 (VarGrad); Hooker et al.,
    arXiv:1806.10758 (squared).
    """
    if kind not in ("mean", "var", "squared"):
        raise OptionError(f"kind={kind!r} is not a choice.{suggest(str(kind), ['mean', 'var', 'squared'])}")
    return Smooth(find(method), _repetitions(repetitions, noise), noise, kind, seed)


def tta(
    method: str | Callable[..., Any], *, scales: Sequence[float] = (1.0,), hflip: bool = True
) -> Callable[..., Any]:
    """A method over resized and mirrored copies of images: test-time augmentation.

    The result is a method itself, `f(model, x, of=None, *, wrt=None, with_output=False, ...)`. Every copy's map is
    brought back to the size (that of the first copy's map) and orientation of the image; the result is their mean.
    The units of `"max"` and `wrt.top(k)`, and the outputs, are those at `x` itself.

    Args:
        method: a name in `wrt.methods.METHODS`, or a function such as `wrt.methods.grad_cam`.
        scales: sizes of the copies, 1 being that of `x`; the model must take images of these sizes.
        hflip: whether every copy also comes mirrored, left to right (the last spatial axis).

    Raises:
        OptionError: an argument has a value that cannot be honoured.
        InputError: `x` is not one array with spatial axes (when the result is called).
        OptionError: the axis of the channels is nowhere to be seen; `data_format=` says it (when the result is called).

    Example:
        >>> import numpy as np, wrt
        >>> f, x = lambda x: x[:, 0, 0, 0] ** 2, np.array([[[[3.0], [5.0]]]])
        >>> wrt.tta("gradient")(f, x, data_format="channels_last").round(6).ravel()
        array([3., 5.])

    Source: as keras-explainable's `tta`; Shanmugam et al., arXiv:2011.11156, on the practice.
    """
    given = tuple(scales) if isinstance(scales, Iterable) else (scales,)
    good = [isinstance(s, int | float | np.number) and math.isfinite(s) and s > 0 for s in given]
    if not given or not all(good):
        raise OptionError(f"scales={scales!r}; expected positive numbers such as (0.75, 1.0, 1.25)")
    if not isinstance(hflip, bool):
        raise OptionError(f"hflip={hflip!r}; expected True or False")
    return Augmented(find(method), tuple(map(float, given)), hflip)


@dataclass(frozen=True)
class Smooth:
    """A method over noisy copies; made by `wrt.smooth`."""

    method: Callable[..., Any]
    repetitions: int
    noise: Any
    kind: str
    seed: int

    def __call__(
        self, model: Any, x: Any, of: Any = None, *, wrt: Any = None, with_output: bool = False, **options: Any
    ) -> Any:
        """The maps; with `with_output=True` the outputs at `x` as well."""
        chosen = settled(model, x, of, wrt, plain(options))
        given = _given(self.method, options, wrt)
        copies = self._copies(x, _floating(model, x))
        most = self._at_a_time(x, given)
        with progress_bar(self.repetitions, options.get("progress"), "noisy copies") as advance:
            maps = _collected(self._maps(model, copies, chosen, given, most), self.kind, advance)
        return (maps, outputs_of(model, x, chosen, wrt, plain(options))) if with_output else maps

    def _maps(self, model: Any, copies: Iterator[Any], of: Any, given: dict[str, Any], most: int) -> Iterator[Any]:
        """The maps of one copy after the other; `most` of them go through the method at a time, in equal parts."""
        size = -(-self.repetitions // -(-self.repetitions // most))
        while group := list(itertools.islice(copies, size)):
            if len(group) == 1:
                yield self.method(model, group[0], of, **given)
                continue
            leaves, structure = flatten(self.method(model, _joined(group), repeated(of, len(group)), **given))
            samples = leaves[0].shape[0] // len(group)
            for start in range(0, samples * len(group), samples):
                yield unflatten(structure, [a[start : start + samples] for a in leaves])

    def _at_a_time(self, x: Any, given: dict[str, Any]) -> int:
        """Several copies as one batch: where the method treats every sample by itself, and no option is about some."""
        known = any(m.function is self.method for m in METHODS.values())
        if not known or not all(isinstance(v, int | float | str | Layer | None) for v in given.values()):
            return 1
        samples = _shape(flatten(x)[0][0])[0]
        return max(1, min(ROWS, given.get("batch_size") or ROWS) // samples) if samples else 1

    def _copies(self, x: Any, floating: list[bool]) -> Iterator[Any]:
        leaves, structure = flatten(x)
        if not any(floating):
            raise DtypeError("x holds integers only, to which no noise can be added; use a method without noise")
        held = self._held(x, leaves)
        for number in range(self.repetitions):
            rng = np.random.default_rng((self.seed, number))
            yield unflatten(
                structure,
                [
                    _added(leaf, rng.normal(size=_shape(leaf)) * self.noise if held is None else held[i][number])
                    if floating[i]
                    else leaf
                    for i, leaf in enumerate(leaves)
                ],
            )

    def _held(self, x: Any, leaves: list[Any]) -> list[np.ndarray] | None:
        """The noise that was given as arrays, one for each array of x."""
        if isinstance(self.noise, int | float | np.number):
            return None
        tree = {k: self.noise[k] for k in x} if isinstance(x, dict) and isinstance(self.noise, dict) else self.noise
        given = flatten(tree)[0]
        if len(given) != len(leaves):
            raise InputError(f"noise holds {len(given)} array(s); expected {len(leaves)}, nested as x")
        for value, leaf in zip(given, leaves, strict=True):
            found, wanted = tuple(np.shape(value)), _shape(leaf)
            if found[1:] not in (wanted, (1, *wanted[1:])):
                raise InputError(f"noise has shape {found}; expected (repetitions, {', '.join(map(str, wanted))})")
        return given


def _given(method: Callable[..., Any], options: dict[str, Any], wrt: Any) -> dict[str, Any]:
    """What the method is called with; where channels are, if it asks for that."""
    kept = {k: v for k, v in options.items() if k != "data_format" or takes(method, k)}
    return kept if wrt is None else {**kept, "wrt": wrt}


def _joined(copies: Sequence[Any]) -> Any:
    """The copies one after the other, as one batch."""
    rows, structures = zip(*map(flatten, copies), strict=True)
    homes = [registry.owner(leaf) or registry.engine("reference") for leaf in rows[0]]
    return unflatten(structures[0], [h.concatenate(leaves) for h, *leaves in zip(homes, *rows, strict=True)])


def _repetitions(repetitions: Any, noise: Any) -> int:
    """How many copies there are."""
    held = _length(noise)
    found = (held or REPETITIONS) if repetitions is None else repetitions
    check_count("repetitions", found)
    if held not in (None, found):
        raise OptionError(f"repetitions={found}, but noise holds {held}; leave repetitions out")
    return int(found)


def _length(noise: Any) -> int | None:
    """The number of copies that the noise is given for; `None` where it is a deviation."""
    if isinstance(noise, int | float | np.number) and not isinstance(noise, bool):
        if not math.isfinite(noise) or noise < 0:
            raise OptionError(f"noise={noise!r}; expected a standard deviation, or an array (repetitions, N, *in)")
        return None
    lengths = {np.shape(leaf)[0] if np.ndim(leaf) else 0 for leaf in flatten(noise)[0]}
    if len(lengths) != 1 or 0 in lengths:
        raise OptionError("noise holds no arrays of one length; expected a deviation, or arrays (repetitions, N, *in)")
    return lengths.pop()


def _floating(model: Any, x: Any) -> list[bool]:
    """Which arrays of x are no integers to the model."""
    kind = engine_of(x)
    return ["float" in dtype for dtype in accept(adapt.adapt(model, x, kind).network, x, kind).dtypes]


def _shape(leaf: Any) -> tuple[int, ...]:
    shape = tuple(np.shape(leaf))
    if None in shape:
        raise InputError(f"x has the open shape {shape} here; noise is drawn for a known one")
    return shape


def _added(leaf: Any, noise: Any) -> Any:
    engine = registry.owner(leaf)
    if engine is not None:
        return leaf + engine.asarray(noise, engine.dtype(leaf), leaf)
    value = np.asarray(leaf)
    return value + np.asarray(noise, value.dtype if value.dtype.kind == "f" else float)


def _collected(parts: Iterable[Any], kind: str, advance: Callable[[int], None]) -> Any:
    """Mean, variance or mean square, updated with every map, so that only one of them is held at a time."""
    mean: list[Any] = []
    spread: list[Any] = []
    for count, part in enumerate(parts, 1):
        leaves, structure = flatten(part)
        if kind == "squared":
            leaves = [m * m for m in leaves]
        if count == 1:
            mean, spread = leaves, [m * 0 for m in leaves]
        else:
            before, mean = mean, [a + (m - a) / count for m, a in zip(leaves, mean, strict=True)]
            spread = [s + (m - b) * (m - a) for s, m, b, a in zip(spread, leaves, before, mean, strict=True)]
        advance(1)
    return unflatten(structure, [s / count for s in spread] if kind == "var" else mean)


@dataclass(frozen=True)
class Augmented:
    """A method over resized and mirrored copies; made by `wrt.tta`."""

    method: Callable[..., Any]
    scales: tuple[float, ...]
    hflip: bool

    def __call__(
        self, model: Any, x: Any, of: Any = None, *, wrt: Any = None, with_output: bool = False, **options: Any
    ) -> Any:
        """The maps; with `with_output=True` the outputs at `x` as well."""
        data_format = options.get("data_format")
        view = _View.of(model, x, data_format, not isinstance(wrt, Layer))
        chosen = settled(model, x, of, wrt, plain(options))
        outputs = outputs_of(model, x, chosen, wrt, plain(options))
        given = _given(self.method, options, wrt)
        variants = [(scale, flip) for scale in self.scales for flip in ((False, True) if self.hflip else (False,))]
        total: Any = None
        sizes: list[int] | None = None
        with progress_bar(len(variants), options.get("progress"), "copies") as advance:
            for scale, flip in variants:
                copy = view.copy(scale, flip)
                part = self.method(model, copy, chosen, **given)
                part, sizes = view.back(part, copy, flip, len(outputs.shape), sizes)
                total = part if total is None else total + part
                advance(1)
        maps = total / len(variants)
        return (maps, outputs) if with_output else maps


@dataclass(frozen=True)
class _View:
    """Images, and where their spatial axes are."""

    x: Array
    channel: int | None

    @staticmethod
    def of(model: Any, x: Any, data_format: str | None, primary: bool) -> _View:
        leaves, structure = flatten(x)
        if not structure.is_leaf or len(np.shape(leaves[0])) < 3:
            raise InputError(
                "x must be one array with spatial axes, (N, *spatial, channels), to be resized or mirrored"
            )
        value = x if registry.owner(x) else np.asarray(x)
        return _View(value, of_input(model, x, data_format, primary))

    @property
    def axes(self) -> list[int]:
        """The spatial axes of x."""
        return [axis for axis in range(1, len(self.x.shape)) if axis != self.channel]

    def copy(self, scale: float, flip: bool) -> Array:
        engine = registry.owner(self.x) or registry.engine("reference")
        sizes = [max(1, round(self.x.shape[axis] * scale)) for axis in self.axes]
        found = resized(engine, self.x, sizes, self.axes)
        return mirrored(engine, found, self.axes[-1]) if flip else found

    def back(self, part: Any, copy: Array, flip: bool, lead: int, sizes: list[int] | None) -> tuple[Any, list[int]]:
        """The map of a copy as of x itself: of its size, or of these sizes; `lead` axes number the maps."""
        engine = registry.owner(part) or registry.engine("reference")
        rank, spatial = len(part.shape) - lead, len(self.axes)
        if rank not in (spatial, len(self.x.shape) - 1):
            raise InputError(f"the method gives maps of shape {tuple(part.shape)}, without the spatial axes of x")
        whole = rank == len(self.x.shape) - 1
        axes = [lead - 1 + axis for axis in self.axes] if whole else list(range(lead, lead + spatial))
        found = [part.shape[axis] for axis in axes]
        if found == [copy.shape[axis] for axis in self.axes]:
            sizes = [self.x.shape[axis] for axis in self.axes]
        sizes = sizes or found
        turned = mirrored(engine, part, axes[-1]) if flip else part
        return resized(engine, turned, sizes, axes), sizes
