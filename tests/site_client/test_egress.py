from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from modeling.bits_per_byte import Score
from protocols.codec import encode_reply, encode_request
from protocols.error_codes import ContractError, ErrorCode
from protocols.manifest import MANIFEST_FILE, ParameterManifest
from protocols.messages import (
    HelloReply,
    HelloRequest,
    InnerRecipe,
    NoteLevelReply,
    PatientLevelReply,
    PrivacyRecipe,
    SiteLimits,
    TrainReply,
    TrainRequest,
)
from site_client.egress import egress, to_private_reply, to_reply
from site_client.folder import SiteFolder
from site_client.pretrain import LocalUpdate
from site_client.private_pretrain import PrivateUpdate
from site_client.receipts import ReceiptBook

SECRET = "Jane Roe 555-0100"
WEIGHTS = {"a": np.zeros((2, 3), np.float32), "b": np.zeros(4, np.float32)}
UPDATE = {"a": np.full((2, 3), 0.5, np.float32), "b": np.arange(4, dtype=np.float32)}
REQUEST = TrainRequest(
    study="study-1",
    round=3,
    rounds=9,
    corpus="real",
    recipe=InnerRecipe(steps=1, rows=1, row_length=16, peak_lr=0.1),
)
REPLY = TrainReply(round=3, train_tokens=16, corpus_tokens=2_000, train_loss=2.5, validation_bits=0, validation_bytes=0)

Handler = Callable[[Message, Context], Message]


@pytest.fixture
def site(site: SiteFolder, tmp_path) -> SiteFolder:
    """A filled site whose installed model has just the two arrays of these tests."""
    model = tmp_path / "two-arrays"
    model.mkdir()
    (model / MANIFEST_FILE).write_text(ParameterManifest.of(WEIGHTS).model_dump_json())
    config = site.path / "site.toml"
    old = next(line for line in config.read_text().splitlines() if line.startswith("model = "))
    config.write_text(config.read_text().replace(old, f'model = "{model}"'))
    return site


def test_the_request_has_no_say_in_which_arrays_may_leave(site):
    other = {**WEIGHTS, "smuggled": np.zeros(3, np.float32)}
    message = request(encode_request(REQUEST, other))
    reply = send(site, giving(encode_reply(REPLY, other)), message)
    assert_only_a_code(reply, ErrorCode.MANIFEST_MISMATCH, site)


def request(content: RecordDict | None = None, kind: str = "train") -> Message:
    message = Message(
        content if content is not None else encode_request(REQUEST, WEIGHTS),
        dst_node_id=5,
        message_type=kind,
        group_id="3",
    )
    message.metadata.__dict__.update(_message_id="m-1", _run_id=77, _src_node_id=1)
    return message


def context(site: SiteFolder | None) -> Context:
    config: dict[str, bool | bytes | float | int | str] = {} if site is None else {"site-folder": str(site.path)}
    return Context(run_id=77, node_id=5, node_config=config, state=RecordDict(), run_config={})


def send(site: SiteFolder | None, handler: Handler, message: Message | None = None) -> Message:
    """Call a client app whose only protection is the exit."""
    app = ClientApp(mods=[egress])
    app.train()(handler)
    app.query("hello")(handler)
    app.evaluate()(handler)
    return app(message or request(), context(site))


def giving(records: RecordDict) -> Handler:
    return lambda message, _: Message(records, reply_to=message)


def good() -> RecordDict:
    return encode_reply(REPLY, UPDATE)


def with_array(**arrays: Array) -> RecordDict:
    return RecordDict({**good(), "update": ArrayRecord({**good().array_records["update"], **arrays})})


def wire_bytes(message: Message) -> bytes:
    """All that Flower would send of a message."""
    from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

    return b"".join(part.deflate() for part in get_all_nested_objects(message).values())


def assert_only_a_code(reply: Message, code: ErrorCode, site: SiteFolder | None) -> None:
    assert reply.has_error()
    assert not reply.has_content()
    assert (reply.error.code, reply.error.reason) == (int(code), code.name)
    assert_address(reply)
    assert SECRET.encode() not in wire_bytes(reply)
    if site is not None:
        for path in [*site.receipts.rglob("*"), *site.log.parent.rglob("*")]:
            assert SECRET not in path.read_text()


