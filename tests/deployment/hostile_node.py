"""A SuperNode in hostile hands: it speaks Flower's Fleet API itself and tries to get a string out of the hospital.

Each attack gets a string of its own of eight characters, so that it can hide in a double or in two floats too. This is
more than a hostile client app can do, which has only what its SuperNode passes on.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterable
from typing import Any

import grpc
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.client.grpc_rere_client.node_auth_client_interceptor import NodeAuthClientInterceptor
from flwr.common.serde import message_to_proto
from flwr.proto.fab_pb2 import GetFabRequest
from flwr.proto.fleet_pb2 import ActivateNodeRequest, PullMessagesRequest, PushMessagesRequest
from flwr.proto.fleet_pb2_grpc import FleetStub
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    PullObjectRequest,
    PushObjectRequest,
)
from flwr.proto.node_pb2 import Node as NodeProto
from flwr.proto.run_pb2 import GetRunRequest
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree, iterate_object_tree
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.interceptors import RuntimeVersionClientInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes

from protocols.codec import decode_request, encode_reply
from protocols.messages import HelloReply, TrainReply, TrainRequest

SHAPES = {"layer.weight": (64, 8), "norm.weight": (8,)}
_LARGE = [("grpc.max_receive_message_length", 64 * 2**20), ("grpc.max_send_message_length", 64 * 2**20)]


class Node:
    """A node that does what the test says.

    Args:
        address: of a gateway, or of a coordinator.
        authority: PEM.
        key: the node's.
        site: number that it says in greetings.
    """

    def __init__(self, address: str, authority: bytes, key: EllipticCurvePrivateKey, site: int) -> None:
        channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(authority), _LARGE)
        signing = [RuntimeVersionClientInterceptor("SuperNode"), NodeAuthClientInterceptor(key, key.public_key())]
        self.stub = FleetStub(grpc.intercept_channel(channel, *signing))
        self.site = site
        request = ActivateNodeRequest(public_key=public_key_to_bytes(key.public_key()), heartbeat_interval=30)
        self.node = NodeProto(node_id=self.stub.ActivateNode(request, wait_for_ready=True, timeout=60).node_id)

    def pull(self) -> Message | None:
        """An instruction, if there is one, with its content."""
        response = self.stub.PullMessages(PullMessagesRequest(node=self.node))
        if not response.messages_list:
            return None
        metadata, tree = response.messages_list[0].metadata, response.message_object_trees[0]
        contents = {}
        for part in iterate_object_tree(tree):
            while not (got := self._object(metadata.run_id, part.object_id)).object_available:
                time.sleep(0.05)
            contents[part.object_id] = got.object_content
        request = ConfirmMessageReceivedRequest(
            node=self.node, run_id=metadata.run_id, message_object_id=metadata.message_id
        )
        self.stub.ConfirmMessageReceived(request)
        message: Message = inflate_object_from_contents(tree.object_id, contents)
        message.metadata.__dict__["_message_id"] = metadata.message_id
        return message

    def _object(self, run: int, name: str) -> Any:
        return self.stub.PullObject(PullObjectRequest(node=self.node, run_id=run, object_id=name))

    def push(self, reply: Message, change: Callable[[PushMessagesRequest], None] = lambda _: None) -> None:
        """Send a reply as a SuperNode does."""
        reply.metadata.__dict__["_message_id"] = reply.object_id
        objects = {name: part.deflate() for name, part in get_all_nested_objects(reply).items()}
        header = message_to_proto(reply)
        header.content.Clear()
        request = PushMessagesRequest(
            node=self.node,
            messages_list=[header],
            message_object_trees=[get_object_tree(reply)],
            clientapp_runtime_list=[0.1],
        )
        change(request)
        wanted = self.stub.PushMessages(request).objects_to_push
        for name in wanted:
            self.push_object(reply.metadata.run_id, name, objects.get(name, b""))

    def push_object(self, run: int, name: str, content: bytes) -> None:
        self.stub.PushObject(PushObjectRequest(node=self.node, run_id=run, object_id=name, object_content=content))

    def heartbeat(self) -> None:
        """Stay connected in the coordinator's eyes."""
        self.stub.SendNodeHeartbeat(SendNodeHeartbeatRequest(node=self.node, heartbeat_interval=30))

    def answer(self, asked: Message) -> None:
        """Answer honestly."""
        self.push(Message(honest_records(asked, self.site), reply_to=asked))


