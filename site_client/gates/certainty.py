"""Gate of certainty: what is only possible stays possible, and what is certain stays certain."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

from site_client.gates.asides import asides
from site_client.gates.candidate import Candidate
from site_client.gates.contrasts import opposites_kept
from site_client.gates.reading import Reading, read
from site_client.gates.words import cues

_REACH = 4  # content words
_MODALS = frozenset({"may", "might", "could"})
_OF_FINDINGS = frozenset({"be", "represent", "have", "reflect", "suggest", "indicate", "relate", "related"})
_IS_HEDGED = frozenset({"related", "caused", "associated", "attributed", "explained", "a", "an", "the", "due",
                        "secondary", "because", "from", "some", "present", "consistent", "compatible"})  # fmt: skip
_AFTER_FEASIBLE = frozenset({"to", "for", "that"})  # "it was possible to"
_NO_HEDGE_BEFORE = frozenset(
    {
        "as",
        "if",
        "when",
        "whenever",
        "where",
        "soon",
        "all",
        "best",
        "worst",
        "every",
        "any",
        "earliest",
        "lowest",
        "highest",
        "greatest",
        "least",
        "closest",
    }
)  # "as soon as possible"
_NO_HEDGE_AFTER = frozenset(
    {"to", "for", "that", "complications", "complication", "risks", "side", "benefits", "adverse"}
)


@lru_cache(maxsize=4)
def _hedged(reading: Reading) -> tuple[tuple[int, tuple[str, ...]], ...]:
    """What is surely said with reserve: token of the word of reserve, and the keys that follow."""
    strong, found = cues("hedge_strong"), []
    for at, word in enumerate(reading.words):
        after = reading.words[at + 1] if at + 1 < len(reading) else ""
        before = reading.words[at - 1] if at else ""
        hedged = word in strong and before not in _NO_HEDGE_BEFORE
        if not (hedged or _modal(reading.words, at) or (word == "rule" and after == "out")):
            continue
        if after not in _NO_HEDGE_AFTER and not (word == "possible" and after in _AFTER_FEASIBLE):
            keys = _following(reading, at)
            if keys:
                found.append((at, keys))
    return tuple(found)


def _modal(words: list[str], at: int) -> bool:
    """Whether a finding "may be" there; "could be felt" and "may be taken" tell of what can be done."""
    if words[at] not in _MODALS:
        return False
    after, then = (*words[at + 1 : at + 3], "", "")[:2]
    if after == "be":
        return then in _IS_HEDGED
    return after in _OF_FINDINGS and not (words[at] == "could" and after == "have")


def _following(reading: Reading, at: int) -> tuple[str, ...]:
    keys: list[str] = []
    sentence = reading.sentence[at]
    at += 1
    while at < len(reading) and reading.sentence[at] == sentence and len(keys) < _REACH:
        if reading.words[at] in (";", ".") or (reading.words[at] == "," and keys):
            break
        if reading.content[at] == 1.0:
            keys.extend(reading.keys[at])
        at += 1
    return tuple(keys)


@lru_cache(maxsize=4)
def _reserved(reading: Reading) -> frozenset[int]:
    """Sentences with any word of reserve."""
    weak, strong = cues("hedge_weak"), cues("hedge_strong")
    return frozenset(reading.sentence[at] for at, word in enumerate(reading.words) if word in weak or word in strong)


def certainty_kept(candidate: Candidate) -> bool:
    """No reserve is lost, and nothing is called proven that the source only suggests.

    Added reserve passes: "appears normal" for "is normal" is how reports are worded, and a check of it rejected more
    good rephrasings than bad ones.
    """
    source, text = read(candidate.source), read(candidate.text)
    if _lost(source, text, frozenset()) or _proven(source, text, asides(candidate)):
        return False
    return opposites_kept(candidate, "certainty")


def _proven(source: Reading, text: Reading, skip: frozenset[int]) -> bool:
    """Whether the rephrasing calls certain what the source speaks of with reserve."""
    certain, reserve = cues("certain"), cues("hedge_core")
    if not certain.isdisjoint(source.words):
        return False
    reserved = {source.sentence[at] for at, word in enumerate(source.words) if word in reserve}
    for at, word in enumerate(text.words):
        if word in certain and at not in skip:
            best, _ = _best_sentences(_following(text, at), source)
            if best and best <= reserved:
                return True
    return False


def _best_sentences(keys: tuple[str, ...], reading: Reading) -> tuple[set[int], int]:
    """The sentences that have most of some keys, and how many."""
    shared = Counter(s for key in keys for s in {reading.sentence[at] for at in reading.places.get(key, ())})
    most = max(shared.values(), default=0)
    return {sentence for sentence, count in shared.items() if count == most}, most


def _lost(one: Reading, other: Reading, skip: frozenset[int]) -> bool:
    """Whether ``other`` speaks of what ``one`` has reserves about, and has none anywhere near."""
    reserved = _reserved(other)
    for at, keys in _hedged(one):
        if at in skip:
            continue
        best, most = _best_sentences(keys, other)
        if most and 2 * most >= len(keys) and best.isdisjoint(reserved):
            return True
    return False
