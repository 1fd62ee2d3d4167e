"""Checks of the site folder: model, keys, permissions, receipts, approvals, the site's own certificate."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from protocols.bundle import bundle_hash
from protocols.error_codes import ContractError
from protocols.errors import UsageError
from protocols.manifest import ParameterManifest
from site_client.approval import read_approvals
from site_client.doctor.finding import Finding, fail, ok, warn
from site_client.folder import SiteFolder
from site_client.gateway.folder import GatewayFolder
from site_client.gateway_receipts import has_gateway_receipts, read_gateway_receipts
from site_client.keys import NEXT_TLS_KEY, certificate_key, inner_is_whole, public_half
from site_client.receipts import ReceiptBook

_EXPIRES_SOON = timedelta(days=30)
_CLOCK_STEP = timedelta(minutes=10)  # certificates are dated back by so much


def check_model(folder: SiteFolder) -> Finding:
    """Whether the model can be built and has the arrays that its manifest lists."""
    from modeling.arrays import to_arrays
    from modeling.release import empty_model

    try:
        manifest = folder.manifest()
    except ContractError:
        return fail("model", f"{folder.model} has no manifest.json: put the study's model there, from the coordinator")
    model, _ = empty_model(folder.model)
    if ParameterManifest.of(to_arrays(model)) != manifest:
        return fail("model", f"{folder.model} and its manifest.json do not match: install the study's model again")
    return ok("model", f"{manifest.num_bytes // 4:,} parameters in {len(manifest.parameters)} arrays")


def check_keys(folder: SiteFolder) -> Finding:
    """Whether every key is there and belongs to its public half."""
    keys, gateway = folder.path / "keys", GatewayFolder(folder.gateway).keys
    named = ["approval.key", "approval.pub", "supernode.key", "superexec.secret", "gateway-ca.pem", "pseudonym.key"]
    inner = ["node.key", "tls.key", "inner.key", "inner.pem", "supernode.pub", "approval.pub"]
    paths = [*(keys / n for n in named), *(gateway / n for n in inner)]
    if missing := [str(p) for p in paths if not p.exists()]:
        return fail("keys", f"missing: {', '.join(missing)}; restore from your backup, or fednotes site renew")
    if (keys / "approval.pub").read_bytes() != (gateway / "approval.pub").read_bytes():
        return fail("keys", f"{gateway / 'approval.pub'} is not {keys / 'approval.pub'}: copy it there")
    if not inner_is_whole(folder):
        return fail("keys", f"inner.key, inner.pem in {gateway} and gateway-ca.pem do not match: fednotes site renew")
    return ok("keys", "all there")


def check_permissions(folder: SiteFolder) -> Finding:
    """Whether nobody but their owners can read folders and keys."""
    deployment, gateway = folder.config().deployment, GatewayFolder(folder.gateway)
    # Two users share the way to their folders; what lies in them is closed to the other.
    open_path = {folder.path} if deployment.gateway_user is not None else set()
    folders = [folder.path / n for n in ("keys", "store", "corpus", "receipts", "ledger", "checkpoints", "logs")]
    paths = [folder.path, *folders, gateway.path, gateway.keys, gateway.approvals]
    paths += [*(folder.path / "keys").glob("*"), *gateway.keys.glob("*")]
    wide = [p for p in paths if p.exists() and _reaches_others(p, stat.S_IXOTH | stat.S_IXGRP if p in open_path else 0)]
    if wide:
        return fail("permissions", f"others can read {', '.join(map(str, wide[:3]))}: chmod go-rwx {wide[0]}")
    return ok("permissions", "folders and keys are their owners' alone")


def check_receipts(folder: SiteFolder) -> Finding:
    """Whether both chains of receipts are whole."""
    at_training = len(ReceiptBook(folder.receipts).read())
    gateway = GatewayFolder(folder.gateway).receipts
    at_gateway = len(read_gateway_receipts(gateway)) if has_gateway_receipts(gateway) else 0
    return ok("receipts", f"whole: {at_training} of training, {at_gateway} of the gateway")


def check_approvals(folder: SiteFolder) -> Finding:
    """Whether every approval is as it was signed, and for what is installed."""
    approvals = read_approvals(GatewayFolder(folder.gateway))
    if not approvals:
        return warn("approvals", "no study is approved: fednotes site approve PLAN")
    installed = bundle_hash()
    old = [study for study, a in approvals.items() if a.bundle_hash != installed]
    if old:
        return fail("approvals", f"made for another version: {', '.join(old)}; fednotes site approve a new plan")
    model = folder.manifest().digest
    other = [study for study, a in approvals.items() if a.manifest.digest != model]
    if other:
        return warn("approvals", f"for another model than the installed one: {', '.join(other)}")
    return ok("approvals", ", ".join(approvals))


def check_own_certificate(folder: SiteFolder) -> Finding:
    """Whether the client certificate fits its key and is in its time."""
    gateway = GatewayFolder(folder.gateway)
    certificate = _certificate(gateway)
    if public_half((gateway.keys / "tls.key").read_bytes()) != certificate_key(certificate):
        return fail("certificate", "tls.key is another than the certificate's: install the coordinator's answer again")
    now, first, last = datetime.now(UTC), certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < first:
        return fail("certificate", f"valid from {first:%Y-%m-%d %H:%M} UTC only: set this machine's clock")
    if now > last:
        return fail("certificate", f"ended on {last:%Y-%m-%d}: fednotes site renew, and send the request")
    pending = (gateway.keys / NEXT_TLS_KEY).exists()
    if last - now < _EXPIRES_SOON:
        todo = (
            "a renewal waits for the coordinator's answer" if pending else "fednotes site renew, and send the request"
        )
        return warn("certificate", f"ends on {last:%Y-%m-%d}: {todo}")
    return ok("certificate", f"of site {gateway.enrolment().site}, until {last:%Y-%m-%d}")


def check_clock_alone(folder: SiteFolder) -> Finding:
    """What can be said about the clock without asking anybody: it must not be before what was already dated."""
    now, gateway = datetime.now(UTC), GatewayFolder(folder.gateway)
    known = [datetime.fromtimestamp((folder.path / "site.toml").stat().st_mtime, UTC)]
    if gateway.enrolment_file.exists():
        known.append(_certificate(gateway).not_valid_before_utc + _CLOCK_STEP)
    latest = max(known)
    if now < latest:
        return fail(
            "clock", f"{now:%Y-%m-%d %H:%M} UTC is before {latest:%Y-%m-%d %H:%M}, known to be past: set it (NTP)"
        )
    return ok("clock", f"{now:%Y-%m-%d %H:%M:%S} UTC, not compared with another clock")


def _certificate(gateway: GatewayFolder) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(gateway.enrolment().certificate.encode())
    except ValueError:
        raise UsageError(
            f"The certificate in {gateway.enrolment_file} cannot be read.",
            hint="give the coordinator's answer to fednotes site enroll again",
        ) from None


def _reaches_others(path: Path, allowed: int) -> bool:
    return bool(stat.S_IMODE(path.stat().st_mode) & 0o077 & ~allowed)
