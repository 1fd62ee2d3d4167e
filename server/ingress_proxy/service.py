"""The ingress as a gRPC service: any method comes in here, few go on to the Fleet API."""

from __future__ import annotations

import logging
from collections.abc import Callable
from email.utils import formatdate

import grpc
from grpc_health.v1.health_pb2 import HealthCheckResponse

from protocols.errors import FednotesError, StorageError
from server.ingress_proxy.admission import Admission, Call, Metadata, passed_headers, told_by_nginx
from server.ingress_proxy.book import ReceiptBook
from server.ingress_proxy.pushes import Pushes
from server.ingress_proxy.refusals import RefusedError

_LOG = logging.getLogger(__name__)
_UPSTREAM_S = 120.0
_LONGEST_DETAIL = 200
_AWAY = grpc.StatusCode.UNAVAILABLE, "the coordinator is away"
_TRY_AGAIN = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}


class Ingress(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Serves the sites.

    Args:
        admission: who and what is let through.
        pushes: passes messages on and keeps account of them.
        book: receipts.
        fleet: channel to the Fleet API.
        behind_nginx: the caller's certificate is what nginx says; else it is that of the connection.
    """

    def __init__(
        self, admission: Admission, pushes: Pushes, book: ReceiptBook, fleet: grpc.Channel, *, behind_nginx: bool
    ) -> None:
        self._admission = admission
        self._pushes = pushes
        self._book = book
        self._fleet = fleet
        self._behind_nginx = behind_nginx
        self._state = grpc.ChannelConnectivity.IDLE
        fleet.subscribe(self._note_state)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """Take every call, also of unknown methods: a refusal has to be written down."""
        method, metadata = handler_call_details.method, tuple(handler_call_details.invocation_metadata)

        def handle(request: bytes, context: grpc.ServicerContext) -> bytes:
            certificate, peer = told_by_nginx(metadata) if self._behind_nginx else _seen_by_grpc(context)
            call = Call(method=method, request=request, metadata=metadata, certificate=certificate, peer=peer)
            return self._serve(call, context)

        return grpc.unary_unary_rpc_method_handler(handle)

    def _serve(self, call: Call, context: grpc.ServicerContext) -> bytes:
        try:
            answer = self._answer(call)
            if call.name == "Check":  # a site's doctor compares its clock with ours
                context.send_initial_metadata((("date", formatdate(usegmt=True)),))
            return answer
        except RefusedError as refused:
            self._book.refused(refused, call.name)
            status, text = refused.reason.status, refused.reason.text
        except grpc.RpcError as error:
            status, text = _status_of(error)
        except StorageError:
            _LOG.error("a call was not passed on: no receipt could be written")
            status, text = grpc.StatusCode.UNAVAILABLE, "the coordinator's disk takes nothing"
        except FednotesError as error:
            _LOG.error("a call was not passed on: %s", error)
            status, text = grpc.StatusCode.UNAVAILABLE, "the coordinator is not configured well"
        context.abort(status, text)
        raise AssertionError("abort raises")

    def _answer(self, call: Call) -> bytes:
        site = self._admission.admit(call)
        if call.name == "Check":
            return bytes(self._health().SerializeToString())
        self._book.count(site, call.name)
        forward = self._forward(call.method, passed_headers(call.metadata, site))
        if call.name == "PushMessages":
            return self._pushes.announce(site, call.request, forward)
        if call.name == "PushObject":
            return self._pushes.put(site, call.request, forward)
        return forward(call.request)

    def _forward(self, method: str, headers: Metadata) -> Callable[[bytes], bytes]:
        upstream = self._fleet.unary_unary(method)
        return lambda request: bytes(upstream(request, metadata=headers, timeout=_UPSTREAM_S))

    def _health(self) -> HealthCheckResponse:
        """Whether the Fleet API can be reached, as far as the last try showed."""
        broken = self._state in (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN)
        return HealthCheckResponse(status=HealthCheckResponse.NOT_SERVING if broken else HealthCheckResponse.SERVING)

    def _note_state(self, state: grpc.ChannelConnectivity) -> None:
        self._state = state


def _seen_by_grpc(context: grpc.ServicerContext) -> tuple[bytes | None, str]:
    certificates = context.auth_context().get("x509_pem_cert", [])
    return (certificates[0] if certificates else None), context.peer()


def _status_of(error: grpc.RpcError) -> tuple[grpc.StatusCode, str]:
    """What a site hears of a call that failed at the Fleet API. It tries again for ever when that is away."""
    if error.code() in _TRY_AGAIN:
        return _AWAY
    return error.code(), (error.details() or "")[:_LONGEST_DETAIL]
