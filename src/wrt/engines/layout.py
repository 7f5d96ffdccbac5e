"""Which axis holds the channels, read off a program: what convolutions and their like take them to be.

Every axis of every tensor of one evaluation carries marks: the axes of the watched tensors that it comes from, whether
it was added, and whether an operator has put channels there. An engine walks through its program and says of each
operator what becomes of the marks; where that is not known they are lost, and nothing is concluded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

Shape = tuple[int | None, ...]
Mark = str | tuple[int, int]  # what is below, or (number of a watched tensor, its axis)
Marks = tuple[frozenset[Mark], ...]  # of every axis of a tensor
Claims = frozenset[int | None]  # axes that hold channels; None where a convolution was given an axis of its own

NONE: frozenset[Mark] = frozenset()
ADDED: frozenset[Mark] = frozenset({"added"})
CHANNELS: frozenset[Mark] = frozenset({"channels"})  # put there by a convolution, pooling or normalisation
FEATURES: frozenset[Mark] = frozenset({"features"})  # put there by a linear map: the same where nothing else is known


@dataclass
class Ledger:
    """What is found out about the watched tensors."""

    claims: list[set[int | None]] = field(default_factory=list)
    features: list[set[int | None]] = field(default_factory=list)

    def watch(self, shapes: Sequence[Shape]) -> list[Marks]:
        """The marks of the tensors that are watched."""
        self.claims = [set() for _ in shapes]
        self.features = [set() for _ in shapes]
        return [tuple(frozenset({(k, a)}) for a in range(len(s))) for k, s in enumerate(shapes)]

    def claim(self, marks: Marks, axis: int) -> None:
        """An operator takes this axis of a tensor for its channels."""
        axis %= len(marks)
        origins = {mark for mark in marks[axis] if isinstance(mark, tuple)}
        for number, origin in origins:
            if origin:
                self.claims[number].add(origin)
        if not origins and marks[axis] == ADDED:
            others = {mark for place, every in enumerate(marks) if place != axis for mark in every}
            for number in {mark[0] for mark in others if isinstance(mark, tuple)}:
                own = {mark[1] for mark in others if isinstance(mark, tuple) and mark[0] == number}
                if len(own) == len(marks) - 1 and own == set(range(len(own))):  # all of its axes, and one more
                    self.claims[number].add(None)

    def taken(self, marks: Marks, axis: int, rank: int, out: int | None = None) -> Marks:
        """A convolution: channels are taken from an axis and put on one, and whatever else there was is used up."""
        self.claim(marks, axis)
        return made(rank, axis if out is None else out)

    def normalized(self, marks: Marks, axis: int) -> Marks:
        """A normalisation or pooling over channels of their own: the other axes stay what they were."""
        self.claim(marks, axis)
        axis %= len(marks)
        return (*marks[:axis], marks[axis] | CHANNELS, *marks[axis + 1 :])

    def mapped(self, marks: Marks) -> Marks:
        """A layer maps the last axis: it has the features of a series or of tokens, whose axes are in their order."""
        origins = {mark[0] for mark in marks[-1] if isinstance(mark, tuple)}
        for number in origins if len(marks) == 3 else ():
            if all(mark == {(number, axis)} for axis, mark in enumerate(marks)):
                self.features[number].add(2)
        return linear(marks)

    def found(self) -> list[Claims]:
        """Of every watched tensor, the axes that were taken for its channels, or else for features."""
        return [frozenset(claims or features) for claims, features in zip(self.claims, self.features, strict=True)]


def lost(rank: int) -> Marks:
    """Marks of a tensor of which nothing is known."""
    return (NONE,) * rank


def made(rank: int, axis: int, mark: frozenset[Mark] = CHANNELS) -> Marks:
    """Marks of what an operator with channels gives."""
    return tuple(mark if place == axis % rank else NONE for place in range(rank))


def put(marks: Marks) -> tuple[Claims, Claims]:
    """The axes on which channels were put, and those with features."""
    channels, features = (
        frozenset(axis for axis, mark in enumerate(marks) if mark & kind and axis) for kind in (CHANNELS, FEATURES)
    )
    return channels, features


def merged(shape: Shape, operands: Sequence[tuple[Shape, Marks]], sizes: bool = True) -> Marks:
    """Entry by entry, or like that: axes stay in order. Those of other sizes are lost, unless `sizes` is false."""
    alike = [(own, marks) for own, marks in operands if len(own) == len(shape)]
    found = []
    for axis, size in enumerate(shape):
        whole = [marks[axis] for own, marks in alike if not sizes or own[axis] == size]
        repeated = [marks[axis] - CHANNELS - FEATURES for own, marks in alike if own[axis] == 1]  # as of a gate
        mark = NONE.union(*(whole if any(whole) else repeated))
        found.append(mark if mark == ADDED else mark - ADDED)
    return tuple(found)


def moved(marks: Marks, order: Sequence[int]) -> Marks:
    """Axes in another order."""
    return tuple(marks[axis] for axis in order)


def without(marks: Marks, axes: Sequence[int]) -> Marks:
    """Some axes gone."""
    gone = {axis % len(marks) for axis in axes} if marks else set()
    return tuple(mark for axis, mark in enumerate(marks) if axis not in gone)


def reduced(ledger: Ledger, marks: Marks, axes: Sequence[int]) -> Marks:
    """A sum, mean or extreme along some axes; of images along all but one it is a global pooling."""
    rest = [axis for axis in range(len(marks)) if axis not in {a % len(marks) for a in axes}]
    if len(marks) > 3 and len(rest) == 2 and rest[0] == 0:
        marks = ledger.normalized(marks, rest[1])
    return without(marks, axes)


def with_axis(marks: Marks, axis: int) -> Marks:
    """A new axis at this place of the result."""
    axis %= len(marks) + 1
    return (*marks[:axis], ADDED, *marks[axis:])


def placed(marks: Marks, rank: int, places: Sequence[int]) -> Marks:
    """Axes at these places among new ones."""
    found = [ADDED] * rank
    for mark, place in zip(marks, places, strict=True):
        found[place] = mark
    return tuple(found)


def linear(marks: Marks) -> Marks:
    """A linear map of the last axis: features take its place, and those of an earlier map count no more."""
    return (*(mark - FEATURES for mark in marks[:-1]), FEATURES)


def reshaped(ledger: Ledger, marks: Marks, old: Shape, new: Shape) -> Marks:
    """Axes that stay whole keep their marks; those that are cut or joined lose them.

    Where every axis but one is cut in two, images are cut into patches, and the one that stays whole has the channels.
    """
    if None in old or None in new or math.prod(s or 0 for s in old) != math.prod(s or 0 for s in new):
        return lost(len(new))
    found: list[frozenset[Mark]] = []
    whole: list[int] = []
    cut = 0
    for before, after in _groups(old, new):
        large = [axis for axis in before if old[axis] != 1], [axis for axis in after if new[axis] != 1]
        kept = dict(zip(*reversed(large), strict=True)) if len(large[0]) == len(large[1]) == 1 else {}
        if len(before) == len(after) == 1:
            kept = {after[0]: before[0]}
        whole += kept.values()
        cut += len(large[0]) == 1 and len(large[1]) > 1
        found += [marks[kept[a]] if a in kept else ADDED if new[a] == 1 else NONE for a in after]
    rest = [axis for axis in whole if axis]
    if len(rest) == 1 and cut == len(old) - 2 and cut > 1:
        ledger.claim(marks, rest[0])
    return tuple(found)


def _groups(old: Shape, new: Shape) -> list[tuple[list[int], list[int]]]:
    """The shortest runs of axes of the same size, before and after."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        before, after = list(range(i, min(i + 1, len(old)))), list(range(j, min(j + 1, len(new))))
        left, right = math.prod(old[a] or 0 for a in before), math.prod(new[a] or 0 for a in after)
        while left != right or not before or not after:
            if before[-1:] != [len(old) - 1] and i + len(before) < len(old) and (left < right or not after):
                before.append(i + len(before))
            elif j + len(after) < len(new):
                after.append(j + len(after))
            elif i + len(before) < len(old):
                before.append(i + len(before))
            else:
                break
            left, right = math.prod(old[a] or 0 for a in before), math.prod(new[a] or 0 for a in after)
        groups.append((before, after))
        i, j = i + len(before), j + len(after)
    return groups
