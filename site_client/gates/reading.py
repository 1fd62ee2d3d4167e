"""What the fidelity gates see of a text: its words with their meanings, cut into sentences and clauses."""

from __future__ import annotations

import re
from functools import lru_cache

from site_client.engines.rules_abbreviations import expand_abbreviations
from site_client.gates.words import function_words, meanings, narrative_stems, shorthand, stem, stem_meanings

LONGEST = 10_000  # characters; a longer text is no rephrasing of a chunk and is read up to here

_CHARACTERS = str.maketrans({
    "\u2013": "-", "\u2014": ", ", "\u2212": "-", "\u2010": "-", "\u2011": "-", "\u2018": "'", "\u2019": "'",
    "\u201c": '"', "\u201d": '"', "\u00b5": "mc", "\u03bc": "mc", "\u00b0": " degrees ", "\u00ba": " degrees ",
    "\u00bd": ".5", "\u00bc": ".25", "\u00be": ".75", "\u00d7": " x ", "\u00a0": " ", "\u2265": ">", "\u2264": "<",
    "\t": " ", "\r": "\n", "\u202f": " ", "\u2009": " ",
})  # fmt: skip
# "b.i.d." is one word, and its last full stop may end the sentence too.
_DOTTED = re.compile(r"(?<![\w.])([A-Za-z])\.\s?([A-Za-z])\.(?:\s?([A-Za-z])\.)?(?=(\s+[A-Z])?)(?![A-Za-z])")
_HEADING_COMMA = re.compile(r":[ \t]*,+")
_ALERT = re.compile(r"(?<![\w])(?:A\s?&\s?O|AAO|A/O)(?=\s?[xX]?\s?\d|\W)")
# Digits that belong to a name.
_NAMED = re.compile(
    r"(?<![A-Za-z0-9])(?:(?P<air>(?:[Ss][Pp]?[Aa]?|[Pp][Aa]?)?(?:C)?O)2|(?P<other>HbA1c|A1[Cc]|H2O))(?![A-Za-z0-9])"
)
_EVERY = re.compile(r"(?<![\w/.])q\.?\s?(?=\d)", re.I)
_GLUED = re.compile(r"(?<=[A-Za-z]{2})(?=\d)|(?<=(?<![A-Za-z])[xXT])(?=\d{1,3}(?!\d))")
_LIST_MARK = re.compile(r"(?:(?<=[.:;,\n])|^)[ \t,]*#?(\d{1,2})(?:\.(?=\s|$|[A-Z])|\))(?!\d)")
_TOKEN = re.compile(
    r"(?P<date>\d{1,2}[/-]\d{1,2}[/-](?:\d{4}|\d{2})(?!\d))"
    r"|(?P<clock>\d{1,2}:\d{2}(?!\d))"
    r"|(?P<number>\d{1,3}(?:,\d{3})+(?!\d)|\d*\.\d+|\d+)"
    r"|(?P<word>[A-Za-z]+(?:'[a-z]{1,2}(?![A-Za-z]))?)"
    r"|(?P<mark>[.!?;:\n](?=\s|$|[A-Z,\d])|[(),;/&%#\"+<>-])"
)
_IN_HEADINGS = frozenset({",", "/", "&", "-", "(", ")"})
_DOCTOR = frozenset({"dr", "drs", "mr", "mrs", "ms", "st", "vs", "no", "approx"})
_NEW_CLAUSE = frozenset({"but", "although", "however", "though", "whereas", "while", "except", "nevertheless", "yet"})


