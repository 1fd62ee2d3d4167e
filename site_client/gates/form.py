"""Gates of form: is this a whole, fresh rewriting of about the right length, and nothing else?"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

from site_client.gates.candidate import Candidate
from site_client.gates.gate import Gate

_SHORT_CHUNK_SLACK = 80  # characters
_WORD = re.compile(r"\w+")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_NEGATION = re.compile(r"\b(?:no|not|denies|denied|without|negative|never|none|nor|absent|absence)\b", re.I)
_LEFT_RIGHT = re.compile(r"\b(?:left|right|bilateral)\b", re.I)
_LIST_MARK = re.compile(r"(?:(?<=[.:;,\n])|^)\s*\d{1,2}[.)]\s")


def _not_empty(_: str, rephrased: str) -> bool:
    return bool(rephrased.strip())


def _changed(source: str, rephrased: str) -> bool:
    return _words(source) != _words(rephrased)


def _length(source: str, rephrased: str) -> bool:
    # A telegraphic line of a few words may grow more than its share when it becomes a sentence.
    return 0.5 * len(source) <= len(rephrased) <= 2.5 * len(source) + _SHORT_CHUNK_SLACK


def _no_loop(_: str, rephrased: str) -> bool:
    words = _words(rephrased)
    phrases = Counter(tuple(words[i : i + 6]) for i in range(len(words) - 5))
    return not phrases or max(phrases.values()) <= 3


def _same_numbers(source: str, rephrased: str) -> bool:
    # Marks of list items may go when a list becomes prose, so every other number of the source has to be there, and the
    # rephrasing may have no number that the source lacks.
    needed = set(_NUMBER.findall(_LIST_MARK.sub(" ", source)))
    written = set(_NUMBER.findall(rephrased))
    return needed <= written <= set(_NUMBER.findall(source))


def _keeps_negation(source: str, rephrased: str) -> bool:
    return bool(_NEGATION.search(source)) <= bool(_NEGATION.search(rephrased))


def _same_side(source: str, rephrased: str) -> bool:
    def sides(text: str) -> set[str]:
        return {m.lower() for m in _LEFT_RIGHT.findall(text)}

    return sides(source) <= sides(rephrased)


def _words(text: str) -> list[str]:
    return [w.lower() for w in _WORD.findall(text)]


def _on_texts(passes: Callable[[str, str], bool]) -> Callable[[Candidate], bool]:
    return lambda candidate: passes(candidate.source, candidate.text)


FORM_GATES = (
    Gate(name="empty", version=1, passes=_on_texts(_not_empty)),
    Gate(name="copy", version=1, passes=_on_texts(_changed)),
    Gate(name="length", version=1, passes=_on_texts(_length)),
    Gate(name="repetition", version=1, passes=_on_texts(_no_loop)),
    Gate(name="numbers", version=1, passes=_on_texts(_same_numbers)),
    Gate(name="negation", version=1, passes=_on_texts(_keeps_negation)),
    Gate(name="laterality", version=1, passes=_on_texts(_same_side)),
)
