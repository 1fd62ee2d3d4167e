"""Which column of an export holds what: presets of known exports, guesses for the others, checks for both.

Names match without regard to case. A field may list several columns in the order of preference, joined by ``|``: the
first one that has a value in a record counts (MIMIC-III leaves CHARTTIME empty where only CHARTDATE is known).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from protocols.errors import UsageError

FOLDER = "folder"
"""Instead of a column name: take the value from the folders that a file lies in (see ``folders.py``)."""

MAX_COLUMNS_SHOWN = 40

Located = Mapping[str, tuple[int, ...]]
"""Field of ColumnMapping -> positions of its columns, most preferred first; empty where the export has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnMapping:
    """Names of the columns of an export; a field left None takes a well-known name if the export has one.

    Attributes:
        text: the note itself.
        note_id: identifier of the note.
        patient_id: identifier of the patient, or ``"folder"``: notes lie in one folder per patient.
        note_type: kind of note.
        time: when the note was written.
        encounter_id: identifier of the stay or visit.
        group: tells hospitals apart in a simulation, or ``"folder"``: one subfolder per hospital. Never guessed.
        error_flag: a record with 1 or true here was withdrawn by the hospital and is dropped.
    """

    text: str | None = None
    note_id: str | None = None
    patient_id: str | None = None
    note_type: str | None = None
    time: str | None = None
    encounter_id: str | None = None
    group: str | None = None
    error_flag: str | None = None


PRESETS: dict[str, ColumnMapping] = {
    "mimic3": ColumnMapping(
        text="TEXT",
        note_id="ROW_ID",
        patient_id="SUBJECT_ID",
        note_type="CATEGORY",
        time="CHARTTIME|CHARTDATE",
        encounter_id="HADM_ID",
        error_flag="ISERROR",
    ),
    "mimic4": ColumnMapping(
        text="text",
        note_id="note_id",
        patient_id="subject_id",
        note_type="note_type",
        time="charttime",
        encounter_id="hadm_id",
    ),
    "omop": ColumnMapping(
        text="note_text",
        note_id="note_id",
        patient_id="person_id",
        note_type="note_title|note_type_concept_id",
        time="note_datetime|note_date",
        encounter_id="visit_occurrence_id",
    ),
}

# In the order of preference, compared by letters and digits alone: "Patient ID" is patient_id.
_WELL_KNOWN: dict[str, tuple[str, ...]] = {
    "text": (
        *("text", "note_text", "note", "transcription", "report", "report_text", "content", "note_content"),
        *("clinical_note", "clinical_text", "document_text", "full_text", "body", "narrative"),
    ),
    "note_id": ("note_id", "row_id", "document_id", "doc_id", "report_id", "id"),
    "patient_id": ("patient_id", "subject_id", "person_id", "mrn", "patient", "pat_id", "patient_key", "patient_num"),
    "note_type": (
        *("note_type", "category", "note_title", "document_type", "doc_type", "report_type", "type"),
        *("note_type_concept_id", "medical_specialty", "specialty"),
    ),
    "time": (
        *("charttime", "chartdate", "note_datetime", "note_date", "note_time", "datetime", "timestamp"),
        *("date", "time", "created_at", "service_date"),
    ),
    "encounter_id": ("encounter_id", "hadm_id", "visit_occurrence_id", "visit_id", "admission_id", "stay_id", "csn"),
    "error_flag": ("iserror",),
}

# A line of data taken for a header has dates, numbers or sentences in it. Such "names" are never shown.
_PLAUSIBLE_NAME = re.compile(r"[^\W\d][\w.:/()#-]*( [\w.:/()#-]+){0,3}")
_MAX_NAME_LENGTH = 64


def guess(columns: Sequence[str], group: str | None = None, *, source: str = "the export") -> ColumnMapping:
    """Pick the columns of an export by their well-known names.

    Args:
        columns: names as the export spells them.
        group: column that tells hospitals apart; checked, never guessed.
        source: what to call the export in an error.

    Returns:
        A mapping whose text is set; other fields stay None where no name is known.

    Raises:
        UsageError: no column looks like the text, or there is no column ``group``.

    Example:
        >>> guess(["Subject_ID", "Note"]).patient_id
        'Subject_ID'
    """
    mapping = complete(ColumnMapping(group=group), columns)
    resolve(mapping, columns, source=source)
    return mapping


def complete(mapping: ColumnMapping, columns: Sequence[str]) -> ColumnMapping:
    """Fill the fields that ``mapping`` leaves None with well-known names among ``columns``; never raises.

    A column that the mapping already uses is not guessed a second time, so text cannot end up in an identifier.
    """
    used = {index for field, found in locate(mapping, columns).items() if field != "group" for index in found}
    filled = {}
    for field, found in _recognise(columns).items():
        free = [columns[index] for index in found if index not in used]
        if free and getattr(mapping, field) is None:
            filled[field] = "|".join(free)
    return replace(mapping, **filled)


def locate(mapping: ColumnMapping, columns: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Find the positions of every field's columns; an empty tuple where the field is None or its column is absent."""
    positions: dict[str, int] = {}
    for index, column in enumerate(columns):
        positions.setdefault(_folded(column), index)  # of two columns with one name, the first counts
    located = {}
    for field, name in asdict(mapping).items():
        # A column may have "|" in its own name, so the name as a whole is tried first.
        names = [] if name is None else [name] if _folded(name) in positions else name.split("|")
        located[field] = tuple(positions[_folded(part)] for part in names if _folded(part) in positions)
    return located


def resolve(mapping: ColumnMapping, columns: Sequence[str], *, source: str = "the export") -> Located:
    """Find every column that a mapping names, and insist on the text.

    Args:
        mapping: the names to look for.
        columns: names as the export spells them.
        source: what to call the export in an error.

    Returns:
        Positions in ``columns`` by field of ColumnMapping.

    Raises:
        UsageError: a named column does not exist, or no column is named for the text.
    """
    located = locate(mapping, columns)
    for field, name in asdict(mapping).items():
        if name is not None and not located[field]:
            raise UsageError(
                f'{source} has no column "{name}" (asked for as {field}). {_listed(columns)}',
                hint="name one of the columns that there are; upper and lower case make no difference.",
            )
    if not located["text"]:
        raise UsageError(
            f"{source} has no column that is known to hold the text of a note. {_listed(columns)}",
            hint="name the column that holds the text with --text-column.",
        )
    return located


def _recognise(columns: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Positions of well-known columns by field: those of a preset that fits as a whole, else by single names."""
    for preset in PRESETS.values():
        located = locate(preset, columns)
        if all(located[field] for field, name in asdict(preset).items() if name is not None):
            return located
    positions: dict[str, int] = {}
    for index, column in enumerate(columns):
        positions.setdefault(_letters(column), index)
    return {
        field: tuple(positions[_letters(name)] for name in names if _letters(name) in positions)[:1]
        for field, names in _WELL_KNOWN.items()
    }


def _folded(name: str) -> str:
    return name.strip().casefold()


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))


def _listed(columns: Sequence[str]) -> str:
    """List the columns for an error, unless they look like data: the first line of a file may be a note."""
    names = [column.strip() for column in columns if column.strip()]
    if not all(len(name) <= _MAX_NAME_LENGTH and _PLAUSIBLE_NAME.fullmatch(name) for name in names):
        return f"It has {len(columns)} columns, whose names look like data and are not shown: is its header missing?"
    more = ", ..." if len(names) > MAX_COLUMNS_SHOWN else ""
    return f"Its columns are: {', '.join(names[:MAX_COLUMNS_SHOWN])}{more}"
