"""The audit as one HTML page for a privacy officer: no network, no script, no text of any note."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from protocols.durable import whole_file
from site_client.audit.explanations import EXPLANATIONS, Explanation
from site_client.audit.pictures import bounds_chart, exposure_chart, membership_chart
from site_client.audit.report import AuditReport, CorpusFacts, ModelAudit, Spread
from site_client.audit.wording import is_refuted, sentences, verdict
from site_client.show.charts import Picture, count, percent, plural, tidy

_WHAT = {"included": "secrets in training", "left_out": "secrets left out (control)", "planted": "planted strings"}


@dataclass(frozen=True, slots=True)
class Table:
    """One table; the first cell of a row is its heading, the others are numbers.

    Attributes:
        caption: what it shows.
        columns: headings.
        rows: cells as text.
    """

    caption: str
    columns: list[str]
    rows: list[list[str]]


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the page.

    Attributes:
        key: anchor.
        words: title and explanations.
        picture: None where nothing could be drawn.
        table: None where nothing was measured.
    """

    key: str
    words: Explanation
    picture: Picture | None
    table: Table | None


def write_page(report: AuditReport, path: Path, site_name: str) -> None:
    """Write the page; a reader of ``path`` sees the old page or the whole new one, never a part.

    Args:
        report: of the audit.
        path: the file to write or replace, for its owner alone.
        site_name: what the hospital calls itself.

    Raises:
        StorageError: it cannot be written.
    """
    page = render_page(report, site_name).encode("utf-8", errors="replace")
    with whole_file(path) as partial:
        partial.write_bytes(page)


def render_page(report: AuditReport, site_name: str) -> str:
    """Return the page as HTML; equal arguments give an equal page."""
    environment = Environment(
        loader=PackageLoader("site_client.audit", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    report = _tidied(report)
    environment.filters["glue"] = lambda text: text.replace(" %", "\N{NO-BREAK SPACE}%").replace(
        "ε = ", "ε\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}"
    )
    return environment.get_template("page.html.j2").render(
        site=tidy(site_name),
        verdict=tidy(verdict(report)),
        grave=any(is_refuted(m) for m in report.models),
        findings=[(m.name, sentences(m)) for m in report.models],
        facts=_facts(report),
        sections=_sections(report),
        remarks=report.remarks,
        created=report.created,
        min_patients=report.min_patients,
    )


def _tidied(report: AuditReport) -> AuditReport:
    """Names of folders as they can be shown; an SVG cannot hold unprintable characters."""
    models = tuple(m.model_copy(update={"name": tidy(m.name)}) for m in report.models)
    return report.model_copy(update={"models": models})


def _facts(report: AuditReport) -> list[tuple[str, str]]:
    facts = [
        (title, f"{m.name}, {count(m.parameters)} weights")
        for title, m in zip(("Model", "Beside it"), report.models, strict=False)
    ]
    notes = plural(report.repeats, "note")
    facts.append(("Canary patients", f"{count(report.canaries)}, {notes} each" if report.canaries else "none"))
    membership = next((m.membership for m in report.models if m.membership), None)
    if membership:
        sizes = count(membership.training_patients), count(membership.held_out_patients)
        facts.append(("Patients compared", f"{sizes[0]} trained on, {sizes[1]} held out"))
    facts.append(("Reference model", tidy(report.reference) if report.reference else "none"))
    return facts


def _sections(report: AuditReport) -> list[Section]:
    shown: dict[str, tuple[Picture | None, Table | None]] = {
        "bounds": (bounds_chart(report), _bounds_table(report)),
        "exposure": (exposure_chart(report), _exposure_table(report)),
        "extraction": (None, _extraction_table(report)),
        "membership": (membership_chart(report), _membership_table(report)),
        "corpus": (None, _corpus_table(report.corpus) if report.corpus else None),
    }
    return [
        Section(key=key, words=EXPLANATIONS[key], picture=picture, table=table)
        for key, (picture, table) in shown.items()
        if picture or table
    ]


def _bounds_table(report: AuditReport) -> Table | None:
    rows = [
        [
            m.name,
            f"{m.one_run.correct:,} of {m.one_run.guesses:,}",
            f"{m.one_run.patient_level_lower_bound:.2f}",
            f"{m.one_run.patient_level_ceiling:.2f}",
            _upper(m),
            f"{m.one_run.delta:.0e}",
        ]
        for m in report.models
        if m.one_run
    ]
    columns = ["model", "guesses right", "ε at least", "audit can show", "ε at most", "δ"]
    return Table("Bounds on ε for one patient, 95 % confidence", columns, rows) if rows else None


def _upper(model: ModelAudit) -> str:
    bound = model.upper_bound
    return "no guarantee" if bound is None else f"{bound.value:.2f} per {bound.unit}"


def _exposure_table(report: AuditReport) -> Table | None:
    rows = [
        [f"{m.name}: {what}", *_spread(spread)]
        for m in report.models
        if m.exposure
        for what, spread in (("in training", m.exposure.included), ("left out", m.exposure.left_out))
    ]
    return Table("Exposure [bits]", ["secrets", "number", "mean", "median", "greatest"], rows) if rows else None


def _spread(spread: Spread | None) -> list[str]:
    if spread is None:
        return ["too few", "-", "-", "-"]
    return [f"{spread.count:,}", f"{spread.mean:.2f}", f"{spread.median:.2f}", f"{spread.max:.2f}"]


def _extraction_table(report: AuditReport) -> Table | None:
    models = [(m.name, m.extraction) for m in report.models if m.extraction]
    cells: dict[tuple[str, str], list[str]] = {}
    for _, facts in models:  # every model meets the same strings, so the rows are the same
        for row in facts.rows:
            given = f"{row.known} tokens before" if row.what == "planted" else plural(row.known, "word")
            came_out = f"{row.extracted:,} of {row.tried:,} ({percent(row.extracted, row.tried)})"
            cells.setdefault((_WHAT[row.what], given), []).append(came_out)
        if facts.samples:
            key = (f"secrets among {plural(facts.samples, 'sampled text')}", "nothing")
            cells.setdefault(key, []).append(f"{facts.sampled_secrets:,}")
    rows = [[what, given, *found] for (what, given), found in cells.items()]
    columns = ["what", "given", *(name for name, _ in models)]
    return Table("Written out verbatim", columns, rows) if rows else None


def _membership_table(report: AuditReport) -> Table | None:
    rows = [
        [
            m.name,
            f"{f.auc:.3f}",
            f"{f.auc_low:.3f} to {f.auc_high:.3f}",
            f"{100 * f.tpr_at_1:.1f} %",
            f"{100 * f.tpr_at_10:.1f} %",
        ]
        for m in report.models
        if (f := m.membership)
    ]
    columns = ["model", "area", "95 % interval", "found at 1 % false alarms", "found at 10 %"]
    return Table("Membership by patient", columns, rows) if rows else None


def _corpus_table(facts: CorpusFacts) -> Table:
    rows = [
        ["rephrasings searched", f"{facts.rephrasings:,}"],
        ["canary patients among their sources", f"{facts.canaries_rephrased:,}"],
        ["secrets that survive", f"{facts.secrets_surviving:,}"],
        ["secrets left out that stand there (control)", f"{facts.left_out_surviving:,}"],
    ]
    if facts.planted is not None and facts.planted_surviving is not None:
        rows.append(["planted strings that survive", f"{facts.planted_surviving:,} of {facts.planted:,}"])
    return Table("What rephrasings carry on", ["", "number"], rows)
