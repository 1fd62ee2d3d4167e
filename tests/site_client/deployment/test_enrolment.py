from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

import site_client.enrolment
from protocols.certificates import issue_client, issue_server, make_authority
from protocols.errors import UsageError
from site_client.enrolment import check_answer, install
from site_client.gateway.folder import GatewayFolder
from site_client.keys import make_keys, read_request
from site_client.privacy_account import ledger_of
from site_client.renew import renew

from .consortium import NUMBER, Coordinator, answer_file, enroll, new_site


def refused(site, file, **options) -> UsageError:
    with pytest.raises(UsageError) as caught:
        check_answer(site, file, **options)
    assert caught.value.hint
    assert not GatewayFolder(site.gateway).enrolment_file.exists()
    return caught.value


def test_an_answer_is_installed_and_the_number_alone_changes_in_the_settings(tmp_path, coordinator):
    site = new_site(tmp_path / "site", model="model", limits={"min_patients": 20})
    toml = site.path / "site.toml"
    toml.write_text("# our own words\n" + toml.read_text() + "# and more\n")
    before, text = site.config(), toml.read_text()
    checked = check_answer(site, answer_file(site, coordinator))
    assert (site.config(), checked.warnings) == (before, ())
    install(site, checked)
    assert toml.read_text() == text.replace("number = 0", f"number = {NUMBER}")
    assert site.config() == before.model_copy(update={"number": NUMBER})
    assert GatewayFolder(site.gateway).enrolment() == checked.enrolment
    install(site, check_answer(site, answer_file(site, coordinator)))  # the same once more changes nothing


def test_an_answer_to_another_request_is_refused(site, coordinator, tmp_path):
    other = new_site(tmp_path / "other")
    assert "does not answer this site's request" in str(refused(site, answer_file(other, coordinator)))
    file = answer_file(site, coordinator)
    make_keys(site)  # a newer request
    assert "or answers an older one" in str(refused(site, file))


def test_a_certificate_for_another_key_is_refused(site, coordinator, tmp_path):
    other = read_request(new_site(tmp_path / "other"))
    stolen = issue_client(coordinator.authority, other.certificate_request.encode(), "site 7", days=5)
    file = answer_file(site, coordinator, certificate=stolen.decode())
    assert "belongs to another key" in str(refused(site, file))


def test_a_certificate_of_another_authority_or_for_a_server_is_refused(site, coordinator):
    other = make_authority("Somebody else", days=5)
    file = answer_file(site, coordinator, authority=other.certificate.decode())
    assert "is not issued by the authority" in str(refused(site, file))
    server = issue_server(coordinator.authority, ["a"], days=5)
    file = answer_file(site, coordinator, certificate=server.certificate.decode())
    assert "not one for a client" in str(refused(site, file))
    own = answer_file(site, coordinator, authority=server.certificate.decode(), certificate=server.certificate.decode())
    assert "is not issued by the authority" in str(refused(site, own))


def test_expired_and_early_certificates_name_clock_and_date(site, coordinator, monkeypatch):
    assert "ended at" in str(refused(site, answer_file(site, coordinator, days=0)))
    file = answer_file(site, coordinator)

    class Early(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(UTC) - timedelta(days=400)

    monkeypatch.setattr(site_client.enrolment, "datetime", Early)
    error = refused(site, file)
    assert "this machine's clock says" in error.message
    assert "NTP" in str(error.hint)


def test_another_contract_is_refused_and_another_release_is_told(site, coordinator):
    file = answer_file(site, coordinator, contract_version=99, fednotes_version="9.9")
    assert "contract version 99 (fednotes 9.9)" in str(refused(site, file))
    told = check_answer(site, answer_file(site, coordinator, fednotes_version="9.9"))
    assert "The coordinator runs fednotes 9.9" in told.warnings[0]


@pytest.mark.parametrize(
    ("changes", "named"), [({"plan_key": "x"}, "plan_key"), ({"certificate": "x"}, "certificate that cannot be read")]
)
def test_damaged_parts_of_an_answer_are_named(site, coordinator, changes, named):
    assert named in str(refused(site, answer_file(site, coordinator, **changes)))


def test_a_damaged_file_and_a_missing_request_are_named(site, coordinator, tmp_path):
    file = answer_file(site, coordinator)
    cut = tmp_path / "cut.json"
    cut.write_bytes(file.read_bytes()[:100])
    assert "cut.json is no valid Enrolment" in str(refused(site, cut))
    (site.path / "enrolment-request.json").unlink()
    assert "enrolment-request.json is missing" in str(refused(site, file))


def test_another_coordinator_is_taken_only_when_that_is_said(enrolled, coordinator):
    renew(enrolled)
    other = Coordinator()
    file = answer_file(enrolled, other)
    with pytest.raises(UsageError, match=r"differs from this site's enrolment in: authority, plan_key\."):
        check_answer(enrolled, file)
    install(enrolled, check_answer(enrolled, file, new_coordinator=True))
    assert GatewayFolder(enrolled.gateway).enrolment().authority == other.authority.certificate.decode()


def test_a_number_that_would_orphan_the_privacy_account_is_refused(site, coordinator):
    ledger = ledger_of(site)
    ledger.path.parent.mkdir(parents=True, exist_ok=True)
    ledger.path.write_text("")
    assert "privacy account was opened under number 0" in str(refused(site, answer_file(site, coordinator)))
    check_answer(site, answer_file(site, coordinator, site=0))


def test_an_answer_that_a_kill_left_half_installed_can_be_given_again(enrolled, coordinator):
    renew(enrolled)
    gateway = GatewayFolder(enrolled.gateway)
    file = answer_file(enrolled, coordinator)
    checked = check_answer(enrolled, file)
    gateway.enrolment_file.write_text(checked.enrolment.model_dump_json())  # killed before the key was moved
    install(enrolled, check_answer(enrolled, file))
    enroll(enrolled, coordinator)
    assert not (gateway.keys / "tls.next.key").exists()
