"""Nested dicts, lists, tuples and dataclasses of arrays, flattened the same way on every engine.

The frameworks disagree about key order and `None`; here keys keep the order they came in and `None` is dropped.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

Path = tuple[str | int, ...]
Kind = TypeVar("Kind", bound=type)

NODES: list[type] = []  # an engine tells its framework of them when it is loaded


def node(kind: Kind) -> Kind:
    """A dataclass that the frameworks take apart into its fields, in their functions of trees and compiled ones."""
    NODES.append(kind)
    return kind


@dataclasses.dataclass(frozen=True)
class Structure:
    """The shape of a tree without its leaves; hashable."""

    kind: str  # "leaf", "none", "dict", "list", "tuple"
    keys: tuple[str | int, ...] = ()
    children: tuple[Structure, ...] = ()

    @property
    def is_leaf(self) -> bool:
        return self.kind == "leaf"

    def paths(self, prefix: Path = ()) -> list[Path]:
        """The path of every leaf, in order."""
        if self.is_leaf:
            return [prefix]
        pairs = zip(self.keys, self.children, strict=True)
        return [path for key, child in pairs for path in child.paths((*prefix, key))]


LEAF = Structure("leaf")


def children_of(tree: Any) -> tuple[str, list[tuple[str | int, Any]]] | None:
    """Kind and (key, child) pairs of a container, `None` for a leaf."""
    if tree is None:
        return "none", []
    if isinstance(tree, Mapping):
        return "dict", list(tree.items())
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return "dict", list(zip(tree._fields, tree, strict=True))
    if isinstance(tree, list | tuple):
        return type(tree).__name__ if type(tree) in (list, tuple) else "list", list(enumerate(tree))
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type) and not hasattr(tree, "shape"):
        return "dict", [(f.name, getattr(tree, f.name)) for f in dataclasses.fields(tree)]
    return None


def flatten(tree: Any) -> tuple[list[Any], Structure]:
    """Leaves in order, and the structure that `unflatten` needs."""
    found = children_of(tree)
    if found is None:
        return [tree], LEAF
    kind, pairs = found
    leaves: list[Any] = []
    structures = []
    for _, child in pairs:
        child_leaves, structure = flatten(child)
        leaves += child_leaves
        structures.append(structure)
    return leaves, Structure(kind, tuple(key for key, _ in pairs), tuple(structures))


def unflatten(structure: Structure, leaves: list[Any]) -> Any:
    """The tree of `structure` with these leaves (named tuples and dataclasses come back as dicts)."""
    stream = iter(leaves)
    return _build(structure, stream)


def _build(structure: Structure, stream: Iterator[Any]) -> Any:
    if structure.is_leaf:
        return next(stream)
    if structure.kind == "none":
        return None
    values = [_build(child, stream) for child in structure.children]
    if structure.kind == "dict":
        return dict(zip(structure.keys, values, strict=True))
    return tuple(values) if structure.kind == "tuple" else values


def map_leaves(function: Callable[[Any], Any], tree: Any) -> Any:
    """The same tree with `function` applied to every leaf."""
    leaves, structure = flatten(tree)
    return unflatten(structure, [function(leaf) for leaf in leaves])


def path_name(path: Path) -> str:
    """`"a/0"` for the path `("a", 0)`; `"x"` for the root."""
    return "/".join(map(str, path)) or "x"
