"""Checks of the way to the coordinator, step by step: name, connection, TLS, health, clock.

Each step says in one line what to do; the next one is taken only when it can work.
"""

from __future__ import annotations

import base64
import socket
import ssl
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

import grpc
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protocols.enrolment import Enrolment
from site_client.deployment import DeploymentConfig
from site_client.doctor.finding import Finding, fail, ok, warn
from site_client.folder import SiteFolder
from site_client.gateway.folder import GatewayFolder
from site_client.gateway.upstream import open_channel

FASTEST_S, SLOWEST_S = 5.0, 305.0
"""How far a site's clock may be ahead of, or behind, the coordinator's: Flower takes a signed time stamp for 300 s, and
both ways 5 s more."""

_TIMEOUT_S = 10.0
_EXPIRES_SOON = timedelta(days=14)
_UNKNOWN_AUTHORITY = {18, 19, 20, 21}  # OpenSSL: self-signed, self-signed in chain, no issuer, cannot verify
_NOT_YET, _EXPIRED, _WRONG_NAMES = 9, 10, {62, 64}


def check_network(folder: SiteFolder) -> Iterator[Finding]:
    """All steps, up to the first that fails."""
    gateway, deployment = GatewayFolder(folder.gateway), folder.config().deployment
    enrolment = gateway.enrolment()
    host, port = split_address(enrolment.address)
    way = split_address(deployment.proxy.removeprefix("http://")) if deployment.proxy else (host, port)
    yield (finding := check_dns(way[0]))
    if finding.state == "fail":
        return
    yield (finding := check_tcp(*way, proxied=bool(deployment.proxy)))
    if finding.state == "fail":
        return
    yield (finding := check_tls(gateway, enrolment, deployment))
    if finding.state != "fail":
        yield from check_health(gateway, enrolment, deployment)


def check_dns(host: str) -> Finding:
    """Whether the name of the coordinator, or of the proxy, is known."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return fail("dns", f"{host} is unknown here: check the address and this machine's name servers")
    return ok("dns", f"{host} is {found[0][4][0]}")


def check_tcp(host: str, port: int, *, proxied: bool = False) -> Finding:
    """Whether a connection comes about."""
    whom = "proxy" if proxied else "coordinator"
    try:
        socket.create_connection((host, port), _TIMEOUT_S).close()
    except OSError as error:
        what = "no answer" if isinstance(error, TimeoutError) else (error.strerror or type(error).__name__).lower()
        todo = "check [deployment] proxy" if proxied else "ask for the firewall to be opened outwards, or set a proxy"
        return fail("tcp", f"{whom} {host}:{port}: {what}; {todo}")
    return ok("tcp", f"{whom} {host}:{port} answers")


def check_tls(gateway: GatewayFolder, enrolment: Enrolment, deployment: DeploymentConfig) -> Finding:
    """Whether the coordinator is who it should be, by name, authority and time."""
    host, port = split_address(enrolment.address)
    try:
        with _connection(gateway, deployment, host, port) as plain:
            context = _context(gateway, enrolment)
            with context.wrap_socket(plain, server_hostname=host) as secure:
                der = secure.getpeercert(binary_form=True)
    except ssl.SSLCertVerificationError as error:
        return fail("tls", _certificate_trouble(error, host))
    except ssl.SSLError as error:
        return fail("tls", f"{host}:{port} speaks no TLS that fits ({error.reason}): is another server in between?")
    except OSError as error:
        return fail("tls", f"{host}:{port}: {error.strerror or error}: does a firewall or proxy cut connections?")
    last = x509.load_der_x509_certificate(der or b"").not_valid_after_utc
    if last - datetime.now(UTC) < _EXPIRES_SOON:
        return warn("tls", f"{host} is the coordinator; its certificate ends on {last:%Y-%m-%d}: tell the coordinator")
    return ok("tls", f"{host} is the coordinator, certificate until {last:%Y-%m-%d}")


def check_health(gateway: GatewayFolder, enrolment: Enrolment, deployment: DeploymentConfig) -> Iterator[Finding]:
    """Whether the coordinator serves this site; and how its clock and this one differ, where it tells the time."""
    with open_channel(gateway, enrolment, deployment) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        asked = datetime.now(UTC)
        try:
            answer, call = stub.Check.with_call(health_pb2.HealthCheckRequest(), timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            yield _health_trouble(error)
            headers = dict(error.initial_metadata() or ()) if isinstance(error, grpc.Call) else {}
            yield from check_clock(str(headers.get("date", "")), asked)
            return
        if answer.status == health_pb2.HealthCheckResponse.SERVING:
            yield ok("health", "the coordinator serves this site")
        else:
            yield warn("health", "the coordinator is up but not serving: try again later, or ask it")
        yield from check_clock(str(dict(call.initial_metadata()).get("date", "")), asked)


def check_clock(date: str, asked: datetime) -> Iterator[Finding]:
    """Compare this clock with the coordinator's, to a second; nothing when it tells no time.

    Args:
        date: header of its answer, as in HTTP.
        asked: when it was asked, by this clock.
    """
    try:
        theirs = parsedate_to_datetime(date)
    except ValueError:
        return
    now = datetime.now(UTC)
    ahead = (asked + (now - asked) / 2 - theirs).total_seconds()
    told = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the coordinator's"
    # A header tells whole seconds, cut: one second more either way is nobody's fault.
    if ahead > FASTEST_S + 1 or ahead < -SLOWEST_S:
        yield fail("clock", f"{told}: calls are refused beyond {FASTEST_S:.0f} s ahead, 5 min behind; set it (NTP)")
    elif ahead > FASTEST_S / 2 + 1 or ahead < -SLOWEST_S / 5:
        yield warn("clock", f"{told}: near the limit (5 s ahead, 5 min behind); turn NTP on")
    else:
        yield ok("clock", f"{told}, within the limits")


def split_address(address: str) -> tuple[str, int]:
    """Host and port of ``host:port`` or ``[address]:port``."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _connection(gateway: GatewayFolder, deployment: DeploymentConfig, host: str, port: int) -> socket.socket:
    """A connection to the coordinator, through the proxy where there is one."""
    if not deployment.proxy:
        return socket.create_connection((host, port), _TIMEOUT_S)
    line = socket.create_connection(split_address(deployment.proxy.removeprefix("http://")), _TIMEOUT_S)
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    asked = f"CONNECT {where} HTTP/1.1\r\nHost: {where}\r\n{_login(gateway, deployment)}\r\n"
    line.sendall(asked.encode())
    answer = b""
    while b"\r\n\r\n" not in answer and (part := line.recv(4096)):
        answer += part
    status = answer.split(b" ", 2)[1:2]
    if status != [b"200"]:
        line.close()
        raise OSError(f"the proxy answers {(status or [b'nothing'])[0].decode('ascii', 'replace')[:10]}")
    return line


