"""Which words of a rephrasing explain a term instead of telling about the patient."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from site_client.gates.candidate import Candidate
from site_client.gates.reading import Reading, read
from site_client.gates.words import cues

_REACH = 40  # words
_RELATIVE = frozenset({"that", "which", "where", "whose", "means", "meaning"})
_POINTERS = frozenset({"this", "these", "such", "it", "they"})
_PAST = frozenset({"was", "were", "had", "has", "have", "did", "patient", "patient's", "he", "she", "his", "her"})
_ENDS = frozenset({".", ";", "\n", "?", "!"})


@lru_cache(maxsize=4)
def asides(candidate: Candidate) -> frozenset[int]:
    """Tokens of explanations: in brackets, in apposition or in a relative clause, where the prompt allows them.

    Args:
        candidate: the rephrasing.

    Returns:
        Their positions; none where the prompt allows no explanations.
    """
    if not candidate.allows.explanations:
        return frozenset()
    source, text = read(candidate.source), read(candidate.text)
    found: set[int] = set()
    for start, stop in (*_brackets(text), *_appositions(text)):
        if not _from_source(source, text, start, stop):
            found.update(range(start, stop))
    _definitions(text, found)
    return frozenset(found)


def _from_source(source: Reading, text: Reading, start: int, stop: int) -> bool:
    """Whether an aside mostly repeats the source, and so explains nothing."""
    known = unknown = 0
    for at in range(start, stop):
        if text.kinds[at] == "number":
            known += 1
        elif text.content[at] == 1.0:
            if any(key in source.places for key in text.keys[at]):
                known += 1
            else:
                unknown += 1
    return known > unknown


def _brackets(text: Reading) -> Iterator[tuple[int, int]]:
    opened = -1
    for at, word in enumerate(text.words):
        if word == "(":
            opened = at
        elif word == ")" and opened >= 0:
            yield opened, at
            opened = -1


def _appositions(text: Reading) -> Iterator[tuple[int, int]]:
    """From a comma and an explaining word up to the end of the sentence, or the comma that closes the aside."""
    words, at, end = text.words, 0, len(text.words)
    while at < end:
        if words[at] in (",", ";", "-") and at + 1 < end and _explains(text, at + 1):
            stop = at + 1
            while stop < end and words[stop] not in _ENDS and (words[stop] != "," or stop - at < 4):
                stop += 1
            yield at, stop
            at = stop
        else:
            at += 1


def _explains(text: Reading, at: int) -> bool:
    words = text.words
    if words[at] in cues("explains") or words[at].endswith("ing"):
        return True
    stop, end = at + 1, min(len(words), at + _REACH)
    while stop < end and words[stop] not in _ENDS and words[stop] != ",":
        if words[stop] in _RELATIVE:
            return True
        stop += 1
    return False


def _definitions(text: Reading, found: set[int]) -> None:
    """Sentences such as "A statin is a drug that lowers cholesterol"."""
    words = text.words
    for at in range(len(words) - 2):
        if words[at] in _POINTERS and (not at or text.sentence[at - 1] != text.sentence[at]):
            stop = at
            while stop < len(words) and text.sentence[stop] == text.sentence[at]:
                stop += 1
            # General knowledge is told in the present, the patient's story in the past.
            if _PAST.isdisjoint(words[at:stop]):
                found.update(range(at, stop))
        explains = words[at] in ("means", "mean", "refers", "describes")
        if explains or (words[at] in ("is", "are") and words[at + 1] in ("a", "an", "the") and at not in found):
            start = at
            while start and text.sentence[start - 1] == text.sentence[at]:
                start -= 1
            if explains or words[start] in ("a", "an", "this", "these", "such"):
                stop = at
                while stop < len(words) and text.sentence[stop] == text.sentence[at]:
                    stop += 1
                found.update(range(start, stop))
