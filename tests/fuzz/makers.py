"""What the fuzz knows about a function: the arguments it takes, or why it is not asked."""

from __future__ import annotations

import dataclasses
import fnmatch
import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

Call = Callable[..., Any]


@dataclasses.dataclass(frozen=True)
class Maker:
    """`call(function, *x)` is a function of samples; a letter of `shapes` is a size to be drawn, a digit is itself.

    `domain` says where values may lie: see `DOMAINS`. `names` of several makers of one function differ by a suffix.
    """

    name: str
    function: Call
    call: Call
    shapes: str = "f"
    domain: str = "real"

    def __call__(self, *x: Any) -> Any:
        return self.call(self.function, *x)

    def sized(self, letters: dict[str, int]) -> list[tuple[int, ...]]:
        """The shapes of one sample; `.` is a scalar."""
        return [
            tuple(int(c) if c.isdigit() else letters[c] for c in shape if c != ".") for shape in self.shapes.split()
        ]

    def domains(self) -> list[str]:
        given = self.domain.split()
        return given if len(given) > 1 else given * len(self.shapes.split())


DOMAINS: dict[str, tuple[float, float]] = {
    "real": (-1.3, 1.4),
    "positive": (0.35, 1.9),
    "above": (1.15, 2.6),
    "unit": (-0.85, 0.85),
    "share": (0.12, 0.88),
    "small": (-0.3, 0.3),
}


class Table:
    """The functions of some modules: each has makers, or a reason."""

    def __init__(self, **modules: ModuleType) -> None:
        self.modules, self.makers, self.reasons = modules, [], {}
        self.makers: list[Maker]
        self.reasons: dict[str, str]

    def each(self, names: str, call: Call = lambda f, *x: f(*x), shapes: str = "f", domain: str = "real") -> None:
        """One maker for every name, `module.function`, with a suffix after `:` where there are several."""
        for name in names.split():
            module, _, rest = name.partition(".")
            function = getattr(self.modules[module], rest.partition(":")[0])
            self.makers.append(Maker(name, function, call, shapes, domain))

    def without(self, reason: str, names: str) -> None:
        """Names that are not asked, `*` for any letters."""
        for name in names.split():
            self.reasons[name] = reason

    def asked(self) -> set[str]:
        return {maker.name.partition(":")[0] for maker in self.makers}

    def missing(self) -> list[str]:
        """Exported functions with neither a maker nor a reason."""
        names = exported(self.modules) - self.asked() - self.reasons.keys()
        patterns = [pattern for pattern in self.reasons if "*" in pattern]
        return sorted(name for name in names if not any(fnmatch.fnmatchcase(name, p) for p in patterns))

    def unknown(self) -> list[str]:
        """Reasons for what is not exported, or for what has a maker."""
        there = exported(self.modules)
        plain = {name for name in self.reasons if "*" not in name}
        return sorted((plain - there) | (plain & self.asked()))


def exported(modules: dict[str, ModuleType]) -> set[str]:
    """`module.function` for all that can be called and is no class: ufuncs are objects."""
    return {
        f"{short}.{name}"
        for short, module in modules.items()
        for name, value in inspect.getmembers(module)
        if not name.startswith("_") and callable(value) and not inspect.isclass(value)
    }


def points(shapes: list[tuple[int, ...]], domains: list[str], samples: int, seed: int, special: bool) -> list[Any]:
    """Values far from one another, each in its domain; special ones are zeros, ties and ones."""
    rng = np.random.default_rng(seed)
    sizes = [samples * int(np.prod(s)) for s in shapes]
    spread = np.split(rng.permutation(np.linspace(0, 1, sum(sizes) + 2)[1:-1]), np.cumsum(sizes)[:-1])
    found = []
    for shape, domain, part in zip(shapes, domains, spread, strict=True):
        low, high = DOMAINS[domain]
        values = low + (high - low) * part
        if special:
            marks = np.array([0.0, 0.0, 1.0, -1.0, 0.5, 0.5])
            marks = marks[(marks > low) & (marks < high)]
            at = rng.random(values.shape) < 0.7
            values = np.where(at & (len(marks) > 0), rng.choice(marks if len(marks) else values, values.shape), values)
        found.append(np.float32(values).astype(np.float64).reshape(samples, *shape))
    return found