def _login(gateway: GatewayFolder, deployment: DeploymentConfig) -> str:
    if not deployment.proxy_user:
        return ""
    password = ""
    if deployment.proxy_password_file:
        password = (gateway.path / deployment.proxy_password_file).read_text(encoding="utf-8").strip()
    secret = base64.b64encode(f"{deployment.proxy_user}:{password}".encode()).decode()
    return f"Proxy-Authorization: Basic {secret}\r\n"


def _context(gateway: GatewayFolder, enrolment: Enrolment) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=enrolment.authority)
    context.set_alpn_protocols(["h2"])
    with tempfile.TemporaryDirectory() as folder:  # the library takes a certificate from a file only; it is no secret
        own = Path(folder) / "certificate.pem"
        own.write_text(enrolment.certificate, encoding="ascii")
        context.load_cert_chain(own, gateway.keys / "tls.key")
    return context


def _certificate_trouble(error: ssl.SSLCertVerificationError, host: str) -> str:
    code = error.verify_code
    if code in _WRONG_NAMES:
        return f"the server's certificate is not for {host}: check the address, or tell the coordinator"
    if code == _EXPIRED:
        return "the server's certificate has ended by this clock: check the clock, then tell the coordinator"
    if code == _NOT_YET:
        return "the server's certificate is not valid yet by this clock: set the clock (NTP)"
    if code in _UNKNOWN_AUTHORITY:
        return "the server's certificate is of an unknown authority: a proxy that opens TLS, or another coordinator"
    return f"the server's certificate is refused: {error.verify_message}"


def _health_trouble(error: grpc.RpcError) -> Finding:
    code = error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.UNKNOWN
    if code in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED):
        return fail("health", "the coordinator refuses this site's certificate: is it enrolled, or revoked? Ask it")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return warn("health", "the coordinator answers but tells no health: another version, or a proxy in between")
    if code is grpc.StatusCode.UNAVAILABLE:
        return fail(
            "health", "the coordinator closed the connection: it may not take this site's certificate, or be stopped"
        )
    return fail("health", f"the coordinator answers {code.name}: try again later, or ask it")
