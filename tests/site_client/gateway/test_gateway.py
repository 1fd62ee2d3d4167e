"""The gateway between a node and a coordinator, both real gRPC, over one folder."""

from __future__ import annotations

import time
from pathlib import Path

import grpc
import numpy as np
import pytest
from flwr.app import Error, Message
from flwr.proto.fab_pb2 import GetFabRequest
from flwr.proto.fleet_pb2 import ActivateNodeRequest, RegisterNodeFleetRequest
from flwr.proto.message_pb2 import ObjectTree, PullObjectRequest, PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.proto.run_pb2 import GetRunRequest
from gateway_support import (
    NODE,
    RUN,
    STUDY,
    FakeLink,
    Stand,
    approval,
    hello,
    honest,
    stand,
    train_request,
    update,
)

from protocols.bundle import build_bundle, bundle_hash
from protocols.codec import decode_reply, decode_update
from protocols.error_codes import ErrorCode
from protocols.flower_objects import object_id, pack
from protocols.manifest import ParameterManifest
from protocols.messages import HelloRequest, PrivacyRecipe, TrainReply


@pytest.fixture
def link() -> FakeLink:
    return FakeLink()


@pytest.fixture
def standing(tmp_path: Path, link: FakeLink):
    with stand(tmp_path, link) as running:
        yield running


def _code(reply: Message) -> str:
    return ErrorCode(reply.error.code).name


def test_an_honest_reply_arrives_with_the_same_facts_and_arrays(standing: Stand, link: FakeLink) -> None:
    asked_id = link.ask(train_request())
    asked = standing.pull()
    assert asked is not None and asked.metadata.message_id == asked_id
    standing.push(Message(honest(), reply_to=asked))
    reply = link.wait_for_reply()
    facts = decode_reply(reply.content, TrainReply, malformed=ErrorCode.REPLY_MALFORMED)
    assert facts == decode_reply(honest(), TrainReply, malformed=ErrorCode.REPLY_MALFORMED)
    manifest = ParameterManifest.of(update())
    arrived = decode_update(reply.content, manifest, 1e6, malformed=ErrorCode.REPLY_MALFORMED)
    for name, array in update().items():
        np.testing.assert_array_equal(arrived[name], array)
    assert reply.metadata.reply_to_message_id == asked_id and reply.metadata.src_node_id == NODE
    left = [r for r in standing.receipts() if r.kind == "reply"]
    assert [r.study for r in left] == [STUDY] and left[0].message == reply.object_id
    assert left[0].array_bytes == manifest.num_bytes
    assert left[0].message_bytes == sum(len(content) for content in link.received.values())


def test_a_greeting_passes_and_another_sites_number_does_not(standing: Stand, link: FakeLink) -> None:
    link.ask(HelloRequest())
    standing.push(Message(hello(), reply_to=standing.pull()))
    assert link.wait_for_reply().content["facts"]["site"] == 3
    link.ask(HelloRequest())
    asked, records = standing.pull(), hello()
    records["facts"]["site"] = 4
    standing.push(Message(records, reply_to=asked))
    assert _code(link.wait_for_reply(2)) == "REPLY_NOT_LISTED"


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (train_request(study="other"), "PLAN_NOT_APPROVED"),
        (train_request(rounds=6), "PLAN_NOT_APPROVED"),
        (train_request(corpus="synthetic"), "PLAN_NOT_APPROVED"),
    ],
    ids=["another study", "more rounds", "another corpus"],
)
def test_what_was_not_approved_never_reaches_the_node(standing: Stand, link: FakeLink, request_, code: str) -> None:
    link.ask(request_)
    assert standing.pull() is None
    assert _code(link.wait_for_reply()) == code


def test_more_privacy_than_approved_is_passed_on(standing: Stand, link: FakeLink) -> None:
    recipe = train_request().recipe.model_copy(update={"packing": "patient"})
    plan = approval().plan.model_copy(update={"recipe": recipe})
    standing.approvals[STUDY] = approval(plan=plan)
    link.ask(train_request(recipe=recipe, privacy=PrivacyRecipe(target_epsilon=1.0, sampling_rate=0.1)))
    assert standing.pull() is not None


