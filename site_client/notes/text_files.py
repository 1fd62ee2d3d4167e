"""Reading text files: one file is one note."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from privacy.note_types import RawNote
from site_client.notes.mapping import ColumnMapping
from site_client.notes.quarantine import Quarantine
from site_client.notes.records import NoteBuilder, Origin
from site_client.notes.sources import FIELD_LIMIT


def read_text_file(path: Path, origin: Origin, mapping: ColumnMapping, quarantine: Quarantine) -> Iterator[RawNote]:
    """Read one note; its identifier is the path of the file in ``origin`` without its suffix.

    Args:
        path: the file.
        origin: what its place says about the note.
        mapping: not used, as a text file has no columns.
        quarantine: where the file goes if it is no note.
    """
    del mapping
    builder = NoteBuilder(origin, "file", quarantine)
    with path.open("rb") as stream:
        content = stream.read(FIELD_LIMIT + 1)
    if len(content) > FIELD_LIMIT:
        builder.reject(0, "field_too_large")
        return
    text = content.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
    stem = str(PurePosixPath(origin.path).with_suffix(""))
    note = builder.build([text], {"text": (0,)}, position=1, at=0, note_id=stem)
    if note is not None:
        yield note
