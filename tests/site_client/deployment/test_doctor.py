from __future__ import annotations

import os
import shutil
import socket
import threading
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

import grpc
import pytest

from protocols.certificates import make_authority, new_key
from protocols.enrolment import write_document
from protocols.receipts import gateway_chain
from protocols.supervise import ProgramState, SupervisorState
from site_client.approve import approve, propose
from site_client.doctor.network import check_clock, check_dns, check_network, check_tcp, split_address
from site_client.doctor.run import examine
from site_client.doctor.site_files import check_model
from site_client.folder import SiteFolder, secure_umask
from site_client.gateway.folder import GatewayFolder
from site_client.keys import read_request

from .consortium import MANIFEST, Coordinator, Health, enroll, free_port, health_server, new_site
from .proxy import connect_proxy


def findings(site, *, offline=False) -> dict[str, tuple[str, str]]:
    return {f.name: (f.state, f.line) for f in examine(site, offline=offline)}


def online(tmp_path, coordinator, *, health=None, host="localhost", deployment=None, **server) -> dict:
    """What the doctor finds of a coordinator that serves like this."""
    authority = server.pop("authority", coordinator.authority)
    with health_server(authority, health, clients=coordinator.authority, **server) as port:
        coordinator.address = f"{host}:{port}"
        site = new_site(tmp_path / "site", enrolled_at=coordinator, deployment=deployment or {})
        return {f.name: (f.state, f.line) for f in check_network(site)}


def test_a_good_way_to_the_coordinator_is_found_good(tmp_path, coordinator):
    found = online(tmp_path, coordinator)
    assert [(name, state) for name, (state, _) in found.items()] == [
        ("dns", "ok"),
        ("tcp", "ok"),
        ("tls", "ok"),
        ("health", "ok"),
        ("clock", "ok"),
    ]


def test_the_way_leads_through_the_hospitals_proxy_with_its_password(tmp_path, coordinator):
    with connect_proxy(login="site:secret") as proxy:
        deployment = {"proxy": f"http://127.0.0.1:{proxy.port}", "proxy_user": "site", "proxy_password_file": "pw"}
        with health_server(coordinator.authority) as port:
            coordinator.address = f"localhost:{port}"
            site = new_site(tmp_path / "site", enrolled_at=coordinator, deployment=deployment)
            (site.gateway / "pw").write_text("wrong\n")
            assert "the proxy answers 407" in list(check_network(site))[-1].line
            (site.gateway / "pw").write_text("secret\n")
            found = {f.name: f.state for f in check_network(site)}
    assert found == dict.fromkeys(("dns", "tcp", "tls", "health", "clock"), "ok")
    assert set(proxy.asked) == {f"localhost:{port}"}


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ({"names": ("coordinator.example",)}, "is not for localhost"),
        ({"days": 0}, "has ended by this clock"),
        ({"authority": make_authority("Somebody else", days=5)}, "unknown authority"),
    ],
)
def test_a_wrong_certificate_of_the_server_is_named(tmp_path, coordinator, server, said):
    state, line = online(tmp_path, coordinator, **server)["tls"]
    assert (state, said in line) == ("fail", True), line


def test_a_server_certificate_that_ends_soon_is_told(tmp_path, coordinator):
    state, line = online(tmp_path, coordinator, days=5)["tls"]
    assert (state, "its certificate ends on" in line) == ("warn", True)


@pytest.mark.parametrize(
    ("refuse", "state", "said"),
    [
        (grpc.StatusCode.PERMISSION_DENIED, "fail", "revoked"),
        (grpc.StatusCode.UNIMPLEMENTED, "warn", "tells no health"),
        (grpc.StatusCode.INTERNAL, "fail", "INTERNAL"),
    ],
)
def test_refusals_of_the_coordinator_are_told_apart_and_its_clock_read_all_the_same(
    tmp_path, coordinator, refuse, state, said
):
    found = online(tmp_path, coordinator, health=Health(refuse=refuse, behind_s=100.0))
    assert (found["health"][0], said in found["health"][1]) == (state, True)
    assert found["clock"][0] == "fail"


