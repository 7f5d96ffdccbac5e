"""torch: derivatives of a module as a module."""

from __future__ import annotations

from typing import Any

import torch

from wrt.errors import InputError
from wrt.models.derivative import Derivative


class DerivativeModule(torch.nn.Module):
    """A derivative of `model`, whose parameters and buffers it shares; made by `wrt.backward_model`.

    In training mode, or where x requires a gradient, the result carries a graph to x and to the weights.
    """

    def __init__(self, model: torch.nn.Module, derivative: Derivative) -> None:
        super().__init__()
        self.model = model
        self.derivative = derivative

    def forward(self, x: Any, u: Any = None) -> Any:
        """The derivative at x; `forward(x, u)` or `forward([x, u])` where it takes a cotangent."""
        needs = self.derivative.what == "backward"
        if needs and u is None and isinstance(x, (list, tuple)) and len(x) == 2:
            x, u = x
        if needs != (u is not None):
            raise InputError("u: expected a cotangent, backward(x, u)" if needs else "u: this model takes x alone")
        record = self.training and torch.is_grad_enabled()
        return self.derivative(self.model, x, u, record=record, training=self.training)

    def extra_repr(self) -> str:
        shown = {k: v for k, v in vars(self.derivative).items() if v not in (None, False)}
        return ", ".join(f"{name}={value!r}" for name, value in shown.items())
