"""A run works without a network, and no process of it tries to reach another machine.

Three proofs, as each sees what the others cannot. The switches are set. An audit hook in every Python process of the
run records each look-up and connection that is not to this machine. And in an empty network namespace the kernel counts
the packets that found no way out, whoever sent them, code in C++ included.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests_support import command

import fednotes

# TEST-NET-2 and 3 (RFC 5737) and a reserved name (RFC 2606): nobody is there.
ATTEMPT = """
import contextlib, socket
with contextlib.suppress(OSError):
    socket.getaddrinfo("nobody.invalid", 80)
with socket.socket() as s, contextlib.suppress(OSError):
    s.settimeout(0.05)
    s.connect(("198.51.100.7", 80))
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s, contextlib.suppress(OSError):
    s.sendto(b"x", ("203.0.113.7", 53))
"""

# Python loads a module of this name at the start of every process that finds it.
HOOK = '''
"""Records attempts to reach another machine."""
import ipaddress, os, socket, sys

_LOG = os.environ["AUDIT_FOLDER"]
_OWN = set(os.environ["AUDIT_OWN"].split())


def _local(host):
    host = host.decode() if isinstance(host, bytes) else str(host)
    if host in _OWN or host in ("", "None", "localhost"):
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _hook(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        if arguments[0].family not in (socket.AF_INET, socket.AF_INET6) or arguments[1] is None:
            return
        host = arguments[1][0]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        host = arguments[0]
    else:
        return
    if not _local(host):
        with open(os.path.join(_LOG, "attempts"), "a") as file:
            file.write(f"{event} {host} by {' '.join(' '.join(sys.orig_argv).split())[-200:]}\\n")


sys.addaudithook(_hook)
with open(os.path.join(_LOG, f"process-{os.getpid()}"), "w") as file:
    file.write(" ".join(sys.orig_argv))
'''


def test_the_switches_of_every_dependency_are_set() -> None:
    assert fednotes.QUIET["FLWR_TELEMETRY_ENABLED"] == "0"
    assert fednotes.QUIET["HF_HUB_OFFLINE"] == "1"
    for name, value in fednotes.QUIET.items():
        assert os.environ[name] == value


@pytest.fixture
def audited(tmp_path: Path) -> tuple[dict[str, str], Path]:
    """An environment that puts the hook into every Python process, and the folder that it writes to."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(HOOK)
    log = tmp_path / "log"
    log.mkdir()
    path = os.pathsep.join(filter(None, [str(tmp_path / "hook"), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "AUDIT_FOLDER": str(log), "AUDIT_OWN": " ".join(_own())}, log


def _own() -> set[str]:
    """Names and addresses of this machine; Ray talks to itself by them."""
    names = {socket.gethostname(), socket.getfqdn()}
    addresses = subprocess.run(["hostname", "-I"], capture_output=True, text=True).stdout.split()
    return names | set(addresses)


def _attempts(log: Path) -> list[str]:
    return (log / "attempts").read_text().splitlines() if (log / "attempts").exists() else []


@pytest.mark.slow
def test_no_python_process_of_a_run_tries_to_reach_another_machine(
    audited: tuple[dict[str, str], Path], tmp_path: Path
) -> None:
    environment, log = audited
    words = command("simulate", "--scenario", "smoke", "--out", tmp_path / "run", "--json")
    done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    processes = [p.read_text() for p in log.glob("process-*")]
    assert any("default_worker.py" in p for p in processes), "the hook is not in Ray's workers"
    assert _attempts(log) == []


def test_the_hook_records_an_attempt(audited: tuple[dict[str, str], Path]) -> None:
    """The control of the test above."""
    environment, log = audited
    subprocess.run([sys.executable, "-c", ATTEMPT], env=environment, check=True, timeout=60)
    seen = [" ".join(line.split()[:2]) for line in _attempts(log)]
    assert seen == ["socket.getaddrinfo nobody.invalid", "socket.connect 198.51.100.7", "socket.sendto 203.0.113.7"]


@pytest.mark.slow
def test_in_an_empty_network_namespace_a_run_works_and_the_kernel_counts_no_attempt(tmp_path: Path) -> None:
    done, attempts = _in_empty_namespace(
        command("simulate", "--scenario", "smoke", "--out", tmp_path / "run", "--json"), tmp_path
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["arms"][0]["name"] == "federated"
    assert attempts == 0


def test_the_kernel_counts_an_attempt(tmp_path: Path) -> None:
    """The control of the test above."""
    done, attempts = _in_empty_namespace([sys.executable, "-c", ATTEMPT], tmp_path)
    assert done.returncode == 0, done.stderr
    assert attempts >= 2


def _in_empty_namespace(words: list[str], folder: Path) -> tuple[subprocess.CompletedProcess[str], int]:
    """Run a command where only the loopback exists; returns also how many packets found no route."""
    namespace = ["unshare", "--net", "--map-root-user"]
    if shutil.which("unshare") is None or subprocess.run([*namespace, "true"], capture_output=True).returncode:
        pytest.skip("this machine gives no network namespaces")
    script = (
        'ip link set lo up 2>/dev/null || ifconfig lo up; kept="$1"; shift; "$@"; status=$?;'
        ' cat /proc/net/snmp > "$kept"; exit $status'
    )
    kept = folder / "snmp"
    done = subprocess.run(
        [*namespace, "sh", "-c", script, "sh", str(kept), *words], capture_output=True, text=True, timeout=300
    )
    names, values = (line.split() for line in kept.read_text().splitlines() if line.startswith("Ip:"))
    return done, int(dict(zip(names, values, strict=True))["OutNoRoutes"])
