"""The values of layers by a forward pass alone, and units chosen once for all."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from wrt.derive import target as targets
from wrt.derive.inputs import engine_of
from wrt.derive.job import Job, Options, prepare
from wrt.derive.programs import kept
from wrt.derive.values import outputs_of
from wrt.engines import registry
from wrt.engines.base import Arrays
from wrt.engines.network import Taps
from wrt.select import Layer, Logit, Output, Top
from wrt.trees import flatten, unflatten


def layer_values(job: Job, state: Arrays, leaves: Arrays) -> Arrays:
    """The outputs of the layers that `wrt` names, for samples that are on the device."""
    problem = job.recipe.problem
    sites = problem.wrt.sites

    def look(state: Arrays, leaves: Arrays) -> Arrays:
        taps = Taps(watch=sites)
        problem.network.apply(state, unflatten(problem.structure, leaves), taps)
        return [taps.seen[site] for site in sites]

    return kept(job, "layers", lambda: look)(state, leaves) if sites else []


def settled(model: Any, x: Any, of: Any, wrt: Any, options: Options) -> Any:
    """`of` with the highest units at `x` in place of `"max"` and `wrt.top(k)`, which would move with the input."""
    wrapped = isinstance(of, (Layer, Logit, Output))
    target = targets.parse(of)
    if not isinstance(target.unit, Top):
        return of
    prepare(model, x, of, wrt, "rows", options)  # its errors speak of the units that were asked for
    every = dataclasses.replace(of, unit="all") if wrapped else "all"
    value = outputs_of(model, x, every, wrt, options)
    engine = engine_of(x)
    index = (engine or registry.engine("reference")).top(value, target.unit.k)
    labels = index if engine else np.asarray(index)
    labels = labels[:, 0] if target.unit.k == 1 else labels
    return dataclasses.replace(of, unit=labels) if wrapped else labels


def rows_of(maps: Any) -> np.ndarray:
    """All maps of a sample in one row, `(N, D)`."""
    arrays = [registry.host(a).astype(float) for a in flatten(maps)[0]]
    return np.concatenate([a.reshape(len(a), -1) for a in arrays], 1)
