"""The keys of a deployed site: all made here, none ever sent. What the coordinator gets is their public halves.

gateway/keys/node.key            Flower's node key (P-384, OpenSSH form)
gateway/keys/tls.key             key of the client certificate; tls.next.key while a renewal is under way
gateway/keys/inner.key, .pem     TLS of the gateway's loopback listener
gateway/keys/supernode.pub       public half of keys/supernode.key
gateway/keys/approval.pub        public half of keys/approval.key
keys/approval.key, .pub          signs approvals (Ed25519)
keys/supernode.key               shows the gateway who its SuperNode is (P-384, OpenSSH form)
keys/gateway-ca.pem              authority of the loopback listener; its key was thrown away
keys/superexec.secret            what SuperExec shows the SuperNode
enrolment-request.json           for the coordinator; holds no secret
"""

from __future__ import annotations

import secrets
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from protocols.certificates import issue_server, make_authority, make_request, new_key
from protocols.durable import whole_file
from protocols.enrolment import EnrolmentRequest, read_document, write_document
from protocols.errors import UsageError
from protocols.signing import own_key, public_pem
from site_client.folder import SiteFolder
from site_client.gateway.folder import GatewayFolder

REQUEST_FILE = "enrolment-request.json"
NEXT_TLS_KEY = "tls.next.key"
INNER_DAYS = 3_650  # on loopback, between two processes of one machine; `site renew` makes it anew in time
_SECRET_BYTES = 32
_RESTORE = "restore it from your backup; a new key would be another site to the coordinator"


def make_keys(folder: SiteFolder) -> EnrolmentRequest:
    """Make every key that is not there yet, and the request that names their public halves.

    Args:
        folder: the site.

    Raises:
        UsageError: a key is gone whose public half is still there.
    """
    gateway, keys = GatewayFolder(folder.gateway), folder.path / "keys"
    for private in (gateway.path, gateway.keys, keys):
        private.mkdir(parents=True, exist_ok=True)
        private.chmod(0o700)
    approval = own_key(keys / "approval.key", keys / "approval.pub")
    _write(gateway.keys / "approval.pub", public_pem(approval.public_key()).encode())
    _write(gateway.keys / "supernode.pub", _ssh_key(keys / "supernode.key", gateway.keys / "supernode.pub"))
    _write(gateway.keys / "node.pub", _ssh_key(gateway.keys / "node.key", gateway.keys / "node.pub"))
    if not (gateway.keys / "tls.key").exists():
        _write(gateway.keys / "tls.key", new_key())
    if not (keys / "superexec.secret").exists():
        _write(keys / "superexec.secret", secrets.token_bytes(_SECRET_BYTES))
    if not inner_is_whole(folder):
        make_inner_tls(folder)
    return write_request(folder, gateway.keys / "tls.key")


def make_inner_tls(folder: SiteFolder) -> None:
    """Make the loopback certificate; gateway and SuperNode take it up at their next start."""
    keys = GatewayFolder(folder.gateway).keys
    authority = make_authority("fednotes gateway on loopback", days=INNER_DAYS)
    pair = issue_server(authority, ["localhost", "127.0.0.1"], days=INNER_DAYS)
    _write(keys / "inner.key", pair.key)
    _write(keys / "inner.pem", pair.certificate)
    _write(folder.path / "keys" / "gateway-ca.pem", authority.certificate)  # last: it tells that the rest is there


def inner_is_whole(folder: SiteFolder) -> bool:
    """Whether the three files of the loopback TLS are there and belong together."""
    keys = GatewayFolder(folder.gateway).keys
    try:
        certificate = x509.load_pem_x509_certificate((keys / "inner.pem").read_bytes())
        authority = x509.load_pem_x509_certificate((folder.path / "keys" / "gateway-ca.pem").read_bytes())
        certificate.verify_directly_issued_by(authority)
        return public_half((keys / "inner.key").read_bytes()) == certificate_key(certificate)
    except (OSError, ValueError, TypeError):
        return False
    except Exception:  # InvalidSignature and its kin: three files of two makings
        return False


def write_request(folder: SiteFolder, tls_key: Path) -> EnrolmentRequest:
    """Write the enrolment request for a key of the client certificate.

    Args:
        folder: the site.
        tls_key: file of the key (PEM).
    """
    from protocols.bundle import fednotes_version

    keys, name = GatewayFolder(folder.gateway).keys, folder.config().name
    request = EnrolmentRequest(
        fednotes_version=fednotes_version(),
        site_name=name,
        # An X.509 name holds 64 characters; the coordinator issues under the site's number anyway.
        certificate_request=make_request(tls_key.read_bytes(), name[:64]).decode(),
        node_key=(keys / "node.pub").read_text(encoding="ascii").strip(),
        approval_key=(keys / "approval.pub").read_text(encoding="ascii"),
    )
    write_document(folder.path / REQUEST_FILE, request)
    return request


def read_request(folder: SiteFolder) -> EnrolmentRequest:
    """The request that was made last.

    Raises:
        UsageError: there is none, or it is damaged.
    """
    path = folder.path / REQUEST_FILE
    if not path.exists():
        raise UsageError(f"{path} is missing: this site has asked for nothing.", hint="fednotes site renew makes one")
    return read_document(path, EnrolmentRequest)


def public_half(key: bytes) -> bytes:
    """The public half of a private key (PEM), in one form for comparisons.

    Raises:
        ValueError: it cannot be read.
    """
    return _spki(serialization.load_pem_private_key(key, password=None).public_key())


def certificate_key(certificate: x509.Certificate) -> bytes:
    """The public key of a certificate, in the same form."""
    return _spki(certificate.public_key())


def _ssh_key(private: Path, public: Path) -> bytes:
    """Make a P-384 key if there is none; its public half."""
    if not private.exists() and public.exists():
        raise UsageError(f"The key {private} is missing; {public.name} is there.", hint=_RESTORE)
    if not private.exists():
        key = ec.generate_private_key(ec.SECP384R1())
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        _write(private, pem)
    try:
        read = serialization.load_ssh_private_key(private.read_bytes(), None)
    except (OSError, ValueError) as error:
        raise UsageError(f"The key {private} cannot be read.", hint=_RESTORE) from error
    return read.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH) + b"\n"


def _write(path: Path, content: bytes) -> None:
    with whole_file(path) as partial:
        partial.write_bytes(content)


def _spki(key: object) -> bytes:
    encoded: bytes = key.public_bytes(  # type: ignore[attr-defined]  # every public key of the library has it
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return encoded
