"""``fednotes site``: taking part in a consortium. Enroll, approve, check, start, stop, look."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from protocols.errors import UsageError, WorkError

Site = Annotated[Path, typer.Option("--site", help="Site folder.", metavar="DIR")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen and change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def enroll(
    answer: Annotated[Path, typer.Argument(help="The coordinator's answer.")],
    site: Site = Path(),
    new_coordinator: Annotated[
        bool, typer.Option("--new-coordinator", help="Authority, plan key, address or number may have changed.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Check and install the coordinator's answer: the site's number and certificate.

    Example: fednotes site enroll answer.json --site our-site
    """
    from protocols.certificates import in_groups
    from site_client.enrolment import check_answer, install
    from site_client.folder import SiteFolder, secure_umask

    secure_umask()
    folder = SiteFolder(site)
    folder.config()
    checked = check_answer(folder, answer, new_coordinator=new_coordinator)
    if not dry_run:
        install(folder, checked)
    enrolment = checked.enrolment
    _print(
        {
            "site": enrolment.site,
            "coordinator": enrolment.coordinator,
            "address": enrolment.address,
            "certificate_until": f"{checked.until:%Y-%m-%d}",
            "authority_fingerprint": checked.authority if as_json else in_groups(checked.authority),
            "warnings": list(checked.warnings),
            "installed": not dry_run,
        },
        as_json,
    )
    if not as_json:
        print("Compare the authority's fingerprint with the coordinator by telephone before you approve anything.")


