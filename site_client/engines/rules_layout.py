"""The layout of a note taken apart: headings, lists and running text, including exports that lost their newlines.

Such exports write ":," and ".," where a line ended. Both kinds of note come out as the same blocks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field


@dataclass(slots=True)
class Block:
    """A heading with what stands under it.

    Attributes:
        heading: without the colon; empty for text that has none.
        items: paragraphs, or list items without their numbers and bullets.
        is_list: the items were numbered or bulleted.
    """

    heading: str
    items: list[str] = field(default_factory=list)
    is_list: bool = False


_SUBHEADS = (
    "General(?: appearance)?|Constitutional|HEENT|Head|Eyes?|Ears?|Nose|Mouth|Throat|Neck|Chest|Lungs?|Heart|Cardiac"
    "|Cardiovascular|CV|Respiratory|Resp|Pulm|Pulmonary|Breasts?|Abdomen|Abd|GI|GU|Genitourinary|Rectal|Pelvic|Back|Spine|Extremities|Ext|Skin|Neuro"
    "|Neurologic|Neurological|Psych|Psychiatric|Musculoskeletal|MSK|Vitals?|Vital signs"
)
_BREAKS = re.compile(
    r"(?=[ \t,\r])(?:"  # every break begins so; the other letters are passed over quickly
    r"(?<=:)[ \t]*,[ \t]*"  # "HEADING: , text"
    r"|(?<=[.!?])[ \t]*,(?=\S)|(?<=[.!?])[ \t]+,[ \t]*"  # "one.,two" and "one. , two"
    r"|,[ \t]*(?=\d{1,2}[.)][ \t]+[A-Z])"  # ",2. item"
    r"|(?:,[ \t]*|(?<=[.;])[ \t]+)(?=[A-Z][A-Z /&()-]{2,50}:)"  # ",HEADING:" and ". HEADING:"
    rf"|(?<=[.;])[ \t]+(?=(?:{_SUBHEADS}):[ \t])"
    r"|\r\n?)"
)
_NUMBER = re.compile(r"(?<![\d./-])(\d{1,2})[.)][ \t]+(?=[A-Za-z])")
_MARK = re.compile(r"[ \t]*(?:[-*\u2022\u00b7]|\(?(\d{1,2})[.)])[ \t]+(?=[A-Za-z\"'(])")
_HEADING = re.compile(
    rf"[ \t]*(?P<name>[SOAP]|[A-Z][A-Z0-9 /&(),'-]{{1,60}}|(?:{_SUBHEADS})"
    r"|[A-Z][a-z]+(?: (?:[A-Z]?[a-z]+|of|and|[A-Z]{2,4}))*"
    r"[ \t]?(?<!\d))[ \t]*:[ \t]*(?!\d\d)(?P<rest>.*)"
)
_WRAPPED = 55  # [characters] a line at least this long without closing punctuation goes on in the next one
_MAX_HEADING_WORDS = 6


def read_blocks(text: str) -> list[Block]:
    """Split a text into blocks.

    Args:
        text: a note or a chunk of one.

    Returns:
        Blocks in reading order. All is in one but layout: line ends, bullets, item numbers, heading colons.
    """
    blocks = [Block("")]
    for line in _lines(text):
        marked = _MARK.match(line)
        if marked:
            if blocks[-1].items and not blocks[-1].is_list:
                blocks.append(Block(""))
            blocks[-1].is_list = True
            blocks[-1].items.append(line[marked.end() :].strip())
            continue
        heading = _HEADING.match(line)
        if heading and len(heading["name"].split()) <= _MAX_HEADING_WORDS:
            blocks.append(Block(heading["name"].strip(" ,")))
            line = heading["rest"]
        elif blocks[-1].is_list:
            blocks.append(Block(""))
        if line.strip(" ,"):
            blocks[-1].items.append(line.strip())
    return [block for block in blocks if block.heading or block.items]


def _lines(text: str) -> list[str]:
    """Lines as the author meant them: lost ends restored, wrapped ones joined, inline numbering broken up."""
    lines: list[str] = []
    for line in _break_numbering(_BREAKS.sub("\n", text)).split("\n"):
        line = line.strip()
        if not line:
            lines.append("")
        elif lines and _continues(lines[-1], line):
            lines[-1] += " " + line
        else:
            lines.append(line)
    return [line for line in lines if line]


def _continues(previous: str, line: str) -> bool:
    if not previous or previous[-1] in ".:;!?" or _MARK.match(line):
        return False
    return line[0].islower() or (len(previous) >= _WRAPPED and not _HEADING.match(line))


def _break_numbering(text: str) -> str:
    """Put inline items "1. a. 2. b." on lines of their own, only where the numbers really count up."""
    expected, pieces, last = 1, [], 0
    for match in _NUMBER.finditer(text):
        number, before = int(match[1]), text[max(0, match.start() - 5) : match.start()].rstrip(" \t")
        counts_up = number in (expected, 1) and before.endswith((".", ";", ":")) and not before.lower().endswith("no.")
        if match.start() > 0 and not before.endswith("\n") and not counts_up:
            continue
        pieces += [text[last : match.start()].rstrip(" \t"), "\n"]
        last, expected = match.start(), number + 1
    return text if not pieces else "".join([*pieces, text[last:]])
