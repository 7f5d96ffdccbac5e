"""Channels in torch programs: every function is watched while it runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from wrt.engines import layout as lay
from wrt.engines.base import Arrays, Function
from wrt.engines.layout import Claims, Ledger, Marks
from wrt.engines.torch_axes import OPERATORS, Call

CONVOLUTIONS = {"conv1d": 1, "conv2d": 2, "conv3d": 3, "conv_transpose1d": 1, "conv_transpose2d": 2}
CONVOLUTIONS |= {"conv_transpose3d": 3, "convolution": 0}
POOLINGS = {f"{kind}_pool{d}d": d for kind in ("max", "avg", "lp") for d in (1, 2, 3)}
POOLINGS |= {f"adaptive_{kind}_pool{d}d": d for kind in ("max", "avg") for d in (1, 2, 3)}
POOLINGS |= {f"{name}_with_indices": d for name, d in POOLINGS.items() if "max" in name}
CHANNELS_SECOND = {"batch_norm", "group_norm", "instance_norm", "native_batch_norm", "local_response_norm"}
FEATURES_LAST = {"lstm", "gru", "rnn_tanh", "rnn_relu", "multi_head_attention_forward", "embedding"}
FEATURES_LAST |= {"_transformer_encoder_layer_fwd", "_native_multi_head_attention"}
IN_ORDER = {"cat", "concat", "concatenate", "split", "chunk", "tensor_split", "narrow", "pad", "roll", "flip", "repeat"}
IN_ORDER |= {"expand", "expand_as", "tile", "index_select", "repeat_interleave", "broadcast_to"}
MIXED = {"einsum", "tensordot", "gather", "take_along_dim", "stack", "addmm", "addbmm", "unfold", "fold"}


def channels(f: Function, primals: Arrays) -> tuple[list[Claims], list[tuple[Claims, Claims]]]:
    """The verb of an engine: see `Engine.channels`."""
    watching = Watching(primals)
    with torch.no_grad(), watching:
        results = f(list(primals))
    return watching.ledger.found(), [lay.put(watching.marks(r)) for r in results]


class Watching(TorchFunctionMode):
    """Notes what becomes of the axes of some tensors."""

    def __init__(self, primals: Arrays) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.known = WeakIdKeyDictionary()
        for primal, marks in zip(primals, self.ledger.watch([tuple(p.shape) for p in primals]), strict=True):
            self.known[primal] = marks

    def marks(self, tensor: torch.Tensor) -> Marks:
        """What is known of a tensor; in `vmap`, of what it is a part of."""
        found = self.known.get(tensor)
        if found is None and _is_batched(tensor):
            functorch = torch._C._functorch
            found = lay.without(self.marks(functorch.get_unwrapped(tensor)), [functorch.maybe_get_bdim(tensor)])
        return found if found is not None and len(found) == tensor.dim() else lay.lost(tensor.dim())

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = [(a, tuple(a.shape), self.marks(a)) for a in _tensors((args, kwargs or {}))]  # it may work in place
        result = func(*args, **(kwargs or {}))
        given = list(_tensors(result))
        if before and given:
            name = _name(func)
            try:
                self._note(name, before, Call(args, kwargs or {}), given)
            except (IndexError, TypeError, ValueError):  # called in a way that is not known here: nothing is concluded
                for tensor in given:
                    self.known[tensor] = lay.lost(tensor.dim())
        return result

    def _note(self, name: str, before: list[Any], call: Call, given: list[torch.Tensor]) -> None:
        _, shape, marks = before[0]
        first, rank = given[0], given[0].dim()
        operator = OPERATORS.get(name)
        found: Marks | None
        if name in CONVOLUTIONS:
            spatial = CONVOLUTIONS[name] or len(shape) - 2
            found = self.ledger.taken(marks, len(shape) - spatial - 1, rank)
        elif name in POOLINGS:
            found = self.ledger.taken(marks, len(shape) - POOLINGS[name] - 1, rank)
        elif name in CHANNELS_SECOND and len(shape) > 1:
            found = self.ledger.normalized(marks, 1)
        elif name in FEATURES_LAST:
            if name != "embedding":
                self.ledger.claim(marks, -1)
            found = lay.made(rank, -1)
        elif operator is not None:
            found = operator(self.ledger, before, call, first)
        elif name in MIXED:
            found = lay.lost(rank)
        else:
            found = None
        for tensor in given:
            operands = [(s, m) for _, s, m in before]
            same = lay.merged(tuple(tensor.shape), operands, sizes=name not in IN_ORDER)
            self.known[tensor] = found if found is not None and len(found) == tensor.dim() else same


def _name(func: Any) -> str:
    """`"relu"` for `relu_`, `aten.relu.default` and the like; of a property its own."""
    name = getattr(func, "__name__", "")
    if name == "__get__":
        name = getattr(func.__self__, "__name__", "")
    return name if name.startswith("__") else name.split(".")[0].rstrip("_")


def _is_batched(tensor: torch.Tensor) -> bool:
    return hasattr(torch._C, "_functorch") and torch._C._functorch.is_batchedtensor(tensor)


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _tensors(part)


def convention(module: torch.nn.Module, name: str, rank: int) -> int | None:
    """The axis of an input's channels, by torch's convention where the module has convolutions of this rank."""
    return 1 if not name and any(_spatial(inner) == rank - 2 for inner in module.modules()) else None


def _spatial(module: torch.nn.Module) -> int | None:
    """The number of positions' axes of a convolution, of TorchScript too, whose program cannot be watched."""
    names = [getattr(module, "original_name", ""), *(kind.__name__ for kind in type(module).__mro__)]
    found = [re.fullmatch(r"Conv(?:Transpose)?(\d)d", name) for name in names]
    return next((int(match[1]) for match in found if match), None)
