"""The ``rules`` engine: rewrites clinical notes as plain prose without any language model.

It spells out abbreviations and dosing instructions, turns headings and lists into sentences, completes telegraphic ones
and varies wordings. It is deterministic, and every rewritten part is compared with its source: a part whose digits
differ, or that lost a negation or a side, goes back to the author's words. It is no LLM and is never presented as one.
"""

from __future__ import annotations

import re
from typing import Literal

from site_client.engines.rules_abbreviations import expand_abbreviations, expand_ages, expand_dosing
from site_client.engines.rules_headings import render
from site_client.engines.rules_layout import Block, read_blocks
from site_client.engines.rules_phrases import complete, split_sentences, vary

VERSION = "1"
Style = Literal["plain", "medical"]

_NOT_DIGITS = re.compile(r"\D+")
_WORDS = re.compile(r"[a-z]+")
# "t" stands for the end of "didn't".
_GUARDED_WORDS = """
    no not none never without denies denied denying negative absent neither nor cannot unable free t
    left right bilateral bilaterally unilateral
"""
_GUARDED = frozenset(_GUARDED_WORDS.split())
_FAMILY = re.compile(r"family|maternal|mother|father|newborn|infant|birth", re.IGNORECASE)
_SPACES = re.compile(r"[ \t]{2,}")


def rewrite(text: str, *, style: Style = "medical", seed: int = 0) -> str:
    """Rewrite a note, or a chunk of one, as prose.

    Numbers, units, doses, dates, sides, negations and drugs stay as they are; the numbers of list items may be dropped.

    Args:
        text: the source, with real or lost newlines.
        style: "medical" spells abbreviations out in medical English, "plain" in everyday words where there are any.
        seed: chooses between equivalent wordings; equal seeds give equal texts.

    Returns:
        The rewritten text; never empty unless ``text`` is.

    Raises:
        ValueError: an unknown style.

    Example:
        >>> rewrite("Pt c/o CP x 3 days")
        'The patient complains of chest pain for 3 days.'
    """
    if style not in ("plain", "medical"):
        raise ValueError(f"style {style!r} is neither 'plain' nor 'medical'")
    written = [_rewrite_block(block, style == "plain", seed) for block in read_blocks(text)]
    return " ".join(part for part in written if part) or text


def _rewrite_block(block: Block, plain: bool, seed: int) -> str:
    # Items of a headed list stay fragments, to be enumerated; under some headings the subject is not the patient.
    fragments = bool(block.heading) and (block.is_list or _FAMILY.search(block.heading) is not None)
    items = [_rewrite_item(item, plain, seed, fragments) for item in block.items]
    written = render(block, [item for item in items if item], seed)
    source = f"{block.heading}: {' '.join(block.items)}" if block.heading else " ".join(block.items)
    return written if _faithful(source, written) else source


def _rewrite_item(item: str, plain: bool, seed: int, fragments: bool) -> list[str]:
    """Sentences of one paragraph or list item, rewritten one by one; ``fragments`` are not completed."""
    item = _SPACES.sub(" ", item)
    spelt = expand_dosing(expand_ages(item))
    sentences = split_sentences(spelt if _faithful(item, spelt) else item)
    written, previous = [], ""
    for sentence in sentences:
        changed = expand_abbreviations(sentence, plain=plain)
        changed = vary(changed if fragments else complete(changed, previous, seed), seed)
        written.append(changed if _faithful(sentence, changed) else sentence)
        previous = sentence
    return written


def _faithful(before: str, after: str) -> bool:
    """Same digits in the same order, and no negation or side lost."""
    if before == after:
        return True
    if _NOT_DIGITS.sub("", before) != _NOT_DIGITS.sub("", after):
        return False
    return _guarded_words(after) >= _guarded_words(before)


def _guarded_words(text: str) -> int:
    return sum(map(_GUARDED.__contains__, _WORDS.findall(text.lower())))
