"""The rows of an export, in an order drawn by the operating system.

The order of results tells who was rephrased next to whom. Rows are thrown into piles at random and each pile is
shuffled in memory: together that is a uniform draw among all orders, whatever the number of rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path
from random import SystemRandom

import pyarrow as pa
import pyarrow.parquet as pq

SUFFIXES = (".jsonl", ".parquet")
_PILES = 64
_HELD = 1 << 22  # bytes of rows in memory before they go to the piles
_ROW_GROUP = 5_000


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ExportRow:
    """Everything that is exported about one rephrasing.

    Attributes:
        text: the rephrasing.
        arm: model and prompt.
        prompt: name of the prompt.
        model: short name of the model.
        revision: pins the model.
    """

    text: str
    arm: str
    prompt: str
    model: str
    revision: str

    def __repr__(self) -> str:
        return f"ExportRow({self.arm}, {len(self.text)} characters)"


_SCHEMA = pa.schema([(f.name, pa.string()) for f in fields(ExportRow)])


class Shuffled:
    """Takes rows in any order and gives them in a random one.

    Args:
        folder: empty; takes the piles.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._random = SystemRandom()
        self._held: list[bytes] = []
        self._bytes = 0

    def add(self, row: ExportRow) -> None:
        """Take one row."""
        line = json.dumps(asdict(row), ensure_ascii=False).encode() + b"\n"
        self._held.append(line)
        self._bytes += len(line)
        if self._bytes >= _HELD:
            self._to_piles()

    def lines(self) -> Iterator[bytes]:
        """Give all rows as lines of JSON; once only."""
        if not any(self._folder.glob("pile*")):
            self._random.shuffle(self._held)
            yield from self._held
            return
        self._to_piles()
        for pile in range(_PILES):
            path = self._folder / f"pile{pile}"
            if path.exists():
                lines = path.read_bytes().splitlines(keepends=True)
                self._random.shuffle(lines)
                yield from lines

    def _to_piles(self) -> None:
        piles: dict[int, list[bytes]] = {}
        for line in self._held:
            piles.setdefault(self._random.randrange(_PILES), []).append(line)
        for pile, lines in piles.items():
            with (self._folder / f"pile{pile}").open("ab") as file:
                file.write(b"".join(lines))
        self._held, self._bytes = [], 0


def write_rows(path: Path, rows: Shuffled, suffix: str) -> None:
    """Write rows to a file.

    Args:
        path: of any name.
        rows: all of them.
        suffix: one of SUFFIXES; decides the format.
    """
    if suffix == ".jsonl":
        with path.open("wb") as file:
            file.writelines(rows.lines())
        return
    lines = rows.lines()
    with pq.ParquetWriter(path, _SCHEMA, compression="zstd") as writer:
        while group := [json.loads(line) for line in islice(lines, _ROW_GROUP)]:
            writer.write_table(pa.Table.from_pylist(group, schema=_SCHEMA))
