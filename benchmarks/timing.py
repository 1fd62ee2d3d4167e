"""Timing two ways of doing one thing so that a busy machine disturbs both alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def side_by_side(ours: Callable[[], object], theirs: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Time two functions in turns: ours, theirs, ours, theirs, ...

    Args:
        ours: called once more beforehand, to warm up; likewise the other.
        theirs: what it is compared with.
        repeats: of each.

    Returns:
        Median wall time of each [s].
    """
    ours()
    theirs()
    times = [(_seconds(ours), _seconds(theirs)) for _ in range(repeats)]
    return statistics.median(t for t, _ in times), statistics.median(t for _, t in times)


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
