"""The two guides, typed as they stand: a coordinator and a hospital from nothing to a first round."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from simulations.synthetic_notes import write_export
from tests.deployment.consortium import set_values
from tests.deployment.link import QUIET, free_ports
from tests.tests_support import REPOSITORY

pytestmark = pytest.mark.slow


def _sections(guide: str) -> dict[str, list[str]]:
    """Commands of a guide by section."""
    text = (REPOSITORY / "docs" / "guides" / guide).read_text(encoding="utf-8")
    found: dict[str, list[str]] = {}
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        title = section.split("\n", 1)[0].split(". ")[-1]
        found[title] = [
            line
            for block in re.findall(r"```bash\n(.*?)```", section, re.DOTALL)
            for line in block.splitlines()
            if line
        ]
    return found


def _type(folder: Path, line: str, **replaced: str) -> str:
    """Type a line in a shell, with the names that only an example has replaced."""
    for example, real in replaced.items():
        line = line.replace(example.replace("_", "."), real)
    beside = Path(sys.executable).parent
    environment = os.environ | QUIET | {"PATH": f"{beside}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        line, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=200, input="y\n"
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _until(what: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.5)


def test_both_guides_lead_to_a_first_round(tmp_path: Path) -> None:
    server, site = _sections("coordinator.md"), _sections("hospital.md")
    coordinator, hospital = tmp_path / "coordinator", tmp_path / "hospital"
    coordinator.mkdir()
    hospital.mkdir()
    write_export(hospital / "notes.csv", hospitals=1, notes=200, seed=3)
    (public, *server_ports) = free_ports(7)
    try:
        init, *start = server["Make the folder, and start"]
        _type(coordinator, init, fed_example_org=f"127.0.0.1:{public}")
        names = [
            "fleet_port",
            "control_port",
            "serverappio_port",
            "health_port",
            "superexec_health_port",
            "metrics_port",
        ]
        set_values(coordinator / "our-server" / "server.toml", dict(zip(names, server_ports, strict=True)))
        for line in start:
            _type(coordinator, line)

        (make,) = site["Make the site"]
        _type(hospital, make)
        ports = dict(
            zip(["gateway_port", "clientappio_port", "health_port", "metrics_port"], free_ports(4), strict=True)
        )
        set_values(hospital / "our-site" / "site.toml", ports)
        request = (hospital / "our-site" / "enrolment-request.json").read_text()
        (coordinator / "enrolment-request.json").write_text(request)
        look, approve, listed = server["Let a hospital in"]
        fingerprint = re.search(r"fingerprint: (.*)", _type(coordinator, look)).group(1)
        _type(coordinator, approve, FINGERPRINT=fingerprint)
        assert "City Hospital" in _type(coordinator, listed)

        for line in server["A model and a plan"]:
            _type(coordinator, line)
        for sent in ("answer.json", "model", "our-server/studies/first-try/signed-plan.json"):
            _type(tmp_path, f"cp -r coordinator/{sent} hospital/")
        for section in ("Install the answer", "Notes", "Approve the study", "Start"):
            for line in site[section]:
                # A new machine has no GPU and no vLLM, of which `doctor` warns; it fails for nothing.
                _type(hospital, line)

        def finished() -> bool:
            said = _type(coordinator, "fednotes server status --home our-server --json")
            return bool(json.loads(said)["studies"][0]["wish"] == "finished")

        _until(finished, 180)
        said = [_type(coordinator, line) for line in server["Watch, and take the model"]]
        assert "first-try: finished, 1 of 1 rounds" in said[0] and "arrived whole" in said[1]
        assert (coordinator / "released" / "model.safetensors").is_file()
        left = [_type(hospital, line) for line in site["See what left"]]
        assert "study first-try, round 1: TrainReply left" in left[0]
    finally:
        subprocess.run(
            [sys.executable, "-m", "fednotes", "site", "stop", "--site", str(hospital / "our-site")], timeout=100
        )
        subprocess.run(
            [sys.executable, "-m", "fednotes", "server", "stop", "--home", str(coordinator / "our-server")], timeout=100
        )
