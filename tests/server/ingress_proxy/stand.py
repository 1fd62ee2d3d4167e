"""An ingress on loopback with real TLS: a stub of the Fleet API behind it, hospitals in front of it.

python -m tests.server.ingress_proxy.stand HOME LISTEN FLEET     the ingress as a process, to be killed
"""

from __future__ import annotations

import json
import shutil
import socket
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import grpc
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flwr.client.grpc_rere_client.node_auth_client_interceptor import NodeAuthClientInterceptor
from flwr.proto import fleet_pb2, fleet_pb2_grpc, heartbeat_pb2, message_pb2
from flwr.proto.message_pb2 import Metadata, ObjectTree
from flwr.proto.node_pb2 import Node
from flwr.supercore.interceptors import RuntimeVersionClientInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes

from protocols.certificates import (
    KeyPair,
    fingerprint,
    issue_client,
    issue_server,
    make_authority,
    make_request,
    new_key,
)
from protocols.flower_objects import object_id, pack
from server.ingress_proxy.callers import EnrolledCaller, flower_node_key
from server.ingress_proxy.listener import IngressSettings, Tls, serve

LOOPBACK = ["localhost", "127.0.0.1"]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@dataclass
class Hospital:
    """A site's keys."""

    number: int
    authority: KeyPair
    tls_key: bytes = field(default_factory=new_key)
    node_key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP384R1()))
    days: int = 30

    @cached_property
    def certificate(self) -> bytes:
        request = make_request(self.tls_key, "whatever")
        return issue_client(self.authority, request, f"site {self.number}", days=self.days)

    @property
    def openssh(self) -> str:
        return self.node_key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()

    @property
    def pem(self) -> bytes:
        return public_key_to_bytes(self.node_key.public_key())

    def channel(self, home: Home, address: str, *, with_certificate: bool = True) -> grpc.Channel:
        pair = (self.tls_key, self.certificate) if with_certificate else (None, None)
        credentials = grpc.ssl_channel_credentials((home.keys / "authority.pem").read_bytes(), *pair)
        options = [
            ("grpc.max_send_message_length", 64 * 2**20),
            ("grpc.enable_http_proxy", 0),
            ("grpc.use_local_subchannel_pool", 1),  # a connection of its own, as another process would have
        ]
        return grpc.secure_channel(address, credentials, options)

    def signed(self, channel: grpc.Channel) -> grpc.Channel:
        key = self.node_key
        return grpc.intercept_channel(
            channel, RuntimeVersionClientInterceptor("SuperNode"), NodeAuthClientInterceptor(key, key.public_key())
        )

    @contextmanager
    def calling(self, home: Home, address: str) -> Iterator[fleet_pb2_grpc.FleetStub]:
        channel = self.channel(home, address)
        with channel:
            yield fleet_pb2_grpc.FleetStub(self.signed(channel))


@dataclass
class Home:
    """A server home, as far as the ingress needs one."""

    path: Path
    authority: KeyPair = field(default_factory=lambda: make_authority("Consortium", days=30))

    def __post_init__(self) -> None:
        internal = make_authority("internal", days=30)
        pairs = {"ingress": issue_server(self.authority, LOOPBACK, days=30)}
        pairs["internal"] = issue_server(internal, LOOPBACK, days=30)
        self.keys.mkdir(parents=True)
        self.enrolled.mkdir()
        for name, pair in pairs.items():
            (self.keys / f"{name}.key").write_bytes(pair.key)
            (self.keys / f"{name}.pem").write_bytes(pair.certificate)
        (self.keys / "authority.pem").write_bytes(self.authority.certificate)
        (self.keys / "internal-ca.pem").write_bytes(internal.certificate)

    @property
    def keys(self) -> Path:
        return self.path / "keys"

    @property
    def enrolled(self) -> Path:
        return self.path / "enrolled"

    @property
    def receipts(self) -> Path:
        return self.path / "receipts"

    def enroll(self, hospital: Hospital, *, revoked: bool = False) -> Hospital:
        facts = {
            "site": hospital.number,
            "certificate": fingerprint(hospital.certificate),
            "node_key": hospital.openssh,
            "revoked": revoked,
        }
        path = self.enrolled / f"{hospital.number:04d}.json"
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(facts))
        partial.replace(path)
        return hospital

    def hospital(self, number: int = 3, **changes) -> Hospital:
        return self.enroll(Hospital(number, self.authority, **changes))


def read_enrolled(folder: Path) -> dict[str, EnrolledCaller]:
    found = [json.loads(p.read_text()) for p in folder.glob("*.json")]
    return {
        f["certificate"]: EnrolledCaller(site=f["site"], node_key=flower_node_key(f["node_key"]), revoked=f["revoked"])
        for f in found
    }


