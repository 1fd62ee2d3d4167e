from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from protocols.enrolment import Enrolment, EnrolmentRequest, read_document, write_document
from protocols.errors import UsageError

REQUEST = EnrolmentRequest(
    fednotes_version="0.1.0",
    site_name="City Hospital",
    certificate_request="csr",
    node_key="ecdsa-sha2-nistp384 AAAA",
    approval_key="pem",
)
ANSWER = {
    "fednotes_version": "0.1.0",
    "request_fingerprint": REQUEST.fingerprint,
    "site": 3,
    "coordinator": "Consortium",
    "address": "fed.example.org:9443",
    "authority": "pem",
    "certificate": "pem",
    "plan_key": "pem",
}


def test_request_and_answer_come_back_as_they_were_written(tmp_path):
    for document in (REQUEST, Enrolment.model_validate(ANSWER)):
        path = tmp_path / "document.json"
        write_document(path, document)
        assert read_document(path, type(document)) == document


@pytest.mark.parametrize("field", ["site_name", "certificate_request", "node_key", "approval_key"])
def test_the_fingerprint_that_people_compare_stands_for_every_field(field):
    changed = REQUEST.model_copy(update={field: "other"})
    assert changed.fingerprint != REQUEST.fingerprint
    assert len(REQUEST.fingerprint) == 64


@pytest.mark.parametrize("address", ["fed.example.org:9443", "10.0.0.1:1", "[2001:db8::1]:443"])
def test_addresses_are_names_or_numbers_with_a_port(address):
    assert Enrolment.model_validate(ANSWER | {"address": address}).address == address


@pytest.mark.parametrize("address", ["fed.example.org", "unix:/tmp/x", "fed example:1", "host:", "http://x:1", "x:1\n"])
def test_other_addresses_are_refused(address):
    with pytest.raises(ValidationError):
        Enrolment.model_validate(ANSWER | {"address": address})


def test_an_answer_is_no_request_and_the_file_is_named(tmp_path):
    path = tmp_path / "answer.json"
    write_document(path, Enrolment.model_validate(ANSWER))
    with pytest.raises(UsageError, match=r"answer\.json is no valid EnrolmentRequest: .*kind"):
        read_document(path, EnrolmentRequest)


def test_a_damaged_file_names_fields_and_quotes_nothing(tmp_path):
    path = tmp_path / "request.json"
    path.write_text(json.dumps(REQUEST.model_dump() | {"node_key": 17, "extra": "Miller"}))
    with pytest.raises(UsageError, match="extra, node_key") as caught:
        read_document(path, EnrolmentRequest)
    assert "Miller" not in str(caught.value) and "17" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"none\.json cannot be read: No such file"):
        read_document(tmp_path / "none.json", Enrolment)
