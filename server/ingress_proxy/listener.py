"""Putting the ingress together: its listener, its way to the Fleet API, its receipts."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc

from protocols.errors import UsageError
from server.ingress_proxy.admission import LARGEST_CALL, Admission
from server.ingress_proxy.book import ReceiptBook
from server.ingress_proxy.callers import EnrolledCaller, EnrolledCallers
from server.ingress_proxy.open_messages import OpenMessages
from server.ingress_proxy.pushes import Pushes
from server.ingress_proxy.service import Ingress
from server.ingress_proxy.two_places import TwoPlaces

_LOG = logging.getLogger(__name__)
_THREADS = 16  # each holds one call, of at most 16 MB, in memory
_COUNTS_EVERY_S = 15.0
_LISTENING = (
    # A little above the bound of a call, so that a call above the bound is refused with a receipt.
    ("grpc.max_receive_message_length", LARGEST_CALL + 2**20),
    ("grpc.max_send_message_length", LARGEST_CALL),
    ("grpc.max_concurrent_streams", 32),
    ("grpc.so_reuseport", 0),
    # A site whose line is dead is noticed within a minute and a half.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 30_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
)
_CALLING = (
    ("grpc.max_receive_message_length", LARGEST_CALL),
    ("grpc.max_send_message_length", LARGEST_CALL),
    ("grpc.enable_http_proxy", 0),  # it is on this machine, whatever the environment says
    # The link is back seconds after it was killed, and the sites should not wait for longer.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


@dataclass(frozen=True, kw_only=True)
class Tls:
    """What the ingress shows to sites, and whom it takes certificates from.

    Attributes:
        key: PEM file.
        certificate: PEM file.
        authority: PEM file.
    """

    key: Path
    certificate: Path
    authority: Path


@dataclass(frozen=True, kw_only=True)
class IngressSettings:
    """All that an ingress needs to know.

    Attributes:
        listen: ``host:port``, or ``unix:/path`` behind nginx.
        tls: its certificates; none behind nginx, which then says who calls.
        fleet: ``host:port`` of the Fleet API.
        fleet_authority: PEM file with the authority of the Fleet API's certificate.
        enrolled: folder of the enrolments.
        read_enrolled: reads it.
        receipts: folder of the receipts.
    """

    listen: str
    tls: Tls | None
    fleet: str
    fleet_authority: Path
    enrolled: Path
    read_enrolled: Callable[[], Mapping[str, EnrolledCaller]]
    receipts: Path


def serve(settings: IngressSettings, stop: threading.Event, *, ready: Callable[[], None] = lambda: None) -> None:
    """Serve until told to stop.

    Args:
        settings: of this ingress.
        stop: ends it.
        ready: called when it listens.

    Raises:
        FednotesError: a file, an address or the receipts are not as they have to be.
    """
    if settings.tls is None and not settings.listen.startswith("unix:"):
        raise UsageError("An ingress behind nginx listens on a socket file only.", hint="set listen to unix:/path")
    with ReceiptBook.open(settings.receipts) as book:
        fleet = _channel(settings)
        server = _listen(settings, _ingress(settings, book, fleet))
        server.start()
        _LOG.info("the ingress serves on %s", settings.listen)
        ready()
        while not stop.wait(_COUNTS_EVERY_S):
            book.write_counts()
        server.stop(grace=5.0).wait()
        fleet.close()


def _ingress(settings: IngressSettings, book: ReceiptBook, fleet: grpc.Channel) -> Ingress:
    admission = Admission(EnrolledCallers(settings.enrolled, settings.read_enrolled), TwoPlaces())
    pushes = Pushes(book, OpenMessages(settings.receipts / "open"))
    return Ingress(admission, pushes, book, fleet, behind_nginx=settings.tls is None)


def _channel(settings: IngressSettings) -> grpc.Channel:
    credentials = grpc.ssl_channel_credentials(_read(settings.fleet_authority))
    return grpc.secure_channel(settings.fleet, credentials, options=_CALLING)


def _listen(settings: IngressSettings, ingress: Ingress) -> grpc.Server:
    server = grpc.server(ThreadPoolExecutor(_THREADS), handlers=[ingress], options=_LISTENING)
    try:
        if settings.tls is None:
            Path(settings.listen.removeprefix("unix:")).unlink(missing_ok=True)
            server.add_insecure_port(settings.listen)
        else:
            pair = _read(settings.tls.key), _read(settings.tls.certificate)
            authority = _read(settings.tls.authority)
            server.add_secure_port(
                settings.listen, grpc.ssl_server_credentials([pair], authority, require_client_auth=True)
            )
    except RuntimeError as error:
        raise UsageError(
            f"The ingress cannot listen on {settings.listen}: the address is taken, or is none of this machine.",
            hint="change the ingress port or bind address in server.toml, or stop the other program",
        ) from error
    return server


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.", hint="restore it from your backup") from error
