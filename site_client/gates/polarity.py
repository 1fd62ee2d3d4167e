"""Gate of negation: what the source denies stays denied, and what it affirms stays affirmed."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache, lru_cache

from site_client.gates.asides import asides
from site_client.gates.candidate import Candidate
from site_client.gates.contrasts import opposites_kept
from site_client.gates.reading import Reading, read
from site_client.gates.words import cues, stem

_GOES_ON = frozenset({"or", "nor"})
_LIST_CUES = frozenset({"denies", "denied", "denying", "deny", "negative"})
_NOT_DENIED = frozenset({"only", "limited", "just", "significantly", "sure", "uncommon", "unusual"})
_PREFIXES = ("non", "un", "in", "im", "ir", "dis", "ab", "a")
_REACH = 60  # words
_LONGEST_LIST = 150  # words that one negation may deny
_NO_FINDINGS = frozenset({"upper", "lower", "far", "side", "middl", "front", "back"})  # meanings of places
_LONGEST_ITEM = 6
_SUPPOSES = frozenset({"if", "whether", "unless"})
_PLACED = frozenset({"in", "on", "at", "over", "along", "within", "around", "near", "from", "during", "throughout"})
_HAVE = frozenset({"has", "have", "had", "did", "does"})
_OF_VERBS = frozenset({"not", "never", "neither"})
_NEGATED_KEYS = frozenset({"not", "no"})


@dataclass(slots=True)
class Polarity:
    """What a text denies.

    Attributes:
        zone: tokens that some negation may reach, generously.
        items: what a negation surely denies, strictly: lists of keys, each with its first token.
        denied: tokens of these.
        supposed: tokens after "if" and "whether", which neither deny nor affirm.
    """

    zone: set[int] = field(default_factory=set)
    items: list[tuple[int, list[str]]] = field(default_factory=list)
    denied: set[int] = field(default_factory=set)
    supposed: set[int] = field(default_factory=set)


@lru_cache(maxsize=4)
def polarity(reading: Reading) -> Polarity:
    """Find the negations of a text and their reach."""
    found = Polarity()
    before, after, strict = cues("deny_before"), cues("deny_after"), cues("deny_strict")
    for at, (word, keys) in enumerate(zip(reading.words, reading.keys, strict=True)):
        if len(keys) > 1 and keys[0] in _NEGATED_KEYS:
            found.zone.add(at)
            found.items.append((at, list(keys[1:])))
            found.denied.add(at)
            continue
        if word in _SUPPOSES:
            _forward(reading, at, found.supposed)
        if word in before:
            _forward(reading, at, found.zone)
        if word in after:
            _backward(reading, at, found.zone)
        if at in found.supposed or (at and word == "not" and reading.words[at - 1] == "or"):
            continue
        if word in strict or (word == "negative" and reading.words[at + 1 : at + 2] == ["for"]):
            _collect(reading, at, found)
        elif word == "none" or (word == "absent" and not any(reading.content[at + 1 : at + 2])):
            _collect_before(reading, at, found)
    found.zone |= found.supposed
    return found


def _forward(reading: Reading, at: int, zone: set[int]) -> None:
    clause = reading.clause[at]
    # What an earlier negation reaches, this one reaches too.
    zone.add(at)
    at += 1
    while at < len(reading) and reading.clause[at] == clause and at not in zone:
        zone.add(at)
        at += 1


def _backward(reading: Reading, at: int, zone: set[int]) -> None:
    sentence, first = reading.sentence[at], at - _REACH
    while at >= max(0, first) and reading.sentence[at] == sentence:
        zone.add(at)
        at -= 1


def _collect(reading: Reading, cue: int, found: Polarity) -> None:
    """Cut what follows a negation into the things denied."""
    words, at, end = reading.words, cue + 1, len(reading)
    if words[at : at + 1] and words[at] in _NOT_DENIED:
        return
    last = _end_of_list(reading, cue)
    item: list[str] = []
    first = len(found.items)
    start, placed = at, False
    while at < end and at <= last:
        word = words[at]
        if word in cues("new_statement"):
            # "denies fever and is well": what is told next is not denied.
            if words[cue] == "neither" and word in _HAVE:
                # "Neither the neck nor the chest has masses" denies no neck.
                del found.items[first:]
            return
        if word in (",", "/") or word in _GOES_ON or word == "and":
            if item:
                found.items.append((start, item))
            item, start, placed = [], at + 1, placed and word != ","
        elif word in _PLACED:
            # "No abnormality in the rectum" denies no rectum.
            placed = bool(item)
        elif reading.content[at] and len(item) < _LONGEST_ITEM and not placed:
            found.denied.add(at)
            if reading.content[at] == 1.0:
                item.extend(reading.keys[at])
        at += 1
    if item:
        found.items.append((start, item))


def _end_of_list(reading: Reading, cue: int) -> int:
    """Last token that the negation surely reaches: the first item, and more where "or" goes on with the list."""
    words, clause, at = reading.words, reading.clause[cue], cue + 1
    last: int | None = None
    whole = words[cue] in _LIST_CUES
    if words[cue] == "non":
        return cue + 2
    while (
        at < min(len(reading), cue + _LONGEST_LIST)
        and reading.clause[at] == clause
        and words[at] not in cues("deny_stop")
        and words[at] not in (".", ";")
    ):
        word = words[at]
        if word in (",", "and") and last is None:
            last = at - 1
        if word in _GOES_ON and (last is None or at - last <= _LONGEST_ITEM):
            last = None
        at += 1
    return at - 1 if last is None or whole else last


def _collect_before(reading: Reading, cue: int, found: Polarity) -> None:
    """Take what stands before: "Complications: none", "reflexes were absent"."""
    item: list[str] = []
    at, sentence = cue - 1, reading.sentence[cue]
    while at >= 0 and reading.sentence[at] == sentence and reading.words[at] not in (",", ";", ".") and len(item) < 3:
        if reading.content[at] == 1.0:
            item.extend(reading.keys[at])
            found.denied.add(at)
        at -= 1
    if item:
        found.items.append((at + 1, item))


def _flipped(one: Reading, other: Reading, skip: frozenset[int], share: float) -> bool:
    """Whether something that ``one`` denies, everywhere it names it, is affirmed wherever ``other`` names it."""
    mine, theirs = polarity(one), polarity(other)

    @cache
    def state(key: str) -> str:
        places = other.places.get(key)
        if not places or any(at not in mine.zone and at not in one.headings for at in one.places[key]):
            return "unclear"
        return "denied" if any(at in theirs.zone for at in places) else "affirmed"

    for start, item in mine.items:
        if start in skip:
            continue
        if one.words[start - 1] in _OF_VERBS and not _names(other, one, start):
            # "Has not responded" may be "refractory": with the verb goes the "not".
            continue
        states = [state(key) for key in item]
        shared = sum(s == "affirmed" and key not in _NO_FINDINGS for key, s in zip(item, states, strict=True))
        if shared and "denied" not in states and shared >= share * len(item):
            return True
    return False


def _names(reading: Reading, one: Reading, at: int) -> bool:
    """Whether a text has the first word with a meaning that ``one`` has from a token on."""
    while at < len(one) - 1 and not one.content[at]:
        at += 1
    return any(key in reading.places for key in one.keys[at])


def _prefix_lost(one: Reading, other: Reading, skip: frozenset[int]) -> bool:
    """Whether "irregular", "unable" or "nonreactive" of ``one`` has become its opposite in ``other``."""
    zone = polarity(other).zone
    for at, word in enumerate(one.words):
        if not word.startswith(_PREFIXES) or len(word) < 6 or at in skip:
            continue
        for prefix in _PREFIXES:
            if not word.startswith(prefix):
                continue
            base = word[len(prefix) :]
            if len(base) < 4 or base not in other.words or base in one.words or word in other.words:
                continue
            key, root = stem(word), stem(base)
            if key in other.places or root in one.places:
                continue
            if not any(place in zone for place, w in enumerate(other.words) if w == base):
                return True
    return False


def negation_kept(candidate: Candidate) -> bool:
    """Nothing denied is affirmed, and nothing affirmed is denied."""
    source, text = read(candidate.source), read(candidate.text)
    aside = asides(candidate)
    nothing: frozenset[int] = frozenset()
    if _flipped(source, text, nothing, 0.5) or _flipped(text, source, aside, 0.6):
        return False
    if _prefix_lost(text, source, aside):
        return False
    return opposites_kept(candidate, "negation")
