from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocols.error_codes import ContractError, ErrorCode
from protocols.errors import UsageError
from protocols.manifest import ParameterManifest, ParameterSpec
from protocols.messages import InnerRecipe, PrivacyRecipe, SiteLimits, TrainRequest
from protocols.plan import OuterRecipe, Plan
from protocols.signing import own_key
from site_client.approval import Approval, read_approvals, withdraw, write_approval
from site_client.gateway.folder import GatewayFolder

MANIFEST = ParameterManifest(parameters=(ParameterSpec(name="w", shape=(4, 3)),))
RECIPE = InnerRecipe(steps=20, rows=4, row_length=64, peak_lr=1e-3, packing="patient")
PRIVACY = PrivacyRecipe(target_epsilon=4.0, sampling_rate=0.05)
PLAN = Plan(
    study="pilot",
    rounds=5,
    corpus="real",
    manifest_digest=MANIFEST.digest,
    recipe=RECIPE,
    outer=OuterRecipe(weights="equal"),
    sites=2,
    quorum=1,
    privacy=PRIVACY,
)


def approval_of(plan: Plan) -> Approval:
    return Approval(
        site=3,
        plan=plan,
        manifest=MANIFEST,
        bundle_hash="0" * 64,
        versions={"fednotes": "0.6"},
        limits=SiteLimits(),
        max_message_bytes=1_000,
        max_total_bytes=10_000,
        approved_at="2026-01-02T03:04:05+00:00",
    )


APPROVAL = approval_of(PLAN)
OPEN = approval_of(PLAN.model_copy(update={"privacy": None}))


def request(**changes) -> TrainRequest:
    fields = {"study": "pilot", "round": 1, "rounds": 5, "corpus": "real", "recipe": RECIPE, "privacy": PRIVACY}
    return TrainRequest(**(fields | changes))


def refused(approval: Approval, asked: TrainRequest) -> str:
    with pytest.raises(ContractError) as caught:
        approval.admits(asked)
    assert caught.value.code is ErrorCode.PLAN_NOT_APPROVED
    return caught.value.detail


@given(
    steps=st.integers(1, 20), rounds=st.integers(1, 5), epsilon=st.floats(0.01, 4.0, allow_nan=False), data=st.data()
)
def test_what_was_approved_and_whatever_is_tighter_passes(steps, rounds, epsilon, data):
    asked = request(
        round=data.draw(st.integers(1, rounds)),
        rounds=rounds,
        recipe=RECIPE.model_copy(update={"steps": steps}),
        privacy=PRIVACY.model_copy(update={"target_epsilon": epsilon}),
    )
    APPROVAL.admits(asked)
    OPEN.admits(asked)
    OPEN.admits(asked.model_copy(update={"privacy": None}))


@pytest.mark.parametrize("field", sorted(set(InnerRecipe.model_fields) - {"steps"}))
def test_no_other_setting_of_the_recipe_may_differ_in_either_direction(field):
    plan = PLAN.model_copy(update={"privacy": None, "recipe": RECIPE.model_copy(update={"warmup_steps": 5})})
    value = getattr(plan.recipe, field)
    others = ["stream"] if field == "packing" else [value + 1, value * 2 + 3, value / 2 - 1]
    for other in others:
        changed = plan.recipe.model_copy(update={field: other})
        assert refused(approval_of(plan), request(privacy=None).model_copy(update={"recipe": changed})) == "recipe"


@pytest.mark.parametrize("field", sorted(set(PrivacyRecipe.model_fields) - {"target_epsilon"}))
def test_no_other_setting_of_the_privacy_may_differ(field):
    other = "note" if field == "unit" else getattr(PRIVACY, field) / 2
    changed = PRIVACY.model_copy(update={field: other})
    assert refused(APPROVAL, request().model_copy(update={"privacy": changed})) == "privacy"


@given(more=st.integers(1, 10_000))
def test_more_of_anything_is_refused(more):
    steps = RECIPE.model_copy(update={"steps": 20 + more})
    epsilon = PRIVACY.model_copy(update={"target_epsilon": 4.0 + more / 1e6})
    assert refused(APPROVAL, request(rounds=5 + more)) == "rounds"
    assert refused(APPROVAL, request(recipe=steps)) == "steps"
    assert refused(APPROVAL, request().model_copy(update={"privacy": epsilon})) == "privacy"


def test_another_study_another_corpus_and_dropped_privacy_are_refused():
    assert refused(APPROVAL, request(study="pilot-2")) == "study"
    assert refused(APPROVAL, request(corpus="synthetic")) == "corpus"
    assert refused(APPROVAL, request(privacy=None)) == "privacy"


def test_a_request_has_no_setting_that_the_approval_does_not_compare():
    compared = {"study", "round", "rounds", "corpus", "recipe", "privacy"}
    assert set(TrainRequest.model_fields) == compared


@pytest.fixture
def folder(tmp_path):
    return GatewayFolder(tmp_path / "gateway")


@pytest.fixture
def key(folder):
    return own_key(folder.path / "approval.key", folder.keys / "approval.pub")


def test_approvals_come_back_by_study_until_they_are_withdrawn(folder, key):
    second = approval_of(PLAN.model_copy(update={"study": "second"}))
    assert read_approvals(folder) == {}
    path = write_approval(folder, APPROVAL, key)
    write_approval(folder, second, key)
    assert (path, path.stat().st_mode & 0o777) == (folder.approvals / "pilot.json", 0o600)
    assert read_approvals(folder) == {"pilot": APPROVAL, "second": second}
    withdraw(folder, "pilot")
    assert read_approvals(folder) == {"second": second}
    for study in ("pilot", "../keys/approval", "/etc/hostname"):
        with pytest.raises(UsageError, match="no approval of study"):
            withdraw(folder, study)


def _leaves(value, path=()):
    if isinstance(value, dict):
        for name, below in value.items():
            yield from _leaves(below, (*path, name))
    elif isinstance(value, list):
        for number, below in enumerate(value):
            yield from _leaves(below, (*path, number))
    else:
        yield path


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(data=st.data())
def test_an_approval_that_was_changed_anywhere_is_refused_and_the_file_named(folder, key, data):
    path = write_approval(folder, APPROVAL, key)
    document = json.loads(path.read_text())
    where = data.draw(st.sampled_from(list(_leaves(document))))
    place = document
    for step in where[:-1]:
        place = place[step]
    old = place[where[-1]]
    place[where[-1]] = old + 1 if isinstance(old, int | float) else "f" * len(old) if isinstance(old, str) else 1
    path.write_text(json.dumps(document))
    with pytest.raises(UsageError, match=str(path)):
        read_approvals(folder)


def test_an_approval_signed_with_another_key_under_another_name_or_cut_is_refused(folder, key, tmp_path):
    path = write_approval(folder, APPROVAL, key)
    content = path.read_bytes()
    path.write_bytes(content[:200])
    with pytest.raises(UsageError, match="is damaged"):
        read_approvals(folder)
    path.unlink()
    (folder.approvals / "other.json").write_bytes(content)
    with pytest.raises(UsageError, match=r"other\.json is of study pilot"):
        read_approvals(folder)
    (folder.approvals / "other.json").unlink()
    write_approval(folder, APPROVAL, own_key(tmp_path / "x.key", tmp_path / "x.pub"))
    with pytest.raises(UsageError, match="signed by somebody else"):
        read_approvals(folder)
    (folder.keys / "approval.pub").unlink()
    with pytest.raises(UsageError, match=r"approval\.pub cannot be read"):
        read_approvals(folder)
