"""From RawNote to CleanNote: identifiers out, pseudonyms in. The only place that builds a CleanNote from a RawNote.

"pattern" replaces identifiers that have a form of their own. It does not find names; a site whose notes hold names in
running text needs a de-identifier of its own in front, and the report says which one was used.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Literal

from privacy.note_types import CleanNote, RawNote
from privacy.pseudonyms import pseudonym

Method = Literal["none", "pattern"]

# Kinds of the HIPAA Safe Harbor list (45 CFR 164.514(b)(2)(i)) that a form gives away. Order matters: a social security
# number would otherwise be taken for part of a telephone number.
_PATTERNS = {
    "email": re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b"),
    "url": re.compile(r"\b(?:https?://|www\.)[^\s<>\"]+", re.I),
    "ssn": re.compile(r"\b\d{3}-\d{2}-\d{4}\b"),
    "record_number": re.compile(
        r"\b(?:MRN|medical record(?: number| no\.?)?|account(?: number| no\.?)?)\s*[:#]?\s*#?\s*[A-Z]{0,4}-?\d{4,}\b",
        re.I,
    ),
    "phone": re.compile(r"(?<![\d-])(?:\+?1[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?![\d-])"),
    "ip_address": re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}\b"),
    "birth_date": re.compile(
        r"\b(?:DOB|date of birth|born(?: on)?)\s*:?\s*"
        r"(?:\d{1,4}[/.-]\d{1,2}[/.-]\d{1,4}|[A-Z][a-z]{2,8}\.? \d{1,2},? \d{4})",
        re.I,
    ),
    "street": re.compile(
        r"\b\d{1,5} (?:[A-Z][a-z]+ ){1,3}(?:Street|St|Avenue|Ave|Road|Rd|Lane|Ln|Drive|Dr|Court|Ct|Boulevard|Blvd)\b\.?"
    ),
}


def clean(note: RawNote, key: bytes, method: Method = "pattern") -> CleanNote:
    """Remove direct identifiers from a note and put pseudonyms in the place of its keys.

    Args:
        note: as read.
        key: the site's secret.
        method: "none" for notes that the hospital has de-identified already, or "pattern".
    """
    text, removed = mask(note.text) if method == "pattern" else (note.text, Counter[str]())
    # Without a patient the note is a unit of its own; the prefix keeps it apart from a patient of the same name.
    patient = note.patient_id if note.patient_id is not None else f"\0note\0{note.note_id}"
    return CleanNote(
        note_key=pseudonym(key, "note", note.note_id),
        patient_key=pseudonym(key, "patient", patient),
        text=text,
        note_type=note.note_type,
        removed=removed,
    )


def mask(text: str) -> tuple[str, Counter[str]]:
    """Replace what has the form of an identifier.

    Returns:
        The text, and how many of each kind were replaced. A number counts for the first kind that it fits.
    """
    found = Counter[str]()
    for kind, pattern in _PATTERNS.items():
        text, found[kind] = pattern.subn(f"[{kind}]", text)
    return text, +found
