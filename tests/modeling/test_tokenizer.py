from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modeling.tokenizer import END_OF_NOTE, PADDING, tokenizer_digest, train_tokenizer

TEXTS = ["the patient denies pain", "the patient reports pain and fever"] * 3


def test_vocabulary_has_at_most_the_size_asked_for():
    assert len(train_tokenizer(TEXTS, vocab_size=270)) <= 270
    assert len(train_tokenizer(TEXTS, vocab_size=258)) == 258


def test_frequent_words_become_single_tokens():
    tokenizer = train_tokenizer(TEXTS, vocab_size=300)
    assert len(tokenizer(" patient")["input_ids"]) < len(" patient")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_text_comes_back_equal(tokenizer, text):
    ids = tokenizer(text.replace("<|", "< |"), add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text.replace("<|", "< |")


def test_end_of_note_frames_and_padding_fills():
    tokenizer = train_tokenizer(TEXTS, vocab_size=300)
    assert tokenizer.eos_token == tokenizer.bos_token == END_OF_NOTE
    assert tokenizer.pad_token == PADDING
    assert tokenizer.eos_token_id != tokenizer.pad_token_id
    assert tokenizer("pain")["input_ids"] == tokenizer("pain", add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("other", [TEXTS[:1], ["entirely other words here"] * 4])
def test_digest_tells_vocabularies_apart(other):
    same = [tokenizer_digest(train_tokenizer(TEXTS, vocab_size=300)) for _ in range(2)]
    assert same[0] == same[1]
    assert tokenizer_digest(train_tokenizer(other, vocab_size=300)) != same[0]
