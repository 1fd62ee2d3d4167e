"""Clinical shorthand spelt out: abbreviations from a table, dosing instructions, ages and durations.

A form is expanded only where its reading is certain. Ambiguous ones (MS, CA, PE ...) carry a context in the table and
stay as they are anywhere else, or are not in it at all. Nothing here adds, drops or reorders a digit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_BODY_PARTS = (
    "upper|lower|arm|leg|hand|foot|feet|knee|hip|shoulder|elbow|wrist|ankle|eye|ear|breast|lung|kidney|ovary|flank|thigh"
    "|calf|groin|neck|side|sided|chest|heel|toe|finger|thumb|femur|femoral|tibia|humerus|carotid|internal|pleural|frontal"
    "|parietal|temporal|occipital|MCA|ICA|hemisphere|inguinal|radial|subclavian|index|ring|middle|great"
)
# Named contexts that the table uses in its `previous` and `next` columns.
_CONTEXTS = {
    "{number}": r"(?:of|is|was|=|:)?\s*\d",
    "{decimal}": r"(?:of|is|was|=|:)?\s*\d\.\d",
    "{number_before}": r"\d+",
    "{body}": rf"(?:{_BODY_PARTS})\b",
}


@dataclass(frozen=True, slots=True)
class _Entry:
    """One row of the table; the contexts are None where the form is expanded anywhere."""

    medical: str
    plain: str
    previous: re.Pattern[str] | None
    next: re.Pattern[str] | None

    def fits(self, text: str, start: int, end: int) -> bool:
        """Whether the surroundings of ``text[start:end]`` allow this reading."""
        if self.previous and not self.previous.search(text, max(0, start - 24), start):
            return False
        return not self.next or self.next.match(text, end) is not None


def _context(column: str) -> str:
    for name, pattern in _CONTEXTS.items():
        column = column.replace(name, pattern)
    return column


@cache
def _table() -> dict[str, tuple[_Entry, ...]]:
    """The table keyed by spelling; several rows may share a spelling, the first that fits wins."""
    table: dict[str, tuple[_Entry, ...]] = {}
    for line in Path(__file__).with_name("abbreviations.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        spelling, medical, plain, case, previous, following = line.split("\t")
        entry = _Entry(
            medical,
            plain or medical,
            re.compile(rf"(?i:(?<!\w)(?:{_context(previous)})\s*$)") if previous else None,
            re.compile(rf"(?i:[\s-]*(?:{_context(following)}))") if following else None,
        )
        spellings = (
            {spelling} if case == "exact" else {spelling, spelling.lower(), spelling.upper(), spelling.capitalize()}
        )
        for form in spellings:
            table[form] = (*table.get(form, ()), entry)
    return table


@cache
def _word() -> re.Pattern[str]:
    """A word that may be in the table (most lower-case ones cannot), with the article before it, which may change."""
    by_initial: dict[str, list[str]] = {}
    for form in sorted(_table(), key=len, reverse=True):
        if form[0].islower():
            by_initial.setdefault(form[0], []).append(re.escape(form[1:]))
    lower = "|".join(f"{initial}(?:{'|'.join(tails)})" for initial, tails in sorted(by_initial.items()))
    return re.compile(
        rf"(?<![\w/.'@-])(?:(?P<article>[Aa]n?) )?(?=[A-Z]|(?:{lower})(?![\w-]))"
        r"(?P<word>[A-Za-z][A-Za-z0-9]*(?:[/&-][A-Za-z0-9]+)*)(?![\w@]|'[^s])"
    )


_WITH = re.compile(r"(?<![\w/])w/(?!o\b)\s?(?=\w)")
_PATIENT = re.compile(r"(?<![\w/.-])([Pp])t(?:\.(?= [a-z]))?(?=[ ,']|$)")
_DETERMINED = re.compile(
    r"(?:\b(?:the|this|a|an|each|our|every|female|male|old|white|pleasant|per|no|any|new)|[-\d])\s$", re.I
)


def expand_abbreviations(text: str, *, plain: bool) -> str:
    """Expand the abbreviations of the table, keeping articles and capitals right.

    Args:
        text: any text.
        plain: choose the everyday wording where the table has one ("heart attack").

    Returns:
        The text with expansions in place.
    """
    table = _table()

    def expand(match: re.Match[str]) -> str:
        word = match["word"]
        entries = table.get(word)
        if entries is None:
            if word[-1] != "s" or len(word) < 4 or not word[:-1].isupper():
                return match[0]
            entries = table.get(word[:-1], ())
        start, end = match.span("word")
        for entry in entries:
            if entry.fits(text, start, end):
                return _in_place(match, entry.plain if plain else entry.medical, plural=word not in table)
        return match[0]

    if "w/" in text:
        text = _WITH.sub("with ", text)
    text = _PATIENT.sub(_name_patient, text)
    return _word().sub(expand, text)


def _name_patient(match: re.Match[str]) -> str:
    before = match.string[: match.start()]
    if _DETERMINED.search(before):
        return "patient"
    at_start = not before.strip() or before.rstrip()[-1] in ".:;!?\n"
    return "The patient" if at_start else "the patient"


def _in_place(match: re.Match[str], expansion: str, *, plural: bool) -> str:
    if plural:
        expansion = expansion[:-1] + "ies" if expansion.endswith("y") else expansion + "s"
    start = match.start()
    article = match["article"]
    if article:
        stem = "an" if expansion[0].lower() in "aeiou" and not expansion.startswith("u") else "a"
        return f"{stem.capitalize() if article[0] == 'A' else stem} {expansion}"
    # Only the start of a sentence is capitalised; a list after a colon is not.
    if expansion[0].islower() and (
        start == 0 or match.string[max(0, start - 3) : start].rstrip()[-1:] in (".", "!", "?")
    ):
        return expansion[0].upper() + expansion[1:]
    return expansion


_DOSE = (
    r"(?:mg|mcg|g|gm|mL|ml|cc|units?|tabs?|tablets?|caps?|capsules?|puffs?|drops?|gtts|mEq|%|patch|sprays?|IU|grams?)"
)
_ROUTES = {
    "po": "by mouth", "p.o.": "by mouth", "iv": "intravenously", "i.v.": "intravenously", "im": "intramuscularly",
    "i.m.": "intramuscularly", "sq": "subcutaneously", "sc": "subcutaneously", "subq": "subcutaneously",
    "sl": "under the tongue", "s.l.": "under the tongue", "pr": "rectally", "p.r.": "rectally",
}  # fmt: skip
_FREQUENCIES = {
    "bid": "twice daily", "tid": "three times daily", "qid": "four times daily", "qd": "once daily",
    "qday": "every day", "qhs": "at bedtime", "qam": "every morning", "qpm": "every evening",
    "qod": "every other day", "prn": "as needed", "qac": "before meals", "qwk": "every week",
}  # fmt: skip
_DIGIT = re.compile(r"\d")
_ROUTE = re.compile(
    rf"(?P<dose>\d\s?{_DOSE}\.?\s+)(?P<route>p\.o\.|i\.v\.|i\.m\.|s\.l\.|p\.r\.|po|iv|im|sq|sc|subq|sl|pr)"
    r"(?![\w.]|\s+(?:fluids?|push|bolus|drip|infusion))"
    r"|(?<![\w.])(?P<bare>p\.o\.|po)(?= [bqt]\.?[idh]|\s+(?:daily|q\d))",
    re.IGNORECASE,
)
_FREQUENCY = re.compile(
    r"(?<![\w/.-])(?P<word>q\.?(?:d|hs|h\.s|am|pm|a\.m|p\.m|od|o\.d|day|ac|wk)|[bt]\.?i\.?d|q\.?i\.?d|p\.?r\.?n)"
    r"(?P<stop>\.?)(?P<glue>(?=\s*$|[\s,;:)]))(?P<capital>(?=\s+[A-Z]|\s*$))?",
    re.IGNORECASE,
)
_EVERY = re.compile(
    r"(?<![\w/.])q\.?\s?(\d+(?:\s?(?:-|to)\s?\d+)?)\s?(?:(h)|(hours?)|(d)|(wk|weeks?))\.?(?![\w])", re.IGNORECASE
)
_TABLETS = re.compile(r"(?<=\d)\s?(tab|cap|gtt)(s?)\b\.?(?=\s)", re.IGNORECASE)
_TABLET_WORDS = {"tab": "tablet", "cap": "capsule", "gtt": "drop"}


def expand_dosing(text: str) -> str:
    """Spell out routes and frequencies: "5 mg po bid" becomes "5 mg by mouth twice daily"."""
    if _DIGIT.search(text) is None:
        return _FREQUENCY.sub(_frequency, text)
    text = _TABLETS.sub(lambda match: f" {_TABLET_WORDS[match[1].lower()]}{match[2]}", text)
    text = _ROUTE.sub(_route, text)
    text = _EVERY.sub(_interval, text)
    return _FREQUENCY.sub(_frequency, text)


def _route(match: re.Match[str]) -> str:
    if match["bare"]:
        return "by mouth"
    return match["dose"] + _ROUTES[match["route"].lower()]


def _interval(match: re.Match[str]) -> str:
    unit = "hours" if match[2] or match[3] else "days" if match[4] else "weeks"
    return f"every {match[1]} {unit}"


def _frequency(match: re.Match[str]) -> str:
    words = _FREQUENCIES.get(match["word"].lower().replace(".", ""))
    if words is None:
        return match[0]
    # "b.i.d." at the end of a sentence carries the sentence's own full stop.
    return words + ("." if match["stop"] and match["capital"] is not None else "")


_AGE = re.compile(
    r"(?<![\w/.-])(?P<age>\d{1,3})[ -]?(?P<unit>y/o|yo|y\.o\.|yr[ -]old|year[ -]old|years[ -]old)"
    r"(?:[ -](?P<sex>M|F|male|female|man|woman|boy|girl)\b)?(?=[\s,.;]|$)"
)
_DURATION = re.compile(
    r"\s[x\u00d7]\s?(?P<count>\d+(?:\s?(?:-|to)\s?\d+)?)[ -]?"
    r"(?P<unit>(?:day|week|month|year|hour|hr|wk|yr|min|minute|dose|mo)s?|d)\b"
)
_DURATION_UNITS = {"hr": "hour", "wk": "week", "yr": "year", "min": "minute", "mo": "month", "d": "day"}
_EIGHT = re.compile(r"8|11$|18$")


def expand_ages(text: str) -> str:
    """Spell out ages ("67 yo M" becomes "67-year-old man") and durations ("x 3 days" becomes "for 3 days")."""
    if _DIGIT.search(text) is None:
        return text
    return _DURATION.sub(_duration, _AGE.sub(_age, text))


def _age(match: re.Match[str]) -> str:
    sex, before = match["sex"], match.string[: match.start()]
    attributive = sex or match.string[match.end() : match.end() + 2].strip().islower()
    if not attributive:
        return match[0] if match["unit"].startswith("year") else f"{match['age']} years old"
    if sex in ("M", "F"):
        adult = int(match["age"]) >= 18
        sex = ("man" if adult else "boy") if sex == "M" else ("woman" if adult else "girl")
    at_start = not before.strip() or before.rstrip()[-1] in ".\n"
    article = ""
    if at_start or before.endswith((" is ", " was ")):
        article = "an " if _EIGHT.match(match["age"]) else "a "
        article = article.capitalize() if at_start else article
    return f"{article}{match['age']}-year-old{' ' + sex if sex else ''}"


def _duration(match: re.Match[str]) -> str:
    unit = match["unit"].rstrip("s") or "s"
    if unit == "dose":
        return match[0]
    return f" for {match['count']} {_DURATION_UNITS.get(unit, unit)}{'' if match['count'] == '1' else 's'}"
