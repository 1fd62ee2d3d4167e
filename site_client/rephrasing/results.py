"""The results of an arm: an append-only file of batches, each whole or not there.

    {"batch": 64, "bytes": 51234, "sha256": "..."}     one line
    {"job": "...", "text": "...", ...}                 64 lines, 51,234 bytes

A batch is written with one flush to the disk behind it. Whatever a kill or a full disk leaves behind the last whole
batch fails the digest; it is cut off at the next start and its jobs are done again. A batch that was damaged later is
taken out likewise, and the whole ones around it stay.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from privacy.note_types import Chunk
from protocols.durable import flush, storage_failures_told, whole_file
from site_client.engines.engine import Completion

Jobs = npt.NDArray[np.bytes_]
_HEADER = b'{"batch": '
_KEY_BYTES = 16  # of a job's 32; two of ten million jobs share 16 bytes with a probability of 1e-25


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Result:
    """One finished job, accepted or not.

    Attributes:
        job: identity, see ``Arm.job``.
        chunk_key: the chunk that was rephrased.
        note_key: the note of that chunk.
        patient_key: the patient of that note.
        text: what the engine wrote, tidied.
        finish_reason: see ``Completion``.
        prompt_tokens: as the model counts them.
        output_tokens: likewise.
        reasons: names of the gates that it failed; empty when it was accepted.
    """

    job: str
    chunk_key: str
    note_key: str
    patient_key: str
    text: str
    finish_reason: str
    prompt_tokens: int
    output_tokens: int
    reasons: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, job: str, chunk: Chunk, completion: Completion, text: str, reasons: Sequence[str]) -> Result:
        """Join a chunk with what became of it."""
        return cls(
            job=job,
            chunk_key=chunk.chunk_key,
            note_key=chunk.note_key,
            patient_key=chunk.patient_key,
            text=text,
            finish_reason=completion.finish_reason,
            prompt_tokens=completion.prompt_tokens,
            output_tokens=completion.output_tokens,
            reasons=list(reasons),
        )

    def __repr__(self) -> str:
        return f"Result({self.job[:8]}, {self.output_tokens} tokens)"


class ResultsFile:
    """The results of one arm.

    Args:
        path: the file; it need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def repair(self) -> int:
        """Take out what is not a whole batch.

        Returns:
            Bytes that were taken out.
        """
        if not self.path.exists():
            return 0
        whole = end = 0
        for at, header, payload in self._batches():
            whole += len(header) + len(payload)
            end = at + len(header) + len(payload)
        damaged = self.path.stat().st_size - whole
        if damaged and end == whole:
            os.truncate(self.path, whole)  # the usual case: a cut tail, mended even where the disk is full
            flush(self.path)
        elif damaged:
            with whole_file(self.path) as partial, partial.open("wb") as file:
                for _, header, payload in self._batches():
                    file.write(header + payload)
        return damaged

    def append(self, results: Sequence[Result]) -> None:
        """Add one batch and wait until the disk has it.

        Raises:
            StorageError: the disk is full; the batches before are untouched.
        """
        if not results:
            return
        payload = b"".join(json.dumps(asdict(r)).encode() + b"\n" for r in results)
        header = {"batch": len(results), "bytes": len(payload), "sha256": hashlib.sha256(payload).hexdigest()}
        with storage_failures_told(self.path):
            new = not self.path.exists()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(json.dumps(header).encode() + b"\n" + payload)
                file.flush()
                os.fsync(file.fileno())
            if new:
                flush(self.path.parent)

    def read(self) -> Iterator[Result]:
        """Give all results in the order in which they were finished, holding one batch at a time."""
        for _, _, payload in self._batches():
            for line in payload.splitlines():
                yield Result(**json.loads(line))

    def jobs(self) -> Jobs:
        """The keys of all jobs that have a result, sorted, for :func:`contains`."""
        return job_keys(r.job for r in self.read())

    def rewrite(self, results: Iterator[Result], batch: int = 256) -> None:
        """Put other results in the place of these, whole or not at all."""
        with whole_file(self.path) as partial:
            new = ResultsFile(partial)
            held: list[Result] = []
            for result in results:
                held.append(result)
                if len(held) == batch:
                    new.append(held)
                    held = []
            new.append(held)

    def _batches(self) -> Iterator[tuple[int, bytes, bytes]]:
        """Place, header line and payload of each whole batch; anything else is passed over."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            at = 0
            while line := file.readline():
                size, payload = _payload(line, file)
                if payload is not None:
                    yield at, line, payload
                    at += len(line) + size
                    continue
                # Where the next batch begins as this header says, damage inside must not cost it too.
                file.seek(at + len(line) + size)
                at += len(line) + (size if file.read(len(_HEADER)) == _HEADER else 0)
                file.seek(at)


def job_keys(jobs: Iterator[str]) -> Jobs:
    """Sorted keys of jobs, 16 bytes each: ten million of them are 160 MB."""
    keys = np.fromiter((bytes.fromhex(j[: 2 * _KEY_BYTES]) for j in jobs), dtype=f"S{_KEY_BYTES}")
    keys.sort()
    return keys


def contains(keys: Jobs, job: str) -> bool:
    """Whether a job is among sorted keys."""
    key = np.array(bytes.fromhex(job[: 2 * _KEY_BYTES]), dtype=keys.dtype)
    place = int(np.searchsorted(keys, key))
    return place < len(keys) and bool(keys[place] == key)


def _payload(line: bytes, file: BinaryIO) -> tuple[int, bytes | None]:
    """Read what follows a header line: its size as the header says, and None when it is not what the header says."""
    if not line.startswith(_HEADER):
        return 0, None
    try:
        header = json.loads(line)
        size, digest = int(header["bytes"]), str(header["sha256"])
    except (ValueError, KeyError, TypeError):
        return 0, None
    if size < 0:
        return 0, None
    payload = file.read(size)
    return size, payload if len(payload) == size and hashlib.sha256(payload).hexdigest() == digest else None
