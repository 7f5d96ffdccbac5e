"""The one progress bar: rich's, on long work only."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

PATIENCE = 2.0  # seconds of work before a bar appears


@contextlib.contextmanager
def progress_bar(total: int, wanted: bool | None, what: str) -> Iterator[Callable[[int], None]]:
    """Yields `advance(count)`; `None` shows a bar on a terminal once the work has taken two seconds."""
    bar = _Bar(total, wanted, what)
    try:
        yield bar.advance
    finally:
        bar.stop()


class _Bar:
    def __init__(self, total: int, wanted: bool | None, what: str) -> None:
        self.total, self.wanted, self.what = total, wanted, what
        self.done, self.start = 0, time.monotonic()
        self.rich: Any = None
        self.task: Any = None
        if wanted:
            self.show()

    def advance(self, count: int) -> None:
        self.done += count
        late = time.monotonic() - self.start > PATIENCE
        if self.rich is None and self.wanted is None and late and self.done < self.total:
            self.show()
        if self.rich is not None:
            self.rich.update(self.task, completed=self.done)

    def show(self) -> None:
        try:
            from rich.console import Console
            from rich.progress import Progress
        except ImportError:
            self.wanted = False
            return
        console = Console(stderr=True)
        if self.wanted is None and not console.is_terminal:
            self.wanted = False
            return
        self.rich = Progress(console=console, transient=True)
        self.rich.start()
        self.task = self.rich.add_task(self.what, total=self.total, completed=self.done)

    def stop(self) -> None:
        if self.rich is not None:
            self.rich.stop()
