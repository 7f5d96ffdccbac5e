"""What a torch graph and a run of a function tell: dependence, sizes, operators with rules of the user's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.autograd.function import BackwardCFunction
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from wrt.engines.base import Array, Arrays, Function

EXTENSION = "torch::autograd::CppNode"


def note_size(saved: dict[int, int], primals: Arrays) -> Callable[[Array], Array]:
    """Weights are there once, whatever the batch: what counts has a graph, or one row per sample."""
    counts = {len(p) for p in primals}

    def note(tensor: Array) -> Array:
        if tensor.requires_grad or (tensor.dim() and len(tensor) in counts):
            saved[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor.detach()  # an operator that kept its own output would never be freed

    return note


def depends(output: Array, leaves: Arrays) -> tuple[bool, ...]:
    """On which of the leaves an output depends."""
    if not output.requires_grad:
        return (False,) * len(leaves)
    grads = torch.autograd.grad(output.sum(), leaves, retain_graph=True, allow_unused=True)
    return tuple(g is not None for g in grads)


def custom_operators(outputs: Arrays) -> tuple[str, ...]:
    """The names of those in the graph whose derivatives are not torch's own: `autograd.Function` and extensions."""
    names: dict[str, None] = {}
    for node in _nodes(a.grad_fn for a in outputs):
        if isinstance(node, BackwardCFunction) or node.name().startswith(EXTENSION):
            names[node.name().removesuffix("Backward")] = None
    return tuple(names)


def _nodes(roots: Iterable[Any]) -> list[Any]:
    found: dict[Any, None] = {}
    waiting = [node for node in roots if node is not None]
    while waiting:
        node = waiting.pop()
        if node not in found:
            found[node] = None
            waiting += [inner for inner, _ in node.next_functions if inner is not None]
    return list(found)


def runs_outside_python(f: Function, primals: Arrays) -> bool:
    """Whether operators run that no Python function of torch has called, as in TorchScript and extensions.

    TorchScript compiles itself at its second or third call, with derivatives that forward mode does not see.
    """
    calls = _Calls()
    with _Operators(calls) as seen, calls:
        f(primals)
    return seen.outside


class _Calls(TorchFunctionMode):
    """How deep the calls of torch's Python functions are nested now."""

    depth = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.depth += 1
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self.depth -= 1


class _Operators(TorchDispatchMode):
    """Whether an operator that computes something, no view, ran outside of any call."""

    def __init__(self, calls: _Calls) -> None:
        super().__init__()
        self.calls = calls
        self.outside = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not self.calls.depth and not any(r.alias_info for r in func._schema.returns):
            leaves = tree_leaves((args, kwargs))
            self.outside |= any(isinstance(a, torch.Tensor) and a.is_floating_point() for a in leaves)
        return func(*args, **(kwargs or {}))