class Reading:
    """A text taken apart; the lists run in parallel, one entry a token.

    Attributes:
        words: as written, in lower case; numbers, dates and punctuation marks too.
        kinds: "word", "number", "date", "clock" or "mark".
        upper: whether a word is written in capitals only.
        keys: meanings; a phrase has all of them at its first word.
        content: weight of a word's content: 0 for function words, 0.3 for narrative ones, 1 for all others.
        sentence: number of the sentence.
        clause: number of the clause.
        listed: numbers that are marks of list items.
        headings: words of headings, which affirm nothing.
    """

    __slots__ = ("clause", "content", "headings", "keys", "kinds", "listed", "places", "sentence", "upper", "words")

    def __init__(self, text: str) -> None:
        self.words: list[str] = []
        self.kinds: list[str] = []
        self.upper: list[bool] = []
        self.listed: set[int] = set()
        self.headings: set[int] = set()
        self.sentence: list[int] = []
        self.clause: list[int] = []
        self._tokenise(_normalised(text[:LONGEST]))
        self.keys, self.content = _meanings(self.words, self.kinds, self.upper)
        self.places: dict[str, list[int]] = {}
        for at, keys in enumerate(self.keys):
            for key in keys:
                self.places.setdefault(key, []).append(at)
            # The words of a phrase are there as well: "ischemic heart disease" has a heart.
            if not keys and self.kinds[at] == "word":
                word = self.words[at]
                if word not in function_words():
                    root = stem(word)
                    for key in stem_meanings().get(root, (root,)):
                        self.places.setdefault(key, []).append(at)

    def _tokenise(self, text: str) -> None:
        marks = {m.start(1) for m in _LIST_MARK.finditer(text)}
        sentence = clause = 0
        short = shorthand()
        for match in _TOKEN.finditer(text):
            kind, word = match.lastgroup or "word", match[0]
            if kind == "number" and match.start() in marks:
                self.listed.add(len(self.words))
                sentence, clause = sentence + 1, clause + 1
            for part in short.get(word, (word,)) if kind == "word" else (word,):
                self.words.append(part.lower())
                self.kinds.append(kind)
                self.upper.append(part.isupper())
                self.sentence.append(sentence)
                self.clause.append(clause)
            if kind == "mark":
                if word in "!?;:\n" or (word == "." and not self._abbreviated()):
                    # A heading's colon opens a clause of the same sentence.
                    sentence += word != ":"
                    if word == ":":
                        self._mark_heading()
                    clause += 1
            elif kind == "word" and self.words[-1] in _NEW_CLAUSE:
                clause += 1

    def _mark_heading(self) -> None:
        at, sentence = len(self.words) - 2, self.sentence[-1]
        while (
            at >= 0 and self.sentence[at] == sentence and (self.kinds[at] == "word" or self.words[at] in _IN_HEADINGS)
        ):
            self.headings.add(at)
            at -= 1

    def _abbreviated(self) -> bool:
        return len(self.words) > 1 and self.words[-2] in _DOCTOR

    def __len__(self) -> int:
        return len(self.words)


@lru_cache(maxsize=4)
def read(text: str) -> Reading:
    """Take a text apart; the gates of one candidate share the result.

    Args:
        text: any text; what lies beyond 10,000 characters is not read.

    Returns:
        Its reading.
    """
    return Reading(text)


def _normalised(text: str) -> str:
    text = text.translate(_CHARACTERS)
    text = _HEADING_COMMA.sub(": ", text)
    text = _ALERT.sub("alert and oriented ", text)
    text = _NAMED.sub(lambda m: " oxygen " if (m["air"] or "").endswith("O") and "CO" not in m[0] else " gas ", text)
    text = _GLUED.sub(" ", text)
    # First, or "p.o. q.8h." reads as one word "poq".
    text = _EVERY.sub("every ", text)
    text = _DOTTED.sub(lambda m: f"{m[1]}{m[2]}{m[3] or ''}" + (". " if m[4] else " "), text)
    return expand_abbreviations(text, plain=False)


def _meanings(words: list[str], kinds: list[str], upper: list[bool]) -> tuple[list[tuple[str, ...]], list[float]]:
    phrases, stems, function, narrative = meanings(), stem_meanings(), function_words(), narrative_stems()
    keys: list[tuple[str, ...]] = []
    content: list[float] = []
    at, end = 0, len(words)
    while at < end:
        word = words[at]
        if kinds[at] != "word":
            keys.append(())
            content.append(0.0)
            at += 1
            continue
        for form, meaning in phrases.get(word, ()):
            length = len(form)
            # "or" is the operating room in capitals only.
            fits = (upper[at] or word not in function) if length == 1 else tuple(words[at : at + length]) == form
            if fits:
                keys.append(meaning)
                content.append(0.3 if all(key in narrative for key in meaning) else 1.0)
                keys.extend([()] * (length - 1))
                content.extend([0.0] * (length - 1))
                at += length
                break
        else:
            at += 1
            if word in function or len(word) == 1:
                keys.append(())
                content.append(0.0)
            else:
                root = stem(word)
                meant = stems.get(root, (root,))
                keys.append(meant)
                content.append(0.3 if root in narrative or all(key in narrative for key in meant) else 1.0)
    return keys, content
