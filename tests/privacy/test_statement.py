from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from privacy import witness
from privacy.ledger import Ledger
from privacy.mechanism import Mechanism
from privacy.policy import PrivacyPolicy
from privacy.statement import make_statement, signing_key, verify_statement, write_statement
from protocols.errors import UsageError, WorkError

POLICY = PrivacyPolicy(public_units=2000)
MECHANISM = Mechanism(sampling_rate=0.05, noise_multiplier=2.0, max_grad_norm=1.0, max_records=4, expected_units=100.0)


@pytest.fixture(scope="module")
def signed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    ledger = Ledger(folder / "ledger", folder / "keys" / "head.json")
    ledger.open(dataset="d", unit="patient", delta=1e-5, public_units=2000)
    ledger.begin_study("a", target=4, mechanism=MECHANISM, planned_steps=20, policy=POLICY, dataset="d")
    for number in (1, 2, 2):
        ledger.charge("a", number, MECHANISM, 10, POLICY, "d")
    account, end = ledger.account_and_end()
    document = make_statement(
        account, end, limit=10.0, without_privacy=["plain", "plain"], key=signing_key(folder / "keys")
    )
    write_statement(folder / "statement.json", document)
    return folder


def test_statement_says_what_is_spent_and_by_whom(signed):
    content = verify_statement(signed / "statement.json", signed / "keys" / "statement.pub")
    spent = content["spent"]
    assert (
        0 < spent["patient_level_epsilon"] <= spent["patient_level_epsilon_prv"] <= spent["patient_level_epsilon_rdp"]
    )
    (study,) = content["studies"]
    assert (study["study"], study["rounds"], study["charges"]) == ("a", 2, 3)
    assert study["spent"]["num_releases"] == 30
    assert (study["noise_multiplier"], study["sampling_rate"], study["max_grad_norm"]) == (2.0, 0.05, 1.0)
    assert content["patient_level_epsilon_limit"] == 10.0
    assert content["ledger"]["count"] == 5
    assert len(content["ledger"]["sha256"]) == 64
    assert content["studies_without_differential_privacy"] == ["plain"]
    assert "VOID for plain" in content["guarantee"]


def test_no_key_is_called_epsilon_without_its_unit(signed):
    def keys(value: object) -> set[str]:
        if isinstance(value, dict):
            return set(value) | {k for v in value.values() for k in keys(v)}
        return {k for v in value for k in keys(v)} if isinstance(value, list) else set()

    named = {k for k in keys(json.loads((signed / "statement.json").read_text())) if "epsilon" in k}
    assert named
    assert all(k.startswith("patient_level_epsilon") for k in named), named


def test_private_key_is_its_owners_alone(signed):
    assert stat.S_IMODE((signed / "keys" / "statement.key").stat().st_mode) == 0o600


def change(text: str, how: str) -> str:
    match how:
        case "number":
            return text.replace('"num_releases": 30', '"num_releases": 3', 1)
        case "study":
            return text.replace('"plain"', '"other"', 1)
        case "white space":
            return text.replace('"delta"', ' "delta"', 1)
        case "field twice":
            return text.replace('"delta": 1e-05', '"delta": 1e-09,\n    "delta": 1e-05', 1)
        case "field more":
            return text.replace('"signature"', '"note": 1,\n  "signature"', 1)
        case "signature":
            start = text.index('"signature": "') + len('"signature": "')
            return text[:start] + ("0" if text[start] != "0" else "1") + text[start + 1 :]
        case "no signature":
            return json.dumps({"statement": json.loads(text)["statement"]})
        case "cut":
            return text[: len(text) // 2]
        case _:
            return "[]"


HOW = ("number", "study", "white space", "field twice", "field more", "signature", "no signature", "cut", "list")


@pytest.mark.parametrize("how", HOW)
def test_changed_statement_is_refused(signed, tmp_path, how):
    text = (signed / "statement.json").read_text()
    changed = change(text, how)
    assert changed != text
    (tmp_path / "s.json").write_text(changed)
    for key in (None, signed / "keys" / "statement.pub"):
        with pytest.raises(WorkError, match="was changed"):
            verify_statement(tmp_path / "s.json", key)


def test_statement_signed_anew_by_another_is_refused_with_the_hospitals_key(signed, tmp_path):
    content = json.loads((signed / "statement.json").read_text())["statement"]
    other = signing_key(tmp_path / "keys")
    from protocols.signing import canonical, public_pem

    content |= {"public_key": public_pem(other.public_key())}
    write_statement(tmp_path / "s.json", {"statement": content, "signature": other.sign(canonical(content)).hex()})
    assert verify_statement(tmp_path / "s.json")["dataset"] == "d"
    with pytest.raises(WorkError, match="was not signed with"):
        verify_statement(tmp_path / "s.json", signed / "keys" / "statement.pub")


def test_a_key_that_is_gone_is_not_made_anew(tmp_path):
    signing_key(tmp_path)
    assert signing_key(tmp_path).private_bytes_raw() == signing_key(tmp_path).private_bytes_raw()
    (tmp_path / "statement.key").write_text("x")
    with pytest.raises(UsageError, match="cannot be read"):
        signing_key(tmp_path)
    (tmp_path / "statement.key").unlink()
    with pytest.raises(UsageError, match="is missing"):
        signing_key(tmp_path)


def test_files_that_are_not_there_are_told(signed, tmp_path):
    with pytest.raises(UsageError, match=r"statement .* cannot be read"):
        verify_statement(tmp_path / "none.json")
    with pytest.raises(UsageError, match=r"public key .* cannot be read"):
        verify_statement(signed / "statement.json", tmp_path / "none.pub")


def test_nothing_is_signed_that_two_accountants_do_not_agree_on(signed, monkeypatch):
    account, end = Ledger(signed / "ledger", signed / "keys" / "head.json").account_and_end()
    monkeypatch.setattr(witness, "prv_epsilon", lambda *_: 99.0)
    with pytest.raises(WorkError, match="do not agree"):
        make_statement(account, end, limit=10.0, without_privacy=[], key=signing_key(signed / "keys"))
