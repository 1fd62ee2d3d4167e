"""Gates of measures: numbers, their units, dates and times, and how often."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from site_client.gates.asides import asides
from site_client.gates.binding import Mention, conflict, swapped
from site_client.gates.calendar import WEEKDAYS, Date, Frequency, clocks, dates, frequencies
from site_client.gates.candidate import Candidate
from site_client.gates.counts import counts_changed
from site_client.gates.numbers import Quantity, quantities, rounded, units
from site_client.gates.reading import Reading, read

_SOFT = frozenset({"pressure", "percent", "fahrenheit", "celsius", "pill", "dose", "units"})
_HALVES_AND_PAIRS = {
    "both": (2.0,), "bilateral": (2.0,), "two": (2.0,), "twice": (2.0,), "double": (2.0,), "pair": (2.0,), "half": (0.5,
    50.0), "third": (33.0,), "thirds": (66.0, 67.0), "quarter": (25.0, 0.25), "quarters": (75.0,), "all": (100.0,),
    "entire": (100.0,), "complete": (100.0,), "completely": (100.0,), "full": (100.0,), "fully": (100.0,), "dozen":
    (12.0,), "fortnight": (2.0, 14.0), "triple": (3.0,), "threefold": (3.0,), "hundred": (100.0,),
    "twenties": (20.0,), "thirties": (30.0,), "forties": (40.0,), "fifties": (50.0,), "sixties": (60.0,),
    "seventies": (70.0,), "eighties": (80.0,), "nineties": (90.0,),
}  # fmt: skip
_SPAN_NAMES = frozenset({"year", "week", "day", "month", "hour"})
_VAGUE = frozenset({"several", "many", "few", "some", "couple", "multiple", "recent"})
_NOONS = frozenset({"noon", "midnight", "noontime", "midday"})
_ONE = frozenset({"one", "once", "single", "first"})
_DOSES = frozenset({"mass", "volume", "units", "equivalents"})  # these explain no term
_GRADES = 6
_FEW = 6  # numbers in words up to here may count the things that a source tells of,
_SMALL = 12  # and up to here the items of its list


@dataclass(slots=True)
class Measures:
    """All numbers, dates and frequencies of a text."""

    numbers: list[Quantity]
    dates: list[Date]
    frequencies: list[Frequency]
    weekdays: frozenset[int]


@lru_cache(maxsize=4)
def measures(reading: Reading) -> Measures:
    """Find the measures of a text."""
    found_dates, used = dates(reading)
    found_frequencies, also = frequencies(reading)
    return Measures(
        quantities(reading, frozenset(used | also)),
        found_dates,
        found_frequencies,
        frozenset(WEEKDAYS[word] for word in reading.words if word in WEEKDAYS),
    )


def numbers_kept(candidate: Candidate) -> bool:
    """Every number of the source is there, and no other one."""
    source, text = read(candidate.source), read(candidate.text)
    given, written = measures(source), measures(text)
    aside = asides(candidate)
    known, known_dated = _values(source, given)
    said, said_dated = _values(text, written)
    # "Pulse: 72." may look like the mark of a list item.
    marks = {float(source.words[at]) for at in source.listed}
    known, known_dated = known | {m for m in marks if m > _SMALL}, known_dated | {m for m in marks if m > _SMALL}
    if not _ONE.isdisjoint(source.words):
        known, known_dated = known | {1.0}, known_dated | {1.0}
    missing = [
        q
        for q in given.numbers
        if not q.free
        # "3 weeks" is not said by the third month of a date.
        and (said if q.dimension else said_dated).isdisjoint((q.number, q.value))
        and not _said_in_words(q, source, text)
    ]
    most = max(_FEW, min(_SMALL, len(source.listed)))
    for q in written.numbers:
        if (q.at in aside and q.dimension not in _DOSES) or not (known if q.dimension else known_dated).isdisjoint(
            (q.number, q.value)
        ):
            continue
        told = q.spelt and (q.number <= _SMALL if q.free else q.number <= most and not missing)
        if told or q.at in text.listed or _is_mark(q, text, marks):
            continue
        return False
    if missing and not candidate.allows.selection and not _only_counts(missing, given, written):
        return False
    return not (
        counts_changed(source, text, given.numbers, written.numbers) or _numbers_moved(source, text, given, written)
    )


def _is_mark(q: Quantity, text: Reading, marks: set[float]) -> bool:
    """Whether a number is the mark of a list item worded anew, "(7)" or "number seven", or the end of a 4-0 suture."""
    before = text.words[q.at - 1] if q.at else ""
    return (q.number in marks and before in ("(", "number", "#", "item")) or (q.number == 0 and before == "-")


def _said_in_words(q: Quantity, source: Reading, text: Reading) -> bool:
    """Scores that a rephrasing may put into words: "oriented x 3", strength "5/5", "0/10"."""
    before = source.words[max(0, q.at - 6) : q.at]
    if q.number in (3, 4) and before and before[-1] in ("x", "times") and "orient" in text.places:
        return True
    if q.number == 5 and not {"full", "normal", "intact"}.isdisjoint(text.words):
        return True
    if (q.number == 2 and "secondary" in text.words) or (q.number == 2 and "due" in text.words):
        return source.words[q.at : q.at + 3] == ["2", "/", "2"] or source.words[max(0, q.at - 2) : q.at + 1] == [
            "2",
            "/",
            "2",
        ]
    return q.number == 0


def _only_counts(missing: list[Quantity], given: Measures, written: Measures) -> bool:
    """Small counts that went without another number in their place: "both" for 2, or the number of a heading."""
    if any(q.dimension or q.number > _SMALL or q.number % 1 for q in missing):
        return False
    had, has = Counter(q.number for q in given.numbers), Counter(q.number for q in written.numbers)
    return all(has[number] <= max(had[number], number == 1) for number in has)


def _values(reading: Reading, found: Measures) -> tuple[set[float], set[float]]:
    """Values that a text has, without and with the parts of its dates."""
    values = {v for q in found.numbers if q.at not in reading.listed for v in (q.number, q.value)}
    values |= _loose_values(reading, found)
    parts = {float(part) for date in found.dates for part in (date.year, date.month, date.day, *(date.other or ()))}
    for word, kind in zip(reading.words, reading.kinds, strict=True):
        if kind == "date":
            parts.update(float(part) for part in word.replace("-", "/").split("/"))
    return values, values | parts


def _loose_values(reading: Reading, found: Measures) -> set[float]:
    """Digits inside frequencies and clock times, for a text that words them differently."""
    values: set[float] = set()
    for f in found.frequencies:
        values.update(float(w) for w in reading.words[f.at : f.end] if w.isdigit())
        values.add(f.daily)
        if f.daily:
            values.add(round(24 / f.daily, 4))
    for at, (word, kind) in enumerate(zip(reading.words, reading.kinds, strict=True)):
        if kind == "word":
            if word in _HALVES_AND_PAIRS:
                values.update(_HALVES_AND_PAIRS[word])
            elif word in _SPAN_NAMES and at and reading.words[at - 1] in ("a", "an", "per"):
                values.add(rounded(units()[word][1]))
        elif kind == "number":
            if len(word) == 4 and word.isdigit():
                # A year cut to two digits, or 2200 for 10 p.m.
                values.update((float(word[2:]), float(int(word[:2]) % 12)))
        elif kind == "clock":
            hour, minute = word.split(":")
            values.update((float(hour), float(minute), float(hour + minute), float(int(hour) % 12)))
    return values


def _numbers_moved(source: Reading, text: Reading, given: Measures, written: Measures) -> bool:
    often = Counter(q.number for q in given.numbers)

    def mentions(reading: Reading, found: Measures) -> list[Mention]:
        # Grades of strength and of reflexes come in tables, which a rephrasing groups anew.
        return [
            Mention(f"{q.number:g}", reading, q.at, labelled=not q.dimension)
            for q in found.numbers
            if not q.free and (q.dimension or often[q.number] < 2 or q.number > _GRADES)
        ]

    def once(these: list[Mention]) -> list[Mention]:
        return [m for m in these if often[float(m.value)] == 1]

    ours, theirs = mentions(text, written), mentions(source, given)
    return conflict(ours, theirs, least=1.6, margin=0.8) or swapped(once(ours), once(theirs), least=1.0, margin=0.3)


def units_kept(candidate: Candidate) -> bool:
    """Every number has the unit that it has in the source, or one worth the same."""
    given, written = measures(read(candidate.source)), measures(read(candidate.text))
    by_number: dict[float, list[Quantity]] = {}
    for q in given.numbers:
        by_number.setdefault(q.number, []).append(q)
    for q in written.numbers:
        same = by_number.get(q.number)
        if not q.dimension or not same or any(_same_measure(q, s) for s in same):
            continue
        if any(s.dimension == q.dimension and s.value == q.value for s in given.numbers):
            continue
        return False
    return not _units_moved(given, written) and _vague_spans(read(candidate.text)) <= _spans(read(candidate.source))


def _vague_spans(reading: Reading) -> set[str]:
    """Units of "several days" and "many years"."""
    return {
        word.removesuffix("s")
        for at, word in enumerate(reading.words)
        if word.removesuffix("s") in _SPAN_NAMES and at and reading.words[at - 1] in _VAGUE
    }


def _spans(reading: Reading) -> set[str]:
    short = {"wk": "week", "yr": "year", "mo": "month", "hr": "hour", "d": "day", "y": "year", "h": "hour"}
    return {short.get(word.removesuffix("s"), word.removesuffix("s")) for word in reading.words}


def _same_measure(q: Quantity, s: Quantity) -> bool:
    if not s.dimension:
        return True
    if s.dimension == q.dimension and s.value == q.value:
        return not (q.per and s.per) or q.per == s.per
    # "20 G needle" is a gauge, and 98 F a temperature.
    return {s.dimension, q.dimension} <= {"mass", "gauge"} and abs(s.value - q.number * 1000) < 1


def _units_moved(given: Measures, written: Measures) -> bool:
    """A unit that the source has for a number nowhere near: it counts only what both texts measure."""
    source = {(q.number, q.dimension, q.value) for q in given.numbers if q.dimension}
    text = {(q.number, q.dimension, q.value) for q in written.numbers if q.dimension}
    lost, new = source - text, text - source
    return any(
        n[0] == o[0] and n[1:] != o[1:] and not any(s.value == n[2] and s.dimension == n[1] for s in given.numbers)
        for n in new
        for o in lost
    ) or _value_replaced(given, written)


def _value_replaced(given: Measures, written: Measures) -> bool:
    """A measure that went for another of its kind, whose number the source has without a unit: 3 % for 1 %, of 3-0."""
    source = {(q.dimension, q.value): q for q in given.numbers if q.dimension}
    text = {(q.dimension, q.value): q for q in written.numbers if q.dimension}
    said = {q.number for q in written.numbers if not q.dimension}
    lost = {q.dimension for key, q in source.items() if key not in text and q.number not in said}
    return any(
        q.dimension in lost
        and not any(s.dimension == q.dimension and q.number in (s.number, s.value) for s in given.numbers)
        for key, q in text.items()
        if key not in source
    )


def dates_kept(candidate: Candidate) -> bool:
    """Every date of the source is there, and no other one."""
    given, written = measures(read(candidate.source)), measures(read(candidate.text))
    loose = {q.number for q in given.numbers}
    for date in written.dates:
        if not any(date.agrees(other) for other in given.dates) and not (
            (date.year in loose and not date.month) or _side_by_side(given, date.month, date.day)
        ):
            return False
    if not candidate.allows.selection:
        said = {q.number for q in written.numbers}
        for date in given.dates:
            if not any(date.agrees(other) for other in written.dates) and not (
                date.year in said or {date.month, date.day} <= said
            ):
                return False
    if not _clocks_kept(read(candidate.source), read(candidate.text), given):
        return False
    if not written.weekdays <= given.weekdays or (given.weekdays - written.weekdays and not candidate.allows.selection):
        return False
    return _durations_and_dates_stay(candidate, given, written)


def _side_by_side(found: Measures, month: int, day: int) -> bool:
    """Whether a text has "3-14" for a date."""
    return any(
        {first.number, second.number} == {month, day} and second.at - first.at <= 2
        for first, second in pairwise(found.numbers)
    )


def _clocks_kept(source: Reading, text: Reading, given: Measures) -> bool:
    """No other time of day; "9 a.m.", "0930" and "noon" may have become a clock time."""
    numbers = {q.number for q in given.numbers}
    for hour, minute in clocks(text) - clocks(source):
        whole = minute == 0 and not {float(hour), float(hour + 12), 12.0 if not hour else 0.0}.isdisjoint(numbers)
        run_together = not {float(hour * 100 + minute), float((hour + 12) * 100 + minute)}.isdisjoint(numbers)
        if not (whole or run_together or (not hour and not _NOONS.isdisjoint(source.words))):
            return False
    return True


def _durations_and_dates_stay(candidate: Candidate, given: Measures, written: Measures) -> bool:
    source, text = read(candidate.source), read(candidate.text)

    def names(found: list[Date], known: list[Date]) -> list[str]:
        return [str(next((i for i, d in enumerate(known) if d.agrees(date)), -1)) for date in found]

    def mentions(reading: Reading, found: list[Date]) -> list[Mention]:
        labels = names(found, given.dates)
        return [
            Mention(label, reading, d.at, numbered=False)
            for label, d in zip(labels, found, strict=True)
            if label != "-1"
        ]

    return not conflict(mentions(text, written.dates), mentions(source, given.dates), least=1.2, margin=0.6)


def frequencies_kept(candidate: Candidate) -> bool:
    """No "every 4 hours" has become "every 6 hours": one frequency went and another one came in its place."""
    given = Counter(f.daily for f in measures(read(candidate.source)).frequencies)
    aside = asides(candidate)
    written = Counter(f.daily for f in measures(read(candidate.text)).frequencies if f.at not in aside)
    return not ((given - written).total() == 1 == (written - given).total())
