"""Checks of the loopback ports: free, or held by this site's own programs."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

from protocols.supervise import read_state
from site_client.doctor.finding import Finding, fail, ok
from site_client.folder import SiteFolder

_LISTEN = "0A"


def check_ports(folder: SiteFolder) -> Finding:
    """Whether each port of ``[deployment]`` is ours to use."""
    state = read_state(folder.path / "run.json")
    pids = [p.pid for p in state.programs.values() if p.pid] if state else []
    taken = taken_ports(folder, own=_sockets_of(pids))
    if taken:
        name, port = next(iter(taken.items()))
        return fail("ports", f"{port} is taken by another program: change [deployment] {name} in site.toml")
    return ok("ports", "held by this site's own programs" if pids else "free")


def taken_ports(folder: SiteFolder, *, own: frozenset[str] = frozenset()) -> dict[str, int]:
    """Ports of ``[deployment]`` on which somebody else listens, by setting.

    Args:
        folder: the site.
        own: sockets that are this site's own, as :func:`check_ports` finds them.
    """
    deployment = folder.config().deployment
    ports = {
        name: getattr(deployment, name) for name in ("gateway_port", "clientappio_port", "health_port", "metrics_port")
    }
    return {name: port for name, port in ports.items() if not _can_bind(port) and not _listeners(port) <= own}


def _can_bind(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a connection of yesterday does not matter
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _listeners(port: int) -> frozenset[str]:
    """Inodes of the sockets that listen on a port; one that nobody has when the system does not tell."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = Path(table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for row in (r.split() for r in rows):
            if row[3] == _LISTEN and int(row[1].rsplit(":", 1)[1], 16) == port:
                found.add(row[9])
    return frozenset(found or {"unknown"})


def _sockets_of(leaders: list[int]) -> frozenset[str]:
    """Inodes of the sockets of programs and of all that they started: each program has a session of its own."""
    links: list[str] = []
    for pid in (int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit()):
        with suppress(OSError):  # it ended
            if pid not in leaders and os.getsid(pid) not in leaders:
                continue
            for handle in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):  # it was closed meanwhile
                    links.append(str(handle.readlink()))
    return frozenset(link[8:-1] for link in links if link.startswith("socket:["))