def test_a_certificate_that_the_coordinator_does_not_know_is_told(tmp_path, coordinator):
    with health_server(coordinator.authority, clients=make_authority("Somebody else", days=5)) as port:
        coordinator.address = f"localhost:{port}"
        found = {f.name: (f.state, f.line) for f in check_network(new_site(tmp_path / "s", enrolled_at=coordinator))}
    assert found["health"][0] == "fail"
    assert "may not take this site's certificate" in found["health"][1]


@pytest.mark.parametrize(
    ("behind_s", "state"), [(0, "ok"), (-30, "ok"), (-120, "warn"), (-400, "fail"), (5, "warn"), (10, "fail")]
)
def test_a_clock_beyond_flowers_window_is_named(behind_s, state):
    """The window: a site may be 5 s ahead of the coordinator, or 305 s behind it."""
    now = datetime.now(UTC)
    date = format_datetime(datetime.fromtimestamp(now.timestamp() - behind_s, UTC), usegmt=True)
    (finding,) = check_clock(date, now)
    assert finding.state == state, finding.line
    assert ("NTP" in finding.line) == (state != "ok")


def test_a_coordinator_that_tells_no_time_is_not_guessed_about(tmp_path, coordinator):
    assert "clock" not in online(tmp_path, coordinator, health=Health(tells_time=False))


def test_unknown_names_and_closed_ports_stop_the_search():
    assert check_dns("nobody.invalid").state == "fail"
    closed = check_tcp("127.0.0.1", free_port())
    assert (closed.state, "connection refused" in closed.line, "firewall" in closed.line) == ("fail", True, True)
    assert "[deployment] proxy" in check_tcp("127.0.0.1", free_port(), proxied=True).line
    assert split_address("[::1]:9443") == ("::1", 9443)


def test_a_server_that_speaks_no_tls_is_named(tmp_path, coordinator):
    with socket.create_server(("127.0.0.1", 0)) as plain:
        coordinator.address = f"localhost:{plain.getsockname()[1]}"

        def answer():
            for _ in range(2):
                line, _ = plain.accept()
                line.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                line.close()

        threading.Thread(target=answer, daemon=True).start()
        found = {f.name: (f.state, f.line) for f in check_network(new_site(tmp_path / "s", enrolled_at=coordinator))}
    assert found["tls"][0] == "fail"
    assert "is another server in between?" in found["tls"][1] or "cut connections" in found["tls"][1]


PORTS = ("gateway_port", "clientappio_port", "health_port", "metrics_port")


@pytest.fixture
def ported(tmp_path, coordinator):
    secure_umask()
    return new_site(tmp_path / "site", enrolled_at=coordinator, deployment={name: free_port() for name in PORTS})


def test_offline_the_folder_alone_is_looked_at(ported, coordinator, tmp_path):
    approve(ported, propose(ported, coordinator.plan_file(tmp_path / "plan.json")))
    found = findings(ported, offline=True)
    good = ("configuration", "clock", "disk", "versions", "keys", "permissions", "ports", "receipts", "approvals")
    assert {name: found[name][0] for name in (*good, "certificate")} == dict.fromkeys((*good, "certificate"), "ok")
    assert not {"dns", "tcp", "tls", "health"} & set(found)


def test_a_taken_port_is_named_with_its_setting_unless_it_is_our_own(ported):
    with socket.create_server(("127.0.0.1", ported.config().deployment.health_port)):
        assert "[deployment] health_port" in findings(ported, offline=True)["ports"][1]
        state = SupervisorState(pid=os.getpid(), programs={"supernode": ProgramState(pid=os.getpid())})
        (ported.path / "run.json").write_text(state.model_dump_json())
        assert findings(ported, offline=True)["ports"] == ("ok", "held by this site's own programs")


