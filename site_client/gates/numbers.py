"""Numbers of a text: digits, words, fractions and ordinals brought to one value, with unit and role."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from site_client.gates.reading import Reading
from site_client.gates.words import table

_SMALL = {
    "zero": 0, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16, "seventeen": 17,
    "eighteen": 18, "nineteen": 19, "twice": 2, "thrice": 3,
}  # fmt: skip
_TENS = {
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
}  # fmt: skip
_UNITS_PLACE = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "first": 1,
    "second": 2, "third": 3, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8, "ninth": 9,
}  # fmt: skip
_ORDINALS = {
    "second": 2, "third": 3, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8, "ninth": 9, "tenth":
    10, "eleventh": 11, "twelfth": 12, "thirteenth": 13, "fourteenth": 14, "fifteenth": 15, "twentieth": 20,
    "thirtieth": 30, "nd": 2,
}  # fmt: skip
_ROMAN = {
    "i": 1, "ii": 2, "iii": 3, "iv": 4, "v": 5, "vi": 6, "vii": 7, "viii": 8, "ix": 9, "x": 10, "xi": 11, "xii":
    12,
}  # fmt: skip
_LONELY_ROMAN = frozenset({"ii", "iii", "iv", "vi", "vii", "viii", "ix", "xi", "xii"})
_ROMAN_AFTER = frozenset({"type", "stage", "grade", "class", "nerve", "nerves", "phase", "factor", "level", "category"})
_BETWEEN = frozenset({"-", "to", "or", "and", "x", "/", "by", "through", "over", "of", ",", "+"})
_TIMES = frozenset({"x", "times", "time"})
_ORDINAL_ENDINGS = frozenset({"st", "nd", "rd", "th"})


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number of a text.

    Attributes:
        value: in the base unit of its dimension.
        number: as written.
        dimension: "mass", "time" ...; empty without a unit.
        per: unit of a denominator, as in mg/dL; empty without one.
        at: token.
        spelt: written as a word.
        free: may be missing in a rephrasing: marks of list items, ordinals, a lone one.
    """

    value: float
    number: float
    dimension: str
    per: str
    at: int
    spelt: bool
    free: bool


@cache
def units() -> dict[str, tuple[str, float]]:
    """Dimension and factor by spelling."""
    return {form: (name, float(factor)) for name, factor, forms in table("units") for form in forms.split()}


def quantities(reading: Reading, taken: frozenset[int]) -> list[Quantity]:
    """Find all numbers of a text.

    Args:
        reading: the text.
        taken: tokens that are part of a date or of a frequency already.

    Returns:
        The numbers, in their order.
    """
    found: list[Quantity] = []
    words, at, end = reading.words, 0, len(reading.words)
    while at < end:
        number = None if at in taken else _number_at(reading, at)
        if number is None:
            at += 1
            continue
        value, after, spelt, free = number
        dimension, factor, per = _unit_at(words, after)
        if value == 1 and not dimension:
            free = True
        if not (spelt and value in (1, 0.5) and not dimension):
            found.append(Quantity(rounded(value * factor), value, dimension, per, at, spelt, free))
        at = after
    return _share_units(words, found)


def _number_at(reading: Reading, at: int) -> tuple[float, int, bool, bool] | None:
    """Value, next token, whether it is a word, and whether it may be missing."""
    words = reading.words
    word = words[at]
    if reading.kinds[at] == "number":
        value, after = float(word.replace(",", "")), at + 1
        if after < len(words) and words[after] in _ORDINAL_ENDINGS:
            return value, after + 1, False, True
        # "3-1/2 years"
        here = after + (words[after : after + 1] == ["-"])
        if words[here : here + 3] == ["1", "/", "2"]:
            return value + 0.5, here + 3, False, False
        if words[at : at + 3] == ["1", "/", "2"]:
            return 0.5, at + 3, False, True
        if at and words[at - 1] == "#" and value <= 12 and words[after : after + 1] in ([":"], ["."]):
            return value, after, False, True
        return value, after, False, at in reading.listed or (word.startswith("0") and word.isdigit() and value == 0)
    if reading.kinds[at] != "word":
        return None
    if word in _SMALL or word in _TENS or word == "one" or word == "half":
        return _spelt_number(words, at)
    if word in _ORDINALS and not (at and reading.kinds[at - 1] == "number"):
        return _ORDINALS[word], at + 1, True, True
    if word in _ROMAN and reading.upper[at]:
        before = words[at - 1] if at else ""
        if before in _ROMAN_AFTER or word in _LONELY_ROMAN:
            return _ROMAN[word], at + 1, True, before not in _ROMAN_AFTER
    return None


def _spelt_number(words: list[str], at: int) -> tuple[float, int, bool, bool]:
    word = words[at]
    value = float({"one": 1, "half": 0.5, **_SMALL, **_TENS}[word])
    after = at + 1
    free = False
    if word in _TENS:
        rest = after + (after < len(words) and words[after] == "-")
        if rest < len(words) and words[rest] in _UNITS_PLACE:
            value, after = value + _UNITS_PLACE[words[rest]], rest + 1
    while after < len(words) and words[after] in ("hundred", "thousand"):
        value, after = value * (100 if words[after] == "hundred" else 1000), after + 1
        rest = after + (after < len(words) and words[after] == "and")
        if rest < len(words) and (words[rest] in _SMALL or words[rest] in _TENS):
            more, after, _, _ = _spelt_number(words, rest)
            value += more
    tail = [w for w in words[after : after + 5] if w != "-"]
    if tail[:3] == ["and", "a", "half"]:
        value, after = value + 0.5, words.index("half", after) + 1
    elif word == "half" and tail[:1] in (["a"], ["an"]):
        after += 1
    return value, after, True, free


def _unit_at(words: list[str], at: int) -> tuple[str, float, str]:
    """Dimension, factor and denominator of the unit that starts near a token."""
    end = len(words)
    if at < end and words[at] == "-":
        at += 1
    if at < end and words[at] in ("degree", "degrees", "full", "additional", "more", "further", "consecutive", "whole"):
        at += 1
    if at >= end:
        return "", 1.0, ""
    if words[at] == "mm" and at + 1 < end and words[at + 1] in ("hg", "of"):
        return "pressure", 1.0, ""
    if words[at] == "cubic" and at + 1 < end and words[at + 1].startswith("centim"):
        return "volume", 1.0, ""
    dimension, factor = units().get(words[at], ("", 1.0))
    per = ""
    if dimension and at + 2 < end and words[at + 1] in ("/", "per", "an", "a", "each"):
        below = units().get(words[at + 2])
        per = f"{below[0]}{below[1]:g}" if below else ""
    return dimension, factor, per


def _share_units(words: list[str], found: list[Quantity]) -> list[Quantity]:
    """Give "6 x 4 cm" and "2 to 3 weeks" their unit on every number."""
    for i in range(len(found) - 2, -1, -1):
        this, following = found[i], found[i + 1]
        gap = words[this.at + 1 : following.at]
        if not this.dimension and following.dimension and len(gap) <= 2 and all(w in _BETWEEN for w in gap) and gap:
            # "125/50 mg", but not "11/07, 6 pounds".
            if "," in gap:
                continue
            factor = following.value / following.number if following.number else 1.0
            found[i] = Quantity(
                rounded(this.number * factor),
                this.number,
                following.dimension,
                following.per,
                this.at,
                this.spelt,
                this.free,
            )
    return found


def rounded(value: float) -> float:
    """Cut what the factors of units leave behind the sixth digit."""
    return float(f"{value:.6g}")
