"""From the values of one record to a RawNote, or to one line of the quarantine: the same rules for every format."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from privacy.note_types import RawNote
from site_client.notes.mapping import Located
from site_client.notes.quarantine import Quarantine, Reason, Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What is known about the records of a file from the place where it lies.

    Attributes:
        source: what errors, quarantine and notes call the file.
        path: its name, or its path relative to the folder that was asked for; part of the identifiers of notes that
            have none of their own, and never shown where it differs from ``source``.
        group: subfolder that stands for the hospital; None to take it from a column.
        patient_id: folder that stands for the patient; None to take it from a column.
    """

    source: str
    path: str
    group: str | None = None
    patient_id: str | None = None


def is_valid_text(text: str) -> bool:
    """Whether a text can be written as UTF-8, that is, whether every byte it was decoded from could be decoded."""
    if text.isascii():  # a flag of the string: the usual case costs nothing
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class NoteBuilder:
    """Builds the notes of one file, and quarantines the records that are none.

    Args:
        origin: where the file lies.
        unit: what the file's quarantine positions count.
        quarantine: where records go that are no notes.
    """

    def __init__(self, origin: Origin, unit: Unit, quarantine: Quarantine) -> None:
        self._origin = origin
        self._unit = unit
        self._quarantine = quarantine

    def reject(self, at: int, reason: Reason) -> None:
        """Quarantine the record at a line or record number."""
        self._quarantine.add(self._origin.source, at, reason, self._unit)

    def build(
        self, values: Sequence[object], located: Located, *, position: int, at: int, note_id: str | None = None
    ) -> RawNote | None:
        """Build one note.

        Args:
            values: the record, in the order of its columns.
            located: positions in ``values`` by field.
            position: record number for the note.
            at: line or record number for the quarantine.
            note_id: identifier for a note that has none in its record; default ``<path>:<position>``.

        Returns:
            The note, or None when the record went to the quarantine.
        """
        try:
            cells = {field: _first_value(values, found) for field, found in located.items() if field != "text"}
        except TypeError:
            self.reject(at, "malformed_row")
            return None
        text, reason = _text(values, located)
        if (cells.get("error_flag") or "").casefold() in {"1", "true", "t", "yes", "y"}:
            reason = "marked_as_error"
        elif reason is None and any("\0" in cell for cell in (text, *filter(None, cells.values()))):
            reason = "embedded_nul"
        elif reason is None and not all(map(is_valid_text, (text, *filter(None, cells.values())))):
            reason = "bad_utf8"
        if reason is not None:
            self.reject(at, reason)
            return None
        return RawNote(
            text=text,
            note_id=cells.get("note_id") or note_id or f"{self._origin.path}:{position}",
            patient_id=self._origin.patient_id or cells.get("patient_id"),
            note_type=cells.get("note_type") or "",
            time=cells.get("time"),
            encounter_id=cells.get("encounter_id"),
            group=self._origin.group or cells.get("group"),
            source=self._origin.source,
            position=position,
        )


def _text(values: Sequence[object], located: Located) -> tuple[str, Reason | None]:
    """The text as it stands, or the reason why there is none."""
    candidates = [values[index] for index in located.get("text", ())]
    if not candidates:
        return "", "missing_text_field"
    if any(not isinstance(value, str | None) for value in candidates):
        return "", "malformed_row"
    text = next((value for value in candidates if isinstance(value, str) and value and not value.isspace()), "")
    return text, None if text else "empty_text"


def _first_value(values: Sequence[object], found: tuple[int, ...]) -> str | None:
    for index in found:
        if cell := _as_cell(values[index]):
            return cell
    return None


def _as_cell(value: object) -> str | None:
    """One identifier as a string, spelled alike in every format: 7, 7.0, "7.0" and " 7" are the same patient.

    Data frames store integers with gaps as floats. A patient with two spellings would count as two privacy units.

    Raises:
        TypeError: the value is a list, an object or the like.
    """
    if isinstance(value, str):
        value = value.strip()
        return value[:-2] if value.endswith(".0") and value[:-2].isdecimal() else value or None
    if value is None:
        return None
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return str(int(value)) if value.is_integer() else str(value)
    if isinstance(value, bool | int):
        return str(value)
    raise TypeError("not a single value")