@pytest.mark.parametrize(
    ("name", "content", "check", "said"),
    [
        ("gateway/keys/tls.key", None, "keys", "missing: "),
        ("gateway/keys/inner.pem", b"x", "keys", "do not match"),
        ("gateway/enrolment.json", b"{", "certificate", "is no valid Enrolment"),
        ("gateway/approvals/pilot.json", b"{}", "approvals", "pilot.json is damaged"),
        ("gateway/receipts/receipts.jsonl", b"{}\n", "receipts", "are broken at line 1"),
        ("receipts/receipts.jsonl", b"{}\n", "receipts", "are broken at line 1"),
        ("model/manifest.json", b"{}", "model", "has no manifest.json"),
        ("site.toml", b"name = 1", "configuration", "wrong settings"),
    ],
)
def test_damaged_and_missing_files_are_named(ported, name, content, check, said):
    path = ported.path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink() if content is None else path.write_bytes(content)
    state, line = findings(ported, offline=True)[check]
    assert (state, said in line) == ("fail", True), line


def test_a_receipt_that_was_cut_off_at_the_end_is_found(ported):
    chain = gateway_chain(GatewayFolder(ported.gateway).receipts)
    with chain.writing() as writer:  # a running gateway holds the lock
        for _ in range(3):
            writer.append({"kind": "event", "note": "start"})
        assert findings(ported, offline=True)["receipts"][0] == "ok"
    lines = chain.path.read_bytes().splitlines(keepends=True)
    chain.path.write_bytes(b"".join(lines[:-1]))
    assert findings(ported, offline=True)["receipts"][0] == "fail"


def test_wide_permissions_are_named(ported):
    (ported.path / "keys" / "approval.key").chmod(0o644)
    state, line = findings(ported, offline=True)["permissions"]
    assert (state, "approval.key" in line, "chmod go-rwx" in line) == ("fail", True, True)


def test_a_certificate_that_ends_soon_or_fits_no_key_is_told(ported, coordinator):
    enroll(ported, coordinator, days=10)
    state, line = findings(ported, offline=True)["certificate"]
    assert (state, "fednotes site renew" in line) == ("warn", True)
    (GatewayFolder(ported.gateway).keys / "tls.key").write_bytes(new_key())
    assert "tls.key is another" in findings(ported, offline=True)["certificate"][1]


def test_an_expired_certificate_says_renew(ported, coordinator):
    gateway = GatewayFolder(ported.gateway)
    write_document(gateway.enrolment_file, coordinator.answer(read_request(ported), days=0))
    state, line = findings(ported, offline=True)["certificate"]
    assert (state, "fednotes site renew" in line) == ("fail", True)


def test_another_version_at_the_coordinator_is_told(ported, coordinator):
    enroll(ported, coordinator, fednotes_version="9.9")
    state, line = findings(ported, offline=True)["versions"]
    assert (state, "the coordinator ran fednotes 9.9" in line) == ("warn", True)


def test_a_site_before_its_enrolment_is_told_what_to_send(tmp_path):
    site = new_site(tmp_path / "site")
    assert findings(site)["enrolment"][0] == "warn"
    assert "enrolment-request.json" in findings(site)["enrolment"][1]


def test_no_site_folder_is_one_finding(tmp_path):
    (finding,) = examine(SiteFolder(Path(tmp_path)))
    assert (finding.state, "fednotes site init" in finding.line) == ("fail", True)


def test_the_model_is_built_and_compared(tmp_path, coordinator, model_folder):
    site = new_site(tmp_path / "site", enrolled_at=Coordinator())
    shutil.rmtree(site.model)
    shutil.copytree(model_folder, site.model)
    assert check_model(site).state == "ok"
    (site.model / "manifest.json").write_text(MANIFEST.model_dump_json())
    assert "do not match" in check_model(site).line
