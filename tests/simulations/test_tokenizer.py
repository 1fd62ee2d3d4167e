"""The vocabulary that ships: made by the code beside it, from text in which nothing is planted."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from modeling.tokenizer import END_OF_NOTE, PADDING, default_tokenizer
from simulations.make_tokenizer import VOCABULARY, tokenizer_json
from simulations.synthetic_notes import PlantedFacts, write_export


@cache
def shipped() -> PreTrainedTokenizerFast:
    return default_tokenizer()


@pytest.fixture(scope="module")
def entries() -> list[str]:
    """What each entry of the vocabulary says, in lower case."""
    tokenizer = shipped()
    return [tokenizer.decode([i]).lower() for i in range(len(tokenizer))]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> PlantedFacts:
    """What the demo's export holds (its seed, its size)."""
    return write_export(tmp_path_factory.mktemp("export") / "notes.csv", hospitals=5, notes=2_000, seed=0)


def test_the_shipped_vocabulary_is_what_its_recipe_makes() -> None:
    file = json.loads(files("modeling").joinpath("tokenizer.json").read_text("utf-8"))
    assert file == json.loads(tokenizer_json()), "run: python -m simulations.make_tokenizer"


def test_the_vocabulary_has_its_size_and_its_special_tokens() -> None:
    tokenizer = shipped()
    assert len(tokenizer) == VOCABULARY
    assert tokenizer.convert_ids_to_tokens([0, 1]) == [END_OF_NOTE, PADDING]
    assert tokenizer.bos_token == tokenizer.eos_token == END_OF_NOTE
    assert tokenizer.pad_token == PADDING


def test_no_tracer_is_part_of_the_vocabulary(planted: PlantedFacts, entries: list[str]) -> None:
    tracers = [t.lower() for group in planted.tracers.values() for t in group]
    assert len(tracers) > 20
    joined = "\n".join(entries)
    for tracer in tracers:
        secret = tracer.removeprefix("zqx7-")
        assert tracer not in joined and secret not in joined
        # No half of it either: a vocabulary that had seen the tracer would have merged parts of it.
        assert all(secret[i : i + 6] not in joined for i in range(len(secret) - 5))


def test_no_planted_identifier_is_part_of_the_vocabulary(planted: PlantedFacts, entries: list[str]) -> None:
    identifiers = [(kind, i.lower()) for kind, group in planted.identifiers.items() for i in group]
    assert {kind for kind, _ in identifiers} >= {"phone", "ssn", "mrn", "email"}
    joined = "\n".join(entries)
    assert not [kind for kind, identifier in identifiers if identifier in joined]


def test_no_entry_holds_a_number_of_more_than_four_digits(entries: list[str]) -> None:
    """Record and telephone numbers are longer; doses and years are not."""
    assert not [e for e in entries if sum(c.isdigit() for c in e) > 4]


@given(st.text())
@example("Pt c/o CP.\n\n  BP 120/80,\ttemp 37\u00b0C \U0001f600")
def test_any_text_comes_back_from_its_tokens(text: str) -> None:
    tokenizer = shipped()
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text
