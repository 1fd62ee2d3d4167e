"""Showing a text without letting it act.

Characters that move the cursor, turn the reading direction or hide get a visible sign in their place.
"""

from __future__ import annotations

import unicodedata

_LINE_ENDS = str.maketrans({"\u2028": "\n", "\u2029": "\n", "\x85": "\n", "\x0b": "\n", "\x0c": "\n"})
_KEPT = frozenset("\n\t")
_ACTING = frozenset({"Cc", "Cf", "Cs"})  # control, format (bidirectional and zero-width ones too), lone surrogates


def visible(text: str) -> str:
    r"""Put a visible sign in the place of every character that would act instead of being seen.

    A note or a rephrasing may hold anything, a terminal's escape sequences and marks that reverse the reading direction
    included. Whoever judges a rephrasing has to see what is there.

    Args:
        text: any text, lone surrogates included.

    Returns:
        The text with line ends as newlines; it can be encoded as UTF-8.

    Example:
        >>> visible("a\x1b[31mb\u202ec")
        'a<U+001B>[31mb<U+202E>c'
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").translate(_LINE_ENDS)
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_sign, text))


def _sign(character: str) -> str:
    if character in _KEPT or unicodedata.category(character) not in _ACTING:
        return character
    return f"<U+{ord(character):04X}>"  # pictures of control characters are in few fonts