def assert_address(reply: Message) -> None:
    meta = reply.metadata
    assert (meta.message_id, meta.reply_to_message_id, meta.run_id) == ("", "m-1", 77)
    assert (meta.src_node_id, meta.dst_node_id, meta.group_id) == (5, 1, "3")


# What may leave


def test_good_reply_leaves_rebuilt_with_fresh_metadata(site):
    reply = send(site, giving(good()))
    assert reply.has_content()
    assert_address(reply)
    assert reply.metadata.message_type == "train"
    assert set(reply.content) == {"facts", "update"}
    assert dict(reply.content["facts"]) == REPLY.model_dump()
    arrays = reply.content.array_records["update"]
    assert list(arrays) == ["a", "b"]
    assert all(np.array_equal(arrays[k].numpy(), UPDATE[k]) for k in UPDATE)


def test_receipt_of_a_reply_has_the_hash_of_the_bytes_that_left(site):
    reply = send(site, giving(good()))
    (receipt,) = ReceiptBook(site.receipts).read()
    digest = hashlib.sha256()
    for name, array in reply.content.array_records["update"].items():
        digest.update(name.encode() + b"\0" + array.data)
    assert receipt.arrays_sha256 == digest.hexdigest()
    assert receipt.array_bytes == sum(len(a.data) for a in reply.content.array_records["update"].values())
    assert (receipt.kind, receipt.study, receipt.round, receipt.code) == ("TrainReply", "study-1", 3, "")
    assert receipt.fields == dict(reply.content["facts"])


def test_greeting_leaves_a_receipt_too(site):
    hello = HelloReply(site=7, contract_version=1)
    reply = send(site, giving(encode_reply(hello)), request(encode_request(HelloRequest()), "query.hello"))
    assert dict(reply.content["facts"]) == hello.model_dump()
    (receipt,) = ReceiptBook(site.receipts).read()
    assert (receipt.kind, receipt.fields) == ("HelloReply", hello.model_dump())


def test_order_of_arrays_carries_nothing(site):
    records = encode_reply(REPLY, UPDATE)
    turned = RecordDict({**records, "update": ArrayRecord(dict(reversed(records.array_records["update"].items())))})
    assert list(turned.array_records["update"]) == ["b", "a"]
    assert list(send(site, giving(turned)).content.array_records["update"]) == ["a", "b"]


def test_layout_of_a_payload_carries_nothing(site):
    """A header may hold spaces at will and may be of another version; what leaves is the one canonical form."""
    import io

    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asfortranarray(UPDATE["a"]), version=(2, 0))
    odd = Array("float32", (2, 3), "numpy.ndarray", buffer.getvalue())
    reply = send(site, giving(with_array(a=odd)))
    assert reply.content.array_records["update"]["a"].data == good().array_records["update"]["a"].data


def test_digits_of_the_loss_beyond_the_fourth_are_gone(site):
    records = good()
    records["facts"] = MetricRecord({**REPLY.model_dump(), "train_loss": 2.123412345})
    assert send(site, giving(records)).content["facts"]["train_loss"] == 2.1234


# What a handler may try


class SecretInterrupt(BaseException):
    """Not even an Exception."""


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(SECRET),
        SystemExit(SECRET),
        KeyboardInterrupt(SECRET),
        MemoryError(SECRET),
        SecretInterrupt(SECRET),
        ContractError(ErrorCode.TRAINING_FAILED, SECRET),
    ],
    ids=lambda e: type(e).__name__,
)
def test_exception_leaves_only_a_code(site, error):
    def handler(message: Message, _: Context) -> Message:
        raise error

    assert_only_a_code(send(site, handler), ErrorCode.TRAINING_FAILED, site)
    (receipt,) = ReceiptBook(site.receipts).read()
    assert (receipt.kind, receipt.code, receipt.round) == ("refusal", "TRAINING_FAILED", 3)


def test_log_names_code_kind_and_place_but_no_text(site):
    def handler(message: Message, _: Context) -> Message:
        raise KeyError(SECRET)

    send(site, handler)
    log = site.log.read_text()
    assert "refused with TRAINING_FAILED after KeyError at" in log
    assert "test_egress" in log
    assert SECRET not in log


