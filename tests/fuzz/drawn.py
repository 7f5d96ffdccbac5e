"""Cases drawn by hypothesis."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from conftest import ENGINE
from hypothesis import HealthCheck, Phase, given, seed as seeded, settings, strategies as st

from .asks import FIRST, SECOND, Case
from .makers import Maker, Table

FILES = {
    "torch": ("torch_networks", "keras_functions"),
    "jax": ("jax_matrices", "keras_functions"),
    "tensorflow": ("tensorflow_reasons", "keras_functions"),
}[ENGINE]
TABLES: list[Table] = [importlib.import_module(f".{name}", __package__).TABLE for name in FILES]
MAKERS: list[Maker] = [maker for table in TABLES for maker in table.makers]
QUICK = ENGINE == "torch"  # nothing is compiled, so that everything can be asked of every case


@st.composite
def cases(draw: st.DrawFn, inner: Maker | None = None) -> tuple[Case, tuple[str, ...]]:
    """A function, or one after another; sizes from 1; special points, precisions, batches; questions of one order."""
    outer = None if inner else draw(st.sampled_from([None, *MAKERS]))
    inner = inner or draw(st.sampled_from(MAKERS))
    letters = sorted({c for m in (inner, outer) if m for c in m.shapes if c.isalpha()})
    case = Case(
        inner,
        outer,
        tuple((letter, draw(st.integers(1, 3))) for letter in letters),
        draw(st.integers(1, 3)),
        draw(st.integers(0, 2**16)),
        draw(st.booleans()),
        draw(st.sampled_from(("float64", "float64", "float32"))),
        None if QUICK else draw(st.sampled_from((False, False, None))),
        draw(st.sampled_from((None, None, 1, 2))),
    )
    asked = draw(st.sampled_from((FIRST, SECOND)))
    return case, asked if QUICK else (draw(st.sampled_from(asked)),)


def run(strategy: st.SearchStrategy, count: int, seed: int, visit: Callable[[Case, tuple[str, ...]], None]) -> None:
    """`visit(case, questions)` for as many cases as that. Shrinking would compile for minutes, and sizes are small."""
    limits = {"deadline": None, "database": None, "phases": (Phase.generate,)}

    @seeded(seed)
    @settings(max_examples=count, suppress_health_check=list(HealthCheck), **limits)
    @given(strategy)
    def each(drawn: tuple[Case, tuple[str, ...]]) -> None:
        visit(*drawn)

    each()
