"""Derivatives against differences, entry by entry and along random directions; the worst entry is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from wrt.derive.differences import Oracle
from wrt.derive.products import Products
from wrt.derive.survey import push_or_none

ROOM = 20_000_000  # numbers kept at a time
DIRECTIONS = 4
EXPLAINED = 4.0  # an error of at most so many doubts is put down to a kink
CLEAR = 40.0  # an error of so many doubts, the largest of any direction, is put down to no kink
SMALL = 1e-2  # of the tolerance: no kink is looked for below
ROUNDINGS = 16.0  # that a value or derivative may be off by anyhow
SHIFTS = 2  # neighbours at which an error has to show again


@dataclass(frozen=True)
class Comparison:
    """The worst entry `where` (sample, flat output, flat input) and its two values; how much was compared.

    `max_error` is relative to the largest entry of its row, both per typical size of the input.
    """

    max_error: float
    where: tuple[int, int, int]
    derivative: float
    difference: float
    way: str  # "reverse" or "forward": which of the two derivatives it is
    mixed: bool  # the values are those along a random direction, in which the entry has the largest part
    entries: int
    kinks: int
    noise: int  # entries of rows in which even an error of the size of the largest entry would pass for rounding
    directions: int


@dataclass(frozen=True)
class Choice:
    """What is compared at each sample: outputs `(N, R)`, inputs `(N, C)`, and directions `(D, N, n)`."""

    rows: np.ndarray
    columns: np.ndarray
    directions: np.ndarray

    @property
    def units(self) -> list[np.ndarray]:
        n = self.directions.shape[2]
        return [unit(self.columns[:, c], n) for c in range(self.columns.shape[1])]


@dataclass(frozen=True)
class Block:
    """One way along some directions: all `(N, rows, directions)`; `explained` are the errors that are not judged."""

    way: str
    rows: np.ndarray
    derivative: np.ndarray
    difference: np.ndarray
    doubt: np.ndarray
    error: np.ndarray
    explained: np.ndarray
    smooth: np.ndarray  # no kink hides in any direction that was looked at: the error needs no neighbours

    @property
    def judged(self) -> np.ndarray:
        return np.where(self.explained, 0.0, self.error)

    @property
    def worst(self) -> float:
        return float(self.judged.max(initial=0.0))


def compare(
    products: Products,
    oracle: Oracle,
    shifted: Callable[[int], tuple[Products, Oracle]],
    most: int,
    tolerance: float,
    seed: int,
) -> Comparison:
    """Compare, and name the worst entry.

    Where x lies on a kink exactly (equal values under a max pooling, zeros under a ReLU) no difference tells the
    derivative, and the jumps of several kinks may hide one another; so an error has to show at neighbours of x too,
    unless the output bends nowhere: rules that are wrong at special points only (a product at 0) show nowhere else.
    """
    pulled, choice = _choose(products, oracle, most, seed)
    here = _Comparer(products, oracle, choice, tolerance, pulled)
    blocks = here.blocks()
    for number in range(SHIFTS):
        if max(b.worst for b in blocks) > tolerance:
            there = _Comparer(*shifted(number), choice, tolerance).blocks()
            blocks = [_confirmed(a, b, tolerance) for a, b in zip(blocks, there, strict=True)]
    return here.result(blocks)


def _confirmed(block: Block, again: Block, tolerance: float) -> Block:
    excused = (block.error > tolerance) & ~block.smooth & (again.explained | (again.error <= tolerance))
    return replace(block, explained=block.explained | excused)


def unit(number: np.ndarray, size: int) -> np.ndarray:
    """Unit vectors `(N, size)`, one for each number."""
    return (np.arange(size) == number[:, None]).astype(np.float64)


def _choose(products: Products, oracle: Oracle, most: int, seed: int) -> tuple[np.ndarray, Choice]:
    random = np.random.default_rng(seed)
    samples, (_, m, n) = products.samples, products.shape
    rows = _heaviest(np.abs(oracle.values), _room(most, samples * n), random)
    pulled = pull_rows(products, rows) * oracle.scale
    columns = _heaviest(np.abs(pulled).sum(1), _room(most, samples * 6 * m), random)
    draws = random.standard_normal((DIRECTIONS, samples, n))
    return pulled, Choice(rows, columns, draws / np.linalg.norm(draws, axis=2, keepdims=True))


def _room(most: int, size: int) -> int:
    return max(1, min(most, ROOM // max(1, size)))


def _heaviest(weight: np.ndarray, most: int, random: np.random.Generator) -> np.ndarray:
    """All of them where there are few; otherwise, for each sample, half the heaviest and half at random."""
    if weight.shape[1] <= most:
        return np.broadcast_to(np.arange(weight.shape[1]), weight.shape)
    order = np.argsort(-weight, axis=1, kind="stable")
    half = -(-most // 2)
    rest = random.permuted(order[:, half:], axis=1)
    return np.concatenate([order[:, :half], rest[:, : most - half]], axis=1)


def pull_rows(products: Products, rows: np.ndarray) -> np.ndarray:
    """The chosen rows of the Jacobians, `(N, R, n)`."""
    m = products.shape[1]
    return np.stack([products.back(unit(rows[:, r], m)) for r in range(rows.shape[1])], axis=1)


class _Comparer:
    """All that is compared at some samples; directions and rows are per typical size of the inputs."""

    def __init__(
        self, products: Products, oracle: Oracle, choice: Choice, tolerance: float, pulled: np.ndarray | None = None
    ) -> None:
        self.products, self.oracle, self.choice, self.tolerance = products, oracle, choice, tolerance
        self.samples, (_, self.m, self.n) = products.samples, products.shape
        self.drowned = np.zeros((self.samples, self.m), bool)
        self.pulled = pull_rows(products, choice.rows) * oracle.scale if pulled is None else pulled

    def blocks(self) -> list[Block]:
        """Single inputs both ways, then random directions both ways."""
        raw = [b for vectors in (self.choice.units, list(self.choice.directions)) for b in self._along(vectors)]
        scale, bends = self._scale(raw), self._bends(raw)
        return [self._judged(*block, scale, bends) for block in raw]

    def _bends(self, blocks: list[tuple[str, np.ndarray, np.ndarray, np.ndarray, np.ndarray]]) -> np.ndarray:
        """The largest doubt of each output of each sample, `(N, m)`."""
        worst, numbers = np.zeros((self.samples, self.m)), np.arange(self.samples)[:, None]
        for _, rows, _, difference, doubt in blocks:
            doubt = np.where(np.isfinite(difference), doubt, np.inf)
            np.maximum.at(worst, (numbers, rows), doubt.max(axis=2, initial=0.0))
        return worst

    def _along(self, directions: list[np.ndarray]) -> list[tuple[str, np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        numbers = np.arange(self.samples)
        found = [self.oracle.along(v * self.oracle.scale, numbers) for v in directions]
        value, doubt = (np.stack([getattr(f, name) for f in found], axis=2) for name in ("value", "doubt"))
        rows = self.choice.rows
        some, doubts = (np.take_along_axis(a, rows[:, :, None], 1) for a in (value, doubt))
        blocks = [("reverse", rows, np.matmul(self.pulled, np.stack(directions, axis=2)), some, doubts)]
        pushed = [push_or_none(self.products, v * self.oracle.scale) for v in directions]
        every = np.broadcast_to(np.arange(self.m), (self.samples, self.m))
        forth = [p for p in pushed if p is not None]
        if len(forth) == len(pushed):
            blocks.append(("forward", every, np.stack(forth, axis=2), value, doubt))
        return blocks

    def _scale(self, blocks: list[tuple[str, np.ndarray, np.ndarray, np.ndarray, np.ndarray]]) -> np.ndarray:
        """What an error is relative to, `(N, m)`: the largest entry of the row, and what rounding does to it anyhow."""
        largest, numbers = np.zeros((self.samples, self.m)), np.arange(self.samples)[:, None]
        for _, rows, derivative, difference, _ in blocks:
            size = np.maximum(np.abs(derivative), np.abs(np.nan_to_num(difference))).max(axis=2, initial=0.0)
            np.maximum.at(largest, (numbers, rows), size)
        np.maximum.at(largest, (numbers, self.choice.rows), np.abs(self.pulled).max(axis=2, initial=0.0))
        eps = float(np.finfo(self.products.dtype).eps)
        magnitude = np.abs(self.oracle.values).max(axis=0, initial=0.0)
        floor = ROUNDINGS * (self.oracle.noise / self.oracle.step + eps * magnitude)
        self.drowned = (largest > 0) & (largest < 2 * floor)
        return largest + floor / self.tolerance

    def _judged(
        self,
        way: str,
        rows: np.ndarray,
        derivative: np.ndarray,
        difference: np.ndarray,
        doubt: np.ndarray,
        scale: np.ndarray,
        bends: np.ndarray,
    ) -> Block:
        across = np.take_along_axis(scale, rows, 1)[:, :, None]
        distance = np.abs(derivative - difference)
        error = np.where(distance > 0, np.inf, np.zeros_like(distance))
        np.divide(distance, across, out=error, where=across > 0)
        explained = (error > SMALL * self.tolerance) & (distance <= EXPLAINED * doubt)
        smooth = distance >= CLEAR * np.take_along_axis(bends, rows, 1)[:, :, None]
        explained |= ~np.isfinite(difference)
        return Block(way, rows, derivative, difference, doubt, error, explained, smooth)

    def result(self, blocks: list[Block]) -> Comparison:
        """The worst entry of what was judged; the reverse derivative first, which the forward one may be made of."""
        half = len(blocks) // 2
        wrong = [b for b in blocks if b.worst > self.tolerance]
        block = wrong[0] if wrong else max(blocks[:half], key=lambda b: b.worst)
        place = np.unravel_index(int(np.argmax(block.judged)), block.error.shape)
        sample, row, direction = map(int, place)
        single = any(block is b for b in blocks[:half])
        column = (
            int(self.choice.columns[sample, direction])
            if single
            else self._locate(block, sample, row, self.choice.directions[direction, sample])
        )
        error, values, mixed = self._shown(block, sample, row, direction, column, single)
        size = 1.0 if mixed else self.oracle.scale[column]
        return Comparison(
            max_error=error,
            where=(sample, int(block.rows[sample, row]), column),
            derivative=values[0] / size,
            difference=values[1] / size,
            way=block.way,
            mixed=mixed,
            entries=sum(b.error.size for b in blocks[:half]),
            kinks=sum(int(b.explained.sum()) for b in blocks[:half]),
            noise=sum(self._drowned(b) for b in blocks[:half]),
            directions=sum(b.error.size for b in blocks[half:]),
        )

    def _shown(
        self, block: Block, sample: int, row: int, direction: int, column: int, single: bool
    ) -> tuple[float, tuple[float, float], bool]:
        """An error and the two values that it is of: the entry's, or the direction's where only that shows."""
        values = tuple(float(a[sample, row, direction]) for a in (block.derivative, block.difference))
        if single:
            return block.worst, (values[0], values[1]), False
        entry = self._one(block, sample, row, unit(np.array([column]), self.n)[0])
        across = abs(values[0] - values[1]) / block.worst if block.worst else 1.0  # what errors are relative to
        error = abs(entry[0] - entry[1]) / across
        return (error, entry, False) if error > self.tolerance else (block.worst, (values[0], values[1]), True)

    def _drowned(self, block: Block) -> int:
        return int((np.take_along_axis(self.drowned, block.rows, 1)[:, :, None] & ~block.explained).sum())

    def _locate(self, block: Block, sample: int, row: int, vector: np.ndarray) -> int:
        """Halve a direction along which derivative and differences part, until one input is left."""
        inputs = np.arange(self.n)
        while len(inputs) > 1:
            halves = np.array_split(inputs, 2)
            gaps = [abs(np.subtract(*self._one(block, sample, row, _only(vector, half)))) for half in halves]
            inputs = halves[int(np.argmax(gaps))]
        return int(inputs[0])

    def _one(self, block: Block, sample: int, row: int, vector: np.ndarray) -> tuple[float, float]:
        """Derivative and difference of one output of one sample along one direction."""
        output, direction = block.rows[sample, row], vector * self.oracle.scale
        difference = self.oracle.along(direction[None], np.array([sample])).value[0, output]
        if block.way == "reverse":
            return float(self.pulled[sample, row] @ vector), float(difference)
        pushed = self.products.forth(np.where(np.arange(self.samples)[:, None] == sample, direction, 0.0))
        return float(pushed[sample, output]), float(difference)


def _only(vector: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    part = np.zeros_like(vector)
    part[inputs] = vector[inputs]
    return part


def dot_tolerance(products: Products, oracle: Oracle) -> float:
    """A third of the digits, of the model or of what is exact inside it."""
    return max(float(np.finfo(products.dtype).eps), oracle.step**4) ** (1 / 3)


def dot_error(products: Products, oracle: Oracle, seed: int, draws: int = 3) -> float:
    """The largest `|u·(J v) - (Jᵀ u)·v|` of random u and v, or NaN where there is no forward derivative.

    Relative to `|u| |J v| + |Jᵀ u| |v|`, with room for what a thousand roundings of the outputs would do.
    """
    random = np.random.default_rng(seed)
    samples, (_, m, n) = products.samples, products.shape
    slack = 1e3 * float(np.finfo(products.dtype).eps) / dot_tolerance(products, oracle)
    worst = 0.0
    for _ in range(draws):
        u, g = random.standard_normal((samples, m)), random.standard_normal((samples, n))
        v = g * oracle.scale
        pushed, pulled = push_or_none(products, v), products.back(u)
        if pushed is None:
            return float("nan")
        rounding = slack * _length(u * oracle.values) * _length(g)
        size = _length(u) * _length(pushed) + _length(pulled * oracle.scale) * _length(g) + rounding
        gap = np.abs((u * pushed).sum(1) - (pulled * v).sum(1))
        worst = max(worst, float(np.divide(gap, size, out=np.zeros_like(gap), where=size > 0).max(initial=0.0)))
    return worst


def _length(a: np.ndarray) -> np.ndarray:
    return np.linalg.norm(a, axis=1)
