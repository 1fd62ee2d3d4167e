"""The one module that speaks Flower's Control API, over TLS on loopback: it starts runs and knows nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import grpc
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
    UnregisterNodeRequest,
)
from flwr.proto.control_pb2_grpc import ControlStub
from flwr.proto.fab_pb2 import Fab
from flwr.proto.transport_pb2 import Scalar

from protocols.bundle import STUDY_KEY, build_bundle, bundle_hash
from protocols.errors import WorkError
from server.home import ServerHome

_TIMEOUT_S = 10.0
T = TypeVar("T")


class FlowerLink:
    """A connection to the SuperLink of a coordinator's folder.

    Args:
        home: names port and certificate.
    """

    def __init__(self, home: ServerHome) -> None:
        authority = (home.keys / "internal-ca.pem").read_bytes()
        address = f"127.0.0.1:{home.config().control_port}"
        self._channel = grpc.secure_channel(
            address, grpc.ssl_channel_credentials(authority), [("grpc.enable_http_proxy", 0)]
        )
        self._stub = ControlStub(self._channel)

    def start_run(self, study: str) -> int:
        """Start a Flower run for a study; its number.

        Raises:
            WorkError: SuperLink is away or refuses.
        """
        request = StartRunRequest(
            fab=Fab(hash_str=bundle_hash(), content=build_bundle()), override_config={STUDY_KEY: Scalar(string=study)}
        )
        return int(_told(lambda: self._stub.StartRun(request, timeout=_TIMEOUT_S).run_id))

    def run_status(self, run: int) -> str:
        """How a run stands: "pending", "starting", "running", "finished:completed", "finished:failed", "unknown" ...

        Raises:
            WorkError: SuperLink is away.
        """
        runs = _told(lambda: self._stub.ListRuns(ListRunsRequest(), timeout=_TIMEOUT_S).run_dict)
        if run not in runs:
            return "unknown"
        status = runs[run].status
        return f"{status.status}:{status.sub_status}" if status.sub_status else str(status.status)

    def stop_run(self, run: int) -> None:
        """Stop a run.

        Raises:
            WorkError: SuperLink is away or refuses.
        """
        _told(lambda: self._stub.StopRun(StopRunRequest(run_id=run), timeout=_TIMEOUT_S))

    def nodes(self) -> dict[bytes, tuple[int, str]]:
        """Registered nodes by public key: (node id, status such as "online").

        Raises:
            WorkError: SuperLink is away.
        """
        found = _told(lambda: self._stub.ListNodes(ListNodesRequest(), timeout=_TIMEOUT_S).nodes_info)
        alive = [n for n in found if n.status != "unregistered"]
        return {bytes(n.public_key): (int(n.node_id), str(n.status)) for n in alive}

    def register(self, public_key: bytes) -> None:
        """Let a node in.

        Raises:
            WorkError: SuperLink is away or refuses.
        """
        _told(lambda: self._stub.RegisterNode(RegisterNodeRequest(public_key=public_key), timeout=_TIMEOUT_S))

    def unregister(self, node: int) -> None:
        """Let a node out.

        Raises:
            WorkError: SuperLink is away or refuses.
        """
        _told(lambda: self._stub.UnregisterNode(UnregisterNodeRequest(node_id=node), timeout=_TIMEOUT_S))

    def close(self) -> None:
        """End the connection."""
        self._channel.close()


def _told(call: Callable[[], T]) -> T:
    try:
        return call()
    except grpc.RpcError as error:
        raise WorkError(
            f"SuperLink does not answer as it should ({error.code().name}).", hint="see logs/superlink.log"
        ) from None
