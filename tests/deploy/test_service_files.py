"""The files of deploy/ as their own tools see them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.tests_support import REPOSITORY

UNITS = sorted((REPOSITORY / "deploy" / "systemd").glob("*.service"))
MOST_EXPOSED = 4.0  # systemd's own scale from 0 to 10


def _analyze(*words: object) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed (apt-get install systemd)")
    return subprocess.run(["systemd-analyze", *map(str, words)], capture_output=True, text=True, timeout=60)


def test_there_is_a_unit_for_each_end() -> None:
    assert [u.name for u in UNITS] == ["fednotes-server.service", "fednotes-site.service"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda u: u.stem)
def test_systemd_finds_nothing_wrong(unit: Path, tmp_path: Path) -> None:
    # The program and the user are made at the installation: here, others stand in for them.
    text = re.sub(r"/opt/fednotes/bin/fednotes", "/bin/true", unit.read_text()).replace(
        "User=fednotes-server", "User=daemon"
    )
    (tmp_path / unit.name).write_text(text)
    done = _analyze("verify", "--man=no", tmp_path / unit.name)
    told = [line for line in done.stderr.splitlines() if unit.name in line]
    assert done.returncode == 0 and told == [], done.stderr


@pytest.mark.parametrize("unit", UNITS, ids=lambda u: u.stem)
def test_the_units_are_hardened(unit: Path) -> None:
    done = _analyze("security", "--offline=true", f"--threshold={int(10 * MOST_EXPOSED)}", "--no-pager", unit)
    (overall,) = re.findall(r"Overall exposure level.*: ([0-9.]+)", done.stdout)
    assert float(overall) <= MOST_EXPOSED, done.stdout
    for setting in ("NoNewPrivileges=yes", "ProtectSystem=strict", "PrivateTmp=yes"):
        assert setting in unit.read_text()


def test_the_firewall_rule_is_one_that_nft_takes() -> None:
    if shutil.which("nft", path=f"{os.environ['PATH']}:/usr/sbin") is None or os.geteuid() != 0:
        pytest.skip("nft is not installed, or this is not root (apt-get install nftables)")
    rule = REPOSITORY / "deploy" / "nftables" / "fednotes-site.nft"
    words = ["unshare", "--net", "/usr/sbin/nft", "--check", "--file", str(rule)]
    done = subprocess.run(words, capture_output=True, text=True)
    if "Operation not supported" in done.stderr or "Operation not permitted" in done.stderr:
        pytest.skip("this machine's kernel has no nftables")
    assert done.returncode == 0, done.stderr


def test_the_firewall_names_the_user_of_the_readme() -> None:
    rule = (REPOSITORY / "deploy" / "nftables" / "fednotes-site.nft").read_text()
    readme = (REPOSITORY / "deploy" / "README.md").read_text()
    (user,) = re.findall(r"node_user = (\d+)", readme)
    assert f"meta skuid {user} " in rule
