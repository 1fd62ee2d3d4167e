"""``fednotes site corpus``: what the synthetic corpus consists of, what it gives away, and sharing it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from click.core import ParameterSource

from protocols.errors import UsageError

app = typer.Typer()

Site = Annotated[Path, typer.Option("--site", help="Site folder.", metavar="DIR")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback(invoke_without_command=True)
def corpus(context: typer.Context, site: Site = Path(), as_json: AsJson = False) -> None:
    """Count notes by split, and rephrasings by arm and reason.

    Example: fednotes site corpus --site our-site
    """
    if context.invoked_subcommand is not None:
        given = [p for p in context.params if context.get_parameter_source(p) is not ParameterSource.DEFAULT]
        if given:
            raise UsageError(
                "Options stand behind the command.",
                hint=f"fednotes site corpus {context.invoked_subcommand} --site DIR ...",
            )
        return
    import json
    from dataclasses import asdict

    from site_client.corpus_counts import count_corpus
    from site_client.corpus_tables import print_numbers
    from site_client.folder import SiteFolder

    folder = SiteFolder(site)
    folder.config()
    numbers = count_corpus(folder)
    if as_json:
        print(json.dumps(asdict(numbers)))
    else:
        print_numbers(numbers)


@app.command("leakage")
def leakage(
    site: Site = Path(),
    planted: Annotated[
        Path | None,
        typer.Option(
            "--planted", help="Strings that were planted in notes, one a line; never printed.", metavar="FILE"
        ),
    ] = None,
    held_out: Annotated[
        bool,
        typer.Option("--held-out/--no-held-out", help="Compare with notes that were never rephrased: what is chance?"),
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Measure what the rephrasings give away, for each model and prompt.

    Counts and shares only: copied words, rare phrases, identifiers, and near-copies of other patients' notes. The
    report goes to corpus/leakage.json; an export needs it.

    Example: fednotes site corpus leakage --site our-site
    """
    from site_client.corpus_tables import print_leakage
    from site_client.folder import SiteFolder, secure_umask
    from site_client.leakage.identifiers import Planted
    from site_client.leakage.measure import measure_leakage
    from site_client.leakage.report import write_report
    from site_client.progress import Steps

    secure_umask()
    folder = SiteFolder(site)
    limits = folder.config().leakage
    strings = Planted.read(planted) if planted is not None else None
    report = measure_leakage(folder, planted=strings, held_out=held_out, steps=Steps(quiet=as_json))
    write_report(folder.corpus, report)
    if as_json:
        print(report.model_dump_json())
    else:
        print_leakage(report, limits)


@app.command("export")
def export(
    out: Annotated[Path, typer.Argument(help="File to write: .jsonl or .parquet.")],
    site: Site = Path(),
    arms: Annotated[
        list[str] | None,
        typer.Option("--arm", help="Arm to export; repeat for several. Without it, all.", metavar="NAME"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and write nothing.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file of that name.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write accepted rephrasings to a file, where the site allows it and the leakage report keeps to its limits.

    The file has texts with their model and prompt, in random order, and no key of a patient or note. Synthetic text
    is patient data all the same.

    Example: fednotes site corpus export synthetic.jsonl --site our-site
    """
    import json
    from dataclasses import asdict

    from site_client.corpus_tables import print_export
    from site_client.export import export_corpus
    from site_client.folder import SiteFolder, secure_umask

    secure_umask()
    report = export_corpus(SiteFolder(site), out, arms or (), dry_run=dry_run, overwrite=overwrite)
    if as_json:
        print(json.dumps(asdict(report)))
    else:
        print_export(report)
