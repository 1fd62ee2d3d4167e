"""What leaves a site is a frozen list: a new field must change this test in the same diff."""

from __future__ import annotations

from protocols.messages import outbound_kinds
from simulations.make_docs import bounds_of

FROZEN = {
    "HelloReply.contract_version: int: >= 1, <= 1000",
    "HelloReply.site: int: >= 0, <= 9999",
    "NoteLevelReply.delta: float: > 0, < 1, rounded",
    "NoteLevelReply.noise_multiplier: float: > 0, <= 1000000.0, rounded",
    "NoteLevelReply.note_level_epsilon: float: >= 0, <= 1000000.0, rounded",
    "NoteLevelReply.round: int: >= 1, <= 100000",
    "PatientLevelReply.delta: float: > 0, < 1, rounded",
    "PatientLevelReply.noise_multiplier: float: > 0, <= 1000000.0, rounded",
    "PatientLevelReply.patient_level_epsilon: float: >= 0, <= 1000000.0, rounded",
    "PatientLevelReply.round: int: >= 1, <= 100000",
    "RecordLevelReply.delta: float: > 0, < 1, rounded",
    "RecordLevelReply.noise_multiplier: float: > 0, <= 1000000.0, rounded",
    "RecordLevelReply.record_level_epsilon: float: >= 0, <= 1000000.0, rounded",
    "RecordLevelReply.round: int: >= 1, <= 100000",
    "TrainReply.corpus_tokens: int: >= 0, <= 1000000000000000, multiple of 1000",
    "TrainReply.round: int: >= 1, <= 100000",
    "TrainReply.train_loss: float: >= 0, <= 100, rounded",
    "TrainReply.train_tokens: int: >= 0, <= 1000000000000",
    "TrainReply.validation_bits: int: >= 0, <= 10000000000000",
    "TrainReply.validation_bytes: int: >= 0, <= 10000000000000, multiple of 1000",
}


def test_outbound_fields_are_the_frozen_list() -> None:
    found = {
        f"{kind.__name__}.{name}: {field.annotation.__name__}: {bounds_of(field)}"
        for kind in outbound_kinds()
        for name, field in kind.model_fields.items()
    }
    assert found == FROZEN


def test_every_outbound_field_says_why_it_leaves() -> None:
    for kind in outbound_kinds():
        for name, field in kind.model_fields.items():
            assert field.description and len(field.description) > 30, f"{kind.__name__}.{name} gives no reason"


def test_no_outbound_field_can_hold_text() -> None:
    for kind in outbound_kinds():
        for name, field in kind.model_fields.items():
            assert field.annotation in (int, float), f"{kind.__name__}.{name}"
