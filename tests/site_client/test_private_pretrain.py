from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from tests_support import REPOSITORY

from modeling.arrays import to_arrays
from modeling.release import load_model
from privacy import witness
from privacy.accountant import PrivacyEvent, spend
from privacy.gradients import architectures
from privacy.policy import PrivacyPolicy
from privacy.private_step import PrivateStep
from protocols.error_codes import ContractError, ErrorCode
from protocols.messages import InnerRecipe, PrivacyRecipe, SiteLimits, TrainRequest
from site_client import private_pretrain
from site_client.audit.canaries import plant
from site_client.folder import SiteFolder
from site_client.pretrain import train_round
from site_client.privacy_account import ledger_of, open_account
from site_client.private_pretrain import PrivateUpdate, train_private_round
from site_client.receipts import ReceiptBook

RECIPE = InnerRecipe(steps=2, rows=1, row_length=32, peak_lr=0.01, packing="patient")
PRIVACY = PrivacyRecipe(target_epsilon=8.0, sampling_rate=0.5, max_records=2, max_grad_norm=0.5)
POLICY = PrivacyPolicy(public_units=12, max_epsilon=9.0, backend="loop")


@pytest.fixture(scope="module")
def weights(model_folder):
    return to_arrays(load_model(model_folder)[0])


@pytest.fixture
def private_site(make_site) -> Callable[..., SiteFolder]:
    def make(policy: PrivacyPolicy = POLICY, *, opened: bool = True, **fields: object) -> SiteFolder:
        folder = make_site(**fields)
        write_policy(folder, policy)
        if opened:
            open_account(folder)
        return folder

    return make


def write_policy(folder: SiteFolder, policy: PrivacyPolicy) -> None:
    path = folder.path / "site.toml"
    kept = path.read_text().split("\n[privacy]")[0]
    lines = [f"{name} = {json.dumps(value)}" for name, value in policy.model_dump(mode="json").items()]
    path.write_text("\n".join([kept, "[privacy]", *lines, ""]))


def request(number: int, **fields: object) -> TrainRequest:
    values = {"study": "s", "round": number, "rounds": 3, "corpus": "real", "recipe": RECIPE, "privacy": PRIVACY}
    return TrainRequest(**{**values, **fields})  # type: ignore[arg-type]


def moved(weights, update: PrivateUpdate):
    return {name: value + update.change[name] for name, value in weights.items()}


def charges(folder: SiteFolder) -> list[tuple[str, int]]:
    return [(charge.study, charge.round) for charge in ledger_of(folder).account().charges]


def refused(folder: SiteFolder, code: ErrorCode, weights, **fields: object) -> str:
    with pytest.raises(ContractError) as error:
        train_private_round(folder, request(1, **fields), weights)
    assert error.value.code == code
    return error.value.detail


# What a round does


def test_three_rounds_cost_what_was_asked_for_and_say_so(private_site, weights):
    folder, current, spent = private_site(), weights, []
    for number in (1, 2, 3):
        update = train_private_round(folder, request(number), current)
        current = moved(current, update)
        spent.append(update.spent)
    assert spent == sorted(spent)
    assert 7.9 < spent[-1] <= 8.0
    assert charges(folder) == [("s", 1), ("s", 2), ("s", 3)]
    event = PrivacyEvent(0.5, update.noise_multiplier, 6)
    assert spent[-1] == spend([event], 1e-5, "patient").pld_bound
    assert (update.unit, update.delta) == ("patient", 1e-5)
    assert any(np.abs(current[name] - weights[name]).max() > 0 for name in weights)


def test_the_same_request_gives_the_same_release_for_nothing_and_other_weights_cost_again(private_site, weights):
    folder = private_site()
    first = train_private_round(folder, request(1), weights)
    again = train_private_round(folder, request(1), weights)
    assert all(np.array_equal(first.change[name], again.change[name]) for name in weights)
    assert again.spent == first.spent
    assert charges(folder) == [("s", 1)]
    train_private_round(folder, request(1), moved(weights, first))
    assert charges(folder) == [("s", 1), ("s", 1)]


