from __future__ import annotations

import pytest
from pydantic import ValidationError

from protocols.messages import HelloReply, InnerRecipe, Outbound, SiteLimits, TrainReply, TrainRequest

FACTS = {
    "round": 3,
    "train_tokens": 4_096,
    "corpus_tokens": 12_000,
    "train_loss": 2.5,
    "validation_bits": 900,
    "validation_bytes": 5_000,
}
RECIPE = {"steps": 5, "rows": 8, "row_length": 64, "peak_lr": 0.003}
SECRET = "Jane Roe 555-0100"


@pytest.mark.parametrize(("exact", "sent"), [(2.123456789, 2.1235), (0.00004, 0.0), (7.0, 7.0)])
def test_train_loss_is_cut_to_four_digits(exact, sent):
    assert TrainReply(**{**FACTS, "train_loss": exact}).train_loss == sent


@pytest.mark.parametrize("tokens", [1, 999, 1_001, 12_345])
def test_corpus_tokens_must_be_a_multiple_of_a_thousand(tokens):
    with pytest.raises(ValidationError, match="multiple of 1000"):
        TrainReply(**{**FACTS, "corpus_tokens": tokens})


@pytest.mark.parametrize(
    ("model", "values"),
    [
        (TrainReply, {**FACTS, "round": SECRET}),
        (TrainReply, {**FACTS, "train_loss": SECRET}),
        (HelloReply, {"site": SECRET, "contract_version": 1}),
        (TrainRequest, {"study": SECRET, "round": 1, "rounds": 1, "corpus": "real", "recipe": RECIPE}),
        (TrainRequest, {"study": "s", "round": 1, "rounds": 1, "corpus": SECRET, "recipe": RECIPE}),
        (TrainRequest, {"study": "s", "round": 1, "rounds": 1, "corpus": "real", "recipe": {**RECIPE, "rows": SECRET}}),
        (SiteLimits, {"min_patients": SECRET}),
    ],
)
def test_validation_error_never_shows_the_input(model, values):
    with pytest.raises(ValidationError) as caught:
        model(**values)
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value)


def test_unlisted_field_is_refused():
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        TrainReply(**FACTS, note="x")


def test_message_cannot_be_changed_after_it_was_checked():
    reply = TrainReply(**FACTS)
    with pytest.raises(ValidationError, match="frozen"):
        reply.train_loss = 3.0


def test_nothing_that_leaves_has_a_field_for_text():
    for model in (HelloReply, TrainReply):
        assert issubclass(model, Outbound)
        kinds = {name: field.annotation for name, field in model.model_fields.items()}
        assert set(kinds.values()) <= {int, float}, kinds
        assert all(field.description for field in model.model_fields.values())


@pytest.mark.parametrize("study", ["", "Study", "a b", "../etc", "-a", "a" * 65])
def test_study_name_is_safe_as_a_folder_name(study):
    with pytest.raises(ValidationError):
        TrainRequest(study=study, round=1, rounds=1, corpus="real", recipe=InnerRecipe(**RECIPE))
