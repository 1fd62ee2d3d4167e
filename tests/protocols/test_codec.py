from __future__ import annotations

import io
import math
import pickle

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from protocols.codec import (
    decode_reply,
    decode_request,
    decode_update,
    decode_weights,
    encode_reply,
    encode_request,
    payload_bytes,
)
from protocols.error_codes import ContractError, ErrorCode
from protocols.manifest import ParameterManifest
from protocols.messages import HelloReply, HelloRequest, InnerRecipe, TrainReply, TrainRequest

SECRET = "Jane Roe 555-0100"
ARRAYS = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b.bias": np.array([0.5, -0.5], np.float32),
}
MANIFEST = ParameterManifest.of(ARRAYS)
FACTS = {
    "round": 3,
    "train_tokens": 4_096,
    "corpus_tokens": 12_000,
    "train_loss": 2.5,
    "validation_bits": 900,
    "validation_bytes": 5_000,
}
REQUEST = TrainRequest(
    study="study-1",
    round=3,
    rounds=9,
    corpus="real+synthetic",
    recipe=InnerRecipe(steps=5, rows=8, row_length=64, peak_lr=0.003),
)


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def update_with(array: Array, name: str = "a.weight") -> RecordDict:
    """The good update with one of its arrays exchanged."""
    records = encode_reply(TrainReply(**FACTS), ARRAYS)
    return RecordDict({**records, "update": ArrayRecord({**records.array_records["update"], name: array})})


def refusal(records: RecordDict, max_norm: float = 100.0) -> ErrorCode:
    with pytest.raises(ContractError) as caught:
        decode_update(records, MANIFEST, max_norm, malformed=ErrorCode.REPLY_NOT_LISTED)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    return caught.value.code


def reply_refusal(records: RecordDict, kind: type = TrainReply) -> ErrorCode:
    with pytest.raises(ContractError) as caught:
        decode_reply(records, kind, malformed=ErrorCode.REPLY_NOT_LISTED)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    return caught.value.code


# Round trips


def test_train_request_and_its_weights_come_back_equal():
    records = encode_request(REQUEST, ARRAYS)

    assert decode_request(records, TrainRequest) == REQUEST
    weights = decode_weights(records)
    assert weights.keys() == ARRAYS.keys()
    assert all(np.array_equal(weights[k], ARRAYS[k]) and weights[k].dtype == np.float32 for k in ARRAYS)


def test_hello_request_comes_back_equal():
    assert decode_request(encode_request(HelloRequest()), HelloRequest) == HelloRequest()


def test_hello_reply_comes_back_equal():
    reply = HelloReply(site=12, contract_version=1)
    assert decode_reply(encode_reply(reply), HelloReply, malformed=ErrorCode.REPLY_MALFORMED) == reply


def test_train_reply_and_its_update_come_back_equal():
    records = encode_reply(TrainReply(**FACTS), ARRAYS)

    reply = decode_reply(records, TrainReply, malformed=ErrorCode.REPLY_MALFORMED)
    update = decode_update(records, MANIFEST, 100.0, malformed=ErrorCode.REPLY_MALFORMED)
    assert reply == TrainReply(**FACTS)
    assert all(np.array_equal(update[k], ARRAYS[k]) for k in ARRAYS)


def test_array_that_is_not_contiguous_comes_back_equal():
    arrays = {"w": np.arange(12, dtype=np.float32).reshape(3, 4).T}
    records = encode_request(HelloRequest(), arrays)
    assert np.array_equal(decode_weights(records)["w"], arrays["w"])


def test_equal_replies_have_equal_bytes_whatever_the_order_of_arrays():
    forward = encode_reply(TrainReply(**FACTS), ARRAYS)
    backward = encode_reply(TrainReply(**FACTS), dict(reversed(ARRAYS.items())))
    assert [(k, a.data) for k, a in forward.array_records["update"].items()] == [
        (k, a.data) for k, a in backward.array_records["update"].items()
    ]


def test_payload_bytes_count_every_array_and_grow_with_them():
    small = payload_bytes(encode_reply(TrainReply(**FACTS), {"w": np.zeros(10, np.float32)}))
    large = payload_bytes(encode_reply(TrainReply(**FACTS), {"w": np.zeros(1_010, np.float32)}))
    assert large - small == 4_000
    assert payload_bytes(encode_reply(TrainReply(**FACTS))) > 0


# Facts of a reply


def test_extra_record_is_refused():
    for extra in (MetricRecord({"n": 1}), ConfigRecord({"note": SECRET}), ArrayRecord()):
        records = RecordDict({**encode_reply(TrainReply(**FACTS), ARRAYS), "extra": extra})
        assert reply_refusal(records) == ErrorCode.REPLY_NOT_LISTED


