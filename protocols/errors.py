"""The error tree that every package shares.

    FednotesError                message, optional hint, exit status
    ├── UsageError               the person typed or configured something that cannot work (exit 2)
    └── WorkError                the work itself failed (exit 1)
        └── StorageError         a file could not be written: the disk is full, or the folder is not ours

Messages say what was wrong, where (file, line or record number) and what to do next. They never hold note text or a
patient identifier: they end up in logs and on screens.
"""

from __future__ import annotations


class FednotesError(Exception):
    """Base of all errors that fednotes raises on purpose.

    Args:
        message: what went wrong and where, in one or two sentences, free of note text and identifiers.
        hint: what to do next; printed on a line of its own behind ``hint:``.
    """

    exit_status = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\nhint: {self.hint}"


class UsageError(FednotesError):
    """A wrong option, file, column or setting; the command exits with status 2."""

    exit_status = 2


class WorkError(FednotesError):
    """The work was well specified but failed; the command exits with status 1."""


class StorageError(WorkError):
    """A file could not be written whole; what was there before is untouched."""
