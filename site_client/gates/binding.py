"""Which mention of a text speaks of the same thing as which mention of the source, by the words around them.

Sets are not enough: a chunk that names both sides, or twenty numbers, still has each of them after a swap. Here
every mention (a side, a number, a grade) carries the words near it, and two mentions that are each other's best match
by those words have to agree.
"""

from __future__ import annotations

from dataclasses import dataclass

from site_client.gates.reading import Reading

_REACH = 7  # content words to either side
_COMMA = 0.45  # a word behind a comma counts less
_AND = 0.6
_CLAUSE = 0.3  # and one of another clause still less
_BARRIER = 0.4  # behind another mention of the same kind
_DECAY = 0.85
_MOST = 200  # mentions of a kind; bounds the time that any input takes
_FOLLOWED = 0.8
_LINKS = frozenset({"in", "on", "at", "of", "for", "the"})
_PARTS = frozenset({",", ";", "and", "(", ")", "\n"})
_LABEL_REACH = 5  # tokens
_BEHIND = 0.4
_CROSSED = 0.2  # each of the two has to stand by something that the other had
_NEIGHBOURS = 3  # mentions that a swap may be with


@dataclass(slots=True)
class Mention:
    """A value in a text.

    Attributes:
        value: what two mentions of the same thing have to share.
        reading: the text.
        at: first token.
        last: last token; the first one unless given.
        leave_out: words that are values of the same kind; what lies behind them belongs to them.
        before: weight of the words before the mention, where any follow it.
        numbered: whether numbers nearby count as words.
        labelled: whether words right before it name it, so that those behind it count less: "heart rate 81, ...".
    """

    value: str
    reading: Reading
    at: int
    last: int = -1
    leave_out: frozenset[str] = frozenset()
    before: float = 1.0
    numbered: bool = True
    labelled: bool = False
    _context: dict[str, float] | None = None

    @property
    def context(self) -> dict[str, float]:
        """Weight of the words around it; nearer ones count more. Most mentions are never asked."""
        if self._context is None:
            context: dict[str, float] = {}
            behind = _BEHIND if self.labelled and _labelled(self.reading, self.at) else 1.0
            _walk(self.reading, max(self.at, self.last) + 1, 1, self.leave_out, context, behind)
            followed = any(weight >= _FOLLOWED for weight in context.values())
            whole = not followed or _measured(self.reading, self.at)
            _walk(self.reading, self.at - 1, -1, self.leave_out, context, 1.0 if whole else self.before)
            if not self.numbered:
                context = {key: weight for key, weight in context.items() if key[0] != "#"}
            self._context = context
        return self._context


def _labelled(reading: Reading, at: int) -> bool:
    """Whether a word with content stands before a token in its part of the sentence."""
    sentence = reading.sentence[at]
    for before in range(at - 1, max(-1, at - 1 - _LABEL_REACH), -1):
        if reading.sentence[before] != sentence or reading.words[before] in _PARTS:
            return False
        if reading.content[before] == 1.0:
            return True
    return False


def _measured(reading: Reading, at: int) -> bool:
    """Whether a number stands right before: "4/5 in the right arm" belongs together, whatever follows."""
    start = at = at - 1
    while at > 0 and reading.words[at] in _LINKS:
        at -= 1
    return 0 <= at < start and reading.kinds[at] == "number"


def _walk(
    reading: Reading, at: int, step: int, leave_out: frozenset[str], context: dict[str, float], weight: float
) -> None:
    words, keys, content = reading.words, reading.keys, reading.content
    origin = at - step
    sentence, clause = reading.sentence[origin], reading.clause[origin]
    seen, end = 0, len(words)
    sentences, clauses, kinds = reading.sentence, reading.clause, reading.kinds
    while 0 <= at < end and seen < _REACH and sentences[at] == sentence:
        word = words[at]
        if clauses[at] != clause:
            clause = clauses[at]
            weight *= _CLAUSE
        if word in leave_out:
            weight *= _BARRIER
        elif word == "," or word == "and":
            weight *= _COMMA if word == "," else _AND
        elif keys[at]:
            here = weight * content[at]
            for key in keys[at]:
                if here > context.get(key, 0.0):
                    context[key] = here
            seen += 1
            weight *= _DECAY
        elif kinds[at] in ("number", "date"):
            name = "#" + (word if kinds[at] == "number" else word.replace("-", "/").split("/")[1])
            context[name] = max(weight, context.get(name, 0.0))
            seen += 1
            weight *= _DECAY
        at += step


