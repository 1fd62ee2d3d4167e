from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from site_client.show.visible import visible


@given(st.text())
def test_no_character_acts_and_every_text_can_be_written(text):
    shown = visible(text)
    assert all(c in "\n\t" or unicodedata.category(c) not in {"Cc", "Cf", "Cs"} for c in shown)
    shown.encode()
    assert visible(shown) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "<U+001B>[31mred"),
        ("\x9b31m", "<U+009B>31m"),
        ("\x00\x07\x08\x7f", "<U+0000><U+0007><U+0008><U+007F>"),
        ("a\u202eb\u2066c\u200d", "a<U+202E>b<U+2066>c<U+200D>"),
        ("\ud800", "<U+D800>"),
        ("\U000e0041", "<U+E0041>"),
        ("a\r\nb\rc\u2028d\te", "a\nb\nc\nd\te"),
        ("caf\u00e9 \u5bf8 37 \u00b0C", "caf\u00e9 \u5bf8 37 \u00b0C"),
    ],
)
def test_acting_characters_get_a_sign(text, shown):
    assert visible(text) == shown
