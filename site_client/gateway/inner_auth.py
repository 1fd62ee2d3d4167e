"""Who may speak to the gateway: the SuperNode of this site, which signs every call with a key that only it has.

Loopback is shared by everybody on a machine. Flower's nodes sign a timestamp with their node key; here it is a key
that the coordinator never heard of.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import grpc
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from flwr.common.constant import PUBLIC_KEY_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER
from flwr.supercore.date import now
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, verify_signature
from flwr.supercore.utils import get_metadata_bytes, get_metadata_str

from protocols.errors import UsageError

_WINDOW_S = 60.0


class OnlyOurNode(grpc.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Lets through calls that are signed with one key, not long ago.

    Args:
        public: of the SuperNode.
    """

    def __init__(self, public: EllipticCurvePublicKey) -> None:
        self._public = public
        self._bytes = public_key_to_bytes(public)

    def intercept_service(
        self, continuation: Callable[[Any], Any], handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler:
        """Pass a call on, or answer it with UNAUTHENTICATED."""
        metadata = handler_call_details.invocation_metadata
        key = get_metadata_bytes(metadata, PUBLIC_KEY_HEADER)
        time = get_metadata_str(metadata, TIMESTAMP_HEADER) or ""
        signature = get_metadata_bytes(metadata, SIGNATURE_HEADER) or b""
        if key == self._bytes and self._is_fresh(time) and verify_signature(self._public, time.encode(), signature):
            return continuation(handler_call_details)
        return grpc.unary_unary_rpc_method_handler(_refuse)

    @staticmethod
    def _is_fresh(time: str) -> bool:
        try:
            return abs((now() - datetime.fromisoformat(time)).total_seconds()) < _WINDOW_S
        except (ValueError, TypeError):
            return False


def only_our_node(public: Path) -> OnlyOurNode:
    """The interceptor for the key in a file.

    Raises:
        UsageError: it cannot be read or is of another kind.
    """
    try:
        key = load_ssh_public_key(public.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"The key {public} cannot be read.", hint="restore it from your backup") from error
    if not isinstance(key, EllipticCurvePublicKey):
        raise UsageError(f"The key {public} is not an elliptic-curve key.", hint="restore it from your backup")
    return OnlyOurNode(key)


def _refuse(_: bytes, context: grpc.ServicerContext) -> bytes:
    context.abort(grpc.StatusCode.UNAUTHENTICATED, "this gateway serves its own SuperNode alone")
    return b""
