"""A coordinator and hospitals as a person sets them up: with the commands of the guides, on free ports of loopback."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from protocols.plan import Plan
from protocols.supervise import SupervisorState, read_state
from site_client.folder import SiteFolder
from site_client.keys import make_keys
from tests.deployment.link import QUIET, free_ports
from tests.tests_support import command, fednotes, fednotes_here


@dataclass
class Consortium:
    """Folders and processes of one coordinator and its sites.

    Attributes:
        folder: of everything.
        sites: site folders with notes; keys and enrolment are added.
        nginx: whether nginx takes the connections.
        environment: for the processes, besides this one's.
    """

    folder: Path
    sites: list[SiteFolder]
    nginx: bool = False
    environment: dict[str, str] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.folder / "server"

    def set_up(self) -> None:
        """Make the coordinator's folder, and enrol every site as the guides say."""
        (port,) = free_ports(1)
        more = ["--nginx"] if self.nginx else []
        told("server", "init", self.home, "--public", f"127.0.0.1:{port}", "--name", "Test Consortium", *more)
        names = ["fleet_port", "control_port", "serverappio_port", "health_port", "superexec_health_port"]
        set_values(self.home / "server.toml", dict(zip([*names, "metrics_port"], free_ports(6), strict=True)))
        set_values(self.home / "server.toml", {"ingress_bind": '"127.0.0.1"'})
        for site in self.sites:
            self.enrol(site)

    def enrol(self, site: SiteFolder) -> None:
        """Keys, request, approval, answer."""
        names = ["gateway_port", "clientappio_port", "health_port", "metrics_port"]
        set_values(site.path / "site.toml", dict(zip(names, free_ports(4), strict=True)))
        request = make_keys(site)
        file = site.path / "enrolment-request.json"
        answer = site.path / "answer.json"
        number = site.config().number
        home = ("--home", self.home)
        told("server", "enroll", file, "--approve", request.fingerprint, "--number", number, "--out", answer, *home)
        told("site", "enroll", answer, "--site", site.path)

    def start(self) -> None:
        """Start the coordinator and every site."""
        self.run("server", "server", "start", "--home", self.home)
        for number, site in enumerate(self.sites):
            self.run(f"site{number}", "site", "start", "--site", site.path)

    def run(self, name: str, *words: object) -> None:
        environment = os.environ | QUIET | self.environment
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command(*words), env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def begin(self, plan: Plan, model: Path) -> None:
        """Sign the plan, let every site approve it, and begin."""
        path = self.folder / "plan.json"
        path.write_text(plan.model_dump_json())
        done = json.loads(told("server", "run", path, "--model", model, "--home", self.home, "--json"))
        for site in self.sites:
            told("site", "approve", done["signed_plan"], "--site", site.path, "--yes")

    def status(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads(told("server", "status", "--home", self.home, "--json"))
        return facts

    def rounds_done(self, study: str) -> int:
        folders = (self.home / "studies" / study / "checkpoints").glob("round-*")
        return max((int(p.name.removeprefix("round-")) for p in folders), default=0)

    def wish(self, study: str) -> str:
        path = self.home / "studies" / study / "study.json"
        return str(json.loads(path.read_text())["wish"])

    def wait(self, study: str, *, rounds: int, timeout_s: float) -> None:
        """Wait until so many rounds are done."""
        end = time.monotonic() + timeout_s
        while self.rounds_done(study) < rounds:
            assert time.monotonic() < end, f"{self.rounds_done(study)} of {rounds} rounds after {timeout_s} s"
            for name, process in self.processes.items():
                assert process.poll() is None, f"{name} ended: " + (self.folder / f"{name}.log").read_text()[-2000:]
            time.sleep(0.2)

    def programs(self, where: Path) -> dict[str, int]:
        """Process numbers of what a supervisor runs."""
        state: SupervisorState | None = read_state(where / "run.json")
        return {} if state is None else {name: program.pid for name, program in state.programs.items()}

    def stop(self) -> None:
        for process in reversed(self.processes.values()):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def told(*words: object) -> str:
    """Type a command that has to work; what it says."""
    done = fednotes_here(*words) if words[1:2] != ("release",) else fednotes(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def set_values(path: Path, settings: dict[str, object]) -> None:
    text = path.read_text()
    for name, value in settings.items():
        text, count = re.subn(rf"^{name} = .*$", f"{name} = {value}", text, flags=re.MULTILINE)
        assert count == 1, name
    path.write_text(text)