def test_config_record_in_the_place_of_the_facts_is_refused():
    assert reply_refusal(RecordDict({"facts": ConfigRecord({**FACTS, "note": SECRET})})) == ErrorCode.REPLY_NOT_LISTED


def test_reply_without_facts_is_refused():
    assert reply_refusal(RecordDict()) == ErrorCode.REPLY_NOT_LISTED


def test_extra_metric_is_refused_and_its_name_is_not_told():
    records = RecordDict({"facts": MetricRecord({**FACTS, SECRET: 1})})
    assert reply_refusal(records) == ErrorCode.REPLY_NOT_LISTED


def test_renamed_metric_is_refused():
    renamed = {("loss" if k == "train_loss" else k): v for k, v in FACTS.items()}
    assert reply_refusal(RecordDict({"facts": MetricRecord(renamed)})) == ErrorCode.REPLY_NOT_LISTED


def test_missing_metric_is_refused():
    fewer = {k: v for k, v in FACTS.items() if k != "validation_bits"}
    assert reply_refusal(RecordDict({"facts": MetricRecord(fewer)})) == ErrorCode.REPLY_NOT_LISTED


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("train_tokens", 4_096.0),  # a float where an int is listed
        ("round", [1, 2, 3]),
        ("train_loss", math.nan),
        ("train_loss", math.inf),
        ("train_loss", -0.1),
        ("train_loss", 100.5),
        ("round", 0),
        ("round", 100_001),
        ("train_tokens", -1),
        ("train_tokens", 10**12 + 1),
        ("corpus_tokens", 12_345),
        ("corpus_tokens", 10**15 + 1_000),
        ("validation_bits", 10**13 + 1),
        ("validation_bytes", -1),
    ],
)
def test_value_of_another_type_or_out_of_bounds_is_refused(field, value):
    records = RecordDict({"facts": MetricRecord({**FACTS, field: value})})
    with pytest.raises(ContractError) as caught:
        decode_reply(records, TrainReply, malformed=ErrorCode.REPLY_MALFORMED)
    assert caught.value.code == ErrorCode.REPLY_MALFORMED
    assert str(value) not in str(caught.value)


@pytest.mark.parametrize("site", [-1, 10_000, 3.0])
def test_hello_from_a_site_number_that_cannot_be_is_refused(site):
    records = RecordDict({"facts": MetricRecord({"site": site, "contract_version": 1})})
    assert reply_refusal(records, HelloReply) == ErrorCode.REPLY_NOT_LISTED


# Requests


@pytest.mark.parametrize(
    "records",
    [
        RecordDict(),
        RecordDict({"request": MetricRecord({"json": 1})}),
        RecordDict({"request": ConfigRecord({"json": REQUEST.model_dump_json(), "more": 1})}),
        RecordDict({"request": ConfigRecord({"json": SECRET})}),
        RecordDict({"request": ConfigRecord({"json": REQUEST.model_dump_json().replace('"round":3', '"round":0')})}),
        RecordDict({"request": ConfigRecord({"json": REQUEST.model_dump_json()[:-1] + f',"x":"{SECRET}"}}'})}),
        RecordDict({**encode_request(REQUEST), "extra": ConfigRecord({"note": SECRET})}),
    ],
)
def test_request_that_is_not_exactly_listed_is_refused(records):
    with pytest.raises(ContractError) as caught:
        decode_request(records, TrainRequest)
    assert caught.value.code == ErrorCode.BAD_REQUEST
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


def test_request_without_weights_is_refused_where_weights_belong():
    with pytest.raises(ContractError) as caught:
        decode_weights(encode_request(REQUEST))
    assert caught.value.code == ErrorCode.BAD_REQUEST


# Arrays


def test_bytes_behind_an_array_are_refused():
    data = npy(ARRAYS["a.weight"]) + SECRET.encode()
    assert refusal(update_with(Array("float32", (2, 3), "numpy.ndarray", data))) == ErrorCode.REPLY_NOT_LISTED


def test_dtype_that_is_a_sentence_is_refused():
    data = npy(ARRAYS["a.weight"])
    assert refusal(update_with(Array(SECRET, (2, 3), "numpy.ndarray", data))) == ErrorCode.REPLY_NOT_LISTED


def test_stype_that_is_a_sentence_is_refused():
    data = npy(ARRAYS["a.weight"])
    assert refusal(update_with(Array("float32", (2, 3), SECRET, data))) == ErrorCode.REPLY_NOT_LISTED


@pytest.mark.parametrize("dtype", ["float64", "int32", "int64", ">f4", "U4", "V4"])
def test_other_payload_under_a_float32_declaration_is_refused(dtype):
    data = npy(np.zeros((2, 3), dtype))
    assert refusal(update_with(Array("float32", (2, 3), "numpy.ndarray", data))) == ErrorCode.REPLY_NOT_LISTED


