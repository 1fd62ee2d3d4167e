"""The hospital's Flower app: the same in a simulation and behind a SuperNode.

Nothing is read at import time: what fails outside a handler fails outside the exit (``egress``) too.
"""

from __future__ import annotations

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from protocols.codec import decode_request, decode_weights, encode_reply
from protocols.messages import CONTRACT_VERSION, HelloReply, TrainRequest
from site_client.egress import egress, to_private_reply, to_reply
from site_client.locate import locate_site

app = ClientApp(mods=[egress])


@app.query("hello")
def hello(message: Message, context: Context) -> Message:
    """Say which site this is."""
    reply = HelloReply(site=locate_site(context).config().number, contract_version=CONTRACT_VERSION)
    return Message(encode_reply(reply), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train one round on the site's own corpus."""
    folder = locate_site(context)
    request = decode_request(message.content, TrainRequest)
    weights = decode_weights(message.content)
    if request.privacy is not None:
        from site_client.private_pretrain import train_private_round  # loads torch; a greeting does not need it

        _, records = to_private_reply(train_private_round(folder, request, weights))
    else:
        from site_client.pretrain import train_round

        _, records = to_reply(train_round(folder, request, weights), folder.config().limits)
    return Message(records, reply_to=message)
