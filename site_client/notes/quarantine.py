"""The list of records that could not be read, each with its place and a reason from a closed list, never with text."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal, get_args

from protocols.errors import WorkError

Reason = Literal[
    "bad_utf8",
    "damaged_archive",
    "damaged_parquet",
    "embedded_nul",
    "empty_file",
    "empty_text",
    "field_too_large",
    "link_not_followed",
    "malformed_json",
    "malformed_row",
    "marked_as_error",
    "missing_text_field",
    "no_text_column",
    "truncated_archive",
    "unreadable_file",
    "unsupported_file",
]
Unit = Literal["line", "record", "file"]
"""What a position counts, from 1: physical lines, records, or nothing (0: the file as a whole)."""

EXPLANATIONS: dict[Reason, str] = {
    "bad_utf8": "it is not valid UTF-8; convert the export, for example with iconv",
    "damaged_archive": "the compressed file is damaged here; copy or export it again",
    "damaged_parquet": "it cannot be read as Parquet; copy or export it again",
    "embedded_nul": "it contains a NUL character, so it may be damaged or binary",
    "empty_file": "the file is empty",
    "empty_text": "the note has no text",
    "field_too_large": "a field is larger than any note can be; look for a quote that is never closed",
    "link_not_followed": "symbolic links inside a folder are not followed; name their target itself",
    "malformed_json": "it is not one JSON object on one line",
    "malformed_row": "it does not have the fields of the header; look for a stray quote or separator",
    "marked_as_error": "the hospital marked the note as an error",
    "missing_text_field": "it has no field that holds the text",
    "no_text_column": "the file does not have the columns of a note export",
    "truncated_archive": "the compressed file ends too early; copy or export it again",
    "unreadable_file": "it cannot be opened or read; check its permissions",
    "unsupported_file": "it is none of CSV, TSV, JSON lines, Parquet or text",
}

DROPS: frozenset[Reason] = frozenset({"empty_text", "marked_as_error"})
"""Reasons that are no fault of the file: such records are left out and counted, in strict mode too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantinedRecord:
    """One record that was left out.

    Attributes:
        source: name of the file, as in RawNote.
        position: line or record number, counted from 1; 0 for the file as a whole.
        unit: what the position counts.
        reason: why.
    """

    source: str
    position: int
    unit: Unit
    reason: Reason

    @property
    def where(self) -> str:
        """The place, in words: ``notes.csv, line 17``."""
        return self.source if self.position == 0 else f"{self.source}, {self.unit} {self.position}"


class Quarantine:
    """Collects what could not be read, in bounded memory: counts are exact, places are kept up to a cap per reason.

    Args:
        strict: raise at the first fault instead of going on. Drops (``DROPS``) never raise.
        max_rows_per_reason: how many places to keep of each reason.
    """

    def __init__(self, *, strict: bool = False, max_rows_per_reason: int = 1_000) -> None:
        self.strict = strict
        self._max_rows_per_reason = max_rows_per_reason
        self._counts: Counter[Reason] = Counter()
        self._rows: list[QuarantinedRecord] = []

    def add(self, source: str, position: int, reason: Reason, unit: Unit = "record") -> None:
        """Count one record, and remember its place.

        Args:
            source: name of the file.
            position: counted from 1 in ``unit``; 0 for the file as a whole.
            reason: why the record is left out.
            unit: what ``position`` counts.

        Raises:
            WorkError: in strict mode, for any reason that is a fault.
            ValueError: the reason is not on the list.
        """
        if reason not in EXPLANATIONS:
            raise ValueError(f"unknown reason; the known ones are {', '.join(get_args(Reason))}")
        record = QuarantinedRecord(source=source, position=position, unit=unit, reason=reason)
        self._counts[reason] += 1
        if self._counts[reason] <= self._max_rows_per_reason:
            self._rows.append(record)
        if self.strict and reason not in DROPS:
            raise WorkError(
                f"{record.where}: {reason}: {EXPLANATIONS[reason]}.",
                hint="repair the export, or run without strict reading to leave such records out.",
            )

    def counts(self) -> dict[str, int]:
        """How many records were left out, by reason, in alphabetical order; exact."""
        return {reason: self._counts[reason] for reason in sorted(self._counts)}

    @property
    def rows(self) -> tuple[QuarantinedRecord, ...]:
        """The places that were kept, in the order in which they were found."""
        return tuple(self._rows)
