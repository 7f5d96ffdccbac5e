"""Attribution by changing the input and looking at the output: no derivative, any model."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np

from wrt.engines import registry
from wrt.engines.base import Array
from wrt.errors import DtypeError, InputError, OptionError
from wrt.methods.masked import Subject, covers, per_axis
from wrt.methods.method import Common, options_of, register
from wrt.methods.resize import matrix

Axes = tuple[int, ...]
Drawn = tuple[np.ndarray, list[np.ndarray]]  # cells, and by how much each mask is shifted along every axis


@register(
    paper="Zeiler and Fergus, Visualizing and understanding convolutional networks, ECCV 2014",
    invariants={"implementation invariance"},
)
def occlusion(
    model: Any,
    x: Any,
    of: Any = None,
    *,
    wrt: Any = None,
    window: int | Sequence[int] | None = None,
    stride: int | Sequence[int] | None = None,
    baseline: Any = 0.0,
    with_output: bool = False,
    **options: Unpack[Common],
) -> Any:
    """What the output loses when a window of the input is covered.

    m[n, i] = mean over the windows w that cover i of y_of(x[n]) - y_of(x[n] with the baseline in w). Shape `(N, *in)`,
    or `(N, K, *in)` for K units; the same for all channels. Windows start every `stride` entries; the last
    ones are cut off at the border.

    Args:
        model: a Keras model, a `torch.nn.Module`, or a function of arrays.
        x: an array `(N, *in)`, or a dict, list or tuple of them.
        of: the scalar, in the forms of `wrt.gradient`; `"max"` and `wrt.top(k)` choose at `x`.
        wrt: the input that is covered, by index or name; needed where there are several. For token ids the embedding
            layer: ids are then covered by the baseline, the id of a padding token.
        window: size of the windows, one for every spatial axis or the same for all; by default an eighth of each. With
            one more number than spatial axes it says how many channels are covered at a time, too.
        stride: distance between windows; by default their size.
        baseline: what covers: a number, or an array in the shape of a sample or of `x`.
        with_output: return `(maps, chosen outputs)`.
        options: `batch_size`, `max_memory`, `compile`, `progress`, `differentiable`, as in `wrt.gradient`;
            `data_format` (`"channels_first"`, `"channels_last"`), where the model does not show where channels are.

    Raises:
        OptionError: a window larger than the input, a stride larger than the window, or `data_format` is needed.
        InputError: a baseline of another shape.

    Example:
        >>> import numpy as np, wrt
        >>> wrt.methods.occlusion(lambda x: x @ np.array([1.0, 2.0, 3.0]), np.ones((1, 3)), window=2, stride=1)
        array([[3., 4., 5.]])

    Source: Zeiler and Fergus, ECCV 2014, section 4.2.
    """
    subject = Subject(model, x, of, wrt, options_of(options))
    axes, sizes, starts = _windows(subject, window, stride)
    cover = covers(subject, baseline)
    here = subject.here()
    total: Any = 0
    corners = list(itertools.product(*starts))
    for part in subject.parts(len(corners), "occlusion"):
        mask = np.stack([_window(subject.shape, axes, sizes, corner) for corner in corners[part]])
        kept = subject.tensor(1 - mask)[:, None]
        found = subject(subject.leaf * kept + cover * (1 - kept), len(mask))
        total = total + _spread(subject, here - found, mask)
    counts = subject.tensor(_counts(subject.shape, axes, sizes, starts).reshape(-1), total)
    maps = subject.shaped(total / counts, [s if a in axes else 1 for a, s in enumerate(subject.shape)])
    return (maps, subject.outputs(here)) if with_output else maps


@register(
    paper="Petsiuk, Das and Saenko, RISE: randomized input sampling for explanation of black-box models, BMVC 2018 "
    "(arXiv:1806.07421)",
    invariants={"implementation invariance"},
    postprocess="normalize",
)
def rise(
    model: Any,
    x: Any,
    of: Any = None,
    *,
    wrt: Any = None,
    masks: Any = 4000,
    cells: int | Sequence[int] | None = None,
    probability: float = 0.5,
    seed: int | None = 0,
    with_output: bool = False,
    **options: Unpack[Common],
) -> Any:
    """The mean output over random masks that leave an entry visible.

    m[n, i] = sum_k y_of(x[n] * M_k) M_k[i] / (masks * probability), shape `(N, *in)`, or `(N, K, *in)` for K units; the
    same for all channels. M_k are grids of cells that are 1 with this probability and otherwise 0, linearly
    interpolated to the size of the input and shifted by less than a cell.

    Args:
        model: a Keras model, a `torch.nn.Module`, or a function of arrays.
        x: an array `(N, *in)`, or a dict, list or tuple of them.
        of: the scalar, in the forms of `wrt.gradient`; `"max"` and `wrt.top(k)` choose at `x`.
        wrt: the input that is masked, by index or name; needed where there are several.
        masks: how many, or the masks themselves, `(M, *spatial)`.
        cells: cells of the grid along every spatial axis, or along each; by default 7, or fewer in a small input.
        probability: of a cell to be visible.
        seed: of the random numbers; `None` for new ones at every call.
        with_output: return `(maps, chosen outputs)`.
        options: `batch_size`, `max_memory`, `compile`, `progress`, `differentiable`, as in `wrt.gradient`;
            `data_format` (`"channels_first"`, `"channels_last"`), where the model does not show where channels are.

    Raises:
        OptionError: no masks, a probability outside of 0 to 1, more cells than entries, or `data_format` is needed.
        DtypeError: the input holds integers.
        InputError: masks of another shape than the spatial axes of `x`.

    Example:
        >>> import numpy as np, wrt
        >>> masks = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])  # all of a grid of two cells
        >>> wrt.methods.rise(lambda x: x @ np.array([4.0, 8.0]), np.ones((1, 2)), masks=masks)
        array([[ 8., 10.]])

    Source: Petsiuk et al., BMVC 2018, equation 6 and section 3.2.
    """
    subject = Subject(model, x, of, wrt, options_of(options))
    if subject.whole:
        raise DtypeError("x holds integers, which cannot be dimmed by a mask; use wrt.methods.occlusion")
    axes = subject.axes
    sizes = [subject.shape[a] for a in axes]
    if not 0 < probability <= 1:
        raise OptionError(f"probability={probability!r}; expected a number above 0 and at most 1")
    if np.ndim(masks):
        drawn: Drawn = _given(masks, sizes), []
    else:
        drawn = _draw(per_axis("masks", masks, 1)[0], _grid(cells, sizes), sizes, probability, seed)
    count = len(drawn[0])
    broad = [s if a in axes else 1 for a, s in enumerate(subject.shape)]
    total: Any = 0
    for part in subject.parts(count, "RISE"):
        size = part.stop - part.start
        mask = _smooth(drawn, part, sizes).reshape(size, *broad)
        found = subject(subject.leaf * subject.tensor(mask)[:, None], size)
        total = total + _spread(subject, found, mask)
    maps = subject.shaped(total / (count * probability), broad)
    return (maps, subject.outputs(subject.here())) if with_output else maps


def _spread(subject: Subject, values: Array, mask: np.ndarray) -> Array:
    """(N, K, S): the sum over the versions of their values (P, N, K) on their masks (P, ...)."""
    return subject.home.moveaxis(values, 0, 2) @ subject.tensor(mask.reshape(len(mask), -1), values)


def _windows(subject: Subject, window: Any, stride: Any) -> tuple[Axes, Axes, list[range]]:
    """The axes that windows move along, the sizes of these, and where they start on each axis."""
    shape = subject.shape
    whole = isinstance(window, (tuple, list)) and len(window) == len(shape)
    axes = tuple(range(len(shape))) if whole else subject.axes
    sizes = tuple(max(1, shape[a] // 8) for a in axes) if window is None else per_axis("window", window, len(axes))
    steps = sizes if stride is None else per_axis("stride", stride, len(axes))
    for axis, size, step in zip(axes, sizes, steps, strict=True):
        if size > shape[axis]:
            raise OptionError(
                f"window={window!r} is larger than the input, whose axis {axis + 1} has {shape[axis]} entries (x is "
                f"(N, {', '.join(map(str, shape))})); choose at most that"
            )
        if step > size:
            raise OptionError(
                f"stride={stride!r} is larger than the window {sizes}, so that some entries were never covered; "
                "choose a stride of at most the window"
            )
    rows = zip(axes, sizes, steps, strict=True)
    return axes, sizes, [range(0, -(-(shape[a] - w) // s) * s + 1, s) for a, w, s in rows]


def _window(shape: Sequence[int], axes: Axes, sizes: Axes, corner: Sequence[int]) -> np.ndarray:
    """One in the window, zero elsewhere; one entry for axes that windows cover as a whole."""
    mask = np.zeros([s if a in axes else 1 for a, s in enumerate(shape)])
    where: list[Any] = [slice(None)] * len(shape)
    for axis, size, start in zip(axes, sizes, corner, strict=True):
        where[axis] = slice(start, start + size)
    mask[tuple(where)] = 1
    return mask


def _counts(shape: Sequence[int], axes: Axes, sizes: Axes, starts: list[range]) -> np.ndarray:
    """How many windows cover each entry: axis by axis, as they are products."""
    counts = np.ones(())
    for axis, size, begin in zip(axes, sizes, starts, strict=True):
        along = sum((_window((shape[axis],), (0,), (size,), (b,)) for b in begin), np.zeros(shape[axis]))
        counts = np.multiply.outer(counts, along)
    return counts


def _grid(cells: Any, sizes: Sequence[int]) -> Axes:
    if cells is None:
        return tuple(min(7, s) for s in sizes)
    grid = per_axis("cells", cells, len(sizes))
    if any(c > s for c, s in zip(grid, sizes, strict=True)):
        raise OptionError(f"cells={cells!r}: more cells than the input has entries, {tuple(sizes)}; choose fewer")
    return grid


def _given(masks: Any, sizes: Sequence[int]) -> np.ndarray:
    values = registry.host(masks).astype(float)
    if values.shape[1:] != tuple(sizes) or not len(values):
        raise InputError(f"masks have shape {values.shape}; expected (M, {', '.join(map(str, sizes))})")
    return values


def _draw(count: int, grid: Axes, sizes: Sequence[int], probability: float, seed: int | None) -> Drawn:
    """Which cells are visible, (count, *grid), and the shifts."""
    random = np.random.default_rng(seed)
    visible = random.random((count, *grid)) < probability
    return visible, [random.integers(0, -(-s // c), count) for s, c in zip(sizes, grid, strict=True)]


def _smooth(drawn: Drawn, part: slice, sizes: Sequence[int]) -> np.ndarray:
    """(part, *sizes): cells interpolated to one more of them than needed, and cut out with the shift."""
    values = drawn[0][part].astype(float)
    for axis, (shifts, size) in enumerate(zip(drawn[1], sizes, strict=False), start=1):  # given masks have no shifts
        cells = values.shape[axis]
        fine = np.moveaxis(values, axis, -1) @ matrix(cells, (cells + 1) * -(-size // cells))
        index = shifts[part][:, None] + np.arange(size)
        index = index.reshape(len(index), *(1,) * (values.ndim - 2), size)
        values = np.moveaxis(np.take_along_axis(fine, index, -1), -1, axis)
    return values
