"""A plan proves itself: on its first call its results are held against the function itself."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from wrt.derive import findings
from wrt.derive.examine import Examination
from wrt.derive.job import Job, Recipe, by_plan, other_way
from wrt.derive.programs import Proof
from wrt.derive.verification import current

Again = Callable[[Job], Any]  # the result of the same rows by another recipe


class Instead(Exception):
    """No error, but the way back to the start of the call: the job goes on by another recipe."""

    def __init__(self, job: Job) -> None:
        self.job = job


def settled(job: Job) -> Job:
    """The job by the recipe that has taken the place of its own, if one has."""
    recipe = job.recipe
    if recipe.proof.instead is None or recipe.program is not recipe.derivative:
        return job
    return dataclasses.replace(job, recipe=by_plan(job, recipe.proof.instead, Proof(done=True)))


def verify(job: Job, rows: slice, result: Any, again: Again) -> None:
    """Hold the first result of a recipe against its function; warn, raise, or go on in reverse.

    Raises:
        Instead: forward mode is wrong and reverse is right.
        DerivativeError: what is found, where `wrt.verification("error")` holds.
    """
    proof, own = job.recipe.proof, job.recipe.program is job.recipe.derivative
    if proof.done or not own or current() == "off" or not _has_values(job, result):
        return
    proof.done = True
    finding, names, recipe = None, [], None
    with _aside(job):
        examination = Examination(job, rows, result)
        finding = examination.finding()
        if finding is not None and finding.kind == "derivative":
            recipe = _reverse(job, examination, finding.text, again)
            names = [] if recipe else findings.own_rules(examination.part.job)
    if recipe is not None:
        proof.instead = recipe.plan
        job.remember(recipe)
        raise Instead(settled(job))
    if finding is not None:
        findings.report(job, finding, names)


def _has_values(job: Job, result: Any) -> bool:
    """Not inside a transformation, not with random layers, not with rules that are meant to differ."""
    problem, traced = job.recipe.problem, job.engine.is_traced
    if problem.rules or problem.training or not job.inputs.samples:
        return False
    tensors = [*job.inputs.leaves, *job.extra, *result.outputs, *result.blocks, *job.adapted.state(False)[:1]]
    return not any(traced(a) for a in tensors if not isinstance(a, np.ndarray))


@contextlib.contextmanager
def _aside(job: Job) -> Iterator[None]:
    """Generators end as they began, and nothing is said meanwhile; what fails here is not judged."""
    numpy, python = np.random.get_state(), random.getstate()
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            with job.engine.generators_kept():
                yield
        except Exception:  # an operator that cannot bear another dtype or another number of samples, no memory, ...
            pass
        finally:
            np.random.set_state(numpy)
            random.setstate(python)


def _reverse(job: Job, examination: Examination, text: str, again: Again) -> Recipe | None:
    """The recipe of reverse mode, where that is right and the forward one is not."""
    if job.recipe.plan.mode != "forward":
        return None
    recipe = other_way(job, f"wrong on the first call ({text})")
    if examination.gap(examination.part_of(again(dataclasses.replace(job, recipe=recipe)))) is not None:
        return None
    return recipe
