from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.note_types import CleanNote
from site_client.chunks import MAX_TOKENS, chunk_note, sentences

NOTE = "The patient was seen. " * 300


def note(text: str, note_type: str = "Progress note") -> CleanNote:
    return CleanNote(note_key="n" * 32, patient_key="p" * 32, text=text, note_type=note_type)


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


@given(
    text=st.lists(st.sampled_from(["Stable.", "no", "fever", "BP 142/88.", "Plan:,", "x.,", "\n", "b.i.d.", "  "])).map(
        " ".join
    ),
    max_tokens=st.integers(1, 40),
)
def test_joined_chunks_keep_all_words_in_order_and_none_is_over_the_bound(text, max_tokens):
    chunks = chunk_note(note(text), max_tokens)
    assert [w for c in chunks for w in words(c.text)] == words(text)
    assert all(0 < len(c.text.split()) <= max(1, max_tokens / 1.4) for c in chunks)
    assert [c.index for c in chunks] == list(range(len(chunks)))


def test_chunks_are_filled_with_whole_sentences():
    chunks = chunk_note(note(NOTE))
    assert len(chunks) > 1
    assert all(c.text.endswith("seen.") for c in chunks)
    assert all(len(c.text.split()) * 1.4 <= MAX_TOKENS for c in chunks)
    assert all((len(c.text.split()) + 4) * 1.4 > MAX_TOKENS for c in chunks[:-1])  # one more would not fit


def test_one_sentence_longer_than_the_bound_is_cut_at_words():
    text = " ".join(f"word{i}" for i in range(50))
    chunks = chunk_note(note(text), max_tokens=14)
    assert [len(c.text.split()) for c in chunks] == [10] * 5
    assert " ".join(c.text for c in chunks) == text


def test_chunk_carries_its_lineage_and_its_header_apart_from_the_text():
    first, second = chunk_note(note("One two three. Four five six."), max_tokens=5)
    assert (first.chunk_key, second.chunk_key) == ("n" * 32 + "-0", "n" * 32 + "-1")
    assert (second.note_key, second.patient_key) == ("n" * 32, "p" * 32)
    assert second.header == "Note type: Progress note"
    assert (first.text, second.text) == ("One two three.", "Four five six.")
    assert chunk_note(note("x", note_type=""))[0].header == ""


@pytest.mark.parametrize("text", ["", " ", "\n\n  \n"])
def test_empty_note_has_no_chunks(text):
    assert chunk_note(note(text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "Seen by Dr. A in clinic",
        "Seen by Dr. Adams today",
        "Incised with a No. 10 blade",
        "Takes metoprolol b.i.d. 25 mg",
        "Takes it q.i.d. Never missed",
        "Mr. J. Smith is here",
        "Drug A vs. Drug B",
        "Mrs. Ng and Ms. Ode came",
        "Temp 98.6 and 2.5 mg",
    ],
)
def test_titles_initials_and_doses_do_not_end_a_sentence(text):
    assert list(sentences(text)) == [text]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("He is well. She is not.", ["He is well. ", "She is not."]),
        ("Pain? Yes! 3 days.", ["Pain? ", "Yes! ", "3 days."]),
        ("ANESTHESIA:, General.,DRAINS:, None", ["ANESTHESIA:, ", "General.,", "DRAINS:, ", "None"]),
        ("Stable.,  Continue.", ["Stable.,  ", "Continue."]),
        ("Line one\nline two", ["Line one\n", "line two"]),
        ("Meds. - aspirin", ["Meds. ", "- aspirin"]),
        ("see approx. five", ["see approx. five"]),
    ],
)
def test_sentences_end_at_marks_and_lost_or_kept_line_breaks(text, pieces):
    assert list(sentences(text)) == pieces


@given(text=st.text(max_size=200))
def test_sentences_joined_are_the_text(text):
    assert "".join(sentences(text)) == text
