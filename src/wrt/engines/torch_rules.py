"""Modified backward rules on torch: activations are seen by a function mode as they are called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from wrt.engines.base import Array, Arrays, Function
from wrt.rules import ACTIVATIONS, Rule, Switch, canonical


def with_backward(h: Callable[[Array], Array], rule: Rule, switch: Switch) -> Callable[[Array], Array]:
    """`h` whose pullback is the rule, while the switch is on."""
    return lambda x: _Ruled.apply(x, h, rule, switch)


class _Ruled(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Array, h: Callable[[Array], Array], rule: Rule, switch: Switch) -> Array:  # noqa: ARG004
        return h(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Array) -> None:  # noqa: ARG004
        x, ctx.h, ctx.rule, ctx.switch = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, u: Array) -> tuple[Array, None, None, None]:
        (x,) = ctx.saved_tensors

        def back(u: Array) -> Array:
            return _pulled(ctx.h, x, u)

        return (ctx.rule(u, x, back) if ctx.switch.on else back(u)), None, None, None


def _pulled(h: Callable[[Array], Array], x: Array, u: Array) -> Array:
    """The ordinary pullback; differentiable again where this backward pass is recorded."""
    recorded = torch.is_grad_enabled()
    with torch.enable_grad():
        x = x if x.requires_grad else x.detach().requires_grad_()
        return torch.autograd.grad(h(x), x, u, create_graph=recorded)[0]


def with_rules(f: Function, rules: Mapping[str, Rule], seen: set[str], switch: Switch) -> Function:
    """`f` with these activations ruled, functional and in-place ones too."""

    def g(primals: Arrays) -> Arrays:
        with _Activations(rules, seen, switch):
            return f(primals)

    return g


class _Activations(TorchFunctionMode):
    """Gives the rule to every activation of a name; what it calls inside is its own business."""

    def __init__(self, rules: Mapping[str, Rule], seen: set[str], switch: Switch) -> None:
        super().__init__()
        self.rules, self.seen, self.switch = rules, seen, switch

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = canonical(getattr(func, "__name__", ""))
        if name not in ACTIVATIONS or name not in self.rules:
            return func(*args, **kwargs)
        self.seen.add(name)
        x, rest = (args[0], args[1:]) if args else (kwargs.pop("input"), ())
        in_place = func.__name__.endswith("_") or bool(kwargs.pop("inplace", False))
        ruled = with_backward(lambda t: func(t.clone(), *rest, **kwargs), self.rules[name], self.switch)
        return x.copy_(ruled(x.clone())) if in_place else ruled(x)
