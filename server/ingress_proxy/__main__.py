"""``python -m server.ingress_proxy --home DIR``: the one public listener of a coordinator, as a process of its own."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from protocols.errors import FednotesError
from protocols.structured_log import configure
from server.enrolled import read_enrolled
from server.home import ServerHome
from server.ingress_proxy.callers import EnrolledCaller
from server.ingress_proxy.listener import IngressSettings, Tls, serve


def settings_of(home: ServerHome) -> IngressSettings:
    """What the ingress of a coordinator's folder needs to know.

    Raises:
        UsageError: ``server.toml`` is missing or wrong.
    """
    config, keys = home.config(), home.keys

    def enrolled() -> Mapping[str, EnrolledCaller]:
        return {
            fingerprint: EnrolledCaller(site=site.site, node_key=site.node_key, revoked=site.revoked)
            for fingerprint, site in read_enrolled(home.enrolled).items()
        }

    behind_nginx = config.ingress_backend == "nginx"
    tls = Tls(key=keys / "ingress.key", certificate=keys / "ingress.pem", authority=keys / "authority.pem")
    home.enrolled.mkdir(parents=True, exist_ok=True)
    return IngressSettings(
        listen=f"unix:{home.ingress_socket}" if behind_nginx else f"{config.ingress_bind}:{config.ingress_port}",
        tls=None if behind_nginx else tls,
        fleet=f"127.0.0.1:{config.fleet_port}",
        fleet_authority=keys / "internal-ca.pem",
        enrolled=home.enrolled,
        read_enrolled=enrolled,
        receipts=home.receipts,
    )


def main() -> None:
    """Read the arguments, serve, and tell errors as the command line does."""
    parser = argparse.ArgumentParser(prog="python -m server.ingress_proxy", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="server folder")
    home = ServerHome(parser.parse_args().home)
    os.umask(0o077)
    configure("ingress")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        serve(settings_of(home), stop)
    except FednotesError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)


if __name__ == "__main__":
    main()