def honest_records(asked: Message, site: int) -> RecordDict:
    """The records that belong to an instruction."""
    if asked.metadata.message_type == "query.hello":
        return encode_reply(HelloReply(site=site, contract_version=1))
    request = decode_request(asked.content, TrainRequest)
    update = {name: np.full(shape, 0.01, np.float32) for name, shape in SHAPES.items()}
    return encode_reply(
        TrainReply(
            round=request.round,
            train_tokens=4096,
            corpus_tokens=9000,
            train_loss=3.0,
            validation_bits=0,
            validation_bytes=0,
        ),
        update,
    )


def _double(tracer: str) -> float:
    return float(struct.unpack("<d", tracer.encode())[0])


def _integer(tracer: str) -> int:
    return int(struct.unpack("<Q", tracer.encode())[0])


def _with_fact(records: RecordDict, **facts: Any) -> RecordDict:
    old = dict(records["facts"])
    records["facts"] = MetricRecord(old | facts)
    return records


def _with_array(records: RecordDict, name: str, array: Array) -> RecordDict:
    arrays = dict(records["update"])
    records["update"] = ArrayRecord(arrays | {name: array})
    return records


def _array_like(records: RecordDict, **changes: Any) -> Array:
    old = records["update"]["norm.weight"]
    fields = {"dtype": old.dtype, "shape": old.shape, "stype": old.stype, "data": old.data} | changes
    return Array(**fields)


def _floats(tracer: str) -> Array:
    values = np.zeros(8, np.float32)
    values[:2] = np.frombuffer(tracer.encode(), np.float32)
    return Array(values)


def _added_record(records: RecordDict, name: str, record: Any) -> RecordDict:
    records[name] = record
    return records


RECORDS: dict[str, Callable[[RecordDict, str], RecordDict]] = {
    "metric name": lambda r, t: _with_fact(r, **{t: 1.0}),
    "metric value (digits of a float)": lambda r, t: _with_fact(r, train_loss=abs(_double(t))),
    "metric list": lambda r, t: _with_fact(r, train_loss=[_double(t)]),
    "config record": lambda r, t: _added_record(r, "note", ConfigRecord({"text": t})),
    "record name": lambda r, t: _added_record(r, t, MetricRecord({"x": 1})),
    "array name": lambda r, t: _with_array(r, t, _array_like(r)),
    "array bytes of another dtype under an allowed name": lambda r, t: _with_array(
        r, "norm.weight", Array(np.frombuffer(t.encode(), np.uint8))
    ),
    "bytes after the array payload": lambda r, t: _with_array(
        r, "norm.weight", _array_like(r, data=r["update"]["norm.weight"].data + t.encode())
    ),
    "dtype string": lambda r, t: _with_array(r, "norm.weight", _array_like(r, dtype=t)),
    "stype string": lambda r, t: _with_array(r, "norm.weight", _array_like(r, stype=t)),
    "floats that are not finite": lambda r, t: _with_array(
        r, "norm.weight", Array(np.concatenate([_floats(t).numpy()[:2], np.full(6, np.nan, np.float32)]))
    ),
    "oversized reply": lambda r, t: _with_array(
        r, "norm.weight", Array(np.frombuffer((t.encode() * 1_500_000), np.float32))
    ),
}
"""Attacks by what a reply holds."""

BITS = "bits of allowed floats"
"""The channel that stays: finite numbers of listed arrays, below the norm bound."""


def by_records(node: Node, asked: Message, attack: str, tracer: str) -> None:
    """Answer with records that hide the string."""
    node.push(Message(RECORDS[attack](honest_records(asked, node.site), tracer), reply_to=asked))


