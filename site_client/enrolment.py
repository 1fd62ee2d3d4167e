"""The coordinator's answer is checked, then installed: from here on the site has a number and a certificate.

The answer may have come by mail. It is taken only when it answers this site's own request and fits this site's own
key; that it comes from the right coordinator is what people find out, by comparing a fingerprint.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtendedKeyUsageOID
from pydantic import ValidationError

from protocols.bundle import fednotes_version
from protocols.certificates import fingerprint
from protocols.durable import write_text
from protocols.enrolment import Enrolment, read_document, write_document
from protocols.errors import UsageError
from protocols.messages import CONTRACT_VERSION
from protocols.signing import public_key
from site_client.folder import SiteConfig, SiteFolder
from site_client.gateway.folder import GatewayFolder
from site_client.keys import NEXT_TLS_KEY, certificate_key, public_half, read_request
from site_client.ownership import give_to_owner_of
from site_client.privacy_account import ledger_of

_AGAIN = "ask the coordinator to answer the newest enrolment-request.json"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer that was checked.

    Attributes:
        enrolment: its content.
        key: file of the key that its certificate belongs to.
        until: end of the certificate.
        authority: fingerprint of the coordinator's authority, to compare by telephone.
        warnings: what a person should know, in sentences.
    """

    enrolment: Enrolment
    key: Path
    until: datetime
    authority: str
    warnings: tuple[str, ...] = ()


def check_answer(folder: SiteFolder, file: Path, *, new_coordinator: bool = False) -> Answer:
    """Check an answer without changing anything.

    Args:
        folder: the site.
        file: the coordinator's answer.
        new_coordinator: the authority, or the key that signs plans, may be others than before.

    Raises:
        UsageError: it is not for this site, does not fit its key, or is out of its time.
    """
    answer = read_document(file, Enrolment)
    if answer.contract_version != CONTRACT_VERSION:
        raise UsageError(
            f"{file} is of contract version {answer.contract_version} (fednotes {answer.fednotes_version}); this site "
            f"has version {CONTRACT_VERSION} (fednotes {fednotes_version()}).",
            hint="install the same version of fednotes at both ends",
        )
    if answer.request_fingerprint != read_request(folder).fingerprint:
        raise UsageError(f"{file} does not answer this site's request, or answers an older one.", hint=_AGAIN)
    certificate, authority = _load(file, answer.certificate), _load(file, answer.authority)
    _require_issued(file, certificate, authority)
    _require_in_time(file, certificate, authority)
    _require_plan_key(file, answer)
    _require_same_account(folder, answer.site)
    if not new_coordinator:
        _require_same_coordinator(folder, file, answer)
    return Answer(
        enrolment=answer,
        key=_own_key(folder, file, certificate),
        until=certificate.not_valid_after_utc,
        authority=fingerprint(answer.authority.encode()),
        warnings=_warnings(answer),
    )


def install(folder: SiteFolder, answer: Answer) -> None:
    """Put a checked answer where the gateway reads it, and the site's number into ``site.toml``.

    A kill between the steps leaves a site to which the same answer can be given again.

    Raises:
        StorageError: the folder cannot be written.
    """
    gateway = GatewayFolder(folder.gateway)
    _renumber(folder, answer.enrolment.site)
    write_document(gateway.enrolment_file, answer.enrolment)
    if answer.key.name == NEXT_TLS_KEY:
        answer.key.replace(gateway.keys / "tls.key")
    give_to_owner_of(gateway.path, gateway.enrolment_file, gateway.keys / "tls.key")


