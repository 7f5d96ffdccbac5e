"""What torch's functions do to the axes of a tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from wrt.engines import layout as lay
from wrt.engines.layout import Ledger, Marks, Shape

REDUCTIONS = {"mean", "sum", "amax", "amin", "max", "min", "argmax", "argmin", "std", "var", "prod", "logsumexp"}


class Call:
    """The arguments of a function, by place or name."""

    def __init__(self, args: Any, kwargs: Any) -> None:
        self.args, self.kwargs = args, kwargs

    def get(self, place: int, *names: str, default: Any = None) -> Any:
        for name in names:
            if name in self.kwargs:
                return self.kwargs[name]
        return self.args[place] if len(self.args) > place else default

    def integers(self) -> list[int]:
        """All integers behind the tensor, given one by one or as a sequence."""
        rest = [*self.args[1:], *self.kwargs.values()]
        return [int(i) for r in rest for i in (r if isinstance(r, list | tuple) else [r])]


Before = list[tuple[torch.Tensor, Shape, Marks]]  # the tensors that a function was given
Operator = Callable[[Ledger, Before, Call, torch.Tensor], Marks | None]


def _permute(ledger: Ledger, before: Before, call: Call, result: torch.Tensor) -> Marks:
    return lay.moved(before[0][2], call.integers())


def _transpose(ledger: Ledger, before: Before, call: Call, result: torch.Tensor) -> Marks:
    order = list(range(result.dim()))
    a, b = call.integers()
    order[a], order[b] = order[b], order[a]
    return lay.moved(before[0][2], order)


def _swapped(ledger: Ledger, before: Before, call: Call, result: torch.Tensor) -> Marks:
    return (*before[0][2][:-2], before[0][2][-1], before[0][2][-2])


def _reversed(ledger: Ledger, before: Before, call: Call, result: torch.Tensor) -> Marks:
    return tuple(reversed(before[0][2]))


def _movedim(ledger: Ledger, before: Before, call: Call, result: torch.Tensor) -> Marks:
    source, target = call.get(1, "source"), call.get(2, "destination")
    source, target = ([s] if isinstance(s, int) else list(s) for s in (source, target))
    rank = result.dim()
    fixed = {t % rank: s % rank for s, t in zip(source, target, strict=True)}
    rest = iter(axis for axis in range(rank) if axis not in fixed.values())
    return lay.moved(before[0][2], [fixed[axis] if axis in fixed else next(rest) for axis in range(rank)])


def _reshape(ledger: Ledger, before: Before, call: Call, result: torch.Tensor) -> Marks:
    return lay.reshaped(ledger, before[0][2], before[0][1], tuple(result.shape))


def _unsqueeze(ledger: Ledger, before: Before, call: Call, result: torch.Tensor) -> Marks:
    return lay.with_axis(before[0][2], call.integers()[0])


def _squeeze(ledger: Ledger, before: Before, call: Call, result: torch.Tensor) -> Marks:
    _, shape, marks = before[0]
    axes = call.integers() or list(range(len(shape)))
    return lay.without(marks, [a for a in axes if shape[a] == 1])


def _item(ledger: Ledger, before: Before, call: Call, result: torch.Tensor) -> Marks:
    marks, index = before[0][2], call.args[1]
    index = list(index) if isinstance(index, tuple) else [index]
    if not all(i is None or i is ... or isinstance(i, int | slice) for i in index):
        return lay.lost(result.dim())
    if ... not in index:
        index.append(...)
    place = index.index(...)
    hidden = len(marks) - sum(i is not None and i is not ... for i in index)
    index[place : place + 1] = [slice(None)] * hidden
    rest, found = iter(marks), []
    for i in index:
        mark = lay.ADDED if i is None else next(rest)
        found += [] if isinstance(i, int) else [mark]
    return tuple(found)


def _select(ledger: Ledger, before: Before, call: Call, result: torch.Tensor) -> Marks:
    return lay.without(before[0][2], [call.get(1, "dim")])


def _unbind(ledger: Ledger, before: Before, call: Call, result: torch.Tensor) -> Marks:
    return lay.without(before[0][2], [call.get(1, "dim", default=0)])


def _reduce(ledger: Ledger, before: Before, call: Call, result: torch.Tensor) -> Marks | None:
    _, shape, marks = before[0]
    axes = call.get(1, "dim", "axis")
    if isinstance(axes, torch.Tensor):  # two tensors are compared
        return None
    axes = [axes] if isinstance(axes, int) else list(axes or range(len(shape)))
    found = lay.reduced(ledger, marks, axes)
    return found if result.dim() == len(found) else None  # of axes that are kept, with size one


def _norm(ledger: Ledger, before: Before, call: Call, result: torch.Tensor) -> Marks | None:
    shape = call.get(1, "normalized_shape")
    one = isinstance(shape, int) or len(shape) == 1
    return ledger.normalized(before[0][2], -1) if one and len(before[0][1]) > 1 else None


def _linear(ledger: Ledger, before: Before, call: Call, result: torch.Tensor) -> Marks:
    return ledger.mapped(before[0][2])


def _matmul(ledger: Ledger, before: Before, call: Call, result: torch.Tensor) -> Marks:
    (_, _, left), (_, shape, right) = before[:2]
    if len(shape) == 2 and not any(right):
        return lay.linear(left)
    return (*left[:-1], right[-1])


def _shuffled(ledger: Ledger, before: Before, call: Call, result: torch.Tensor) -> Marks:
    return (*before[0][2][:-2], lay.NONE, lay.NONE)


OPERATORS: dict[str, Operator] = {
    "permute": _permute,
    **dict.fromkeys(["transpose", "swapaxes", "swapdims"], _transpose),
    **dict.fromkeys(["mT", "mH", "adjoint"], _swapped),
    **dict.fromkeys(["T", "H", "t"], _reversed),
    **dict.fromkeys(["movedim", "moveaxis"], _movedim),
    **dict.fromkeys(["reshape", "view", "flatten", "unflatten", "_unsafe_view", "view_as", "reshape_as"], _reshape),
    "unsqueeze": _unsqueeze,
    "squeeze": _squeeze,
    "__getitem__": _item,
    "select": _select,
    "unbind": _unbind,
    **dict.fromkeys(REDUCTIONS, _reduce),
    **dict.fromkeys(["layer_norm", "rms_norm", "native_layer_norm"], _norm),
    "linear": _linear,
    **dict.fromkeys(["matmul", "__matmul__", "bmm", "mm"], _matmul),
    **dict.fromkeys(["pixel_shuffle", "pixel_unshuffle"], _shuffled),
}
