"""What the proof of a plan has found, in words: what differs by how much, the likely cause, the way out."""

from __future__ import annotations

from dataclasses import dataclass

from wrt.derive.job import NAMED, Job
from wrt.derive.lines import Gap
from wrt.derive.problem import diff_of
from wrt.derive.verification import current
from wrt.errors import DerivativeError, DerivativeWarning, OwnRuleWarning, warn

SILENCE = 'with wrt.verification("off"): around the first call, or the same as a setting, leaves this out'
SHOWN = 4  # operators named


@dataclass(frozen=True)
class Finding:
    """`kind` is "derivative", "values" (the program computes another function) or "samples" (they mix)."""

    kind: str
    text: str


def of_gap(job: Job, gap: Gap, sample: int) -> Finding:
    """A derivative that differences contradict."""
    what = {1: "", 2: "second ", 3: "third ", 4: "fourth "}[gap.order]
    return Finding(
        "derivative",
        f"{NAMED.get(job.what, 'Taylor')}: at sample {sample} a random mixture of the {what}derivatives is "
        f"{gap.derivative:.6g}, and {gap.difference:.6g} by differences of the values (off by {100 * gap.error:.2g} %)",
    )


def of_values(sample: int, error: float) -> Finding:
    """A program that computes something else than the function does."""
    return Finding(
        "values",
        f"at sample {sample} the outputs that came with the derivative differ by {100 * error:.2g} % from the "
        "function evaluated afresh: the compiled program is that of another function or of old values. What changes "
        "between calls must be a weight or an input; make a new function or plan where it does",
    )


def of_samples(sample: int, error: float | None) -> Finding:
    """A sample whose values depend on the others."""
    how = "has another number of outputs" if error is None else f"gives other values ({100 * error:.2g} % off)"
    return Finding(
        "samples",
        f"sample {sample} {how} when it is among other samples: samples influence one another (statistics of the "
        "batch, pairs of inputs), so there is no derivative per sample, and results depend on the batch. Use inference "
        "mode (model.eval()), or a function of one sample as jax.vmap(f) or torch.func.vmap(f); wrt.check says more",
    )


def report(job: Job, finding: Finding, names: list[str]) -> None:
    """Warn or raise, as `wrt.verification` says; of the model's own rules, given by name, once per model."""
    if names:
        return _report_rules(job, finding, names)
    way = (
        ". The derivative of an operator is likely wrong, in its framework or in wrt: wrt.check(model, x) finds the "
        "entry, mode= chooses the other direction"
    )
    return _say(f"{finding.text}{way * (finding.kind == 'derivative')}. {SILENCE}", DerivativeWarning)


def _report_rules(job: Job, finding: Finding, names: list[str]) -> None:
    key = ("own rules warned of", tuple(names))
    if job.adapted.cache.get(key):
        return
    job.adapted.cache[key] = True
    rules = ", ".join(names[:SHOWN])
    _say(
        f"{finding.text}. The model has derivatives of its own ({rules}), which differences of the values do not "
        "follow: as it should be for a straight-through rule, not for one that is meant to be exact. To silence just "
        "this: "
        f"warnings.filterwarnings('ignore', category=wrt.OwnRuleWarning); {SILENCE}",
        OwnRuleWarning,
    )


def own_rules(job: Job) -> list[str]:
    """The model's own derivative rules, by name, as far as they can be found."""
    engine, network = job.engine, job.adapted.network
    like = network.like() if job.inputs.host else job.inputs.leaves[0]
    try:
        leaves = [engine.asarray(a, d, like) for a, d in zip(job.inputs.leaves, job.inputs.dtypes, strict=True)]
        labels = None if job.labels is None else engine.asarray(job.labels, None, like)
        diff, fixed = diff_of(job.recipe.problem, leaves, job.recipe.shapes.sites)
        return engine.own_rules(job.recipe.problem.function(job.adapted.state(False), fixed, labels), diff)
    except Exception:  # what cannot be looked at has no names
        return []


def _say(text: str, category: type[DerivativeWarning]) -> None:
    if current() == "error":
        raise DerivativeError(text)
    warn(text, category)
