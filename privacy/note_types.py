"""The types that carry a text's privacy state through a site: RawNote -> CleanNote -> Chunk -> SyntheticChunk.

They are frozen and nominal, so that handing a raw note to a function that expects a clean one is a type error, and
their ``repr`` shows sizes only: an object that strays into a log line or an exception message spills nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RawNote:
    """One note as the export holds it, identifiers included. Built by ``site_client.notes`` alone.

    Attributes:
        text: the note, as exported.
        note_id: identifier in the source system, unique within one export.
        patient_id: source identifier of the patient; None where the export has none (the note is its own unit then).
        note_type: the source's own name for the kind of note; empty when unknown.
        time: when the note was written, as the source spells it; None when unknown.
        encounter_id: source identifier of the stay or visit; None when unknown.
        group: value of the column that tells hospitals apart in a simulation; None elsewhere.
        source: name of the export file, without its folder.
        position: record number within the source file, counted from 1.
    """

    text: str
    note_id: str
    patient_id: str | None
    note_type: str = ""
    time: str | None = None
    encounter_id: str | None = None
    group: str | None = None
    source: str
    position: int

    def __repr__(self) -> str:
        return f"RawNote(record {self.position}, {len(self.text)} characters)"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class CleanNote:
    """One note after de-identification, keyed by pseudonyms. Built by ``privacy.deidentify`` alone.

    Attributes:
        note_key: keyed hash of the source's note identifier (hex).
        patient_key: keyed hash of the source's patient identifier (hex); the privacy unit.
        text: the text without direct identifiers.
        note_type: kind of note; empty when unknown.
        removed: how many identifiers of each kind were replaced.
    """

    note_key: str
    patient_key: str
    text: str
    note_type: str
    removed: Mapping[str, int] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"CleanNote({self.note_key[:8]}, {len(self.text)} characters)"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Chunk:
    """A run of whole sentences of one note, small enough to rephrase without losing detail.

    Attributes:
        chunk_key: ``<note_key>-<index>``.
        note_key: the note it was cut from.
        patient_key: the patient of that note.
        index: position of the chunk in its note, counted from 0.
        header: context that the text itself lacks (note type, section), never shown as part of the text.
        text: the sentences.
    """

    chunk_key: str
    note_key: str
    patient_key: str
    index: int
    header: str
    text: str

    def __repr__(self) -> str:
        return f"Chunk({self.chunk_key[:8]}, {len(self.text)} characters)"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SyntheticChunk:
    """One accepted rephrasing, with its lineage; it belongs to the patient of its source.

    Attributes:
        job: hash of everything that determined the text (chunk, prompt version, engine, settings, seed).
        arm: name of the engine x prompt pair that wrote it.
        chunk_key: the chunk that was rephrased.
        note_key: the note of that chunk.
        patient_key: the patient of that note.
        text: the rephrased text.
    """

    job: str
    arm: str
    chunk_key: str
    note_key: str
    patient_key: str
    text: str

    def __repr__(self) -> str:
        return f"SyntheticChunk({self.job[:8]}, {self.arm}, {len(self.text)} characters)"
