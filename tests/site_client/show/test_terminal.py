from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from site_client.show.terminal import print_examples

from .invented import examples, hostile_examples

STYLE = re.compile(r"\x1b\[[\d;]*m")


def printed(shown, width: int, *, colours: bool = False, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, newline="")
    system = "standard" if colours else None
    print_examples(shown, Console(file=file, width=width, color_system=system, force_terminal=colours, _environ={}))
    file.flush()
    return raw.getvalue().decode(encoding)


def test_wide_terminal_has_two_columns_and_a_narrow_one_has_one():
    beside = re.compile(r"Source +Rephrasing")
    assert len(beside.findall(printed(examples(), 100))) == 3
    narrow = printed(examples(), 99)
    assert not beside.search(narrow)
    assert narrow.count("Source") == narrow.count("Rephrasing") == 3


@pytest.mark.parametrize("width", [20, 60, 100, 200])
@pytest.mark.parametrize("colours", [False, True])
def test_no_line_is_wider_than_the_terminal(width, colours):
    for shown in (examples(), hostile_examples()):
        lines = STYLE.sub("", printed(shown, width, colours=colours)).splitlines()
        assert max(map(len, lines)) <= width


def test_verdict_facts_and_words_to_check_are_told():
    text = printed(examples(), 300)
    assert "large.soap  Rejected: a number is missing, new or changed" in text
    assert "it failed the check named of_tomorrow" in text
    assert "Check: in the source L, none" in text
    assert "vllm, large, prompt soap; cut off at the length limit; 0 tokens" in text
    assert "(empty)" in text
    assert "It must not leave this site" in text


def test_marks_are_signs_where_there_are_no_colours_and_styles_elsewhere():
    plain = printed(examples(), 200)
    assert "[-none" in plain
    assert "{+A right+}" in plain
    styled = printed(examples(), 200, colours=True)
    assert "[-" not in STYLE.sub("", styled)
    # Struck through, and underlined: not by colour alone.
    assert re.search(r"\x1b\[[\d;]*\b9;31m", styled)
    assert re.search(r"\x1b\[[\d;]*\b4;32m", styled)


@pytest.mark.parametrize("colours", [False, True])
def test_hostile_text_cannot_act_on_the_terminal(colours):
    text = STYLE.sub("", printed(hostile_examples(), 200, colours=colours))
    assert "\x1b" not in text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", text)
    assert "<U+001B>" in text
    assert "[bold]b" in text.replace("[-", "").replace("{+", "")
    assert ":smile:" in text.replace("-]", "").replace("+}", "")


def test_hostile_styles_are_no_styles():
    from rich.text import Text

    raw = printed(hostile_examples(), 200, colours=True)
    links = [span for span in Text.from_ansi(raw).spans if "link" in str(span.style)]
    assert links == []
    assert "\x1b]8" not in raw


def test_terminal_that_knows_ascii_alone_gets_ascii():
    printed(hostile_examples(), 100, encoding="ascii").encode("ascii")
    printed(examples(), 100, encoding="latin-1")