def approve(
    plan: Annotated[Path | None, typer.Argument(help="Signed plan from the coordinator.")] = None,
    site: Site = Path(),
    max_message_bytes: Annotated[
        int | None, typer.Option("--max-message-bytes", min=1, help="Lower the limit of one reply.")
    ] = None,
    max_total_bytes: Annotated[
        int | None, typer.Option("--max-total-bytes", min=1, help="Lower the limit of all replies.")
    ] = None,
    withdraw: Annotated[
        str | None, typer.Option("--withdraw", help="Take the approval of a study back.", metavar="STUDY")
    ] = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Show in plain words what a study may ask and what may leave, and approve it; or take an approval back.

    Example: fednotes site approve signed-plan.json --site our-site
    """
    from site_client.folder import SiteFolder, secure_umask

    secure_umask()
    folder = SiteFolder(site)
    folder.config()
    if (plan is None) == (withdraw is None):
        raise UsageError("Give a plan, or --withdraw STUDY.", hint="fednotes site approve --help")
    if plan is not None:
        from site_client.approve import Tighter

        tighter = Tighter(max_message_bytes=max_message_bytes, max_total_bytes=max_total_bytes)
        _approve(folder, plan, tighter, yes=yes, dry_run=dry_run, as_json=as_json)
    elif withdraw is not None:
        _withdraw(folder, withdraw, dry_run=dry_run, as_json=as_json)


def approvals(site: Site = Path(), as_json: AsJson = False) -> None:
    """List what is approved, after checking every signature.

    Example: fednotes site approvals --site our-site
    """
    from site_client.approval import read_approvals
    from site_client.folder import SiteFolder
    from site_client.gateway.folder import GatewayFolder

    folder = SiteFolder(site)
    found = read_approvals(GatewayFolder(folder.gateway))
    if as_json:
        print(json.dumps([a.model_dump(mode="json") for a in found.values()]))
        return
    for study, approval in found.items():
        print(
            f"{study}: at most {approval.plan.rounds} rounds, {approval.max_total_bytes:,} bytes, never fewer than "
            f"{approval.limits.min_patients} patients; approved at {approval.approved_at}, plan {approval.plan.digest}"
        )
    print(f"approved studies: {len(found)}")


def doctor(
    site: Site = Path(),
    offline: Annotated[bool, typer.Option("--offline", help="Leave out what asks the coordinator.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check this machine, the site folder and the way to the coordinator; a line each says what to do.

    Example: fednotes site doctor --site our-site
    """
    from site_client.doctor.run import examine
    from site_client.folder import SiteFolder, secure_umask

    secure_umask()
    findings = []
    for finding in examine(SiteFolder(site), offline=offline):
        findings.append(finding)
        if not as_json:
            print(f"{finding.state:4}  {finding.name}: {finding.line}", flush=True)
    failed = [f.name for f in findings if f.state == "fail"]
    if as_json:
        print(json.dumps({"healthy": not failed, "findings": [vars(f) for f in findings]}))
    if failed:
        raise WorkError(f"{len(failed)} of {len(findings)} checks failed: {', '.join(failed)}.")


def start(
    site: Site = Path(),
    detach: Annotated[bool, typer.Option("--detach", help="Run in the background; logs lie in logs/.")] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Start gateway, SuperNode and SuperExec, and keep them running.

    Example: fednotes site start --site our-site --detach
    """
    from site_client.folder import SiteFolder, secure_umask
    from site_client.start import check_startable, programs, run, run_detached

    secure_umask()
    folder = SiteFolder(site)
    if dry_run:
        check_startable(folder)
        _print({"programs": {p.name: " ".join(p.command) for p in programs(folder)}, "started": False}, as_json)
    elif detach:
        pid = run_detached(folder)
        _print({"started": True, "supervisor": pid, "logs": str(folder.path / "logs")}, as_json)
    else:
        run(folder)
        _print({"stopped": True}, as_json)


def stop(site: Site = Path(), dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Stop the site's programs.

    Example: fednotes site stop --site our-site
    """
    from protocols.supervise import read_state
    from site_client.folder import SiteFolder
    from site_client.start import state_file
    from site_client.start import stop as stop_programs

    folder = SiteFolder(site)
    folder.config()
    was_running = read_state(state_file(folder)) is not None if dry_run else stop_programs(folder)
    _print({"was_running": was_running, "stopped": was_running and not dry_run}, as_json)


def status(site: Site = Path(), as_json: AsJson = False) -> None:
    """Show how the programs stand, what is approved, and what left last.

    Example: fednotes site status --site our-site
    """
    from site_client.folder import SiteFolder
    from site_client.site_status import status as facts

    _print(facts(SiteFolder(site)), as_json)


def renew(site: Site = Path(), dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Make a new key and a request for its certificate; the old one stays in use until the answer is installed.

    Example: fednotes site renew --site our-site
    """
    from protocols.certificates import in_groups
    from site_client.folder import SiteFolder, secure_umask
    from site_client.keys import REQUEST_FILE
    from site_client.renew import renew as make

    secure_umask()
    folder = SiteFolder(site)
    folder.config()
    facts: dict[str, Any] = {"request": str(folder.path / REQUEST_FILE), "made": not dry_run}
    if not dry_run:
        renewal = make(folder)
        digest = renewal.request.fingerprint
        facts |= {
            "fingerprint": digest if as_json else in_groups(digest),
            "first_keys": renewal.first,
            "restart_needed_for_loopback": renewal.inner,
        }
    _print(facts, as_json)


def _approve(folder: Any, plan: Path, tighter: Any, *, yes: bool, dry_run: bool, as_json: bool) -> None:
    from site_client.approve import approve as sign
    from site_client.approve import in_words, propose

    proposal = propose(folder, plan, tighter)
    if not as_json:
        print("\n".join(in_words(proposal)))
        for warning in proposal.warnings:
            print(f"NOTE: {warning}")
        if proposal.replaces is not None:
            print("This replaces an earlier approval. " + ("Changed:" if proposal.replaces else "Nothing changed."))
            print("".join(f"  {line}\n" for line in proposal.replaces), end="")
    if as_json and not yes and not dry_run:
        raise UsageError("With --json nobody can be asked.", hint="--yes to approve, --dry-run to look")
    if not dry_run and not yes and not typer.confirm("Approve?"):
        raise WorkError("Nothing was approved.")
    facts: dict[str, Any] = {
        "study": proposal.approval.plan.study,
        "plan_digest": proposal.plan_digest,
        "approved": not dry_run,
    }
    if not dry_run:
        facts["file"] = str(sign(folder, proposal))
    if as_json:
        facts |= {"approval": proposal.approval.model_dump(mode="json"), "warnings": list(proposal.warnings)}
    _print(facts, as_json)


def _withdraw(folder: Any, study: str, *, dry_run: bool, as_json: bool) -> None:
    from site_client.approval import read_approvals, withdraw
    from site_client.gateway.folder import GatewayFolder

    gateway = GatewayFolder(folder.gateway)
    if not dry_run:
        withdraw(gateway, study)
    elif study not in read_approvals(gateway):
        raise UsageError(f"There is no approval of study {study!r}.", hint="fednotes site approvals")
    _print({"study": study, "withdrawn": not dry_run}, as_json)


def _print(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(facts))
        return
    for name, value in facts.items():
        if isinstance(value, dict):
            value = "".join(f"\n  {k.replace('_', ' ')}: {v}" for k, v in value.items()) or "none"
        elif isinstance(value, list):
            value = ", ".join(map(str, value)) or "none"
        print(f"{name.replace('_', ' ')}: {value}")
