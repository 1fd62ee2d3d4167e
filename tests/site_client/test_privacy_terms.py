from __future__ import annotations

import pytest

from privacy.policy import PrivacyPolicy
from protocols.error_codes import ContractError, ErrorCode
from protocols.messages import PrivacyRecipe
from site_client.privacy_terms import mechanism_for, require_terms

POLICY = PrivacyPolicy(public_units=200, max_sampling_rate=0.5, max_records=8)
RECIPE = PrivacyRecipe(target_epsilon=8.0, sampling_rate=0.25, max_records=4, max_grad_norm=0.5)


def test_a_plan_within_the_policy_is_accepted():
    require_terms(RECIPE, POLICY)


@pytest.mark.parametrize(
    ("changes", "policy", "reason"),
    [
        ({"unit": "note"}, {}, "the plan protects the note, the site's policy the patient"),
        ({}, {"unit": "note"}, "the plan protects the patient, the site's policy the note"),
        ({}, {"public_units": 0}, "public_units is not set"),
        ({"sampling_rate": 0.6}, {}, "sampling rate 0.6 is above max_sampling_rate 0.5"),
        ({"max_records": 9}, {}, "9 records a unit are above max_records 8"),
        ({"sampling_rate": 0.01}, {}, "would expect 2 of 200 patients, fewer than 4"),
        ({}, {"delta": 0.005}, "delta 0.005 is not below 1 / public_units 200"),
    ],
)
def test_a_plan_beyond_the_policy_is_refused_and_the_setting_named(changes, policy, reason):
    with pytest.raises(ContractError, match=reason) as refused:
        require_terms(RECIPE.model_copy(update=changes), POLICY.model_copy(update=policy))
    assert refused.value.code == ErrorCode.PRIVACY_REFUSED


def test_the_denominator_is_made_of_public_numbers():
    mechanism = mechanism_for(RECIPE, POLICY, 1.5)
    assert mechanism.expected_units == 50.0
    assert (mechanism.noise_multiplier, mechanism.max_grad_norm, mechanism.max_records) == (1.5, 0.5, 4)
