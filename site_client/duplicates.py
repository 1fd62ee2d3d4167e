"""Finding the same text twice, before anything is split: a copy on the other side of a split would be a leak."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from privacy.note_types import RawNote


@dataclass(frozen=True, kw_only=True)
class UniqueNote:
    """The first of several records with the same text.

    Attributes:
        note: the winner: the record that came first.
        groups: values of the grouping column over all copies, in order of appearance.
        copies: how many further records had this text.
    """

    note: RawNote
    groups: tuple[str, ...]
    copies: int


@dataclass
class _Found:
    note: RawNote
    groups: dict[str, None] = field(default_factory=dict)  # an ordered set
    records: int = 0


def unique_notes(notes: Iterable[RawNote]) -> list[UniqueNote]:
    """Keep one record of each text; differences in white space alone do not count.

    Args:
        notes: in the order in which winners are chosen.
    """
    found: dict[bytes, _Found] = {}
    for note in notes:
        entry = found.setdefault(fingerprint(note.text), _Found(note))
        entry.records += 1
        if note.group is not None:
            entry.groups[note.group] = None
    return [UniqueNote(note=f.note, groups=tuple(f.groups), copies=f.records - 1) for f in found.values()]


def fingerprint(text: str) -> bytes:
    """SHA-256 of a text in which white space does not count."""
    return hashlib.sha256(" ".join(text.split()).encode("utf-8", "surrogatepass")).digest()
