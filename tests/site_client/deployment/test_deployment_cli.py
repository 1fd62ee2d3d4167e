from __future__ import annotations

import json

import pytest
from tests_support import fednotes_here

from protocols.enrolment import EnrolmentRequest, read_document
from protocols.receipts import gateway_chain
from site_client.folder import SiteFolder
from site_client.gateway.folder import GatewayFolder

from .consortium import MANIFEST, Coordinator, answer_file, new_site


def test_a_site_goes_from_nothing_to_an_approval_and_back_by_commands(tmp_path, coordinator):
    site = tmp_path / "our-site"
    made = json.loads(fednotes_here("site", "init", site, "--name", "City Hospital", "--json").stdout)
    request = read_document(site / "enrolment-request.json", EnrolmentRequest)
    assert (made["number"], made["made"], made["request_fingerprint"]) == (0, True, request.fingerprint)
    (site / "model").mkdir()
    (site / "model" / "manifest.json").write_text(MANIFEST.model_dump_json())
    answer = answer_file(SiteFolder(site), coordinator)
    tried = json.loads(fednotes_here("site", "enroll", answer, "--site", site, "--dry-run", "--json").stdout)
    assert (tried["installed"], SiteFolder(site).config().number) == (False, 0)
    done = fednotes_here("site", "enroll", answer, "--site", site)
    assert done.returncode == 0, done.stderr
    assert "Compare the authority's fingerprint" in done.stdout
    assert SiteFolder(site).config().number == 7
    plan = coordinator.plan_file(tmp_path / "plan.json")
    looked = fednotes_here("site", "approve", plan, "--site", site, "--dry-run")
    assert "Nothing leaves that rests on fewer than 11 patients" in looked.stdout
    assert json.loads(fednotes_here("site", "approvals", "--site", site, "--json").stdout) == []
    approved = json.loads(fednotes_here("site", "approve", plan, "--site", site, "--yes", "--json").stdout)
    assert approved["approved"]
    (listed,) = json.loads(fednotes_here("site", "approvals", "--site", site, "--json").stdout)
    assert listed == approved["approval"]
    assert "pilot: at most 4 rounds" in fednotes_here("site", "approvals", "--site", site).stdout
    assert json.loads(fednotes_here("site", "status", "--site", site, "--json").stdout)["approved"] == ["pilot"]
    gone = fednotes_here("site", "approve", "--withdraw", "pilot", "--site", site, "--json")
    assert json.loads(gone.stdout) == {"study": "pilot", "withdrawn": True}
    again = fednotes_here("site", "approve", "--withdraw", "pilot", "--site", site)
    assert (again.returncode, "no approval of study" in again.stderr) == (2, True)


@pytest.fixture
def plan(tmp_path, coordinator):
    return coordinator.plan_file(tmp_path / "plan.json")


@pytest.mark.parametrize("said", ["n\n", ""])
def test_nothing_is_approved_without_a_yes(enrolled, plan, monkeypatch, said):
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO(said))
    done = fednotes_here("site", "approve", plan, "--site", enrolled.path)
    assert done.returncode == 1
    assert not list(GatewayFolder(enrolled.gateway).approvals.glob("*.json"))


def test_a_program_has_to_say_yes_or_look(enrolled, plan):
    done = fednotes_here("site", "approve", plan, "--site", enrolled.path, "--json")
    assert (done.returncode, "--yes" in done.stderr) == (2, True)
    neither = fednotes_here("site", "approve", "--site", enrolled.path)
    assert (neither.returncode, "--withdraw" in neither.stderr) == (2, True)


def test_a_wrong_plan_is_an_error_that_names_the_file(enrolled, tmp_path):
    theirs = Coordinator().plan_file(tmp_path / "theirs.json")
    done = fednotes_here("site", "approve", theirs, "--site", enrolled.path, "--yes")
    assert (done.returncode, "theirs.json is not signed by Test consortium" in done.stderr) == (2, True)


def test_renewal_prints_the_fingerprint_to_compare(enrolled):
    before = read_document(enrolled.path / "enrolment-request.json", EnrolmentRequest).fingerprint
    fednotes_here("site", "renew", "--site", enrolled.path, "--dry-run")
    assert read_document(enrolled.path / "enrolment-request.json", EnrolmentRequest).fingerprint == before
    facts = json.loads(fednotes_here("site", "renew", "--site", enrolled.path, "--json").stdout)
    assert facts["fingerprint"] != before
    assert facts["first_keys"] is False


def test_the_doctor_exits_with_1_when_a_check_fails(tmp_path):
    done = fednotes_here("site", "doctor", "--site", tmp_path, "--offline")
    assert (done.returncode, "checks failed: configuration" in done.stderr) == (1, True)
    facts = json.loads(fednotes_here("site", "doctor", "--site", tmp_path, "--offline", "--json").stdout)
    assert facts["healthy"] is False


def test_egress_shows_and_verifies_what_the_gateway_wrote(tmp_path, coordinator):
    site = new_site(tmp_path / "site", enrolled_at=coordinator)
    assert json.loads(fednotes_here("site", "egress", "list", "--site", site.path, "--json").stdout) == []
    verified = json.loads(fednotes_here("site", "egress", "verify", "--site", site.path, "--json").stdout)
    assert verified == {"receipts": 0, "chain": "whole"}
    facts = {"kind": "reply", "study": "pilot", "round": 2, "message": "a" * 64, "reply": "TrainReply"}
    chain = gateway_chain(GatewayFolder(site.gateway).receipts)
    with chain.writing() as writer:
        writer.append({**facts, "fields": {"train_tokens": 1_000}, "array_bytes": 4_000, "message_bytes": 4_500})
        listed = fednotes_here("site", "egress", "list", "--site", site.path).stdout
        assert "study pilot, round 2: TrainReply left (train_tokens 1,000), 4,000 bytes of arrays" in listed
        assert "1 receipts, 4,000 bytes of arrays." in listed
        verified = json.loads(fednotes_here("site", "egress", "verify", "--site", site.path, "--json").stdout)
        assert verified == {"receipts": 0, "gateway_receipts": 1, "chain": "whole"}
    left = json.loads(fednotes_here("site", "status", "--site", site.path, "--json").stdout)["left"]
    assert (left["messages"], left["bytes"], left["last_round"]) == (1, 4_500, 2)
    chain.path.write_bytes(chain.path.read_bytes().replace(b"4000", b"5000"))
    done = fednotes_here("site", "egress", "verify", "--site", site.path)
    assert (done.returncode, "are broken at line" in done.stderr) == (1, True)


def test_start_can_be_looked_at_first(enrolled):
    facts = json.loads(fednotes_here("site", "start", "--site", enrolled.path, "--dry-run", "--json").stdout)
    assert set(facts["programs"]) == {"gateway", "supernode", "superexec"}
    assert facts["started"] is False
    assert not (enrolled.path / "run.json").exists()
