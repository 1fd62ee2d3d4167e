"""Reading JSON lines: one object per line, each read on its own, as exporters leave out the keys of empty values."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from privacy.note_types import RawNote
from site_client.notes.mapping import ColumnMapping, Located, complete, locate, resolve
from site_client.notes.quarantine import Quarantine
from site_client.notes.records import NoteBuilder, Origin
from site_client.notes.sources import FIELD_LIMIT, BoundedLines, DamagedSourceError, open_source

SAMPLE = 100
"""How many objects must lack a column before it counts as missing from the file."""

_UTF8_MARK = b"\xef\xbb\xbf"
_MAX_LAYOUTS = 1_000


def read_json_lines(path: Path, origin: Origin, mapping: ColumnMapping, quarantine: Quarantine) -> Iterator[RawNote]:
    """Read a file of JSON objects, one per line.

    Args:
        path: the file, plain or gzip.
        origin: what its place says about its records.
        mapping: the keys to read; fields left None are guessed, for each set of keys.
        quarantine: where unreadable records go, by line.

    Raises:
        UsageError: none of the first objects has a named key, or one for the text.
        DamagedSourceError: the rest of the file cannot be read.
    """
    _check_columns(path, origin, mapping)
    builder = NoteBuilder(origin, "line", quarantine)
    layouts: dict[tuple[str, ...], Located] = {}
    for line, record in _objects(path, builder):
        keys = tuple(record)
        if keys not in layouts:
            if len(layouts) >= _MAX_LAYOUTS:
                layouts.clear()
            layouts[keys] = locate(complete(mapping, keys), keys)
        note = builder.build(tuple(record.values()), layouts[keys], position=line, at=line)
        if note is not None:
            yield note


def _check_columns(path: Path, origin: Origin, mapping: ColumnMapping) -> None:
    """Hold the mapping against all keys of the first objects together; faults are left to the real reading."""
    keys: dict[str, None] = {}
    try:
        for _, record in islice(_objects(path, NoteBuilder(origin, "line", Quarantine())), SAMPLE):
            keys.update(dict.fromkeys(record))
    except DamagedSourceError:
        pass
    if keys:
        columns = list(keys)
        resolve(complete(mapping, columns), columns, source=origin.source)


def _objects(path: Path, builder: NoteBuilder) -> Iterator[tuple[int, dict[str, object]]]:
    """Yield (line number, object) of every sound line."""
    with open_source(path) as stream:
        lines = BoundedLines(stream.readline)
        for line in lines:
            if lines.continued:  # the rest of a line that was too long
                continue
            if lines.number == 1:
                line = line.removeprefix(_UTF8_MARK)
            if len(line) >= FIELD_LIMIT:
                builder.reject(lines.number, "field_too_large")
            elif not line.isspace():
                record = _parse(line, lines.number, builder)
                if record is not None:
                    yield lines.number, record


def _parse(line: bytes, number: int, builder: NoteBuilder) -> dict[str, object] | None:
    try:
        record = json.loads(line.decode("utf-8"))
        if isinstance(record, dict):
            return record
    except UnicodeDecodeError:
        builder.reject(number, "bad_utf8")
        return None
    except (ValueError, RecursionError):  # ValueError: no JSON, or an integer too long to convert
        pass
    builder.reject(number, "malformed_json")
    return None
