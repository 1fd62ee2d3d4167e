"""``fednotes site backup`` and ``restore``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from protocols.errors import UsageError

Site = Annotated[Path, typer.Option("--site", help="Site folder.", metavar="DIR")]
Passphrase = Annotated[
    Path | None, typer.Option("--passphrase-file", help="File whose first line is the passphrase.", metavar="FILE")
]
Plain = Annotated[bool, typer.Option("--plain", help="Do not encrypt: notes and keys lie open in the backup.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen and change nothing.")]

CHAINS = (
    ("receipts/receipts.jsonl", "receipts/head.json"),
    ("gateway/receipts/receipts.jsonl", "gateway/receipts/head.json"),
    ("ledger/ledger.jsonl", "keys/ledger-head.json"),
)


def backup(
    file: Annotated[Path, typer.Argument(help="File to write.")],
    site: Site = Path(),
    passphrase_file: Passphrase = None,
    plain: Plain = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Back up the site: notes, keys, account and receipts; its programs may run meanwhile.

    Example: fednotes site backup site.backup --passphrase-file passphrase --site our-site
    """
    from protocols.backup import back_up, read_passphrase
    from site_client.folder import SiteFolder, secure_umask

    secure_umask()
    SiteFolder(site).config()
    if (passphrase_file is None) == (not plain):
        raise UsageError("A backup holds notes and keys.", hint="give --passphrase-file, or say --plain; not both")
    files = 0 if dry_run else back_up(site, file, read_passphrase(passphrase_file), CHAINS)
    _print({"backup": str(file), "files": files, "encrypted": not plain, "written": not dry_run}, as_json)


def restore(
    file: Annotated[Path, typer.Argument(help="Backup.")],
    folder: Annotated[Path, typer.Argument(help="Folder to make.")],
    passphrase_file: Passphrase = None,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Put a backup of the site into a new folder. What was spent of the privacy account since then is lost.

    Example: fednotes site restore site.backup our-site --passphrase-file passphrase
    """
    from protocols.backup import read_passphrase
    from protocols.backup import restore as put_back

    passphrase = read_passphrase(passphrase_file)
    files = 0 if dry_run else put_back(file, folder, passphrase)
    warning = "the privacy account is as old as the backup: count what was spent since as spent"
    _print({"folder": str(folder), "files": files, "restored": not dry_run, "warning": warning}, as_json)


def _print(facts: dict[str, object], as_json: bool) -> None:
    print(json.dumps(facts) if as_json else "\n".join(f"{name}: {value}" for name, value in facts.items()))
