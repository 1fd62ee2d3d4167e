"""Taking the wrapping off a reply: what chat models put around a text without meaning it as part of the text."""

from __future__ import annotations

import re

_THINKING = re.compile(r"\A\s*<think>.*?</think>\s*", re.S)
_FENCE = re.compile(r"\A```[a-z]*\n(.*?)\n?```\s*\Z", re.S)
# "Here is a paraphrased version:" on a line of its own. Only an opening that talks about the reply itself is taken off.
_OPENING = re.compile(
    r"\A\s*(?:\*\*)?(?:(?:sure|certainly|of course|okay|ok)[,.!:]*\s*)?"
    r"(?:here(?:'s| is| are)\b[^\n]{0,100}?|(?:the )?(?:paraphrased?|rephrased|rewritten)(?: (?:text|version|note))?)"
    r":(?:\*\*)?\s*\n+\s*",
    re.I,
)
_QUOTES = (('"', '"'), ("\u201c", "\u201d"))


def tidy(reply: str) -> str:
    r"""Take thinking, a code fence, an opening line and quotation marks off a reply.

    Args:
        reply: as the model wrote it.

    Returns:
        The text inside; gates judge what is left.

    Example:
        >>> tidy('Here is the paraphrase:\n\n"The patient coughs."')
        'The patient coughs.'
    """
    text = _THINKING.sub("", reply).strip()
    if fenced := _FENCE.match(text):
        text = fenced[1].strip()
    text = _OPENING.sub("", text, count=1).strip()
    for left, right in _QUOTES:
        inside = text[1:-1]
        if len(text) > 1 and text.startswith(left) and text.endswith(right) and not {left, right} & set(inside):
            text = inside.strip()
    return text
