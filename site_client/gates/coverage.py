"""Gates of coverage: no finding of the source dropped, none invented.

A word that the other text lacks is no proof: a good rephrasing says "ringing in the ears" for "tinnitus". A part of a
sentence counts only beyond what unmatched words of the other text may stand for, there where it says the rest.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache

from site_client.gates.asides import asides
from site_client.gates.candidate import Candidate
from site_client.gates.medications import drug_names
from site_client.gates.polarity import polarity
from site_client.gates.reading import Reading, read
from site_client.gates.words import clinical_keys, everyday_meanings, finding_meanings

_CLINICAL_ENDINGS = (
    "itis", "osis", "emia", "uria", "algia", "oma", "pathy", "rrhea", "plegia", "ectomy", "otomy", "ostomy",
    "scopy", "plasty", "megaly", "penia", "pnea", "phagia", "paresis", "graphy", "gram", "desis", "centesis",
    "opia", "esthesia", "trophy", "stasis", "ptysis", "emesis", "philia", "cele", "lysis", "static", "itic",
    "otic", "emic",
)  # fmt: skip
_BREAKS = frozenset({",", ";", ".", ":", "\n", "(", ")", "and", "with", "without", "but", "or"})
_SHORT = 5  # letters; an abbreviation in capitals up to here may be worded in any way
_FINDING, _CLINICAL, _OTHER, _COVERED = 1.5, 1.0, 0.5, 0.5
_MOST = 2  # keys of a phrase that count
_DROPPED, _INVENTED, _INVENTED_BESIDE_EXPLANATIONS = 1.5, 2.0, 3.0
_NAME = 2.0  # what an unmatched abbreviation or drug may stand for; another word for as much as it weighs
_ANCHORS, _RARE, _REACH = 3, 3, 5  # matched words on either side, places of a telling one, words around it


@dataclass(slots=True)
class Cover:
    """How much of a text another one matches, token by token.

    Attributes:
        missing: weight of a word that the other text lacks; 0 for a matched one and for words without content.
        clinical: whether a missing word names something of medicine.
        own: how much of the other text an unmatched word may stand for.
        matched: positions of words that the other text has.
    """

    missing: list[float]
    clinical: list[bool]
    own: list[float]
    matched: list[int]


@dataclass(slots=True)
class Part:
    """Words between two marks or conjunctions, some of which the other text lacks."""

    start: int
    stop: int
    weight: float


@cache
def _drug_words() -> frozenset[str]:
    return frozenset(part for parts in drug_names() for part in parts)


def _spelt_out(reading: Reading, other: Reading) -> set[int]:
    """Words of a text whose initials an abbreviation of the other text has, as in DIEP."""
    shorts = {word for word, upper in zip(other.words, other.upper, strict=True) if upper and 1 < len(word) <= 6}
    if not shorts:
        return set()
    places = [at for at, keys in enumerate(reading.keys) if keys]
    initials = "".join([reading.words[at][0] for at in places])
    found: set[int] = set()
    for short in shorts:
        start = initials.find(short)
        if start >= 0:
            found.update(places[start : start + len(short)])
    return found


@lru_cache(maxsize=4)
def cover(one: Reading, other: Reading) -> Cover:
    """Match the words of a text with those of another.

    Args:
        one: the text to cover.
        other: the text that may cover it.

    Returns:
        What is matched and what is missing.
    """
    clinical, findings, everyday, drugs = clinical_keys(), finding_meanings(), everyday_meanings(), _drug_words()
    length, known, others = len(one), other.places, tuple(other.places)
    found = Cover([0.0] * length, [False] * length, [0.0] * length, [])
    spelt = _spelt_out(one, other)
    for at, (word, keys) in enumerate(zip(one.words, one.keys, strict=True)):
        if one.content[at] < 1:
            continue
        if at in spelt or 2 * sum([key in known for key in keys]) >= len(keys) or _resembles(keys, others):
            found.matched.append(at)
            continue
        if (one.upper[at] and len(word) <= _SHORT) or word in drugs:
            found.own[at] = _NAME
            continue
        if keys in findings or word.endswith(_CLINICAL_ENDINGS):
            found.missing[at], found.clinical[at] = _FINDING, True
        elif keys not in everyday and not clinical.isdisjoint(keys):
            found.missing[at], found.clinical[at] = _CLINICAL * min(len(keys), _MOST), True
        else:
            found.missing[at] = _OTHER
        # A short word that no lexicon has is an abbreviation: "HAdd", "tol".
        found.own[at] = _NAME if len(word) < _SHORT and found.missing[at] == _OTHER else found.missing[at]
    return found


def _resembles(keys: tuple[str, ...], others: tuple[str, ...]) -> bool:
    """Whether another word begins alike, such as "hemofilter" and "hemofiltration"."""
    for key in keys:
        length = max(5, math.ceil(0.7 * len(key)))
        if len(key) >= length:
            head = key[:length]
            if any(other.startswith(head) for other in others):
                return True
    return False


def parts(one: Reading, found: Cover, skip: frozenset[int]) -> Iterator[Part]:
    """Parts of sentences that lack a word of medicine.

    Args:
        one: the text.
        found: its cover.
        skip: tokens that need no cover.

    Yields:
        The parts with their weights.
    """
    matched, start, sentence, words, sentences = set(found.matched), 0, 0, one.words, one.sentence
    weight, clinical, end = 0.0, False, len(one)
    for at in range(end + 1):
        if at == end or words[at] in _BREAKS or sentences[at] != sentence:
            if clinical:
                yield Part(start, at, weight)
            if at == end:
                return
            start, sentence, weight, clinical = at, sentences[at], 0.0, False
        if at in skip:
            continue
        if found.missing[at]:
            weight += found.missing[at]
            clinical = clinical or found.clinical[at]
        elif at in matched:
            weight -= _COVERED


def reworded(part: Part, one: Reading, other: Reading) -> float:
    """How much of a part may stand in unmatched words of the other text, near to what surrounds the part."""
    matched, own = cover(one, other).matched, cover(other, one).own
    first, last = bisect_left(matched, part.start), bisect_left(matched, part.stop)
    near: set[int] = set()
    for at in matched[max(0, first - _ANCHORS) : last + _ANCHORS]:
        for key in one.keys[at]:
            places = other.places.get(key, ())
            if len(places) <= _RARE:
                for place in places:
                    near.update(range(max(0, place - _REACH), min(len(own), place + _REACH + 1)))
    return sum([own[at] for at in near])


def _all_said(one: Reading, other: Reading, skip: frozenset[int], most: float) -> bool:
    for part in parts(one, cover(one, other), skip):
        if part.weight >= most and part.weight - reworded(part, one, other) >= most:
            return False
    return True


def findings_kept(candidate: Candidate) -> bool:
    """No part of the source is left out, unless the format keeps some facts only."""
    if candidate.allows.selection:
        return True
    source = read(candidate.source)
    # "Complications: none" is a finding, other headings are not.
    headings = frozenset(source.headings - polarity(source).denied)
    return _all_said(source, read(candidate.text), headings, _DROPPED)


def nothing_invented(candidate: Candidate) -> bool:
    """No part of the rephrasing is without support, explanations aside."""
    most = _INVENTED_BESIDE_EXPLANATIONS if candidate.allows.explanations else _INVENTED
    return _all_said(read(candidate.text), read(candidate.source), asides(candidate), most)