@pytest.mark.slow
def test_the_seed_of_the_experiment_does_not_decide_the_noise(private_site, weights):
    updates = []
    for number in (1, 2):
        torch.manual_seed(0)
        np.random.seed(0)
        updates.append(train_private_round(private_site(number=number), request(1), weights))
    assert not any(np.array_equal(updates[0].change[name], updates[1].change[name]) for name in weights)


def test_nothing_secret_is_kept_beside_the_release(private_site, weights):
    """No state of the noise survives: a restored checkpoint must not bring back the noise of before."""
    folder = private_site()
    train_private_round(folder, request(1), weights)
    states = folder.checkpoints("s") / "private"
    assert {p.name for p in states.iterdir()} == {"optimizer-000001.pt", "rounds.jsonl", "released.safetensors"}
    assert set(json.loads((states / "rounds.jsonl").read_text())) == {
        "round",
        "units",
        "loss",
        "clipped",
    }


def test_moments_of_an_open_round_never_enter_a_private_one(private_site, weights):
    """The state of an optimizer after an open round holds bare gradients of patients."""
    folder = private_site()
    train_round(folder, request(1, privacy=None, recipe=RECIPE.model_copy(update={"rows": 16})), weights)
    seen = []
    with mock.patch.object(
        private_pretrain, "restore", lambda optimizer, states, _: seen.append(list(states.glob("*")))
    ):
        train_private_round(folder, request(2), weights)
    assert list(folder.checkpoints("s").glob("optimizer-*.pt"))
    assert not [path for path in seen[0] if path.name.startswith("optimizer")]


def test_a_note_level_account_has_notes_as_units(private_site, weights):
    policy = POLICY.model_copy(update={"unit": "note", "public_units": 24})
    folder = private_site(policy)
    update = train_private_round(folder, request(1, privacy=PRIVACY.model_copy(update={"unit": "note"})), weights)
    assert update.unit == "note"
    assert ledger_of(folder).account().unit == "note"


@pytest.mark.slow
def test_what_a_study_may_spend_shrinks_with_what_others_spent(private_site, weights):
    folder = private_site()
    for number in (1, 2, 3):
        one = train_private_round(folder, request(number), weights)
    other = train_private_round(folder, request(1, study="later"), weights)
    assert other.noise_multiplier > 1.5 * one.noise_multiplier  # 1 of 9 is left, where the first study took 8
    account = ledger_of(folder).account()
    assert account.spent().pld_bound <= 9.0


def test_what_is_computed_is_what_was_charged(private_site, weights):
    """Steps, records of a patient and the units of a batch, through the loop that really trains."""
    recipe = RECIPE.model_copy(update={"steps": 30, "row_length": 16})
    folder, seen, release = private_site(), [], PrivateStep.release

    def spy(self, batches):
        parts = list(batches)
        seen.append(parts)
        return release(self, parts)

    with mock.patch.object(PrivateStep, "release", spy):
        train_private_round(folder, request(1, recipe=recipe), weights)
    (charge,) = ledger_of(folder).account().charges
    assert len(seen) == charge.steps == 30
    drawn = [sum(part.num_units for part in parts) for parts in seen]
    assert abs(sum(drawn) / (30 * 12) - charge.sampling_rate) < 0.13  # five standard errors
    for part in (part for parts in seen for part in parts):
        records = torch.bincount(part.unit, minlength=part.num_units)
        assert records.min() >= 1 and records.max() <= PRIVACY.max_records
        first_rows = part.inputs["input_ids"][torch.cumsum(records, 0) - records]
        assert len(first_rows) == part.num_units


