"""The optimisers of torch, on plain tensors."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch

from wrt.engines.base import Arrays
from wrt.errors import OptionError, suggest

NEED_MORE = ("LBFGS", "SparseAdam", "Muon", "Optimizer")  # a closure, sparse gradients, matrices
KINDS: dict[str, Any] = {
    name.lower(): kind for name, kind in vars(torch.optim).items() if inspect.isclass(kind) and name not in NEED_MORE
}


class TorchOptimizer:
    """One of `torch.optim`, by its name in any case."""

    def __init__(self, name: str, rate: float, params: Arrays) -> None:
        if name.lower() not in KINDS:
            raise OptionError(f"optimizer={name!r} is not one of torch.optim.{suggest(name.lower(), KINDS)}")
        self.leaves = [p.detach().clone().requires_grad_() for p in params]
        self.optimizer = KINDS[name.lower()](self.leaves, lr=rate)

    def step(self, params: Arrays, gradients: Arrays) -> Arrays:
        with torch.no_grad():
            for leaf, value, gradient in zip(self.leaves, params, gradients, strict=True):
                leaf.copy_(value)
                leaf.grad = gradient
        self.optimizer.step()
        return [leaf.detach().clone() for leaf in self.leaves]

    def state(self) -> Any:
        return copy.deepcopy(self.optimizer.state_dict())

    def restore(self, state: Any) -> None:
        self.optimizer.load_state_dict(copy.deepcopy(state))
