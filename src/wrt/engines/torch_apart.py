"""torch functions evaluated apart from all derivatives, and what in them has a derivative of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree

from wrt.engines.base import Array, Arrays, Function

SMALL = 1 << 20  # numbers: statistics and counters, which a module may write into, are no larger


class TorchApart:
    """The part of the engine that evaluates functions without their derivatives."""

    def apart(self) -> contextlib.AbstractContextManager[None]:
        return torch.no_grad()

    def generators_kept(self) -> contextlib.AbstractContextManager[None]:
        return torch.random.fork_rng(_devices())

    def once(self, f: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args: f(*_pytree.tree_map_only(torch.Tensor, _copied, args))

    def own_rules(self, f: Function, primals: Arrays) -> list[str]:
        found: dict[str, None] = {}
        with torch.inference_mode(False), torch.enable_grad(), _Detached(found):
            y = f([p.detach().clone().requires_grad_() for p in primals])
        names = {name: None for a in y for name in _functions(a)}
        return [*names, *found]


def _devices() -> list[int]:
    return list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []


def _copied(value: Array) -> Array:
    return value.clone() if value.numel() <= SMALL else value


def _functions(output: Array) -> Iterator[str]:
    """Names of the `torch.autograd.Function` in the graph of an output."""
    nodes, seen = [output.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(node, torch.autograd.function.BackwardCFunction):
            yield f"autograd.Function {type(node).__name__.removesuffix('Backward')!r}"
        nodes += [before for before, _ in node.next_functions]


class _Detached(TorchFunctionMode):
    """Notes where the model leaves the graph on purpose."""

    def __init__(self, found: dict[str, None]) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.Tensor.detach, torch.Tensor.detach_, torch.detach) and args[0].requires_grad:
            self.found["detach"] = None
        elif not torch.is_grad_enabled() and any(isinstance(a, torch.Tensor) and a.requires_grad for a in args):
            self.found["no_grad"] = None
        return func(*args, **(kwargs or {}))
