"""A real SuperLink with its ServerApp executor on free ports of loopback, for tests that need no server home."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from flwr.proto.control_pb2 import ListRunsRequest, RegisterNodeRequest, StartRunRequest
from flwr.proto.control_pb2_grpc import ControlStub
from flwr.proto.fab_pb2 import Fab
from flwr.proto.transport_pb2 import Scalar

from protocols.bundle import build_bundle, bundle_hash
from protocols.certificates import KeyPair, issue_server, make_authority

QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",
}


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on right now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


@dataclass
class Link:
    """SuperLink and SuperExec as processes.

    Attributes:
        home: folder for their state, logs and certificates.
        study: server folder (plan, model) of the one study.
    """

    home: Path
    study: Path
    authority: KeyPair = field(default_factory=lambda: make_authority("test", days=2))
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self) -> Link:
        self.home.mkdir(parents=True, exist_ok=True)
        self.pair = issue_server(self.authority, ["localhost", "127.0.0.1"], days=2)
        for name, content in {
            "ca.pem": self.authority.certificate,
            "link.pem": self.pair.certificate,
            "link.key": self.pair.key,
            "secret": secrets.token_bytes(32),
        }.items():
            (self.home / name).write_bytes(content)
            (self.home / name).chmod(0o600)
        self.fleet, self.control, self.appio = free_ports(3)
        self.run_link()
        self.run_exec()
        credentials = grpc.ssl_channel_credentials(self.authority.certificate)
        channel = grpc.secure_channel(f"127.0.0.1:{self.control}", credentials)
        grpc.channel_ready_future(channel).result(90)
        self.stub = ControlStub(channel)
        return self

    def run_link(self) -> None:
        tls = ["--ssl-ca-certfile", "ca.pem", "--ssl-certfile", "link.pem", "--ssl-keyfile", "link.key"]
        inner = [word.replace("--ssl", "--appio-ssl") for word in tls]
        ports = [
            *("--fleet-api-address", f"127.0.0.1:{self.fleet}", "--control-api-address", f"127.0.0.1:{self.control}"),
            *("--serverappio-api-address", f"127.0.0.1:{self.appio}"),
        ]
        rest = ["--isolation", "process", "--superexec-auth-secret-file", "secret", "--database", "state.db"]
        flags = ["--enable-supernode-auth", "--disable-runtime-dependency-installation"]
        self.run("link", "flower-superlink", *tls, *inner, *ports, *rest, *flags)

    def run_exec(self) -> None:
        appio = ["--appio-api-address", f"127.0.0.1:{self.appio}", "--root-certificates", "ca.pem"]
        secret = ["--superexec-auth-secret-file", "secret"]
        self.run("exec", "flower-superexec", "--plugin-type", "serverapp", *appio, *secret)

    def run(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        beside = Path(sys.executable).parent
        environment = (
            os.environ
            | QUIET
            | {
                "PATH": f"{beside}{os.pathsep}{os.environ['PATH']}",
                "FLWR_HOME": str(self.home / f"flwr-{name}"),
                "FEDNOTES_SERVER": str(self.study),
            }
        )
        words = [str(beside / command[0]) if command[0].startswith("flower") else command[0], *command[1:]]
        with (self.home / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(words, cwd=self.home, env=environment, stdout=log, stderr=log)
        self.processes[name] = process
        return process

    def register(self, public_key: bytes) -> int:
        return self.stub.RegisterNode(RegisterNodeRequest(public_key=public_key)).node_id

    def start_run(self, study: str, **overrides: str) -> int:
        settings = {k: Scalar(string=v) for k, v in {"study": study, **overrides}.items()}
        fab = Fab(hash_str=bundle_hash(), content=build_bundle())
        return self.stub.StartRun(StartRunRequest(fab=fab, override_config=settings)).run_id

    def status(self, run: int) -> str:
        status = self.stub.ListRuns(ListRunsRequest(run_id=run)).run_dict[run].status
        return f"{status.status}:{status.sub_status}" if status.sub_status else status.status

    def wait_for_end(self, run: int, timeout_s: float) -> str:
        end = time.monotonic() + timeout_s
        while not (status := self.status(run)).startswith("finished"):
            assert time.monotonic() < end, f"the run is still {status}"
            time.sleep(0.5)
        return status

    def stop(self) -> None:
        for process in reversed(self.processes.values()):
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(8)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
