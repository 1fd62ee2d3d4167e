from __future__ import annotations

import numpy as np
import pytest
from flwr.app import ConfigRecord, Error, Message, MetricRecord, RecordDict

from protocols.codec import encode_reply
from protocols.error_codes import ContractError, ErrorCode
from protocols.manifest import ParameterManifest
from protocols.messages import HelloReply, TrainReply
from server.ingress import accept_hello, accept_update
from tests.server.fake_grid import facts

ARRAYS = {"w": np.array([3.0, 4.0], np.float32)}
MANIFEST = ParameterManifest.of(ARRAYS)
REQUEST = Message(RecordDict(), dst_node_id=1, message_type="train")


def reply(content: RecordDict | Error) -> Message:
    return Message(content, reply_to=REQUEST)


def refusal(message: Message, max_norm: float = 10.0) -> ErrorCode:
    with pytest.raises(ContractError) as caught:
        accept_update(message, 2, MANIFEST, max_norm)
    return caught.value.code


def test_good_reply_is_accepted_with_its_facts_arrays_and_size():
    records = encode_reply(TrainReply(**facts(2)), ARRAYS)
    update = accept_update(reply(records), 2, MANIFEST, 10.0)
    assert update.facts == TrainReply(**facts(2))
    assert update.arrays["w"].tolist() == [3.0, 4.0]
    assert update.num_bytes > 8


@pytest.mark.parametrize(
    ("flower", "code"),
    [
        (0, ErrorCode.SITE_CRASHED),
        (1, ErrorCode.SITE_NOT_READY),
        (2, ErrorCode.SITE_CRASHED),
        (3, ErrorCode.NO_REPLY),
        (4, ErrorCode.NO_REPLY),
        (5, ErrorCode.SITE_UNREACHABLE),
        (8, ErrorCode.SITE_CRASHED),
        (7, ErrorCode.REPLY_MALFORMED),
        (9_999, ErrorCode.REPLY_MALFORMED),
        (ErrorCode.TOO_FEW_PATIENTS, ErrorCode.TOO_FEW_PATIENTS),
    ],
)
def test_error_is_known_by_its_number_and_its_text_is_never_read(flower, code):
    with pytest.raises(ContractError) as caught:
        accept_update(reply(Error(int(flower), "Traceback: patient Jane Roe")), 2, MANIFEST, 10.0)
    assert caught.value.code == code
    assert "Roe" not in str(caught.value)


def test_reply_of_another_round_is_refused():
    assert refusal(reply(encode_reply(TrainReply(**facts(1)), ARRAYS))) == ErrorCode.WRONG_ROUND


@pytest.mark.parametrize(
    ("arrays", "code"),
    [
        ({"w": np.zeros(3, np.float32)}, ErrorCode.MANIFEST_MISMATCH),
        ({"v": ARRAYS["w"]}, ErrorCode.MANIFEST_MISMATCH),
        ({"w": np.array([np.nan, 0], np.float32)}, ErrorCode.UPDATE_NOT_FINITE),
        ({"w": np.array([np.inf, 0], np.float32)}, ErrorCode.UPDATE_NOT_FINITE),
        ({"w": np.array([30.0, 40.0], np.float32)}, ErrorCode.UPDATE_TOO_LARGE),
        (None, ErrorCode.REPLY_MALFORMED),
    ],
)
def test_update_that_breaks_the_contract_is_refused_with_its_code(arrays, code):
    assert refusal(reply(encode_reply(TrainReply(**facts(2)), arrays))) == code


def test_norm_at_the_bound_is_accepted():
    assert accept_update(reply(encode_reply(TrainReply(**facts(2)), ARRAYS)), 2, MANIFEST, 5.0)
    assert refusal(reply(encode_reply(TrainReply(**facts(2)), ARRAYS)), max_norm=4.99) == ErrorCode.UPDATE_TOO_LARGE


@pytest.mark.parametrize(
    "records",
    [
        RecordDict(),
        RecordDict({"facts": MetricRecord({**facts(2), "more": 1})}),
        RecordDict({**encode_reply(TrainReply(**facts(2)), ARRAYS), "log": ConfigRecord({"x": "y"})}),
    ],
)
def test_reply_that_is_not_exactly_listed_is_refused(records):
    assert refusal(reply(records)) == ErrorCode.REPLY_MALFORMED


def test_hello_gives_the_number_of_the_site():
    assert accept_hello(reply(encode_reply(HelloReply(site=12, contract_version=1)))) == 12


def test_hello_with_another_contract_is_refused():
    with pytest.raises(ContractError) as caught:
        accept_hello(reply(encode_reply(HelloReply(site=12, contract_version=2))))
    assert caught.value.code == ErrorCode.REPLY_MALFORMED
