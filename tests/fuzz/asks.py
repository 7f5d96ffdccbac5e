"""One case: a function, or one after another, points, and what is asked of wrt; the outcome of each question."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

import wrt
from wrt.errors import NonFiniteWarning, WrtError, WrtWarning, reason

from . import truth, verbs
from .makers import DOMAINS, Maker, points

FIRST = ("reverse", "forward", "auto", "gradient", "jvp", "vjp")
SECOND = ("hessian reverse", "hessian forward", "hvp")
TOLERANCES = {"float64": (1e-6, 2e-5), "float32": (3e-3, 3e-2)}


@dataclasses.dataclass(frozen=True)
class Case:
    """`outer` is None, or applied to what `inner` gives."""

    inner: Maker
    outer: Maker | None
    sizes: tuple[tuple[str, int], ...]
    samples: int
    seed: int
    special: bool
    dtype: str
    compile: bool | None
    batch_size: int | None

    @property
    def name(self) -> str:
        return f"{self.outer.name}({self.inner.name})" if self.outer else self.inner.name

    def __repr__(self) -> str:
        letters = "".join(f"{k}{v}" for k, v in self.sizes)
        rest = f"N={self.samples}, seed={self.seed}, {self.dtype}, compile={self.compile}, batch={self.batch_size}"
        return f"{self.name} [{letters}, {rest}{', special' * self.special}]"

    def function(self) -> Callable[..., Any]:
        inner, outer, letters = self.inner, self.outer, dict(self.sizes)
        if outer is None:
            return _arity(inner)
        shapes = list(zip(outer.sized(letters), outer.domains(), strict=True))
        return _arity(lambda *x: outer(*[_fitted(inner(*x), s, d, k) for k, (s, d) in enumerate(shapes)]), inner)

    def points(self) -> list[np.ndarray]:
        shapes = self.inner.sized(dict(self.sizes))
        return points(shapes, self.inner.domains(), self.samples, self.seed, self.special)


def _arity(f: Callable[..., Any], like: Maker | None = None) -> Callable[..., Any]:
    """A function with as many parameters as there are arrays."""
    count = len((like or f).shapes.split())  # type: ignore[union-attr]
    return [None, lambda a: f(a), lambda a, b: f(a, b), lambda a, b, c: f(a, b, c)][count]  # type: ignore[return-value]


def _fitted(y: Any, shape: tuple[int, ...], domain: str, seed: int) -> Any:
    """What the inner function gives, with another shape and inside the domain of the outer one."""
    low, high = DOMAINS[domain]
    if domain == "real" and tuple(int(n) for n in y.shape[1:]) == shape:
        return y
    return (high + low) / 2 + verbs.tanh(verbs.mapped(y, shape, seed) / 2) * ((high - low) * 0.45)


@dataclasses.dataclass
class Outcome:
    """`kind`: right, refused, warned, noticed, not judged; or wrong, foreign, false alarm, not finite."""

    case: Case
    question: str
    kind: str
    said: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.question} of {self.case!r}" + f": {self.said}" * bool(self.said)


FAILED = ("wrong", "foreign", "false alarm", "not finite")


class Asked:
    """The function of a case, its truth, and wrt's answers."""

    def __init__(self, case: Case) -> None:
        self.case, self.f, self.x = case, case.function(), case.points()
        f = self.f
        scalar = lambda *x: verbs.score(f(*x))
        self.scalar = [None, lambda a: scalar(a), lambda a, b: scalar(a, b), lambda a, b, c: scalar(a, b, c)][
            len(self.x)
        ]
        rng = np.random.default_rng(case.seed + 1)
        self.v = [rng.normal(size=a.shape) for a in self.x]
        self.u: np.ndarray | None = None

    def truth_of(self, order: int) -> truth.Truth:
        if order == 2:
            return truth.second(verbs.forward(self.scalar), self.x)
        self.shape = verbs.forward(self.f)(self.x).shape
        self.u = np.random.default_rng(self.case.seed + 2).normal(size=self.shape)
        return truth.first(verbs.forward(self.f), self.x)

    def answer(self, question: str) -> list[np.ndarray]:
        """Blocks: an axis for samples, those of outputs where there are any, those of an input."""
        cast = lambda arrays: [np.asarray(a, self.case.dtype) for a in arrays]
        x, v = cast(self.x), cast(self.v)
        nested = lambda a: a[0] if len(a) == 1 else tuple(a)
        options = {"compile": self.case.compile, "batch_size": self.case.batch_size}
        if question in ("reverse", "forward", "auto"):
            found = wrt.jacobian(self.f, nested(x), mode=question, **options)
        elif question == "gradient":
            found = wrt.gradient(self.scalar, nested(x), **options)
        elif question == "jvp":
            return [np.asarray(wrt.jvp(self.f, nested(x), nested(v), **options), np.float64)]
        elif question == "vjp":
            found = wrt.vjp(self.f, nested(x), cast([self.u])[0], **options)
        elif question == "hvp":
            found = wrt.hvp(self.scalar, nested(x), nested(v), **options)
        else:
            found = wrt.hessian(self.scalar, nested(x), mode=question.split()[1], **options)
        return [np.asarray(a, np.float64) for a in _flat(found)]

    def wanted(self, question: str, true: truth.Truth) -> np.ndarray:
        v = np.concatenate([a.reshape(len(a), -1) for a in self.v], 1)
        if question in ("reverse", "forward", "auto") or question.startswith("hessian"):
            return true.matrix
        if question in ("jvp", "hvp"):
            return np.einsum("noi,ni->no", true.matrix, v)
        if question == "gradient":
            y = verbs.forward(self.f)(self.x).reshape(len(v), -1)
            slope = y / 2 + 0.4 + 0.3 * np.arange(y.shape[1]) % 1.1
            return np.einsum("noi,no->ni", true.matrix, slope)
        return np.einsum("noi,no->ni", true.matrix, self.u.reshape(len(v), -1))

    def joined(self, question: str, found: list[np.ndarray]) -> np.ndarray:
        """Blocks side by side, as the truth is."""
        rows = len(self.x[0])
        sizes = [a[0].size for a in self.x]
        if question in ("jvp",):
            return found[0].reshape(rows, -1)
        if question in ("gradient", "vjp", "hvp"):
            return np.concatenate([b.reshape(rows, -1) for b in found], 1)
        if question.startswith("hessian"):
            count = len(sizes)
            lines = [found[i * count : (i + 1) * count] for i in range(count)]
            parts = [
                np.concatenate([b.reshape(rows, n, -1) for b in line], 2) for n, line in zip(sizes, lines, strict=True)
            ]
            return np.concatenate(parts, 1)
        return np.concatenate([b.reshape(rows, -1, n) for b, n in zip(found, sizes, strict=True)], 2)


