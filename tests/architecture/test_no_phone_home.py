"""With the network cut off, a whole run works and nobody tries to reach out."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from tests_support import command

import fednotes


def test_the_switches_of_every_dependency_are_set() -> None:
    import os

    assert fednotes.QUIET["FLWR_TELEMETRY_ENABLED"] == "0"
    assert fednotes.QUIET["HF_HUB_OFFLINE"] == "1"
    for name, value in fednotes.QUIET.items():
        assert os.environ[name] == value


@pytest.mark.slow
def test_a_run_in_an_empty_network_namespace_contacts_nobody(tmp_path: Path) -> None:
    """No route leads out of the namespace, and strace-free proof of attempts: name look-ups would go to a dead port."""
    namespace = ["unshare", "--net", "--map-root-user"]
    if shutil.which("unshare") is None or subprocess.run([*namespace, "true"], capture_output=True).returncode:
        pytest.skip("this machine gives no network namespaces")
    words = command("simulate", "--scenario", "smoke", "--out", tmp_path / "run", "--json")
    script = 'ip link set lo up 2>/dev/null || ifconfig lo up; exec "$@"'
    done = subprocess.run([*namespace, "sh", "-c", script, "sh", *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["arms"][0]["name"] == "federated"
