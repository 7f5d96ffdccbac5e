"""Forward passes alone: the chosen outputs."""

from __future__ import annotations

import dataclasses
from typing import Any

from wrt.derive.first import check_scalar, squeezed
from wrt.derive.job import Job, Options, prepare
from wrt.derive.problem import diff_of
from wrt.derive.programs import kept
from wrt.derive.run import Result, run
from wrt.engines.base import Array, Arrays
from wrt.trees import unflatten


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
