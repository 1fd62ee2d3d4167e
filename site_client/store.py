"""The note store of a site: clean notes with their split, in one Parquet file that is replaced whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from privacy.note_types import CleanNote
from privacy.split import Split
from protocols.durable import whole_file
from protocols.errors import UsageError

_SCHEMA = pa.schema([(name, pa.string()) for name in ("note_key", "patient_key", "note_type", "split", "text")])


def write_notes(path: Path, notes: Sequence[CleanNote], splits: Mapping[str, Split]) -> None:
    """Write clean notes, in the place of what was there.

    Args:
        path: Parquet file.
        notes: clean notes with distinct keys.
        splits: split of every patient key.
    """
    rows = [
        {
            "note_key": n.note_key,
            "patient_key": n.patient_key,
            "note_type": n.note_type,
            "split": splits[n.patient_key],
            "text": n.text,
        }
        for n in notes
    ]
    with whole_file(path) as partial:
        pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), partial, compression="zstd")


def read_split(path: Path, split: Split) -> list[CleanNote]:
    """Read the notes of one split.

    Raises:
        UsageError: nothing was ingested yet.
    """
    if not path.exists():
        raise UsageError(f"There are no notes in {path} yet.", hint="fednotes site ingest PATH...")
    table = pq.read_table(path, schema=_SCHEMA, filters=[("split", "=", split)])
    return [
        CleanNote(note_key=r["note_key"], patient_key=r["patient_key"], note_type=r["note_type"], text=r["text"])
        for r in table.to_pylist()
    ]
