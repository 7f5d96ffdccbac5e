"""TensorFlow functions evaluated apart from all derivatives, and what in them has a derivative of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import record  # the public interface cannot stop every tape
from tensorflow.python.framework import ops  # the derivatives that exist already have no public name

from wrt.engines.base import Arrays, Function

LIBRARIES = ("tensorflow", "keras")


class TensorflowApart:
    """The part of the engine that evaluates functions without their derivatives."""

    def apart(self) -> contextlib.AbstractContextManager[None]:
        return record.stop_recording()

    def generators_kept(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def once(self, f: Callable[..., Any]) -> Callable[..., Any]:
        return f  # a graph takes longer to make and to optimise than its operators take one by one

    def own_rules(self, f: Function, primals: Arrays) -> list[str]:
        traced = tf.function(lambda *leaves: f(list(leaves)), autograph=False).get_concrete_function(*primals)
        inner = [function.graph for function in traced.graph._functions.values() if hasattr(function, "graph")]
        operations = [op for graph in (traced.graph, *inner) for op in graph.get_operations()]
        return list(dict.fromkeys(name for op in operations for name in _rules(op)))


def _rules(op: tf.Operation) -> Iterator[str]:
    if op.type == "StopGradient" and "moments" not in op.name:
        yield "stop_gradient"
    try:
        kind = op.get_attr("_gradient_op_type").decode()
    except ValueError:
        return
    name = _maker(kind) if kind.startswith("CustomGradient") else ""
    if name:
        yield f"custom_gradient {name!r}"


def _maker(kind: str) -> str:
    """The function whose gradient this is: the outermost one around the gradient's own; none of the libraries'."""
    found = [f for f in _held(ops.gradient_registry.lookup(kind)) if _is_inner(f)]
    return found[0].__qualname__.split(".<locals>")[-2].strip(".") if found else ""


def _is_inner(function: Any) -> bool:
    return ".<locals>" in function.__qualname__ and function.__module__.split(".")[0] not in LIBRARIES


def _held(function: Any, depth: int = 3) -> Iterator[Any]:
    """The functions in the cells of a function, and in theirs."""
    for cell in getattr(function, "__closure__", None) or ():
        with contextlib.suppress(ValueError):  # an empty cell
            value = cell.cell_contents
            if callable(value) and hasattr(value, "__qualname__"):
                yield value
                yield from _held(value, depth - 1) if depth else ()
