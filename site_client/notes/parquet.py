"""Reading Parquet in small batches, so that memory does not grow with the size of a row group."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from privacy.note_types import RawNote
from protocols.errors import UsageError
from site_client.notes.mapping import ColumnMapping, Located, complete, resolve
from site_client.notes.quarantine import Quarantine
from site_client.notes.records import NoteBuilder, Origin
from site_client.notes.sources import FIELD_LIMIT, DamagedSourceError

BATCH = 256
"""Notes in memory at a time."""

_BUFFER = 1 << 20  # [bytes] read at a time of each column


def read_parquet(path: Path, origin: Origin, mapping: ColumnMapping, quarantine: Quarantine) -> Iterator[RawNote]:
    """Read a Parquet file; only the columns that a note needs are decoded.

    Args:
        path: the file.
        origin: what its place says about its records.
        mapping: the columns to read; fields left None are guessed.
        quarantine: where unreadable records go, by record number.

    Raises:
        UsageError: the file lacks a column, or a column that is needed holds lists or structures.
        DamagedSourceError: the rest of the file cannot be read.
    """
    builder = NoteBuilder(origin, "record", quarantine)
    position = 0
    try:
        # Buffered and not read ahead: otherwise a whole row group is held in memory.
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER) as file:
            names, located = _needed(file.schema_arrow, mapping, origin.source)
            for batch in file.iter_batches(BATCH, columns=names, use_threads=False):
                present = batch.schema.names  # of two columns with one name, the first counts
                columns = [_strings(batch.column(present.index(name))) for name in names]
                for row in zip(*columns, strict=True):
                    position += 1
                    note = _note(builder, row, located, position)
                    if note is not None:
                        yield note
    except PermissionError:
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError):  # pages and column names, damaged
        raise DamagedSourceError("damaged_parquet", position + 1 if position else 0, "record") from None


def _note(builder: NoteBuilder, row: tuple[str | None, ...], located: Located, position: int) -> RawNote | None:
    if any(len(cell) > FIELD_LIMIT for cell in row if cell is not None):
        builder.reject(position, "field_too_large")
        return None
    return builder.build(row, located, position=position, at=position)


def _needed(schema: Any, mapping: ColumnMapping, source: str) -> tuple[list[str], Located]:
    """Names of the columns to decode, and where each field lies among them."""
    columns: list[str] = schema.names
    located = resolve(complete(mapping, columns), columns, source=source)
    chosen = sorted({index for found in located.values() for index in found})
    for index in chosen:
        if pa.types.is_nested(schema.field(index).type):
            raise UsageError(
                f'{source}: column "{columns[index]}" holds lists or structures, not single values.',
                hint="export it as text, or name another column.",
            )
    places = {index: place for place, index in enumerate(chosen)}
    return [columns[index] for index in chosen], {
        field: tuple(places[index] for index in found) for field, found in located.items()
    }


def _strings(array: Any) -> list[str | None]:
    """A column as strings. Text is decoded here, value by value, as pyarrow would fail on a whole batch.

    Bytes that are not UTF-8 become lone surrogates, which NoteBuilder finds.
    """
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    kind = array.type
    if pa.types.is_floating(kind):  # integers with gaps, as data frames store them
        array = pc.if_else(pc.is_finite(array), array, None)
    textual = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    if not any(is_kind(kind) for is_kind in (*textual, pa.types.is_fixed_size_binary)):
        array = array.cast(pa.string())
    encoded: list[bytes | None] = array.cast(pa.large_binary()).to_pylist()
    return [None if value is None else value.decode("utf-8", "surrogateescape") for value in encoded]
