"""The sites that may take part: a file each, with the certificate and the node key that belong together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key
from pydantic import Field

from protocols.durable import write_text
from protocols.enrolment import EnrolmentRequest, read_document
from protocols.messages import Digest, Message, SiteNumber


class EnrolledSite(Message):
    """One site, as the coordinator knows it.

    Attributes:
        site: its number.
        request: what it sent.
        certificate: its client certificate (PEM).
        fingerprint: SHA-256 of the certificate (hex).
        revoked: whether it may no longer take part.
        enrolled_at: UTC, ISO 8601.
    """

    site: SiteNumber
    request: EnrolmentRequest
    certificate: Annotated[str, Field(max_length=20_000)]
    fingerprint: Digest
    revoked: bool = False
    enrolled_at: Annotated[str, Field(max_length=40)]

    @property
    def node_key(self) -> bytes:
        """The node key as Flower sends it."""
        return node_key_bytes(self.request.node_key)


def node_key_bytes(openssh: str) -> bytes:
    """A node key in the form in which Flower sends it (PEM).

    Args:
        openssh: the public key as a line of OpenSSH.

    Raises:
        ValueError: it is not an elliptic-curve key.
    """
    key = load_ssh_public_key(openssh.encode())
    if not isinstance(key, EllipticCurvePublicKey):
        raise ValueError("not an elliptic-curve key")
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def read_enrolled(folder: Path) -> dict[str, EnrolledSite]:
    """Read all sites, revoked ones too, by the fingerprint of their certificates.

    Raises:
        UsageError: a file is damaged; names it.
    """
    sites = [read_document(path, EnrolledSite) for path in sorted(folder.glob("*.json"))]
    return {site.fingerprint: site for site in sites}


def write_enrolled(folder: Path, site: EnrolledSite) -> None:
    """Write a site's file, in place of an older one."""
    write_text(folder / f"{site.site:04d}.json", site.model_dump_json(indent=2) + "\n")
