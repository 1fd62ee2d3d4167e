"""Key rotation: a new key for the client certificate, and a request for it under the same site number.

The old key and certificate stay in use until the coordinator's answer is installed; until then a renewal can be begun
again as often as one likes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509

from protocols.certificates import new_key
from protocols.durable import whole_file
from protocols.enrolment import EnrolmentRequest
from site_client.folder import SiteFolder
from site_client.gateway.folder import GatewayFolder
from site_client.keys import NEXT_TLS_KEY, inner_is_whole, make_inner_tls, make_keys, write_request
from site_client.ownership import give_to_owner_of

_INNER_SOON = timedelta(days=60)


@dataclass(frozen=True, kw_only=True)
class Renewal:
    """What a renewal made.

    Attributes:
        request: to be sent to the coordinator.
        first: nothing was enrolled before: these are the site's first keys.
        inner: the loopback certificate was made anew as well; restart the site's programs.
    """

    request: EnrolmentRequest
    first: bool
    inner: bool


def renew(folder: SiteFolder) -> Renewal:
    """Make a new key and a request for it; a folder without keys gets all of them.

    Args:
        folder: the site.

    Raises:
        UsageError: a key is missing that a new one could not replace.
    """
    gateway = GatewayFolder(folder.gateway)
    if not gateway.enrolment_file.exists():
        return Renewal(request=make_keys(folder), first=True, inner=False)
    inner = not inner_is_whole(folder) or _ends_soon((gateway.keys / "inner.pem").read_bytes())
    if inner:
        make_inner_tls(folder)
    fresh = gateway.keys / NEXT_TLS_KEY
    with whole_file(fresh) as partial:
        partial.write_bytes(new_key())
    give_to_owner_of(gateway.path, *(gateway.keys / name for name in (NEXT_TLS_KEY, "inner.key", "inner.pem")))
    return Renewal(request=write_request(folder, fresh), first=False, inner=inner)


def _ends_soon(certificate: bytes) -> bool:
    end = x509.load_pem_x509_certificate(certificate).not_valid_after_utc
    return end - datetime.now(UTC) < _INNER_SOON
