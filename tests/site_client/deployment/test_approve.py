from __future__ import annotations

import json

import pytest

from protocols.bundle import bundle_hash
from protocols.error_codes import ContractError
from protocols.errors import UsageError
from protocols.manifest import ParameterManifest, ParameterSpec
from protocols.messages import TrainRequest
from protocols.signing import own_key
from site_client.approval import read_approvals, write_approval
from site_client.approve import Tighter, approve, in_words, propose
from site_client.gateway.folder import GatewayFolder

from .consortium import MANIFEST, NUMBER, PLAN, PRIVACY, Coordinator, new_site


@pytest.fixture
def plan_file(tmp_path, coordinator):
    return coordinator.plan_file(tmp_path / "plan.json")


def refused(site, file, tighter=None) -> UsageError:
    with pytest.raises(UsageError) as caught:
        propose(site, file, tighter)
    assert caught.value.hint
    return caught.value


def test_a_plan_is_approved_with_the_sites_own_limits_and_bytes(enrolled, plan_file):
    proposal = propose(enrolled, plan_file)
    approve(enrolled, proposal)
    found = read_approvals(GatewayFolder(enrolled.gateway))["pilot"]
    assert found == proposal.approval
    assert (found.site, found.plan, found.manifest, found.bundle_hash) == (NUMBER, PLAN, MANIFEST, bundle_hash())
    most = 5_000 * 4 * 11 // 10 + 1_000_000
    assert (found.max_message_bytes, found.max_total_bytes) == (most, most * 4 * 3)
    assert found.limits.min_patients == 11
    assert set(found.versions) == {"fednotes", "flwr", "torch", "transformers"}
    found.admits(TrainRequest(study="pilot", round=4, rounds=4, corpus="real", recipe=PLAN.recipe))


def test_the_plain_words_hold_every_limit(enrolled, plan_file):
    text = "\n".join(in_words(propose(enrolled, plan_file)))
    for words in ("Study pilot of Test consortium", "number 7", "4 rounds", "20 steps", "5,000 numbers", "NONE"):
        assert words in text
    for words in ("fewer than 11 patients", "1,022,000 bytes a reply", "12,264,000 bytes in all", "no code comes"):
        assert words in text


def test_options_can_only_tighten(enrolled, plan_file):
    tight = propose(enrolled, plan_file, Tighter(max_message_bytes=50_000, max_total_bytes=60_000)).approval
    assert (tight.max_message_bytes, tight.max_total_bytes) == (50_000, 60_000)
    assert "--max-message-bytes" in str(refused(enrolled, plan_file, Tighter(max_message_bytes=10**9)))
    assert "--max-total-bytes" in str(refused(enrolled, plan_file, Tighter(max_total_bytes=10**12)))


def test_a_plan_that_was_changed_or_signed_by_somebody_else_is_refused(enrolled, plan_file, tmp_path):
    document = json.loads(plan_file.read_text())
    document["plan"]["rounds"] = 400
    plan_file.write_text(json.dumps(document))
    assert "was changed after it was signed" in str(refused(enrolled, plan_file))
    assert "is not signed by" in str(refused(enrolled, Coordinator().plan_file(tmp_path / "theirs.json")))


def test_a_plan_for_other_sites_another_model_or_another_version_is_refused(enrolled, coordinator, tmp_path):
    path = tmp_path / "plan.json"
    other_sites = PLAN.model_copy(update={"invited": (1, 2)})
    assert "this is site 7" in str(refused(enrolled, coordinator.plan_file(path, other_sites)))
    model = ParameterManifest(parameters=(ParameterSpec(name="w", shape=(2,)),))
    other_model = PLAN.model_copy(update={"manifest_digest": model.digest})
    assert "for another model" in str(refused(enrolled, coordinator.plan_file(path, other_model)))
    coordinator.plan_file(path, bundle_hash="0" * 64, fednotes_version="9.9")
    assert "made with fednotes 9.9; this site runs fednotes" in str(refused(enrolled, path))
    (enrolled.model / "manifest.json").unlink()
    assert "has no manifest" in str(refused(enrolled, coordinator.plan_file(path)))


def test_a_plan_against_the_privacy_policy_is_refused(tmp_path, coordinator):
    policy = {"required": True, "public_units": 1_000, "delta": 1e-5, "max_sampling_rate": 0.1}
    site = new_site(tmp_path / "site", enrolled_at=coordinator, privacy=policy)
    path = tmp_path / "plan.json"
    assert "requires it ([privacy] required)" in str(refused(site, coordinator.plan_file(path)))
    rare = PRIVACY.model_copy(update={"sampling_rate": 0.5})
    too_often = coordinator.plan_file(path, PLAN.model_copy(update={"privacy": rare}))
    assert "max_sampling_rate" in str(refused(site, too_often))
    proposal = propose(site, coordinator.plan_file(path, PLAN.model_copy(update={"privacy": PRIVACY})))
    assert "at most epsilon 4" in "\n".join(in_words(proposal))
    assert "privacy account is not open" in proposal.warnings[0]


def test_a_site_that_is_not_enrolled_or_a_damaged_plan_is_told(site, enrolled_elsewhere, plan_file):
    assert "has no enrolment" in str(refused(site, plan_file))
    plan_file.write_text("{}")
    assert "is no valid SignedPlan" in str(refused(enrolled_elsewhere, plan_file))


@pytest.fixture
def enrolled_elsewhere(tmp_path, coordinator):
    return new_site(tmp_path / "elsewhere", enrolled_at=coordinator)


def test_a_second_approval_shows_what_changes_and_takes_the_place_of_the_first(enrolled, coordinator, plan_file):
    first = propose(enrolled, plan_file)
    assert first.replaces is None
    approve(enrolled, first)
    assert propose(enrolled, plan_file).replaces == ()
    longer = propose(enrolled, coordinator.plan_file(plan_file, PLAN.model_copy(update={"rounds": 9})))
    assert "plan.rounds: 4 -> 9" in longer.replaces
    approve(enrolled, longer)
    found = read_approvals(GatewayFolder(enrolled.gateway))
    assert [a.plan.rounds for a in found.values()] == [9]
    with pytest.raises(ContractError):
        first.approval.admits(TrainRequest(study="pilot", round=5, rounds=9, corpus="real", recipe=PLAN.recipe))


def test_an_approval_with_another_key_of_the_same_site_is_not_taken(enrolled, plan_file, tmp_path):
    keys = enrolled.path / "keys"
    for name in ("approval.key", "approval.pub"):
        (keys / name).rename(tmp_path / name)
    forged = own_key(keys / "approval.key", keys / "approval.pub")  # as a program that cannot read the real one would
    proposal = propose(enrolled, plan_file)
    with pytest.raises(UsageError, match="is not the key whose public half the gateway has"):
        approve(enrolled, proposal)
    write_approval(GatewayFolder(enrolled.gateway), proposal.approval, forged)
    with pytest.raises(UsageError, match=r"pilot\.json was changed after it was signed, or signed by somebody else"):
        read_approvals(GatewayFolder(enrolled.gateway))


def test_few_patients_in_the_settings_are_told(tmp_path, coordinator, plan_file):
    site = new_site(tmp_path / "site", enrolled_at=coordinator, limits={"min_patients": 3})
    assert "min_patients is 3" in propose(site, plan_file).warnings[0]
