from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from site_client.show.differences import Change, Run, differences
from site_client.show.visible import visible

PLAIN = "the left right no 5 50 mg pain knee w/o of , . <b> BID twice daily 142/88 caf\u00e9"
WORDS = [*PLAIN.split(), "\n", "\x1b[0m", "\u202e"]
TEXTS = st.lists(st.sampled_from(WORDS), max_size=30).map(" ".join) | st.text(max_size=80)


def marked(runs: tuple[Run, ...], change: Change) -> list[str]:
    return [run.text for run in runs if run.change == change]


def sides(source: str, text: str) -> tuple[list[str], list[str]]:
    found = differences(source, text)
    return marked(found.source, "dropped"), marked(found.text, "new")


@settings(max_examples=300, deadline=None)
@given(TEXTS, TEXTS)
def test_runs_of_a_text_joined_are_that_text(source, text):
    found = differences(source, text)
    assert "".join(run.text for run in found.source) == visible(source)
    assert "".join(run.text for run in found.text) == visible(text)
    assert {run.change for run in found.source} <= {"same", "dropped", "moved"}
    assert {run.change for run in found.text} <= {"same", "new", "moved"}


@settings(max_examples=100, deadline=None)
@given(TEXTS)
def test_a_text_equals_itself(text):
    found = differences(text, text)
    assert {run.change for run in (*found.source, *found.text)} <= {"same"}
    assert found.missing == found.added == ()


def test_abbreviation_that_is_spelled_out_is_dropped_on_one_side_and_new_on_the_other():
    assert sides("Pt c/o CP today", "The patient complains of chest pain today") == (
        ["Pt c/o CP"],
        ["The patient complains of chest pain"],
    )


def test_white_space_punctuation_and_case_are_no_differences():
    assert sides("BP 142/88,\n10mg;  No pain", "bp 142/88. 10 mg - no  PAIN!") == ([], [])


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("lisinopril 10 mg BID", "lisinopril 10 mg twice daily"),
        ("lisinopril 10 mg tid", "lisinopril 10 milligrams three times a day"),
        ("67 y/o man", "67-year-old man"),
        ("platelets 1,200", "platelets 1200"),
        ("L knee w/o pain", "Left knee without pain"),
        ("RUL nodule, LLE pain", "Right upper lobe nodule, left lower extremity pain"),
        ("cefazolin 2 g q8h", "cefazolin 2 grams every 8 hours"),
        ("sleeps qhs prn", "sleeps at bedtime as needed"),
    ],
)
def test_common_abbreviations_of_numbers_units_and_sides_are_the_same_word(source, text):
    assert sides(source, text) == ([], [])


@pytest.mark.parametrize(
    ("source", "text", "missing", "added"),
    [
        ("Aspirin 81 mg", "Aspirin 810 mg", ("81",), ("810",)),
        ("6 mm nodule", "6 cm nodule", ("mm",), ("cm",)),
        ("Denies pain", "Has pain", ("Denies",), ()),
        ("He isn't ill", "He is ill", ("isn't",), ()),
        ("BP 142/88", "BP 142/80", ("142/88",), ("142/80",)),
        ("ASA daily", "ASA BID", ("daily",), ("BID",)),
        ("T-score -2.5", "T-score 2.5", ("-2.5",), ("2.5",)),
        ("WBC <5", "WBC >5", ("<",), (">",)),
        ("2 L oxygen", "2 mL oxygen", ("L",), ("mL",)),
        ("L4 fracture", "L5 fracture", ("L4",), ("L5",)),
        ("seen in 3 days", "seen in 3 weeks", ("days",), ("weeks",)),
    ],
)
def test_changed_number_unit_or_negation_is_to_be_checked(source, text, missing, added):
    found = differences(source, text)
    assert (found.missing, found.added) == (missing, added)


def test_sides_that_changed_places_are_to_be_checked_although_both_are_there():
    found = differences("Left knee pain, right hip pain", "Right knee pain, left hip pain")
    assert found.missing == ("Left", "right")
    assert found.added == ("Right", "left")


def test_reordered_sentences_are_moved_and_not_dropped():
    found = differences(
        "No fever was seen. Wound is clean and dry. Take 5 mg daily.",
        "Wound is clean and dry. Take 5 mg daily. No fever was seen.",
    )
    assert marked(found.source, "dropped") == marked(found.text, "new") == []
    assert marked(found.source, "moved") == ["No fever was seen"]
    assert marked(found.text, "moved") == ["No fever was seen"]
    assert found.missing == found.added == ()


def test_two_moves_that_cross_are_both_found():
    one, two, three = "alpha beta gamma delta epsilon", "one two three", "red green blue"
    found = differences(f"{one} {two} {three}", f"{three} {two} {one}")
    assert marked(found.source, "moved") == [f"{two} {three}"]
    assert marked(found.text, "moved") == [f"{three} {two}"]


def test_words_of_grammar_alone_are_marked_faintly_and_negations_never():
    added = [run for run in differences("pain", "the pain is").text if run.change == "new"]
    assert [(run.text, run.minor) for run in added] == [("the", True), ("is", True)]
    assert not any(run.minor for run in differences("pain", "no pain").text)


def test_a_lone_of_between_changes_is_part_of_them():
    assert sides("hx of CHF", "record of failure") == (["hx of CHF"], ["record of failure"])


def test_numbers_units_negations_and_sides_are_emphasised_where_nothing_changed_too():
    runs = differences(*["Denies L leg pain, 40 mg BID, SpO2 91%"] * 2).source
    kinds = [(part.text, part.kind) for run in runs for part in run.parts if part.kind]
    assert kinds == [
        ("Denies", "negation"),
        ("L", "side"),
        ("40", "number"),
        ("mg", "unit"),
        ("BID", "unit"),
        ("91", "number"),
        ("%", "unit"),
    ]


def test_texts_too_long_to_be_compared_come_back_unmarked_and_say_so():
    found = differences("a b " * 1500, "b c " * 1500)
    assert not found.compared
    assert {run.change for run in (*found.source, *found.text)} == {"same"}


def test_a_reply_that_repeats_itself_to_its_bound_takes_no_noticeable_time():
    started = time.monotonic()
    assert differences("the cat sat on the mat " * 50, "the cat the " * 600).compared
    assert time.monotonic() - started < 5
