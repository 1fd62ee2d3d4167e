"""Keeping the engine busy: many requests open at once, finished ones judged and written in batches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from privacy.note_types import Chunk
from site_client.engines.engine import Completion, Engine
from site_client.gates.candidate import Candidate
from site_client.rephrasing import second_opinion
from site_client.rephrasing.arm import Arm
from site_client.rephrasing.gate_worker import GateWorker
from site_client.rephrasing.results import Result, ResultsFile
from site_client.rephrasing.tidy import tidy

Finished = tuple[str, Chunk, Completion]


@dataclass(kw_only=True)
class Progress:
    """How far an arm is; told after every batch.

    Attributes:
        arm: its name.
        chunks: done in this run.
        batch: of those, in the last batch.
        total: to do in this run, as far as it is planned.
        accepted: of those done.
        output_tokens: written in this run.
        seconds: since the first request.
    """

    arm: str
    chunks: int = 0
    batch: int = 0
    total: int = 0
    accepted: int = 0
    output_tokens: int = 0
    seconds: float = 0.0


Told = Callable[[Progress], None]


class Batches:
    """Does jobs of one arm.

    At most ``engine.window`` jobs are open or finished and not yet on the disk: that is what a kill can cost. A
    quarter of them is written at a time, so that the other three quarters are work for the engine meanwhile.

    Args:
        engine: started.
        gates: judge.
        arm: whose jobs these are.
        results: where they go.
        progress: is kept up to date.
        told: hears of it after every batch.
    """

    def __init__(
        self, engine: Engine, gates: GateWorker, arm: Arm, results: ResultsFile, progress: Progress, told: Told
    ) -> None:
        self._engine, self._gates, self._arm, self._results = engine, gates, arm, results
        self.progress, self._told = progress, told
        self._size = max(1, engine.window // 4)
        self._finished: list[Finished] = []
        self._writing: set[asyncio.Task[int]] = set()
        self._disk = asyncio.Lock()
        self._started = 0.0

    async def run(self, jobs: Iterable[tuple[str, Chunk]]) -> None:
        """Do jobs, each once.

        Raises:
            EngineError: the engine cannot go on. What was finished is written all the same, as it is after Ctrl-C.
            StorageError: the disk is full.
        """
        slots = asyncio.Semaphore(self._engine.window)
        self._started = time.monotonic() - self.progress.seconds

        async def one(job: str, chunk: Chunk) -> None:
            completion = await self._engine.write(self._arm.request(chunk, job))
            self._finished.append((job, chunk, completion))
            if len(self._finished) >= self._size:
                for _ in range(await asyncio.shield(self._start_writing())):
                    slots.release()

        try:
            async with asyncio.TaskGroup() as tasks:
                for job, chunk in jobs:
                    await slots.acquire()
                    tasks.create_task(one(job, chunk))
        except BaseExceptionGroup as group:
            raise _first(group) from None
        finally:
            self._start_writing()
            await asyncio.gather(*self._writing)

    def _start_writing(self) -> asyncio.Task[int]:
        """Judge and write what is finished, in a task of its own: the end of one request must not undo others."""
        batch, self._finished = self._finished, []
        task = asyncio.create_task(self._write(batch))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        return task

    async def _write(self, batch: Sequence[Finished]) -> int:
        if not batch:
            return 0
        texts = [tidy(completion.text) for _, _, completion in batch]
        candidates = [
            Candidate(
                source=chunk.text,
                text=text,
                header=chunk.header,
                finish_reason=completion.finish_reason,
                allows=self._arm.prompt.allows,
            )
            for (_, chunk, completion), text in zip(batch, texts, strict=True)
        ]
        reasons = await self._opinions(batch, candidates, await self._gates.judge(candidates))
        results = [Result.of(*item, text, why) for item, text, why in zip(batch, texts, reasons, strict=True)]
        async with self._disk:
            await asyncio.to_thread(self._results.append, results)
        self.progress.chunks += len(results)
        self.progress.batch = len(results)
        self.progress.accepted += sum(not r.reasons for r in results)
        self.progress.output_tokens += sum(r.output_tokens for r in results)
        self.progress.seconds = time.monotonic() - self._started
        self._told(self.progress)
        return len(results)

    async def _opinions(
        self, batch: Sequence[Finished], candidates: Sequence[Candidate], verdicts: list[tuple[str, ...]]
    ) -> list[tuple[str, ...]]:
        """Let the model have its say on what the gates accepted, where the arm asks for it."""
        if not self._arm.second_opinion:
            return verdicts

        async def opinion(item: Finished, candidate: Candidate, verdict: tuple[str, ...]) -> tuple[str, ...]:
            if verdict:
                return verdict
            seed = int(item[0][:8], 16) >> 1
            answer = await self._engine.write(second_opinion.question(candidate.source, candidate.text, seed))
            return () if second_opinion.says_faithful(answer.text) else (second_opinion.REASON,)

        return list(await asyncio.gather(*map(opinion, batch, candidates, verdicts)))


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of a group: the others are its consequences or its equals."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
