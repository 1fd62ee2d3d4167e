"""``fednotes server backup`` and ``restore``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from protocols.errors import UsageError

Home = Annotated[Path, typer.Option("--home", help="Server folder.", metavar="DIR")]
Passphrase = Annotated[
    Path | None, typer.Option("--passphrase-file", help="File whose first line is the passphrase.", metavar="FILE")
]
Plain = Annotated[bool, typer.Option("--plain", help="Do not encrypt: the keys lie open in the backup.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen and change nothing.")]

CHAINS = (("receipts/receipts.jsonl", "receipts/head.json"),)


def backup(
    file: Annotated[Path, typer.Argument(help="File to write.")],
    home: Home = Path(),
    passphrase_file: Passphrase = None,
    plain: Plain = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Back up the coordinator, keys and studies included; its programs may run meanwhile.

    Example: fednotes server backup server.backup --passphrase-file passphrase --home our-server
    """
    from protocols.backup import back_up, read_passphrase
    from server.home import ServerHome

    ServerHome(home).config()
    if (passphrase_file is None) == (not plain):
        raise UsageError("A backup holds keys.", hint="give --passphrase-file, or say --plain; not both")
    files = 0 if dry_run else back_up(home, file, read_passphrase(passphrase_file), CHAINS)
    _print({"backup": str(file), "files": files, "encrypted": not plain, "written": not dry_run}, as_json)


def restore(
    file: Annotated[Path, typer.Argument(help="Backup.")],
    folder: Annotated[Path, typer.Argument(help="Folder to make.")],
    passphrase_file: Passphrase = None,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Put a backup of the coordinator into a new folder; studies go on from the checkpoints that it holds.

    Example: fednotes server restore server.backup our-server --passphrase-file passphrase
    """
    from protocols.backup import read_passphrase
    from protocols.backup import restore as put_back

    passphrase = read_passphrase(passphrase_file)
    files = 0 if dry_run else put_back(file, folder, passphrase)
    _print({"folder": str(folder), "files": files, "restored": not dry_run}, as_json)


def _print(facts: dict[str, object], as_json: bool) -> None:
    print(json.dumps(facts) if as_json else "\n".join(f"{name}: {value}" for name, value in facts.items()))
