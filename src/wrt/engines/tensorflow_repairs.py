"""The table of derivatives that wrt puts in place of TensorFlow's own, by the kind of operator."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import ops  # the derivatives that exist already have no public name

REPAIRS: dict[str, str] = {}  # kinds of operators, and the names of their derivatives here
ALWAYS: set[str] = set()  # those of them whose own derivative is wrong to first order already
PREFIX = "Wrt"

Gradient = Callable[..., Any]


def repairs(*kinds: str, always: bool = False) -> Callable[[Gradient], Gradient]:
    """The derivative of these operators: a function of one of them and of the cotangents of its outputs."""

    def register(function: Gradient) -> Gradient:
        name = f"{PREFIX}{kinds[0]}"
        tf.RegisterGradient(name)(function)
        REPAIRS.update(dict.fromkeys(kinds, name))
        ALWAYS.update(kinds if always else ())
        return function

    return register


def repaired() -> AbstractContextManager[None]:
    """What is made inside, in the graph that is being made, has derivatives from the table."""
    return tf.compat.v1.get_default_graph().gradient_override_map(REPAIRS)


def own(op: tf.Operation, *grads: Any) -> Any:
    """TensorFlow's derivative, made of operators that have a right one themselves."""
    with repaired():
        return ops.gradient_registry.lookup(op.type)(op, *grads)
