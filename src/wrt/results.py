"""What comes out of the larger functions: plain data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Explanation:
    """Maps and the outputs that they explain; unpacks as `outputs, maps`.

    Attributes:
        outputs: the chosen outputs, `(N,)`, or `(N, K)` for K units.
        maps: `(N, *map)`, or `(N, K, *map)`; nested as `x` where it is.
        info: what else a method reports, such as `"completeness_gap"`.
    """

    outputs: Any
    maps: Any
    info: dict[str, Any] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Any]:
        return iter((self.outputs, self.maps))
