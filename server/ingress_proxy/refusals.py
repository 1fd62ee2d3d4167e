"""The closed list of reasons for which the ingress does not pass a call on, with what it answers."""

from __future__ import annotations

from enum import Enum

import grpc


class Reason(Enum):
    """Why a call was refused. Each value: the note in the receipt, the gRPC status, the one text that is answered.

    PERMISSION_DENIED is left to methods: from the coordinator, Flower's nodes take it as "this run is over".
    UNAVAILABLE makes a site try again for ever; it stands where time alone mends the matter.
    """

    NO_CERTIFICATE = "no_certificate", grpc.StatusCode.UNAUTHENTICATED, "a client certificate is needed"
    NOT_ENROLLED = "not_enrolled", grpc.StatusCode.UNAUTHENTICATED, "this certificate is not enrolled"
    REVOKED = "revoked", grpc.StatusCode.UNAUTHENTICATED, "the enrolment of this site was revoked"
    EXPIRED = "certificate_expired", grpc.StatusCode.UNAUTHENTICATED, "this certificate has expired"
    WRONG_NODE_KEY = "wrong_node_key", grpc.StatusCode.UNAUTHENTICATED, "node key and certificate are not of one site"
    METHOD = "method", grpc.StatusCode.PERMISSION_DENIED, "this method is not served here"
    TOO_LARGE = "too_large", grpc.StatusCode.RESOURCE_EXHAUSTED, "the call is too large"
    MALFORMED = "malformed", grpc.StatusCode.INVALID_ARGUMENT, "the call is not laid out as it has to be"
    NOT_ANNOUNCED = "not_announced", grpc.StatusCode.FAILED_PRECONDITION, "the message was not announced"
    SECOND_CLIENT = "second_client", grpc.StatusCode.UNAVAILABLE, "another client of this site is connected"

    def __init__(self, note: str, status: grpc.StatusCode, text: str) -> None:
        self.note = note
        self.status = status
        self.text = text


class RefusedError(Exception):
    """A call that is not passed on.

    Args:
        reason: why.
        site: whose call it is, where that is known.
    """

    def __init__(self, reason: Reason, site: int | None = None) -> None:
        super().__init__(reason.note)
        self.reason = reason
        self.site = site
