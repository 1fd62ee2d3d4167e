"""Progress of a rephrasing on the error stream: a bar on a terminal, a line a minute in a log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from site_client.rephrasing.batches import Progress as ArmProgress
from site_client.rephrasing.batches import Told

_EVERY_S = 60.0


def in_words(progress: ArmProgress) -> str:
    """Speed, acceptance and time left of an arm."""
    if not progress.chunks or not progress.seconds:
        return "starting"
    left = max(0, progress.total - progress.chunks) * progress.seconds / progress.chunks
    hours, minutes = divmod(round(left / 60), 60)
    return (
        f"{progress.output_tokens / progress.seconds:,.0f} tok/s, "
        f"{progress.accepted / progress.chunks:.0%} accepted, {hours} h {minutes:02d} min left"
    )


@contextmanager
def progress_line(*, quiet: bool = False) -> Iterator[Told]:
    """Show progress as long as the block runs.

    Args:
        quiet: show nothing.

    Yields:
        What hears of progress.
    """
    console = Console(stderr=True, quiet=quiet)
    if console.is_terminal and not quiet:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[words]}"),
        )
        with Progress(*columns, console=console) as bars:
            tasks: dict[str, TaskID] = {}

            def on_terminal(progress: ArmProgress) -> None:
                if progress.arm not in tasks:
                    tasks[progress.arm] = bars.add_task(progress.arm, total=progress.total, words="")
                task = tasks[progress.arm]
                bars.update(task, completed=progress.chunks, total=progress.total, words=in_words(progress))

            yield on_terminal
        return
    last = time.monotonic()

    def in_log(progress: ArmProgress) -> None:
        nonlocal last
        if time.monotonic() - last >= _EVERY_S or progress.chunks >= progress.total:
            last = time.monotonic()
            console.print(
                f"{progress.arm}: {progress.chunks:,} of {progress.total:,} chunks, {in_words(progress)}",
                highlight=False,
                soft_wrap=True,
            )

    yield in_log