@pytest.mark.parametrize("change", ["bundle", "versions", "setting", "study of the run"])
def test_a_run_of_other_code_or_settings_is_refused(standing: Stand, link: FakeLink, change: str) -> None:
    if change == "bundle":
        link.run.fab_hash = "0" * 64
    elif change == "versions":
        standing.approvals[STUDY] = approval(versions={"fednotes": "0.0.0"})
    elif change == "setting":
        link.run.override_config["quorum"].string = "1"
    else:
        link.run.override_config["study"].string = "unheard-of"
    link.ask(train_request())
    assert standing.pull() is None
    wanted = "BUNDLE_NOT_APPROVED" if change in ("bundle", "versions") else "PLAN_NOT_APPROVED"
    assert _code(link.wait_for_reply()) == wanted


def test_a_study_that_was_sent_enough_is_refused(standing: Stand, link: FakeLink) -> None:
    standing.approvals[STUDY] = approval(max_total_bytes=30_000_001)
    link.ask(train_request())
    standing.push(Message(honest(), reply_to=standing.pull()))
    link.wait_for_reply()
    link.ask(train_request(2))
    assert standing.pull() is None and _code(link.wait_for_reply(2)) == "BYTES_EXCEEDED"


def test_an_approval_withdrawn_while_the_site_trains_stops_the_reply(standing: Stand, link: FakeLink) -> None:
    link.ask(train_request())
    asked = standing.pull()
    standing.approvals.clear()
    standing.push(Message(honest(), reply_to=asked))
    assert _code(link.wait_for_reply()) == "PLAN_NOT_APPROVED"


def test_a_reply_of_another_round_is_refused(standing: Stand, link: FakeLink) -> None:
    link.ask(train_request(2))
    standing.push(Message(honest(1), reply_to=standing.pull()))
    assert _code(link.wait_for_reply()) == "REPLY_NOT_LISTED"


def test_an_error_leaves_as_its_code_without_its_text(standing: Stand, link: FakeLink) -> None:
    link.ask(train_request())
    standing.push(Message(Error(code=2, reason="patient Doe"), reply_to=standing.pull()))
    assert (link.wait_for_reply().error.code, link.wait_for_reply().error.reason) == (2, None)
    link.ask(train_request())
    standing.push(Message(Error(code=68, reason="D"), reply_to=standing.pull()))
    assert _code(link.wait_for_reply(2)) == "INTERNAL"
    assert b"Doe" not in link.seen()


def test_one_reply_is_taken_for_an_instruction_and_none_for_no_instruction(standing: Stand, link: FakeLink) -> None:
    link.ask(train_request())
    asked = standing.pull()
    standing.push(Message(honest(), reply_to=asked))
    link.wait_for_reply()
    standing.push(Message(honest(), reply_to=asked))
    time.sleep(0.3)
    assert len(link.announced) == 1


def test_only_objects_of_open_instructions_are_fetched(standing: Stand, link: FakeLink) -> None:
    link.ask(train_request())
    asked = standing.pull()
    pulls = len(link.calls)
    for name in ("secret text", "a" * 64):
        request = PullObjectRequest(node=Node(node_id=NODE), run_id=RUN, object_id=name)
        assert not standing.node.PullObject(request).object_found
    assert len(link.calls) == pulls
    request = PullObjectRequest(node=Node(node_id=NODE), run_id=RUN, object_id=asked.metadata.message_id)
    assert standing.node.PullObject(request).object_available


def test_an_object_that_is_not_what_its_id_says_is_not_passed_on(standing: Stand, link: FakeLink) -> None:
    link.ask(train_request())
    asked = standing.pull()
    link.objects[asked.metadata.message_id] = b"something else"
    request = PullObjectRequest(node=Node(node_id=NODE), run_id=RUN, object_id=asked.metadata.message_id)
    assert not standing.node.PullObject(request).object_available


def test_the_bundle_is_the_installations_own_whatever_is_asked_for(standing: Stand, link: FakeLink) -> None:
    got = standing.node.GetFab(GetFabRequest(node=Node(node_id=NODE), hash_str="secret text", run_id=1))
    assert (got.fab.hash_str, got.fab.content) == (bundle_hash(), build_bundle())
    assert "GetFab" not in [method for method, _ in link.calls]


