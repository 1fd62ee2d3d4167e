from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest
from tests_support import fednotes

from protocols.errors import UsageError
from protocols.supervise import read_state
from site_client.deployment import DeploymentConfig
from site_client.gateway.folder import GatewayFolder
from site_client.start import (
    _forget_environment,
    check_startable,
    prepare_folders,
    programs,
    state_file,
)

from .consortium import free_port, new_site

PORTS = ("gateway_port", "clientappio_port", "health_port", "metrics_port")


def deployed(path, coordinator, **settings):
    return new_site(path, enrolled_at=coordinator, deployment={name: free_port() for name in PORTS} | settings)


def test_the_programs_listen_on_loopback_alone_and_no_secret_is_in_their_command(tmp_path, coordinator):
    site = deployed(tmp_path / 'a "quoted" site', coordinator)
    listed = {p.name: p for p in programs(site)}
    assert list(listed) == ["gateway", "supernode", "superexec"]
    words = " ".join(w for p in listed.values() for w in p.command)
    assert "0.0.0.0" not in words
    secrets = [p.read_bytes() for p in site.path.rglob("keys/*") if p.suffix in (".key", ".secret")]
    assert not any(secret.hex() in words or secret.decode("latin-1") in words for secret in secrets)
    supernode = listed["supernode"].command
    deployment = site.config().deployment
    assert supernode[supernode.index("--superlink") + 1] == f"127.0.0.1:{deployment.gateway_port}"
    assert "--insecure" not in supernode
    assert supernode[supernode.index("--isolation") + 1] == "process"
    config = supernode[supernode.index("--node-config") + 1]
    assert json.loads(config.removeprefix("site-folder=")) == str(site.path)
    homes = {p.environment["FLWR_HOME"] for p in listed.values()}
    assert len(homes) == 3
    assert all(p.environment["FLWR_TELEMETRY_ENABLED"] == "0" for p in listed.values())


def test_a_site_that_cannot_run_is_refused_with_the_file_or_setting(tmp_path, coordinator):
    with pytest.raises(UsageError, match="has no enrolment"):
        check_startable(new_site(tmp_path / "new"))
    site = deployed(tmp_path / "site", coordinator)
    check_startable(site)
    with socket.create_server(("127.0.0.1", site.config().deployment.clientappio_port)):
        with pytest.raises(UsageError, match="is taken by another program") as caught:
            check_startable(site)
        assert "[deployment] clientappio_port" in str(caught.value.hint)
    (site.path / "keys" / "supernode.key").rename(tmp_path / "k")
    with pytest.raises(UsageError, match=r"supernode\.key is missing"):
        check_startable(site)


def test_the_environment_of_the_programs_is_a_fixed_list(monkeypatch):
    before = dict(os.environ)
    try:
        monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
        monkeypatch.setenv("SOME_TOKEN", "secret")
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
        _forget_environment()
        assert "PATH" in os.environ and "CUDA_VISIBLE_DEVICES" in os.environ
        assert not {"https_proxy", "SOME_TOKEN"} & set(os.environ)
    finally:
        os.environ.update(before)


@pytest.mark.skipif(os.geteuid() != 0, reason="changing users needs root")
def test_with_users_of_their_own_training_reads_neither_gateway_nor_approval_key(tmp_path, coordinator):
    gateway_user, node_user = 61_001, 61_002
    for folder in (tmp_path, *tmp_path.parents):
        if folder == Path(tempfile.gettempdir()):
            break
        folder.chmod(0o755)
    site = deployed(tmp_path / "site", coordinator, gateway_user=gateway_user, node_user=node_user)
    prepare_folders(site)
    keys, gateway = site.path / "keys", GatewayFolder(site.gateway).keys
    own = {gateway / "node.key": gateway_user, keys / "supernode.key": node_user, keys / "approval.key": 0}
    for path, user in own.items():
        assert path.stat().st_uid == user
        for other in (gateway_user, node_user):
            settings = subprocess.run(["cat", site.path / "site.toml"], user=other, group=other, capture_output=True)
            assert settings.returncode == 0, settings.stderr
            key = subprocess.run(["cat", path], user=other, group=other, capture_output=True)
            assert (key.returncode == 0) == (other == user), (path, other)
    assert stat.S_IMODE(site.path.stat().st_mode) & 0o066 == 0
    assert site.path.stat().st_uid == 0


def test_two_programs_of_one_user_are_refused(tmp_path, coordinator):
    site = deployed(tmp_path / "site", coordinator, gateway_user=61_001, node_user=61_001)
    with pytest.raises(UsageError, match="gateway_user and node_user"):
        check_startable(site)


def test_defaults_are_what_the_guide_says():
    assert [getattr(DeploymentConfig(), name) for name in PORTS] == [9502, 9094, 9391, 9503]


@pytest.mark.slow
def test_a_site_starts_in_the_background_tells_how_it_stands_and_stops(tmp_path, coordinator):
    coordinator.address = f"localhost:{free_port()}"  # nobody is there: the site waits
    site = deployed(tmp_path / "site", coordinator)
    began = fednotes("site", "start", "--site", site.path, "--detach", "--json")
    try:
        assert began.returncode == 0, began.stderr + (site.path / "logs" / "supervisor.log").read_text()
        facts = json.loads(fednotes("site", "status", "--site", site.path, "--json").stdout)
        assert facts["running"]
        assert set(facts["programs"]) == {"gateway", "supernode", "superexec"}
        state = read_state(state_file(site))
        assert state is not None and state.pid == json.loads(began.stdout)["supervisor"]
        again = fednotes("site", "start", "--site", site.path, "--detach")
        assert (again.returncode, "run already" in again.stderr) == (2, True)
        doctor = json.loads(fednotes("site", "doctor", "--site", site.path, "--offline", "--json").stdout)
        assert {f["name"]: f["line"] for f in doctor["findings"]}["ports"] == "held by this site's own programs"
    finally:
        stopped = json.loads(fednotes("site", "stop", "--site", site.path, "--json").stdout)
    assert stopped == {"was_running": True, "stopped": True}
    assert read_state(state_file(site)) is None
    assert json.loads(fednotes("site", "stop", "--site", site.path, "--json").stdout)["was_running"] is False
