"""Reading CSV and TSV: quoted newlines, one broken record at a time.

Bytes that are not UTF-8 are decoded to lone surrogates, which costs nothing where there are none, and are looked for
once a record is complete: a broken byte costs its record and no other.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from privacy.note_types import RawNote
from site_client.notes.mapping import ColumnMapping, complete, resolve
from site_client.notes.quarantine import Quarantine
from site_client.notes.records import NoteBuilder, Origin, is_valid_text
from site_client.notes.sources import FIELD_LIMIT, BoundedLines, DamagedSourceError, open_source

if TYPE_CHECKING:
    from _csv import Reader


def read_csv(path: Path, origin: Origin, mapping: ColumnMapping, quarantine: Quarantine) -> Iterator[RawNote]:
    """Read a CSV file whose separator is the comma, or else the most frequent of ``; TAB |`` in its header.

    Args:
        path: the file, plain or gzip.
        origin: what its place says about its records.
        mapping: the columns to read; fields left None are guessed.
        quarantine: where unreadable records go, by the physical line at which they start.

    Raises:
        UsageError: the file lacks a column.
        DamagedSourceError: the rest of the file cannot be read.
    """
    return _read(path, origin, mapping, quarantine, separators=",;\t|")


def read_tsv(path: Path, origin: Origin, mapping: ColumnMapping, quarantine: Quarantine) -> Iterator[RawNote]:
    """Read a file whose separator is the tabulator; otherwise as ``read_csv``."""
    return _read(path, origin, mapping, quarantine, separators="\t")


def _read(
    path: Path, origin: Origin, mapping: ColumnMapping, quarantine: Quarantine, *, separators: str
) -> Iterator[RawNote]:
    csv.field_size_limit(FIELD_LIMIT)  # of the whole process: the module offers no other way
    builder = NoteBuilder(origin, "line", quarantine)
    with (
        open_source(path) as stream,
        io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="") as text,
    ):
        lines = BoundedLines(text.readline)
        rows = iter(lines)
        first = next((line for line in rows if not line.isspace()), "")
        if not first:
            raise DamagedSourceError("empty_file")
        # In strict mode a stray quote is an error of its own record; otherwise it would run on into later ones.
        reader = csv.reader(chain([first], rows), delimiter=max(separators, key=first.count), strict=True)
        columns = _header(reader)
        located = resolve(complete(mapping, columns), columns, source=origin.source)
        for position, line, row in _records(reader, lines, len(columns), builder):
            note = builder.build(row, located, position=position, at=line)
            if note is not None:
                yield note


def _header(reader: Reader) -> list[str]:
    try:
        columns = next(reader)
    except csv.Error:
        raise DamagedSourceError("malformed_row", 1, "line") from None
    if not is_valid_text("".join(columns)):
        raise DamagedSourceError("bad_utf8", 1, "line")
    return columns


def _records(
    reader: Reader, lines: BoundedLines[str], width: int, builder: NoteBuilder
) -> Iterator[tuple[int, int, list[str]]]:
    """Yield (record number, line at which it starts, fields) of every row that is sound as a row."""
    position = 0
    while True:
        line, fragment = lines.number + 1, not lines.whole
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if fragment:
                continue
            position += 1
            builder.reject(line, "field_too_large" if "field limit" in str(error) else "malformed_row")
            continue
        if fragment or not row:  # the rest of a line that was too long, or a blank line: no record
            continue
        position += 1
        if not lines.whole:
            builder.reject(line, "field_too_large")
        elif not all(map(str.isascii, row)) and not is_valid_text("".join(row)):
            builder.reject(line, "bad_utf8")
        elif len(row) != width:
            builder.reject(line, "malformed_row")
        else:
            yield position, line, row
