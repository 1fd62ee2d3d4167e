"""All checks in their order; one that breaks is a finding like any other."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from protocols.error_codes import ContractError
from protocols.errors import FednotesError
from site_client.doctor.finding import Finding, fail, ok, warn
from site_client.doctor.machine import check_disk, check_gpu, check_versions, check_vllm
from site_client.doctor.ports import check_ports
from site_client.doctor.site_files import (
    check_approvals,
    check_clock_alone,
    check_keys,
    check_model,
    check_own_certificate,
    check_permissions,
    check_receipts,
)
from site_client.folder import SiteFolder
from site_client.gateway.folder import GatewayFolder

Check = Callable[[], Finding | Iterator[Finding]]


def examine(folder: SiteFolder, *, offline: bool = False) -> Iterator[Finding]:
    """Run the checks of a site.

    Args:
        folder: the site.
        offline: leave out everything that asks the coordinator.

    Yields:
        A finding at a time, as soon as it is there.
    """
    configuration = list(_guarded("configuration", lambda: _check_configuration(folder)))
    yield from configuration
    if configuration[0].state == "fail":
        return  # nothing else can be looked up
    for name, check in _local_checks(folder).items():
        yield from _guarded(name, check)
    if not GatewayFolder(folder.gateway).enrolment_file.exists():
        yield warn("enrolment", "not enrolled yet: send enrolment-request.json, then fednotes site enroll ANSWER.json")
        return
    yield from _guarded("certificate", lambda: check_own_certificate(folder))
    if not offline:
        from site_client.doctor.network import check_network

        yield from _guarded("network", lambda: check_network(folder))


def _check_configuration(folder: SiteFolder) -> Finding:
    config = folder.config()
    return ok("configuration", f"site {config.number}, at least {config.limits.min_patients} patients")


def _local_checks(folder: SiteFolder) -> dict[str, Check]:
    return {
        "clock": lambda: check_clock_alone(folder),
        "disk": lambda: check_disk(folder),
        "gpu": check_gpu,
        "vllm": check_vllm,
        "model": lambda: check_model(folder),
        "versions": lambda: check_versions(folder),
        "keys": lambda: check_keys(folder),
        "permissions": lambda: check_permissions(folder),
        "ports": lambda: check_ports(folder),
        "receipts": lambda: check_receipts(folder),
        "approvals": lambda: check_approvals(folder),
    }


def _guarded(name: str, check: Check) -> Iterator[Finding]:
    try:
        found = check()
        yield from [found] if isinstance(found, Finding) else found
    except FednotesError as error:
        yield fail(name, f"{error.message} {error.hint or ''}".strip().replace("\n", " "))
    except ContractError as error:
        yield fail(name, f"{error.detail or error.code.name}: see docs/reference/error-codes.md")
    except Exception as error:  # a doctor who dies of a finding helps nobody
        yield fail(name, f"the check itself failed ({type(error).__name__}): look at the files it reads")
