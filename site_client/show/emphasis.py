"""The words that a change of can harm a patient: numbers, units, negations and sides.

These lists decide what the eye is led to, and nothing else: verdicts come from the gates.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Literal

from site_client.gates.words import table

Kind = Literal["", "number", "unit", "negation", "side"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_DIGIT = re.compile(r"[\d\u00bc-\u00be]")
_NAME = re.compile(r"[A-Za-z]{2,}\d")  # the 2 of SpO2 counts nothing; that of T2 or L2 does
_NUMBER_WORDS = _words(
    "zero two three four five six seven eight nine ten eleven twelve fifteen twenty thirty forty fifty sixty seventy "
    "eighty ninety hundred thousand half twice"
)
_COMPARISONS = frozenset("<>\u2264\u2265\u00b1")
_NEGATIONS = _words(
    "no not none never without denies denied denying deny negative absent absence neither nor cannot unable non"
)
_SIDES = _words("left right bilateral bilaterally b/l unilateral unilaterally ipsilateral contralateral")
# In capitals only: "l" may be a litre and "os" a mouth.
_SHORT_SIDES = _words("L R RML OD OS OU")
_FREQUENCIES = _words("daily nightly weekly monthly hourly bid tid qid qd qod qhs qam qpm prn")
_REGIONS = {
    f"{side[0]}{height[0]}{part[0]}": f"{side} {height} {part}|{side[0]}{height[0]}{part[0]}"
    for side in ("right", "left")
    for height in ("upper", "lower")
    for part in ("lobe", "quadrant", "extremity")
}
# Abbreviations that nearly every note has: without these, nearly every rephrasing would seem to change a number.
_SPELT = _REGIONS | {
    "daily": r"once (?:a day|daily)|every day|daily|qd",
    "bid": r"(?:twice|two times|2 times) (?:a day|daily|per day)|bid|b\.i\.d\.",
    "tid": r"(?:three|3) times (?:a day|daily|per day)|tid|t\.i\.d\.",
    "qid": r"(?:four|4) times (?:a day|daily|per day)|qid|q\.i\.d\.",
    "qhs": r"at bedtime|every night|nightly|qhs|q\.h\.s\.",
    "prn": r"as needed|prn|p\.r\.n\.",
    "old": r"years?[- ]old|y/o|y\.o\.|yo",
}
PHRASES = "|".join(_SPELT.values()).replace(" ", r"\s+")
_UNITS_ALONE = _words("mg mcg ml kg mmhg mmol meq ug cm mm dl iu %")
_SHORT = {"L": "left", "R": "right", "W/O": "without", "w/o": "without", "b/l": "bilateral"}
_THOUSANDS = re.compile(r",(?=\d{3}(?!\d))")
# Articles, forms of "to be" and the like: a rephrasing in whole sentences adds them everywhere.
_MINOR = _words(
    "a an the and or of to in on at by for with from as is are was were be been being has have had do does did this "
    "that these those it its he she they his her their him them who which there than then also"
)


def kind_of(word: str, before: str = "") -> Kind:
    """Say what harm a change of a word could do.

    Args:
        word: one word, number, sign or phrase, as written.
        before: the number or unit that it is joined to; "g" and "day" are units there only.
    """
    low = word.lower().replace("\u2019", "'")
    if word.startswith("<U+"):
        return ""
    if phrase := _phrase(word):
        return "side" if phrase in _REGIONS else "unit"
    if (_DIGIT.search(word) and not _NAME.match(word)) or low in _NUMBER_WORDS or word in _COMPARISONS:
        return "number"
    if low in _NEGATIONS or low.endswith("n't") or low == "w/o":
        return "negation"
    if low in _SIDES or (word in _SHORT_SIDES and not (word == "L" and _DIGIT.search(before))):
        return "side"
    if low in _FREQUENCIES or low in _UNITS_ALONE or (before and low in _units()):
        return "unit"
    return ""


def is_minor(word: str) -> bool:
    """Whether a word carries grammar and no fact."""
    return word.lower() in _MINOR


def same_as(word: str, kind: Kind) -> str:
    """The form under which words that say the same are found.

    Args:
        word: as written.
        kind: of the word; "L" is "left" where it is a side, and "yr" a year where it is a unit.
    """
    low = _THOUSANDS.sub("", word.lower().replace("\u2019", "'"))
    match kind:
        case "unit":
            return _phrase(word) or _units().get(low, low)
        case "side" | "negation":
            return _phrase(word) or _SHORT.get(word, low)
    return "every" if low == "q" else low


def _phrase(words: str) -> str:
    """The common form of a phrase of how often, how old or where; empty for anything else."""
    squeezed = " ".join(words.lower().split())
    return next((name for name, forms in _SPELT.items() if re.fullmatch(forms, squeezed)), "")


@cache
def _units() -> dict[str, str]:
    return {form: f"{dimension} {factor}" for dimension, factor, forms in table("units") for form in forms.split()}
