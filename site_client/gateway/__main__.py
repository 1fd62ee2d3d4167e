"""``python -m site_client.gateway --site DIR``: the egress gateway as a process of its own.

It holds the node key and the client certificate, and nothing that computes on notes runs in it. Its only listener is on
loopback, for this site's SuperNode; its only way out leads to the coordinator of its enrolment.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from flwr.proto.fleet_pb2_grpc import add_FleetServicer_to_server

from protocols.errors import FednotesError, UsageError
from protocols.metrics import serve as serve_metrics
from protocols.structured_log import configure
from site_client.deployment import DeploymentConfig
from site_client.folder import SiteFolder, secure_umask
from site_client.gateway.approval_book import ApprovalBook
from site_client.gateway.courier import Courier
from site_client.gateway.folder import GatewayFolder
from site_client.gateway.inner_auth import only_our_node
from site_client.gateway.instructions import OpenInstructions
from site_client.gateway.journal import Journal
from site_client.gateway.service import Gateway
from site_client.gateway.upstream import connect

_LOG = logging.getLogger("site_client.gateway")
_THREADS = 8
_LARGEST_CALL = 16 * 2**20


def serve(folder: GatewayFolder, deployment: DeploymentConfig, stop: threading.Event) -> None:
    """Serve until told to stop.

    Args:
        folder: of the gateway.
        deployment: ports and proxy.
        stop: ends it.

    Raises:
        FednotesError: a key, the enrolment or the port is not as it has to be, or the receipts are broken.
    """
    folder.spool.mkdir(parents=True, exist_ok=True)
    with Journal.open(folder.receipts) as journal:
        upstream = connect(folder, deployment, journal)
        instructions = OpenInstructions(folder.spool / "open")
        approvals = ApprovalBook(folder)
        courier = Courier(folder.spool, upstream, instructions, approvals, journal)
        gateway = Gateway(folder.spool, upstream, instructions, approvals, courier, journal)
        server = _listen(folder, deployment.gateway_port, gateway)
        journal.metrics.open_instructions.set_function(lambda: len(instructions.all()))
        serve_metrics(journal.metrics.registry, deployment.metrics_port)
        journal.event("gateway started")
        courier.start()
        threading.Thread(target=gateway.keep_alive, args=(stop,), daemon=True).start()
        server.start()
        _LOG.info("the gateway serves on 127.0.0.1:%d", deployment.gateway_port)
        stop.wait()
        server.stop(grace=2.0).wait()
        courier.stop()
        courier.join(timeout=10.0)
        journal.event("gateway stopped")


def _listen(folder: GatewayFolder, port: int, gateway: Gateway) -> grpc.Server:
    options = [
        ("grpc.max_receive_message_length", _LARGEST_CALL),
        ("grpc.max_send_message_length", _LARGEST_CALL),
        ("grpc.so_reuseport", 0),
    ]
    server = grpc.server(
        ThreadPoolExecutor(_THREADS), options=options, interceptors=[only_our_node(folder.keys / "supernode.pub")]
    )
    add_FleetServicer_to_server(gateway, server)
    try:
        pair = (folder.keys / "inner.key").read_bytes(), (folder.keys / "inner.pem").read_bytes()
    except OSError as error:
        raise UsageError(
            f"The inner key pair in {folder.keys} cannot be read.", hint="restore it from your backup"
        ) from error
    try:
        server.add_secure_port(f"127.0.0.1:{port}", grpc.ssl_server_credentials([pair]))
    except RuntimeError as error:
        raise UsageError(
            f"Port {port} of this machine is taken.", hint="set gateway_port in [deployment] of site.toml"
        ) from error
    return server


def main() -> None:
    """Read the arguments, serve, and tell errors as the command line does."""
    parser = argparse.ArgumentParser(prog="python -m site_client.gateway", description=__doc__)
    parser.add_argument("--site", type=Path, required=True, help="site folder")
    parser.add_argument("--gateway-folder", type=Path, help="its folder, where the site folder cannot be read")
    arguments = parser.parse_args()
    secure_umask()
    configure("gateway")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        site = SiteFolder(arguments.site)
        serve(GatewayFolder(arguments.gateway_folder or site.gateway), site.config().deployment, stop)
    except FednotesError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)


if __name__ == "__main__":
    main()
