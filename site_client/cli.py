"""``fednotes site``: what a hospital types."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from protocols.errors import UsageError
from site_client.backup_cli import backup, restore
from site_client.column_options import (
    NoteIdColumn,
    PatientColumn,
    Preset,
    TextColumn,
    TimeColumn,
    TypeColumn,
    columns_from,
)
from site_client.corpus_cli import app as corpus_app
from site_client.deployment_cli import approvals, approve, doctor, enroll, renew, start, status, stop
from site_client.privacy_cli import app as privacy_app
from site_client.rephrase_cli import rephrase

if TYPE_CHECKING:
    from privacy.deidentify import Method
    from protocols.receipts import GatewayReceipt
    from site_client.receipts import Receipt

app = typer.Typer(no_args_is_help=True, help="Work inside a hospital: notes, rephrasings, receipts.")
egress_app = typer.Typer(no_args_is_help=True, help="What left this site.")
app.add_typer(egress_app, name="egress")
app.add_typer(corpus_app, name="corpus")
app.add_typer(privacy_app, name="privacy")
app.command("rephrase")(rephrase)
app.command("backup")(backup)
app.command("restore")(restore)

Site = Annotated[Path, typer.Option("--site", help="Site folder.", metavar="DIR")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen and change nothing.")]


@app.command("init")
def init(
    folder: Annotated[Path, typer.Argument(help="Folder to make.")],
    name: Annotated[str, typer.Option("--name", help="What the hospital is called in its own reports.")],
    number: Annotated[int, typer.Option("--number", min=0, max=9999, help="Number from the coordinator.")] = 0,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Make a site folder: configuration, all keys, and the enrolment request for the coordinator.

    Example: fednotes site init our-site --name "City Hospital"
    """
    from protocols.certificates import in_groups
    from site_client.folder import SiteConfig, SiteFolder, secure_umask
    from site_client.keys import REQUEST_FILE, make_keys

    secure_umask()
    if (folder / "site.toml").exists():
        raise UsageError(f"{folder} holds a site already.", hint="choose another folder")
    facts: dict[str, object] = {"folder": str(folder), "name": name, "number": number, "made": not dry_run}
    if not dry_run:
        digest = make_keys(SiteFolder.create(folder, SiteConfig(name=name, number=number))).fingerprint
        fingerprint = digest if as_json else in_groups(digest)
        facts |= {"enrolment_request": str(folder / REQUEST_FILE), "request_fingerprint": fingerprint}
    _print(facts, as_json)


@app.command("ingest")
def ingest(
    paths: Annotated[list[Path], typer.Argument(help="Export files and folders.")],
    site: Site = Path(),
    deidentify: Annotated[str, typer.Option("--deidentify", help="pattern or none.")] = "pattern",
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first record that cannot be read.")] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    preset: Preset = None,
    text_column: TextColumn = None,
    patient_column: PatientColumn = None,
    note_id_column: NoteIdColumn = None,
    type_column: TypeColumn = None,
    time_column: TimeColumn = None,
) -> None:
    """Read notes into the site's store: find duplicates, take identifiers out, split by patient.

    Example: fednotes site ingest NOTEEVENTS.csv.gz --preset mimic3 --site our-site
    """
    from site_client.folder import SiteFolder, secure_umask
    from site_client.ingest import ingest as run
    from site_client.progress import Steps

    secure_umask()
    columns = columns_from(
        preset,
        text=text_column,
        patient_id=patient_column,
        note_id=note_id_column,
        note_type=type_column,
        time=time_column,
    )
    folder = SiteFolder(site)
    folder.config()
    with Steps(quiet=as_json).step("ingest", "Reading notes") as advance:
        report = run(
            folder,
            paths,
            columns=columns,
            deidentify=_method(deidentify),
            strict=strict,
            dry_run=dry_run,
            progress=advance,
        )
    _print(asdict(report), as_json)


for _command in (enroll, approve, approvals, doctor, start, status, stop, renew):
    app.command(_command.__name__)(_command)


@egress_app.command("list")
def egress_list(site: Site = Path(), as_json: AsJson = False) -> None:
    """List what left this site, and what was refused: the gateway's receipts where there is a gateway.

    Example: fednotes site egress list --site our-site
    """
    from site_client.folder import SiteFolder
    from site_client.gateway.folder import GatewayFolder
    from site_client.gateway_receipts import has_gateway_receipts, read_gateway_receipts
    from site_client.receipts import ReceiptBook

    folder = SiteFolder(site)
    gateway = GatewayFolder(folder.gateway).receipts
    receipts: Sequence[GatewayReceipt | Receipt] = (
        read_gateway_receipts(gateway) if has_gateway_receipts(gateway) else ReceiptBook(folder.receipts).read()
    )
    if as_json:
        print(json.dumps([r.model_dump() for r in receipts]))
        return
    for receipt in receipts:
        print(receipt.in_words())
    print(f"{len(receipts)} receipts, {sum(r.array_bytes for r in receipts):,} bytes of arrays.")


@egress_app.command("verify")
def egress_verify(site: Site = Path(), as_json: AsJson = False) -> None:
    """Check that no receipt was changed, cut or moved: those of training, and those of the gateway if there is one.

    Example: fednotes site egress verify --site our-site
    """
    from site_client.folder import SiteFolder
    from site_client.gateway.folder import GatewayFolder
    from site_client.gateway_receipts import has_gateway_receipts, read_gateway_receipts
    from site_client.receipts import ReceiptBook

    folder = SiteFolder(site)
    gateway = GatewayFolder(folder.gateway).receipts
    facts: dict[str, object] = {"receipts": len(ReceiptBook(folder.receipts).read())}
    if has_gateway_receipts(gateway):
        facts["gateway_receipts"] = len(read_gateway_receipts(gateway))
    _print({**facts, "chain": "whole"}, as_json)


def _method(name: str) -> Method:
    if name == "pattern":
        return "pattern"
    if name == "none":
        return "none"
    raise UsageError(f"There is no de-identification {name!r}.", hint="choose pattern or none")


def _print(facts: dict[str, object], as_json: bool) -> None:
    if as_json:
        print(json.dumps(facts))
        return
    for name, value in facts.items():
        if isinstance(value, dict):
            value = ", ".join(f"{k} {v}" for k, v in value.items()) or "none"
        elif isinstance(value, list):
            value = "".join(f"\n  {line}" for line in value[:20]) or "none"
        print(f"{name.replace('_', ' ')}: {value}")
