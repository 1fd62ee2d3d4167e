"""What the ingress lets through: known methods, from enrolled sites, with the node key that belongs to the certificate.

Everything else is refused for a reason of a closed list. Of the headers, the few that Flower's nodes need go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from flwr.common.constant import PUBLIC_KEY_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER
from flwr.proto.fleet_pb2 import ActivateNodeRequest
from flwr.supercore.constant import (
    FLWR_COMPONENT_NAME_METADATA_KEY,
    FLWR_PACKAGE_NAME_METADATA_KEY,
    FLWR_PACKAGE_VERSION_METADATA_KEY,
)
from google.protobuf.message import DecodeError

from server.ingress_proxy.callers import EnrolledCaller, EnrolledCallers, read_certificate
from server.ingress_proxy.refusals import Reason, RefusedError
from server.ingress_proxy.two_places import TwoPlaces

FLEET = "/flwr.proto.Fleet/"
HEALTH = "/grpc.health.v1.Health/Check"
METHODS = frozenset(
    {
        "ActivateNode",
        "DeactivateNode",
        "SendNodeHeartbeat",
        "PullMessages",
        "PushMessages",
        "GetRun",
        "GetFab",
        "PushObject",
        "PullObject",
        "ConfirmMessageReceived",
    }
)
"""Of the Fleet API. Nodes are registered by the coordinator, so RegisterNode and UnregisterNode are not among them."""

HEADERS = frozenset(
    {
        PUBLIC_KEY_HEADER,
        SIGNATURE_HEADER,
        TIMESTAMP_HEADER,
        FLWR_PACKAGE_NAME_METADATA_KEY,
        FLWR_PACKAGE_VERSION_METADATA_KEY,
        FLWR_COMPONENT_NAME_METADATA_KEY,
    }
)
"""All that goes on; each at most once."""

CERTIFICATE_HEADER, PEER_HEADER = "x-fednotes-certificate", "x-fednotes-peer"
"""Set by nginx where it ends the TLS connection. It overwrites what a client sends under these names."""

LARGEST_CALL = 16 * 2**20
_LARGEST_HEADER = 1_024

Metadata = Sequence[tuple[str, str | bytes]]


@dataclass(frozen=True, kw_only=True)
class Call:
    """A call as it came in.

    Attributes:
        method: full name.
        request: its bytes.
        metadata: its headers.
        certificate: of the caller (PEM), if there is one.
        peer: from where it comes.
    """

    method: str
    request: bytes
    metadata: Metadata
    certificate: bytes | None
    peer: str

    @property
    def name(self) -> str:
        """Name of the method from a closed list."""
        if self.method == HEALTH:
            return "Check"
        name = self.method.removeprefix(FLEET)
        return name if self.method.startswith(FLEET) and name in METHODS else "other"


class Admission:
    """Decides about calls.

    Args:
        callers: the enrolled sites.
        places: from where they call.
    """

    def __init__(self, callers: EnrolledCallers, places: TwoPlaces) -> None:
        self._callers = callers
        self._places = places

    def admit(self, call: Call) -> int:
        """Number of the site whose call it is.

        Raises:
            RefusedError: it is not let through.
            FednotesError: an enrolment cannot be read.
        """
        caller = self._caller(call)
        if call.name == "other":
            raise RefusedError(Reason.METHOD, caller.site)
        if len(call.request) > LARGEST_CALL:
            raise RefusedError(Reason.TOO_LARGE, caller.site)
        if call.name != "Check":  # which comes from another program of the site, and is answered here
            self._require_node_key(call, caller)
            if self._callers.has_rival(caller) or not self._places.admits(caller.site, call.peer):
                raise RefusedError(Reason.SECOND_CLIENT, caller.site)
        return caller.site

    def _caller(self, call: Call) -> EnrolledCaller:
        if not call.certificate:
            raise RefusedError(Reason.NO_CERTIFICATE)
        try:
            certificate = read_certificate(call.certificate)
        except ValueError:
            raise RefusedError(Reason.NO_CERTIFICATE) from None
        caller = self._callers.find(certificate.fingerprint)
        if caller is None:
            raise RefusedError(Reason.NOT_ENROLLED)
        if caller.revoked:
            raise RefusedError(Reason.REVOKED, caller.site)
        if certificate.has_expired:
            raise RefusedError(Reason.EXPIRED, caller.site)
        return caller

    @staticmethod
    def _require_node_key(call: Call, caller: EnrolledCaller) -> None:
        keys = [value for name, value in call.metadata if name == PUBLIC_KEY_HEADER]
        if keys != [caller.node_key]:
            raise RefusedError(Reason.WRONG_NODE_KEY, caller.site)
        if call.name == "ActivateNode":  # the one call in which Flower takes a node's word for its key
            try:
                claimed = ActivateNodeRequest.FromString(call.request).public_key
            except DecodeError:
                raise RefusedError(Reason.MALFORMED, caller.site) from None
            if claimed != caller.node_key:
                raise RefusedError(Reason.WRONG_NODE_KEY, caller.site)


def passed_headers(metadata: Metadata, site: int) -> list[tuple[str, str | bytes]]:
    """The headers that go on.

    Args:
        metadata: all headers of the call.
        site: whose call it is.

    Raises:
        RefusedError: one of them is there twice, or is longer than any that Flower makes.
    """
    passed = [(name, value) for name, value in metadata if name in HEADERS]
    if len({name for name, _ in passed}) != len(passed) or any(len(value) > _LARGEST_HEADER for _, value in passed):
        raise RefusedError(Reason.MALFORMED, site)
    return passed


def told_by_nginx(metadata: Metadata) -> tuple[bytes | None, str]:
    """Certificate and address of a caller, as nginx gives them."""
    headers = {name: value for name, value in metadata if isinstance(value, str)}
    certificate = unquote(headers.get(CERTIFICATE_HEADER, "")).encode()
    return certificate or None, headers.get(PEER_HEADER, "")