def test_every_site_has_its_own_log(make_site, tmp_path):
    def handler(message: Message, _: Context) -> Message:
        raise KeyError

    one = make_site(number=1)
    twin = SiteFolder(tmp_path / "elsewhere" / one.path.name)  # another folder of the same name
    twin.path.parent.mkdir()
    twin.create(twin.path, one.config())
    send(one, handler)
    send(twin, handler)
    assert len(one.log.read_text().splitlines()) == len(twin.log.read_text().splitlines()) == 1


BAD_RECORDS: Mapping[str, Callable[[], RecordDict]] = {
    "extra metric record": lambda: RecordDict({**good(), "more": MetricRecord({"n": 1})}),
    "extra array record": lambda: RecordDict({**good(), "more": good()["update"]}),
    "config record": lambda: RecordDict({**good(), "config": ConfigRecord({"note": SECRET})}),
    "record named like a secret": lambda: RecordDict({**good(), SECRET: MetricRecord({"n": 1})}),
    "extra metric": lambda: RecordDict({**good(), "facts": MetricRecord({**REPLY.model_dump(), SECRET: 1})}),
    "list of numbers": lambda: RecordDict(
        {**good(), "facts": MetricRecord({**REPLY.model_dump(), "train_loss": [float(c) for c in SECRET.encode()]})}
    ),
    "metric out of bounds": lambda: RecordDict(
        {**good(), "facts": MetricRecord({**REPLY.model_dump(), "corpus_tokens": 2_001})}
    ),
    "another round": lambda: RecordDict({**good(), "facts": MetricRecord({**REPLY.model_dump(), "round": 4})}),
    "no facts": lambda: RecordDict({"update": good()["update"]}),
    "no update": lambda: encode_reply(REPLY),
    "another reply": lambda: encode_reply(HelloReply(site=7, contract_version=1)),
    "bytes behind an array": lambda: with_array(
        b=Array("float32", (4,), "numpy.ndarray", good().array_records["update"]["b"].data + SECRET.encode())
    ),
    "dtype that is a sentence": lambda: with_array(
        b=Array(SECRET, (4,), "numpy.ndarray", good().array_records["update"]["b"].data)
    ),
    "stype that is a sentence": lambda: with_array(
        b=Array("float32", (4,), SECRET, good().array_records["update"]["b"].data)
    ),
}


@pytest.mark.parametrize("name", BAD_RECORDS)
def test_whatever_is_not_listed_is_refused(site, name):
    assert_only_a_code(send(site, giving(BAD_RECORDS[name]())), ErrorCode.REPLY_NOT_LISTED, site)


@pytest.mark.parametrize(
    ("update", "code"),
    [
        ({**UPDATE, "c": UPDATE["b"]}, ErrorCode.MANIFEST_MISMATCH),
        ({**UPDATE, SECRET: UPDATE["b"]}, ErrorCode.MANIFEST_MISMATCH),
        ({"a": UPDATE["a"]}, ErrorCode.MANIFEST_MISMATCH),
        ({**UPDATE, "b": np.zeros(5, np.float32)}, ErrorCode.MANIFEST_MISMATCH),
        ({**UPDATE, "b": np.full(4, np.nan, np.float32)}, ErrorCode.UPDATE_NOT_FINITE),
        ({**UPDATE, "b": np.full(4, 1e6, np.float32)}, ErrorCode.UPDATE_TOO_LARGE),
    ],
)
def test_update_that_is_not_the_listed_one_is_refused(site, update, code):
    assert_only_a_code(send(site, giving(encode_reply(REPLY, update))), code, site)


def test_site_bounds_the_norm_itself(site):
    config = site.path / "site.toml"
    config.write_text(config.read_text().replace("max_update_norm = 1000.0", "max_update_norm = 1.0"))
    assert_only_a_code(send(site, giving(good())), ErrorCode.UPDATE_TOO_LARGE, site)


def test_metadata_that_a_handler_wrote_is_gone(site):
    def handler(message: Message, _: Context) -> Message:
        message.metadata.group_id = SECRET  # of the request, from which replies take their address
        reply = Message(good(), reply_to=message)
        reply.metadata.group_id = SECRET
        reply.metadata.__dict__["_src_node_id"] = 4_242
        reply.metadata.message_type = "train.jane_roe"
        reply.metadata.ttl = 555.0100
        return reply

    reply = send(site, handler)
    assert reply.has_content()
    assert_address(reply)
    assert reply.metadata.message_type == "train"
    assert reply.metadata.ttl != 555.0100
    assert SECRET.encode() not in wire_bytes(reply)


