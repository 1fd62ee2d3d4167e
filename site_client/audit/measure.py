"""An audit from end to end: the site's canaries and patients, one model or two, the synthetic corpus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from site_client.audit.canaries import are_in_store, draw_secret, read_canaries, sentence
from site_client.audit.extraction import find_planted
from site_client.audit.membership import choose_patients
from site_client.audit.model_facts import AuditOptions, Baseline, Material, audit_model, measure_baseline
from site_client.audit.report import AuditReport, UpperBound
from site_client.audit.synthetic import corpus_facts
from site_client.audit.target import load_target
from site_client.folder import SiteFolder
from site_client.progress import Steps
from site_client.store import iter_split


@dataclass(frozen=True, kw_only=True)
class Audited:
    """A model to audit.

    Attributes:
        path: its folder.
        upper_bound: what the accountant vouches for; None without an account.
    """

    path: Path
    upper_bound: UpperBound | None = None


def run_audit(
    folder: SiteFolder,
    models: Sequence[Audited],
    *,
    reference: Path | None = None,
    options: AuditOptions | None = None,
    steps: Steps | None = None,
) -> AuditReport:
    """Audit one model, or two side by side.

    Args:
        folder: a site with notes; canaries should have been planted before training.
        models: one or more; all meet the same patients, canaries and alternatives.
        reference: a model that was trained without these notes; what it needs for a text is subtracted.
        options: how much is measured.
        steps: shows how far it is.

    Raises:
        UsageError: no notes, or a folder without a causal model.
    """
    options, steps = options or AuditOptions(), steps or Steps(quiet=True)
    with steps.step("audit", "Reading notes"):
        material, remarks = _material(folder, options)
    baseline: Baseline | None = None
    if reference is not None:
        baseline = measure_baseline(load_target(reference), material, steps)
    audited = []
    for model, name in zip(models, _names([m.path for m in models]), strict=True):
        target = replace(load_target(model.path), name=name)
        own = reference is not None and model.path.resolve() == reference.resolve()
        audited.append(audit_model(target, model.upper_bound, material, None if own else baseline, steps))
        del target  # two large models need not fit at a time
    with steps.step("audit", "Searching rephrasings") as advance:
        corpus = corpus_facts(
            folder, material.canaries, options.planted, min_patients=material.min_patients, progress=advance
        )
    return AuditReport(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        min_patients=material.min_patients,
        canaries=len(material.canaries.canaries) if material.canaries else 0,
        repeats=material.canaries.repeats if material.canaries else 0,
        reference=reference and reference.resolve().name,
        models=tuple(audited),
        corpus=corpus,
        remarks=(*remarks, *_corpus_remarks(corpus is None, material.min_patients)),
    )


def _names(paths: Sequence[Path]) -> list[str]:
    """Names of the folders, with that of the folder around them where two would be called the same."""
    paths = [p.resolve() for p in paths]
    short = [p.name for p in paths]
    return short if len(set(short)) == len(short) else ["/".join(p.parts[-2:]) for p in paths]


def _material(folder: SiteFolder, options: AuditOptions) -> tuple[Material, list[str]]:
    remarks, canaries = [], read_canaries(folder)
    limit = folder.config().limits.min_patients
    keys: frozenset[str] = frozenset()
    if canaries is None:
        remarks.append(
            "No canary patients were planted before training, so there is no lower bound, no exposure and no "
            "extraction of secrets. Plant them before the next training: fednotes site privacy plant --canaries 256."
        )
    else:
        keys = frozenset(canaries.keys(folder.pseudonym_key(), included=True))
        if min(len(keys), len(canaries.canaries) - len(keys)) < limit:
            remarks.append(f"Fewer than {limit} canaries are in training, or left out, so no bound is shown.")
        if not are_in_store(folder, canaries):
            remarks.append(
                "The canaries are no longer in the note store (notes were ingested after planting). The numbers hold "
                "for models trained before that; put the canaries back with: fednotes site privacy plant."
            )
    patients, notes = options.patients, options.notes_per_patient
    trained = choose_patients(folder, "train", patients=patients, notes=notes, without=keys)
    held_out = choose_patients(folder, "test", patients=patients, notes=notes)
    for roster, what in ((trained, "training"), (held_out, "held-out")):
        if len(roster.notes) < limit:
            remarks.append(
                f"There are {'no' if not roster.notes else f'fewer than {limit}'} {what} patients at this site, so "
                "membership was not measured."
            )
    places = find_planted(iter_split(folder.notes, "train"), options.planted) if options.planted else []
    if options.planted is not None and len(places) < limit:
        remarks.append(
            f"Fewer than {limit} of the planted strings stand in training notes, so their extraction was not measured."
        )
        places = []
    return Material(
        canaries=canaries,
        alternatives=[sentence(draw_secret()) for _ in range(options.alternatives if canaries else 0)],
        trained=trained,
        held_out=held_out,
        places=places,
        min_patients=limit,
        options=options,
    ), remarks


def _corpus_remarks(missing: bool, min_patients: int) -> list[str]:
    if not missing:
        return []
    return [f"There are no rephrasings of {min_patients} patients or more, so the synthetic corpus was not searched."]
