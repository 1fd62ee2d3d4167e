"""Keeping programs running: start, watch, start again with growing patience, stop in reverse order.

What runs is written to a state file, so that another command can say how things stand or ask for the end. A program
that dies again and again is started again for ever, ever more rarely: a study lasts weeks, and so may an outage.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from protocols.durable import write_text
from protocols.errors import UsageError, WorkError

_LOG = logging.getLogger(__name__)
_POLL_S = 0.2
_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 30.0
_DETACH_PATIENCE_S = 60.0
_CALM_S = 60.0  # a program that ran so long starts again at once


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program to keep running.

    Attributes:
        name: short, for the state file and messages.
        command: arguments; secrets never stand here, but in files that they name.
        log: gets what it prints.
        environment: variables besides those of this process.
        user: numeric user (and group) to run as; this process's own when none. Needs root.
        grace_s: how long it may take to end after SIGTERM, before it is killed [s].
        is_ready: told apart from "runs": the next program starts when it says so.
        ready_s: how long to wait for that; the next one is started then anyway [s].
    """

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    user: int | None = None
    grace_s: float = 10.0
    is_ready: Callable[[], bool] | None = None
    ready_s: float = 60.0


class ProgramState(BaseModel):
    """How one program stands.

    Attributes:
        pid: 0 while it waits to be started again.
        started: Unix time of the last start.
        restarts: how often it was started again.
        last_exit: status of the last end, if it ever ended.
    """

    model_config = ConfigDict(extra="forbid")

    pid: int = 0
    started: float = 0.0
    restarts: int = 0
    last_exit: int | None = None


class SupervisorState(BaseModel):
    """Contents of the state file."""

    model_config = ConfigDict(extra="forbid")

    pid: int
    programs: dict[str, ProgramState] = {}


class Supervisor:
    """Runs programs until it is told to stop.

    Args:
        state_file: is written after every change and is gone when nothing runs.
        programs: in the order of their start.
        each_turn: called a few times a second, for work beside watching.
    """

    def __init__(
        self, state_file: Path, programs: Sequence[Program], *, each_turn: Callable[[], None] | None = None
    ) -> None:
        self._file = state_file
        self._programs = list(programs)
        self._each_turn = each_turn or (lambda: None)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._state = SupervisorState(pid=os.getpid(), programs={p.name: ProgramState() for p in programs})
        self._not_before: dict[str, float] = {}
        self._fast_ends: dict[str, int] = {}
        self.stopping = threading.Event()

    def run(self) -> None:
        """Start everything, watch, and stop everything when SIGTERM, SIGINT or ``stopping`` says so.

        Raises:
            UsageError: another supervisor runs in this folder.
        """
        self._file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self._file.with_suffix(".lock"), timeout=0):
                self._run()
        except Timeout:
            raise UsageError(
                f"{self._file.parent} is run by another process already.", hint="stop it first, or leave it running"
            ) from None

    def _run(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: self.stopping.set())
        try:
            for program in self._programs:
                if not self.stopping.is_set():
                    self._start(program)
                    self._wait_until_ready(program)
            while not self.stopping.wait(_POLL_S):
                self._watch()
                self._each_turn()
        finally:
            for program in reversed(self._programs):
                self._stop(program)
            self._file.unlink(missing_ok=True)

    def _watch(self) -> None:
        for program in self._programs:
            process, state = self._processes.get(program.name), self._state.programs[program.name]
            if process is not None and (status := process.poll()) is not None:
                self._ended(program, state, status)
            elif process is None and state.started and time.monotonic() >= self._not_before[program.name]:
                state.restarts += 1
                self._start(program)

    def _ended(self, program: Program, state: ProgramState, status: int) -> None:
        calm = time.time() - state.started > _CALM_S
        fast = self._fast_ends[program.name] = 0 if calm else self._fast_ends.get(program.name, 0) + 1
        wait = 0.0 if calm else min(_FIRST_WAIT_S * 2 ** (fast - 1), _LONGEST_WAIT_S)
        _LOG.warning("%s ended with status %d; it is started again in %.1f s", program.name, status, wait)
        del self._processes[program.name]
        self._not_before[program.name] = time.monotonic() + wait
        state.pid, state.last_exit = 0, status
        self._write()

    def _start(self, program: Program) -> None:
        program.log.parent.mkdir(parents=True, exist_ok=True)
        state = self._state.programs[program.name]
        with program.log.open("ab") as log:
            try:
                process = subprocess.Popen(  # noqa: S603 - the commands are our own
                    program.command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=_environment(program),
                    start_new_session=True,  # Ctrl-C in a terminal goes to the supervisor, which stops them in order
                    user=program.user,
                    group=program.user,
                    umask=0o077,
                )
            except OSError as error:
                raise WorkError(
                    f"{program.name} could not be started: {error.strerror}.", hint=f"is {program.command[0]} there?"
                ) from error
        self._processes[program.name] = process
        state.pid, state.started = process.pid, time.time()
        self._write()

    def _wait_until_ready(self, program: Program) -> None:
        end = time.monotonic() + program.ready_s
        while program.is_ready is not None and time.monotonic() < end and not self.stopping.wait(_POLL_S):
            self._watch()
            if program.name in self._processes and program.is_ready():
                return

    def _stop(self, program: Program) -> None:
        """End a program and whatever it started: its whole process group."""
        process = self._processes.pop(program.name, None)
        if process is None:
            return
        process.terminate()
        try:
            process.wait(program.grace_s)
        except subprocess.TimeoutExpired:
            _LOG.warning("%s did not end in %.0f s and is killed", program.name, program.grace_s)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def _write(self) -> None:
        write_text(self._file, self._state.model_dump_json())