def test_an_unchecked_architecture_is_refused_before_anything_is_charged(private_site, weights, monkeypatch):
    monkeypatch.setattr(architectures, "CHECKED", ())
    folder = private_site()
    assert "was not checked" in refused(folder, ErrorCode.PRIVACY_REFUSED, weights)
    assert charges(folder) == []


def test_accountants_that_disagree_let_nothing_be_computed(private_site, weights, monkeypatch):
    monkeypatch.setattr(witness, "prv_epsilon", lambda events, delta: 99.0)
    monkeypatch.setattr(private_pretrain, "private_steps", lambda *a, **k: pytest.fail("computed"))
    refused(private_site(), ErrorCode.PRIVACY_REFUSED, weights)


def test_a_ledger_that_is_older_than_the_receipts_is_refused(private_site, weights):
    folder = private_site()
    facts = {"round": 1, "noise_multiplier": 1.0, "delta": 1e-5, "patient_level_epsilon": 3.0}
    ReceiptBook(folder.receipts).append(kind="PatientLevelReply", study="gone", round_number=1, fields=facts)
    assert "older than the receipts" in refused(folder, ErrorCode.PRIVACY_REFUSED, weights)
    assert charges(folder) == []


def test_a_plan_that_changes_under_way_is_refused(private_site, weights):
    folder = private_site()
    train_private_round(folder, request(1), weights)
    with pytest.raises(ContractError) as error:
        train_private_round(folder, request(2, rounds=9), weights)
    assert error.value.code == ErrorCode.PRIVACY_REFUSED
    assert "began with target" in error.value.detail


# Who is refused


def test_limit_of_the_site_ends_a_study_whatever_the_plan_says(private_site, weights):
    folder = private_site()
    for number in (1, 2, 3):
        train_private_round(folder, request(number), weights)
    with pytest.raises(ContractError) as error:
        for number in (1, 2, 3):  # the coordinator asks for the rounds again, from other weights
            train_private_round(folder, request(number), {k: v + 1e-3 * number for k, v in weights.items()})
    assert error.value.code == ErrorCode.PRIVACY_SPENT
    assert "9" in error.value.detail and "patient-level epsilon" in error.value.detail
    assert ledger_of(folder).account().spent().pld_bound <= 9.0


@pytest.mark.slow
def test_a_plan_with_more_epsilon_than_the_site_has_gets_the_sites(private_site, weights):
    folder = private_site()
    generous = PRIVACY.model_copy(update={"target_epsilon": 900.0})
    updates = [train_private_round(folder, request(n, privacy=generous), weights) for n in (1, 2, 3)]
    assert updates[-1].spent <= 9.0


def test_a_site_that_asks_for_privacy_trains_no_other_way(private_site, weights):
    folder = private_site(POLICY.model_copy(update={"required": True}))
    with pytest.raises(ContractError) as error:
        train_round(folder, request(1, privacy=None), weights)
    assert error.value.code == ErrorCode.PRIVACY_REQUIRED
    train_private_round(folder, request(1), weights)


def test_an_account_that_was_never_opened_or_is_gone_is_a_refusal(private_site, weights):
    assert "privacy ledger" in refused(private_site(opened=False), ErrorCode.PRIVACY_REFUSED, weights)
    folder = private_site(number=8)
    train_private_round(folder, request(1), weights)
    (folder.ledger / "ledger.jsonl").unlink()
    (folder.checkpoints("s") / "private" / "released.safetensors").unlink()
    refused(folder, ErrorCode.PRIVACY_REFUSED, weights)


def test_a_ledger_of_another_site_is_refused(private_site, weights):
    one, other = private_site(number=1), private_site(number=2)
    (one.ledger / "ledger.jsonl").write_bytes((other.ledger / "ledger.jsonl").read_bytes())
    head = Path("keys", "ledger-head.json")
    (one.path / head).write_bytes((other.path / head).read_bytes())
    assert "data set" in refused(one, ErrorCode.PRIVACY_REFUSED, weights)


