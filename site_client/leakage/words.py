"""Texts as word hashes: case and punctuation do not count, and a run of any number of words is one subtraction.

Every word gets 64 bits from Python's own string hash. That hash is keyed anew in each process, so what is written to a
scratch file cannot be looked up in a dictionary of words later. A run of words is a polynomial over its hashes, taken
from sums over the prefixes of the text: ``n`` words cost no more than one.
"""

from __future__ import annotations

import re
from functools import cache

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
_WORD = re.compile(r"[^\W_]+")
_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse; arithmetic is modulo 2**64 throughout
_INVERSE = pow(_BASE, -1, 1 << 64)


class Words:
    """The words of one text.

    Args:
        text: any text; it is not kept.
    """

    def __init__(self, text: str) -> None:
        found = _WORD.findall(text)
        hashes = np.fromiter((hash(w.casefold()) for w in found), np.int64, len(found)).view(np.uint64)
        self._sums = np.zeros(len(found) + 1, np.uint64)
        np.cumsum(hashes * _powers(_BASE, len(found)), out=self._sums[1:])

    def __len__(self) -> int:
        return len(self._sums) - 1

    def runs(self, n: int) -> Hashes:
        """Hash every run of ``n`` words, in the order of the text; empty for a shorter text."""
        if n > len(self):
            return np.empty(0, np.uint64)
        differences = self._sums[n:] - self._sums[: len(self) - n + 1]
        return differences * _powers(_INVERSE, len(differences))

    def distinct(self, n: int) -> Hashes:
        """Hash every run of ``n`` words once, sorted."""
        return np.unique(self.runs(n))


def word_places(text: str) -> list[tuple[int, int]]:
    """Start and end of every word of a text [characters]."""
    return [m.span() for m in _WORD.finditer(text)]


def _powers(base: int, length: int) -> Hashes:
    """The powers 0 to ``length - 1`` of a base."""
    return _table(base, max(length - 1, 1).bit_length())[:length]


@cache
def _table(base: int, bits: int) -> Hashes:
    table = np.full(1 << bits, base, np.uint64)
    table[0] = 1
    return np.multiply.accumulate(table)
