"""``fednotes server receipts`` and ``fednotes receipts``: what arrived, and whether both ends agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from protocols.errors import UsageError, WorkError

if TYPE_CHECKING:
    from protocols.receipts import IngressReceipt, Reconciliation

receipts = typer.Typer(no_args_is_help=True, help="What arrived at the coordinator.")
app = typer.Typer(no_args_is_help=True, help="Receipts of both ends of the line.")

Home = Annotated[Path, typer.Option("--home", help="Server home folder.", metavar="DIR")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def _receipts() -> None:
    """Receipts of both ends of the line."""  # a callback keeps the name of a single command


@receipts.command("list")
def list_receipts(
    home: Home = Path(),
    site: Annotated[int | None, typer.Option("--site", min=0, max=9999, help="Of this site alone.")] = None,
    calls: Annotated[bool, typer.Option("--calls", help="Also the counts of calls without content.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what arrived, from whom, when, and what was refused; the chain is verified first.

    Example: fednotes server receipts list --home coordinator --site 3
    """
    found = _arrivals(home)
    shown = [r for r in found if (site is None or r.site == site) and (calls or r.kind != "calls")]
    if as_json:
        typer.echo(json.dumps([r.model_dump() for r in shown]))
        return
    for receipt in shown:
        typer.echo(receipt.in_words())
    if not shown:
        typer.echo("nothing has arrived yet")


@receipts.command("verify")
def verify_receipts(home: Home = Path(), as_json: AsJson = False) -> None:
    """Check that no receipt was changed, cut or moved; names the line otherwise.

    Example: fednotes server receipts verify --home coordinator
    """
    found = _arrivals(home)
    arrived = [r for r in found if r.kind == "arrived"]
    facts = {"receipts": len(found), "messages": len(arrived), "bytes": sum(r.message_bytes for r in arrived)}
    if as_json:
        typer.echo(json.dumps(facts))
    else:
        typer.echo("{receipts:,} receipts are whole: {messages:,} messages, {bytes:,} bytes".format(**facts))


@app.command("reconcile")
def reconcile_receipts(
    site_receipts: Annotated[Path, typer.Argument(help="Receipts of the hospital's gateway: folder or .jsonl file.")],
    server_receipts: Annotated[Path, typer.Argument(help="Receipts of the coordinator: folder or .jsonl file.")],
    site: Annotated[int, typer.Option("--site", min=0, max=9999, help="Number of the site.")],
    as_json: AsJson = False,
) -> None:
    """Compare what a hospital says it sent with what the coordinator says has arrived.

    Both chains are verified first. Exit status 1 when something arrived that the hospital does not account for.

    Example: fednotes receipts reconcile our-site/gateway/receipts from-coordinator.jsonl --site 3
    """
    from protocols.receipts import reconcile
    from server.read_receipts import read_gateway, read_ingress

    left, right = read_gateway(site_receipts), read_ingress(server_receipts)
    result = reconcile(left.links, right.links, site)
    headless = [str(x.path) for x in (left, right) if not x.has_head]
    if as_json:
        typer.echo(json.dumps(_facts(result, headless)))
    else:
        _say(result, headless)
    if not result.is_clean:
        wrong = len(result.not_receipted) + len(result.sizes_differ)
        raise WorkError(
            f"{wrong} message{'s' if wrong > 1 else ''} of site {site} arrived that the site does not account for.",
            hint="keep both files as evidence; then find out what sent them: the gateway was by-passed, or a receipt "
            "is missing",
        )


def _facts(result: Reconciliation, headless: list[str]) -> dict[str, object]:
    return {
        "clean": result.is_clean,
        "agreed": result.agreed,
        "bytes_agreed": result.bytes_agreed,
        "not_arrived": result.not_arrived,
        "not_receipted": result.not_receipted,
        "sizes_differ": result.sizes_differ,
        "without_head": headless,
    }


def _say(result: Reconciliation, headless: list[str]) -> None:
    for path in headless:
        typer.echo(f"note: {path} has no head.json beside it: lines missing at its end would not be noticed")
    typer.echo(f"{result.agreed:,} messages agree, {result.bytes_agreed:,} bytes")
    for ids, what in (
        (result.not_arrived, "left the site and did not arrive whole (a cut line, a run that was stopped)"),
        (result.not_receipted, "ARRIVED WITHOUT A RECEIPT at the site"),
        (result.sizes_differ, "ARRIVED WITH ANOTHER SIZE than the site wrote down"),
    ):
        for message in ids:
            typer.echo(f"{message} {what}")


def _arrivals(home: Path) -> list[IngressReceipt]:
    from protocols.receipts import HEAD_FILE, RECEIPTS_FILE
    from server.read_receipts import read_ingress

    if not (home / "server.toml").exists():
        raise UsageError(f"{home} is no server home: it has no server.toml.", hint="give the folder with --home DIR")
    folder = home / "receipts"
    if not any((folder / name).exists() for name in (RECEIPTS_FILE, HEAD_FILE)):
        return []  # the ingress has had nothing to write yet
    return read_ingress(folder).links
