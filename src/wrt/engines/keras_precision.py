"""Keras models computed in another precision, for one call."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras


@contextlib.contextmanager
def computing_in(model: Any, precision: str | None) -> Iterator[None]:
    """Every layer computes in this precision; the policies are put back whatever happens."""
    layers = model._flatten_layers() if precision else []
    before = [(layer, layer._dtype_policy) for layer in layers]
    if any(policy.quantization_mode for _, policy in before):  # their integers are what they compute in
        before = []
    try:
        for layer, policy in before:
            layer._dtype_policy = _policy(precision, policy)
        yield
    finally:
        for layer, policy in before:
            layer._dtype_policy = policy


def _policy(precision: str | None, policy: Any) -> Any:
    """Variables keep their dtype, so that layers cast them as under mixed precision."""
    wide = keras.DTypePolicy(precision)
    wide._variable_dtype = policy.variable_dtype
    return wide
