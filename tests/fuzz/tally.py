"""Outcomes counted, and told apart from what is known."""

from __future__ import annotations

import collections

from conftest import ENGINE

from .asks import FAILED, SECOND, Case, Outcome, ask
from .known import OWN, REFUSED, listed


class Tally:
    """Everything that was asked, what it was, and the failures in full."""

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self.functions: set[str] = set()
        self.failures: list[Outcome] = []
        self.met: dict[str, set[str]] = collections.defaultdict(set)

    def visit(self, case: Case, questions: tuple[str, ...]) -> list[Outcome]:
        """Ask, count, and return what failed."""
        found = ask(case, questions)
        self.functions |= {maker.name for maker in (case.inner, case.outer) if maker}
        failed = [outcome for outcome in found if self._add(outcome)]
        self.failures += failed
        return failed

    def _add(self, outcome: Outcome) -> bool:
        """Whether this one is a failure: wrong, foreign, or a refusal that no table explains."""
        names = [maker.name for maker in (outcome.case.inner, outcome.case.outer) if maker]
        known = next((f"{own.names}: {own.where}" for own in OWN[ENGINE] if own.excuses(outcome)), "")
        refused = listed(names, REFUSED[ENGINE])
        if "second" in refused and outcome.question not in (*SECOND, "jvp"):  # a jvp may be made of two pulls
            refused = ""
        kind = outcome.kind
        if refused and outcome.said.startswith("the function itself"):  # Keras's own has no value here
            kind = "not judged"
        if kind in ("refused", "warned", "noticed") or (kind in FAILED and known):
            kind = "known" if kind in FAILED else kind
            self.met[kind].add(refused or known or f"{outcome.case.name}: {outcome.said[:80]}")
        self.counts[kind] += 1
        return kind in FAILED or (kind == "refused" and not refused)

    def __str__(self) -> str:
        tried = sum(self.counts.values())
        wrong = sum(self.counts[kind] for kind in FAILED if kind != "false alarm")
        kinds = ("right", "not judged", "refused", "warned", "noticed", "known", "false alarm")
        return f"| {ENGINE} | {len(self.functions)} | {tried} | " + " | ".join(
            str(n) for n in [*(self.counts[kind] for kind in kinds), wrong]
        )
