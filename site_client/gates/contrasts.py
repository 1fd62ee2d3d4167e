"""Gates of opposites: sides and directions, severity, and other words that exclude each other."""

from __future__ import annotations

from functools import cache, lru_cache

from site_client.gates.asides import asides
from site_client.gates.binding import Mention, conflict, orphaned, swapped
from site_client.gates.candidate import Candidate
from site_client.gates.reading import Reading, read
from site_client.gates.words import cues, table

_SIDES = {"left": "left", "right": "right", "bilateral": "both", "bilaterally": "both"}
_BOTH = frozenset({"bilateral", "bilaterally", "both", "each", "two", "either", "paired", "pair", "equal", "symmetric",
                   "symmetrical", "symmetrically"})  # fmt: skip
_NOT_RIGHT = frozenset({"away", "now", "after", "before", "then", "there", "here"})
_RIGHT_WHERE = frozenset({"at", "behind", "beside", "beneath", "near", "next", "over", "through", "up", "down", "where",
                          "when", "into", "along", "between", "around", "across", "above", "below"})  # fmt: skip
_RIGHT_SIDE_BEFORE = frozenset({"the", "on", "to", "his", "her", "and", "or", "than", "left", "of"})
# "Was left open", "any that were left were removed": a verb and no side.
_BE = frozenset({"is", "are", "was", "were", "be", "been", "being"})
_LEFT_SO = frozenset({
    "blank", "empty", "out", "open", "opened", "in", "intact", "alone", "untreated", "to", "at", "is", "are",
    "was", "were", "for", "as", "with", "on", "behind", "over", "undisturbed", "unrepaired", "attached",
    "and",
})  # fmt: skip
_BEFORE_WEIGHT = 0.4  # "left knee": what follows a side tells what it is the side of
_SIDE_WORDS = frozenset({"left", "right", "bilateral", "bilaterally"})


@cache
def _groups() -> dict[str, tuple[str, str, str]]:
    """Gate, group and value by form."""
    return {form: (gate, group, value) for gate, group, value, forms in table("contrasts") for form in forms.split()}


@lru_cache(maxsize=4)
def sides(reading: Reading) -> tuple[Mention, ...]:
    """Find the sides of a text, without "left the hospital" and "right away"."""
    found = []
    words = reading.words
    for at, word in enumerate(words):
        side = _SIDES.get(word)
        if side is None or (side != "both" and not _is_side(words, at)):
            continue
        first = last = at
        # "left and right lung": the lung is as near to the one as to the other.
        while last + 2 < len(words) and words[last + 1] in ("and", "or", "/", "to") and words[last + 2] in _SIDES:
            last += 2
        while first > 1 and words[first - 1] in ("and", "or", "/", "to") and words[first - 2] in _SIDES:
            first -= 2
        found.append(Mention(side, reading, first, last, _SIDE_WORDS, _BEFORE_WEIGHT))
    return tuple(found)


def _is_side(words: list[str], at: int) -> bool:
    before = words[at - 1] if at else ""
    after = words[at + 1] if at + 1 < len(words) else ""
    if words[at] == "right":
        if after in _NOT_RIGHT or (before == "all" and after in (".", ",", "")):
            return False
        # "Right at the margin" is an adverb, "on the right at the margin" a side.
        return after not in _RIGHT_WHERE or before in _RIGHT_SIDE_BEFORE
    if before in _BE and after in _LEFT_SO:
        return False
    return after not in cues("after_verb_left") or before in cues("before_side")


def laterality_kept(candidate: Candidate) -> bool:
    """Every side and direction is where the source has it."""
    source, text = read(candidate.source), read(candidate.text)
    given, written = sides(source), sides(text)
    aside = asides(candidate)
    known, said = {m.value for m in given}, {m.value for m in written}
    claimed = {m.value for m in written if m.at not in aside}
    if {"left", "right"} <= known or not _BOTH.isdisjoint(source.words):
        known.add("both")
    if {"left", "right"} <= said or not _BOTH.isdisjoint(text.words):
        said.add("both")
    if "both" in known and _both_named(text):
        known |= {"left", "right"}
    if not claimed <= known | _in_abbreviations(source, text):
        return False
    lost = {m.value for m in given} - said
    if lost and not candidate.allows.selection:
        return False
    one_sided = [m for m in written if m.value != "both" and m.at not in aside]
    sources = [m for m in given if m.value != "both"]
    if conflict(one_sided, sources, least=0.8, margin=0.35) or swapped(one_sided, sources, least=0.6, margin=0.2):
        return False
    if not candidate.allows.selection and _BOTH.isdisjoint(text.words) and orphaned(one_sided, sources):
        return False
    # Directions are told in turn ("lateral, then medial"), so only one that went for another counts.
    return opposites_kept(candidate, "laterality", moved=False)


def _both_named(text: Reading) -> bool:
    """Whether a text says "left and right" for "bilateral"."""
    words = text.words
    return any(
        words[at] in ("left", "right")
        and words[at + 1] in ("and", "or")
        and {words[at], *words[at + 2 : at + 4]} >= {"left", "right"}
        for at in range(len(words) - 2)
    )


def _in_abbreviations(source: Reading, text: Reading) -> set[str]:
    """Sides that an abbreviation of the source may stand for, where the rephrasing spells it out."""
    found = set()
    for word, upper in zip(source.words, source.upper, strict=True):
        if upper and word[0] in "lrb" and len(word) <= 5 and (len(word) == 1 or word not in text.words):
            found.add({"l": "left", "r": "right", "b": "both"}[word[0]])
    return found


@lru_cache(maxsize=4)
def _opposites(reading: Reading) -> dict[tuple[str, str], list[Mention]]:
    groups, found = _groups(), dict[tuple[str, str], list[Mention]]()
    for at, word in enumerate(reading.words):
        here = groups.get(word)
        if here is not None:
            gate, group, value = here
            found.setdefault((gate, group), []).append(Mention(value, reading, at, leave_out=frozenset({word})))
    return found


def opposites_kept(candidate: Candidate, gate: str, *, moved: bool = True) -> bool:
    """No word of the source has become one that excludes it.

    Args:
        candidate: the rephrasing.
        gate: whose groups of words to compare.
        moved: whether words that both texts have may not have changed places either.

    Returns:
        False when a value of a group went and another one came in its surroundings.
    """
    given, written = _opposites(read(candidate.source)), _opposites(read(candidate.text))
    aside = asides(candidate)
    for key, mentions in written.items():
        if key[0] != gate or key not in given:
            continue
        claimed = [m for m in mentions if m.at not in aside]
        known, said = {m.value for m in given[key]}, {m.value for m in mentions}
        new = [m for m in claimed if m.value not in known]
        lost = [m for m in given[key] if m.value not in said]
        if new and lost and conflict(new, lost, least=0.5, margin=0.0):
            return False
        if not moved:
            continue
        if conflict(new, given[key], least=0.9, margin=0.3) or conflict(claimed, given[key], least=1.3, margin=0.6):
            return False
    return True
