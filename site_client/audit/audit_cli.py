"""``fednotes site privacy plant`` and ``audit``: canary patients before training, and what a model knows after it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from protocols.errors import UsageError

if TYPE_CHECKING:
    from site_client.audit.report import AuditReport, UpperBound
    from site_client.folder import SiteFolder

Site = Annotated[Path, typer.Option("--site", help="Site folder.", metavar="DIR")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Compare = Annotated[
    Path | None, typer.Option("--compare", help="A second model beside it, e.g. without privacy.", metavar="MODEL2")
]
Reference = Annotated[
    Path | None,
    typer.Option("--reference", help="A model that never saw these notes, e.g. the initial one.", metavar="MODEL"),
]
Patients = Annotated[
    int, typer.Option("--patients", min=1, help="Patients on either side of the membership test.", metavar="N")
]
Planted = Annotated[
    Path | None, typer.Option("--planted", help="Strings planted in notes, one a line; never printed.", metavar="FILE")
]
Samples = Annotated[int, typer.Option("--samples", min=0, help="Texts to sample in search of secrets.", metavar="N")]
Study = Annotated[
    str | None,
    typer.Option(
        "--study", help="Study of the privacy ledger that trained MODEL; its epsilon stands beside.", metavar="NAME"
    ),
]
Out = Annotated[Path | None, typer.Option("--out", help="Folder of the report; SITE/audit without it.", metavar="DIR")]


def plant(
    canaries: Annotated[int, typer.Option("--canaries", help="How many; 256 make a good audit.", metavar="N")] = 256,
    repeats: Annotated[int, typer.Option("--repeats", help="Notes of each.", metavar="K")] = 1,
    site: Site = Path(),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen and change nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put invented patients among the training notes, so that an audit can tell what a model remembers.

    A coin decides for each whether it goes in. Plant before training and before rephrasing, once. The coins stay in
    keys/canaries.json; nobody who trains or receives the model may see them.

    Example: fednotes site privacy plant --canaries 256 --site our-site
    """
    from site_client.audit.canaries import plant as plant_canaries
    from site_client.folder import SiteFolder, secure_umask

    secure_umask()
    folder = SiteFolder(site)
    folder.config()
    report = plant_canaries(folder, canaries, repeats=repeats, dry_run=dry_run)
    if as_json:
        print(json.dumps(asdict(report)))
        return
    notes = report.canaries * report.repeats / 2
    done = "would be" if dry_run else "are"
    print(
        f"{report.canaries:,} canaries {done} {'put back' if report.restored else 'planted'}: about {notes:,.0f} "
        f"invented notes among {report.training_notes:,} training notes."
    )
    print("They cost the model a little: it learns random words. Keep them to a few per cent of the notes.")
    print(
        "Tell nobody outside which sites are planted, and train as ever: an audit counts only where a planted site "
        "cannot be told apart. Keep a copy of keys/canaries.json with your other keys."
    )


def audit(
    model: Annotated[Path, typer.Argument(help="Folder of a causal language model.", metavar="MODEL")],
    site: Site = Path(),
    compare: Compare = None,
    reference: Reference = None,
    patients: Patients = 200,
    planted: Planted = None,
    samples: Samples = 0,
    study: Study = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Measure what a model gives away about this site's patients, and write it down for a privacy officer.

    Canaries give a lower bound on epsilon and the exposure of secrets; real patients are told apart by how well the
    model predicts their notes. The report holds counts and shares, no text; it goes to audit.html and audit.json.

    Example: fednotes site privacy audit release --study city-hospitals --site our-site
    """
    from site_client.audit.measure import Audited, run_audit
    from site_client.audit.model_facts import AuditOptions
    from site_client.audit.page import write_page
    from site_client.audit.report import write_report
    from site_client.folder import SiteFolder, secure_umask
    from site_client.progress import Steps

    secure_umask()
    folder = SiteFolder(site)
    config = folder.config()
    for path in (model, compare, reference):
        if path is not None and not (path / "config.json").is_file():
            raise UsageError(f"{path} holds no model (no config.json).", hint="name the folder of a model")
    if compare is not None and compare.resolve() == model.resolve():
        raise UsageError(f"{model} would stand beside itself.", hint="give --compare another model")
    models = [Audited(path=model, upper_bound=upper_bound_of(folder, study))]
    if compare is not None:
        models.append(Audited(path=compare))
    options = AuditOptions(patients=patients, samples=samples, delta=config.privacy.delta, planted=_lines(planted))
    report = run_audit(folder, models, reference=reference, options=options, steps=Steps(quiet=as_json))
    target = out or folder.path / "audit"
    write_report(target, report)
    write_page(report, target / "audit.html", config.name)
    if as_json:
        print(report.model_dump_json())
    else:
        _print(report, target / "audit.html")


def upper_bound_of(folder: SiteFolder, study: str | None) -> UpperBound | None:
    """What the site's account vouches for a model of a study; None where no study is named.

    Args:
        folder: the site.
        study: that trained the model.

    Raises:
        UsageError: the ledger has no such study.
    """
    from site_client.audit.report import UpperBound
    from site_client.privacy_account import ledger_of

    if study is None:
        return None
    account = ledger_of(folder).account()
    if study not in account.studies:
        known = ", ".join(sorted(account.studies)) or "none"
        raise UsageError(f"The privacy ledger has no study {study!r}.", hint=f"it has: {known}")
    return UpperBound.of(account.spent_by(study))


def _lines(path: Path | None) -> tuple[str, ...] | None:
    if path is None:
        return None
    try:
        lines = tuple(dict.fromkeys(s.strip() for s in path.read_text(encoding="utf-8").splitlines() if s.strip()))
    except (OSError, UnicodeDecodeError):
        raise UsageError(
            f"The planted strings {path} cannot be read.", hint="give a UTF-8 text file with one string a line"
        ) from None
    if not lines:
        raise UsageError(f"There is no planted string in {path}.", hint="write one string a line")
    return lines


def _print(report: AuditReport, page: Path) -> None:
    from site_client.audit.wording import sentences

    for model in report.models:
        print(f"{model.name}:")
        for sentence in sentences(model):
            print(f"  {sentence}")
    for remark in report.remarks:
        print(remark)
    print(f"The report is {page}.")
