"""Choosing what to show: few chunks that let a person see every arm, both verdicts and many reasons.

This is a chosen mix and no sample: rejected rephrasings are shown more often than they occur.

Results are read as a stream. For every arm and reason the ``n`` chunks that are first in a drawn order are held, one a
patient at most and by their keys alone; then the ``n`` are chosen among them, each time what was shown least so far.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from privacy.note_types import Chunk
from protocols.errors import UsageError
from site_client.rephrasing.corpus_folder import ArmFolder, CorpusFolder
from site_client.rephrasing.results import Jobs, Result, job_keys
from site_client.show.example import ArmFacts, ArmTotal, Example, Rephrasing

_JOB_BYTES = 32  # a SHA-256


def pick(corpus: CorpusFolder, n: int, seed: int = 0) -> list[Example]:
    """Choose chunks and give them with their rephrasings by all current arms; see :func:`pick_and_count`."""
    return pick_and_count(corpus, n, seed)[0]


def pick_and_count(corpus: CorpusFolder, n: int, seed: int = 0) -> tuple[list[Example], list[ArmTotal]]:
    """Choose chunks, give them with their rephrasings by all current arms, and count the verdicts on the way.

    Args:
        corpus: rephrasings of a site.
        n: number of chunks, at least 1; fewer are given where fewer were rephrased.
        seed: equal seeds choose equal chunks, in whatever order the results were finished.

    Returns:
        Examples in the order in which they were chosen, and for every arm the verdicts on all it has.

    Raises:
        UsageError: nothing was rephrased yet, or ``n`` is no number of chunks.
        WorkError: an arm's record cannot be read.
    """
    if n < 1:
        raise UsageError(f"{n} examples cannot be shown.", hint="ask for one or more")
    held: list[_Drawn] = []
    totals: list[ArmTotal] = []
    for arm in _present_arms(corpus):
        judged = Counter[bool]()
        held += _first_of(arm, n, seed, judged)
        totals.append(ArmTotal(arm=arm.facts, judged=judged.total(), accepted=judged[True]))
    chosen = _choose(held, n)
    if not chosen:
        raise UsageError(f"Nothing was rephrased yet in {corpus.path}.", hint="fednotes site rephrase")
    return _examples(corpus, chosen), totals


@dataclass(frozen=True, slots=True)
class _PresentArm:
    folder: ArmFolder
    facts: ArmFacts
    jobs: Jobs


def _present_arms(corpus: CorpusFolder) -> list[_PresentArm]:
    """The current arms with the jobs of the present notes, which are cut once for all arms: cutting takes longest."""
    folders = corpus.current_arms()
    records = [folder.record() for folder in folders]
    packed = [bytearray() for _ in records]
    if records:
        for chunk in corpus.chunks():
            for record, jobs in zip(records, packed, strict=True):
                jobs += bytes.fromhex(record.arm.job(chunk))
    return [
        _PresentArm(folder, ArmFacts.of(record), job_keys(_unpacked(jobs)))
        for folder, record, jobs in zip(folders, records, packed, strict=True)
    ]


def _unpacked(jobs: bytearray) -> Iterator[str]:
    return (jobs[at : at + _JOB_BYTES].hex() for at in range(0, len(jobs), _JOB_BYTES))


@dataclass(frozen=True, slots=True, order=True)
class _Drawn:
    """A chunk as a candidate for being shown because of one of its rephrasings."""

    draw: bytes
    chunk_key: str
    patient_key: str
    arm: str
    reason: str


@dataclass(slots=True)
class _First:
    """The first ``size`` patients in the drawn order, each with a first chunk."""

    size: int
    by_patient: dict[str, _Drawn] = field(default_factory=dict)

    def offer(self, drawn: _Drawn) -> None:
        """Take a chunk in, if it comes before those that are held."""
        held = self.by_patient.get(drawn.patient_key)
        if held is not None and held <= drawn:
            return
        self.by_patient[drawn.patient_key] = drawn
        if len(self.by_patient) > self.size:
            del self.by_patient[max(self.by_patient.values()).patient_key]


def _first_of(arm: _PresentArm, n: int, seed: int, judged: Counter[bool]) -> Iterator[_Drawn]:
    firsts: dict[str, _First] = {}
    for result in arm.folder.results_of(arm.jobs):
        judged[not result.reasons] += 1
        draw = hashlib.blake2b(f"{seed}\0{result.chunk_key}".encode(), digest_size=8).digest()
        for reason in result.reasons or [""]:
            drawn = _Drawn(draw, result.chunk_key, result.patient_key, arm.facts.name, reason)
            firsts.setdefault(reason, _First(n)).offer(drawn)
    for reason in sorted(firsts):
        yield from firsts[reason].by_patient.values()


def _choose(held: list[_Drawn], n: int) -> list[str]:
    """Keys of chunks: each time of a new patient if there is one, and of what was chosen least often so far."""
    chosen: list[str] = []
    patients, verdicts, arms, reasons = Counter[str](), Counter[bool](), Counter[str](), Counter[str]()

    def shown(drawn: _Drawn) -> tuple[int, int, int, int, _Drawn]:
        verdict = bool(drawn.reason)
        return patients[drawn.patient_key], verdicts[verdict], reasons[drawn.reason], arms[drawn.arm], drawn

    while held and len(chosen) < n:
        best = min(held, key=shown)
        chosen.append(best.chunk_key)
        patients[best.patient_key] += 1
        verdicts[bool(best.reason)] += 1
        arms[best.arm] += 1
        reasons[best.reason] += 1
        held = [drawn for drawn in held if drawn.chunk_key != best.chunk_key]
    return chosen


def _examples(corpus: CorpusFolder, chosen: list[str]) -> list[Example]:
    """Read the chosen chunks and their results."""
    wanted = frozenset(chosen)
    chunks = {chunk.chunk_key: chunk for chunk in corpus.chunks() if chunk.chunk_key in wanted}
    found: dict[str, list[Rephrasing]] = {key: [] for key in chosen}
    for folder in corpus.current_arms():
        record = folder.record()
        facts = ArmFacts.of(record)
        for key, result in _results_for({record.arm.job(c): c for c in chunks.values()}, folder.results.read()):
            found[key].append(Rephrasing(facts, result))
    return [Example(chunks[key], tuple(found[key])) for key in chosen]


def _results_for(jobs: dict[str, Chunk], results: Iterator[Result]) -> Iterator[tuple[str, Result]]:
    """The last result of each job; a job that was done again has two."""
    last = {result.job: result for result in results if result.job in jobs}
    return ((jobs[job].chunk_key, result) for job, result in last.items())
