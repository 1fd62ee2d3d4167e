"""A site with hand-made notes and hand-made rephrasings, through the real store and the real results files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from privacy.note_types import Chunk
    from privacy.split import Split
    from site_client.folder import LeakageLimits, SiteFolder
    from site_client.rephrasing.arm import Arm

_BATCH = 64
Notes = Mapping["Split", Mapping[str, Sequence[str]]]


def make_site_of(path: Path, notes: Notes, *, limits: LeakageLimits | None = None, min_patients: int = 1) -> SiteFolder:
    """Make a site whose patients have given notes."""
    from privacy.deidentify import clean
    from privacy.note_types import RawNote
    from protocols.messages import SiteLimits
    from site_client.folder import LeakageLimits, SiteConfig, SiteFolder
    from site_client.store import write_notes

    config = SiteConfig(
        name="A", number=1, limits=SiteLimits(min_patients=min_patients), leakage=limits or LeakageLimits()
    )
    site = SiteFolder.create(path, config, pseudonym_key=b"k" * 32)
    stored, splits = [], {}
    for split, patients in notes.items():
        for patient, texts in patients.items():
            for text in texts:
                raw = RawNote(
                    text=text,
                    note_id=f"note-{len(stored)}",
                    patient_id=patient,
                    note_type="Progress note",
                    source="export.csv",
                    position=len(stored) + 1,
                )
                stored.append(clean(raw, site.pseudonym_key(), "none"))
                splits[stored[-1].patient_key] = split
    write_notes(site.notes, stored, splits)
    return site


def make_arm(model: str = "tiny", prompt: str = "wikipedia", seed: int = 0) -> Arm:
    """Make an arm of a built-in prompt."""
    from site_client.engines.engine import Sampling
    from site_client.rephrasing.arm import Arm
    from site_client.rephrasing.prompts import choose_prompts

    [found] = choose_prompts([prompt])
    return Arm(model=model, revision="r1", prompt=found, sampling=Sampling(), seed=seed)


def rephrase_by_hand(site: SiteFolder, arm: Arm, write: Callable[[Chunk], str | tuple[str, list[str]] | None]) -> None:
    """Write results of an arm as a run would.

    Args:
        site: whose training chunks.
        arm: becomes the current one of its name.
        write: gives text, text and reasons, or nothing for a chunk.
    """
    from site_client.chunks import estimate_tokens
    from site_client.engines.engine import Completion
    from site_client.rephrasing.corpus_folder import ArmRecord, CorpusFolder
    from site_client.rephrasing.results import Result
    from site_client.rephrasing.selection import training_chunks

    corpus = CorpusFolder(site)
    folder = corpus.arm(arm)
    folder.write(ArmRecord(arm=arm, engine="vllm", judged_by=""))
    corpus.make_current(arm)
    results = []
    for chunk in training_chunks(site.notes):
        written = write(chunk)
        if written is not None:
            text, reasons = written if isinstance(written, tuple) else (written, [])
            tokens = estimate_tokens(text)
            completion = Completion(text=text, finish_reason="stop", prompt_tokens=tokens, output_tokens=tokens)
            results.append(Result.of(arm.job(chunk), chunk, completion, text, reasons))
    for start in range(0, len(results), _BATCH):
        folder.results.append(results[start : start + _BATCH])


def keys_of(site: SiteFolder) -> set[str]:
    """Every key of a patient, note, chunk or job at a site."""
    from site_client.rephrasing.corpus_folder import CorpusFolder

    results = [r for folder in CorpusFolder(site).current_arms() for r in folder.results.read()]
    return {key for r in results for key in (r.job, r.chunk_key, r.note_key, r.patient_key)}
