"""The programs of a deployed site: gateway, SuperNode, SuperExec, kept running together.

The gateway comes first, as the SuperNode knows nothing but it. Each program gets a fixed set of environment variables:
a proxy, a token or a debugging switch of whoever started them has no business there.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import sys
from collections.abc import Mapping
from pathlib import Path

from protocols.errors import UsageError
from protocols.supervise import Program, Supervisor, read_state, start_detached, stop_supervisor
from site_client.deployment import DeploymentConfig
from site_client.doctor.ports import taken_ports
from site_client.folder import SiteFolder
from site_client.gateway.folder import GatewayFolder

GATEWAY, SUPERNODE, SUPEREXEC = "gateway", "supernode", "superexec"
STATE_FILE = "run.json"

_LOOPBACK = "127.0.0.1"
_CONNECT_S = 1.0
_QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "MALLOC_ARENA_MAX": "2",  # each thread keeping freed chunks of 5 MB to itself costs 50 to 100 MB a process
    "PYTHONUNBUFFERED": "1",  # a log that lags behind tells nothing about a crash
}
_KEPT = {"PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH", "OMP_NUM_THREADS"}
_KEPT_PREFIXES = ("CUDA_", "NVIDIA_", "ROCR_", "HIP_", "FEDNOTES_")
_NODE_FOLDERS = ("store", "corpus", "receipts", "ledger", "checkpoints", "logs", "flwr", "keys")


def state_file(folder: SiteFolder) -> Path:
    """Where the supervisor of a site writes how its programs stand."""
    return folder.path / STATE_FILE


def programs(folder: SiteFolder) -> list[Program]:
    """The programs of a site, in the order of their start.

    Args:
        folder: the site.
    """
    site, deployment = folder.path.resolve(), folder.config().deployment
    gateway_home = GatewayFolder(folder.gateway).path.resolve() / "flwr"
    keys, secret = site / "keys", site / "keys" / "superexec.secret"
    clientappio = f"{_LOOPBACK}:{deployment.clientappio_port}"
    node = {
        SUPERNODE: [
            *(_command("flower-supernode"), "--superlink", f"{_LOOPBACK}:{deployment.gateway_port}"),
            *("--root-certificates", str(keys / "gateway-ca.pem")),
            *("--auth-supernode-private-key", str(keys / "supernode.key")),
            *("--isolation", "process", "--superexec-auth-secret-file", str(secret)),
            *("--clientappio-api-address", clientappio),
            *("--node-config", f"site-folder={json.dumps(str(site), ensure_ascii=False)}"),
            *("--health-server-address", f"{_LOOPBACK}:{deployment.health_port}"),
        ],
        SUPEREXEC: [
            *(_command("flower-superexec"), "--plugin-type", "clientapp", "--appio-api-address", clientappio),
            *("--insecure", "--superexec-auth-secret-file", str(secret)),
        ],
    }
    return [
        Program(
            name=GATEWAY,
            command=[sys.executable, "-m", "site_client.gateway", "--site", str(site)],
            log=site / "logs" / f"{GATEWAY}.log",
            environment=_environment(gateway_home, deployment.gateway_user),
            user=deployment.gateway_user,
            is_ready=lambda: listens(deployment.gateway_port),
            ready_s=30.0,
        ),
        *(
            Program(
                name=name,
                command=command,
                log=site / "logs" / f"{name}.log",
                environment=_environment(site / "flwr" / name, deployment.node_user),
                user=deployment.node_user,
                is_ready=(lambda: listens(deployment.clientappio_port)) if name == SUPERNODE else None,
                ready_s=30.0,
            )
            for name, command in node.items()
        ),
    ]


def run(folder: SiteFolder) -> None:
    """Keep the site's programs running until SIGTERM or Ctrl-C.

    Raises:
        UsageError: the site is not enrolled, a port is taken, or another supervisor runs here.
    """
    check_startable(folder)
    listed = programs(folder)
    prepare_folders(folder)
    _forget_environment()
    Supervisor(state_file(folder), listed).run()


def run_detached(folder: SiteFolder) -> int:
    """Start the supervisor in the background, and wait until it has started everything.

    Returns:
        Its process number.

    Raises:
        UsageError: as in :func:`run`.
        WorkError: it ended at once; names its log.
    """
    check_startable(folder)
    words = ["site", "start", "--site", str(folder.path.resolve())]
    log = folder.path / "logs" / "supervisor.log"
    return start_detached(words, log, state_file(folder), hint="fednotes site doctor")


def stop(folder: SiteFolder) -> bool:
    """Stop the site's programs; whether any ran.

    Raises:
        WorkError: they do not end.
    """
    return stop_supervisor(state_file(folder))


def check_startable(folder: SiteFolder) -> None:
    """Refuse a start that cannot go well.

    Raises:
        UsageError: names the file or the setting.
    """
    gateway, deployment = GatewayFolder(folder.gateway), folder.config().deployment
    gateway.enrolment()
    if read_state(state_file(folder)) is not None:
        raise UsageError(f"The programs of {folder.path} run already.", hint="fednotes site status, or site stop")
    for path in (gateway.keys / "node.key", gateway.keys / "tls.key", folder.path / "keys" / "supernode.key"):
        if not path.exists():
            raise UsageError(f"The key {path} is missing.", hint="restore it from your backup, or fednotes site renew")
    if taken := taken_ports(folder):
        name, port = next(iter(taken.items()))
        raise UsageError(
            f"Port {port} is taken by another program.",
            hint=f"end that program, or change [deployment] {name} in site.toml",
        )
    _require_users(folder, deployment)


def listens(port: int) -> bool:
    """Whether a program listens on a loopback port."""
    try:
        socket.create_connection((_LOOPBACK, port), _CONNECT_S).close()
    except OSError:
        return False
    return True


def prepare_folders(folder: SiteFolder) -> None:
    """Make the folders that the programs write to and, where they have users of their own, give them their folders.

    The approval key stays with root: whoever trains must not be able to approve. The site folder and ``site.toml`` stay
    with root too, readable, as both users need the settings and neither may change them.
    """
    deployment, gateway = folder.config().deployment, GatewayFolder(folder.gateway)
    for private in (folder.path / "logs", folder.path / "flwr", gateway.path / "flwr", gateway.approvals):
        private.mkdir(parents=True, exist_ok=True, mode=0o700)
    if deployment.node_user is not None:
        for path in (folder.path / name for name in _NODE_FOLDERS):
            path.mkdir(exist_ok=True, mode=0o700)
            _give(path, deployment.node_user, keep={folder.path / "keys" / "approval.key"})
        model = folder.model
        if folder.path in model.parents:
            _give(model, deployment.node_user)
    if deployment.gateway_user is not None:
        _give(gateway.path, deployment.gateway_user)
    if deployment.node_user is not None or deployment.gateway_user is not None:
        folder.path.chmod(stat.S_IRWXU | stat.S_IXGRP | stat.S_IXOTH)
        (folder.path / "site.toml").chmod(0o644)


def _require_users(folder: SiteFolder, deployment: DeploymentConfig) -> None:
    users = {deployment.gateway_user, deployment.node_user} - {None}
    if users and os.geteuid() != 0:
        raise UsageError(
            f"[deployment] gateway_user and node_user of {folder.path / 'site.toml'} need root to be changed to.",
            hint="start as root, or take the two settings out: everything runs as you then",
        )
    if deployment.gateway_user is not None and deployment.gateway_user == deployment.node_user:
        raise UsageError(
            "[deployment] gateway_user and node_user are the same.",
            hint="give them two users: training must not be able to read the gateway's keys",
        )


def _give(path: Path, user: int, keep: set[Path] | None = None) -> None:
    for entry in (path, *path.rglob("*")):
        if entry not in (keep or set()):
            os.chown(entry, user, user, follow_symlinks=False)


def _environment(flwr_home: Path, user: int | None) -> Mapping[str, str]:
    own_home = {"HOME": str(flwr_home)} if user is not None else {}  # root's home is closed to them
    return {**_QUIET, "FLWR_HOME": str(flwr_home), **own_home}


def _forget_environment() -> None:
    """Take everything out of this process's environment that is not on the list: the programs inherit it."""
    for name in set(os.environ) - _KEPT:
        if not name.startswith(_KEPT_PREFIXES):
            del os.environ[name]


def _command(name: str) -> str:
    """Path of one of Flower's commands: the one beside this Python first."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise UsageError(f"{name} is not installed.", hint="install fednotes again, in an environment of its own")
    return found
