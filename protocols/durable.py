"""Files and folders that appear whole or not at all, whatever dies in between.

Everything is written beside its destination, flushed to the disk and renamed. Only the owner can read it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from protocols.errors import FednotesError, StorageError

_DISK_FULL = "No space left on device"  # in the words of the system, which every library passes on


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a partial path to write to; it becomes ``path`` when the block ends without an exception.

    Raises:
        StorageError: the disk is full or the folder cannot be written; what was at ``path`` before is untouched.
    """
    partial = path.with_name(f".{path.name}.partial")
    with storage_failures_told(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.touch(mode=0o600)
            yield partial
            flush(partial)
            partial.replace(path)
            flush(path.parent)
        finally:
            with suppress(OSError):  # on a disk that takes nothing, the error above is the one to tell
                partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give a partial folder to fill; it becomes ``path``, in place of what was there, when the block ends well.

    Raises:
        StorageError: as in :func:`whole_file`.
    """
    partial, old = path.with_name(f".{path.name}.partial"), path.with_name(f".{path.name}.old")
    with storage_failures_told(path):
        try:
            if old.exists() and not path.exists():
                old.replace(path)  # a process was killed between the two renames
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True, mode=0o700)
            yield partial
            for file in partial.rglob("*"):
                if file.is_file():
                    flush(file)
            _swap(partial, path, old)
            flush(path.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a small text file whole.

    Raises:
        StorageError: as in :func:`whole_file`.
    """
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _swap(partial: Path, path: Path, old: Path) -> None:
    """Put a folder in the place of another one, or leave everything as it was."""
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        path.replace(old)
    try:
        partial.replace(path)
    except OSError:
        if old.exists():
            old.replace(path)
        raise


def flush(path: Path) -> None:
    """Wait until the disk has a file, or a folder's list of files."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def storage_failures_told(path: Path) -> Iterator[None]:
    """Tell a failed write as a StorageError, also where a library dresses a full disk up as an error of its own."""
    try:
        yield
    except FednotesError:
        raise
    except Exception as error:
        if _DISK_FULL in str(error):
            reason = _DISK_FULL
        elif isinstance(error, OSError):
            reason = error.strerror or type(error).__name__
        else:
            raise
        raise StorageError(
            f"{path} could not be written: {reason}.",
            hint="free some space or choose another folder, then run again; nothing is half-written",
        ) from error