def test_error_that_a_handler_returns_does_not_leave_with_its_text(site):
    reply = send(site, lambda message, _: Message(Error(42, SECRET), reply_to=message))
    assert_only_a_code(reply, ErrorCode.TRAINING_FAILED, site)


def test_handler_that_returns_no_message_is_refused(site):
    assert_only_a_code(send(site, lambda *_: SECRET), ErrorCode.TRAINING_FAILED, site)  # type: ignore[arg-type]


def test_message_of_another_type_never_reaches_its_handler(site):
    reply = send(site, lambda *_: pytest.fail("it was called"), request(kind="evaluate"))
    assert_only_a_code(reply, ErrorCode.BAD_REQUEST, site)


def test_bad_request_never_reaches_the_handler(site):
    broken = RecordDict({"request": ConfigRecord({"json": SECRET})})
    for kind in ("train", "query.hello"):
        reply = send(site, lambda *_: pytest.fail("it was called"), request(broken, kind))
        assert_only_a_code(reply, ErrorCode.BAD_REQUEST, site)


# The receipt comes first


def test_nothing_leaves_when_the_receipts_are_broken(site):
    send(site, giving(good()))
    path = site.receipts / "receipts.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"number":1', b'"number":2'))
    before = path.read_bytes()
    assert_only_a_code(send(site, giving(good())), ErrorCode.INTERNAL, site)
    assert path.read_bytes() == before


def test_nothing_leaves_when_the_receipt_cannot_be_flushed(site, monkeypatch):
    def full(_: int) -> None:
        raise OSError(28, SECRET)

    monkeypatch.setattr(os, "fsync", full)
    assert_only_a_code(send(site, giving(good())), ErrorCode.SITE_DISK_FULL, None)


def test_node_without_a_site_folder_says_so_and_runs_no_handler(monkeypatch):
    monkeypatch.delenv("FEDNOTES_SITES", raising=False)
    reply = send(None, lambda *_: pytest.fail("it was called"))
    assert_only_a_code(reply, ErrorCode.SITE_NOT_READY, None)


def test_nothing_that_goes_wrong_before_the_handler_leaves_with_its_text(site, monkeypatch):
    def fail(_: Context) -> SiteFolder:
        raise SystemExit(SECRET)

    monkeypatch.setattr("site_client.egress.locate_site", fail)
    assert_only_a_code(send(site, giving(good())), ErrorCode.INTERNAL, None)


def test_folder_that_is_no_site_is_left_as_it_is(tmp_path):
    empty = SiteFolder(tmp_path / "empty")
    empty.path.mkdir()
    assert_only_a_code(send(empty, lambda *_: pytest.fail("it was called")), ErrorCode.SITE_NOT_READY, None)
    assert list(empty.path.iterdir()) == []


