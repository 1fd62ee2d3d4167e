"""What a site has to train on, in numbers: notes by split, and rephrasings by arm and verdict."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import get_args

from privacy.split import Split
from site_client.chunks import chunk_note, estimate_tokens
from site_client.folder import SiteFolder
from site_client.rephrasing.arm import Arm
from site_client.rephrasing.corpus_folder import ArmFolder, CorpusFolder
from site_client.store import iter_split


@dataclass(frozen=True, kw_only=True)
class ArmNumbers:
    """What an arm has for the present notes.

    Attributes:
        arm: its name.
        fingerprint: of everything that determines its texts.
        judged: rephrasings that the gates have seen.
        accepted: those that passed all of them.
        rejected: the others, by the first gate that they failed, most frequent first.
        all_reasons: likewise by every gate that they failed, so that one may count several times.
        accepted_tokens: output tokens of the accepted ones, as the model counts them.
        output_tokens: of all.
        patients: with at least one accepted rephrasing.
    """

    arm: str
    fingerprint: str
    judged: int
    accepted: int
    rejected: dict[str, int]
    all_reasons: dict[str, int]
    accepted_tokens: int
    output_tokens: int
    patients: int


@dataclass(frozen=True, kw_only=True)
class CorpusNumbers:
    """What a site has.

    Attributes:
        notes: by split.
        patients: likewise.
        real_tokens: of the training notes, estimated as for the budget of a run.
        synthetic_tokens: accepted output tokens of all arms.
        synthetic_share: synthetic to real and synthetic tokens together; 0 without any.
        arms: by name.
    """

    notes: dict[str, int]
    patients: dict[str, int]
    real_tokens: int
    synthetic_tokens: int
    synthetic_share: float
    arms: list[ArmNumbers]


def count_corpus(site: SiteFolder) -> CorpusNumbers:
    """Count notes and rephrasings.

    Raises:
        UsageError: nothing was ingested yet.
        WorkError: an arm's record cannot be read.
    """
    notes: dict[str, int] = {}
    patients: dict[str, int] = {}
    real = 0
    for split in get_args(Split):
        keys: set[str] = set()
        notes[split] = 0
        for note in iter_split(site.notes, split):
            notes[split] += 1
            keys.add(note.patient_key)
            if split == "train":
                real += sum(estimate_tokens(chunk.text) for chunk in chunk_note(note))
        patients[split] = len(keys)
    corpus = CorpusFolder(site)
    arms = [_count_arm(corpus, folder, folder.record().arm) for folder in corpus.current_arms()]
    synthetic = sum(a.accepted_tokens for a in arms)
    return CorpusNumbers(
        notes=notes,
        patients=patients,
        real_tokens=real,
        synthetic_tokens=synthetic,
        synthetic_share=synthetic / max(1, real + synthetic),
        arms=arms,
    )


def _count_arm(corpus: CorpusFolder, folder: ArmFolder, arm: Arm) -> ArmNumbers:
    first: Counter[str] = Counter()
    every: Counter[str] = Counter()
    patients: set[str] = set()
    accepted = accepted_tokens = output_tokens = 0
    for result in folder.results_of(corpus.jobs(arm)):
        first.update(result.reasons[:1])
        every.update(result.reasons)
        output_tokens += result.output_tokens
        if not result.reasons:
            accepted += 1
            accepted_tokens += result.output_tokens
            patients.add(result.patient_key)
    return ArmNumbers(
        arm=arm.name,
        fingerprint=arm.fingerprint,
        judged=accepted + first.total(),
        accepted=accepted,
        rejected=dict(first.most_common()),
        all_reasons=dict(every.most_common()),
        accepted_tokens=accepted_tokens,
        output_tokens=output_tokens,
        patients=len(patients),
    )
