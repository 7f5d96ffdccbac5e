"""JAX programs with some of their operators replaced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Literal

from wrt.engines.base import Arrays, Function

Replace = Callable[[Any], Any]  # an equation to another one over the same variables, or to itself
CALLS = ("jit", "pjit", "closed_call", "remat2", "checkpoint")
LOOPS = ("scan", "while", "cond")


def rewritten(f: Function, replace: Replace, inside: tuple[str, ...] = CALLS) -> Function:
    """`f` with every equation replaced that `replace` wants to; `f` itself where there is none.

    `inside` names the operators whose programs are looked into: calls, and perhaps loops and branches. The
    derivative rules of the user's own functions stay as they are.
    """

    def g(primals: Arrays) -> Arrays:
        closed, shapes = jax.make_jaxpr(f, return_shape=True)(primals)
        jaxpr = _rewrite(closed.jaxpr, replace, inside)
        if jaxpr is closed.jaxpr:
            return f(primals)
        leaves = jax.core.eval_jaxpr(jaxpr, closed.consts, *jax.tree.leaves(primals))
        return jax.tree.unflatten(jax.tree.structure(shapes), leaves)

    return g


def same_call(equation: Any, function: Callable[..., Any]) -> Any:
    """The equation with its operator replaced by one call of `function` on the same variables."""
    shapes = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in equation.invars]
    made = jax.make_jaxpr(function)(*shapes).jaxpr
    (single,) = made.eqns
    invars = [equation.invars[made.invars.index(v)] for v in single.invars]
    return equation.replace(primitive=single.primitive, params=single.params, invars=invars)


def variables(equation: Any) -> list[Any]:
    """What the equation reads, constants left out, each once; the first argument comes first."""
    return list(dict.fromkeys(v for v in equation.invars if not isinstance(v, Literal)))


def alone(equation: Any) -> Callable[..., Arrays]:
    """The equation as a function of its variables."""
    given = variables(equation)
    frame = jax.make_jaxpr(lambda *args: args)(*(jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in given)).jaxpr
    jaxpr = frame.replace(invars=given, outvars=equation.outvars, eqns=[equation])
    return lambda *args: jax.core.eval_jaxpr(jaxpr, (), *args)


def _rewrite(jaxpr: Any, replace: Replace, inside: tuple[str, ...]) -> Any:
    """The program rewritten, nested programs included; the same object if nothing changed."""
    equations = [_rewrite_equation(e, replace, inside) for e in jaxpr.eqns]
    changed = any(new is not old for new, old in zip(equations, jaxpr.eqns, strict=True))
    return jaxpr.replace(eqns=equations) if changed else jaxpr


def _rewrite_equation(equation: Any, replace: Replace, inside: tuple[str, ...]) -> Any:
    replaced = replace(equation)
    if replaced is not equation or equation.primitive.name not in inside:
        return replaced
    changed = {}
    for key, value in equation.params.items():
        new = _rewrite_param(value, replace, inside)
        if new is not value:
            changed[key] = new
    return equation.replace(params={**equation.params, **changed}) if changed else equation


def _rewrite_param(value: Any, replace: Replace, inside: tuple[str, ...]) -> Any:
    if isinstance(value, tuple):
        parts = tuple(_rewrite_param(v, replace, inside) for v in value)
        return parts if any(new is not old for new, old in zip(parts, value, strict=True)) else value
    plain = getattr(value, "jaxpr", value)
    if not hasattr(plain, "eqns"):
        return value
    jaxpr = _rewrite(plain, replace, inside)
    if jaxpr is plain:
        return value
    return ClosedJaxpr(jaxpr, value.consts) if hasattr(value, "jaxpr") else jaxpr