def _flat(found: Any) -> list[Any]:
    return [leaf for part in found for leaf in _flat(part)] if isinstance(found, (list, tuple)) else [found]


def ask(case: Case, questions: tuple[str, ...]) -> list[Outcome]:
    """Every question of one order, judged by one set of differences."""
    order = 2 if questions[0] in SECOND else 1
    asked = Asked(case)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # frameworks on their own functions
        try:
            true = asked.truth_of(order)
        except Exception as error:  # a composition may not exist; a function alone must
            kind = "not judged" if case.outer else "foreign"
            return [Outcome(case, q, kind, f"the function itself: {reason(error)}") for q in questions]
    if not true.judged.any():
        return [Outcome(case, q, "not judged") for q in questions]
    return [_outcome(asked, question, true) for question in questions]


def _outcome(asked: Asked, question: str, true: truth.Truth) -> Outcome:
    case = asked.case
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            found = asked.joined(question, asked.answer(question))
        except WrtError as error:
            return Outcome(case, question, "refused", f"{type(error).__name__}: {reason(error)}")
        except Exception as error:
            return Outcome(case, question, "foreign", f"{type(error).__name__}: {reason(error)}")
    said = "; ".join(str(w.message).splitlines()[0] for w in heard if issubclass(w.category, WrtWarning))
    rows, whole = true.judged, np.isfinite(found).all()  # what is not judged may hold what is warned of
    found, wanted = found[rows], asked.wanted(question, true)[rows]
    if not np.isfinite(found).all():
        return Outcome(case, question, "warned" if said else "not finite", said)
    with np.errstate(all="ignore"):
        size = np.maximum(np.abs(true.matrix[rows]).max((1, 2)), 1e-2)
        off = np.abs(found - wanted).reshape(len(found), -1).max(1, initial=0)
        weight = max(1.0, np.abs(wanted).max() / size.max())
        allowed = TOLERANCES[case.dtype][question in SECOND] * size + 30 * true.error[rows].max((1, 2))
        right = off <= allowed * weight * (4 if question in ("jvp", "vjp", "gradient", "hvp") else 1)
    if right.all():
        told = {w.category for w in heard if issubclass(w.category, WrtWarning)} == {NonFiniteWarning} and not whole
        return Outcome(case, question, "warned" if told else "false alarm" if said else "right", said)
    worst = int(np.argmax(off / size))
    what = f"off by {off[worst] / size[worst]:.1e} of the largest entry; {found[worst].round(4).tolist()}"
    what = f"{what} for {wanted[worst].round(4).tolist()} at {[a[rows][worst].round(4).tolist() for a in asked.x]}"
    return Outcome(case, question, "noticed" if said else "wrong", f"{said}: {what}" if said else what)
