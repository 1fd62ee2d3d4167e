"""Receipts: a line for everything that left the site, written and flushed before it leaves.

Each line carries the SHA-256 of the line before it, so a line that is changed, cut out or moved breaks the chain; a
head beside it tells when lines are missing at the end. Whoever may write to the whole folder could still write the
chain anew: the coordinator's record of what arrived is the witness against that.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, ValidationError

from protocols.durable import write_text
from protocols.errors import WorkError

_START = "0" * 64


class Receipt(BaseModel):
    """One thing that left, or was refused.

    Attributes:
        number: counted from 1 without gaps.
        time: UTC, ISO 8601.
        study: empty for a greeting.
        round: 0 for a greeting.
        kind: "HelloReply", "TrainReply" or "refusal".
        code: name of the error code of a refusal, else empty.
        fields: the numbers that left, by name.
        array_bytes: size of the arrays that left.
        arrays_sha256: over their names and payloads; empty without arrays.
        previous: SHA-256 of the line before.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    time: str
    study: str
    round: int
    kind: str
    code: str = ""
    fields: dict[str, int | float] = {}
    array_bytes: int = 0
    arrays_sha256: str = ""
    previous: str

    def in_words(self) -> str:
        """One line for a person."""
        where = f"study {self.study}, round {self.round}" if self.study else "greeting"
        if self.kind == "refusal":
            return f"{self.number:6} {self.time}  {where}: refused with {self.code}, nothing left"
        numbers = ", ".join(f"{name} {value:,}" for name, value in self.fields.items())
        return f"{self.number:6} {self.time}  {where}: {self.kind} ({numbers}), {self.array_bytes:,} bytes of arrays"


class _Head(BaseModel):
    """How many receipts there are and the SHA-256 of the last: shows that lines were cut off at the end."""

    count: int
    sha256: str


class ReceiptBook:
    """The receipts of one site.

    Args:
        folder: holds ``receipts.jsonl`` and ``head.json``.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "receipts.jsonl"
        self._head = folder / "head.json"

    def append(self, *, kind: str, study: str = "", round_number: int = 0, **facts: object) -> Receipt:
        """Write a receipt and flush it to the disk.

        Args:
            kind: what left.
            study: name of the study.
            round_number: of the study.
            facts: further fields of :class:`Receipt`.

        Raises:
            WorkError: the chain before is broken, or the disk is full; nothing may leave then.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._path.with_suffix(".lock")):
            lines = self._lines()
            receipt = Receipt.model_validate(
                {
                    "number": len(self._verify(lines)) + 1,
                    "time": datetime.now(UTC).isoformat(timespec="seconds"),
                    "study": study,
                    "round": round_number,
                    "kind": kind,
                    "previous": hashlib.sha256(lines[-1]).hexdigest() if lines else _START,
                    **facts,
                }
            )
            line = json.dumps(receipt.model_dump(), separators=(",", ":")).encode()
            with self._path.open("ab") as file:
                # A line without an end is one that a kill or a full disk cut: what it was for never left.
                file.truncate(sum(len(x) + 1 for x in lines))
                file.write(line + b"\n")
                file.flush()
                os.fsync(file.fileno())
            write_text(
                self._head, _Head(count=receipt.number, sha256=hashlib.sha256(line).hexdigest()).model_dump_json()
            )
        return receipt

    def read(self) -> list[Receipt]:
        """Read and verify all receipts.

        Raises:
            WorkError: a line was changed, cut or moved; names the line.
        """
        return self._verify(self._lines())

    def _lines(self) -> list[bytes]:
        """The complete lines."""
        content = self._path.read_bytes() if self._path.exists() else b""
        return content.split(b"\n")[:-1]

    def _verify(self, lines: Sequence[bytes]) -> list[Receipt]:
        receipts: list[Receipt] = []
        previous = _START
        for number, line in enumerate(lines, start=1):
            try:
                receipt = Receipt.model_validate_json(line)
            except ValidationError:
                receipt = None
            if receipt is None or receipt.number != number or receipt.previous != previous:
                # A line that reads well but does not fit its predecessor: either of the two was changed.
                fits_alone = receipt is not None and receipt.number == number > 1
                raise self._broken(f"line {number - 1} or {number}" if fits_alone else f"line {number}")
            receipts.append(receipt)
            previous = hashlib.sha256(line).hexdigest()
        self._verify_end(lines)
        return receipts

    def _verify_end(self, lines: Sequence[bytes]) -> None:
        """Compare with the head, which is written after the line: it may be one receipt behind, never ahead."""
        try:
            head = (
                _Head.model_validate_json(self._head.read_bytes()) if self._head.exists() else _Head(count=0, sha256="")
            )
        except ValidationError:
            raise self._broken("its head") from None
        behind = len(lines) - head.count
        if behind not in (0, 1) or (head.count and hashlib.sha256(lines[head.count - 1]).hexdigest() != head.sha256):
            raise self._broken(f"line {min(len(lines), head.count) + 1}")

    def _broken(self, where: str) -> WorkError:
        return WorkError(
            f"The receipts {self._path} are broken at {where}: it was changed, cut or moved.",
            hint="keep the file as evidence, restore it from a backup, and find out who wrote to it",
        )
