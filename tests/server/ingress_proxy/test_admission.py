from __future__ import annotations

import time
from email.utils import parsedate_to_datetime

import grpc
import pytest
from flwr.proto import control_pb2, control_pb2_grpc, fleet_pb2, fleet_pb2_grpc, heartbeat_pb2
from flwr.proto.message_pb2 import PushObjectRequest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protocols.certificates import issue_client, make_authority, make_request
from protocols.receipts import ingress_chain
from server.ingress_proxy.admission import HEADERS

from .stand import Hospital, beat, fleet_api, free_port, ingress

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED


def refusals(home) -> list[tuple[int | None, str, dict[str, int]]]:
    return [(r.site, r.note, r.calls) for r in ingress_chain(home.receipts).links() if r.kind == "refused"]


def test_an_enrolled_site_is_served_and_its_calls_are_counted(home, fleet, tmp_path):
    address, hospital = f"127.0.0.1:{free_port()}", home.hospital()
    with fleet_api(home, fleet) as upstream, ingress(home.path, address, upstream):
        with hospital.calling(home, address) as stub:
            assert beat(stub) and beat(stub)
    assert fleet.calls == {"SendNodeHeartbeat": 2}
    assert [(r.kind, r.site, r.calls) for r in ingress_chain(home.receipts).links()] == [
        ("calls", 3, {"SendNodeHeartbeat": 2})
    ]


@pytest.mark.parametrize("who", ["no certificate", "another authority"])
def test_nobody_gets_through_the_handshake_without_a_certificate_of_the_authority(home, fleet, address, who):
    hospital = home.hospital()
    if who == "another authority":
        hospital = Hospital(3, make_authority("Consortium", days=30), node_key=hospital.node_key)
    with hospital.channel(home, address, with_certificate=who != "no certificate") as channel:
        with pytest.raises(grpc.RpcError) as caught:
            beat(_stub(hospital, channel))
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert not fleet.calls


def _stub(hospital, channel):
    return fleet_pb2_grpc.FleetStub(hospital.signed(channel))


def test_a_certificate_that_is_not_enrolled_is_refused(home, fleet, address):
    with Hospital(4, home.authority).calling(home, address) as stub, pytest.raises(grpc.RpcError) as caught:
        beat(stub)
    assert (caught.value.code(), caught.value.details()) == (UNAUTHENTICATED, "this certificate is not enrolled")
    assert not fleet.calls
    assert refusals(home) == [(None, "not_enrolled", {"SendNodeHeartbeat": 1})]


def test_a_revocation_counts_at_once_on_an_open_connection(home, fleet, address):
    hospital = home.hospital()
    with hospital.calling(home, address) as stub:
        assert beat(stub)
        home.enroll(hospital, revoked=True)
        with pytest.raises(grpc.RpcError) as caught:
            beat(stub)
    assert (caught.value.code(), caught.value.details()) == (UNAUTHENTICATED, "the enrolment of this site was revoked")
    assert refusals(home) == [(3, "revoked", {"SendNodeHeartbeat": 1})]


def test_an_enrolment_that_cannot_be_read_admits_nobody_until_it_is_mended(home, fleet, address):
    hospital = home.hospital()
    with hospital.calling(home, address) as stub:
        assert beat(stub)
        (home.enrolled / "0004.json").write_text("{}")
        with pytest.raises(grpc.RpcError):
            beat(stub)
        (home.enrolled / "0004.json").unlink()
        assert beat(stub)


def test_a_node_key_of_another_site_is_refused(home, fleet, address):
    hospital, other = home.hospital(), home.hospital(4)
    stolen = Hospital(3, home.authority, tls_key=hospital.tls_key, node_key=other.node_key)
    stolen.__dict__["certificate"] = hospital.certificate
    with stolen.calling(home, address) as stub, pytest.raises(grpc.RpcError) as caught:
        beat(stub)
    assert caught.value.code() == UNAUTHENTICATED
    assert refusals(home) == [(3, "wrong_node_key", {"SendNodeHeartbeat": 1})]


def test_a_site_cannot_activate_the_node_of_another_site(home, fleet, address):
    hospital, other = home.hospital(), home.hospital(4)
    with hospital.calling(home, address) as stub:
        with pytest.raises(grpc.RpcError) as caught:
            stub.ActivateNode(fleet_pb2.ActivateNodeRequest(public_key=other.pem, heartbeat_interval=30))
        assert stub.ActivateNode(fleet_pb2.ActivateNodeRequest(public_key=hospital.pem)).node_id == 5
    assert caught.value.code() == UNAUTHENTICATED
    assert fleet.calls == {"ActivateNode": 1}


def test_two_sites_with_one_node_key_are_told_apart_by_serving_the_first_only(home, fleet, address):
    first = home.hospital(3)
    second = home.hospital(4, node_key=first.node_key)
    with second.calling(home, address) as stub, pytest.raises(grpc.RpcError) as caught:
        beat(stub)
    with first.calling(home, address) as stub:
        assert beat(stub)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert refusals(home) == [(4, "second_client", {"SendNodeHeartbeat": 1})]


def test_one_certificate_in_two_places_is_noticed_and_the_first_goes_on(home, fleet, address):
    hospital = home.hospital()
    with hospital.calling(home, address) as first, hospital.calling(home, address) as second:
        assert beat(first) and beat(second) and beat(first) and beat(second)
        assert beat(first)
        with pytest.raises(grpc.RpcError) as caught:
            beat(second)
        assert beat(first)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert refusals(home) == [(3, "second_client", {"SendNodeHeartbeat": 1})]


