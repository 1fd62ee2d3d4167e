"""Receipts: a line for everything that left the site, written and flushed before it leaves.

Each line carries the SHA-256 of the line before it, so a line that is changed, cut out or moved breaks the chain.
"""

from __future__ import annotations

import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, ValidationError

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


class ReceiptBook:
    """The receipts of one site.

    Args:
        folder: holds ``receipts.jsonl``.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "receipts.jsonl"

    def append(self, *, kind: str, study: str = "", round_number: int = 0, **facts: object) -> Receipt:
        """Write a receipt and flush it to the disk.

        Args:
            kind: what left.
            study: name of the study.
            round_number: of the study.
            facts: further fields of :class:`Receipt`.

        Raises:
            WorkError: the chain before is broken; nothing may leave then.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._path.with_suffix(".lock")):
            before = self.read()
            last_line = self._path.read_bytes().splitlines()[-1] if before else None
            receipt = Receipt.model_validate(
                {
                    "number": len(before) + 1,
                    "time": datetime.now(UTC).isoformat(timespec="seconds"),
                    "study": study,
                    "round": round_number,
                    "kind": kind,
                    "previous": _START if last_line is None else hashlib.sha256(last_line).hexdigest(),
                    **facts,
                }
            )
            with self._path.open("ab") as file:
                file.write(json.dumps(receipt.model_dump(), separators=(",", ":")).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        return receipt

    def read(self) -> list[Receipt]:
        """Read and verify all receipts.

        Raises:
            WorkError: a line was changed, cut or moved; names the line.
        """
        if not self._path.exists():
            return []
        receipts: list[Receipt] = []
        previous = _START
        for number, line in enumerate(self._path.read_bytes().splitlines(), start=1):
            try:
                receipt = Receipt.model_validate_json(line)
            except ValidationError:
                receipt = None
            if receipt is None or receipt.number != number or receipt.previous != previous:
                # A line that reads well but does not fit its predecessor: either of the two was changed.
                fits_alone = receipt is not None and receipt.number == number > 1
                where = f"line {number - 1} or {number}" if fits_alone else f"line {number}"
                raise WorkError(
                    f"The receipts {self._path} are broken at {where}: it was changed, cut or moved.",
                    hint="keep the file as evidence, restore it from a backup, and find out who wrote to it",
                )
            receipts.append(receipt)
            previous = hashlib.sha256(line).hexdigest()
        return receipts
