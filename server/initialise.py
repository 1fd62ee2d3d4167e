"""Making a coordinator's folder: an authority (or one that is given), certificates, keys, configuration."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from protocols.certificates import KeyPair, issue_server, make_authority
from protocols.durable import whole_file
from protocols.errors import UsageError
from protocols.signing import own_key
from server.home import ServerConfig, ServerHome

_SECRET_BYTES = 32
_LOOPBACK = ("localhost", "127.0.0.1")
SOON_DAYS = 30
"""A certificate that ends within so many days is worth a word."""


def initialise(home: ServerHome, config: ServerConfig, authority: KeyPair | None = None) -> None:
    """Make the folder.

    Args:
        home: must not hold a server yet.
        config: becomes ``server.toml``.
        authority: key and certificate of an authority that exists; one is made when not given.

    Raises:
        UsageError: there is a server already, or the authority given is none.
    """
    if (home.path / "server.toml").exists():
        raise UsageError(f"{home.path} holds a server already.", hint="choose another folder")
    if authority is not None:
        _require_authority(authority)
    home.path.mkdir(parents=True, exist_ok=True, mode=0o700)
    home.path.chmod(0o700)
    made = authority or make_authority(f"{config.name} authority", days=config.authority_days)
    _write_pair(home.keys, "authority", made)
    own_key(home.keys / "plan.key", home.keys / "plan.pub")
    _write(home.keys / "superexec.secret", secrets.token_bytes(_SECRET_BYTES))
    issue_certificates(home, config)
    home.write_config(config)  # last: a folder without it is no server


def issue_certificates(home: ServerHome, config: ServerConfig) -> None:
    """Make new keys and certificates for the ingress and for loopback; also how they are renewed.

    The authority of the loopback listeners is made for them alone and its key thrown away, so that no certificate of
    a site opens a door inside the coordinator's machine.
    """
    inner = make_authority("fednotes loopback", days=config.server_days)
    _write(home.keys / "internal-ca.pem", inner.certificate)
    _write_pair(home.keys, "internal", issue_server(inner, _LOOPBACK, days=config.server_days))
    _write_pair(home.keys, "ingress", issue_server(read_authority(home), config.names, days=config.server_days))


def read_authority(home: ServerHome) -> KeyPair:
    """Read the authority's key and certificate.

    Raises:
        UsageError: one is missing.
    """
    try:
        key, certificate = (home.keys / "authority.key").read_bytes(), (home.keys / "authority.pem").read_bytes()
    except OSError as error:
        raise UsageError(
            f"The authority in {home.keys} cannot be read: {error.strerror}.", hint="restore it from your backup"
        ) from error
    return KeyPair(key=key, certificate=certificate)


def days_left(certificate: Path) -> int:
    """Days until a certificate ends; negative when it has.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        ends = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    except (OSError, ValueError) as error:
        raise UsageError(f"The certificate {certificate} cannot be read.", hint="fednotes server renew") from error
    return (ends - datetime.now(UTC)).days


def _require_authority(pair: KeyPair) -> None:
    try:
        certificate = x509.load_pem_x509_certificate(pair.certificate)
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        issue_server(pair, _LOOPBACK, days=1)
    except (ValueError, x509.ExtensionNotFound) as error:
        raise UsageError(
            "The authority given is no pair of an elliptic-curve key and a certificate (PEM).",
            hint="make one with: fednotes server init, without --authority-key",
        ) from error
    if not constraints.ca:
        raise UsageError("The certificate given may not issue others (CA:FALSE).", hint="give the authority's own")


def _write_pair(keys: Path, name: str, pair: KeyPair) -> None:
    _write(keys / f"{name}.key", pair.key)
    _write(keys / f"{name}.pem", pair.certificate)


def _write(path: Path, content: bytes) -> None:
    with whole_file(path) as partial:
        partial.write_bytes(content)
