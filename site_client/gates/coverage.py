"""Gates of coverage: no finding of the source dropped, none invented."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, lru_cache

from site_client.gates.asides import asides
from site_client.gates.candidate import Candidate
from site_client.gates.medications import drug_names
from site_client.gates.polarity import polarity
from site_client.gates.reading import Reading, read
from site_client.gates.words import clinical_keys, disease_keys

_CLINICAL_ENDINGS = (
    "itis", "osis", "emia", "uria", "algia", "oma", "pathy", "rrhea", "plegia", "ectomy", "otomy", "ostomy",
    "scopy", "plasty", "megaly", "penia", "pnea", "phagia", "paresis", "graphy", "gram", "desis", "centesis",
    "opia", "esthesia", "trophy", "stasis", "ptysis", "emesis", "philia", "cele", "lysis", "static", "itic",
    "otic", "emic",
)  # fmt: skip
_BREAKS = frozenset({",", ";", ".", ":", "\n", "(", ")", "and", "with", "without", "but", "or"})
_SHORT = 5  # letters; an abbreviation in capitals up to here may be worded in any way
_DISEASE, _CLINICAL, _OTHER, _COVERED = 1.5, 1.0, 0.5, 0.5
_MOST = 2  # keys of a phrase that count
_DROPPED, _INVENTED, _INVENTED_BESIDE_EXPLANATIONS = 1.5, 1.5, 2.5


@dataclass(slots=True)
class Segment:
    """Words between two marks or conjunctions."""

    missing: float = 0.0
    covered: float = 0.0
    clinical: bool = False


@cache
def _drug_words() -> frozenset[str]:
    return frozenset(part for parts in drug_names() for part in parts)


@lru_cache(maxsize=8)
def _capitals(reading: Reading) -> frozenset[str]:
    """Abbreviations of a text that is not all in capitals."""
    letters = [word for word, upper in zip(reading.words, reading.upper, strict=True) if upper and 2 < len(word) <= 6]
    return frozenset(letters)


def _spelt_out(reading: Reading, other: Reading) -> set[int]:
    """Words of a text whose initials an abbreviation of the other text has, as in DIEP."""
    shorts = _capitals(other)
    if not shorts:
        return set()
    places = [at for at, keys in enumerate(reading.keys) if keys]
    initials = "".join(reading.words[at][0] for at in places)
    found: set[int] = set()
    for short in shorts:
        start = initials.find(short)
        if start >= 0:
            found.update(places[start : start + len(short)])
    return found


def segments(one: Reading, other: Reading, skip: frozenset[int]) -> list[Segment]:
    """Weigh, part by part, what one text says and the other does not.

    Args:
        one: the text to cover.
        other: the text that may cover it.
        skip: tokens that need no cover.

    Returns:
        One entry a part of a sentence.
    """
    found, part = list[Segment](), Segment()
    clinical, diseases, drugs = clinical_keys(), disease_keys(), _drug_words()
    spelt = _spelt_out(one, other)
    others = tuple(other.places)
    sentence, content, sentences, known = -1, one.content, one.sentence, other.places
    for at, word in enumerate(one.words):
        if word in _BREAKS or sentences[at] != sentence:
            sentence = sentences[at]
            if part.missing:
                found.append(part)
            part = Segment()
        if content[at] < 1 or at in skip or word in drugs or (one.upper[at] and len(word) <= _SHORT):
            continue
        keys = one.keys[at]
        if at in spelt or 2 * sum(key in known for key in keys) >= len(keys) or _resembles(keys, others):
            part.covered += 1
        elif any(key in diseases for key in keys) or word.endswith(_CLINICAL_ENDINGS):
            part.missing += _DISEASE
            part.clinical = True
        elif any(key in clinical for key in keys):
            part.missing += _CLINICAL * min(len(keys), _MOST)
            part.clinical = True
        else:
            part.missing += _OTHER
    if part.missing:
        found.append(part)
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


def _worst(found: list[Segment]) -> float:
    return max((part.missing - _COVERED * part.covered for part in found if part.clinical), default=0.0)


def findings_kept(candidate: Candidate) -> bool:
    """No part of the source is left out, unless the format keeps some facts only."""
    if candidate.allows.selection:
        return True
    source = read(candidate.source)
    # "Complications: none" is a finding, other headings are not.
    headings = frozenset(source.headings - polarity(source).denied)
    return _worst(segments(source, read(candidate.text), headings)) < _DROPPED


def nothing_invented(candidate: Candidate) -> bool:
    """No part of the rephrasing is without support, explanations aside."""
    worst = _worst(segments(read(candidate.text), read(candidate.source), asides(candidate)))
    return worst < (_INVENTED_BESIDE_EXPLANATIONS if candidate.allows.explanations else _INVENTED)
