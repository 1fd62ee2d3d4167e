"""Dates, clock times and frequencies of a text, whichever way they are written."""

from __future__ import annotations

import re
from dataclasses import dataclass

from site_client.gates.reading import Reading

_MONTHS = {
    "january": 1, "jan": 1, "february": 2, "feb": 2, "march": 3, "mar": 3, "april": 4, "apr": 4, "may": 5, "june":
    6, "jun": 6, "july": 7, "jul": 7, "august": 8, "aug": 8, "september": 9, "sept": 9, "sep": 9, "october": 10,
    "oct": 10, "november": 11, "nov": 11, "december": 12, "dec": 12,
}  # fmt: skip
_UNSURE_MONTHS = frozenset({"may", "march", "mar", "dec", "sep", "jun"})
_DATE_AFTER = frozenset({"in", "on", "since", "dated", "date", "of", "from", "until", "by", "through", "till", "dob"})
WEEKDAYS = {
    "monday": 1, "mondays": 1, "tuesday": 2, "tuesdays": 2, "wednesday": 3, "wednesdays": 3, "thursday": 4,
    "thursdays": 4, "friday": 5, "fridays": 5, "saturday": 6, "saturdays": 6, "sunday": 7, "sundays": 7,
}  # fmt: skip
_DATE = re.compile(r"[/-]")
_DAY_PARTS = frozenset({"day", "morning", "evening", "night", "daily", "bedtime", "afternoon"})
_PER = frozenset({"a", "per", "each", "every", "/", "an"})
_ONCE = {
    "daily": 1.0, "qd": 1.0, "qday": 1.0, "bid": 2.0, "tid": 3.0, "qid": 4.0, "qhs": 1.0, "hs": 1.0, "qam": 1.0,
    "qpm": 1.0, "qod": 0.5, "nightly": 1.0, "weekly": 1 / 7, "monthly": 1 / 30, "hourly": 24.0, "yearly": 1 / 365,
    "annually": 1 / 365, "biweekly": 1 / 14,
}  # fmt: skip
_TIMES = {"once": 1.0, "twice": 2.0, "thrice": 3.0, "three": 3.0, "four": 4.0, "five": 5.0, "six": 6.0, "two": 2.0,
          "one": 1.0}  # fmt: skip
_SPANS = {
    "hour": 1 / 24, "hours": 1 / 24, "hr": 1 / 24, "hrs": 1 / 24, "h": 1 / 24, "day": 1.0, "days": 1.0, "d": 1.0,
    "week": 7.0, "weeks": 7.0, "wk": 7.0, "month": 30.0, "months": 30.0, "year": 365.0, "minutes": 1 / 1440,
    "minute": 1 / 1440, "min": 1 / 1440, "morning": 1.0, "evening": 1.0, "night": 1.0, "bedtime": 1.0, "daily":
    1.0,
}  # fmt: skip


_STARTS = frozenset({"every", "each", "per", "a", "bedtime", *_ONCE, *_TIMES})


@dataclass(frozen=True, slots=True)
class Date:
    """A date with what is known of it; ``other`` is a second reading of 01/08."""

    year: int
    month: int
    day: int
    at: int
    other: tuple[int, int, int] | None = None

    def agrees(self, that: Date) -> bool:
        """Whether both may be the same day."""
        mine = [(self.year, self.month, self.day)] + ([self.other] if self.other and not that.year else [])
        theirs = [(that.year, that.month, that.day)] + ([that.other] if that.other and not self.year else [])
        return any(_agree(a, b) for a in mine for b in theirs)


@dataclass(frozen=True, slots=True)
class Frequency:
    """How often a day, and where it is said."""

    daily: float
    at: int
    end: int


def dates(reading: Reading) -> tuple[list[Date], set[int]]:
    """Find the dates of a text.

    Args:
        reading: the text.

    Returns:
        The dates, and the tokens that they are made of.
    """
    found, taken = list[Date](), set[int]()
    words, kinds = reading.words, reading.kinds
    for at, word in enumerate(words):
        if kinds[at] == "date":
            month, day, year = (int(part) for part in _DATE.split(word))
            if month <= 12 and day <= 31:
                found.append(Date(_century(year, len(word)), month, day, at))
                taken.add(at)
        elif word in _MONTHS and kinds[at] == "word":
            date, used = _written(words, kinds, at)
            if date is not None:
                found.append(date)
                taken.update(used)
        elif word == "/" and at and kinds[at - 1] == "number" and at + 1 < len(words) and kinds[at + 1] == "number":
            date = _short(words, at)
            if date is not None:
                found.append(date)
                taken.update((at - 1, at, at + 1))
    return found, taken


