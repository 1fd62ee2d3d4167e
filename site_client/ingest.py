"""Filling a site's store: read, find duplicates, clean, split, write. Ingesting again replaces what was there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from privacy.deidentify import Method, clean
from privacy.note_types import RawNote
from privacy.split import split_patients
from protocols.errors import UsageError
from site_client.duplicates import fingerprint, unique_notes
from site_client.folder import SiteFolder
from site_client.notes.mapping import ColumnMapping
from site_client.notes.quarantine import Quarantine
from site_client.notes.reader import read_notes
from site_client.store import write_notes


@dataclass(frozen=True, kw_only=True)
class IngestReport:
    """What became of an export.

    Attributes:
        records_seen: notes and quarantined records.
        notes_kept: notes in the store.
        patients: privacy units among them.
        duplicates: notes whose text another note has.
        quarantined: records that could not be read, by reason.
        places: where those were ("file, line N: reason"), as many as were kept.
        removed: identifiers that were taken out, by kind.
    """

    records_seen: int
    notes_kept: int
    patients: int
    duplicates: int
    quarantined: dict[str, int]
    places: list[str]
    removed: dict[str, int]


def ingest(
    folder: SiteFolder,
    paths: Sequence[Path],
    *,
    columns: ColumnMapping,
    deidentify: Method,
    strict: bool = False,
    dry_run: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> IngestReport:
    """Read exports into the store.

    Args:
        folder: the site.
        paths: files and folders.
        columns: which column holds what.
        deidentify: how notes are cleaned.
        strict: stop at the first record that cannot be read.
        dry_run: write nothing.
        progress: told of every note read.

    Raises:
        UsageError: wrong files or columns, or nothing that could be kept.
    """
    key = folder.pseudonym_key()
    quarantine = Quarantine(strict=strict)

    def counted() -> Iterator[RawNote]:
        for note in read_notes(paths, mapping=columns, quarantine=quarantine):
            progress(1)
            yield note

    unique = unique_notes(counted())
    if not unique:
        reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(quarantine.counts().items()))
        raise UsageError(f"No note could be read ({reasons or 'the export is empty'}).")
    # Notes that differed in an identifier alone are equal now.
    distinct = {fingerprint(note.text): note for note in reversed([clean(n.note, key, deidentify) for n in unique])}
    notes = list(reversed(distinct.values()))
    if not dry_run:
        write_notes(folder.notes, notes, split_patients((n.patient_key for n in notes), folder.config().name))
    removed: dict[str, int] = {}
    for note in notes:
        for kind, count in note.removed.items():
            removed[kind] = removed.get(kind, 0) + count
    duplicates = sum(n.copies for n in unique) + len(unique) - len(notes)
    set_aside = quarantine.counts()
    return IngestReport(
        records_seen=len(notes) + duplicates + sum(set_aside.values()),
        notes_kept=len(notes),
        patients=len({n.patient_key for n in notes}),
        duplicates=duplicates,
        quarantined=set_aside,
        places=[f"{row.where}: {row.reason}" for row in quarantine.rows],
        removed=removed,
    )
