"""Client apps that misbehave on purpose, importable by Ray's workers."""

from __future__ import annotations

import time

import numpy as np
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from protocols.codec import decode_request, decode_weights, encode_reply
from protocols.messages import CONTRACT_VERSION, HelloReply, TrainReply, TrainRequest

GOOD, RAISES, NOT_FINITE, OTHER_SHAPE, TOO_LARGE, OTHER_ROUND, SLEEPS = range(7)
SECRET = "the patient in bed four"
SLEEP_S = 25.0

app = ClientApp()  # no exit around it: the coordinator has to hold its own


@app.query("hello")
def hello(message: Message, context: Context) -> Message:
    """Answer by the number of the node."""
    reply = HelloReply(site=int(context.node_config["partition-id"]), contract_version=CONTRACT_VERSION)
    return Message(encode_reply(reply), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Send an update of ones, or what the number of the node says instead."""
    request, weights = decode_request(message.content, TrainRequest), decode_weights(message.content)
    kind = int(context.node_config["partition-id"])
    update = {name: np.full_like(array, 0.001) for name, array in weights.items()}
    first = next(iter(update))
    if kind == RAISES:
        raise RuntimeError(SECRET)
    if kind == SLEEPS:
        time.sleep(SLEEP_S)
    if kind == NOT_FINITE:
        update[first].flat[0] = np.nan
    if kind == OTHER_SHAPE:
        update[first] = update[first][:-1]
    if kind == TOO_LARGE:
        update[first][:] = 1e6
    reply = TrainReply(
        round=request.round + (kind == OTHER_ROUND),
        train_tokens=1,
        corpus_tokens=1_000,
        train_loss=1.0,
        validation_bits=0,
        validation_bytes=0,
    )
    return Message(encode_reply(reply, update), reply_to=message)
