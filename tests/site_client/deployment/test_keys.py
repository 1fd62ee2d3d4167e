from __future__ import annotations

import stat

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key

from protocols.errors import UsageError
from site_client.gateway.folder import GatewayFolder
from site_client.keys import certificate_key, inner_is_whole, make_inner_tls, make_keys, public_half, read_request
from site_client.renew import renew

from .consortium import Coordinator, enroll


def test_every_key_is_made_and_nobody_else_can_read_it(site):
    files = [p for p in site.path.rglob("*") if p.is_file() and "keys" in p.parts]
    assert {p.name for p in files} == {
        *("pseudonym.key", "approval.key", "approval.pub", "supernode.key", "superexec.secret", "gateway-ca.pem"),
        *("node.key", "node.pub", "tls.key", "inner.key", "inner.pem", "supernode.pub"),
    }
    assert {stat.S_IMODE(p.stat().st_mode) for p in files} == {0o600}
    assert {stat.S_IMODE(p.parent.stat().st_mode) for p in files} == {0o700}
    assert len((site.path / "keys" / "superexec.secret").read_bytes()) == 32


def test_node_keys_are_of_the_kind_that_flower_takes_and_differ(site):
    gateway = GatewayFolder(site.gateway).keys
    keys = [
        load_ssh_private_key(p.read_bytes(), None) for p in (gateway / "node.key", site.path / "keys/supernode.key")
    ]
    assert all(isinstance(k, ec.EllipticCurvePrivateKey) and k.curve.name == "secp384r1" for k in keys)
    assert keys[0].private_numbers() != keys[1].private_numbers()
    public = load_ssh_public_key((gateway / "supernode.pub").read_bytes())
    assert public.public_numbers() == keys[1].public_key().public_numbers()


def test_the_request_names_the_public_halves_and_no_private_one(site):
    request, gateway = read_request(site), GatewayFolder(site.gateway).keys
    csr = x509.load_pem_x509_csr(request.certificate_request.encode())
    assert csr.is_signature_valid
    node = load_ssh_private_key((gateway / "node.key").read_bytes(), None).public_key()
    assert load_ssh_public_key(request.node_key.encode()).public_numbers() == node.public_numbers()
    assert request.approval_key == (site.path / "keys" / "approval.pub").read_text()
    assert "PRIVATE" not in (site.path / "enrolment-request.json").read_text()


def test_keys_that_are_there_stay_and_missing_ones_are_made(site):
    gateway = GatewayFolder(site.gateway).keys
    before = {p: p.read_bytes() for p in [*gateway.iterdir(), *(site.path / "keys").iterdir()]}
    (site.path / "keys" / "superexec.secret").unlink()
    make_keys(site)
    changed = [p.name for p, content in before.items() if p.read_bytes() != content]
    assert changed == ["superexec.secret"]


@pytest.mark.parametrize("name", ["gateway/keys/node.key", "keys/supernode.key", "keys/approval.key"])
def test_a_lost_key_is_named_and_not_replaced(site, name):
    (site.path / name).unlink()
    with pytest.raises(UsageError, match=f"{name} is missing"):
        make_keys(site)
    assert not (site.path / name).exists()


def test_the_loopback_certificate_has_both_names_and_its_authority_has_no_key(site):
    inner = x509.load_pem_x509_certificate((GatewayFolder(site.gateway).keys / "inner.pem").read_bytes())
    names = inner.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(n.value) for n in names] == ["localhost", "127.0.0.1"]
    authority = x509.load_pem_x509_certificate((site.path / "keys" / "gateway-ca.pem").read_bytes())
    inner.verify_directly_issued_by(authority)
    public = {public_half(p.read_bytes()) for p in site.path.rglob("*.key") if b"BEGIN PRIVATE" in p.read_bytes()}
    assert certificate_key(inner) in public
    assert certificate_key(authority) not in public
    assert inner_is_whole(site)


def test_a_loopback_certificate_of_two_makings_is_found(site):
    keys = GatewayFolder(site.gateway).keys
    old = (keys / "inner.pem").read_bytes()
    make_inner_tls(site)
    (keys / "inner.pem").write_bytes(old)
    assert not inner_is_whole(site)


def test_renewal_leaves_key_and_certificate_in_use_until_the_answer_is_installed(enrolled, coordinator):
    gateway = GatewayFolder(enrolled.gateway)
    old_key, old = (gateway.keys / "tls.key").read_bytes(), gateway.enrolment()
    first, second = renew(enrolled), renew(enrolled)
    assert first.request.fingerprint != second.request.fingerprint
    assert (gateway.keys / "tls.key").read_bytes() == old_key
    assert gateway.enrolment() == old
    enroll(enrolled, coordinator)
    assert (gateway.keys / "tls.key").read_bytes() != old_key
    assert not (gateway.keys / "tls.next.key").exists()
    assert gateway.enrolment().site == old.site
    assert first.request.node_key == read_request(enrolled).node_key


def test_renewal_of_a_site_that_was_never_enrolled_makes_what_is_missing(site):
    for path in site.path.rglob("superexec.secret"):
        path.unlink()
    assert renew(site).first
    assert (site.path / "keys" / "superexec.secret").exists()
    enroll(site, Coordinator())
