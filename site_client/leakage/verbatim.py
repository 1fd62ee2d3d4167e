"""The longest run of words that a rephrasing has in common with its source."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from site_client.leakage.words import Words, word_places


@dataclass(frozen=True)
class Span:
    """A run of words.

    Attributes:
        words: how many.
        characters: from the first to the last, as the rephrasing spells it.
    """

    words: int
    characters: int


def longest_shared(source: Words, rephrased: Words, text: str) -> Span:
    """Find the longest run of words that two texts share; case and punctuation do not count.

    Texts that share ``n`` words in a row share ``n - 1``, so the length is found by bisection: about eight comparisons
    of sorted arrays for a chunk.

    Args:
        source: words of the source.
        rephrased: words of the rephrasing.
        text: the rephrasing itself, for its characters.
    """
    shared, beyond = 0, min(len(source), len(rephrased)) + 1
    while beyond - shared > 1:
        middle = (shared + beyond) // 2
        if np.isin(rephrased.runs(middle), source.runs(middle)).any():
            shared = middle
        else:
            beyond = middle
    if not shared:
        return Span(0, 0)
    starts = np.flatnonzero(np.isin(rephrased.runs(shared), source.runs(shared)))
    places = word_places(text)
    return Span(shared, max(places[s + shared - 1][1] - places[s][0] for s in starts))
