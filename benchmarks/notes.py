"""Generated notes that the benchmarks share."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from privacy.deidentify import clean
from privacy.note_types import CleanNote
from simulations.synthetic_notes import write_export
from site_client.notes.quarantine import Quarantine
from site_client.notes.reader import read_notes


@cache
def generated_notes(notes: int = 600) -> list[CleanNote]:
    """Clean notes of three invented hospitals; equal at every call."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "notes.csv"
        write_export(path, hospitals=3, notes=notes, seed=0)
        return [clean(note, b"benchmark") for note in read_notes([path], quarantine=Quarantine())]