def test_a_site_that_connects_anew_again_and_again_is_served(home, fleet, address):
    hospital = home.hospital()
    for _ in range(6):
        with hospital.calling(home, address) as stub:
            assert beat(stub)
    assert refusals(home) == []


def test_control_and_registration_are_no_methods_here(home, fleet, address):
    hospital = home.hospital()
    with hospital.channel(home, address) as channel:
        with pytest.raises(grpc.RpcError) as control:
            control_pb2_grpc.ControlStub(channel).ListRuns(control_pb2.ListRunsRequest(), timeout=10)
        with pytest.raises(grpc.RpcError) as register:
            _stub(hospital, channel).RegisterNode(fleet_pb2.RegisterNodeFleetRequest(), timeout=10)
    assert {control.value.code(), register.value.code()} == {grpc.StatusCode.PERMISSION_DENIED}
    assert {control.value.details(), register.value.details()} == {"this method is not served here"}
    assert not fleet.calls
    assert refusals(home) == [(3, "method", {"other": 1})]  # the second within the minute is only counted


def test_refusals_are_one_line_a_minute_and_none_is_lost(home, fleet):
    address, stranger = f"127.0.0.1:{free_port()}", Hospital(4, home.authority)
    with fleet_api(home, fleet) as upstream, ingress(home.path, address, upstream):
        with stranger.calling(home, address) as stub:
            for _ in range(5):
                with pytest.raises(grpc.RpcError):
                    beat(stub)
        assert len(refusals(home)) == 1
    assert [calls for _, _, calls in refusals(home)] == [{"SendNodeHeartbeat": 1}, {"SendNodeHeartbeat": 4}]


def test_only_known_headers_go_on(home, fleet, address):
    with home.hospital().calling(home, address) as stub:
        stub.SendNodeHeartbeat(
            heartbeat_pb2.SendNodeHeartbeatRequest(),
            metadata=[("flwr-superexec-ts", "words"), ("x-text", "words"), ("x-fednotes-certificate", "words")],
        )
    ours = {name for name in fleet.headers[0] if not name.startswith(("user-agent", "grpc-", "accept-"))}
    assert ours == HEADERS
    assert "words" not in fleet.headers[0].values()


@pytest.mark.parametrize("extra", [("flwr-component-name", "a" * 2000), ("flwr-public-key-bin", b"another")])
def test_a_header_that_is_longer_than_flowers_own_or_there_twice_is_refused(home, fleet, address, extra):
    hospital = home.hospital()
    with hospital.channel(home, address) as channel, pytest.raises(grpc.RpcError):
        method = channel.unary_unary("/flwr.proto.Fleet/SendNodeHeartbeat")
        method(b"", metadata=[("flwr-public-key-bin", hospital.pem), extra])
    assert not fleet.calls


def test_a_call_above_the_bound_is_refused(home, fleet, address):
    with home.hospital().calling(home, address) as stub:
        for size in (16 * 2**20 + 1, 20 * 2**20):
            with pytest.raises(grpc.RpcError) as caught:
                stub.PushObject(PushObjectRequest(object_content=bytes(size)), timeout=20)
            assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert not fleet.calls
    assert refusals(home) == [(3, "too_large", {"PushObject": 1})]  # gRPC itself stops what is far too large


def test_health_is_answered_to_enrolled_sites(home, fleet, address):
    hospital = home.hospital()
    with hospital.channel(home, address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        answer, call = health.Check.with_call(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        told = parsedate_to_datetime(dict(call.initial_metadata())["date"])  # a site's doctor compares its clock
        assert abs(told.timestamp() - time.time()) < 5
        home.enroll(hospital, revoked=True)
        with pytest.raises(grpc.RpcError) as caught:
            health.Check(health_pb2.HealthCheckRequest())
    assert caught.value.code() == UNAUTHENTICATED


def test_a_coordinator_that_is_away_is_unavailable_so_that_sites_try_again(home):
    address = f"127.0.0.1:{free_port()}"
    with ingress(home.path, address, f"127.0.0.1:{free_port()}"):
        with home.hospital().calling(home, address) as stub, pytest.raises(grpc.RpcError) as caught:
            beat(stub)
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNAVAILABLE, "the coordinator is away")


def test_what_the_fleet_api_answers_goes_on_with_its_code(home, address):
    with home.hospital().calling(home, address) as stub, pytest.raises(grpc.RpcError) as caught:
        stub.GetRun(fleet_pb2.DeactivateNodeRequest())  # the stub has no such method
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_an_expired_certificate_is_refused_also_where_the_handshake_was_earlier(monkeypatch, home, fleet, address):
    from server.ingress_proxy import callers

    with home.hospital().calling(home, address) as stub:
        assert beat(stub)
        monkeypatch.setattr(callers.time, "time", lambda: 4e9)
        with pytest.raises(grpc.RpcError) as caught:
            beat(stub)
        monkeypatch.undo()
    assert caught.value.details() == "this certificate has expired"


def test_a_renewed_certificate_is_served_and_the_old_one_no_longer(home, fleet, address):
    old = home.hospital()
    renewed = Hospital(3, home.authority, tls_key=old.tls_key, node_key=old.node_key)
    renewed.__dict__["certificate"] = issue_client(home.authority, make_request(old.tls_key, "x"), "site 3", days=20)
    with old.calling(home, address) as before, renewed.calling(home, address) as after:
        assert beat(before)
        home.enroll(renewed)
        assert beat(after)
        with pytest.raises(grpc.RpcError):
            beat(before)
