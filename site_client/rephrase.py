"""Rephrasing a site's training notes: chunks through the engine, replies through the gates, the rest to the corpus."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from privacy.note_types import Chunk, SyntheticChunk
from protocols.durable import whole_file
from site_client.chunks import chunk_note
from site_client.engines.engine import Engine
from site_client.folder import SiteFolder
from site_client.gates.candidate import Candidate
from site_client.gates.judge import VERSION, GateCounts, judge
from site_client.store import read_split

_FIELDS = ("job", "arm", "chunk_key", "note_key", "patient_key", "text")
_SCHEMA = pa.schema([(name, pa.string()) for name in _FIELDS])
_BATCH = 64


def rephrase_site(folder: SiteFolder, engine: Engine, progress: Callable[[int], None] | None = None) -> GateCounts:
    """Write one arm of a site's synthetic corpus.

    Only training notes are rephrased: a rephrasing of a held-out note would carry it into training.

    Args:
        folder: the site.
        engine: writes the texts.
        progress: told the number of chunks just done.

    Returns:
        The verdicts of the gates.
    """
    chunks = training_chunks(folder)
    counts, accepted = GateCounts(), list[SyntheticChunk]()
    for batch in _batches(chunks, _BATCH):
        for chunk, text in zip(batch, engine.rephrase(batch), strict=True):
            reasons = judge(Candidate(source=chunk.text, text=text, header=chunk.header))
            counts.add(reasons)
            if not reasons:
                accepted.append(_synthetic(chunk, engine, text))
        if progress is not None:
            progress(len(batch))
    rows = [{name: getattr(s, name) for name in _FIELDS} for s in accepted]
    with whole_file(_arm_file(folder, engine.arm)) as partial:
        pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), partial, compression="zstd")
    return counts


def training_chunks(folder: SiteFolder) -> list[Chunk]:
    """Cut all training notes of a site, in a stable order."""
    return [c for note in read_split(folder.notes, "train") for c in chunk_note(note)]


def read_synthetic(folder: SiteFolder) -> list[SyntheticChunk]:
    """Read the accepted rephrasings of all arms."""
    tables = [pq.read_table(path, schema=_SCHEMA) for path in sorted(folder.corpus.glob("*.parquet"))]
    return [SyntheticChunk(**row) for table in tables for row in table.to_pylist()]


def _synthetic(chunk: Chunk, engine: Engine, text: str) -> SyntheticChunk:
    key = "\0".join([chunk.chunk_key, chunk.text, engine.arm, engine.version, VERSION])
    return SyntheticChunk(
        job=hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest(),
        arm=engine.arm,
        chunk_key=chunk.chunk_key,
        note_key=chunk.note_key,
        patient_key=chunk.patient_key,
        text=text,
    )


def _arm_file(folder: SiteFolder, arm: str) -> Path:
    return folder.corpus / f"{arm}.parquet"


def _batches(chunks: Sequence[Chunk], size: int) -> list[Sequence[Chunk]]:
    return [chunks[i : i + size] for i in range(0, len(chunks), size)]
