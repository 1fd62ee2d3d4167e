"""A small HTTP proxy that knows CONNECT and a password."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Proxy:
    """Where it listens and what it was asked for."""

    port: int
    asked: list[str] = field(default_factory=list)


@contextmanager
def connect_proxy(*, login: str) -> Iterator[Proxy]:
    """A proxy that lets those through who give the login."""
    server = socket.create_server(("127.0.0.1", 0))
    proxy = Proxy(server.getsockname()[1])
    wanted = b"Basic " + base64.b64encode(login.encode())

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                line, _ = server.accept()
                threading.Thread(target=one, args=(line,), daemon=True).start()

    def one(line: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head and (part := line.recv(4096)):
            head += part
        if not head:  # somebody only looked whether the port is open
            return
        target = head.split(b" ", 2)[1].decode()
        if wanted not in head:
            line.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            line.close()
            return
        proxy.asked.append(target)
        host, _, port = target.rpartition(":")
        onward = socket.create_connection((host, int(port)))
        line.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        threading.Thread(target=pump, args=(line, onward), daemon=True).start()
        pump(onward, line)

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while part := source.recv(65_536):
                sink.sendall(part)
            sink.shutdown(socket.SHUT_WR)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield proxy
    finally:
        server.close()