@pytest.mark.parametrize("change", [{"delta": 1e-6}, {"unit": "note"}])
def test_delta_and_unit_hold_for_the_life_of_the_data_set(private_site, weights, change):
    folder = private_site()
    write_policy(folder, POLICY.model_copy(update=change))
    unit = PRIVACY.model_copy(update={"unit": change.get("unit", "patient")})
    assert next(iter(change)) in refused(folder, ErrorCode.PRIVACY_REFUSED, weights, privacy=unit)


@pytest.mark.slow
def test_delta_has_to_stay_below_one_over_the_true_number_of_patients_too(private_site, weights):
    folder = private_site(POLICY.model_copy(update={"delta": 0.083}))  # 1 / 12 = 0.0833 publicly, 13 in truth
    assert train_private_round(folder, request(1), weights).delta == 0.083
    crowded = private_site(
        POLICY.model_copy(update={"delta": 0.083}), number=9, patients={"train": 13, "validation": 3}
    )
    assert "delta" in refused(crowded, ErrorCode.PRIVACY_REFUSED, weights)
    assert charges(crowded) == []


def test_too_few_patients_are_refused_before_anything_is_charged(private_site, weights):
    folder = private_site(limits=SiteLimits(min_patients=13))
    refused(folder, ErrorCode.TOO_FEW_PATIENTS, weights)
    assert charges(folder) == []


def test_planted_canaries_are_no_patients(private_site, weights):
    folder = private_site(limits=SiteLimits(min_patients=12))
    plant(folder, 16)
    assert train_private_round(folder, request(1), weights).round == 1
    short = private_site(number=9, limits=SiteLimits(min_patients=13), patients={"train": 13, "validation": 3})
    plant(short, 16)
    (short.path / "site.toml").write_text((short.path / "site.toml").read_text().replace("13\n", "14\n", 1))
    refused(short, ErrorCode.TOO_FEW_PATIENTS, weights)
    assert charges(short) == []


def test_other_weights_than_the_models_are_refused_before_anything_is_charged(private_site, weights):
    folder = private_site()
    first = next(iter(weights))
    refused(folder, ErrorCode.MANIFEST_MISMATCH, {**weights, first: weights[first][:-1]})
    assert charges(folder) == []


# A process that dies


_DIES = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = {path!r}
from modeling.arrays import to_arrays
from modeling.release import load_model
from protocols.messages import TrainRequest
from site_client import private_pretrain
from site_client import private_pretrain
from site_client.audit.canaries import plant
from site_client.folder import SiteFolder

def die(*arguments, **named):
    os.kill(os.getpid(), signal.SIGKILL)

setattr(private_pretrain, {where!r}, die)
folder = SiteFolder(Path({site!r}))
private_pretrain.train_private_round(
    folder, TrainRequest.model_validate_json({request!r}), to_arrays(load_model(folder.model)[0])
)
"""


@pytest.mark.parametrize(
    ("where", "asked_again"),
    [("private_steps", 2), ("_write", 2), ("_rows", 1)],
    ids=["between charge and step", "between step and reply", "before the charge"],
)
@pytest.mark.slow
def test_kill_9_never_under_counts(private_site, weights, where, asked_again):
    folder = private_site()
    program = _DIES.format(
        path=[str(REPOSITORY)], where=where, site=str(folder.path), request=request(1).model_dump_json()
    )
    died = subprocess.run([sys.executable, "-c", program], capture_output=True, env={**os.environ}, timeout=120)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()[-500:]
    assert len(charges(folder)) == asked_again - 1  # what may have been computed is paid
    update = train_private_round(folder, request(1), weights)
    assert len(charges(folder)) == asked_again
    paid = spend([PrivacyEvent(0.5, update.noise_multiplier, 2 * asked_again)], 1e-5, "patient").pld_bound
    assert update.spent == paid
