from __future__ import annotations

import pytest
from pydantic import ValidationError

from protocols.receipts import GatewayReceipt, IngressReceipt, gateway_chain, ingress_chain, reconcile

A, B, C = "a" * 64, "b" * 64, "c" * 64


def left(message: str, size: int = 10, /, **facts) -> GatewayReceipt:
    fields = {"number": 1, "time": "t", "previous": "0", "kind": "reply", "message": message, "message_bytes": size}
    return GatewayReceipt.model_validate(fields | facts)


def came(message: str, size: int = 10, *, site: int = 3, kind: str = "arrived") -> IngressReceipt:
    fields = {"number": 1, "time": "t", "previous": "0", "kind": kind, "site": site, "message": message}
    return IngressReceipt.model_validate(fields | {"message_bytes": size})


def test_what_both_ends_have_with_one_size_agrees():
    result = reconcile([left(A), left(B, 5, kind="refusal")], [came(A), came(B, 5)], 3)
    assert (result.agreed, result.bytes_agreed, result.is_clean) == (2, 15, True)


def test_what_left_and_did_not_arrive_is_listed_and_is_no_alarm():
    result = reconcile([left(A), left(B)], [came(A), came(B, 0, kind="announced")], 3)
    assert (result.agreed, result.not_arrived, result.is_clean) == (1, [B], True)


def test_what_arrived_without_a_receipt_is_an_alarm():
    result = reconcile([left(A)], [came(A), came(B)], 3)
    assert (result.not_receipted, result.is_clean) == ([B], False)


def test_another_size_is_an_alarm_and_does_not_agree():
    result = reconcile([left(A), left(B)], [came(A), came(B, 11)], 3)
    assert (result.agreed, result.sizes_differ, result.is_clean) == (1, [B], False)


def test_messages_of_other_sites_are_passed_over():
    result = reconcile([left(A)], [came(A), came(C, site=4)], 3)
    assert (result.agreed, result.is_clean) == (1, True)
    assert reconcile([], [came(C, site=4)], 4).not_receipted == [C]


def test_lines_without_a_message_count_for_nothing():
    events = [left("", 0, kind="event", note="gateway started"), left("", 0, kind="calls", calls={"PullMessages": 3})]
    assert reconcile(events, [came("", 0, kind="calls")], 3).agreed == 0


@pytest.mark.parametrize("wrong", [{"message": "x"}, {"kind": "words"}, {"text": "words"}])
def test_a_receipt_has_no_room_for_words(wrong):
    with pytest.raises(ValidationError):
        left(A, **wrong)


def test_every_kind_is_said_in_words():
    reply = left(A, study="pilot", round=2, reply="TrainReply", fields={"train_loss": 2.5}, array_bytes=2_000)
    assert "study pilot, round 2: TrainReply left (train_loss 2.5), 2,000 bytes of arrays" in reply.in_words()
    assert "nothing left but the code INTERNAL" in left(A, kind="refusal", code="INTERNAL").in_words()
    assert "PullMessages 1,200" in left("", kind="calls", calls={"PullMessages": 1200}).in_words()
    assert "event gateway started" in left("", kind="event", note="gateway started").in_words()
    assert "site 3: message aaaaaaaaaaaa arrived whole, 10 bytes" in came(A).in_words()
    assert "message aaaaaaaaaaaa announced" in came(A, kind="announced").in_words()
    refused = IngressReceipt(number=1, time="t", previous="0", kind="refused", note="not_enrolled")
    assert refused.in_words().endswith("an unknown caller: refused: not_enrolled")


def test_both_chains_are_kept_in_their_folders(tmp_path):
    for chain, facts in (
        (gateway_chain(tmp_path / "g"), {"kind": "event"}),
        (ingress_chain(tmp_path / "i"), {"kind": "refused"}),
    ):
        with chain.writing() as writer:
            writer.append(facts)
        assert [r.kind for r in chain.read()] == [facts["kind"]]
        assert (chain.path.name, chain.head_path.name) == ("receipts.jsonl", "head.json")
