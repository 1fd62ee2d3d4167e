"""In a network namespace whose only way out is watched, a whole study contacts nobody but its coordinator."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tests_support import REPOSITORY

pytestmark = pytest.mark.slow

_WATCH = ["unshare", "--map-root-user", "--net", sys.executable, str(Path(__file__).with_name("count_packets.py"))]
_KNOCK = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('198.51.100.1', 53))"


def _contacts(*command: str) -> list[str]:
    """Run a command where everything but loopback is watched; where packets went."""
    done = subprocess.run([*_WATCH, *command], cwd=REPOSITORY, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


@pytest.fixture(autouse=True)
def _namespaces() -> None:
    if shutil.which("unshare") is None or shutil.which("ip") is None or not Path("/dev/net/tun").exists():
        pytest.skip("unshare, ip (iproute2) or /dev/net/tun is missing")
    if subprocess.run([*_WATCH, "true"], capture_output=True).returncode:
        pytest.skip("this machine allows no network namespaces")


def test_the_watch_sees_a_contact() -> None:
    assert _contacts(sys.executable, "-c", _KNOCK) == ["a packet to 198.51.100.1"]
    assert _contacts(sys.executable, "-c", "pass") == []


def test_a_study_from_nothing_to_the_released_model_contacts_nobody_else(tmp_path: Path) -> None:
    # Ingest, rephrase, doctor, start, a round with its evaluation, release: the guides, typed in there.
    pytest_ = [sys.executable, "-m", "pytest", "-q", "-m", "slow", "-p", "no:cacheprovider"]
    guides = ["tests/deployment/test_guides.py", "--basetemp", str(tmp_path / "run")]
    assert _contacts(*pytest_, *guides) == []
