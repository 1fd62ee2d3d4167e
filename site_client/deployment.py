"""Table ``[deployment]`` of ``site.toml``: where the programs of a deployed site listen and as whom they run.

Every listener is on loopback: a hospital only dials out.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Port = Annotated[int, Field(ge=1, le=65_535)]


class DeploymentConfig(BaseModel):
    """How a site takes part in a consortium.

    Attributes:
        gateway_folder: of the egress gateway, relative to the site folder; elsewhere when it has a user of its own.
        gateway_port: where the SuperNode finds the gateway.
        clientappio_port: where SuperExec finds the SuperNode.
        health_port: gRPC health of the SuperNode.
        metrics_port: Prometheus metrics of the gateway.
        proxy: ``http://host:port`` of the hospital's HTTP proxy (CONNECT), or empty. A password stands in the file that
            ``proxy_password_file`` names, never here.
        proxy_user: name at the proxy, or empty.
        proxy_password_file: path, relative to the gateway folder, or empty.
        gateway_user: numeric user of the gateway, or none; ``site start`` has to be root then.
        node_user: numeric user of SuperNode and training, or none; likewise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    gateway_folder: str = "gateway"
    gateway_port: Port = 9502
    clientappio_port: Port = 9094
    health_port: Port = 9391
    metrics_port: Port = 9503
    proxy: Annotated[str, Field(pattern=r"^(http://[A-Za-z0-9.-]+:[0-9]{1,5})?$")] = ""
    proxy_user: Annotated[str, Field(max_length=200)] = ""
    proxy_password_file: str = ""
    gateway_user: Annotated[int, Field(ge=0)] | None = None
    node_user: Annotated[int, Field(ge=0)] | None = None