def _group_id(node: Node, asked: Message, tracer: str) -> None:
    reply = Message(honest_records(asked, node.site), reply_to=asked)
    reply.metadata.__dict__["_group_id"] = tracer
    node.push(reply)


def _error_text(node: Node, asked: Message, tracer: str) -> None:
    node.push(Message(Error(code=2, reason=f"<class 'ValueError'>:<'{tracer}'>"), reply_to=asked))


def _times(node: Node, asked: Message, tracer: str) -> None:
    reply = Message(honest_records(asked, node.site), reply_to=asked)
    reply.metadata.__dict__["_ttl"] = abs(_double(tracer))
    node.push(reply)


def _runtime(node: Node, asked: Message, tracer: str) -> None:
    def change(request: PushMessagesRequest) -> None:
        request.clientapp_runtime_list[0] = _double(tracer)

    node.push(Message(honest_records(asked, node.site), reply_to=asked), change)


def _unknown_field(node: Node, asked: Message, tracer: str) -> None:
    def change(request: PushMessagesRequest) -> None:
        request.messages_list[0].metadata.MergeFromString(b"\xfa\x07\x08" + tracer.encode())  # field 127, a text

    node.push(Message(honest_records(asked, node.site), reply_to=asked), change)


def _many_messages(node: Node, asked: Message, tracer: str) -> None:
    """One message a character: the text is the number of further replies."""
    for letter in tracer:
        records = _with_fact(honest_records(asked, node.site), train_tokens=ord(letter) * 1000)
        node.push(Message(records, reply_to=asked))
    node.push(Message(_with_fact(honest_records(asked, node.site), **{tracer: 1}), reply_to=asked))


def _bits(node: Node, asked: Message, tracer: str) -> None:
    node.push(Message(_with_array(honest_records(asked, node.site), "norm.weight", _floats(tracer)), reply_to=asked))


REPLIES: dict[str, Callable[[Node, Message, str], None]] = {
    **{name: (lambda n, a, t, name=name: by_records(n, a, name, t)) for name in RECORDS},
    "group id in the metadata": _group_id,
    "error text, exception text": _error_text,
    "lifetime in the metadata": _times,
    "runtime of the app": _runtime,
    "unknown protobuf field": _unknown_field,
    "number of messages": _many_messages,
    BITS: _bits,
}
"""Attacks that answer an instruction."""


def _header(node: Node, tracer: str) -> None:
    node.stub.PullMessages(PullMessagesRequest(node=node.node), metadata=(("flwr-note", tracer),))


def _interval(node: Node, tracer: str) -> None:
    node.stub.SendNodeHeartbeat(SendNodeHeartbeatRequest(node=node.node, heartbeat_interval=_double(tracer)))


CALLS: dict[str, Callable[[Node, int, str], object]] = {
    "object id of a pull": lambda n, run, t: n._object(run, t),
    "id of a confirmation": lambda n, run, t: n.stub.ConfirmMessageReceived(
        ConfirmMessageReceivedRequest(node=n.node, run_id=run, message_object_id=t)
    ),
    "id of a pushed object": lambda n, run, t: n.push_object(run, t, t.encode()),
    "header": lambda n, _, t: _header(n, t),
    "heartbeat interval": lambda n, _, t: _interval(n, t),
    "hash of a bundle": lambda n, run, t: n.stub.GetFab(GetFabRequest(node=n.node, hash_str=t, run_id=run)),
    "number of a run": lambda n, _, t: n.stub.GetRun(GetRunRequest(node=n.node, run_id=_integer(t) >> 1)),
    "id of the node": lambda n, _, t: n.stub.PullMessages(
        PullMessagesRequest(node=NodeProto(node_id=_integer(t) >> 1))
    ),
}
"""Attacks that need no instruction."""


def try_calls(node: Node, run: int, tracers: dict[str, str], names: Iterable[str]) -> None:
    """Make the calls; that they fail is one way of being stopped."""
    for name in names:
        try:
            CALLS[name](node, run, tracers[name])
        except grpc.RpcError:
            continue
