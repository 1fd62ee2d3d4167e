"""Numbers by what they belong to: "two polyps", and the parts of "3-0" and "2/6" together."""

from __future__ import annotations

from collections.abc import Sequence

from site_client.gates.numbers import Quantity
from site_client.gates.reading import Reading

_JOINTS = frozenset({"-", "/"})
_HEAD_REACH = 4  # tokens
_HEADS = 2  # content words
_ENDS = frozenset({",", ".", ";", "(", ")", "\n", ":", "/", "and", "or", "to", "at", "on", "in", "for", "with", "by"})


def counts_changed(source: Reading, text: Reading, given: Sequence[Quantity], written: Sequence[Quantity]) -> bool:
    """Whether the source's number of some things, or a compound number, has become another one.

    Args:
        source: the chunk.
        text: the rephrasing.
        given: numbers of the chunk.
        written: numbers of the rephrasing.

    Returns:
        True when "two polyps" are "ten polyps" and nowhere two, or a 3-0 suture is a 5-0 one.
    """
    anywhere = {
        float(word.replace(",", ""))
        for at, (word, kind) in enumerate(zip(source.words, source.kinds, strict=True))
        if kind == "number" and at not in source.listed
    }
    return _heads_differ(_counted(source, given), _counted(text, written), anywhere) or _codes_differ(source, text)


def _counted(reading: Reading, numbers: Sequence[Quantity]) -> dict[str, set[float]]:
    """Numbers by the word that they count."""
    found: dict[str, set[float]] = {}
    words, keys, content = reading.words, reading.keys, reading.content
    taken = {q.at for q in numbers}
    for q in numbers:
        if q.dimension or q.free or not q.number or q.at in reading.listed or _in_code(words, q.at):
            continue
        heads, clause = 0, reading.clause[q.at]
        for at in range(q.at + 1, min(q.at + 1 + _HEAD_REACH, len(words))):
            if at in taken or reading.clause[at] != clause or words[at] in _ENDS or heads == _HEADS:
                break
            if content[at] == 1.0:
                heads += 1
                for key in keys[at]:
                    found.setdefault(key, set()).add(q.number)
    return found


def _in_code(words: Sequence[str], at: int) -> bool:
    """Whether a number is part of a name such as L3-4 or #5-0, which counts nothing."""
    before = words[at - 1] if at else ""
    return (
        before in ("#", "-", "/") or words[at + 1 : at + 2] in (["-"], ["/"]) or (len(before) == 1 and before.isalpha())
    )


def _heads_differ(given: dict[str, set[float]], written: dict[str, set[float]], anywhere: set[float]) -> bool:
    """Whether something has one number in the source, and in the rephrasing another one in its place or a new one."""
    for key, numbers in written.items():
        before = given.get(key)
        if not before or len(before) > 1:
            continue
        if before.isdisjoint(numbers) or not numbers <= before | anywhere:
            return True
    return False


def _codes_differ(source: Reading, text: Reading) -> bool:
    """Whether a compound of numbers is new and one of as many parts, all but one the same, has gone."""
    given, written = _codes(source), _codes(text)
    lost = given - written
    return any(
        len(code) == len(other) and sum(a != b for a, b in zip(code, other, strict=True)) == 1
        for code in written - given
        for other in lost
    )


def _codes(reading: Reading) -> set[tuple[str, ...]]:
    found: set[tuple[str, ...]] = set()
    words, kinds = reading.words, reading.kinds
    at, end = 0, len(words)
    while at < end:
        if kinds[at] != "number":
            at += 1
            continue
        stop = at + 1
        while stop + 1 < end and words[stop] in _JOINTS and kinds[stop + 1] == "number":
            stop += 2
        if stop > at + 1:
            found.add(tuple(words[at:stop:2]))
        at = stop
    return found