def _environment(program: Program) -> dict[str, str]:
    """The program's variables; whatever it starts by name is found beside this Python first."""
    environment = os.environ | dict(program.environment)
    beside = str(Path(sys.executable).parent)
    return environment | {"PATH": os.pathsep.join([beside, environment.get("PATH", os.defpath)])}


def read_state(state_file: Path) -> SupervisorState | None:
    """How the programs of a folder stand; None when no supervisor runs there."""
    try:
        state = SupervisorState.model_validate(json.loads(state_file.read_bytes()))
    except (OSError, ValueError, ValidationError):
        return None
    return state if _is_alive(state.pid) else None


def start_detached(words: Sequence[str], log: Path, state_file: Path, *, hint: str) -> int:
    """Run a ``fednotes`` command in the background, and wait until its supervisor has started everything.

    Args:
        words: of the command, which runs a supervisor.
        log: gets what it prints.
        state_file: of that supervisor.
        hint: what to do when it ends at once.

    Returns:
        Its process number.

    Raises:
        WorkError: it ended at once; names its log.
    """
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with log.open("ab") as out:
        process = subprocess.Popen(  # noqa: S603 - the command is our own
            [sys.executable, "-m", "fednotes", *words],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    end = time.monotonic() + _DETACH_PATIENCE_S
    while time.monotonic() < end and process.poll() is None:
        state = read_state(state_file)
        if state is not None and all(p.started for p in state.programs.values()):
            return process.pid
        time.sleep(_POLL_S)
    if process.poll() is None:
        return process.pid  # slow, but alive: `status` tells
    raise WorkError(f"The programs did not start; {log} says why.", hint=hint)


def stop_supervisor(state_file: Path, *, patience_s: float = 60.0) -> bool:
    """Ask the supervisor of a folder to stop, and wait for it.

    Returns:
        Whether there was one.

    Raises:
        WorkError: it does not end.
    """
    state = read_state(state_file)
    if state is None:
        return False
    os.kill(state.pid, signal.SIGTERM)
    end = time.monotonic() + patience_s
    while _is_alive(state.pid):
        if time.monotonic() > end:
            raise WorkError(f"Process {state.pid} did not stop in {patience_s:g} s.", hint=f"kill {state.pid}")
        time.sleep(_POLL_S)
    return True


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:  # a child of a test that nobody waited for is dead, though it has a number
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return True
