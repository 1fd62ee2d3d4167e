"""Gate of attribution: who has what, and who said or did it."""

from __future__ import annotations

from functools import cache, lru_cache

from site_client.gates.asides import asides
from site_client.gates.binding import Mention, conflict
from site_client.gates.candidate import Candidate
from site_client.gates.reading import Reading, read
from site_client.gates.words import cues, disease_keys, table

_SEX = {
    "he": "m", "him": "m", "his": "m", "himself": "m", "man": "m", "male": "m", "gentleman": "m", "boy": "m",
    "she": "f", "her": "f", "hers": "f", "herself": "f", "woman": "f", "female": "f", "lady": "f", "girl": "f",
}  # fmt: skip
_FAMILY = frozenset({"family", "familial", "hereditary", "relatives", "relative", "inherited"})
_AFTER_FAMILY = frozenset({"history", "hx", "members", "member", ".", ",", "of", "for", "with", "medical"})
_REACH, _FAMILY_REACH = 10, 25  # words
_UNNAMED_DOCTOR = frozenset({"at", "in", "and", "for", "to", "the", "of", "who", "on", "he", "she", ".", ","})


@cache
def _people() -> dict[str, tuple[str, str]]:
    return {form: (person, kin) for person, kin, forms in table("people") for form in forms.split()}


@lru_cache(maxsize=4)
def _relatives(reading: Reading) -> tuple[Mention, ...]:
    people = _people()
    return tuple(Mention(people[word][0], reading, at) for at, word in enumerate(reading.words) if word in people)


def attribution_kept(candidate: Candidate) -> bool:
    """Findings, words and deeds stay with those whom the source names."""
    source, text = read(candidate.source), read(candidate.text)
    return (
        _relatives_kept(candidate, source, text)
        and _family_history_kept(source, text)
        and _doctors_kept(candidate, source, text)
        and _sex_kept(source, text)
    )


def _relatives_kept(candidate: Candidate, source: Reading, text: Reading) -> bool:
    given, written = _relatives(source), _relatives(text)
    aside = asides(candidate)
    if not _covers(written, source, aside) or not (candidate.allows.selection or _covers(given, text, frozenset())):
        return False
    return not conflict(list(written), list(given), least=0.8, margin=0.3)


def _covers(these: tuple[Mention, ...], others: Reading, skip: frozenset[int]) -> bool:
    """Whether each relative of ``these`` is in ``others``, or one that a general word includes."""
    kin = dict(_people().values())
    named = {m.value for m in _relatives(others)}
    groups = {kin[name] for name in named}
    for mention in these:
        if mention.at in skip or mention.value in named:
            continue
        group = kin[mention.value]
        if group in ("spouse", "partner") and "marr" in others.places:
            continue
        if mention.value == group and group in groups:
            continue
        if group not in named:
            return False
    return True


def _family_history_kept(source: Reading, text: Reading) -> bool:
    """What the source says of the family is said of the family, and nothing else is."""
    ours, theirs = _family_sentences(source), _family_sentences(text)
    near = theirs | {sentence + 1 for sentence in theirs}
    if ours and _strayed(source, text, near):
        return False
    return not (theirs and _strayed(text, source, ours | {sentence + 1 for sentence in ours}))


def _strayed(one: Reading, other: Reading, allowed: frozenset[int]) -> bool:
    """Whether a finding that ``one`` has in the family only is outside of it wherever ``other`` has it."""
    near = _near_family(one)
    for key, places in one.places.items():
        if key not in disease_keys() or any(at not in near or one.content[at] < 1 for at in places):
            continue
        here = other.places.get(key)
        if here and all(other.sentence[at] not in allowed and at not in other.headings for at in here):
            return True
    return False


@lru_cache(maxsize=4)
def _near_family(reading: Reading) -> frozenset[int]:
    """Words shortly after one for the family or a relative, in its sentence."""
    people, found = _people(), set[int]()
    family = _family_sentences(reading)
    for at, word in enumerate(reading.words):
        # "Mother states": she tells of the patient.
        tells = not cues("tells").isdisjoint(reading.words[at + 1 : at + 3])
        if reading.sentence[at] in family and (word in _FAMILY or word in people) and not tells:
            stop = at + 1
            reach = _FAMILY_REACH if word in _FAMILY else _REACH
            while stop < len(reading) and stop <= at + reach and reading.sentence[stop] == reading.sentence[at]:
                found.add(stop)
                stop += 1
    return frozenset(found)


@lru_cache(maxsize=4)
def _family_sentences(reading: Reading) -> frozenset[int]:
    """Sentences about the health of the family; a child or a spouse is part of the social history as a rule."""
    people = _people()
    words, found = reading.words, set()
    for at, word in enumerate(words):
        if (word in people and people[word][1] not in ("spouse", "partner", "child")) or (
            word in _FAMILY and (word != "family" or (words[at + 1 : at + 2] and words[at + 1] in _AFTER_FAMILY))
        ):
            found.add(reading.sentence[at])
    return frozenset(found)


def _doctors_kept(candidate: Candidate, source: Reading, text: Reading) -> bool:
    # A name may become "the surgeon"; one doctor's name must not become another's.
    if not _doctors(text).issubset(_named(source)):
        return False
    if candidate.allows.selection or not cues("some_doctor").isdisjoint(text.words):
        return True
    return _doctors(source) <= _named(text)


def _named(reading: Reading) -> set[str]:
    return {word.removesuffix("'s") for word in reading.words}


def _doctors(reading: Reading) -> set[str]:
    found = set()
    for at, word in enumerate(reading.words):
        if word not in ("dr", "drs"):
            continue
        tail = [w for w in reading.words[at + 1 : at + 3] if w != "."]
        if tail and tail[0] not in _UNNAMED_DOCTOR:
            found.add(tail[0].removesuffix("'s"))
    return found


def _sex_kept(source: Reading, text: Reading) -> bool:
    given = {_SEX[word] for word in source.words if word in _SEX}
    written = {_SEX[word] for word in text.words if word in _SEX}
    return not given or not written or not given.isdisjoint(written)
