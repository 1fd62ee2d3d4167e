"""A folder for what does not fit into memory.

It holds texts and hashes of notes, so it lies inside the corpus folder and is gone afterwards; after a kill, the next
one who needs it takes it away.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from protocols.durable import storage_failures_told
from protocols.errors import UsageError


@contextmanager
def scratch(corpus: Path) -> Iterator[Path]:
    """Give an empty folder that only its owner can read, and take it away again.

    Args:
        corpus: folder of the site's corpus.

    Raises:
        UsageError: another process has it.
        StorageError: the disk is full.
    """
    path = corpus / ".scratch"
    with storage_failures_told(path):
        corpus.mkdir(parents=True, exist_ok=True)
        lock = FileLock(corpus / ".scratch.lock", mode=0o600)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UsageError(
                f"Another process measures or exports the corpus in {corpus}.", hint="wait for it, then run again"
            ) from None
        try:
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir(mode=0o700)
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)
            lock.release()
