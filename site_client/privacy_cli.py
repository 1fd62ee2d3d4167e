"""``fednotes site privacy``: the account of what this site's data gave away under differential privacy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from click.core import ParameterSource

from protocols.errors import UsageError
from site_client.audit.audit_cli import audit, plant
from site_client.check_model_cli import check_model

if TYPE_CHECKING:
    from privacy.ledger_entries import PrivacyAccount
    from site_client.folder import SiteFolder

_EXPORT = "synthetic text (exported)"

app = typer.Typer()
app.command("plant")(plant)
app.command("audit")(audit)
app.command("check-model")(check_model)

Site = Annotated[Path, typer.Option("--site", help="Site folder.", metavar="DIR")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen and change nothing.")]


@app.callback(invoke_without_command=True)
def privacy(context: typer.Context, site: Site = Path(), as_json: AsJson = False) -> None:
    """Show what is spent and what is left.

    Example: fednotes site privacy --site our-site
    """
    if context.invoked_subcommand is None:
        show(site, as_json)
        return
    if [p for p in context.params if context.get_parameter_source(p) is not ParameterSource.DEFAULT]:
        raise UsageError(
            "Options stand behind the command.",
            hint=f"fednotes site privacy {context.invoked_subcommand} --site DIR ...",
        )


@app.command("show")
def show(site: Site = Path(), as_json: AsJson = False) -> None:
    """Show what is spent and what is left, by study, and what was released without differential privacy.

    Example: fednotes site privacy show --site our-site
    """
    from site_client.folder import SiteFolder
    from site_client.privacy_account import ledger_of

    folder = SiteFolder(site)
    policy = folder.config().privacy
    facts: dict[str, Any] = {"ledger": "not opened"}
    name = f"{policy.unit}_level_epsilon"
    if ledger_of(folder).exists():
        account = _account(folder)
        spent, name = account.spent(), f"{account.unit}_level_epsilon"
        facts = {
            "ledger": "whole",
            "unit": account.unit,
            f"{name}_limit": policy.max_epsilon,
            "spent": spent.named(),
            f"{name}_left": max(0.0, policy.max_epsilon - spent.pld_bound),
            "studies": {
                study: {**account.spent_by(study).named(), f"{name}_target": begun.target}
                for study, begun in account.studies.items()
            },
        }
    facts["studies_without_differential_privacy"] = _without_privacy(folder)
    _print(facts, as_json)


@app.command("open")
def open_(site: Site = Path(), dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Open the account: data set, unit and delta are fixed from here on, for the life of the data set.

    Example: fednotes site privacy open --site our-site --dry-run
    """
    from privacy.ledger import check_delta
    from privacy.statement import signing_key
    from site_client.folder import SiteFolder, secure_umask
    from site_client.privacy_account import dataset_id, ledger_of, open_account

    secure_umask()
    folder = SiteFolder(site)
    policy, ledger = folder.config().privacy, ledger_of(folder)
    check_delta(policy.delta, policy.public_units)
    if ledger.exists():
        raise UsageError(
            f"There is a privacy ledger already: {ledger.path} or its head.", hint="fednotes site privacy show"
        )
    if not dry_run:
        signing_key(folder.path / "keys")
        open_account(folder)
    _print(
        {
            "fixed_for_life": {"dataset": dataset_id(folder), "unit": policy.unit, "delta": policy.delta},
            f"{policy.unit}_level_epsilon_limit": policy.max_epsilon,
            "public_units": policy.public_units,
            "opened": not dry_run,
        },
        as_json,
    )


