from __future__ import annotations

import pytest

from site_client.gates.judge import GATES
from site_client.rephrasing import second_opinion
from site_client.show.wording import ending_words, reason_words, share_words, verdict_words


def test_every_gate_and_the_second_opinion_are_put_in_plain_words():
    unknown = [n for n in (*(g.name for g in GATES), second_opinion.REASON) if "the check named" in reason_words(n)]
    assert unknown == []


def test_a_gate_that_is_not_known_is_named():
    assert reason_words("of\x1b_old") == "it failed the check named of<U+001B>_old"


def test_verdicts_read_as_a_line():
    assert verdict_words([]) == "Accepted"
    assert verdict_words(["numbers", "repetition"]) == (
        "Rejected: a number is missing, new or changed; it repeats itself"
    )


def test_endings_are_put_in_plain_words():
    assert ending_words("length") == "cut off at the length limit"
    assert ending_words("\x07") == "<U+0007>"


@pytest.mark.parametrize(
    ("accepted", "judged", "share"),
    [(0, 0, "-"), (0, 9, "0 %"), (9, 9, "100 %"), (1, 9_999, "1 %"), (9_998, 9_999, "99 %"), (2, 3, "67 %")],
)
def test_a_share_says_none_or_all_only_where_it_is_so(accepted, judged, share):
    assert share_words(accepted, judged) == share
