"""A Grid in memory: a node is a function from request to reply, and runs in a thread of its own."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable, Mapping

import numpy as np
from flwr.app import Error, Message, RecordDict
from flwr.serverapp import Grid

from protocols.codec import decode_request, decode_weights, encode_reply
from protocols.messages import CONTRACT_VERSION, HelloReply, TrainReply, TrainRequest

Answer = RecordDict | Error | None
Arrays = Mapping[str, np.ndarray]
Node = Callable[[Message], Answer]


class FakeGrid(Grid):
    """Delivers messages to functions.

    Args:
        nodes: function of each node; what answers None never answers.

    Attributes:
        sent: every message that was pushed, in order.
        hanging: nodes whose replies have a header but never a content: pulling them blocks.
        flaky: how often pulling the next replies of a node fails.
        gone: nodes that are listed but take no message any more.
    """

    def __init__(self, nodes: dict[int, Node]) -> None:
        self.nodes = dict(nodes)
        self.sent: list[Message] = []
        self.hanging: set[int] = set()
        self.flaky: dict[int, int] = {}
        self.gone: set[int] = set()
        self._replies: dict[str, Message] = {}
        self._targets: dict[str, int] = {}
        self._never = threading.Event()

    def get_node_ids(self) -> Iterable[int]:
        return list(self.nodes)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = []
        for message in messages:
            node = message.metadata.dst_node_id
            self.sent.append(message)
            if node in self.gone:
                continue
            message_id = uuid.uuid4().hex
            message.metadata.__dict__["_message_id"] = message_id
            self._targets[message_id] = node
            threading.Thread(target=self._handle, args=(message_id, message), daemon=True).start()
            ids.append(message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        replies = []
        for message_id in message_ids:
            node = self._targets[message_id]
            if node in self.hanging:
                self._never.wait()
            if self.flaky.get(node, 0) > 0:
                self.flaky[node] -= 1
                raise ConnectionError("the link is down for a moment")
            if message_id in self._replies:
                replies.append(self._replies.pop(message_id))
        return replies

    def _handle(self, message_id: str, message: Message) -> None:
        answer = self.nodes[message.metadata.dst_node_id](message)
        if isinstance(answer, Error) or answer is not None:
            self._replies[message_id] = Message(answer, reply_to=message)

    def set_run(self, run):
        raise NotImplementedError

    @property
    def run(self):
        raise NotImplementedError

    def create_message(self, *args, **kwargs):
        raise NotImplementedError

    def send_and_receive(self, *args, **kwargs):
        raise NotImplementedError


def drift(site: int, round_number: int, weights: Arrays) -> dict[str, np.ndarray]:
    """What a well-behaved site learns: something that depends on the site, the round and the weights."""

    def learn(value: np.ndarray) -> np.ndarray:
        ramp = 0.01 * np.arange(value.size).reshape(value.shape)
        return (0.1 * (site + 1) - 0.03 * round_number * value + ramp).astype(np.float32)

    return {name: learn(value) for name, value in weights.items()}


def facts(round_number: int, **fields: float) -> dict[str, float]:
    """The facts of a well-behaved reply."""
    usual = {"train_tokens": 640, "corpus_tokens": 2_000, "train_loss": 3.0}
    return {"round": round_number, **usual, "validation_bits": 0, "validation_bytes": 0, **fields}


class FakeSite:
    """A node that greets with its number and answers a TrainRequest.

    Args:
        number: of the site.
        train: makes the answer instead of :func:`drift`, from (request, weights).
        fields: other facts than the usual ones.
    """

    def __init__(
        self, number: int, train: Callable[[TrainRequest, Arrays], Answer] | None = None, **fields: float
    ) -> None:
        self.number = number
        self.rounds: list[int] = []
        self._train = train
        self._fields = fields

    def __call__(self, message: Message) -> Answer:
        if message.metadata.message_type == "query.hello":
            return encode_reply(HelloReply(site=self.number, contract_version=CONTRACT_VERSION))
        request, weights = decode_request(message.content, TrainRequest), decode_weights(message.content)
        self.rounds.append(request.round)
        if self._train is not None:
            return self._train(request, weights)
        reply = TrainReply(**facts(request.round, **self._fields))
        return encode_reply(reply, drift(self.number, request.round, weights))
