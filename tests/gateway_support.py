"""A coordinator's Fleet API as a real gRPC server in this process, and a gateway in front of it, for tests."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from flwr.app import Message, RecordDict
from flwr.app.message.message import make_message
from flwr.common.serde import message_to_proto
from flwr.common.serde_utils import metadata_from_proto
from flwr.proto import fleet_pb2 as fleet
from flwr.proto.fleet_pb2_grpc import FleetServicer, FleetStub, add_FleetServicer_to_server
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatResponse
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedResponse,
    ObjectTree,
    PullObjectResponse,
    PushObjectRequest,
    PushObjectResponse,
)
from flwr.proto.node_pb2 import Node
from flwr.proto.run_pb2 import GetRunResponse, Run
from flwr.proto.transport_pb2 import Scalar
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

from protocols.bundle import bundle_hash, installed_versions
from protocols.codec import encode_reply, encode_request
from protocols.manifest import ParameterManifest
from protocols.messages import HelloReply, HelloRequest, InnerRecipe, SiteLimits, TrainReply, TrainRequest
from protocols.plan import Plan
from protocols.receipts import GatewayReceipt, gateway_chain
from site_client.approval import Approval
from site_client.gateway.courier import Courier
from site_client.gateway.instructions import OpenInstructions
from site_client.gateway.journal import Journal
from site_client.gateway.service import Gateway
from site_client.gateway.upstream import Coordinator

STUDY, SITE, NODE, RUN = "study", 3, 77, 4711
RECIPE = InnerRecipe(steps=2, rows=1, row_length=16, peak_lr=0.1)
_LARGE = [("grpc.max_receive_message_length", 64 * 2**20), ("grpc.max_send_message_length", 64 * 2**20)]


def update(seed: int = 0) -> dict[str, np.ndarray]:
    """Arrays of an update: one of more than a chunk, one of zeros (equal chunks), a small one."""
    draw = np.random.default_rng(seed)
    return {
        "large": draw.normal(0, 1e-3, (1_400_000,)).astype(np.float32),
        "zeros": np.zeros((3_000_000,), np.float32),
        "small": draw.normal(0, 1e-3, (4, 8)).astype(np.float32),
    }


MANIFEST = ParameterManifest.of(update())
PLAN = Plan(study=STUDY, rounds=5, corpus="real", manifest_digest=MANIFEST.digest, recipe=RECIPE, sites=1, quorum=1)


def approval(**changes: Any) -> Approval:
    facts: dict[str, Any] = {
        "site": SITE,
        "plan": PLAN,
        "manifest": MANIFEST,
        "bundle_hash": bundle_hash(),
        "versions": installed_versions(),
        "limits": SiteLimits(),
        "max_message_bytes": 30_000_000,
        "max_total_bytes": 1_000_000_000,
        "approved_at": "2026-01-01T00:00:00+00:00",
    }
    return Approval(**(facts | changes))


def train_request(round_number: int = 1, **changes: Any) -> TrainRequest:
    facts: dict[str, Any] = {"study": STUDY, "round": round_number, "rounds": 5, "corpus": "real", "recipe": RECIPE}
    return TrainRequest(**(facts | changes))


def honest(round_number: int = 1) -> RecordDict:
    """A reply as the exit of the client app makes it."""
    facts = TrainReply(
        round=round_number,
        train_tokens=4096,
        corpus_tokens=9000,
        train_loss=3.25,
        validation_bits=0,
        validation_bytes=0,
    )
    return encode_reply(facts, update())


@dataclass
class FakeLink(FleetServicer):
    """The coordinator: gives out instructions, takes replies, and writes every byte down.

    Attributes:
        fail: called with a method's name before it is answered; may raise by ``context.abort``.
    """

    calls: list[tuple[str, bytes]] = field(default_factory=list)
    instructions: list[tuple[Any, ObjectTree]] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    announced: list[Any] = field(default_factory=list)
    received: dict[str, bytes] = field(default_factory=dict)
    run: Run = field(default_factory=lambda: Run(run_id=RUN, fab_hash=bundle_hash()))
    fail: Callable[[str, grpc.ServicerContext], None] = lambda method, context: None
    activations: int = 0
    coming: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.run.override_config["study"].CopyFrom(Scalar(string=STUDY))

    def ask(self, request: TrainRequest | HelloRequest, *, ttl: float = 600.0) -> str:
        """Give an instruction out; its id."""
        content = encode_request(request, {} if isinstance(request, HelloRequest) else update(1))
        kind = "train" if isinstance(request, TrainRequest) else "query.hello"
        message = Message(content, dst_node_id=NODE, message_type=kind, ttl=ttl)
        message.metadata.__dict__["_run_id"] = RUN
        message.metadata.__dict__["_src_node_id"] = 1
        objects = get_all_nested_objects(message)
        self.objects |= {name: part.deflate() for name, part in objects.items()}
        message.metadata.__dict__["_message_id"] = message.object_id
        header = message_to_proto(message)
        header.content.Clear()
        header.content.SetInParent()
        self.instructions.append((header, get_object_tree(message)))
        return message.object_id

    def replies(self) -> list[Message]:
        """Replies that are here whole, inflated by Flower itself."""
        found = []
        for request in list(self.announced):
            tree = request.message_object_trees[0]
            contents = dict(self.received)
            try:
                found.append(inflate_object_from_contents(tree.object_id, contents, keep_object_contents=True))
            except KeyError:
                continue
        return found

    def wait_for_reply(self, count: int = 1, timeout_s: float = 20.0) -> Message:
        end = time.monotonic() + timeout_s
        while len(self.replies()) < count:
            assert time.monotonic() < end, "no reply arrived"
            time.sleep(0.05)
        return self.replies()[count - 1]

    def seen(self) -> bytes:
        """Every byte that came up."""
        return b"\n".join(content for _, content in self.calls)

    def _note(self, method: str, request: Any, context: grpc.ServicerContext) -> None:
        headers = b"\n".join(
            f"{k}: ".encode() + (v if isinstance(v, bytes) else v.encode()) for k, v in context.invocation_metadata()
        )
        self.calls.append((method, headers + b"\n\n" + request.SerializeToString()))
        self.fail(method, context)

    def ActivateNode(self, request, context):
        self._note("ActivateNode", request, context)
        self.activations += 1
        return fleet.ActivateNodeResponse(node_id=NODE)

    def DeactivateNode(self, request, context):
        self._note("DeactivateNode", request, context)
        return fleet.DeactivateNodeResponse()

    def SendNodeHeartbeat(self, request, context):
        self._note("SendNodeHeartbeat", request, context)
        return SendNodeHeartbeatResponse(success=True)

    def PullMessages(self, request, context):
        self._note("PullMessages", request, context)
        response = fleet.PullMessagesResponse()
        if self.instructions:
            header, tree = self.instructions.pop(0)
            response.messages_list.append(header)
            response.message_object_trees.append(tree)
        return response

    def PushMessages(self, request, context):
        self._note("PushMessages", request, context)
        self.announced = [*self.announced, request]
        return fleet.PushMessagesResponse(objects_to_push=[n for n in _names(request) if n not in self.received])

    def PushObject(self, request, context):
        self._note("PushObject", request, context)
        assert hashlib.sha256(request.object_content).hexdigest() == request.object_id
        self.received[request.object_id] = request.object_content
        return PushObjectResponse(stored=True)

    def PullObject(self, request, context):
        self._note("PullObject", request, context)
        content = self.objects.get(request.object_id)
        return PullObjectResponse(
            object_found=content is not None or request.object_id in self.coming,
            object_available=content is not None,
            object_content=content or b"",
        )

    def ConfirmMessageReceived(self, request, context):
        self._note("ConfirmMessageReceived", request, context)
        return ConfirmMessageReceivedResponse()

    def GetRun(self, request, context):
        self._note("GetRun", request, context)
        return GetRunResponse(run=self.run)


def _names(request: Any) -> list[str]:
    stack, found = list(request.message_object_trees), []
    while stack:
        tree = stack.pop()
        found.append(tree.object_id)
        stack += list(tree.children)
    return found


@contextmanager
def serving(servicer: FleetServicer, port: int = 0) -> Iterator[int]:
    server = grpc.server(ThreadPoolExecutor(8), options=_LARGE)
    add_FleetServicer_to_server(servicer, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield bound
    finally:
        server.stop(0).wait()


@dataclass
class Stand:
    """A gateway between a node's stub and a coordinator."""

    folder: Path
    link: FakeLink
    node: FleetStub
    gateway: Gateway
    courier: Courier
    approvals: dict[str, Approval]

    def receipts(self) -> list[GatewayReceipt]:
        """What was written down so far; the gateway holds the lock, so the chain is read without it."""
        return gateway_chain(self.folder / "receipts").links()

    def pull(self) -> Message | None:
        """As a SuperNode does: an instruction with its content."""
        response = self.node.PullMessages(fleet.PullMessagesRequest(node=Node(node_id=NODE)))
        if not response.messages_list:
            return None
        metadata = response.messages_list[0].metadata
        return make_message(metadata_from_proto(metadata), content=RecordDict())

    def push(self, reply: Message, change: Callable[[Any], None] = lambda _: None, *, only: int | None = None) -> None:
        """Send a reply as a SuperNode does, or only so many of its objects."""
        objects = {name: part.deflate() for name, part in get_all_nested_objects(reply).items()}
        reply.metadata.__dict__["_message_id"] = reply.object_id
        header = message_to_proto(reply)
        header.content.Clear()
        request = fleet.PushMessagesRequest(
            node=Node(node_id=NODE), messages_list=[header], message_object_trees=[get_object_tree(reply)]
        )
        change(request)
        wanted = set(self.node.PushMessages(request).objects_to_push)
        for name in [n for n in objects if n in wanted][:only]:
            self.node.PushObject(
                PushObjectRequest(node=Node(node_id=NODE), run_id=RUN, object_id=name, object_content=objects[name])
            )


@contextmanager
def stand(folder: Path, link: FakeLink, *, link_port: int = 0) -> Iterator[Stand]:
    """A running gateway over a folder; entered again over the same folder, it is a gateway that was started again."""
    approvals = {STUDY: approval()}
    with serving(link, link_port) as port, grpc.insecure_channel(f"127.0.0.1:{port}", _LARGE) as channel:
        (folder / "spool").mkdir(parents=True, exist_ok=True)
        with Journal.open(folder / "receipts") as journal:
            upstream = Coordinator(channel, b"public", journal, folder / "node-id")
            upstream.node_id = NODE
            instructions = OpenInstructions(folder / "spool" / "open")
            courier = Courier(folder / "spool", upstream, instructions, lambda: approvals, journal)
            gateway = Gateway(folder / "spool", upstream, instructions, lambda: approvals, courier, journal)
            courier.start()
            with serving(gateway) as inner, grpc.insecure_channel(f"127.0.0.1:{inner}", _LARGE) as node:
                try:
                    yield Stand(folder, link, FleetStub(node), gateway, courier, approvals)
                finally:
                    courier.stop()
                    courier.join(10)


def hello() -> RecordDict:
    return encode_reply(HelloReply(site=SITE, contract_version=1))
