"""The run: brings arms up to the plan, round by round, each job exactly once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from site_client.engines.engine import Engine
from site_client.folder import SiteFolder
from site_client.gates.judge import VERSION as GATES_VERSION
from site_client.rephrasing.arm import Arm
from site_client.rephrasing.batches import Batches, Progress, Told
from site_client.rephrasing.corpus_folder import ArmCounts, ArmFolder, ArmRecord, CorpusFolder
from site_client.rephrasing.gate_worker import GateWorker
from site_client.rephrasing.plan import Plan, first_round, next_round
from site_client.rephrasing.rejudge import judge_again
from site_client.rephrasing.results import contains
from site_client.rephrasing.selection import ChunkOrder, training_chunks


@dataclass(kw_only=True)
class ArmReport:
    """What an arm has after a run.

    Attributes:
        arm: its name.
        counts: over everything that it has for the present notes.
        new: chunks that this run did.
        repaired: bytes of broken batches that were taken out at the start.
        tokens_per_second: output tokens a second of this run; None when there was nothing to do.
    """

    arm: str
    counts: ArmCounts
    new: int
    repaired: int
    tokens_per_second: float | None


def rephrase_sites(
    folders: Sequence[SiteFolder],
    engine: Engine,
    arms: Sequence[Arm],
    plan: Plan,
    *,
    engine_name: str,
    told: Told = lambda _: None,
) -> list[list[ArmReport]]:
    """Bring the arms of one model up to the plan, at one site after the other, and close the engine.

    Args:
        folders: the sites; one in a hospital, many in a simulation.
        engine: not started yet; it has given everything back when this returns or raises.
        arms: all of the engine's model.
        plan: how much.
        engine_name: as people know it.
        told: hears of progress.

    Returns:
        For each site, the arms.

    Raises:
        EngineError: the engine cannot go on; results so far are kept.
        UsageError: another process works at a site, or there are no notes.
        StorageError: the disk is full.
    """
    return asyncio.run(_all_sites(folders, engine, arms, plan, engine_name, told))


async def _all_sites(
    folders: Sequence[SiteFolder], engine: Engine, arms: Sequence[Arm], plan: Plan, engine_name: str, told: Told
) -> list[list[ArmReport]]:
    reports = []
    try:
        await engine.start()
        with GateWorker() as gates:
            for folder in folders:
                corpus = CorpusFolder(folder)
                with corpus.locked():
                    runs = [_ArmRun(folder, corpus, corpus.arm(arm), arm, engine_name) for arm in arms]
                    reports.append([await run.bring_up(engine, gates, plan, len(arms), told) for run in runs])
    finally:
        await engine.close()
    return reports


@dataclass
class _ArmRun:
    site: SiteFolder
    corpus: CorpusFolder
    folder: ArmFolder
    arm: Arm
    engine_name: str

    async def bring_up(self, engine: Engine, gates: GateWorker, plan: Plan, arms: int, told: Told) -> ArmReport:
        """Do rounds until the budget is reached or all chunks are done."""
        repaired = self.folder.results.repair()
        record = self._judged_by_present_gates(self._record())
        order = ChunkOrder(training_chunks(self.site.notes), plan.seed, plan.per_patient)
        budget = plan.budget(order.all_tokens, arms)
        progress = Progress(arm=self.arm.name)
        planned = min(max([*record.planned[-1:], first_round(order, budget)]), len(order))
        while True:
            if planned not in record.planned:
                record = record.model_copy(update={"planned": [*record.planned, planned]})
            self.folder.write(record)
            self.corpus.make_current(self.arm)
            await self._round(order, planned, Batches(engine, gates, self.arm, self.folder.results, progress, told))
            counts = self.corpus.counts(self.folder, self.corpus.jobs(self.arm))
            if (more := next_round(order, budget, planned, counts.accepted_tokens)) <= planned:
                break
            planned = more
        speed = progress.output_tokens / progress.seconds if progress.chunks else None
        if speed is not None:
            self.folder.write(record.model_copy(update={"tokens_per_second": round(speed, 1)}))
        return ArmReport(
            arm=self.arm.name, counts=counts, new=progress.chunks, repaired=repaired, tokens_per_second=speed
        )

    def _record(self) -> ArmRecord:
        if (self.folder.path / "arm.json").exists():
            # What the prompt allows is no part of the fingerprint, so the arm in the file may be an older one.
            return self.folder.record().model_copy(update={"arm": self.arm, "engine": self.engine_name})
        return ArmRecord(arm=self.arm, engine=self.engine_name, judged_by=_judged_by(self.arm))

    def _judged_by_present_gates(self, record: ArmRecord) -> ArmRecord:
        present = _judged_by(self.arm)
        if record.judged_by != present:
            judge_again(self.folder.results, self.arm, partial(training_chunks, self.site.notes))
        return record.model_copy(update={"judged_by": present})

    async def _round(self, order: ChunkOrder, planned: int, batches: Batches) -> None:
        done = self.folder.results.jobs()
        chunks = order.first(planned, training_chunks(self.site.notes))
        jobs = ((self.arm.job(chunk), chunk) for chunk in chunks)
        batches.progress.total = batches.progress.chunks + max(0, planned - len(done))
        await batches.run((job, chunk) for job, chunk in jobs if not contains(done, job))


def _judged_by(arm: Arm) -> str:
    """What verdicts depend on besides the texts."""
    return f"{GATES_VERSION} {arm.prompt.allows.model_dump_json()}"
