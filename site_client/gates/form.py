"""Gates of form: is this a whole, fresh rewriting of about the right length, in English, and nothing else?"""

from __future__ import annotations

import re
from collections import Counter
from functools import cache, lru_cache

from site_client.gates.candidate import Candidate
from site_client.gates.gate import Gate
from site_client.gates.reading import LONGEST, read
from site_client.gates.words import function_words, table

_SHORT_CHUNK_SLACK = 80  # characters
_LOOP, _LOOP_TIMES = 6, 3  # words of a phrase, and how often it may come
_LOOP_SHARE = 0.25  # of the words, which a phrase has to fill to be a loop
_STUTTER = re.compile(r"\b([^\W\d]\w*)(?:\W+\1\b){4}", re.I)
_WORD = re.compile(r"\w+")
_LETTER = re.compile(r"[^\W\d_]")
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f]")
_OPENING = 250  # characters in which a refusal or a preamble shows itself
_REFUSAL = re.compile(
    r"""\b(?: i\W?a?m\ (?:really\ |very\ )?(?:sorry|afraid)\b | i\ apologi[sz]e\b
    | as\ an?\ (?:ai|artificial|language)\b
    | (?:i|we)\ (?:cannot|can\W?t|can\ not|could\ not|won\W?t|will\ not|am\ not\ able\ to|am\ unable\ to)
      \ (?:\w+\ )?(?:assist|help|comply|provide|fulfill?|(?:re|para)phrase|rewrite|process|generate|create|complete)
    | no\ (?:text|paragraph|note|content|passage)\ (?:was\ |is\ |has\ been\ )?(?:provided|given|to\ (?:para|re)phrase)
    | please\ (?:provide|share|send|paste)\ (?:me\ |us\ )?(?:with\ )?(?:the|a|your|more)\b
    | not\ (?:able|allowed)\ to\ (?:provide|give)\ medical\ advice)""",
    re.I | re.X,
)
_ANNOUNCED = r"(?:(?:paraphras|rephras|rewrit|reword)\w*|revis\w+\ (?:text|paragraph|version|passage|note))"
_PREAMBLE = re.compile(
    rf"""^\W*(?: (?:sure|certainly|of\ course|absolutely|okay|ok|great)\s*[,!.:]
    | (?:here(?:\W?s|\ is|\ are)|below\ is|the\ following\ is)\b[^.\n]{{0,80}}
      (?:{_ANNOUNCED}|version|text|note|paragraph|summary)\b
    | {_ANNOUNCED}[^.\n]{{0,40}}: | (?:output|response|answer)\s*:)""",
    re.I | re.X,
)
_CLOSING = re.compile(
    rf"""\blet\ me\ know\ if\b | \bi\ hope\ (?:this|that)\ helps\b | \bfeel\ free\ to\b
    | \bnote\s*:\s*(?:i|this|the)\ (?:have|version|text|(?:para|re)phras|rewrit)
    | \b(?:this|the\ above)\ {_ANNOUNCED}\b | \boriginal\ (?:text|paragraph|passage|wording)\b
    | </?(?:think|s|im_end|im_start|eot)\b | \[/?INST\]""",
    re.I | re.X,
)
_MARKUP = re.compile(r"^\s*(?:#{1,6}\s|\*\*[^*\n]+\*\*|\|.*\||```)", re.M)
_BULLET = re.compile(r"^\s*(?:[-*\u2022]|\d{1,2}[.)])\s+\S", re.M)
_QUESTION = re.compile(r"^\s*\W{0,2}(?:q(?:uestion)?|a(?:nswer)?)\s*\d*\W{0,2}:", re.M | re.I)
_CUT = re.compile(
    r"(?:[,(:\-\u2013]|\b(?:the|a|an|of|and|or|with|to|in|for|by|was|were|is|are|which|that|at|from|on))\s*$", re.I
)
_COPIED = 0.97  # share of runs of four words that stand in the source as they are
_KEPT = 0.3  # least share of the source's meanings


def _not_empty(candidate: Candidate) -> bool:
    return bool(candidate.text.strip())


def _no_refusal(candidate: Candidate) -> bool:
    return not _REFUSAL.search(candidate.text, 0, _OPENING) or bool(_REFUSAL.search(candidate.source, 0, 4 * _OPENING))


def _no_preamble(candidate: Candidate) -> bool:
    if _echoes_header(candidate):
        return False
    if _PREAMBLE.search(candidate.text) and not _PREAMBLE.search(candidate.source):
        return False
    return not _CLOSING.search(candidate.text) or bool(_CLOSING.search(candidate.source))