def frequencies(reading: Reading) -> tuple[list[Frequency], set[int]]:
    """Find how often things are done: "b.i.d.", "every 6 hours", "twice a day".

    Args:
        reading: the text.

    Returns:
        The frequencies, and the tokens that they are made of.
    """
    found, taken = list[Frequency](), set[int]()
    words = reading.words
    for at, word in enumerate(words):
        if at in taken or not (word in _STARTS or reading.kinds[at] == "number"):
            continue
        found_here = None
        if word == "every" or word == "each" or word == "per":
            found_here = _every(words, at)
        elif word in _ONCE:
            found_here = (_ONCE[word], at + 1)
        elif word in _TIMES or reading.kinds[at] == "number":
            found_here = _times(words, at)
        elif (
            word == "a" and words[at + 1 : at + 2] == ["day"] and words[at + 2 : at + 3] not in (["after"], ["before"])
        ):
            found_here = (1.0, at + 2)
        elif word == "bedtime":
            found_here = (1.0, at + 1)
        if found_here is not None:
            daily, end = found_here
            found.append(Frequency(round(daily, 4), at, end))
            taken.update(range(at, end))
    return found, taken


def clocks(reading: Reading) -> set[tuple[int, int]]:
    """Times of day as ``(hour of twelve, minute)``, from "9:30" and "21:30" alike."""
    parts = (w.split(":") for w, kind in zip(reading.words, reading.kinds, strict=True) if kind == "clock")
    return {(int(hour) % 12, int(minute)) for hour, minute in parts}


def _every(words: list[str], at: int) -> tuple[float, int] | None:
    tail = words[at + 1 : at + 4]
    if words[at] == "per" and tail[:1] and _SPANS.get(tail[0], 1.0) < 1.0:
        # A rate, such as beats per minute.
        return None
    if tail[:1] == ["other"] and len(tail) > 1 and tail[1] in _SPANS:
        return 1 / (2 * _SPANS[tail[1]]), at + 3
    if tail and tail[0] in _SPANS:
        return 1 / _SPANS[tail[0]], at + 2
    if len(tail) > 1:
        number = _TIMES.get(tail[0]) or (float(tail[0]) if tail[0].isdigit() else 0) or _WORDS.get(tail[0], 0)
        step = 2 if tail[1] != "-" else 3
        if number and at + step < len(words) and words[at + step] in _SPANS:
            return 1 / (number * _SPANS[words[at + step]]), at + step + 1
    return None


_WORDS = {"eight": 8, "twelve": 12, "ten": 10, "twenty-four": 24}


def _times(words: list[str], at: int) -> tuple[float, int] | None:
    word = words[at]
    number = _TIMES.get(word) or (float(word) if word.isdigit() else 0)
    here = at + 1
    if words[here : here + 1] in (["times"], ["x"], ["time"]):
        here += 1
    elif word not in ("once", "twice", "thrice"):
        return None
    if words[here : here + 1] in (["daily"], ["nightly"]):
        return number, here + 1
    if words[here : here + 1] == ["weekly"]:
        return number / 7, here + 1
    if here + 1 < len(words) and words[here] in _PER and words[here + 1] in _SPANS:
        return number / _SPANS[words[here + 1]], here + 2
    return None


def _written(words: list[str], kinds: list[str], at: int) -> tuple[Date | None, list[int]]:
    """A date with the month in letters: "June 14, 2007", "14 June 2007", "June of 2007", "June"."""
    month, day, year, used = _MONTHS[words[at]], 0, 0, [at]
    before = at - 1
    # "The 1st of November"
    while before > max(0, at - 3) and words[before] in ("of", "st", "nd", "rd", "th"):
        before -= 1
    if before >= 0 and kinds[before] == "number" and words[before].isdigit() and int(words[before]) <= 31:
        day = int(words[before])
        used.append(before)
    here, end = at + 1, len(words)
    if here < end and kinds[here] == "number" and words[here].isdigit():
        number = int(words[here])
        if number <= 31 and not day:
            day = number
            used.append(here)
            here += 1
            if here < end and words[here] in ("st", "nd", "rd", "th"):
                here += 1
    while here < end and words[here] in (",", "of"):
        here += 1
    if here < end and kinds[here] == "number" and words[here].isdigit() and 1900 <= int(words[here]) <= 2100:
        year = int(words[here])
        used.append(here)
    if words[at] in _UNSURE_MONTHS and len(used) == 1:
        return None, []
    return Date(year, month, day, at), used


def _short(words: list[str], at: int) -> Date | None:
    """Two numbers with a slash after a word like "in": month and year, or month and day."""
    first, second = words[at - 1], words[at + 1]
    before = words[at - 2] if at > 1 else ""
    if not (first.isdigit() and second.isdigit()) or not 1 <= int(first) <= 12 or words[at + 2 : at + 3] == ["/"]:
        return None
    if len(second) == 4 and 1900 <= int(second) <= 2100:
        return Date(int(second), int(first), 0, at)
    if len(second) == 2 and (first[0] == "0" or before in _DATE_AFTER):
        day = int(second)
        other = (0, int(first), day) if 1 <= day <= 31 else None
        return Date(_century(int(second), 8), int(first), 0, at, other)
    if len(second) == 1 and before == "on" and int(second):
        return Date(0, int(first), int(second), at)
    return None


def _century(year: int, length: int) -> int:
    del length
    if year >= 100:
        return year
    return year + (2000 if year < 50 else 1900)


def _agree(a: tuple[int, int, int], b: tuple[int, int, int]) -> bool:
    shared = [(x, y) for x, y in zip(a, b, strict=True) if x and y]
    return bool(shared) and all(x == y for x, y in shared)