def conflict(text: list[Mention], source: list[Mention], least: float = 1.0, margin: float = 0.4) -> bool:
    """Whether two mentions are each other's best match and yet have different values.

    Args:
        text: mentions of the rephrasing.
        source: mentions of the source.
        least: lowest score of a match.
        margin: by how much it has to beat the mentions that agree.

    Returns:
        True when a value has moved to other surroundings.
    """
    if not text or not source:
        return False
    text, source = text[:_MOST], source[:_MOST]
    if len({mention.value for mention in (*text, *source)}) == 1:
        return False
    scores = _scores(text, source)
    best = [max(row, key=lambda s: row[s]) if row else -1 for row in scores]
    for m, row in enumerate(scores):
        value = text[m].value
        same = max((score for s, score in row.items() if source[s].value == value), default=0.0)
        for s, score in row.items():
            if score < least or score < same + margin or source[s].value == value:
                continue
            # The mention of the source may be told rightly elsewhere.
            told = (scores[o][s] for o in range(len(text)) if best[o] == s and text[o].value == source[s].value)
            if score >= max(told, default=0.0) + margin:
                return True
    return False


def _scores(text: list[Mention], source: list[Mention]) -> list[dict[int, float]]:
    """Overlap of surroundings; a word that surrounds many values of the source says little."""
    values: dict[str, set[str]] = {}
    for mention in source:
        for key in mention.context:
            values.setdefault(key, set()).add(mention.value)
    holders: dict[str, list[tuple[int, float]]] = {}
    for s, mention in enumerate(source):
        for key, weight in mention.context.items():
            holders.setdefault(key, []).append((s, weight / len(values[key]) ** 0.5))
    rows = []
    for mention in text:
        row: dict[int, float] = {}
        for key, weight in mention.context.items():
            for s, other in holders.get(key, ()):
                row[s] = row.get(s, 0.0) + weight * other
        rows.append(row)
    return rows


def orphaned(text: list[Mention], source: list[Mention], least: float = 0.8, most: float = 0.3) -> bool:
    """Whether a mention of the source is told of another value only, and that value more often than in the source.

    Args:
        text: mentions of the rephrasing.
        source: mentions of the source.
        least: lowest score of mentions that speak of the same thing.
        most: highest score of the mentions that have the right value and speak of something else.

    Returns:
        True when "left lung" and "right lung" have both become "left lung".
    """
    text, source = text[:_MOST], source[:_MOST]
    if len({mention.value for mention in (*text, *source)}) < 2:
        return False
    of_text, of_source = _scores(text, source), _scores(source, source)
    for s, mention in enumerate(source):
        told = [(text[m].value, row.get(s, 0.0)) for m, row in enumerate(of_text)]
        if max((score for value, score in told if value == mention.value), default=0.0) > most:
            continue
        now = sum(1 for value, score in told if value != mention.value and score >= least)
        before = sum(
            1 for o, row in enumerate(of_source) if source[o].value != mention.value and row.get(s, 0.0) >= least
        )
        if now > before:
            return True
    return False


def swapped(text: list[Mention], source: list[Mention], least: float = 1.0, margin: float = 0.5) -> bool:
    """Whether two neighbours have changed places: each stands where the source has the other.

    Weak evidence of either one adds up; a match that agrees counts against it.

    Args:
        text: mentions of the rephrasing.
        source: mentions of the source.
        least: lowest sum of the two crossed scores.
        margin: by how much it has to beat the sum of the straight ones.

    Returns:
        True for "heart rate 20, respiratory rate 80".
    """
    text, source = text[:_MOST], source[:_MOST]
    if len(text) < 2 or len({mention.value for mention in source}) < 2:
        return False
    rows = []
    for row in _scores(text, source):
        by_value: dict[str, float] = {}
        for s, score in row.items():
            value = source[s].value
            by_value[value] = max(score, by_value.get(value, 0.0))
        rows.append(by_value)
    for m, first in enumerate(text):
        for o in range(m + 1, min(m + 1 + _NEIGHBOURS, len(text))):
            second = text[o]
            if first.value == second.value:
                continue
            here, there = rows[m], rows[o]
            crossed = (here.get(second.value, 0.0), there.get(first.value, 0.0))
            straight = here.get(first.value, 0.0) + there.get(second.value, 0.0)
            if min(crossed) >= _CROSSED and sum(crossed) >= max(least, straight + margin):
                return True
    return False
