from __future__ import annotations

import pytest
from pydantic import ValidationError

from protocols.messages import InnerRecipe
from protocols.plan import Plan

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
