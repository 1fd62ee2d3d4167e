from __future__ import annotations

import hashlib
import ssl
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from protocols.certificates import (
    KeyPair,
    fingerprint,
    in_groups,
    issue_client,
    issue_server,
    key_fingerprint,
    make_authority,
    make_request,
    new_key,
)


@pytest.fixture(scope="module")
def authority():
    return make_authority("Consortium", days=30)


def shake_hands(folder, authority: KeyPair, server: KeyPair, name: str) -> None:
    """A TLS handshake in memory; raises ssl.SSLError where the client does not trust the server."""
    (folder / "pair.pem").write_bytes(server.key + server.certificate)
    host, guest = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    host.load_cert_chain(folder / "pair.pem")
    guest.load_verify_locations(cadata=authority.certificate.decode())
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [guest.wrap_bio(down, up, server_hostname=name), host.wrap_bio(up, down, server_side=True)]
    for end in ends * 2:
        with suppress(ssl.SSLWantReadError):
            end.do_handshake()
    assert ends[0].version() == "TLSv1.3"


def common_name(certificate: x509.Certificate) -> str:
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def test_a_server_certificate_is_good_for_its_names_and_no_other(authority, tmp_path):
    pair = issue_server(authority, ["fed.example.org", "127.0.0.1"], days=30)
    for name in ("fed.example.org", "127.0.0.1"):
        shake_hands(tmp_path, authority, pair, name)
    for name in ("other.example.org", "127.0.0.2"):
        with pytest.raises(ssl.SSLCertVerificationError, match="match"):
            shake_hands(tmp_path, authority, pair, name)


def test_an_authority_of_the_same_name_is_not_the_same(authority, tmp_path):
    pair = issue_server(make_authority("Consortium", days=30), ["localhost"], days=30)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(tmp_path, authority, pair, "localhost")


def test_a_client_certificate_is_for_clients_only_and_bears_the_authoritys_name_for_the_site(authority, tmp_path):
    key = new_key()
    issued = issue_client(authority, make_request(key, "Director of everything"), "site 3", days=30)
    certificate = x509.load_pem_x509_certificate(issued)
    assert common_name(certificate) == "site 3"
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        shake_hands(tmp_path, authority, KeyPair(key=key, certificate=issued), "site 3")


def test_the_certificate_is_for_the_key_of_the_request(authority):
    key = new_key()
    request = make_request(key, "x")
    issued = x509.load_pem_x509_certificate(issue_client(authority, request, "site 3", days=30))
    assert issued.public_key() == x509.load_pem_x509_csr(request).public_key()


@pytest.mark.parametrize("request_", [b"", b"no request", make_authority("x", days=1).certificate])
def test_what_is_no_request_is_not_answered(authority, request_):
    with pytest.raises(ValueError):
        issue_client(authority, request_, "site 3", days=30)


def test_a_request_that_was_changed_on_its_way_is_not_answered(authority):
    request = x509.load_pem_x509_csr(make_request(new_key(), "one")).public_bytes(Encoding.DER)
    changed = x509.load_der_x509_csr(request.replace(b"one", b"two")).public_bytes(Encoding.PEM)
    with pytest.raises(ValueError, match="signature"):
        issue_client(authority, changed, "site 3", days=30)


def test_what_a_site_holds_cannot_issue_certificates(authority):
    certificate = x509.load_pem_x509_certificate(issue_client(authority, make_request(new_key(), "x"), "y", days=30))
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical and not constraints.value.ca
    root = x509.load_pem_x509_certificate(authority.certificate)
    assert root.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0


def test_a_lifetime_is_as_asked_and_begins_a_little_earlier_for_slow_clocks(authority):
    pair = issue_server(authority, ["localhost"], days=7)
    certificate, now = x509.load_pem_x509_certificate(pair.certificate), datetime.now(UTC)
    assert timedelta(days=7) - timedelta(minutes=1) < certificate.not_valid_after_utc - now <= timedelta(days=7)
    assert timedelta(minutes=5) < now - certificate.not_valid_before_utc < timedelta(minutes=15)


def test_fingerprints_are_sha256_of_what_is_sent(authority):
    der = x509.load_pem_x509_certificate(authority.certificate).public_bytes(Encoding.DER)
    assert fingerprint(authority.certificate) == hashlib.sha256(der).hexdigest()
    assert key_fingerprint(b"key") == hashlib.sha256(b"key").hexdigest()
    assert in_groups("0123456789ab") == "0123 4567 89ab"


def test_a_key_pair_does_not_show_its_key(authority):
    assert "PRIVATE" not in repr(authority)
