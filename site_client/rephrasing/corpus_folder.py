"""The synthetic corpus of a site on the disk.

    corpus/.lock                         held by the process that rephrases
    corpus/<arm>/current                 fingerprint of the arm as it is now
    corpus/<arm>/<fingerprint>/arm.json  what the arm is, and how far it was planned
    corpus/<arm>/<fingerprint>/results   see results.py

A changed prompt, model or seed makes another fingerprint and so another folder: that arm alone is done again, and going
back to the old prompt finds the old results.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from privacy.note_types import Chunk
from protocols.durable import write_text
from protocols.errors import UsageError, WorkError
from site_client.folder import SiteFolder
from site_client.gates.judge import GateCounts
from site_client.rephrasing.arm import Arm
from site_client.rephrasing.results import Jobs, Result, ResultsFile, contains, job_keys
from site_client.rephrasing.selection import training_chunks

_FOLDER_DIGITS = 16


class ArmRecord(BaseModel):
    """Contents of ``arm.json``.

    Attributes:
        arm: what the arm is.
        engine: who wrote, by name: "rules", "vllm", "openai".
        judged_by: versions of the gates that judged the results, and what the prompt allowed.
        planned: chunks that were planned so far, after each round.
        tokens_per_second: output tokens a second when the arm last ran; None before.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    arm: Arm
    engine: str
    judged_by: str
    planned: list[int] = []
    tokens_per_second: float | None = None


@dataclass(frozen=True)
class ArmFolder:
    """One arm at one fingerprint.

    Args:
        path: ``corpus/<arm>/<fingerprint>``.
    """

    path: Path

    @property
    def results(self) -> ResultsFile:
        """The results so far."""
        return ResultsFile(self.path / "results")

    def record(self) -> ArmRecord:
        """Read ``arm.json``.

        Raises:
            WorkError: it cannot be read.
        """
        path = self.path / "arm.json"
        try:
            return ArmRecord.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            raise WorkError(
                f"{path} cannot be read.", hint="restore it from your backup, or delete its folder to do the arm again"
            ) from None

    def write(self, record: ArmRecord) -> None:
        """Write ``arm.json``."""
        write_text(self.path / "arm.json", record.model_dump_json(indent=2))

    def results_of(self, jobs: Jobs) -> Iterator[Result]:
        """The results of some jobs; what was written for notes that are gone or have changed is left out."""
        return (r for r in self.results.read() if contains(jobs, r.job))


@dataclass
class ArmCounts:
    """What an arm consists of.

    Attributes:
        gates: verdicts.
        accepted_tokens: output tokens of the accepted rephrasings.
        output_tokens: of all.
    """

    gates: GateCounts
    accepted_tokens: int = 0
    output_tokens: int = 0


class CorpusFolder:
    """All arms of a site.

    Args:
        folder: the site.
    """

    def __init__(self, folder: SiteFolder) -> None:
        self.path = folder.corpus
        self._notes = folder.notes

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from rephrasing here.

        Raises:
            UsageError: another one does.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UsageError(
                f"Another process rephrases in {self.path}.", hint="wait for it; two would do the same jobs twice"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def arm(self, arm: Arm) -> ArmFolder:
        """The folder of an arm, whether it is there or not."""
        return ArmFolder(self.path / arm.name / arm.fingerprint[:_FOLDER_DIGITS])

    def make_current(self, arm: Arm) -> None:
        """Let training read this fingerprint of the arm from now on."""
        path = self.path / arm.name / "current"
        if not path.exists() or path.read_text() != arm.fingerprint[:_FOLDER_DIGITS]:
            write_text(path, arm.fingerprint[:_FOLDER_DIGITS])

    def current_arms(self) -> list[ArmFolder]:
        """The arms that training reads, by name."""
        return [ArmFolder(p.parent / p.read_text().strip()) for p in sorted(self.path.glob("*/current"))]

    def chunks(self) -> Iterator[Chunk]:
        """All training chunks of the site, in the order of the store."""
        return training_chunks(self._notes)

    def jobs(self, arm: Arm) -> Jobs:
        """The jobs that the present notes make for an arm."""
        return job_keys(arm.job(chunk) for chunk in self.chunks())

    def counts(self, folder: ArmFolder, jobs: Jobs) -> ArmCounts:
        """Count what an arm has for the present notes."""
        counts = ArmCounts(GateCounts(rejected=Counter()))
        for result in folder.results_of(jobs):
            counts.gates.add(tuple(result.reasons))
            counts.output_tokens += result.output_tokens
            if not result.reasons:
                counts.accepted_tokens += result.output_tokens
        return counts