def test_other_runs_and_registrations_are_not_asked_about(standing: Stand, link: FakeLink) -> None:
    for call, request in (
        (standing.node.GetRun, GetRunRequest(node=Node(node_id=NODE), run_id=12)),
        (standing.node.RegisterNode, RegisterNodeFleetRequest(public_key=b"secret text")),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            call(request)
        assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED
    assert link.calls == []


def test_a_node_that_starts_again_makes_the_coordinator_ask_again(standing: Stand, link: FakeLink) -> None:
    link.ask(train_request())
    standing.pull()
    standing.node.ActivateNode(ActivateNodeRequest(public_key=b"inner", heartbeat_interval=13))
    assert _code(link.wait_for_reply()) == "SITE_RESTARTED"
    assert b"inner" not in link.seen()


def test_an_instruction_that_never_reached_the_node_is_given_again(standing: Stand, link: FakeLink) -> None:
    asked = link.ask(train_request())
    assert standing.pull().metadata.message_id == asked
    assert standing.pull().metadata.message_id == asked


def test_an_instruction_whose_objects_are_still_on_their_way_is_decided_on_later(
    standing: Stand, link: FakeLink
) -> None:
    asked = link.ask(train_request())
    kept = link.objects.pop(asked)
    link.coming.add(asked)
    assert standing.pull() is None and link.announced == []
    link.objects[asked] = kept
    assert standing.pull().metadata.message_id == asked


@pytest.mark.slow
def test_a_coordinator_that_is_away_for_a_moment_costs_nothing(standing: Stand, link: FakeLink) -> None:
    failures = {"PushMessages": 1, "PushObject": 2}

    def fail(method: str, context: grpc.ServicerContext) -> None:
        if failures.get(method, 0):
            failures[method] -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "")

    link.fail = fail
    link.ask(train_request())
    standing.push(Message(honest(), reply_to=standing.pull()))
    assert link.wait_for_reply().has_content()
    assert len([r for r in standing.receipts() if r.kind == "reply"]) == 1


def test_a_run_that_is_over_ends_the_delivery(standing: Stand, link: FakeLink) -> None:
    def fail(method: str, context: grpc.ServicerContext) -> None:
        if method == "PushMessages":
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "")

    link.fail = fail
    link.ask(train_request())
    standing.push(Message(honest(), reply_to=standing.pull()))
    end = time.monotonic() + 10
    while not any("run ended" in r.note for r in standing.receipts()) and time.monotonic() < end:
        time.sleep(0.05)
    assert any("run ended" in r.note for r in standing.receipts())
    assert standing.pull() is None


# Killed at every stage: a gateway that starts again over the same folder.


def test_a_gateway_killed_while_a_reply_comes_in_goes_on_with_it(tmp_path: Path, link: FakeLink) -> None:
    with stand(tmp_path, link) as first:
        link.ask(train_request())
        asked = first.pull()
        reply = Message(honest(), reply_to=asked)
        first.push(reply, only=3)
    with stand(tmp_path, link) as second:
        second.push(reply)  # the node tries again, and is asked for what is missing
        assert link.wait_for_reply().has_content()


def test_a_gateway_killed_before_it_sent_a_reply_sends_it(tmp_path: Path, link: FakeLink) -> None:
    link.fail = lambda method, context: (
        context.abort(grpc.StatusCode.UNAVAILABLE, "") if method == "PushObject" else None
    )
    with stand(tmp_path, link) as first:
        link.ask(train_request())
        first.push(Message(honest(), reply_to=first.pull()))
        end = time.monotonic() + 10
        while not link.announced and time.monotonic() < end:
            time.sleep(0.05)
    link.fail = lambda method, context: None
    with stand(tmp_path, link) as second:
        assert link.wait_for_reply().has_content()
        assert len([r for r in second.receipts() if r.kind == "reply"]) == 1
    assert len({r.message_object_trees[0].object_id for r in link.announced}) == 1  # the same reply, not a second one


def test_a_gateway_killed_between_pulling_and_deciding_decides_afterwards(tmp_path: Path, link: FakeLink) -> None:
    link.fail = lambda method, context: context.abort(grpc.StatusCode.UNAVAILABLE, "") if method == "GetRun" else None
    with stand(tmp_path, link) as first:
        asked = link.ask(train_request())
        with pytest.raises(grpc.RpcError):
            first.pull()
    link.fail = lambda method, context: None
    with stand(tmp_path, link) as second:
        assert second.pull().metadata.message_id == asked


