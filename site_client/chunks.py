"""Cutting a note into chunks at sentence ends, each with a context header.

Whole notes lose detail when they are rephrased and bare chunks lose context (arXiv 2605.17775); a bounded chunk with a
header of note type is the compromise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from privacy.note_types import Chunk, CleanNote

MAX_TOKENS = 300
# English clinical text has about 1.4 subword tokens to a word with the vocabularies of today's instruction models.
_TOKENS_PER_WORD = 1.4

# A sentence ends at . ! or ? before white space and a capital, digit or list mark, or at a line break, and at the ":,"
# and ".," that exports leave where a line break was. Titles, initials and dosing abbreviations do not end one.
_SENTENCE_END = re.compile(
    r"(?<!\bDr)(?<!\bMr)(?<!\bMs)(?<!\bMrs)(?<!\bNo)(?<!\bvs)(?<!\b[A-Z])(?<!\b[a-z]\.[a-z])[.!?]+(?:,\s*|\s+)(?=[A-Z0-9(\-*])"
    r"|:,\s*|\n+"
)


def chunk_note(note: CleanNote, max_tokens: int = MAX_TOKENS) -> list[Chunk]:
    """Cut a note.

    Args:
        note: clean note.
        max_tokens: bound on a chunk, estimated from its words; a single longer sentence is cut at words.
    """
    header = f"Note type: {note.note_type}" if note.note_type else ""
    max_words = max(1, int(max_tokens / _TOKENS_PER_WORD))
    return [
        Chunk(
            chunk_key=f"{note.note_key}-{index}",
            note_key=note.note_key,
            patient_key=note.patient_key,
            index=index,
            header=header,
            text=text,
        )
        for index, text in enumerate(_fill(note.text, max_words))
    ]


def estimate_tokens(text: str) -> int:
    """About how many tokens a language model makes of a text. Numbers and codes have more tokens than words."""
    return max(int(len(text.split()) * _TOKENS_PER_WORD), len(text) // 5) + 1


def sentences(text: str) -> Iterator[str]:
    """Cut a text behind every sentence end; the pieces joined are the text."""
    start = 0
    for end in (m.end() for m in _SENTENCE_END.finditer(text)):
        yield text[start:end]
        start = end
    if start < len(text):
        yield text[start:]


def _fill(text: str, max_words: int) -> Iterator[str]:
    held, words = "", 0
    for sentence in sentences(text):
        for piece in _at_most(sentence, max_words):
            count = len(piece.split())
            if held and words + count > max_words:
                yield held.strip()
                held, words = "", 0
            held, words = held + piece, words + count
    if held.strip():
        yield held.strip()


def _at_most(sentence: str, max_words: int) -> Iterator[str]:
    words = re.findall(r"\s*\S+\s*", sentence)
    for start in range(0, len(words), max_words):
        yield "".join(words[start : start + max_words])
