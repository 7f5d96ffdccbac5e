"""Median times of several ways to do one thing, taken in turns so that a noisy machine treats them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def medians(ways: dict[str, Callable[[], object]], rounds: int = 9) -> dict[str, float]:
    """Seconds per call of each way; every way is called once before the clock starts."""
    for way in ways.values():
        way()
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def report(title: str, ways: dict[str, Callable[[], object]], ours: str = "wrt", rounds: int = 9) -> None:
    """Print each way's time, and its ratio to ours (above 1: ours is faster)."""
    found = medians(ways, rounds)
    print(f"\n{title}")
    for name, seconds in sorted(found.items(), key=lambda item: item[1]):
        print(f"  {name:<28} {1e3 * seconds:9.2f} ms   {seconds / found[ours]:6.2f} x {ours}")
