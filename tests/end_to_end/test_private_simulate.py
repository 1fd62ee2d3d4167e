"""The whole federated path under patient-level differential privacy, on Flower's real engine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests_support import command, fednotes, fednotes_here

from privacy.accountant import PrivacyEvent, spend
from simulations.results import Results
from site_client.folder import SiteFolder
from site_client.privacy_account import ledger_of
from site_client.receipts import ReceiptBook

pytestmark = pytest.mark.slow

STUDY = "federated-dp-real-plus-synthetic"


def words(export: Path, out: Path, *more: object) -> list[object]:
    options = ["--dp-epsilon", "8", "--dp-max-records", "1", "--dp-sampling-rate", "0.3"]
    return [
        "simulate",
        "--notes",
        export,
        "--site-by",
        "hospital",
        "--scenario",
        "smoke",
        *options,
        "--out",
        out,
        *more,
    ]


@pytest.fixture(scope="module")
def private_run(export: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "private"
    done = fednotes(*words(export, out, "--dp-central-noise", "2"))
    assert done.returncode == 0, done.stderr
    assert "patient-level epsilon" in done.stdout
    return out


def results_of(out: Path) -> Results:
    return Results.model_validate_json((out / "results.json").read_bytes())


def sites_of(out: Path) -> list[SiteFolder]:
    return [SiteFolder(path) for path in sorted((out / "sites").iterdir())]


def test_epsilon_is_told_by_round_and_site_and_is_what_the_ledgers_say(private_run: Path) -> None:
    results = results_of(private_run)
    arm = next(a for a in results.arms if a.name == "federated-dp")
    privacy = results.privacy
    assert privacy is not None and privacy.unit == "patient"
    assert len(arm.rounds) == 2
    for folder in sites_of(private_run):
        account, name = ledger_of(folder).account(), folder.config().name
        assert [(c.study, c.round) for c in account.charges] == [(STUDY, 1), (STUDY, 2)]
        for facts in arm.rounds:
            events = [c.event for c in account.charges if c.round <= facts.round]
            expected = spend(events, account.delta, account.unit).pld_bound
            assert facts.patient_level_epsilon[name] == pytest.approx(expected, abs=1e-4)
        assert privacy.by_site[name] == pytest.approx(account.spent().pld_bound, abs=1e-4)
    assert 7.5 < privacy.patient_level_epsilon <= 8.0
    assert arm.rounds[0].train_loss is None and not arm.rounds[0].bits_per_byte


def test_utility_stands_beside_the_same_run_without(private_run: Path) -> None:
    arms = {a.name: a for a in results_of(private_run).arms}
    assert set(arms) == {"federated", "federated-dp"}
    assert arms["federated"].corpus == arms["federated-dp"].corpus
    page = (private_run / "report.html").read_text()
    assert "with differential privacy than without" in page
    assert "Spent after each round, patient-level epsilon" in page


def test_central_noise_is_another_promise_in_another_column(private_run: Path) -> None:
    results = results_of(private_run)
    assert results.privacy is not None
    expected = spend([PrivacyEvent(1.0, 2.0, 2)], 1e-5, "site").pld_bound
    assert results.privacy.site_level_epsilon == pytest.approx(expected, abs=1e-6)
    assert results.privacy.site_level_epsilon != results.privacy.patient_level_epsilon
    assert "Hospital-level epsilon (central noise)" in (private_run / "report.html").read_text()


def test_what_left_under_privacy_is_receipted_and_nothing_else_left(private_run: Path) -> None:
    for folder in sites_of(private_run):
        private = [r for r in ReceiptBook(folder.receipts).read() if r.study == STUDY]
        assert [r.kind for r in private] == ["PatientLevelReply"] * 2
        for receipt in private:
            assert set(receipt.fields) == {"round", "noise_multiplier", "delta", "patient_level_epsilon"}


def test_released_model_is_the_private_one_and_its_card_says_so(private_run: Path) -> None:
    card = (private_run / "model" / "README.md").read_text()
    assert "federated-dp" in card
    assert "patient-level epsilon" in card and "hospital-level epsilon" in card


def test_a_run_killed_in_a_private_round_goes_on_and_every_attempt_is_paid(export: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    first = subprocess.Popen(
        command(*words(export, out)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    end = time.monotonic() + 300
    while not any('"kind":"charge"' in p.read_text() for p in out.glob("sites/*/ledger/ledger.jsonl")):
        assert first.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    done = fednotes(*words(export, out, "--resume", "--json"))
    assert done.returncode == 0, done.stderr
    results = Results.model_validate(json.loads(done.stdout))
    assert results.privacy is not None
    attempts = [len(ledger_of(folder).account().charges) for folder in sites_of(out)]
    assert max(attempts) > 2, "the attempt that was killed is paid beside the one that left"
    for folder in sites_of(out):
        account = ledger_of(folder).account()
        assert {c.round for c in account.charges} == {1, 2}
        assert results.privacy.by_site[folder.config().name] == pytest.approx(account.spent().pld_bound, abs=1e-4)
        released = len([r for r in ReceiptBook(folder.receipts).read() if r.kind == "PatientLevelReply"])
        assert len(account.charges) >= 2 and released >= 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--dp-epsilon", "0"], "--dp-epsilon"),
        (["--dp-epsilon", "-1"], "--dp-epsilon"),
        (["--dp-epsilon", "8", "--dp-clip", "0"], "--dp-clip"),
        (["--dp-epsilon", "8", "--dp-max-records", "0"], "--dp-max-records"),
        (["--dp-epsilon", "8", "--dp-sampling-rate", "1.5"], "--dp-sampling-rate"),
        (["--dp-epsilon", "8", "--dp-unit", "hospital"], "--dp-unit"),
        (["--dp-sampling-rate", "0.5"], "--dp-sampling-rate needs --dp-epsilon"),
        (["--dp-epsilon", "8", "--dp-delta", "0.1"], "Delta 0.1 is not below 1 /"),
    ],
)
def test_wrong_privacy_options_are_told_in_one_line(
    export: Path, tmp_path: Path, options: list[str], said: str
) -> None:
    done = fednotes_here(
        "simulate", "--notes", export, "--site-by", "hospital", "--scenario", "smoke", *options, "--out", tmp_path / "o"
    )
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_hospitals_too_small_for_the_sampling_rate_stop_the_study_by_code(export: Path, tmp_path: Path) -> None:
    options = ["--dp-epsilon", "8", "--dp-sampling-rate", "0.01"]
    done = fednotes(
        "simulate", "--notes", export, "--site-by", "hospital", "--scenario", "smoke", *options, "--out", tmp_path / "o"
    )
    assert done.returncode == 1
    assert "PRIVACY_REFUSED" in done.stderr
    log = next((tmp_path / "o" / "sites").glob("000-*/logs/site.log")).read_text()
    assert "fewer than 4" in log
