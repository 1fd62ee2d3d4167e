"""Which chunks an arm rephrases: in rounds over patients, so that nobody with a long history fills the budget.

The order is a function of the notes and a seed: first one chunk of every patient, then a second one of those who have
one, and so on; which chunk of a patient comes first, and which patient, is drawn by hash. An arm does the first ``n``
chunks of this order. A larger ``n`` only adds chunks, so a budget may grow without losing work.

Memory: 22 bytes a chunk.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from privacy.note_types import Chunk
from site_client.chunks import chunk_note, estimate_tokens
from site_client.store import iter_split


def training_chunks(notes: Path) -> Iterator[Chunk]:
    """Cut all training notes of a site, in the order of the store.

    Only these are rephrased: a rephrasing of a held-out note would carry it into training.

    Args:
        notes: the note store.
    """
    return (chunk for note in iter_split(notes, "train") for chunk in chunk_note(note))


class ChunkOrder:
    """The order in which an arm takes chunks.

    Args:
        chunks: all of them, in the order of the store.
        seed: of the draw.
        per_patient: most chunks of one patient; None for all.

    Attributes:
        patients: how many have chunks.
        all_tokens: estimated tokens of all chunks, those beyond ``per_patient`` included.
    """

    def __init__(self, chunks: Iterable[Chunk], seed: int, per_patient: int | None = None) -> None:
        patients: dict[str, int] = {}
        patient, draw, tokens = array("I"), array("Q"), array("H")
        for chunk in chunks:
            patient.append(patients.setdefault(chunk.patient_key, len(patients)))
            digest = hashlib.blake2b(f"{seed}\0{chunk.chunk_key}".encode(), digest_size=8).digest()
            draw.append(int.from_bytes(digest, "big"))
            tokens.append(min(estimate_tokens(chunk.text), 65_535))
        self.patients = len(patients)
        del patients
        self._tokens: npt.NDArray[np.uint16] = np.asarray(tokens)
        ranks = _ranks(np.asarray(patient), np.asarray(draw))
        order = np.lexsort((np.asarray(draw), ranks)).astype(np.uint32)
        self._order = order[ranks[order] < per_patient] if per_patient is not None else order
        self.all_tokens = int(self._tokens.sum(dtype=np.int64))

    def __len__(self) -> int:
        return len(self._order)

    def tokens(self, n: int) -> int:
        """Estimated source tokens of the first ``n`` chunks."""
        return int(self._tokens[self._order[:n]].sum(dtype=np.int64))

    def count_for(self, tokens: float) -> int:
        """Least number of chunks that have so many estimated source tokens together, or all."""
        sums = np.cumsum(self._tokens[self._order], dtype=np.uint64)
        return min(int(np.searchsorted(sums, tokens)) + 1, len(self)) if len(self) else 0

    def first(self, n: int, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        """Pass the first ``n`` chunks of the order through, out of all chunks in the order of the store."""
        chosen = np.zeros(len(self._tokens), bool)
        chosen[self._order[:n]] = True
        return (chunk for chunk, wanted in zip(chunks, chosen, strict=True) if wanted)


def _ranks(patient: npt.NDArray[np.uint32], draw: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint32]:
    """Place of each chunk among those of its patient, by draw."""
    by_patient = np.lexsort((draw, patient)).astype(np.uint32)
    first = np.ones(len(patient), bool)
    np.not_equal(patient[by_patient[1:]], patient[by_patient[:-1]], out=first[1:])
    place = np.arange(len(patient), dtype=np.uint32)
    start = np.where(first, place, 0).astype(np.uint32)
    np.maximum.accumulate(start, out=start)
    ranks = np.empty(len(patient), np.uint32)
    ranks[by_patient] = place - start
    return ranks