def _load(file: Path, pem: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except ValueError:
        raise UsageError(f"{file} holds a certificate that cannot be read.", hint=_AGAIN) from None


def _require_issued(file: Path, certificate: x509.Certificate, authority: x509.Certificate) -> None:
    try:
        certificate.verify_directly_issued_by(authority)
        ca = authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        ca = False
    if not ca:
        raise UsageError(
            f"The certificate in {file} is not issued by the authority in it.",
            hint="the file was changed on its way, or made with the wrong authority; " + _AGAIN,
        )
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    if ExtendedKeyUsageOID.CLIENT_AUTH not in usage:
        raise UsageError(f"The certificate in {file} is not one for a client.", hint=_AGAIN)


def _require_in_time(file: Path, *certificates: x509.Certificate) -> None:
    now = datetime.now(UTC)
    for certificate, name in zip(certificates, ("certificate", "authority"), strict=True):
        first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if now < first:
            raise UsageError(
                f"The {name} in {file} is valid from {first:%Y-%m-%d %H:%M} UTC; this machine's clock says "
                f"{now:%Y-%m-%d %H:%M} UTC.",
                hint="set this machine's clock (NTP), then run again",
            )
        if now > last:
            raise UsageError(
                f"The {name} in {file} ended at {last:%Y-%m-%d %H:%M} UTC; this machine's clock says "
                f"{now:%Y-%m-%d %H:%M} UTC.",
                hint="if the clock is right, fednotes site renew makes a new request for the coordinator",
            )


def _require_plan_key(file: Path, answer: Enrolment) -> None:
    try:
        public_key(answer.plan_key)
    except ValueError:
        raise UsageError(f"The plan_key in {file} is no Ed25519 key.", hint=_AGAIN) from None


def _require_same_account(folder: SiteFolder, number: int) -> None:
    """The privacy account hangs on the site's number: under another one it would be somebody else's."""
    before = folder.config().number
    if before != number and ledger_of(folder).exists():
        raise UsageError(
            f"The answer gives this site number {number}, but its privacy account was opened under number {before}.",
            hint=f"ask the coordinator to enroll this site as number {before}",
        )


def _require_same_coordinator(folder: SiteFolder, file: Path, answer: Enrolment) -> None:
    gateway = GatewayFolder(folder.gateway)
    if not gateway.enrolment_file.exists():
        return
    before = gateway.enrolment()
    changed = {
        "authority": fingerprint(before.authority.encode()) != fingerprint(answer.authority.encode()),
        "plan_key": before.plan_key.strip() != answer.plan_key.strip(),
        "address": before.address != answer.address,
        "site": before.site != answer.site,
    }
    if names := [name for name, differs in changed.items() if differs]:
        raise UsageError(
            f"{file} differs from this site's enrolment in: {', '.join(names)}.",
            hint="ask the coordinator by telephone whether that is meant, then give --new-coordinator",
        )


def _own_key(folder: SiteFolder, file: Path, certificate: x509.Certificate) -> Path:
    keys = GatewayFolder(folder.gateway).keys
    for path in (keys / NEXT_TLS_KEY, keys / "tls.key"):
        try:
            if path.exists() and public_half(path.read_bytes()) == certificate_key(certificate):
                return path
        except (OSError, ValueError) as error:
            raise UsageError(
                f"The key {path} cannot be read.", hint="restore it from your backup, or fednotes site renew"
            ) from error
    raise UsageError(f"The certificate in {file} belongs to another key than {keys / 'tls.key'}.", hint=_AGAIN)


def _warnings(answer: Enrolment) -> tuple[str, ...]:
    own = fednotes_version()
    if answer.fednotes_version == own:
        return ()
    return (
        f"The coordinator runs fednotes {answer.fednotes_version}, this site {own}: no plan can be approved before "
        "both run the same version.",
    )


def _renumber(folder: SiteFolder, number: int) -> None:
    """Change one line of ``site.toml``; settings and comments around it stay as they are."""
    path, before = folder.path / "site.toml", folder.config()
    if before.number == number:
        return
    text = path.read_text(encoding="utf-8")
    changed = re.sub(r"(?m)^number\s*=\s*\d+", f"number = {number}", text, count=1)
    try:
        after = SiteConfig.model_validate(tomllib.loads(changed))
    except (tomllib.TOMLDecodeError, ValidationError):
        after = before
    if after != before.model_copy(update={"number": number}):
        raise UsageError(f"{path} could not be changed.", hint=f"write number = {number} into it, then run again")
    write_text(path, changed)
