"""Opening an export, plain or compressed, and going through its lines in bounded memory.

This package is the only one of a site that opens note files.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import AnyStr, Generic

from site_client.notes.quarantine import Reason, Unit

FIELD_LIMIT = 1 << 26
"""Longest field, line or text file that is read [characters or bytes]; the csv module needs 4 bytes for each."""

GZIP_MAGIC = b"\x1f\x8b"


class DamagedSourceError(Exception):
    """A file that cannot be read on from here: the rest of it is lost, the next file is not.

    Args:
        reason: code for the quarantine.
        position: line or record at which reading stopped, counted from 1; 0 for the file as a whole.
        unit: what ``position`` counts.
    """

    def __init__(self, reason: Reason, position: int = 0, unit: Unit = "file") -> None:
        super().__init__(f"{reason} at {unit} {position}")
        self.reason: Reason = reason
        self.position = position
        self.unit: Unit = unit


@contextmanager
def open_source(path: Path) -> Iterator[io.BufferedReader | gzip.GzipFile]:
    """Open a file for reading, decompressed if its first bytes say that it is gzip, whatever its name says."""
    with path.open("rb") as raw:
        if raw.peek(len(GZIP_MAGIC)).startswith(GZIP_MAGIC):
            with gzip.GzipFile(fileobj=raw) as unpacked:
                yield unpacked
        else:
            yield raw


class BoundedLines(Generic[AnyStr]):
    """Iterates over the physical lines of a stream; a line longer than FIELD_LIMIT comes in pieces.

    Args:
        readline: the method of that name of a text or binary stream.

    Attributes:
        number: physical line of the piece that was last returned, counted from 1.
        continued: that piece goes on with the line of the piece before.
        whole: that piece ends its line.

    Raises:
        DamagedSourceError: the compressed data ends early or is damaged; complete lines came before.
    """

    def __init__(self, readline: Callable[[int], AnyStr]) -> None:
        self._readline: Callable[[int], AnyStr] = readline
        self.number = 0
        self.continued = False
        self.whole = True

    def __iter__(self) -> Iterator[AnyStr]:
        try:
            while line := self._readline(FIELD_LIMIT):
                self.continued = not self.whole
                self.number += self.whole
                # Only a piece of full length can lack its line end, except for the last line of the file.
                self.whole = len(line) < FIELD_LIMIT or line[-1:] in ("\n", b"\n")
                yield line
        except EOFError:
            raise DamagedSourceError("truncated_archive", self.number + 1, "line") from None
        except (zlib.error, gzip.BadGzipFile):
            raise DamagedSourceError("damaged_archive", self.number + 1, "line") from None