def test_declared_float64_is_refused():
    data = npy(np.zeros((2, 3), np.float64))
    assert refusal(update_with(Array("float64", (2, 3), "numpy.ndarray", data))) == ErrorCode.REPLY_NOT_LISTED


class Bomb:
    """Would tell that it was unpickled."""

    went_off = False

    def __reduce__(self):
        return (setattr, (Bomb, "went_off", True))


def test_pickled_objects_are_refused_without_being_unpickled():
    data = npy(np.array([[Bomb(), 1, 2], [3, 4, 5]], object))
    assert b"setattr" in data  # the payload does hold the pickle

    assert refusal(update_with(Array("float32", (2, 3), "numpy.ndarray", data))) == ErrorCode.REPLY_NOT_LISTED
    assert not Bomb.went_off


def test_plain_pickle_is_refused():
    data = pickle.dumps(Bomb())
    assert refusal(update_with(Array("float32", (2, 3), "numpy.ndarray", data))) == ErrorCode.REPLY_NOT_LISTED
    assert not Bomb.went_off


@pytest.mark.parametrize("declared", [(3, 2), (6,), (2, 3, 1), ()])
def test_declared_shape_unlike_the_payload_is_refused(declared):
    data = npy(ARRAYS["a.weight"])
    assert refusal(update_with(Array("float32", declared, "numpy.ndarray", data))) == ErrorCode.REPLY_NOT_LISTED


def test_payload_that_claims_more_than_it_holds_is_refused():
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**15,)})
    array = Array("float32", (10**15,), "numpy.ndarray", header.getvalue() + b"\0" * 24)
    assert refusal(update_with(array)) == ErrorCode.REPLY_NOT_LISTED


def test_array_of_another_shape_than_listed_is_refused():
    array = np.zeros((3, 2), np.float32)
    assert refusal(update_with(Array("float32", (3, 2), "numpy.ndarray", npy(array)))) == ErrorCode.MANIFEST_MISMATCH


def test_missing_array_is_refused():
    records = encode_reply(TrainReply(**FACTS), {"a.weight": ARRAYS["a.weight"]})
    assert refusal(records) == ErrorCode.MANIFEST_MISMATCH


def test_extra_array_is_refused_and_its_name_is_not_told():
    records = encode_reply(TrainReply(**FACTS), {**ARRAYS, SECRET: np.zeros(1, np.float32)})
    assert refusal(records) == ErrorCode.MANIFEST_MISMATCH


def test_reply_without_arrays_is_refused():
    assert refusal(encode_reply(TrainReply(**FACTS))) == ErrorCode.REPLY_NOT_LISTED


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_value_that_is_not_finite_is_refused(value):
    arrays = {**ARRAYS, "a.weight": ARRAYS["a.weight"].copy()}
    arrays["a.weight"][1, 2] = value
    assert refusal(encode_reply(TrainReply(**FACTS), arrays)) == ErrorCode.UPDATE_NOT_FINITE


@pytest.mark.parametrize("value", [1e30, np.finfo(np.float32).max])
def test_huge_but_finite_values_are_too_large_and_not_called_infinite(value):
    arrays = {**ARRAYS, "a.weight": np.full((2, 3), value, np.float32)}
    assert refusal(encode_reply(TrainReply(**FACTS), arrays), max_norm=1e9) == ErrorCode.UPDATE_TOO_LARGE


def test_norm_is_taken_over_all_arrays_together():
    arrays = {"a.weight": np.full((2, 3), 3.0, np.float32), "b.bias": np.full(2, 3.0, np.float32)}
    records = encode_reply(TrainReply(**FACTS), arrays)
    norm = 3.0 * math.sqrt(8)

    assert decode_update(records, MANIFEST, norm * 1.0001, malformed=ErrorCode.REPLY_MALFORMED)
    assert refusal(records, max_norm=norm * 0.9999) == ErrorCode.UPDATE_TOO_LARGE


@given(data=st.binary(max_size=300))
def test_random_bytes_as_a_payload_raise_nothing_but_the_contract_error(data):
    assert refusal(update_with(Array("float32", (2, 3), "numpy.ndarray", data))) == ErrorCode.REPLY_NOT_LISTED


@given(position=st.integers(0, 10_000), value=st.integers(0, 255))
def test_one_changed_byte_in_a_payload_is_refused_or_stays_within_the_bounds(position, value):
    data = bytearray(npy(ARRAYS["a.weight"]))
    data[position % len(data)] = value
    try:
        update = decode_update(
            update_with(Array("float32", (2, 3), "numpy.ndarray", bytes(data))),
            MANIFEST,
            100.0,
            malformed=ErrorCode.REPLY_MALFORMED,
        )
    except ContractError:
        return
    assert update["a.weight"].shape == (2, 3)
    assert np.linalg.norm(update["a.weight"]) <= 100.0
