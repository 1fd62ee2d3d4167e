"""The configuration of nginx as the public end of the ingress, for consortia whose network people trust nginx more.

nginx ends the TLS connection, asks for the client certificate, and passes the gRPC services of a site on to our own
proxy behind it, which decides and writes receipts as ever. It runs as the user of the server home and writes there
alone. Made for the nginx 1.22 of Debian 12.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from protocols.durable import write_text
from protocols.errors import UsageError

_TIMEOUT = "600s"  # a chunk of 5 MB over a slow line
_LARGEST_BODY = "17m"  # our proxy refuses from 16 MB on, with a receipt
_UNUSABLE = frozenset("\"'\\${};\n\r:")
_LONGEST_SOCKET = 100  # the system takes 107 bytes

_TEMPLATE = """\
# Written by fednotes server; changes are lost.
{user}daemon off;
worker_processes 1;
pid {pid};
error_log {log} warn;

events {{
    worker_connections 512;
}}

http {{
    access_log off;
    server_tokens off;
    client_body_temp_path {temp}/body;
    proxy_temp_path {temp}/proxy;
    fastcgi_temp_path {temp}/fastcgi;
    uwsgi_temp_path {temp}/uwsgi;
    scgi_temp_path {temp}/scgi;

    server {{
        listen {listen} ssl http2;

        ssl_protocols TLSv1.3;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        ssl_client_certificate {authority};
        ssl_verify_client on;
        ssl_verify_depth 1;

        client_max_body_size {body};
        client_header_timeout 60s;
        client_body_timeout {timeout};
        send_timeout {timeout};
        keepalive_timeout {timeout};
        keepalive_requests 1000000;
        http2_max_concurrent_streams 32;

        grpc_connect_timeout 5s;
        grpc_read_timeout {timeout};
        grpc_send_timeout {timeout};
        grpc_next_upstream off;
        # These two overwrite whatever a client sends under the same names.
        grpc_set_header X-Fednotes-Certificate $ssl_client_escaped_cert;
        grpc_set_header X-Fednotes-Peer $remote_addr:$remote_port;

        location /flwr.proto.Fleet/ {{
            grpc_pass {upstream};
        }}
        location /grpc.health.v1.Health/ {{
            grpc_pass {upstream};
        }}
        location / {{
            return 403;
        }}
    }}
}}
"""


@dataclass(frozen=True, kw_only=True)
class NginxSettings:
    """What the configuration depends on.

    Attributes:
        listen: public address, ``host:port``.
        certificate: of the ingress (PEM file).
        key: of the ingress (PEM file).
        authority: that signs the sites' certificates (PEM file).
        socket: where our own proxy listens.
        folder: for the configuration and everything that nginx writes.
        user: as whom its workers run; only where nginx is started by root.
    """

    listen: str
    certificate: Path
    key: Path
    authority: Path
    socket: Path
    folder: Path
    user: str = ""

    @property
    def config_file(self) -> Path:
        """The configuration."""
        return self.folder / "nginx.conf"

    def command(self, program: str = "nginx") -> list[str]:
        """What to run, in the foreground.

        Args:
            program: name or path of nginx.
        """
        # Errors of the first moment, before the configuration is read, go to the log of the supervisor.
        return [program, "-e", "stderr", "-p", str(self.folder), "-c", str(self.config_file)]


def nginx_config(settings: NginxSettings) -> str:
    """The text of ``nginx.conf``.

    Raises:
        UsageError: a path has characters with a meaning to nginx, or the socket's is too long.
    """
    if len(str(settings.socket).encode()) > _LONGEST_SOCKET:
        raise UsageError(
            f"The path {settings.socket} is too long for a socket.", hint="move the server home to a shorter path"
        )
    return _TEMPLATE.format(
        user=f"user {settings.user};\n" if settings.user else "",
        pid=_quoted(settings.folder / "nginx.pid"),
        log=_quoted(settings.folder / "nginx.log"),
        temp=_plain(settings.folder / "temp"),
        listen=settings.listen,
        certificate=_quoted(settings.certificate),
        key=_quoted(settings.key),
        authority=_quoted(settings.authority),
        upstream=f'"grpc://unix:{_checked(settings.socket)}"',
        body=_LARGEST_BODY,
        timeout=_TIMEOUT,
    )


def write_nginx_config(settings: NginxSettings) -> Path:
    """Write ``nginx.conf`` and make the folders that it names.

    Raises:
        UsageError: as in :func:`nginx_config`.
        StorageError: the folder cannot be written.
    """
    text = nginx_config(settings)
    write_text(settings.config_file, text)
    (settings.folder / "temp").mkdir(mode=0o700, exist_ok=True)
    return settings.config_file


def _quoted(path: Path) -> str:
    return f'"{_checked(path)}"'


def _plain(path: Path) -> str:
    text = _checked(path)
    if " " in text:
        raise UsageError(f"nginx cannot work in {path}: a space.", hint="move the server home to another path")
    return text


def _checked(path: Path) -> str:
    text = str(path.absolute())
    if _UNUSABLE & set(text):
        raise UsageError(
            f"nginx cannot read the path {path}: it has one of the characters \" ' \\ $ {{ }} ; :",
            hint="move the server home to another path",
        )
    return text
