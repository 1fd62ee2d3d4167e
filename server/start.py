"""The programs of a coordinator: SuperLink, SuperExec, the ingress; and the driver that looks after the studies."""

from __future__ import annotations

import functools
import os
import pwd
import socket
import sqlite3
import sys
from pathlib import Path

from protocols.errors import UsageError
from protocols.metrics import ServerMetrics
from protocols.metrics import serve as serve_metrics
from protocols.supervise import Program, Supervisor
from server.driver import StudyDriver
from server.home import ServerHome
from server.initialise import SOON_DAYS, days_left
from server.nginx import NginxSettings, write_nginx_config
from server.server_app import HOME_VARIABLE

_QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "MALLOC_ARENA_MAX": "2",  # each thread keeping freed chunks of 5 MB to itself costs 50 to 100 MB a process
    "PYTHONUNBUFFERED": "1",
}
_LOOPBACK = "127.0.0.1"


def programs(home: ServerHome) -> list[Program]:
    """What to keep running, in the order of its start.

    Args:
        home: of the coordinator.
    """
    config, keys = home.config(), home.keys.resolve()
    beside = Path(sys.executable).parent
    tls = ["ca-certfile", str(keys / "internal-ca.pem"), "certfile", str(keys / "internal.pem")]
    tls += ["keyfile", str(keys / "internal.key")]
    flags = [f"--ssl-{w}" if i % 2 == 0 else w for i, w in enumerate(tls)]
    inner = [f"--appio-ssl-{w}" if i % 2 == 0 else w for i, w in enumerate(tls)]
    appio = f"{_LOOPBACK}:{config.serverappio_port}"
    secret = ["--superexec-auth-secret-file", str(keys / "superexec.secret")]
    superlink = [
        *(str(beside / "flower-superlink"), *flags, *inner, "--enable-supernode-auth"),
        *("--fleet-api-address", f"{_LOOPBACK}:{config.fleet_port}"),
        *("--control-api-address", f"{_LOOPBACK}:{config.control_port}"),
        *("--serverappio-api-address", appio, "--isolation", "process", *secret),
        *("--database", str(home.database.resolve()), "--disable-runtime-dependency-installation"),
        *("--health-server-address", f"{_LOOPBACK}:{config.health_port}"),
    ]
    superexec = [
        *(str(beside / "flower-superexec"), "--plugin-type", "serverapp", "--appio-api-address", appio),
        *("--root-certificates", str(keys / "internal-ca.pem"), *secret),
        *("--health-server-address", f"{_LOOPBACK}:{config.superexec_health_port}"),
    ]
    ingress = [sys.executable, "-m", "server.ingress_proxy", "--home", str(home.path.resolve())]
    listed = [
        ("superlink", superlink, config.fleet_port),
        ("superexec", superexec, config.superexec_health_port),
        ("ingress", ingress, config.ingress_port if config.ingress_backend == "own" else None),
    ]
    if config.ingress_backend == "nginx":
        listed.append(("nginx", _nginx(home).command(), config.ingress_port))
    return [
        Program(
            name=name,
            command=command,
            log=home.logs / f"{name}.log",
            environment=_environment(home, name),
            is_ready=None if port is None else functools.partial(_listens, port),
        )
        for name, command, port in listed
    ]


def _nginx(home: ServerHome) -> NginxSettings:
    config, keys = home.config(), home.keys.resolve()
    return NginxSettings(
        listen=f"{config.ingress_bind}:{config.ingress_port}",
        certificate=keys / "ingress.pem",
        key=keys / "ingress.key",
        authority=keys / "authority.pem",
        socket=home.ingress_socket,
        folder=home.ingress_socket.parent,
        # Started by root, nginx would become a user who cannot read the folder.
        user=pwd.getpwuid(os.geteuid()).pw_name if os.geteuid() == 0 else "",
    )


def run(home: ServerHome) -> None:
    """Keep the coordinator running until SIGTERM or Ctrl-C.

    Raises:
        UsageError: a port is taken, a certificate is over, Flower's state is damaged, or another supervisor runs here.
    """
    check_startable(home)
    home.database.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if home.config().ingress_backend == "nginx":
        write_nginx_config(_nginx(home))
    metrics = ServerMetrics()
    serve_metrics(metrics.registry, home.config().metrics_port)
    driver = StudyDriver(home, metrics)
    Supervisor(home.state_file, programs(home), each_turn=driver.turn).run()


def check_startable(home: ServerHome) -> None:
    """Refuse what could not work.

    Raises:
        UsageError: as in :func:`run`.
    """
    config = home.config()
    for name in ("internal", "ingress", "authority"):
        if days_left(home.keys / f"{name}.pem") < 0:
            hint = (
                "fednotes server renew" if name != "authority" else "a new authority means enrolling every site again"
            )
            raise UsageError(f"The certificate {home.keys / name}.pem is over.", hint=hint)
    ports = {
        "fleet_port": (_LOOPBACK, config.fleet_port),
        "control_port": (_LOOPBACK, config.control_port),
        "serverappio_port": (_LOOPBACK, config.serverappio_port),
        "health_port": (_LOOPBACK, config.health_port),
        "superexec_health_port": (_LOOPBACK, config.superexec_health_port),
        "ingress_port": (config.ingress_bind, config.ingress_port),
    }
    for setting, (host, port) in ports.items():
        if _is_taken(host, port):
            raise UsageError(
                f"Port {port} of this machine is taken.", hint=f"end what uses it, or set {setting} in server.toml"
            )
    require_whole_database(home)


def require_whole_database(home: ServerHome) -> None:
    """Refuse a damaged state of Flower's.

    Raises:
        UsageError: names the file and the way back.
    """
    path = home.database
    if not path.exists():
        return
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            found = connection.execute("PRAGMA quick_check").fetchone()[0]
            tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        finally:
            connection.close()
    except sqlite3.Error:
        found, tables = "damaged", set()
    if found != "ok" or (tables and not {"node", "run", "objects"} <= tables):
        raise UsageError(
            f"Flower's state {path} is damaged or of another version.",
            hint="move it away and start again: nodes are registered anew from enrolled/, and studies go on from "
            "their checkpoints",
        )


def warnings(home: ServerHome) -> list[str]:
    """What an operator should see to soon."""
    told = []
    for name in ("internal", "ingress", "authority"):
        left = days_left(home.keys / f"{name}.pem")
        if left < SOON_DAYS:
            told.append(f"the certificate {name}.pem ends in {left} days: fednotes server renew")
    return told


def _environment(home: ServerHome, name: str) -> dict[str, str]:
    return {**_QUIET, "FLWR_HOME": str(home.flower_home(name).resolve()), HOME_VARIABLE: str(home.path.resolve())}


def _listens(port: int) -> bool:
    with socket.socket() as one:
        one.settimeout(1.0)
        return one.connect_ex((_LOOPBACK, port)) == 0


def _is_taken(host: str, port: int) -> bool:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((host, port))
        except OSError:
            return True
    return False
