from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from site_client.leakage.spread import Tally
from site_client.leakage.verbatim import Span, longest_shared
from site_client.leakage.words import Words

WORDS = st.lists(st.sampled_from("abcd"), max_size=25)


def longest(source: str, text: str) -> Span:
    return longest_shared(Words(source), Words(text), text)


def test_case_and_punctuation_do_not_count():
    assert np.array_equal(Words("He DENIES chest-pain.").runs(4), Words("he denies: chest, pain").runs(4))


def test_runs_are_equal_where_the_words_are_wherever_they_stand():
    one, other = Words("zero one two three four").runs(3), Words("one two three nine").runs(3)
    assert list(np.isin(one, other)) == [False, True, False]


def test_order_of_words_counts():
    assert Words("chest pain").runs(2)[0] != Words("pain chest").runs(2)[0]


def test_text_that_is_too_short_has_no_run():
    assert len(Words("two words").runs(3)) == len(Words("").runs(1)) == 0


@given(WORDS, st.integers(1, 6))
def test_distinct_runs_are_as_many_as_distinct_tuples(words, n):
    tuples = {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}
    assert len(Words(" ".join(words)).distinct(n)) == len(tuples)


def test_copy_of_the_source_is_one_span_of_its_whole_length():
    text = "The wound is clean, and dry without drainage."
    assert longest(text, text) == Span(8, len(text) - 1)


def test_longest_span_is_found_inside_other_words():
    source = "Patient was admitted. Continue lisinopril 10 mg daily at home. Follow up."
    text = "Going home on a pill: continue Lisinopril, 10 mg daily, says the doctor."
    assert longest(source, text) == Span(5, len("continue Lisinopril, 10 mg daily"))


def test_texts_without_a_common_word_share_nothing():
    assert longest("alpha beta", "gamma delta") == longest("", "x") == longest("x", "") == Span(0, 0)


@given(WORDS, WORDS)
def test_longest_span_equals_that_of_trying_all(source, text):
    def runs(words, n):
        return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}

    expected = max((n for n in range(1, 26) if runs(source, n) & runs(text, n)), default=0)
    assert longest(" ".join(source), " ".join(text)).words == expected


def test_tally_gives_the_places_of_a_distribution():
    tally = Tally()
    for value in range(1, 101):
        tally.add(value)
    assert tuple(tally.spread().model_dump().values()) == (50, 95, 100)
    assert tally.share_above(80) == 0.2
    assert tuple(Tally().spread().model_dump().values()) == (0, 0, 0)
    assert Tally().share_above(0) == 0
