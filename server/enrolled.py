"""The sites that may take part: a file each, with the certificate and the node key that belong together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from protocols.durable import write_text
from protocols.enrolment import EnrolmentRequest, read_document
from protocols.messages import Digest, Message, SiteNumber
from server.ingress_proxy.callers import flower_node_key


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
        return flower_node_key(self.request.node_key)


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
