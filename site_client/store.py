"""The note store of a site: clean notes with their split, in one Parquet file that is replaced whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from privacy.note_types import CleanNote
from privacy.split import Split
from protocols.durable import whole_file
from protocols.errors import UsageError

_SCHEMA = pa.schema([(name, pa.string()) for name in ("note_key", "patient_key", "note_type", "split", "text")])

# Arrow's own allocator keeps what it was given once, and a store of 100,000 notes would cost 20 MB more for ever.
pa.set_memory_pool(pa.system_memory_pool())
_ROW_GROUP = 1_000  # notes; a reader that streams holds one group at a time


def write_notes(path: Path, notes: Sequence[CleanNote], splits: Mapping[str, Split]) -> None:
    """Write clean notes, in the place of what was there.

    Args:
        path: Parquet file.
        notes: clean notes with distinct keys.
        splits: split of every patient key.
    """
    rows = [_row(n, splits[n.patient_key]) for n in notes]
    with whole_file(path) as partial:
        table = pa.Table.from_pylist(rows, schema=_SCHEMA)
        pq.write_table(table, partial, compression="zstd", row_group_size=_ROW_GROUP)


def add_notes(path: Path, notes: Sequence[CleanNote], split: Split) -> None:
    """Write clean notes behind those that are there; a note that is there already is replaced.

    Args:
        path: Parquet file of the store.
        notes: clean notes with distinct keys, of patients that have no other notes.
        split: where their patients belong.

    Raises:
        UsageError: nothing was ingested yet.
    """
    if not path.exists():
        raise UsageError(f"There are no notes in {path} yet.", hint="fednotes site ingest PATH...")
    new = pa.Table.from_pylist([_row(n, split) for n in notes], schema=_SCHEMA)
    kept = pq.read_table(path, schema=_SCHEMA)
    kept = kept.filter(pc.invert(pc.is_in(kept["note_key"], value_set=new["note_key"].combine_chunks())))
    with whole_file(path) as partial:
        pq.write_table(pa.concat_tables([kept, new]), partial, compression="zstd", row_group_size=_ROW_GROUP)


def read_split(path: Path, split: Split) -> list[CleanNote]:
    """Read the notes of one split.

    Raises:
        UsageError: nothing was ingested yet.
    """
    return list(iter_split(path, split))


def iter_split(path: Path, split: Split) -> Iterator[CleanNote]:
    """Read the notes of one split one by one, holding few of them at a time.

    Raises:
        UsageError: nothing was ingested yet.
    """
    if not path.exists():
        raise UsageError(f"There are no notes in {path} yet.", hint="fednotes site ingest PATH...")
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=200, use_threads=False):
            for r in batch.to_pylist():
                if r["split"] == split:
                    yield CleanNote(
                        note_key=r["note_key"],
                        patient_key=r["patient_key"],
                        note_type=r["note_type"],
                        text=r["text"],
                    )


def _row(note: CleanNote, split: Split) -> dict[str, str]:
    return {
        "note_key": note.note_key,
        "patient_key": note.patient_key,
        "note_type": note.note_type,
        "split": split,
        "text": note.text,
    }
