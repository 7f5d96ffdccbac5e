"""Flattening keeps order, drops nothing, and comes back."""

import dataclasses
from collections import OrderedDict, namedtuple

import pytest

from wrt.trees import LEAF, flatten, map_leaves, path_name, unflatten

Pair = namedtuple("Pair", "left right")


@dataclasses.dataclass
class Record:
    a: object
    b: object


TREES = [
    1,
    [1, 2],
    (1, (2, [3])),
    {"z": 1, "a": {"y": 2, "b": [3, 4]}},
    {"empty": {}, "list": [], "one": 1},
    [],
    {"none": None, "x": 1},
]


@pytest.mark.parametrize("tree", TREES, ids=str)
def test_round_trip(tree):
    leaves, structure = flatten(tree)
    assert unflatten(structure, leaves) == tree
    assert len(structure.paths()) == len(leaves)
    assert hash(structure) == hash(flatten(tree)[1])


def test_keys_keep_the_order_they_came_in():
    leaves, structure = flatten({"b": 1, "a": 2})
    assert leaves == [1, 2]
    assert structure.paths() == [("b",), ("a",)]
    assert flatten(OrderedDict(b=1, a=2))[0] == [1, 2]


def test_none_is_no_leaf():
    assert flatten([None, 1, None])[0] == [1]
    assert unflatten(flatten([None, 1])[1], [5]) == [None, 5]


def test_records_become_dicts():
    for record in (Record(1, [2]), Pair(1, [2])):
        leaves, structure = flatten(record)
        assert leaves == [1, 2]
        keys = ["a", "b"] if isinstance(record, Record) else ["left", "right"]
        assert unflatten(structure, leaves) == dict(zip(keys, [1, [2]], strict=True))


def test_leaf_and_names():
    assert flatten("text") == (["text"], LEAF)
    assert path_name(()) == "x"
    assert path_name(("a", 0, "b")) == "a/0/b"
    assert map_leaves(lambda v: v * 2, {"a": [1, 2], "b": (3,)}) == {"a": [2, 4], "b": (6,)}


def test_too_few_leaves_are_an_error():
    with pytest.raises(StopIteration):
        unflatten(flatten([1, 2])[1], [1])
