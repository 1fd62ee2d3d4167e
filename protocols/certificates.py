"""X.509 for a consortium: a certificate authority, certificates that it issues, and requests for them.

Keys are made where they are used and never sent: a hospital sends a request, the coordinator answers with one.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_CLOCK_SLACK = timedelta(minutes=10)  # a certificate must not be refused by a clock that is a little behind


@dataclass(frozen=True, kw_only=True, repr=False)
class KeyPair:
    """A private key and its certificate.

    Attributes:
        key: PEM, PKCS 8, not encrypted.
        certificate: PEM.
    """

    key: bytes
    certificate: bytes


def new_key() -> bytes:
    """Make a P-256 key (PEM)."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def make_authority(name: str, *, days: int) -> KeyPair:
    """Make a certificate authority that signs end certificates and nothing else.

    Args:
        name: its common name.
        days: lifetime.
    """
    key = new_key()
    subject = _name(name)
    usage = _key_usage(sign_certificates=True)
    builder = _builder(subject, subject, _private(key).public_key(), days)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(usage, critical=True)
    return KeyPair(key=key, certificate=_signed(builder, key))


def make_request(key: bytes, name: str) -> bytes:
    """Make a certificate request (PEM); its signature shows that the sender has the key.

    Args:
        key: PEM.
        name: common name that is asked for.
    """
    builder = x509.CertificateSigningRequestBuilder().subject_name(_name(name))
    return builder.sign(_private(key), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def issue_client(authority: KeyPair, request: bytes, name: str, *, days: int) -> bytes:
    """Answer a request with a client certificate (PEM); the name is the authority's choice, not the request's.

    Raises:
        ValueError: the request cannot be read or its signature is wrong.
    """
    try:
        wish = x509.load_pem_x509_csr(request)
        if not wish.is_signature_valid:
            raise ValueError("signature of the certificate request")
    except InvalidSignature:
        raise ValueError("signature of the certificate request") from None
    builder = _issued(authority, _name(name), wish.public_key(), days, ExtendedKeyUsageOID.CLIENT_AUTH)
    return _signed(builder, authority.key)


def issue_server(authority: KeyPair, names: Sequence[str], *, days: int) -> KeyPair:
    """Make a server's key and certificate.

    Args:
        authority: that signs.
        names: host names and addresses under which clients will reach it.
        days: lifetime.
    """
    key = new_key()
    builder = _issued(authority, _name(names[0]), _private(key).public_key(), days, ExtendedKeyUsageOID.SERVER_AUTH)
    builder = builder.add_extension(x509.SubjectAlternativeName([_alternative(n) for n in names]), critical=False)
    return KeyPair(key=key, certificate=_signed(builder, authority.key))


def fingerprint(certificate: bytes) -> str:
    """SHA-256 of a certificate (PEM) in hex: what two people compare by telephone."""
    return x509.load_pem_x509_certificate(certificate).fingerprint(hashes.SHA256()).hex()


def key_fingerprint(public: bytes) -> str:
    """SHA-256 of a public key as it is sent."""
    return hashlib.sha256(public).hexdigest()


def in_groups(digest: str) -> str:
    """A digest in groups of four, to be read aloud."""
    return " ".join(digest[i : i + 4] for i in range(0, len(digest), 4))


def _issued(
    authority: KeyPair, subject: x509.Name, public: object, days: int, purpose: x509.ObjectIdentifier
) -> x509.CertificateBuilder:
    issuer = x509.load_pem_x509_certificate(authority.certificate)
    builder = _builder(subject, issuer.subject, public, days)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(sign_certificates=False), critical=True)
    return builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)


def _builder(subject: x509.Name, issuer: x509.Name, public: object, days: int) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)  # type: ignore[arg-type]  # whatever kind a request holds
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SLACK)
        .not_valid_after(now + timedelta(days=days))
    )


def _signed(builder: x509.CertificateBuilder, key: bytes) -> bytes:
    signed = builder.sign(_private(key), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


def _private(key: bytes) -> ec.EllipticCurvePrivateKey:
    private: PrivateKeyTypes = serialization.load_pem_private_key(key, password=None)
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise ValueError("not an elliptic-curve key")
    return private


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )
