"""A wire tap for tests: passes every Fleet call on and keeps its bytes and headers, to be searched afterwards."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

_LARGE = [("grpc.max_receive_message_length", 64 * 2**20), ("grpc.max_send_message_length", 64 * 2**20)]


class Recorder(grpc.GenericRpcHandler):
    """Between a site and a coordinator.

    Args:
        upstream: address of the coordinator.
        authority: PEM of whoever issued both certificates.
        pair: (key, certificate) of this listener, PEM.
    """

    def __init__(self, upstream: str, authority: bytes, pair: tuple[bytes, bytes]) -> None:
        self._channel = grpc.secure_channel(upstream, grpc.ssl_channel_credentials(authority), _LARGE)
        self._lock = threading.Lock()
        self.calls: list[tuple[str, bytes]] = []
        self._server = grpc.server(ThreadPoolExecutor(16), options=_LARGE)
        self._server.add_generic_rpc_handlers([self])
        self.port = self._server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
        self._server.start()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        method, metadata = details.method, tuple(details.invocation_metadata)
        headers = b"\n".join(f"{k}: ".encode() + (v if isinstance(v, bytes) else v.encode()) for k, v in metadata)

        def pass_on(request: bytes, context: grpc.ServicerContext) -> bytes:
            with self._lock:
                self.calls.append((method, headers + b"\n\n" + request))
            known = [(k, v) for k, v in metadata if k.startswith("flwr-")]
            try:
                return self._channel.unary_unary(method)(request, metadata=known, timeout=60)
            except grpc.RpcError as error:
                context.abort(error.code(), error.details() or "")

        return grpc.unary_unary_rpc_method_handler(pass_on)

    def traffic(self) -> bytes:
        """Everything that came by."""
        with self._lock:
            return b"\n".join(method.encode() + b"\n" + content for method, content in self.calls)

    def stop(self) -> None:
        self._server.stop(0).wait()


def traces(tracer: str, *haystacks: bytes) -> bool:
    """Whether a string is in any of these, plain or in one of the forms in which text hides."""
    import base64

    plain = tracer.encode()
    forms = [plain, plain[::-1], tracer.encode("utf-16-le"), plain.hex().encode()]
    # Base64 of a text inside another depends on where it begins: without the characters at the seams it does not.
    forms += [base64.b64encode(b"x" * shift + plain)[4 if shift else 0 : -4].lstrip(b"=") for shift in range(3)]
    return any(form in haystack for form in forms for haystack in haystacks)


def files_below(*folders: Path) -> bytes:
    """Content of all files below some folders."""
    files = [p for folder in folders for p in sorted(folder.rglob("*")) if p.is_file()]
    return b"\n".join(str(p.name).encode() + b"\n" + p.read_bytes() for p in files)
