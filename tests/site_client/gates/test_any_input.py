from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from site_client.gates.candidate import Allowance, Candidate
from site_client.gates.judge import GATES, judge

NAMES = {gate.name for gate in GATES}
WORDS = st.sampled_from(
    re.findall(
        r"\S+",
        """the left right no not denies 5 mg 10/12/09 b.i.d. mother Dr. possible mild ( ) , . : ; - / # 1. 2) II half
        and a of every 0 hours January 31 99 10:77 RUE x3 + & % \u00b0 \u00bd warfarin insulin q.6h. q h 1/0 13/45/99
        family history""",
    )
)
TEXTS = st.one_of(
    st.text(), st.lists(WORDS, max_size=60).map(" ".join), st.text(alphabet="0123456789 .,/-()", max_size=200)
)


@settings(deadline=None, max_examples=150)
@given(TEXTS, TEXTS, st.booleans())
def test_no_text_breaks_the_gates(source, text, allowed):
    allows = Allowance(explanations=allowed, questions=allowed, layout=allowed, selection=allowed)
    assert set(judge(Candidate(source=source, text=text, allows=allows))) <= NAMES


@pytest.mark.parametrize(
    "piece",
    [
        "1 2 3 4 5 6 7 8 9 ",
        "left right ",
        "no pain, ",
        "\x00\x07",
        "\U0001f600 ",
        "(",
        "a",
        "x-",
        "mother of Dr. A ",
        "warfarin 5 mg ",
        "5/5/05 ",
        "no ",
        "possible tumor. ",
        "q.6h. ",
    ],
)
@pytest.mark.parametrize("length", [9_900, 100_000])
def test_long_texts_take_bounded_time(piece, length):
    text = (piece * (length // len(piece) + 1))[:length]
    started = time.process_time()
    judge(Candidate(source=text, text=text + " end", allows=Allowance(explanations=True)))
    assert time.process_time() - started < 10


def test_texts_longer_than_the_gates_read_are_not_accepted():
    source = "He has pain in the knee. " * 500
    assert "length" in judge(Candidate(source=source, text=source.replace("He has", "There is")))