def test_a_complete_reply_that_nobody_looked_at_is_answered_after_a_restart(tmp_path: Path, link: FakeLink) -> None:
    with stand(tmp_path, link) as first:
        first.courier.stop()  # as if killed right after the last object
        first.courier.join(10)
        link.ask(train_request())
        first.push(Message(honest(), reply_to=first.pull()))
    with stand(tmp_path, link):
        assert link.wait_for_reply().has_content()


def test_an_expired_instruction_is_forgotten(standing: Stand, link: FakeLink) -> None:
    link.ask(train_request(), ttl=1.0)
    assert standing.pull() is not None
    time.sleep(1.1)
    assert standing.pull() is None
    assert [r.note for r in standing.receipts() if r.kind == "event"] == ["expired before it could be delivered"]


def test_objects_that_nobody_announced_are_not_held(standing: Stand, link: FakeLink) -> None:
    request = PushObjectRequest(node=Node(node_id=NODE), run_id=RUN, object_id="secret text", object_content=b"x")
    assert not standing.node.PushObject(request).stored
    assert link.calls == []


def test_an_answer_that_fails_in_an_unforeseen_way_becomes_a_code_and_the_next_one_leaves(
    standing: Stand, link: FakeLink, monkeypatch
) -> None:
    monkeypatch.setattr("site_client.gateway.courier._PAUSE_AFTER_FAILURE_S", 0.05)
    write = standing.courier._write_receipt
    failures = [RuntimeError("patient Doe")]

    def fails_once(*arguments) -> None:
        if failures:
            raise failures.pop()
        write(*arguments)

    monkeypatch.setattr(standing.courier, "_write_receipt", fails_once)
    link.ask(train_request())
    standing.push(Message(honest(), reply_to=standing.pull()))
    assert _code(link.wait_for_reply()) == "INTERNAL"
    link.ask(train_request(2))
    standing.push(Message(honest(2), reply_to=standing.pull()))
    assert link.wait_for_reply(2).has_content()


def test_nothing_leaves_without_a_receipt(standing: Stand, link: FakeLink, monkeypatch) -> None:
    monkeypatch.setattr("site_client.gateway.courier._PAUSE_AFTER_FAILURE_S", 0.05)
    full = OSError(28, "No space left on device")
    write = standing.courier._write_receipt
    monkeypatch.setattr(standing.courier, "_write_receipt", lambda *_: (_ for _ in ()).throw(full))
    link.ask(train_request())
    standing.push(Message(honest(), reply_to=standing.pull()))
    time.sleep(0.5)
    assert link.announced == []
    monkeypatch.setattr(standing.courier, "_write_receipt", write)  # somebody made room
    assert _code(link.wait_for_reply()) == "SITE_DISK_FULL"


def test_a_damaged_reply_on_its_way_is_dropped_and_the_node_asked_again(tmp_path: Path, link: FakeLink) -> None:
    link.fail = lambda method, context: (
        context.abort(grpc.StatusCode.UNAVAILABLE, "") if method == "PushObject" else None
    )
    with stand(tmp_path, link) as first:
        asked = link.ask(train_request())
        first.push(Message(honest(), reply_to=first.pull()))
        end = time.monotonic() + 10
        while not link.announced and time.monotonic() < end:
            time.sleep(0.05)
    link.fail = lambda method, context: None
    (outgoing,) = (tmp_path / "spool" / "outgoing").iterdir()
    (outgoing / "tree.bin").write_bytes(b"damaged")
    with stand(tmp_path, link) as second:
        again = second.pull()
        assert again is not None and again.metadata.message_id == asked
        second.push(Message(honest(), reply_to=again))
        assert link.wait_for_reply().has_content()


def test_an_instruction_that_cannot_be_read_is_refused_and_the_next_one_passed_on(
    standing: Stand, link: FakeLink
) -> None:
    header, tree = _broken_instruction(link)
    link.instructions.append((header, tree))
    assert standing.pull() is None
    assert _code(link.wait_for_reply()) == "BAD_REQUEST"
    asked = link.ask(train_request())
    assert standing.pull().metadata.message_id == asked


def _broken_instruction(link: FakeLink):
    link.ask(train_request())
    header, _ = link.instructions.pop()
    content = pack("Message", ["a" * 64], b"\xff\xff\xff no protobuf")
    name = object_id(content)
    link.objects[name] = content
    header.metadata.message_id = name
    return header, ObjectTree(object_id=name, children=[ObjectTree(object_id="a" * 64)])
