"""The ingress behind the nginx of Debian, with the configuration that we generate."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import grpc
import pytest
from flwr.proto.control_pb2 import ListNodesRequest
from flwr.proto.control_pb2_grpc import ControlStub
from flwr.proto.fleet_pb2 import PullMessagesRequest
from flwr.proto.fleet_pb2_grpc import FleetStub

from protocols.receipts import ingress_chain
from site_client.deployment import DeploymentConfig
from site_client.folder import SiteConfig, SiteFolder
from site_client.gateway.folder import GatewayFolder
from site_client.gateway.upstream import open_channel
from tests.deployment.consortium import Consortium, told
from tests.tests_support import fednotes_here

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") is None, reason="nginx is missing"
    ),
]


@pytest.fixture(scope="module")
def behind_nginx(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("nginx")
    sites = [SiteFolder.create(folder / f"site{n}", SiteConfig(name=f"Hospital {n}", number=n)) for n in (0, 1)]
    consortium = Consortium(folder, sites, nginx=True)
    consortium.set_up()
    consortium.run("server", "server", "start", "--home", consortium.home)
    try:
        end = time.monotonic() + 60
        while set(consortium.programs(consortium.home)) != {"superlink", "superexec", "ingress", "nginx"} or not all(
            consortium.programs(consortium.home).values()
        ):
            assert time.monotonic() < end, (folder / "server.log").read_text()
            time.sleep(0.3)
        time.sleep(3)
        yield consortium
    finally:
        consortium.stop()


def _channel(site: SiteFolder) -> grpc.Channel:
    gateway = GatewayFolder(site.gateway)
    return open_channel(gateway, gateway.enrolment(), DeploymentConfig())


def test_an_enrolled_site_is_served_through_nginx(behind_nginx: Consortium) -> None:
    site = behind_nginx.sites[0]
    done = fednotes_here("site", "doctor", "--site", site.path)
    lines = [line for line in done.stdout.splitlines() if "health" in line or "tls" in line.lower()]
    assert lines and not any("fail" in line for line in lines), done.stdout


def test_nobody_without_a_certificate_gets_in(behind_nginx: Consortium) -> None:
    enrolment = GatewayFolder(behind_nginx.sites[0].gateway).enrolment()
    channel = grpc.secure_channel(enrolment.address, grpc.ssl_channel_credentials(enrolment.authority.encode()))
    with channel, pytest.raises(grpc.RpcError) as caught:
        FleetStub(channel).PullMessages(PullMessagesRequest(), timeout=10)
    assert caught.value.code() != grpc.StatusCode.OK


def test_the_control_api_is_not_there(behind_nginx: Consortium) -> None:
    with _channel(behind_nginx.sites[0]) as channel, pytest.raises(grpc.RpcError) as caught:
        ControlStub(channel).ListNodes(ListNodesRequest(), timeout=10)
    assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED


def test_a_certificate_in_a_header_of_the_caller_counts_for_nothing(behind_nginx: Consortium) -> None:
    stolen = GatewayFolder(behind_nginx.sites[1].gateway).enrolment().certificate.replace("\n", "%0A")
    told("server", "enroll", "--revoke", 0, "--home", behind_nginx.home)
    with _channel(behind_nginx.sites[0]) as channel, pytest.raises(grpc.RpcError):
        FleetStub(channel).PullMessages(
            PullMessagesRequest(), timeout=10, metadata=(("x-fednotes-certificate", stolen),)
        )
    time.sleep(0.5)
    refused = [r for r in ingress_chain(Path(behind_nginx.home) / "receipts").links() if r.kind == "refused"]
    assert refused and {r.site for r in refused} <= {0, None}
