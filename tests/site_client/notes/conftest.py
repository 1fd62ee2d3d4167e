from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from privacy.note_types import RawNote
from site_client.notes.mapping import ColumnMapping
from site_client.notes.quarantine import Quarantine
from site_client.notes.reader import read_notes

Read = Callable[..., tuple[list[RawNote], Quarantine]]


@pytest.fixture
def read() -> Read:
    """Read paths to the end: the notes, and what was left out."""

    def read_to_the_end(*paths: Path, mapping: ColumnMapping | None = None) -> tuple[list[RawNote], Quarantine]:
        quarantine = Quarantine()
        return list(read_notes(paths, mapping=mapping, quarantine=quarantine)), quarantine

    return read_to_the_end
