from __future__ import annotations

import pytest
from pydantic import ValidationError

from protocols.messages import InnerRecipe, PrivacyRecipe
from protocols.plan import CentralNoise, OuterRecipe, Plan

PLAN = {
    "study": "study-1",
    "rounds": 2,
    "corpus": "real",
    "manifest_digest": "0" * 64,
    "recipe": InnerRecipe(steps=1, rows=1, row_length=16, peak_lr=0.1),
    "sites": 3,
    "quorum": 2,
}


def test_plan_comes_back_equal_from_json():
    plan = Plan(**PLAN)
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


def test_quorum_above_the_number_of_sites_is_refused():
    with pytest.raises(ValidationError, match="quorum is larger"):
        Plan(**{**PLAN, "quorum": 4})


@pytest.mark.parametrize(
    "wrong", [{"rounds": 0}, {"deadline_s": float("inf")}, {"manifest_digest": "abc"}, {"notes": "x"}]
)
def test_plan_with_a_wrong_setting_is_refused(wrong):
    with pytest.raises(ValidationError):
        Plan(**{**PLAN, **wrong})


def test_tokens_per_step_are_rows_times_row_length():
    assert InnerRecipe(steps=1, rows=6, row_length=32, peak_lr=0.1).tokens_per_step == 192


PRIVATE = {
    "recipe": InnerRecipe(steps=1, rows=1, row_length=16, peak_lr=0.1, packing="patient"),
    "outer": OuterRecipe(weights="equal"),
    "privacy": PrivacyRecipe(target_epsilon=8.0, sampling_rate=0.5),
}


def test_private_plan_comes_back_equal_from_json():
    plan = Plan(**{**PLAN, **PRIVATE, "central": CentralNoise(max_site_norm=1.0, noise_multiplier=1.0)})
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


def test_private_plan_never_lets_patients_share_a_row():
    with pytest.raises(ValidationError, match="needs packing 'patient'"):
        Plan(**{**PLAN, **PRIVATE, "recipe": PLAN["recipe"]})


def test_private_plan_never_repeats_text_by_what_all_patients_have():
    with pytest.raises(ValidationError, match="real-repeated"):
        Plan(**{**PLAN, **PRIVATE, "corpus": "real-repeated"})


@pytest.mark.parametrize("what", ["privacy", "central"])
def test_under_noise_a_hospital_is_not_weighed_by_its_private_size(what):
    noise = {"privacy": PRIVATE["privacy"], "central": CentralNoise(max_site_norm=1.0, noise_multiplier=1.0)}
    with pytest.raises(ValidationError, match="outer weights 'equal'"):
        Plan(**{**PLAN, "recipe": PRIVATE["recipe"], what: noise[what]})


@pytest.mark.parametrize(
    "wrong",
    [
        {"target_epsilon": 0.0},
        {"target_epsilon": -1.0},
        {"target_epsilon": float("inf")},
        {"sampling_rate": 0.0},
        {"sampling_rate": 1.5},
        {"max_records": 0},
        {"max_grad_norm": 0.0},
        {"unit": "hospital"},
        {"delta": 0.5},
    ],
)
def test_privacy_recipe_out_of_range_is_refused(wrong):
    with pytest.raises(ValidationError):
        PrivacyRecipe(**{"target_epsilon": 8.0, "sampling_rate": 0.5, **wrong})
