"""A site with a gateway whose way out leads where a test says, without a coordinator's folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from protocols.bundle import bundle_hash, fednotes_version, installed_versions
from protocols.certificates import issue_client
from protocols.enrolment import Enrolment, write_document
from protocols.manifest import ParameterManifest
from protocols.messages import SiteLimits
from protocols.plan import Plan
from protocols.signing import own_key, public_pem
from site_client.approval import Approval, write_approval
from site_client.folder import SiteConfig, SiteFolder
from site_client.gateway.folder import GatewayFolder
from site_client.keys import make_keys
from tests.deployment.link import QUIET, Link, free_ports


def make_site(folder: Path, plan: Plan, manifest: ParameterManifest, link: Link, address: str) -> SiteFolder:
    """Keys, enrolment and approval, as the commands would make them."""
    site = SiteFolder.create(folder, SiteConfig(name="Test Hospital", number=0))
    port, metrics = free_ports(2)
    settings = site.path / "site.toml"
    text = settings.read_text().replace("gateway_port = 9502", f"gateway_port = {port}")
    settings.write_text(text.replace("metrics_port = 9503", f"metrics_port = {metrics}"))
    request, gateway = make_keys(site), GatewayFolder(site.gateway)
    plan_key = own_key(folder / "plan.key", folder / "plan.pub")
    write_document(
        gateway.enrolment_file,
        Enrolment(
            fednotes_version=fednotes_version(),
            request_fingerprint=request.fingerprint,
            site=0,
            coordinator="test",
            address=address,
            authority=link.authority.certificate.decode(),
            certificate=issue_client(link.authority, request.certificate_request.encode(), "site-0", days=2).decode(),
            plan_key=public_pem(plan_key.public_key()),
        ),
    )
    approval = Approval(
        site=0,
        plan=plan,
        manifest=manifest,
        bundle_hash=bundle_hash(),
        versions=installed_versions(),
        limits=SiteLimits(),
        max_message_bytes=manifest.num_bytes + 1_000_000,
        max_total_bytes=100 * (manifest.num_bytes + 1_000_000),
        approved_at="2026-01-01T00:00:00+00:00",
    )
    write_approval(gateway, approval, own_key(site.path / "keys" / "approval.key", site.path / "keys" / "approval.pub"))
    return site


def start_gateway(site: SiteFolder, log: Path) -> subprocess.Popen[bytes]:
    """The gateway as a process."""
    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "site_client.gateway", "--site", str(site.path)],
            stdout=out,
            stderr=out,
            env={**QUIET, "PATH": "/usr/bin"},
        )
