"""JAX functions evaluated apart from all derivatives, and what in them has a derivative of its own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import jax

from wrt.engines.base import Arrays, Function

# a program that runs once: half the time to compile, which is what the call takes
QUICK = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
}
LIBRARIES = ("jax", "keras", "flax", "equinox", "optax")
RULES = {"custom_vjp_call": "custom_vjp", "custom_jvp_call": "custom_jvp"}


class JaxApart:
    """The part of the engine that evaluates functions without their derivatives."""

    def apart(self) -> contextlib.AbstractContextManager[None]:
        return jax.enable_x64(True)

    def generators_kept(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def once(self, f: Callable[..., Any]) -> Callable[..., Any]:
        programs: dict[Any, Any] = {}

        def call(*args: Any) -> Any:
            leaves, tree = jax.tree.flatten(args)
            key = tree, tuple((a.shape, a.dtype) for a in leaves)
            if key not in programs:
                programs[key] = _quick(f, args)
            return programs[key](*args)

        return call

    def own_rules(self, f: Function, primals: Arrays) -> list[str]:
        return list(dict.fromkeys(_rules(jax.make_jaxpr(f)(primals).jaxpr)))


def _quick(f: Callable[..., Any], args: Any) -> Any:
    lowered = jax.jit(lambda *args: f(*args)).lower(*args)
    if jax.default_backend() != "cpu":
        return lowered.compile()
    try:
        return lowered.compile(compiler_options=QUICK)
    except Exception:  # another release of XLA has other options
        return lowered.compile()


def _rules(jaxpr: Any) -> Iterator[str]:
    for equation in jaxpr.eqns:
        name, kind = _name(equation), equation.primitive.name
        if kind in RULES and name:
            yield f"{RULES[kind]} {name}"
        elif kind == "stop_gradient" and not _of_library(_caller(equation)):
            yield "stop_gradient"
        for inner in _inner(equation):
            yield from _rules(inner)


def _inner(equation: Any) -> list[Any]:
    leaves = jax.tree.leaves(equation.params, is_leaf=lambda v: hasattr(getattr(v, "jaxpr", v), "eqns"))
    return [getattr(v, "jaxpr", v) for v in leaves if hasattr(getattr(v, "jaxpr", v), "eqns")]


def _name(equation: Any) -> str:
    """The function with a rule, and where it stands; nothing for those of the libraries."""
    program = equation.params.get("call_jaxpr")
    info = getattr(getattr(program, "jaxpr", program), "debug_info", None)
    name, _, place = (getattr(info, "func_src_info", None) or "").partition(" at ")
    if not name or _of_library(place):
        return ""
    return f"{name!r} ({os.path.basename(place)})" if name == "<lambda>" else repr(name)


def _of_library(place: str) -> bool:
    parts = os.path.normpath(place).split(os.sep)
    return "site-packages" in parts and parts[parts.index("site-packages") + 1] in LIBRARIES


def _caller(equation: Any) -> str:
    """The file that calls the operator: softmax and the like detach what their derivative does not need."""
    traceback = getattr(equation.source_info, "traceback", None)
    frames = list(getattr(traceback, "frames", ()))
    files = [f.file_name for f, last in zip(frames[1:], frames, strict=False) if last.function_name == "stop_gradient"]
    return files[0] if files else ""
