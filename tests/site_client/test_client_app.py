from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Context, Message, RecordDict

from modeling.arrays import to_arrays
from modeling.release import load_model
from protocols.codec import decode_reply, decode_update, encode_request
from protocols.error_codes import ErrorCode
from protocols.manifest import ParameterManifest
from protocols.messages import (
    CONTRACT_VERSION,
    HelloReply,
    HelloRequest,
    InnerRecipe,
    SiteLimits,
    TrainReply,
    TrainRequest,
)
from site_client.client_app import app
from site_client.folder import SiteFolder
from site_client.receipts import ReceiptBook

REQUEST = TrainRequest(
    study="s", round=1, rounds=2, corpus="real", recipe=InnerRecipe(steps=2, rows=4, row_length=32, peak_lr=0.01)
)


@pytest.fixture(scope="module")
def weights(model_folder):
    return to_arrays(load_model(model_folder)[0])


def send(site: SiteFolder, kind: str, records: RecordDict) -> Message:
    message = Message(records, dst_node_id=5, message_type=kind)
    message.metadata.__dict__["_message_id"] = "m-1"
    context = Context(
        run_id=1, node_id=5, node_config={"site-folder": str(site.path)}, state=RecordDict(), run_config={}
    )
    return app(message, context)


def facts(reply: Message) -> TrainReply:
    return decode_reply(reply.content, TrainReply, malformed=ErrorCode.REPLY_MALFORMED)


def test_site_says_its_number_and_contract(site):
    reply = send(site, "query.hello", encode_request(HelloRequest()))
    hello = decode_reply(reply.content, HelloReply, malformed=ErrorCode.REPLY_MALFORMED)
    assert hello == HelloReply(site=7, contract_version=CONTRACT_VERSION)


def test_site_trains_a_round_and_writes_one_receipt(site, weights):
    reply = send(site, "train", encode_request(REQUEST, weights))
    told = facts(reply)
    assert (told.round, told.train_tokens) == (1, 2 * 4 * 32)
    assert told.corpus_tokens % 1_000 == 0
    assert told.validation_bits > told.validation_bytes > 0
    update = decode_update(reply.content, ParameterManifest.of(weights), 100.0, malformed=ErrorCode.REPLY_MALFORMED)
    assert max(np.abs(a).max() for a in update.values()) > 0
    (receipt,) = ReceiptBook(site.receipts).read()
    assert receipt.fields == told.model_dump()


def test_same_request_twice_gives_the_same_reply(site, weights):
    one, two = (send(site, "train", encode_request(REQUEST, weights)) for _ in range(2))
    assert one.content == two.content


def test_site_with_too_few_patients_says_so_and_trains_nothing(make_site, weights):
    site = make_site(limits=SiteLimits(min_patients=13))
    reply = send(site, "train", encode_request(REQUEST, weights))
    assert reply.error.code == ErrorCode.TOO_FEW_PATIENTS
    assert not (site.path / "checkpoints").exists()


def test_validation_of_too_few_patients_is_withheld(make_site, weights):
    site = make_site(limits=SiteLimits(min_patients=5))  # 12 patients to train on, 4 to validate on
    told = facts(send(site, "train", encode_request(REQUEST, weights)))
    assert (told.validation_bits, told.validation_bytes) == (0, 0)
    assert told.train_tokens > 0


def test_weights_of_another_model_are_refused(site, weights):
    fewer = {k: v for k, v in weights.items() if k != "model.norm.weight"}
    reply = send(site, "train", encode_request(REQUEST, fewer))
    assert reply.error.code == ErrorCode.MANIFEST_MISMATCH


def test_request_without_weights_is_refused(site):
    assert send(site, "train", encode_request(REQUEST)).error.code == ErrorCode.BAD_REQUEST


def test_site_without_rephrasings_cannot_train_on_them_and_says_only_a_code(site, weights):
    request = REQUEST.model_copy(update={"corpus": "synthetic"})
    reply = send(site, "train", encode_request(request, weights))
    assert (reply.error.code, reply.error.reason) == (ErrorCode.TRAINING_FAILED, "TRAINING_FAILED")
    assert str(site.path) not in site.log.read_text()