@app.command("plan")
def plan(
    target: Annotated[float, typer.Option("--epsilon", min=0.0001, max=1000, help="What the study may cost.")],
    sampling_rate: Annotated[float, typer.Option("--sampling-rate", min=1e-6, max=1, help="Chance to enter a step.")],
    rounds: Annotated[int, typer.Option("--rounds", min=1, max=100_000, help="Rounds of the study.")],
    steps: Annotated[int, typer.Option("--steps", min=1, max=1_000_000, help="Steps of a round.")],
    site: Site = Path(),
    as_json: AsJson = False,
) -> None:
    """Calculate the noise that a study would take, what it would cost, and what would be left. Changes nothing.

    Example: fednotes site privacy plan --epsilon 4 --sampling-rate 0.02 --rounds 20 --steps 50 --site our-site
    """
    from privacy.accountant import PrivacyEvent, calibrate, spend
    from site_client.folder import SiteFolder
    from site_client.privacy_account import ledger_of

    folder = SiteFolder(site)
    policy = folder.config().privacy
    before = _account(folder).events if ledger_of(folder).exists() else ()
    calibrated = calibrate(target, policy.delta, sampling_rate, rounds * steps)
    noise = max(calibrated, policy.min_noise_multiplier)
    event = PrivacyEvent(sampling_rate, noise, rounds * steps)
    total = spend((*before, event), policy.delta, policy.unit)
    name = f"{policy.unit}_level_epsilon"
    _print(
        {
            "noise_multiplier": noise,
            "expected_units": sampling_rate * policy.public_units,
            "study": spend([event], policy.delta, policy.unit).named(),
            "spent_before": spend(before, policy.delta, policy.unit).named(),
            "spent_after": total.named(),
            f"{name}_limit": policy.max_epsilon,
            f"{name}_left": max(0.0, policy.max_epsilon - total.pld_bound),
            "allowed": total.pld_bound <= policy.max_epsilon and sampling_rate <= policy.max_sampling_rate,
        },
        as_json,
    )


@app.command("statement")
def statement(
    out: Annotated[Path, typer.Option("--out", help="File to write.", metavar="FILE")],
    site: Site = Path(),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file of that name.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a signed statement of what is spent, for people outside. It holds no number about any patient.

    Example: fednotes site privacy statement --out statement.json --site our-site
    """
    from privacy.statement import PUBLIC_KEY, make_statement, signing_key, write_statement
    from site_client.folder import SiteFolder, secure_umask
    from site_client.privacy_account import ledger_of

    secure_umask()
    folder = SiteFolder(site)
    policy = folder.config().privacy
    if out.exists() and not overwrite:
        raise UsageError(f"{out} exists.", hint="choose another name, or --overwrite")
    _account(folder)
    account, end = ledger_of(folder).account_and_end()
    keys = folder.path / "keys"
    document = make_statement(
        account, end, limit=policy.max_epsilon, without_privacy=_without_privacy(folder), key=signing_key(keys)
    )
    write_statement(out, document)
    _print({"statement": str(out), "public_key": str(keys / PUBLIC_KEY), **document["statement"]["spent"]}, as_json)


@app.command("verify")
def verify(
    file: Annotated[Path, typer.Argument(help="A signed statement.")],
    key: Annotated[
        Path | None, typer.Option("--key", help="The hospital's public key, had by another way.", metavar="PUB")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check that a statement is as it was signed; with --key, also who signed it.

    Example: fednotes site privacy verify statement.json --key statement.pub
    """
    from privacy.statement import verify_statement

    content = verify_statement(file, key)
    signed_by = "the key given" if key else "the key in the statement itself: shows damage, not who signed"
    _print({"signature": "valid", "signed_with": signed_by, **content}, as_json)


def _account(folder: SiteFolder) -> PrivacyAccount:
    """The verified account of this site's own data set."""
    from site_client.privacy_account import dataset_id, ledger_of

    ledger = ledger_of(folder)
    policy, account = folder.config().privacy, ledger.account()
    ledger.check_subject(account, policy, dataset_id(folder))
    return account


def _without_privacy(folder: SiteFolder) -> list[str]:
    """Studies that released updates without differential privacy, after the receipts."""
    from site_client.export import LOG_FILE
    from site_client.receipts import ReceiptBook

    studies = sorted({r.study for r in ReceiptBook(folder.receipts).read() if r.kind == "TrainReply"})
    return studies + ([_EXPORT] if (folder.corpus / LOG_FILE).exists() else [])


def _print(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(facts))
    else:
        print("\n".join(_lines(facts, "")))


def _lines(facts: dict[str, Any], indent: str) -> list[str]:
    lines: list[str] = []
    for name, value in facts.items():
        label = f"{indent}{name.replace('_', ' ')}:"
        if isinstance(value, dict):
            lines += [label, *_lines(value, indent + "  ")] if value else [f"{label} none"]
        elif isinstance(value, list):
            inner = [x if isinstance(x, dict) else {"study": x} for x in value]
            lines += (
                [label, *(line for x in inner for line in _lines(x, indent + "  "))] if value else [f"{label} none"]
            )
        elif isinstance(value, float):
            lines.append(f"{label} {value:.6g}")
        else:
            lines.append(f"{label} {value}")
    return lines
