"""Modified backward rules on JAX: activations are found in the program by their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from wrt.engines.base import Array, Function
from wrt.engines.jax_rewrite import CALLS, LOOPS, alone, rewritten, same_call, variables
from wrt.rules import ACTIVATIONS, Rule, canonical


def with_backward(h: Callable[..., Array], rule: Rule) -> Callable[..., Array]:
    """`h` whose pullback to its first argument is the rule; what differentiates that again meets `h` itself."""

    @jax.custom_vjp
    def ruled(*args: Array) -> Array:
        return h(*args)

    def forward(*args: Array) -> tuple[Array, tuple[Array, ...]]:
        return h(*args), args

    def backward(args: tuple[Array, ...], u: Array) -> tuple[Array, ...]:
        _, pull = jax.vjp(h, *args)
        first = jnp.asarray(rule(u, args[0], lambda u: pull(u)[0]), args[0].dtype)
        return first, *pull(u)[1:]

    ruled.defvjp(forward, backward)
    return ruled


def with_rules(f: Function, rules: Mapping[str, Rule], seen: set[str]) -> Function:
    """`f` with these activations ruled, wherever its program calls them, loops included."""

    def replace(equation: Any) -> Any:
        name = _activation(equation)
        if name not in rules:
            return equation
        seen.add(name)
        ruled = with_backward(lambda *args: alone(equation)(*args)[0], rules[name])
        places = [equation.invars.index(v) for v in variables(equation)]
        return same_call(equation, lambda *args: ruled(*(args[i] for i in places)))

    return rewritten(f, replace, CALLS + LOOPS)


def _activation(equation: Any) -> str:
    """The activation that an equation is, or nothing."""
    kind, params = equation.primitive.name, equation.params
    if kind == "max" and any(_is_zero(v) for v in equation.invars):
        return "relu"
    if kind == "custom_jvp_call":
        kind = params["call_jaxpr"].jaxpr.debug_info.func_name
    if kind in CALLS:
        kind = params.get("name", "")
    name = canonical(kind)
    return name if name in ACTIVATIONS else ""


def _is_zero(variable: Any) -> bool:
    return hasattr(variable, "val") and jnp.ndim(variable.val) == 0 and variable.val == 0