def _echoes_header(candidate: Candidate) -> bool:
    """Whether the reply begins with the context line that it was given."""
    if not candidate.header or candidate.source.startswith(candidate.header):
        return False
    opening = candidate.text.lstrip(' \n*"').removeprefix("Context:").lstrip()
    return opening.startswith(candidate.header)


def _no_layout(candidate: Candidate) -> bool:
    """Markup and lists only where the prompt asks for them, or where the source has them."""
    text, source, allows = candidate.text, candidate.source, candidate.allows
    if not allows.questions and len(_QUESTION.findall(text)) > 1 and not _QUESTION.search(source):
        return False
    if allows.layout or allows.questions:
        return True
    if _MARKUP.search(text) and not _MARKUP.search(source):
        return False
    return len(_BULLET.findall(text)) < 2 or bool(_BULLET.search(source))


def _whole(candidate: Candidate) -> bool:
    if candidate.finish_reason != "stop":
        return False
    # A chunk that ends within a sentence may be rephrased up to there.
    return not _CUT.search(candidate.text[-40:]) or bool(_CUT.search(candidate.source[-40:]))


@cache
def _foreign_words() -> frozenset[str]:
    return frozenset(word for _, words in table("foreign_words") for word in words.split())


def _english(candidate: Candidate) -> bool:
    text = candidate.text[:LONGEST]
    letters, latin = len(_LETTER.findall(text)), len(_LATIN.findall(text))
    if letters - latin > 0.05 * letters and letters - latin > 3:
        return False
    words = _words(text)
    if len(words) < 8:
        return True
    foreign = sum(map(_foreign_words().__contains__, words))
    english = _english_share(text)
    if foreign > 0.08 * len(words) and foreign > english * len(words):
        return False
    return english >= 0.08 or english >= 0.5 * _english_share(candidate.source[:LONGEST])


def _english_share(text: str) -> float:
    words = _words(text)
    return sum(map(function_words().__contains__, words)) / max(1, len(words))


def _no_loop(candidate: Candidate) -> bool:
    """No phrase fills the text; a list of doses may repeat its words, and a table its grades."""
    words = _words(candidate.text[:LONGEST])
    phrases = Counter(zip(*(words[i:] for i in range(_LOOP)), strict=False))
    if phrases:
        phrase, times = phrases.most_common(1)[0]
        if times > _LOOP_TIMES and times * _LOOP > _LOOP_SHARE * len(words):
            return times <= f" {' '.join(_words(candidate.source[:LONGEST]))} ".count(f" {' '.join(phrase)} ")
    stutter = _STUTTER.search(candidate.text[:LONGEST])
    return not stutter or stutter[0].lower() in candidate.source.lower()


def _length(candidate: Candidate) -> bool:
    source, text, allows = len(candidate.source), len(candidate.text), candidate.allows
    if max(source, text) > LONGEST:
        # More than the fidelity gates read.
        return False
    # A telegraphic line of a few words may grow more than its share when it becomes a sentence.
    return allows.min_length_ratio * source <= text <= allows.max_length_ratio * source + _SHORT_CHUNK_SLACK


def _changed(candidate: Candidate) -> bool:
    source, text = _words(candidate.source[:LONGEST]), _words(candidate.text[:LONGEST])
    if source == text:
        return not text
    if len(text) < 20 or candidate.allows.layout:
        return True
    known = set(zip(*(source[i:] for i in range(4)), strict=False))
    runs = list(zip(*(text[i:] for i in range(4)), strict=False))
    return sum(map(known.__contains__, runs)) < _COPIED * len(runs)


def _on_topic(candidate: Candidate) -> bool:
    source, text = read(candidate.source), read(candidate.text)
    keys = [key for key, places in source.places.items() if source.content[places[0]] == 1.0]
    if len(keys) < 8 or candidate.allows.selection:
        return True
    return sum(map(text.places.__contains__, keys)) >= _KEPT * len(keys)


@lru_cache(maxsize=4)
def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


FORM_GATES = (
    Gate(name="empty", version=1, passes=_not_empty),
    Gate(name="refusal", version=1, passes=_no_refusal),
    Gate(name="preamble", version=2, passes=_no_preamble),
    Gate(name="layout", version=1, passes=_no_layout),
    Gate(name="truncated", version=1, passes=_whole),
    Gate(name="language", version=1, passes=_english),
    Gate(name="copy", version=2, passes=_changed),
    Gate(name="length", version=2, passes=_length),
    Gate(name="repetition", version=3, passes=_no_loop),
    Gate(name="drift", version=1, passes=_on_topic),
)
