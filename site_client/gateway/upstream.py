"""The gateway's way out: the calls to the coordinator, each made of values that the gateway itself chose.

Nothing that the SuperNode wrote is passed on: ids come from instructions that were issued, headers are Flower's own and
made here, the heartbeat interval is a constant.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import grpc
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.client.grpc_rere_client.node_auth_client_interceptor import NodeAuthClientInterceptor
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PullMessagesResponse,
    PushMessagesRequest,
)
from flwr.proto.fleet_pb2_grpc import FleetStub
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    Message,
    ObjectTree,
    PullObjectRequest,
    PullObjectResponse,
    PushObjectRequest,
)
from flwr.proto.node_pb2 import Node
from flwr.proto.run_pb2 import GetRunRequest, GetRunResponse, Run
from flwr.supercore.interceptors import RuntimeVersionClientInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes

from protocols.enrolment import Enrolment
from protocols.errors import UsageError
from site_client.deployment import DeploymentConfig
from site_client.gateway.folder import GatewayFolder
from site_client.gateway.journal import Journal

HEARTBEAT_INTERVAL_S = 30.0  # Flower's own
_SHORT_S, _LONG_S = 20.0, 180.0  # a chunk of 5 MB takes ten seconds at 4 Mbit/s, and more where packets are lost
_LARGEST_CALL = 16 * 2**20


class Coordinator:
    """Calls to the coordinator's Fleet API.

    Args:
        channel: to the ingress.
        public_key: of the node, as Flower sends it.
        journal: counts the calls.
        id_file: remembers the node id over restarts.
    """

    def __init__(self, channel: grpc.Channel, public_key: bytes, journal: Journal, id_file: Path) -> None:
        self._stub = FleetStub(channel)
        self._public_key = public_key
        self._journal = journal
        self._id_file = id_file
        self._lock = threading.Lock()
        self.node_id = int(id_file.read_text(encoding="ascii")) if id_file.exists() else 0

    def activate(self) -> int:
        """Make the node known as connected; its id.

        A gateway that was killed is still connected in the coordinator's eyes: its old id goes on, if a heartbeat
        says so.

        Raises:
            grpc.RpcError: the coordinator is away or refuses.
        """
        with self._lock:
            request = ActivateNodeRequest(public_key=self._public_key, heartbeat_interval=HEARTBEAT_INTERVAL_S)
            self._journal.count("ActivateNode")
            try:
                self.node_id = self._stub.ActivateNode(request, timeout=_SHORT_S).node_id
            except grpc.RpcError as error:
                if error.code() != grpc.StatusCode.FAILED_PRECONDITION or not self.node_id or not self.heartbeat():
                    raise
            self._id_file.write_text(str(self.node_id), encoding="ascii")
            return self.node_id

    def deactivate(self) -> None:
        """Say that the node goes."""
        self._journal.count("DeactivateNode")
        self._stub.DeactivateNode(DeactivateNodeRequest(node_id=self.node_id), timeout=_SHORT_S)

    def heartbeat(self) -> bool:
        """Say that the node is there; whether the coordinator still counts it as connected."""
        self._journal.count("SendNodeHeartbeat")
        request = SendNodeHeartbeatRequest(node=self._node(), heartbeat_interval=HEARTBEAT_INTERVAL_S)
        return bool(self._stub.SendNodeHeartbeat(request, timeout=_SHORT_S).success)

    def pull(self) -> PullMessagesResponse:
        """Ask for an instruction."""
        self._journal.count("PullMessages")
        response: PullMessagesResponse = self._stub.PullMessages(
            PullMessagesRequest(node=self._node()), timeout=_SHORT_S
        )
        return response

    def run(self, run_id: int) -> Run:
        """Ask what a run is."""
        self._journal.count("GetRun")
        response: GetRunResponse = self._stub.GetRun(GetRunRequest(node=self._node(), run_id=run_id), timeout=_SHORT_S)
        return response.run

    def pull_object(self, run_id: int, object_id: str) -> PullObjectResponse:
        """Fetch an object of an instruction."""
        self._journal.count("PullObject")
        request = PullObjectRequest(node=self._node(), run_id=run_id, object_id=object_id)
        response: PullObjectResponse = self._stub.PullObject(request, timeout=_LONG_S)
        return response

    def confirm(self, run_id: int, message_id: str) -> None:
        """Say that an instruction is here whole."""
        self._journal.count("ConfirmMessageReceived")
        request = ConfirmMessageReceivedRequest(node=self._node(), run_id=run_id, message_object_id=message_id)
        self._stub.ConfirmMessageReceived(request, timeout=_SHORT_S)

    def push(self, message: Message, tree: ObjectTree) -> set[str]:
        """Announce a reply that was written down already; the ids of the objects that the coordinator lacks."""
        self._journal.count("PushMessages")
        request = PushMessagesRequest(
            node=self._node(), messages_list=[message], message_object_trees=[tree], clientapp_runtime_list=[0.0]
        )
        return set(self._stub.PushMessages(request, timeout=_LONG_S).objects_to_push)

    def push_object(self, run_id: int, object_id: str, content: bytes) -> bool:
        """Send an object of that reply; whether the coordinator took it."""
        self._journal.count("PushObject")
        request = PushObjectRequest(node=self._node(), run_id=run_id, object_id=object_id, object_content=content)
        return bool(self._stub.PushObject(request, timeout=_LONG_S).stored)

    def _node(self) -> Node:
        return Node(node_id=self.node_id)


def connect(folder: GatewayFolder, deployment: DeploymentConfig, journal: Journal) -> Coordinator:
    """Open the way to the coordinator.

    Args:
        folder: keys and enrolment.
        deployment: the hospital's HTTP proxy, if it demands one.
        journal: counts the calls.

    Raises:
        UsageError: a key is missing, or the site is not enrolled.
    """
    key = node_key(folder)
    interceptors = [RuntimeVersionClientInterceptor("SuperNode"), NodeAuthClientInterceptor(key, key.public_key())]
    channel = grpc.intercept_channel(open_channel(folder, folder.enrolment(), deployment), *interceptors)
    return Coordinator(channel, public_key_to_bytes(key.public_key()), journal, folder.path / "node-id")


def open_channel(folder: GatewayFolder, enrolment: Enrolment, deployment: DeploymentConfig) -> grpc.Channel:
    """A channel with the site's client certificate.

    Raises:
        UsageError: a key file or the proxy's password file is missing.
    """
    credentials = grpc.ssl_channel_credentials(
        enrolment.authority.encode(), _read(folder.keys / "tls.key"), enrolment.certificate.encode()
    )
    options: Sequence[tuple[str, object]] = [
        ("grpc.max_receive_message_length", _LARGEST_CALL),
        ("grpc.max_send_message_length", _LARGEST_CALL),
        ("grpc.max_reconnect_backoff_ms", 10_000),
        # Only the proxy of site.toml is used, whatever this process's environment says.
        ("grpc.enable_http_proxy", 1 if deployment.proxy else 0),
    ]
    if deployment.proxy:
        options = [*options, ("grpc.http_proxy", _proxy(folder, deployment))]
    return grpc.secure_channel(enrolment.address, credentials, options)


def node_key(folder: GatewayFolder) -> EllipticCurvePrivateKey:
    """Flower's node key.

    Raises:
        UsageError: it is missing or of another kind.
    """
    path = folder.keys / "node.key"
    try:
        key = load_ssh_private_key(_read(path), None)
    except ValueError as error:
        raise UsageError(f"The key {path} cannot be read.", hint="restore it from your backup") from error
    if not isinstance(key, EllipticCurvePrivateKey):
        raise UsageError(f"The key {path} is not an elliptic-curve key.", hint="restore it from your backup")
    return key


def _proxy(folder: GatewayFolder, deployment: DeploymentConfig) -> str:
    if not deployment.proxy_user:
        return deployment.proxy
    password = ""
    if deployment.proxy_password_file:
        password = ":" + _read(folder.path / deployment.proxy_password_file).decode().strip()
    return deployment.proxy.replace("http://", f"http://{deployment.proxy_user}{password}@")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.", hint="restore it from your backup") from error
