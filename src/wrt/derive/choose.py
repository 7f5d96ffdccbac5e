"""Mode, chunk and batch from integers alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from wrt.engines.base import Capabilities
from wrt.errors import OptionError, suggest

Mode = Literal["auto", "reverse", "forward"]

FRACTION = 4  # of the free memory, one part in so many is used unless the caller says otherwise
LARGEST_BATCH = 1024  # samples, or as many as take
SMALL = 32 << 20  # bytes: every batch costs a call, so those of small samples are longer
LOOPED_CHUNK = 64  # seeds at a time where there are too many to repeat the program for each


@dataclass(frozen=True)
class Sizes:
    """The integers that a plan is made from: per sample, except `samples`."""

    samples: int | None
    outputs: int
    inputs: int
    intermediate: int  # bytes of one forward pass
    itemsize: int = 4
    results: int | None = None  # numbers in the result, by default outputs x inputs


@dataclass(frozen=True)
class Plan:
    """What will run: printable, and nothing but integers and reasons."""

    engine: str
    mode: str
    seeds: int
    chunk: int
    batch: int
    bytes: int
    max_memory: int
    outputs: int
    inputs: int
    compiled: bool
    why: tuple[str, ...] = ()
    order: int = 1

    def __str__(self) -> str:
        compiled = "compiled" if self.compiled else "not compiled"
        seeds = f"{self.seeds} seed{'s' * (self.seeds != 1)}, {self.chunk} at a time"
        memory = f"about {_bytes(self.bytes)} of {_bytes(self.max_memory)} allowed"
        lines = [
            f"{self._block} per sample on {self.engine} ({compiled})",
            f"  mode    {self.mode}: {seeds}",
            f"  batch   {self.batch} samples, {memory}",
            *(f"  why     {reason}" for reason in self.why),
        ]
        return "\n".join(lines)

    @property
    def _block(self) -> str:
        name = {1: "Jacobian block", 2: "Hessian block"}.get(self.order, f"Block of order {self.order}")
        return f"{name} of {' x '.join(map(str, (self.outputs, *[self.inputs] * self.order)))}"

    def halved(self) -> Plan | None:
        """The next smaller plan after memory ran out; `None` when there is none."""
        if self.batch > 1:
            smaller = replace(self, batch=-(-self.batch // 2))
        elif self.chunk > 1:
            smaller = replace(self, chunk=-(-self.chunk // 2))
        else:
            return None
        half = self.bytes // 2
        return replace(smaller, bytes=half, max_memory=half, why=(*self.why, "halved: memory ran out"))


@dataclass(frozen=True)
class Request:
    """What the caller fixed; `None` leaves it to the planner."""

    mode: str = "auto"
    chunk: int | None = None
    batch_size: int | None = None
    max_memory: int | None = None
    compile: bool | None = None

    def __post_init__(self) -> None:
        if self.mode not in ("auto", "reverse", "forward"):
            later = " (mixed mode comes in a later release)" if self.mode == "mixed" else ""
            raise OptionError(
                f"mode={self.mode!r} is not a choice{later}.{suggest(str(self.mode), ['auto', 'reverse', 'forward'])}"
            )
        for name in ("chunk", "batch_size", "max_memory"):
            _check_positive(name, getattr(self, name))
        if self.compile not in (None, True, False):
            raise OptionError(f"compile={self.compile!r}; expected True, False or None (the engine's default)")


def _check_positive(name: str, value: object) -> None:
    if value is not None and (isinstance(value, bool) or not hasattr(value, "__index__") or value.__index__() < 1):
        raise OptionError(f"{name}={value!r}; expected an integer of at least 1, or None to leave it to the plan")


def check_count(name: str, value: Any, least: int = 1) -> int:
    """An integer of at least so much.

    Raises:
        OptionError: anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise OptionError(f"{name}={value!r}; expected an integer of at least {least}")
    return int(value)


def choose(
    engine: str,
    sizes: Sizes,
    request: Request,
    can: Capabilities,
    push_problem: Callable[[], str],
    free: int | None = None,
    fixed_batch: int | None = None,
) -> Plan:
    """The plan for these sizes; asks for `push_problem` only where pushes would be chosen."""
    mode, why = _mode(sizes, request.mode, can, push_problem)
    seeds = sizes.outputs if mode == "reverse" else sizes.inputs
    limit = request.max_memory or (free if free is not None else free_host_memory()) // FRACTION
    chunk = min(request.chunk or _chunk(seeds, can, sizes, limit), max(seeds, 1))
    cost = _bytes_per_sample(sizes, chunk)
    batch = fixed_batch or _batch(sizes.samples, request, cost, limit)
    compiled = can.compiles if request.compile is None else request.compile
    bytes_ = cost * batch
    return Plan(engine, mode, seeds, chunk, batch, bytes_, limit, sizes.outputs, sizes.inputs, compiled, tuple(why))


def _mode(sizes: Sizes, wanted: str, can: Capabilities, push_problem: Callable[[], str]) -> tuple[str, list[str]]:
    reverse, forward = sizes.outputs * can.pull_cost, sizes.inputs * can.push_cost
    cheaper = f"{sizes.outputs} pulls cost about {reverse:g} forward passes, {sizes.inputs} pushes about {forward:g}"
    if wanted == "reverse":
        return "reverse", ["reverse was asked for"]
    if wanted == "auto" and forward >= reverse:
        return "reverse", [cheaper]
    reason = push_problem()
    if reason:
        return "reverse", [f"forward mode is not available: {reason}"]
    return "forward", ["forward was asked for" if wanted == "forward" else cheaper]


def _chunk(seeds: int, can: Capabilities, sizes: Sizes, limit: int) -> int:
    """One at a time while the program may be repeated so often: it is faster than batching the seeds on CPUs."""
    if seeds <= can.unroll:
        return 1
    fits = limit // max(sizes.intermediate, 1)
    return max(1, min(seeds, LOOPED_CHUNK, fits))


def _bytes_per_sample(sizes: Sizes, chunk: int) -> int:
    numbers = sizes.outputs * sizes.inputs if sizes.results is None else sizes.results
    result = 3 * numbers * sizes.itemsize  # the products, their rearrangement, the host's copy
    return max(1, result + sizes.intermediate * (1 + chunk))


def resized(plan: Plan, samples: int | None, request: Request) -> Plan:
    """The same plan for another number of samples."""
    cost = plan.bytes // plan.batch
    batch = _batch(samples, request, cost, plan.max_memory)
    return replace(plan, batch=batch, bytes=cost * batch)


def _batch(samples: int | None, request: Request, cost: int, limit: int) -> int:
    most = max(LARGEST_BATCH, SMALL // cost)
    samples = LARGEST_BATCH if samples is None else max(samples, 1)
    if request.batch_size is not None:
        return min(request.batch_size, samples)
    largest = max(1, min(limit // cost, most, samples))
    return -(-samples // -(-samples // largest))  # equal batches, so that the last is not nearly empty


def free_host_memory() -> int:
    """Bytes that this process may still take: what the machine has free, within the address-space limit."""
    available = _machine_memory()
    if sys.platform != "win32":
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_AS)
        if soft != resource.RLIM_INFINITY:
            available = min(available, max(soft - _address_space(), soft // 16))
    return available


def _machine_memory() -> int:
    try:
        import psutil
    except ImportError:
        pages = os.sysconf("SC_AVPHYS_PAGES") if "SC_AVPHYS_PAGES" in os.sysconf_names else 0
        return pages * os.sysconf("SC_PAGE_SIZE") or 4 << 30
    return int(psutil.virtual_memory().available)


def _address_space() -> int:
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
