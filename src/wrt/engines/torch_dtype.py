"""In which dtype a torch module takes its inputs."""

from __future__ import annotations

from typing import Any

import torch

from wrt.engines.adapt_torch import tensors, weights
from wrt.engines.base import Array
from wrt.engines.network import Network, Taps, WeakCache
from wrt.trees import flatten, map_leaves

_found = WeakCache()  # of modules with weights of several dtypes: what was found for inputs of these shapes


def dtype_of_inputs(module: torch.nn.Module, network: Network, x: Any) -> str | None:
    """That of the weights as they are now. Where these are of several, that in which the module takes `x`.

    Such a module says itself what it does with `x`: it is tried in its own dtype, which is then kept (`None`), and in
    those of the weights, the finest first, so that nothing is rounded that need not be.
    """
    kinds = {v.dtype: None for _, v in tensors(module) if v.is_floating_point()}
    if len(kinds) < 2:
        return next((_name(kind) for kind in kinds), None)
    rows = [(tuple(a.shape[1:]), str(a.dtype)) for a in flatten(x)[0] if hasattr(a, "shape")]
    if not any("float" in dtype for _, dtype in rows):
        return _name(next(iter(kinds)))
    key = tuple(kinds), tuple(rows)
    known = _found.of(module)
    if key not in known:
        finest = sorted(kinds, key=lambda kind: torch.finfo(kind).eps)
        tried = (kind for kind in (None, *map(_name, finest)) if _takes(module, network, x, kind))
        known[key] = next(tried, _name(next(iter(kinds))))
    return known[key]


def _takes(module: torch.nn.Module, network: Network, x: Any, kind: str | None) -> bool:
    engine = network.engine

    def two(leaf: Any) -> Array:
        rows = engine.asarray(leaf[:2], None, network.like())
        return rows.to(getattr(torch, kind)) if kind and rows.is_floating_point() else rows

    try:
        with torch.no_grad():
            network.apply(weights(module, False), map_leaves(two, x), Taps())
    except Exception:  # of whatever operator minds
        return False
    return True


def _name(kind: torch.dtype) -> str:
    return str(kind).removeprefix("torch.")
