"""Identifiers in rephrasings: what still has the form of one, and strings that were planted in the notes.

Only counts come out of here: the strings themselves stay in the file of whoever planted them.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from protocols.errors import UsageError
from site_client.leakage.words import Hashes, Words


class IdentifierFacts(BaseModel):
    """Identifiers in the rephrasings of one arm.

    Attributes:
        by_kind: how many strings have the form of an identifier, by its kind.
        per_1000: all kinds together, to 1,000 rephrasings.
        planted_surviving: planted strings that some rephrasing has; None when none were planted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    by_kind: dict[str, int]
    per_1000: float
    planted_surviving: int | None


class Planted:
    """Strings to look for, as runs of words: case and punctuation do not count.

    Args:
        strings: distinct ones are counted once.
    """

    def __init__(self, strings: Iterable[str]) -> None:
        by_length: dict[int, set[int]] = {}
        for words in map(Words, strings):
            if len(words):
                by_length.setdefault(len(words), set()).update(map(int, words.runs(len(words))))
        self._by_length: dict[int, Hashes] = {n: np.array(sorted(runs), np.uint64) for n, runs in by_length.items()}

    def __len__(self) -> int:
        return sum(map(len, self._by_length.values()))

    @classmethod
    def read(cls, path: Path) -> Planted:
        """Read a file with one string a line.

        Raises:
            UsageError: it cannot be read, or there is no word in it.
        """
        try:
            planted = cls(path.read_text(encoding="utf-8").splitlines())
        except (OSError, UnicodeDecodeError):
            raise UsageError(
                f"The planted strings {path} cannot be read.", hint="give a UTF-8 text file with one string a line"
            ) from None
        if not len(planted):
            raise UsageError(f"There is no planted string in {path}.", hint="write one string a line")
        return planted


class PlantedFound:
    """Which planted strings were seen.

    Args:
        planted: what to look for.
    """

    def __init__(self, planted: Planted) -> None:
        self._planted = planted
        self._seen = {n: np.zeros(len(runs), bool) for n, runs in planted._by_length.items()}

    def add(self, words: Words) -> None:
        """Look through one text."""
        for n, runs in self._planted._by_length.items():
            self._seen[n] |= np.isin(runs, words.runs(n), assume_unique=False)

    @property
    def count(self) -> int:
        """How many were seen in any text so far."""
        return sum(int(seen.sum()) for seen in self._seen.values())
