from __future__ import annotations

import json
import stat

import pytest
from tests_support import fednotes_here

from privacy.mechanism import Mechanism
from privacy.policy import PrivacyPolicy
from site_client.folder import SiteConfig, SiteFolder
from site_client.privacy_account import dataset_id, ledger_of
from site_client.receipts import ReceiptBook

MECHANISM = Mechanism(sampling_rate=0.05, noise_multiplier=2.0, max_grad_norm=1.0, max_records=4, expected_units=100.0)


def site_with(path, **privacy) -> SiteFolder:
    policy = PrivacyPolicy(**{"public_units": 2000, **privacy})
    return SiteFolder.create(path, SiteConfig(name="A", number=1, privacy=policy), pseudonym_key=b"k" * 32)


@pytest.fixture
def site(tmp_path) -> SiteFolder:
    return site_with(tmp_path / "site")


def run(*arguments: object) -> dict:
    done = fednotes_here("site", "privacy", *arguments, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def refused(*arguments: object) -> tuple[int, str]:
    done = fednotes_here("site", "privacy", *arguments)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    return done.returncode, " ".join(done.stderr.split())


def spend_some(site: SiteFolder) -> None:
    policy, dataset, ledger = site.config().privacy, dataset_id(site), ledger_of(site)
    ledger.begin_study("a", target=4, mechanism=MECHANISM, planned_steps=20, policy=policy, dataset=dataset)
    ledger.charge("a", 1, MECHANISM, 10, policy, dataset)
    ReceiptBook(site.receipts).append(kind="TrainReply", study="plain", round_number=1)
    ReceiptBook(site.receipts).append(kind="PrivateTrainReply", study="a", round_number=1)


def test_an_account_is_opened_once_and_its_dry_run_changes_nothing(site):
    dry = run("open", "--site", site.path, "--dry-run")
    assert dry["opened"] is False
    assert dry["fixed_for_life"] == {"dataset": dataset_id(site), "unit": "patient", "delta": 1e-5}
    assert not ledger_of(site).exists()
    assert not (site.path / "keys" / "statement.key").exists()
    assert run("open", "--site", site.path)["opened"] is True
    assert stat.S_IMODE((site.path / "keys" / "statement.key").stat().st_mode) == 0o600
    assert ledger_of(site).account().dataset == dataset_id(site)
    status, text = refused("open", "--site", site.path)
    assert (status, "There is a privacy ledger already" in text) == (2, True)


def test_open_says_what_is_missing_in_site_toml(tmp_path):
    status, text = refused("open", "--site", site_with(tmp_path / "a", public_units=0).path)
    assert (status, "set public_units in table [privacy] of site.toml" in text) == (2, True)
    status, text = refused("open", "--site", site_with(tmp_path / "b", delta=0.0005).path)
    assert (status, "is not below 1 / 2,000" in text) == (2, True)


def test_show_before_and_after(site):
    assert run("show", "--site", site.path) == {"ledger": "not opened", "studies_without_differential_privacy": []}
    run("open", "--site", site.path)
    spend_some(site)
    got = run("show", "--site", site.path)
    spent = got["spent"]["patient_level_epsilon"]
    assert 0 < spent < got["spent"]["patient_level_epsilon_rdp"]
    assert got["patient_level_epsilon_left"] == pytest.approx(10 - spent)
    assert got["studies"]["a"]["num_releases"] == 10
    assert got["studies_without_differential_privacy"] == ["plain"]
    done = fednotes_here("site", "privacy", "--site", site.path)
    assert done.returncode == 0
    assert "patient level epsilon limit: 10" in done.stdout
    assert "  study: plain" in done.stdout


@pytest.mark.slow
def test_plan_calculates_and_changes_nothing(site):
    run("open", "--site", site.path)
    before = ledger_of(site).path.read_bytes()
    options = ("--sampling-rate", 0.2, "--rounds", 2, "--steps", 5, "--site", site.path)
    got = run("plan", "--epsilon", 4, *options)
    assert 3.9 < got["study"]["patient_level_epsilon"] <= 4
    assert got["expected_units"] == 400
    assert got["allowed"] is True
    assert got["patient_level_epsilon_left"] == pytest.approx(6, abs=0.1)
    assert ledger_of(site).path.read_bytes() == before
    assert run("plan", "--epsilon", 12, *options)["allowed"] is False


def test_statement_is_signed_and_verified(site, tmp_path):
    run("open", "--site", site.path)
    spend_some(site)
    out, key = tmp_path / "statement.json", site.path / "keys" / "statement.pub"
    made = run("statement", "--out", out, "--site", site.path)
    assert made["num_releases"] == 10
    assert run("verify", out, "--key", key)["signature"] == "valid"
    assert fednotes_here("site", "privacy", "verify", out).returncode == 0
    status, text = refused("statement", "--out", out, "--site", site.path)
    assert (status, "exists" in text) == (2, True)
    out.write_text(out.read_text().replace('"num_releases": 10', '"num_releases": 1'))
    status, text = refused("verify", out, "--key", key)
    assert (status, "was changed" in text) == (1, True)


def test_a_broken_ledger_or_one_of_another_site_ends_with_a_message(site, tmp_path):
    run("open", "--site", site.path)
    other = SiteFolder.create(tmp_path / "o", SiteConfig(name="B", number=2, privacy=site.config().privacy))
    (other.path / "ledger").mkdir()
    (other.path / "ledger" / "ledger.jsonl").write_bytes(ledger_of(site).path.read_bytes())
    status, text = refused("show", "--site", other.path)
    assert (status, "is for data set" in text) == (2, True)
    ledger_of(site).path.unlink()
    for command in (("show",), ("statement", "--out", tmp_path / "s.json")):
        status, text = refused(*command, "--site", site.path)
        assert (status, "is missing" in text) == (1, True)


def test_options_stand_behind_the_command(site):
    status, text = refused("--site", site.path, "show")
    assert (status, "Options stand behind the command" in text) == (2, True)
    assert refused("show", "--site", site.path / "none")[0] == 2