def test_files_written_by_a_node_are_for_their_owner_alone(site):
    def handler(message: Message, _: Context) -> Message:
        (site.path / "by_handler").write_text("x")
        raise KeyError

    send(site, handler)
    for path in (site.path / "by_handler", site.log, site.receipts / "receipts.jsonl"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


# From exact facts to what may leave


def local_update(**fields: object) -> LocalUpdate:
    values = {
        "round": 3,
        "delta": UPDATE,
        "train_tokens": 384,
        "train_loss": 2.123456,
        "corpus_tokens": 12_345,
        "full_rows": True,
        "train_patients": 20,
        "validation": [Score(bits=4_100.4, num_bytes=1_640), Score(bits=2_050.3, num_bytes=821)],
        "validation_patients": 11,
        **fields,
    }
    return LocalUpdate(**values)  # type: ignore[arg-type]


def test_facts_are_rounded_before_they_leave():
    reply, records = to_reply(local_update(), SiteLimits(min_patients=11))
    assert reply == TrainReply(
        round=3,
        train_tokens=384,
        corpus_tokens=12_000,
        train_loss=2.1235,
        validation_bits=4_999,
        validation_bytes=2_000,
    )
    assert set(records) == {"facts", "update"}


def test_tokens_that_the_recipe_does_not_fix_are_rounded():
    reply, _ = to_reply(local_update(full_rows=False, train_tokens=7_384), SiteLimits(min_patients=11))
    assert reply.train_tokens == 7_000


def test_validation_of_fewer_patients_than_the_minimum_is_withheld():
    reply, _ = to_reply(local_update(validation_patients=10), SiteLimits(min_patients=11))
    assert (reply.validation_bits, reply.validation_bytes) == (0, 0)
    assert reply.corpus_tokens == 12_000


def test_update_of_fewer_patients_than_the_minimum_does_not_leave():
    with pytest.raises(ContractError) as caught:
        to_reply(local_update(train_patients=10), SiteLimits(min_patients=11))
    assert caught.value.code == ErrorCode.TOO_FEW_PATIENTS
    assert to_reply(local_update(train_patients=11), SiteLimits(min_patients=11))


def test_small_corpus_is_told_as_none():
    assert to_reply(local_update(corpus_tokens=499), SiteLimits(min_patients=1))[0].corpus_tokens == 0


# Under differential privacy

PRIVATE_REQUEST = REQUEST.model_copy(
    update={
        "recipe": REQUEST.recipe.model_copy(update={"packing": "patient"}),
        "privacy": PrivacyRecipe(target_epsilon=8.0, sampling_rate=0.5),
    }
)
PRIVATE_REPLY = PatientLevelReply(round=3, noise_multiplier=1.5, delta=1e-5, patient_level_epsilon=2.5)


def private_request() -> Message:
    return request(encode_request(PRIVATE_REQUEST, WEIGHTS))


def test_private_reply_leaves_with_its_unit_in_the_receipt(site):
    reply = send(site, giving(encode_reply(PRIVATE_REPLY, UPDATE)), private_request())
    assert dict(reply.content["facts"]) == PRIVATE_REPLY.model_dump()
    (receipt,) = ReceiptBook(site.receipts).read()
    assert receipt.kind == "PatientLevelReply"
    assert receipt.fields == PRIVATE_REPLY.model_dump()


@pytest.mark.parametrize(
    "leaving",
    [
        encode_reply(REPLY, UPDATE),  # loss, token counts and validation were not paid for
        encode_reply(NoteLevelReply(round=3, noise_multiplier=1.5, delta=1e-5, note_level_epsilon=2.5), UPDATE),
        RecordDict(
            {
                **encode_reply(PRIVATE_REPLY, UPDATE),
                "facts": MetricRecord({**PRIVATE_REPLY.model_dump(), "train_loss": 2.5}),
            }
        ),
    ],
    ids=["open reply", "other unit", "loss beside"],
)
def test_nothing_that_was_not_paid_for_leaves_under_a_private_request(site, leaving):
    reply = send(site, giving(leaving), private_request())
    assert_only_a_code(reply, ErrorCode.REPLY_NOT_LISTED, site)


def test_a_private_reply_is_no_answer_to_an_open_request(site):
    reply = send(site, giving(encode_reply(PRIVATE_REPLY, UPDATE)))
    assert_only_a_code(reply, ErrorCode.REPLY_NOT_LISTED, site)


@pytest.mark.parametrize("unit", ["patient", "note", "record"])
def test_update_becomes_the_reply_of_its_unit(unit):
    update = PrivateUpdate(round=3, change=UPDATE, unit=unit, spent=2.50004, delta=1.04e-5, noise_multiplier=1.5)
    reply, records = to_private_reply(update)
    assert reply.model_dump() == {"round": 3, "noise_multiplier": 1.5, "delta": 1.1e-5, f"{unit}_level_epsilon": 2.5001}
    assert dict(records["facts"]) == reply.model_dump()
    assert type(reply).model_validate(reply.model_dump()) == reply  # rounding up again changes nothing


def test_why_a_policy_refused_is_in_the_sites_log_and_only_a_code_leaves(site):
    def refuse(message: Message, _: Context) -> Message:
        raise ContractError(ErrorCode.PRIVACY_SPENT, "limit 9, spent 8.5")

    assert_only_a_code(send(site, refuse, private_request()), ErrorCode.PRIVACY_SPENT, site)
    assert "limit 9, spent 8.5" in site.log.read_text()
