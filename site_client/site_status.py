"""How a deployed site stands: its programs, its enrolment, what is approved, what left last."""

from __future__ import annotations

import time
from typing import Any

from cryptography import x509

from protocols.errors import FednotesError
from protocols.supervise import SupervisorState, read_state
from site_client.approval import read_approvals
from site_client.folder import SiteFolder
from site_client.gateway.folder import GatewayFolder
from site_client.gateway_receipts import has_gateway_receipts, read_gateway_receipts
from site_client.start import GATEWAY, SUPEREXEC, SUPERNODE, state_file


def status(folder: SiteFolder) -> dict[str, Any]:
    """Facts for a person or a program; a damaged file is told as a fact, it does not hide the others.

    Args:
        folder: the site.
    """
    gateway = GatewayFolder(folder.gateway)
    state = read_state(state_file(folder))
    return {
        "running": state is not None,
        "programs": _programs(state),
        "enrolment": _told(lambda: _enrolment(gateway)),
        "approved": _told(lambda: sorted(read_approvals(gateway))),
        "left": _told(lambda: _left(gateway)),
    }


def _programs(state: SupervisorState | None) -> dict[str, str]:
    if state is None:
        return dict.fromkeys((GATEWAY, SUPERNODE, SUPEREXEC), "not running")
    return {
        name: (f"running for {time.time() - p.started:,.0f} s" if p.pid else "waits to be started again")
        + (f", started again {p.restarts} times" if p.restarts else "")
        for name, p in state.programs.items()
    }


def _enrolment(gateway: GatewayFolder) -> dict[str, Any]:
    if not gateway.enrolment_file.exists():
        return {}
    enrolment = gateway.enrolment()
    certificate = x509.load_pem_x509_certificate(enrolment.certificate.encode())
    return {
        "site": enrolment.site,
        "coordinator": enrolment.coordinator,
        "address": enrolment.address,
        "certificate_until": f"{certificate.not_valid_after_utc:%Y-%m-%d}",
    }


def _left(gateway: GatewayFolder) -> dict[str, Any]:
    if not has_gateway_receipts(gateway.receipts):
        return {}
    replies = [r for r in read_gateway_receipts(gateway.receipts) if r.message]
    last = replies[-1] if replies else None
    return {
        "messages": len(replies),
        "bytes": sum(r.message_bytes for r in replies),
        **({"last": last.time, "last_study": last.study, "last_round": last.round} if last else {}),
    }


def _told(fact: Any) -> Any:
    try:
        return fact()
    except FednotesError as error:
        return error.message
    except ValueError:
        return "damaged"
