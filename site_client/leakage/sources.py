"""The notes of a site, prepared for comparing rephrasings with them: one pass over the store, the rest on the disk."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from privacy.note_types import CleanNote
from privacy.split import Split
from protocols.errors import WorkError
from site_client.chunks import chunk_note
from site_client.leakage.identifiers import Planted, PlantedFound
from site_client.leakage.near_copies import SHINGLE_WORDS, owned_by
from site_client.leakage.rare_ngrams import RARE_WORDS
from site_client.leakage.run_index import MANY, RunIndex, RunIndexBuilder
from site_client.leakage.words import Words
from site_client.store import iter_split


class ChunkTexts:
    """Texts of all training chunks in one file, found by chunk key. Memory: 20 bytes a chunk.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys, self._starts, self._sizes = array("q"), array("Q"), array("I")
        self._sorted: npt.NDArray[np.int64] = np.empty(0, np.int64)
        self._order: npt.NDArray[np.intp] = np.empty(0, np.intp)
        self._file: BinaryIO | None = None

    def fill(self, notes: Iterator[CleanNote]) -> Iterator[CleanNote]:
        """Pass notes through and keep the texts of their chunks."""
        end = 0
        with self._path.open("wb") as file:
            for note in notes:
                for chunk in chunk_note(note):
                    text = chunk.text.encode("utf-8", "surrogatepass")
                    file.write(text)
                    self._keys.append(hash(chunk.chunk_key))
                    self._starts.append(end)
                    self._sizes.append(len(text))
                    end += len(text)
                yield note
        keys = np.array(self._keys, np.int64)
        self._order = np.argsort(keys)
        self._sorted = keys[self._order]

    def text(self, chunk_key: str) -> str:
        """The text of a chunk.

        Raises:
            WorkError: there is none of that key.
        """
        place = int(np.searchsorted(self._sorted, hash(chunk_key)))
        if place == len(self._sorted) or self._sorted[place] != hash(chunk_key):
            raise WorkError("The notes changed while they were compared.", hint="run again when ingest has finished")
        chunk = int(self._order[place])
        if self._file is None:
            self._file = self._path.open("rb")
        self._file.seek(self._starts[chunk])
        return self._file.read(self._sizes[chunk]).decode("utf-8", "surrogatepass")

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What rephrasings are compared with.

    Attributes:
        chunks: texts of the training chunks.
        patients: number of every training patient by key; held-out patients have the numbers behind.
        held_out: how many patients are held out.
        ngrams: owners of short runs of words, over all notes.
        shingles: owners of longer ones.
        ngram_chance: rare n-grams of training patients to one of held-out patients; None when none are held out.
        shingle_chance: likewise of shingles that no template has.
        planted_in_notes: planted strings that training notes have; None when none were planted.
    """

    chunks: ChunkTexts
    patients: dict[str, int]
    held_out: int
    ngrams: RunIndex
    shingles: RunIndex
    ngram_chance: float | None
    shingle_chance: float | None
    planted_in_notes: int | None


def prepare(
    notes: Path, folder: Path, *, planted: Planted | None, held_out: bool, progress: Callable[[float], None]
) -> Sources:
    """Read a site's notes.

    Args:
        notes: the note store.
        folder: empty; takes the texts and tables.
        planted: strings to look for in training notes.
        held_out: whether validation and test notes are read too, as the control.
        progress: told of every note read.

    Raises:
        UsageError: nothing was ingested yet.
    """
    builders = [RunIndexBuilder(folder / "ngrams", RARE_WORDS), RunIndexBuilder(folder / "shingles", SHINGLE_WORDS)]
    found = PlantedFound(planted) if planted is not None else None
    chunks = ChunkTexts(folder / "chunks")
    numbers: dict[str, int] = {}

    def read(split: Split, stream: Iterator[CleanNote]) -> None:
        for note in stream:
            words, patient = Words(note.text), numbers.setdefault(note.patient_key, len(numbers))
            for builder in builders:
                builder.add(words.distinct(builder.n), patient)
            if found is not None and split == "train":
                found.add(words)
            progress(1)

    read("train", chunks.fill(iter_split(notes, "train")))
    patients = dict(numbers)
    for split in ("validation", "test") if held_out else ():
        read(split, iter_split(notes, split))
    ngrams, shingles = (builder.finish() for builder in builders)
    trained = len(patients)
    return Sources(
        chunks=chunks,
        patients=patients,
        held_out=len(numbers) - trained,
        ngrams=ngrams,
        shingles=shingles,
        ngram_chance=_ratio(
            ngrams.count(lambda o: o.only < trained), ngrams.count(lambda o: (o.only >= trained) & (o.only < MANY))
        ),
        shingle_chance=_ratio(
            shingles.count(lambda o: owned_by(0, trained, o)),
            shingles.count(lambda o: owned_by(trained, int(MANY), o)),
        ),
        planted_in_notes=None if found is None else found.count,
    )


def _ratio(of_trained: int, of_held_out: int) -> float | None:
    return of_trained / of_held_out if of_held_out else None