def settings(path: Path, listen: str, fleet: str) -> IngressSettings:
    keys = path / "keys"
    tls = Tls(key=keys / "ingress.key", certificate=keys / "ingress.pem", authority=keys / "authority.pem")
    return IngressSettings(
        listen=listen,
        tls=None if listen.startswith("unix:") else tls,
        fleet=fleet,
        fleet_authority=keys / "internal-ca.pem",
        enrolled=path / "enrolled",
        read_enrolled=lambda: read_enrolled(path / "enrolled"),
        receipts=path / "receipts",
    )


@contextmanager
def ingress(path: Path, listen: str, fleet: str) -> Iterator[None]:
    """An ingress in a thread."""
    stop, ready, failed = threading.Event(), threading.Event(), []

    def run() -> None:
        try:
            serve(settings(path, listen, fleet), stop, ready=ready.set)
        except BaseException as error:
            failed.append(error)
            ready.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        assert ready.wait(20)
        if failed:
            raise failed[0]
        yield
    finally:
        stop.set()
        thread.join(20)


class StubFleet(fleet_pb2_grpc.FleetServicer):
    """Answers as Flower's store does: wants what it lacks, takes what it has twice."""

    def __init__(self) -> None:
        self.registered: set[str] = set()
        self.objects: dict[str, bytes] = {}
        self.calls: Counter[str] = Counter()
        self.headers: list[dict[str, str | bytes]] = []

    def _seen(self, name: str, context: grpc.ServicerContext) -> None:
        self.calls[name] += 1
        self.headers.append(dict(context.invocation_metadata()))

    def RegisterNode(self, request, context):
        self._seen("RegisterNode", context)
        return fleet_pb2.RegisterNodeFleetResponse()

    def ActivateNode(self, request, context):
        self._seen("ActivateNode", context)
        return fleet_pb2.ActivateNodeResponse(node_id=5)

    def SendNodeHeartbeat(self, request, context):
        self._seen("SendNodeHeartbeat", context)
        return heartbeat_pb2.SendNodeHeartbeatResponse(success=True)

    def PushMessages(self, request, context):
        self._seen("PushMessages", context)
        ids = ids_of(request.message_object_trees[0])
        self.registered |= ids
        return fleet_pb2.PushMessagesResponse(objects_to_push=ids - self.objects.keys())

    def PushObject(self, request, context):
        self._seen("PushObject", context)
        stored = request.object_id in self.registered and object_id(request.object_content) == request.object_id
        if stored:
            self.objects[request.object_id] = request.object_content
        return message_pb2.PushObjectResponse(stored=stored)


@contextmanager
def fleet_api(home: Home, fleet: StubFleet) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", 32 * 2**20)])
    fleet_pb2_grpc.add_FleetServicer_to_server(fleet, server)
    pair = (home.keys / "internal.key").read_bytes(), (home.keys / "internal.pem").read_bytes()
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


@dataclass
class Letter:
    """A message with its objects, as a gateway sends them."""

    contents: list[bytes]

    def __post_init__(self) -> None:
        chunks = [pack("ArrayChunk", [], c) for c in self.contents]
        self.objects = {object_id(c): c for c in chunks}
        leaves = [ObjectTree(object_id=name) for name in self.objects]
        root = pack("Message", list(self.objects), b"header")
        self.objects[object_id(root)] = root
        self.tree = ObjectTree(object_id=object_id(root), children=leaves)
        self.id = self.tree.object_id
        self.num_bytes = sum(map(len, self.objects.values()))

    def header(self) -> fleet_pb2.PushMessagesRequest:
        message = message_pb2.Message(metadata=Metadata(run_id=1, message_id=self.id))
        return fleet_pb2.PushMessagesRequest(
            node=Node(node_id=5), messages_list=[message], message_object_trees=[self.tree]
        )

    def announce(self, stub: fleet_pb2_grpc.FleetStub, **options) -> set[str]:
        return set(stub.PushMessages(self.header(), timeout=10, **options).objects_to_push)

    def put(self, stub: fleet_pb2_grpc.FleetStub, name: str) -> bool:
        request = message_pb2.PushObjectRequest(
            node=Node(node_id=5), run_id=1, object_id=name, object_content=self.objects[name]
        )
        return stub.PushObject(request, timeout=10).stored

    def send(self, stub: fleet_pb2_grpc.FleetStub) -> None:
        for name in sorted(self.announce(stub)):
            assert self.put(stub, name)


def ids_of(tree: ObjectTree) -> set[str]:
    return {tree.object_id}.union(*map(ids_of, tree.children))


def beat(stub: fleet_pb2_grpc.FleetStub) -> bool:
    request = heartbeat_pb2.SendNodeHeartbeatRequest(node=Node(node_id=5), heartbeat_interval=30)
    return stub.SendNodeHeartbeat(request, timeout=10).success


def copy_of(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to))


if __name__ == "__main__":
    serve(settings(Path(sys.argv[1]), sys.argv[2], sys.argv[3]), threading.Event())
