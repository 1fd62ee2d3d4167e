from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from protocols.errors import UsageError
from protocols.supervise import Program, Supervisor, read_state, stop_supervisor

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def running(tmp_path: Path):
    """Start a supervisor in a thread; it is stopped afterwards."""
    started: list[tuple[Supervisor, threading.Thread]] = []

    def run(*programs: Program) -> Supervisor:
        supervisor = Supervisor(tmp_path / "run.json", programs)
        thread = threading.Thread(target=supervisor.run)
        thread.start()
        started.append((supervisor, thread))
        return supervisor

    yield run
    for supervisor, thread in started:
        supervisor.stopping.set()
        thread.join(20)


def _program(tmp_path: Path, name: str, command: list[str] = SLEEP, **facts: object) -> Program:
    return Program(name=name, command=command, log=tmp_path / "logs" / f"{name}.log", **facts)


def _state(tmp_path: Path, *names: str, other_than: int = 0):
    end = time.monotonic() + 10
    while time.monotonic() < end:
        state = read_state(tmp_path / "run.json")
        if state and all(state.programs[n].pid not in (0, other_than) for n in names):
            return state
        time.sleep(0.05)
    raise AssertionError("the programs were not started")


def _pids_of(marker: str) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if marker.encode() in words:
            found.append(int(folder.name))
    return found


def test_a_killed_program_is_started_again(tmp_path: Path, running) -> None:
    running(_program(tmp_path, "one"))
    first = _state(tmp_path, "one").programs["one"].pid
    os.kill(first, signal.SIGKILL)
    again = _state(tmp_path, "one", other_than=first).programs["one"]
    assert again.restarts == 1 and again.last_exit == -signal.SIGKILL


def test_every_program_runs_once_though_an_earlier_one_takes_time_to_be_ready(tmp_path: Path, running) -> None:
    marker = f"marker-{os.getpid()}-{time.time_ns()}"
    begun = time.monotonic()
    running(
        _program(tmp_path, "slow", is_ready=lambda: time.monotonic() - begun > 1.0),
        _program(tmp_path, "next", [sys.executable, "-c", "import time; time.sleep(60)", marker]),
    )
    _state(tmp_path, "slow", "next")
    time.sleep(0.5)
    assert len(_pids_of(marker)) == 1


def test_stopping_ends_every_program_and_what_it_started(tmp_path: Path, running) -> None:
    marker = f"marker-{os.getpid()}-{time.time_ns()}"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)', '{marker}'])"
    supervisor = running(_program(tmp_path, "parent", [sys.executable, "-c", child]))
    _state(tmp_path, "parent")
    end = time.monotonic() + 10
    while len(_pids_of(marker)) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    supervisor.stopping.set()
    while _pids_of(marker) and time.monotonic() < end:
        time.sleep(0.05)
    assert _pids_of(marker) == [] and read_state(tmp_path / "run.json") is None


def test_a_program_that_dies_at_once_is_started_ever_more_rarely(tmp_path: Path, running) -> None:
    running(_program(tmp_path, "dying", [sys.executable, "-c", "print('x')"]))
    time.sleep(2.5)
    runs = (tmp_path / "logs" / "dying.log").read_text().count("x")
    assert 2 <= runs <= 4  # at 0, 0.5, 1.5 s and their start-up time; without back-off it were dozens


def test_one_folder_has_one_supervisor(tmp_path: Path, running) -> None:
    running(_program(tmp_path, "one"))
    _state(tmp_path, "one")
    with pytest.raises(UsageError, match="run by another process already"):
        Supervisor(tmp_path / "run.json", []).run()


def test_nothing_to_stop_is_said(tmp_path: Path) -> None:
    assert stop_supervisor(tmp_path / "run.json") is False
