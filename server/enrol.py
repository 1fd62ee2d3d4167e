"""Letting a site in, and out again: its request is approved after two people compared the fingerprint."""

from __future__ import annotations

from datetime import UTC, datetime

from protocols.bundle import fednotes_version
from protocols.certificates import fingerprint, issue_client
from protocols.enrolment import Enrolment, EnrolmentRequest
from protocols.errors import UsageError
from protocols.messages import CONTRACT_VERSION
from protocols.signing import own_key, public_pem
from server.enrolled import EnrolledSite, read_enrolled, write_enrolled
from server.home import ServerHome
from server.ingress_proxy.callers import flower_node_key
from server.initialise import read_authority


def enrol(home: ServerHome, request: EnrolmentRequest, compared: str, *, number: int | None = None) -> Enrolment:
    """Approve a request.

    A site that is enrolled already and sends a new request (a new key, a new certificate) keeps its number; the old
    certificate ends with it.

    Args:
        home: of the coordinator.
        request: of the site.
        compared: the fingerprint that the site read out, in any grouping.
        number: of the site; the next free one when not given.

    Returns:
        The answer for the site.

    Raises:
        UsageError: the fingerprint is another one, the versions do not fit, or a key is in use by another site.
    """
    if "".join(compared.split()).lower() != request.fingerprint:
        raise UsageError(
            "The fingerprint given is not that of the request.",
            hint="ask the site to read out the fingerprint that 'fednotes site init' showed; do not approve otherwise",
        )
    if request.contract_version != CONTRACT_VERSION:
        raise UsageError(
            f"The site speaks contract {request.contract_version} (fednotes {request.fednotes_version}), this "
            f"coordinator {CONTRACT_VERSION} ({fednotes_version()}).",
            hint="install the same version at both ends",
        )
    sites = list(read_enrolled(home.enrolled).values())
    site = _number(sites, request, number)
    config, authority = home.config(), read_authority(home)
    try:
        flower_node_key(request.node_key)
        certificate = issue_client(
            authority, request.certificate_request.encode(), f"site-{site:04d}", days=config.site_days
        )
    except ValueError as error:
        raise UsageError(
            "The request holds a key that cannot be used.", hint="ask the site for a new request: fednotes site renew"
        ) from error
    enrolled = EnrolledSite(
        site=site,
        request=request,
        certificate=certificate.decode(),
        fingerprint=fingerprint(certificate),
        enrolled_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    write_enrolled(home.enrolled, enrolled)
    return answer(home, enrolled)


def answer(home: ServerHome, site: EnrolledSite) -> Enrolment:
    """What the site is sent: nothing in it is secret."""
    config = home.config()
    return Enrolment(
        fednotes_version=fednotes_version(),
        request_fingerprint=site.request.fingerprint,
        site=site.site,
        coordinator=config.name,
        address=config.public,
        authority=read_authority(home).certificate.decode(),
        certificate=site.certificate,
        plan_key=public_pem(own_key(home.keys / "plan.key", home.keys / "plan.pub").public_key()),
    )


def revoke(home: ServerHome, number: int) -> EnrolledSite:
    """Take a site's admission back; the ingress notices at its next call.

    Raises:
        UsageError: there is no such site.
    """
    for site in read_enrolled(home.enrolled).values():
        if site.site == number:
            revoked = site.model_copy(update={"revoked": True})
            write_enrolled(home.enrolled, revoked)
            return revoked
    raise UsageError(f"No site has the number {number}.", hint="fednotes server enroll --list")


def _number(sites: list[EnrolledSite], request: EnrolmentRequest, wanted: int | None) -> int:
    same_key = [s for s in sites if s.request.node_key == request.node_key]
    if same_key:
        (known,) = same_key
        if known.request.site_name != request.site_name or wanted not in (None, known.site):
            raise UsageError(
                f"Site {known.site} has the same node key under another name: no two sites may share a key.",
                hint="the second site makes keys of its own: fednotes site init in a new folder",
            )
        return known.site
    taken = {s.site for s in sites}
    if wanted is None:
        return next(n for n in range(len(taken) + 1) if n not in taken)
    if wanted in taken:
        raise UsageError(f"Number {wanted} belongs to another site.", hint="leave --number out")
    return wanted
