"""The gates in a process of their own: they run beside the engine and never hold up the one that feeds it."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from types import TracebackType
from typing import Self

from site_client.gates.candidate import Candidate
from site_client.gates.judge import judge


class GateWorker:
    """Judges batches; a context manager, as it owns a process."""

    def __enter__(self) -> Self:
        """Start the process. Spawned, not forked: the parent may hold threads and a GPU."""
        self._pool = ProcessPoolExecutor(
            1, mp_context=multiprocessing.get_context("spawn"), initializer=_leave_interrupts_to_the_parent
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        self._pool.shutdown(cancel_futures=True)

    async def judge(self, candidates: Sequence[Candidate]) -> list[tuple[str, ...]]:
        """Name the gates that each candidate fails."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, _judge_all, candidates)


def _judge_all(candidates: Sequence[Candidate]) -> list[tuple[str, ...]]:
    return [judge(c) for c in candidates]


def _leave_interrupts_to_the_parent() -> None:
    # Ctrl-C reaches the whole process group; what is finished still has to be judged and written.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
