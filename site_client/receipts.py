"""Receipts: a line for everything that left the site, written and flushed before it leaves.

``protocols/hash_chain.py`` shows when a line was changed, cut out or moved. Whoever may write to the whole folder could
still write the chain anew: the coordinator's record of what arrived is the witness against that.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, TypeAdapter

from protocols.hash_chain import HashChain, Link


class Receipt(Link):
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

    study: str
    round: int
    kind: str
    code: str = ""
    fields: dict[str, int | float] = Field(default_factory=dict)
    array_bytes: int = 0
    arrays_sha256: str = ""

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
        folder: holds ``receipts.jsonl`` and ``head.json``.
    """

    def __init__(self, folder: Path) -> None:
        self._chain = HashChain(folder / "receipts.jsonl", folder / "head.json", TypeAdapter(Receipt), name="receipts")

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
        with self._chain.locked():
            return self._chain.extend({"study": study, "round": round_number, "kind": kind, **facts})

    def read(self) -> list[Receipt]:
        """Read and verify all receipts.

        Raises:
            WorkError: a line was changed, cut or moved; names the line.
        """
        return self._chain.read()
