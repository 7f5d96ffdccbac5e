"""Channels in JAX programs: a walk through the traced program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from wrt.engines import layout as lay
from wrt.engines.base import Arrays, Function
from wrt.engines.layout import Claims, Ledger, Marks

CALLS = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "core_call": "call_jaxpr", "remat2": "jaxpr"}
CALLS |= {"checkpoint": "jaxpr", "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr"}
CALLS |= {"custom_vjp_call_jaxpr": "fun_jaxpr", "custom_lin": "jaxpr"}
IN_ORDER = {"slice", "dynamic_slice", "pad", "rev", "concatenate", "dynamic_update_slice"}
REDUCTIONS = ("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "argm")
WINDOWS = ("reduce_window", "select_and_gather_add", "cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")


def channels(f: Function, primals: Arrays) -> tuple[list[Claims], list[tuple[Claims, Claims]]]:
    """The verb of an engine: see `Engine.channels`."""
    program = jax.make_jaxpr(f)(primals).jaxpr
    ledger = Ledger()
    marks = ledger.watch([tuple(v.aval.shape) for v in program.invars])
    results = _walk(program, marks, ledger)
    return ledger.found(), [lay.put(m) for m in results]


def _walk(program: Any, arguments: list[Marks], ledger: Ledger) -> list[Marks]:
    """The marks of what a program returns."""
    known: dict[Any, Marks] = dict(zip(program.invars, arguments, strict=True))

    def of(variable: Any) -> Marks:
        unknown = lay.lost(len(variable.aval.shape))
        return unknown if hasattr(variable, "val") else known.get(variable, unknown)

    for equation in program.eqns:
        found = _step(equation, [of(v) for v in equation.invars], ledger)
        known.update(zip(equation.outvars, found, strict=True))
    return [of(v) for v in program.outvars]


def _step(equation: Any, marks: list[Marks], ledger: Ledger) -> list[Marks]:
    """The marks of what one operator gives."""
    name = equation.primitive.name
    if name in CALLS and CALLS[name] in equation.params:
        inner = equation.params[CALLS[name]]
        return _walk(getattr(inner, "jaxpr", inner), marks, ledger)
    if name == "scan":
        return _scan(equation, marks, ledger)
    if name == "cond":
        branches = [_walk(b.jaxpr, marks[1:], ledger) for b in equation.params["branches"]]
        return branches[0]
    operator = OPERATORS.get(name)
    if operator is None and name.startswith(WINDOWS):
        operator = _window if "window_dimensions" in equation.params else None
    elif operator is None and name.startswith(REDUCTIONS):
        operator = _reduce
    if operator is not None:
        return [operator(equation, marks, ledger)] + [lay.lost(len(v.aval.shape)) for v in equation.outvars[1:]]
    operands = [
        (tuple(v.aval.shape), m) for v, m in zip(equation.invars, marks, strict=True) if hasattr(v.aval, "shape")
    ]
    shapes = [tuple(getattr(v.aval, "shape", ())) for v in equation.outvars]
    return [lay.merged(shape, operands, sizes=name not in IN_ORDER) for shape in shapes]


def _scan(equation: Any, marks: list[Marks], ledger: Ledger) -> list[Marks]:
    """One round of a loop: what it runs along loses its first axis, and what it collects gets one."""
    fixed, carried = equation.params["num_consts"], equation.params["num_carry"]
    inside = [m if k < fixed + carried else m[1:] for k, m in enumerate(marks)]
    found = _walk(equation.params["jaxpr"].jaxpr, inside, ledger)
    return [m if k < carried else (lay.NONE, *m) for k, m in enumerate(found)]


def _convolution(equation: Any, marks: list[Marks], ledger: Ledger) -> Marks:
    numbers = equation.params["dimension_numbers"]
    return ledger.taken(marks[0], numbers.lhs_spec[1], len(marks[0]), numbers.out_spec[1])


def _window(equation: Any, marks: list[Marks], ledger: Ledger) -> Marks:
    """Pooling: the one axis beside the samples that no window covers and nobody added for the call."""
    sizes = equation.params["window_dimensions"]
    alone = [axis for axis, size in enumerate(sizes) if axis and size == 1 and marks[0][axis] != lay.ADDED]
    if len(alone) != 1 or len(sizes) < 3:
        return lay.lost(len(sizes))
    return ledger.taken(marks[0], alone[0], len(sizes))


def _reduce(equation: Any, marks: list[Marks], ledger: Ledger) -> Marks:
    return lay.reduced(ledger, marks[0], equation.params["axes"])


def _transpose(equation: Any, marks: list[Marks], ledger: Ledger) -> Marks:
    return lay.moved(marks[0], equation.params["permutation"])


def _broadcast(equation: Any, marks: list[Marks], ledger: Ledger) -> Marks:
    params = equation.params
    return lay.placed(marks[0], len(params["shape"]), params["broadcast_dimensions"])


def _reshape(equation: Any, marks: list[Marks], ledger: Ledger) -> Marks:
    old, new = equation.invars[0].aval.shape, equation.params["new_sizes"]
    return lay.reshaped(ledger, marks[0], tuple(old), tuple(new))


def _squeeze(equation: Any, marks: list[Marks], ledger: Ledger) -> Marks:
    return lay.without(marks[0], equation.params["dimensions"])


def _dot(equation: Any, marks: list[Marks], ledger: Ledger) -> Marks:
    """Axes in common, then what is left of the one and of the other; features where the last one is mapped."""
    (left, right), (left_batch, right_batch) = equation.params["dimension_numbers"]
    free = [lay.without(m, (*c, *b)) for m, c, b in zip(marks, (left, right), (left_batch, right_batch), strict=True)]
    both = lay.moved(marks[0], left_batch)
    alone = not left_batch and tuple(left) == (len(marks[0]) - 1,) and len(marks[1]) == 2 and not any(marks[1])
    return lay.linear(marks[0]) if alone else (*both, *free[0], *free[1])


OPERATORS: dict[str, Callable[[Any, list[Marks], Ledger], Marks]] = {
    "conv_general_dilated": _convolution,
    "dot_general": _dot,
    "transpose": _transpose,
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "squeeze": _squeeze,
    "gather": lambda equation, marks, ledger: lay.lost(len(equation.outvars[0].aval.shape)),
    "scatter": lambda equation, marks, ledger: lay.lost(len(equation.outvars[0].aval.shape)),
}
