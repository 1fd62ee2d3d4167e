"""Gate of medications: the same drugs, and each with its own dose, frequency and route."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache, lru_cache

from site_client.gates.asides import asides
from site_client.gates.candidate import Candidate
from site_client.gates.measures import measures
from site_client.gates.reading import Reading, read
from site_client.gates.words import table

_SUFFIXES = (
    "pril", "sartan", "olol", "statin", "cillin", "mycin", "micin", "floxacin", "azole", "prazole", "tidine",
    "dipine", "zosin", "triptan", "setron", "gliptin", "gliflozin", "glitazone", "lukast", "mab", "tinib", "vir",
    "caine", "zepam", "zolam", "barbital", "parin", "xaban", "cycline", "oxetine", "profen", "codone", "morphone",
    "terol", "sone", "lone", "thiazide", "semide", "dronate", "cef", "penem", "curium", "curonium", "azepam",
    "bicin", "platin", "taxel",
)  # fmt: skip
_NO_DRUGS = frozenset({
    "alone", "stone", "hormone", "vir", "mab", "sone", "lone", "cocaine", "milestone", "abalone", "cholesterol",
    "testosterone", "aldosterone", "limestone", "gallstone", "cyclone",
})  # fmt: skip
_ROUTES = {
    "po": "oral", "orally": "oral", "oral": "oral", "mouth": "oral", "iv": "iv", "intravenous": "iv",
    "intravenously": "iv", "im": "im", "intramuscular": "im", "intramuscularly": "im", "subcutaneous": "sc",
    "subcutaneously": "sc", "sq": "sc", "subq": "sc", "subcu": "sc", "topical": "topical", "topically": "topical",
    "sublingual": "sl", "sublingually": "sl", "rectally": "pr", "intrathecal": "it", "intrathecally": "it",
    "inhaled": "inh", "nebulized": "inh", "epidural": "epi", "intranasal": "in", "intranasally": "in", "vein":
    "iv", "muscle": "im",
}  # fmt: skip
_SHORTEST, _LONGEST = 3, 5  # letters of a shortened name
_BREAKS = frozenset({",", ";", ".", "and", "then", "\n", ":"})


@dataclass(slots=True)
class Course:
    """What is said of one mention of a drug."""

    at: int
    doses: set[tuple[str, float]] = field(default_factory=set)
    daily: set[float] = field(default_factory=set)
    routes: set[str] = field(default_factory=set)


@cache
def drug_names() -> dict[tuple[str, ...], str]:
    """The drug by its names; a name of several parts is one of several words."""
    names: dict[tuple[str, ...], str] = {}
    for drug, others in table("drugs"):
        for name in (drug, *others.split()):
            names[tuple(name.replace("-", " ").split())] = drug
    return names


@cache
def _by_first() -> dict[str, tuple[tuple[tuple[str, ...], str], ...]]:
    found: dict[str, list[tuple[tuple[str, ...], str]]] = {}
    for parts, drug in sorted(drug_names().items(), key=lambda item: -len(item[0])):
        found.setdefault(parts[0], []).append((parts, drug))
    return {first: tuple(entries) for first, entries in found.items()}


@lru_cache(maxsize=4)
def courses(reading: Reading) -> dict[str, list[Course]]:
    """Find the drugs of a text with their doses, frequencies and routes."""
    mentions = _mentions(reading)
    found: dict[str, list[Course]] = {}
    ordered = []
    for at, drug in mentions:
        course = Course(at)
        found.setdefault(drug, []).append(course)
        ordered.append(course)
    if ordered:
        _attach(reading, ordered)
    return found


def _mentions(reading: Reading) -> list[tuple[int, str]]:
    found, names, at = [], _by_first(), 0
    words = reading.words
    while at < len(words):
        word = words[at]
        step = 1
        if reading.kinds[at] == "word":
            for parts, drug in names.get(word, ()):
                tail = [w for w in words[at : at + 2 * len(parts)] if w != "-"][: len(parts)]
                if tuple(tail) == parts:
                    found.append((at, drug))
                    step = len(parts)
                    break
            else:
                if len(word) > 6 and word.endswith(_SUFFIXES) and word not in _NO_DRUGS:
                    found.append((at, word))
        at += step
    return found


def _attach(reading: Reading, ordered: list[Course]) -> None:
    """Give each dose, frequency and route to a drug of its own part of the sentence, or else to the one before."""
    found = measures(reading)
    for q in found.numbers:
        if q.dimension in ("mass", "volume", "units", "equivalents", "pill", "puff", "drop", "percent"):
            _owner(reading, ordered, q.at).doses.add((q.dimension, q.value))
    for f in found.frequencies:
        _owner(reading, ordered, f.at).daily.add(f.daily)
    for at, word in enumerate(reading.words):
        route = _ROUTES.get(word)
        if route:
            _owner(reading, ordered, at).routes.add(route)


def _owner(reading: Reading, ordered: list[Course], at: int) -> Course:
    before = [c for c in ordered if c.at < at and reading.sentence[c.at] == reading.sentence[at]]
    after = [c for c in ordered if c.at > at and reading.sentence[c.at] == reading.sentence[at]]
    words = reading.words
    if before and (not after or not _BREAKS.intersection(words[before[-1].at : at])):
        return before[-1]
    if after and not _BREAKS.intersection(words[at : after[0].at]):
        return after[0]
    if before:
        return before[-1]
    return Course(at)


def medications_kept(candidate: Candidate) -> bool:
    """The same drugs, with the same doses, frequencies and routes."""
    given, written = courses(read(candidate.source)), courses(read(candidate.text))
    aside = asides(candidate)
    claimed = {drug for drug, found in written.items() if any(c.at not in aside for c in found)}
    for drug in claimed - set(given):
        if not _part_of(drug, given) and not _shortened(drug, written[drug], candidate):
            return False
    if not candidate.allows.selection:
        for drug in set(given) - set(written):
            if not _part_of(drug, written):
                return False
    return not any(_differ(given[drug], written[drug]) for drug in given if drug in written)


def _shortened(drug: str, found: list[Course], candidate: Candidate) -> bool:
    """Whether the source has the beginning of a drug's name for it: "IV pit" for Pitocin."""
    names = {read(candidate.text).words[c.at] for c in found} | {drug}
    short = {word for word in read(candidate.source).words if _SHORTEST <= len(word) <= _LONGEST}
    return any(name.startswith(word) for name in names for word in short)


def _part_of(drug: str, known: dict[str, list[Course]]) -> bool:
    """Whether a combination, or a part of one, is the same: "glargine" and "insulin"."""
    parts = set(drug.split("-"))
    return any(parts & set(other.split("-")) for other in known)


def _differ(given: list[Course], written: list[Course]) -> bool:
    for kind in ("doses", "daily", "routes"):
        source = set().union(*(getattr(c, kind) for c in given))
        text = set().union(*(getattr(c, kind) for c in written))
        if source and text and source.isdisjoint(text):
            return True
    return False
