"""The coordinator's folder: configuration, keys, enrolled sites, studies, receipts. Its owner alone can read it.

server.toml         name, public address, ports, lifetimes
keys/               authority, loopback TLS, ingress TLS, plan key, SuperExec's secret
enrolled/NNNN.json  a site each
studies/<study>/    plan, model, checkpoints, what is wished for it
state/superlink.db  Flower's own state; it can be thrown away between two runs
receipts/           what arrived, hash-chained
logs/, flwr/        of the programs
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from protocols.durable import write_text
from protocols.errors import UsageError

Port = Annotated[int, Field(ge=1, le=65_535)]
_Days = Annotated[int, Field(ge=1, le=3_650)]


class ServerConfig(BaseModel):
    """Contents of ``server.toml``.

    Attributes:
        name: of the consortium or coordinator; sites see it.
        public: host:port under which sites reach the ingress.
        names: host names and addresses in the ingress certificate.
        ingress_bind: address that the ingress listens on.
        ingress_port: its port.
        ingress_backend: "own" takes TLS connections itself, "nginx" puts nginx in front.
        fleet_port: Flower's Fleet API, on loopback.
        control_port: Flower's Control API, on loopback: it has no authentication of its own.
        serverappio_port: for SuperExec, on loopback.
        health_port: gRPC health of SuperLink, on loopback.
        superexec_health_port: likewise of SuperExec.
        metrics_port: Prometheus metrics, on loopback.
        authority_days: lifetime of the certificate authority.
        server_days: lifetime of the server's certificates.
        site_days: lifetime of a site's certificate.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: Annotated[str, Field(min_length=1, max_length=200)]
    public: Annotated[str, Field(pattern=r"^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}$")]
    names: Annotated[tuple[str, ...], Field(min_length=1, max_length=50)]
    ingress_bind: str = "0.0.0.0"  # noqa: S104 - the one listener that is meant to be reached from outside
    ingress_port: Port = 9443
    ingress_backend: Literal["own", "nginx"] = "own"
    fleet_port: Port = 9092
    control_port: Port = 9093
    serverappio_port: Port = 9091
    health_port: Port = 9099
    superexec_health_port: Port = 9098
    metrics_port: Port = 9109
    authority_days: _Days = 1_825
    server_days: _Days = 397
    site_days: _Days = 397


@dataclass(frozen=True)
class ServerHome:
    """Paths of a coordinator's folder.

    Args:
        path: the folder.
    """

    path: Path

    def config(self) -> ServerConfig:
        """Read ``server.toml``.

        Raises:
            UsageError: it is missing or invalid; the message names the settings.
        """
        path = self.path / "server.toml"
        try:
            return ServerConfig.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError as error:
            raise UsageError(
                f"{self.path} is no server folder (no server.toml).", hint="fednotes server init DIR --public HOST"
            ) from error
        except tomllib.TOMLDecodeError as error:
            raise UsageError(f"{path} is not valid TOML: {error}.") from error
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
            raise UsageError(f"{path} has wrong settings: {wrong}.") from error

    def write_config(self, config: ServerConfig) -> None:
        """Write ``server.toml``."""
        lines = (f"{k} = {json.dumps(v, ensure_ascii=False)}" for k, v in config.model_dump(mode="json").items())
        write_text(self.path / "server.toml", "\n".join([*lines, ""]))

    @property
    def keys(self) -> Path:
        """Folder of the keys."""
        return self.path / "keys"

    @property
    def enrolled(self) -> Path:
        """Folder of the enrolled sites."""
        return self.path / "enrolled"

    @property
    def studies(self) -> Path:
        """Folder of the studies."""
        return self.path / "studies"

    @property
    def database(self) -> Path:
        """Flower's state."""
        return self.path / "state" / "superlink.db"

    @property
    def receipts(self) -> Path:
        """Folder of the ingress receipts."""
        return self.path / "receipts"

    @property
    def ingress_socket(self) -> Path:
        """Where the ingress listens behind nginx."""
        return self.path.resolve() / "nginx" / "ingress.sock"

    @property
    def logs(self) -> Path:
        """Folder of the logs."""
        return self.path / "logs"

    @property
    def state_file(self) -> Path:
        """State of the supervisor."""
        return self.path / "run.json"

    def flower_home(self, program: str) -> Path:
        """Folder for Flower's own files of a program."""
        return self.path / "flwr" / program
