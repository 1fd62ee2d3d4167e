"""Records in a file that only grows: a line each, flushed to the disk, and chained by hashes.

Each line carries the SHA-256 of the line before it, so a line that is changed, cut out or moved breaks the chain; a
head in a file of its own tells when lines are missing at the end. Whoever may write to both could still write the
chain anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from protocols.durable import flush, storage_failures_told, write_text
from protocols.errors import WorkError

START = "0" * 64
"""What the first line has in place of a hash."""

_LOCK_POLL_S = 0.02


class Link(BaseModel):
    """Base of what a chain is made of.

    Attributes:
        number: counted from 1 without gaps.
        time: UTC, ISO 8601.
        previous: SHA-256 of the line before.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    number: int
    time: str
    previous: str


class Head(BaseModel):
    """How many lines there are and the SHA-256 of the last: shows that lines were cut off at the end."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int
    sha256: str


LinkT = TypeVar("LinkT", bound=Link)


class HashChain(Generic[LinkT]):
    """A chain of links of one type.

    Args:
        path: the file, ``.jsonl``.
        head: the file beside it, or further away, that knows where the chain ends.
        link: reads a line: one type of link, or a union of several.
        name: what errors call the chain, in the plural.
        lock_timeout_s: how long to wait for another process that writes.
    """

    def __init__(
        self, path: Path, head: Path, link: TypeAdapter[LinkT], *, name: str = "records", lock_timeout_s: float = 60.0
    ) -> None:
        self.path = path
        self.head_path = head
        self.link = link
        self._name = name
        self._lock_timeout_s = lock_timeout_s

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other writer out, in this process or another, until the block ends.

        Raises:
            WorkError: another one holds the lock and does not let go in time.
            StorageError: the folder cannot be written.
        """
        lock = self.path.with_suffix(".lock")
        with storage_failures_told(self.path):
            lock.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            until = time.monotonic() + self._lock_timeout_s
            while not _try_lock(handle):
                if time.monotonic() > until:
                    raise WorkError(
                        f"Another run works on the {self._name} {self.path} and has held the lock {lock.name} for "
                        f"more than {self._lock_timeout_s:g} s.",
                        hint="wait until it is done, or find out which process it is (fuser, lsof), then run again",
                    )
                time.sleep(_LOCK_POLL_S)
            yield
        finally:
            os.close(handle)  # closing gives the lock back, as does the death of the process

    def read(self) -> list[LinkT]:
        """Read and verify all links, while nobody writes.

        Raises:
            WorkError: a line was changed, cut or moved; names the line.
        """
        if not os.access(self.path.parent, os.W_OK):
            return self.links()  # there is nothing yet, or it is a copy that nobody writes to
        with self.locked():
            return self.links()

    def links(self) -> list[LinkT]:
        """Read and verify all links. The caller holds the lock: a writer is between line and head now and then.

        Raises:
            WorkError: as in :meth:`read`.
        """
        return self._verify(self._lines())

    def extend(self, facts: Mapping[str, object], *, time: str | None = None) -> LinkT:
        """Verify the chain, then write a link and flush it to the disk. The caller holds the lock.

        Args:
            facts: fields of the link besides number, time and previous.
            time: ISO 8601; now when not given.

        Raises:
            WorkError: the chain before is broken, or the disk is full.
        """
        return self._writer().append(facts, time=time)

    @contextmanager
    def writing(self) -> Iterator[ChainWriter[LinkT]]:
        """Hold the lock and write any number of links; the chain is verified once, at the beginning.

        Raises:
            WorkError: the chain is broken, or another process writes to it.
            StorageError: the folder cannot be written.
        """
        with self.locked():
            yield self._writer()

    def _writer(self) -> ChainWriter[LinkT]:
        lines = self._lines()
        self._verify(lines)
        end = Head(count=len(lines), sha256=_sha256(lines[-1]) if lines else "")
        return ChainWriter(self, end, sum(len(x) + 1 for x in lines))

    def end(self) -> Head:
        """Count and hash of the chain as it is in the file, the last line included that the head may not know yet."""
        lines = self._lines()
        return Head(count=len(lines), sha256=_sha256(lines[-1]) if lines else "")

    def broken(self, where: str) -> WorkError:
        """The error for a chain that does not hold together."""
        return WorkError(
            f"The {self._name} {self.path} are broken at {where}: it was changed, cut or moved.",
            hint="keep the file as evidence, restore it from a backup, and find out who wrote to it",
        )

    def _lines(self) -> list[bytes]:
        """The complete lines."""
        content = self.path.read_bytes() if self.path.exists() else b""
        return content.split(b"\n")[:-1]

    def _verify(self, lines: Sequence[bytes]) -> list[LinkT]:
        links: list[LinkT] = []
        previous = START
        for number, line in enumerate(lines, start=1):
            try:
                link = self.link.validate_json(line)
            except ValidationError:
                link = None
            if link is None or link.number != number or link.previous != previous:
                # A line that reads well but does not fit its predecessor: either of the two was changed.
                fits_alone = link is not None and link.number == number > 1
                raise self.broken(f"line {number - 1} or {number}" if fits_alone else f"line {number}")
            links.append(link)
            previous = _sha256(line)
        self._verify_end(lines)
        return links

    def _verify_end(self, lines: Sequence[bytes]) -> None:
        """Compare with the head, which is written after the line: it may be one link behind, never ahead."""
        try:
            head = (
                Head.model_validate_json(self.head_path.read_bytes())
                if self.head_path.exists()
                else Head(count=0, sha256="")
            )
        except ValidationError:
            raise self.broken("its head") from None
        behind = len(lines) - head.count
        if behind not in (0, 1) or (head.count and _sha256(lines[head.count - 1]) != head.sha256):
            raise self.broken(f"line {min(len(lines), head.count) + 1}")


class ChainWriter(Generic[LinkT]):
    """Appends to a verified chain; only made by :class:`HashChain`, whose lock is held meanwhile.

    Args:
        chain: to append to.
        end: where it ends.
        size: of its complete lines [bytes].
    """

    def __init__(self, chain: HashChain[LinkT], end: Head, size: int) -> None:
        self._chain = chain
        self._end = end
        self._size = size
        self._head_is_written = False  # a kill may have prevented it

    def append(self, facts: Mapping[str, object], *, time: str | None = None) -> LinkT:
        """Write a link and flush it to the disk.

        Args:
            facts: fields of the link besides number, time and previous.
            time: ISO 8601; now when not given.

        Raises:
            StorageError: the disk is full; the chain before is whole.
        """
        chain = self._chain
        link = chain.link.validate_python(
            {
                "number": self._end.count + 1,
                "time": time or datetime.now(UTC).isoformat(timespec="seconds"),
                "previous": self._end.sha256 or START,
                **facts,
            }
        )
        fields = link.model_dump()
        line = json.dumps(fields | {"previous": fields.pop("previous")}, separators=(",", ":")).encode()
        if not self._head_is_written and self._end.count:
            self._write_head()  # the head must never fall two lines behind
        with storage_failures_told(chain.path), chain.path.open("ab") as file:
            # A line without an end is one that a kill or a full disk cut: what it was for never happened.
            file.truncate(self._size)
            file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())
            if not self._end.count:
                flush(chain.path.parent)
        self._end = Head(count=self._end.count + 1, sha256=_sha256(line))
        self._size += len(line) + 1
        self._head_is_written = False
        self._write_head()
        return link

    def _write_head(self) -> None:
        write_text(self._chain.head_path, self._end.model_dump_json())
        self._head_is_written = True


def _sha256(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
