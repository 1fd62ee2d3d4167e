"""Progress on the error stream: bars on a terminal, a line for each finished step elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Advance = Callable[[float], None]


class Steps:
    """Shows what is running and remembers how long each stage took.

    Args:
        quiet: show nothing.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(stderr=True, quiet=quiet)
        self._bars = self._console.is_terminal and not quiet
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, stage: str, title: str, total: float | None = None) -> Iterator[Advance]:
        """Run one step.

        Args:
            stage: the time is added to this stage.
            title: what is shown.
            total: units of work; None when unknown.

        Yields:
            A function to call with the units just done.
        """
        started = time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, TimeRemainingColumn(), console=self._console, disable=not self._bars) as progress:
            task = progress.add_task(title, total=total)
            yield lambda units: progress.advance(task, units)
            if total is not None:
                progress.update(task, completed=total)
        taken = time.monotonic() - started
        self.seconds[stage] = self.seconds.get(stage, 0.0) + taken
        if not self._bars:
            self._console.print(f"{title}: {taken:.1f} s", highlight=False)
            sys.stderr.flush()
