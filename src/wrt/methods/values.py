"""Forward passes alone: the chosen outputs, the values of layers, and units chosen once for all."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from wrt.derive import target as targets
from wrt.derive.first import check_scalar, squeezed
from wrt.derive.inputs import engine_of
from wrt.derive.job import Job, Options, kept, prepare
from wrt.derive.problem import diff_of
from wrt.derive.run import Result, run
from wrt.engines import registry
from wrt.engines.base import Array, Arrays
from wrt.engines.network import Taps
from wrt.select import Layer, Logit, Output, Top
from wrt.trees import flatten, unflatten


def outputs_of(model: Any, x: Any, of: Any, wrt: Any, options: Options) -> Any:
    """The chosen outputs at `x`, `(N,)` or `(N, K)`, by a forward pass."""
    job = prepare(model, x, of, wrt, "vjp", options)
    check_scalar(job, of)
    found = forward_of(job)
    return unflatten(job.recipe.shapes.out_structure, squeezed(job, of, Result(found, [])).outputs)


def forward_of(job: Job) -> list[Any]:
    """The chosen outputs of a job for a product, `(N, *out)` each."""
    problem, sites = job.recipe.problem, job.recipe.shapes.sites

    def forward(state: Arrays, leaves: Arrays, labels: Array | None, _: Arrays) -> tuple[Arrays, Arrays]:
        diff, fixed = diff_of(problem, leaves, sites)
        return [], [y[None] for y in problem.function(state, fixed, labels)(diff)]

    recipe = dataclasses.replace(job.recipe, program=kept(job, "outputs", lambda: forward))
    return run(dataclasses.replace(job, recipe=recipe, remember=lambda _: None)).blocks


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
