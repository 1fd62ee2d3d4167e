"""What a rephrasing dropped, added and moved, word by word.

Words are compared, white space and punctuation are not. Equal words in equal order are found first; what is left over
on both sides in runs of some words was moved and is told apart from what was dropped or added.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

from site_client.show.emphasis import PHRASES, Kind, is_minor, kind_of, same_as
from site_client.show.visible import visible

Change = Literal["same", "dropped", "new", "moved"]

_MOVED_WORDS = 3  # two words in another place are more often chance than a moved phrase
_MOST_MOVES = 40
_MOST_PAIRS = 2_000_000  # of words to compare, about two seconds at worst; a chunk has 300 words at most
_WORD = re.compile(
    r"<U\+[0-9A-F]{4,6}>"  # what visible() writes
    rf"|(?<![^\W_])(?:{PHRASES})(?![^\W_])"
    r"|(?:(?<!\S)[-\u2212])?(?:\d+(?:[.,:/]\d+)*|[\u00bc-\u00be])"
    r"|(?<![^\W_])(?![xq]\d)[a-z]{1,4}\d{1,2}[a-z]*(?![.,:/]?\d)"  # L4, T2DM, SpO2, but not x3, q8h or T98.6
    r"|(?<![^\W_])[^\W\d_]/(?:[^\W\d_](?![^\W_])|(?=\s))"  # w/, w/o, c/o, s/p
    r"|[^\W\d_]+(?:['\u2019][^\W\d_]+)*|_+"
    r"|[<>](?=\s?\d)|[%+\u2264\u2265\u00b1\u00b0]",
    re.IGNORECASE,
)
_BEHIND_A_NUMBER = ("", " ", "-", "\n")  # 10mg, 10 mg, 67-year-old


@dataclass(frozen=True, slots=True)
class Part:
    """Some characters of a run; ``kind`` is empty where nothing is emphasised."""

    text: str
    kind: Kind = ""


@dataclass(frozen=True, slots=True)
class Run:
    """A stretch of one text with one fate.

    Attributes:
        change: what became of it, or where it came from.
        minor: it changed, and holds words of grammar only.
        parts: its characters.
    """

    change: Change
    minor: bool
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """All characters."""
        return "".join(part.text for part in self.parts)


@dataclass(frozen=True, slots=True)
class Differences:
    """Both texts, cut into runs; the runs of a text joined are that text, made visible.

    Attributes:
        source: runs that are the same, dropped or moved.
        text: runs that are the same, new or moved.
        missing: numbers, units and negations that the source has more often, and all sides that were dropped: left
            and right that changed places are as wrong as one that is gone.
        added: those that the rephrasing has more often, and all sides that are new.
        compared: False when the texts are too long, and so without marks.
    """

    source: tuple[Run, ...]
    text: tuple[Run, ...]
    missing: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    compared: bool = True


@dataclass(frozen=True, slots=True)
class _Word:
    start: int
    end: int
    key: str
    kind: Kind
    minor: bool


def differences(source: str, text: str) -> Differences:
    """Compare a rephrasing with its source.

    Args:
        source: text of the chunk.
        text: the rephrasing. Both may hold anything; see :func:`visible`.

    Example:
        >>> found = differences("Pt denies pain.", "The patient denies any pain.")
        >>> [run.text for run in found.text if run.change == "new"]
        ['The patient', 'any']
    """
    source, text = visible(source), visible(text)
    old, new = _words(source), _words(text)
    if len(old) * len(new) > _MOST_PAIRS:
        same: tuple[list[Change], list[Change]] = (["same"] * len(old), ["same"] * len(new))
        return Differences(_runs(source, old, same[0]), _runs(text, new, same[1]), compared=False)
    fates = _aligned(old, new)
    both = list(zip((old, new), fates, strict=True))
    lost, gained = (_changed(words, marks, ("number", "unit", "negation")) for words, marks in both)
    sides = [_changed(words, marks, ("side",)) for words, marks in both]
    return Differences(
        _runs(source, old, fates[0]),
        _runs(text, new, fates[1]),
        missing=_written(lost - gained + sides[0], source, old),
        added=_written(gained - lost + sides[1], text, new),
    )


def _words(text: str) -> list[_Word]:
    found: list[_Word] = []
    for match in _WORD.finditer(text):
        word, before = match[0], ""
        if found:
            gap = text[found[-1].end : match.start()]
            kind_before = found[-1].kind
            if (kind_before == "number" and gap in _BEHIND_A_NUMBER) or (kind_before == "unit" and gap == "/"):
                before = text[found[-1].start : found[-1].end]
        kind = kind_of(word, before)
        found.append(_Word(match.start(), match.end(), same_as(word, kind), kind, is_minor(word)))
    return found


def _aligned(old: Sequence[_Word], new: Sequence[_Word]) -> tuple[list[Change], list[Change]]:
    """The fate of every word, on both sides."""
    dropped: list[Change] = ["dropped"] * len(old)
    added: list[Change] = ["new"] * len(new)
    matcher = SequenceMatcher(None, [w.key for w in old], [w.key for w in new], autojunk=False)
    blocks = matcher.get_matching_blocks()[:-1]  # the last one is empty
    for a, b, size in blocks:
        dropped[a : a + size] = ["same"] * size
        added[b : b + size] = ["same"] * size
    for a, b, size in blocks:
        # A lone "of" between two changes is chance: without it, the changes are one, and easier to read.
        beside = {*dropped[max(a - 1, 0) : a], *dropped[a + size : a + size + 1]}
        beside |= {*added[max(b - 1, 0) : b], *added[b + size : b + size + 1]}
        if beside and "same" not in beside and all(w.minor for w in old[a : a + size]):
            dropped[a : a + size] = ["dropped"] * size
            added[b : b + size] = ["new"] * size
    _find_moved(old, new, dropped, added)
    return dropped, added


def _find_moved(old: Sequence[_Word], new: Sequence[_Word], dropped: list[Change], added: list[Change]) -> None:
    # A word with a place already is put out of the way by a key that nothing equals, so that runs do not reach over it.
    left: list[object] = [old[i].key if dropped[i] == "dropped" else (0, i) for i in range(len(old))]
    right: list[object] = [new[i].key if added[i] == "new" else (1, i) for i in range(len(new))]
    for _ in range(_MOST_MOVES):
        a, b, size = SequenceMatcher(None, left, right, autojunk=False).find_longest_match()
        if size < _MOVED_WORDS:
            break
        dropped[a : a + size] = ["moved"] * size
        added[b : b + size] = ["moved"] * size
        left[a : a + size] = [(0, i) for i in range(a, a + size)]
        right[b : b + size] = [(1, i) for i in range(b, b + size)]


def _runs(text: str, words: Sequence[_Word], fates: Sequence[Change]) -> tuple[Run, ...]:
    """Cut a text into runs; what stands between two words of one run belongs to it."""
    runs: list[Run] = []
    at, first = 0, 0
    while first < len(words):
        last = first
        while last + 1 < len(words) and fates[last + 1] == fates[first]:
            last += 1
        run = words[first : last + 1]
        if run[0].start > at:
            runs.append(Run("same", False, (Part(text[at : run[0].start]),)))
        minor = fates[first] != "same" and all(w.minor and not w.kind for w in run)
        runs.append(Run(fates[first], minor, _parts(text, run)))
        at, first = run[-1].end, last + 1
    if at < len(text):
        runs.append(Run("same", False, (Part(text[at:]),)))
    return tuple(runs)


def _parts(text: str, words: Sequence[_Word]) -> tuple[Part, ...]:
    parts: list[Part] = []
    at = words[0].start
    for word in words:
        if word.kind:
            if word.start > at:
                parts.append(Part(text[at : word.start]))
            parts.append(Part(text[word.start : word.end], word.kind))
            at = word.end
    if at < words[-1].end:
        parts.append(Part(text[at : words[-1].end]))
    return tuple(parts)


def _changed(words: Sequence[_Word], fates: Sequence[Change], kinds: tuple[Kind, ...]) -> Counter[str]:
    return Counter(
        w.key for w, fate in zip(words, fates, strict=True) if w.kind in kinds and fate in ("dropped", "new")
    )


def _written(keys: Counter[str], text: str, words: Sequence[_Word]) -> tuple[str, ...]:
    """Keys as the text spells them, each once, in its order."""
    spelt: dict[str, str] = {}
    for word in words:
        if keys[word.key] > 0:
            spelt.setdefault(word.key, text[word.start : word.end])
    return tuple(spelt.values())
