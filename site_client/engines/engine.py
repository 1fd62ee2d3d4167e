"""What every rephrasing engine offers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from privacy.note_types import Chunk


class Engine(Protocol):
    """Rewrites chunks.

    Attributes:
        arm: name of the engine x prompt pair, part of every job and file name.
        version: anything whose change makes old results stale.
    """

    arm: str
    version: str

    def rephrase(self, chunks: Sequence[Chunk]) -> list[str]:
        """Give one text a chunk, in order."""
        ...
