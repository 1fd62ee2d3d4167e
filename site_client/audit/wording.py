"""The findings of an audit as plain sentences, for the terminal and the page alike."""

from __future__ import annotations

from site_client.audit.report import AuditReport, ExtractionFacts, ModelAudit, OneRunFacts, UpperBound
from site_client.show.charts import plural

_UNITS = {"patient": "one patient", "note": "one note", "record": "one packed row of text", "site": "one hospital"}


def sentences(model: ModelAudit) -> list[str]:
    """What was found about one model, the gravest first."""
    found = [*bound_sentences(model)]
    if model.exposure and model.exposure.included:
        inside, outside = model.exposure.included, model.exposure.left_out
        beside = f", that of the ones left out {outside.median:.1f}" if outside else ""
        found.append(
            f"Half of the secrets in training have an exposure of {inside.median:.1f} bits or more{beside}; chance is "
            f"1 bit, the most that can be seen {model.exposure.ceiling:.0f}."
        )
    if model.extraction:
        found += extraction_sentences(model.extraction)
    if model.membership:
        m = model.membership
        found.append(
            f"Given one training patient and one other, the notes tell which is which in {100 * m.auc:.0f} of 100 "
            f"pairs (95 % interval {100 * m.auc_low:.0f} to {100 * m.auc_high:.0f}; guessing is 50)."
        )
    return found


def bound_sentences(model: ModelAudit) -> list[str]:
    """Lower and upper bound on epsilon, and whether they contradict each other."""
    found = []
    if is_refuted(model):
        found.append(
            "The audit REFUTES the accountant: more was lost than it vouches for. Do not release this model; have the "
            "noise, the clipping and the sampling of its training checked."
        )
    if model.one_run:
        found.append(lower_sentence(model.one_run))
    found.append(upper_sentence(model.upper_bound))
    return found


def lower_sentence(facts: OneRunFacts) -> str:
    """What the canaries show."""
    guesses = (
        f"{facts.correct} of {plural(facts.guesses, 'guess').replace('guesss', 'guesses')} about canaries were right"
    )
    if facts.patient_level_lower_bound == 0:
        return f"{guesses}, which may be chance: this audit sees no privacy loss."
    return (
        f"{guesses}: training lost at least ε = {facts.patient_level_lower_bound:.2f} for a patient "
        f"({100 * facts.confidence:.0f} % confidence; an audit of this size can show {facts.patient_level_ceiling:.2f} "
        "at most)."
    )


def upper_sentence(bound: UpperBound | None) -> str:
    """What the accountant vouches for."""
    if bound is None:
        return "There is no guarantee: no study of the site's privacy ledger was named for this model."
    return (
        f"The accountant vouches for ε = {bound.value:.2f} at δ = {bound.delta:.0e} for {_UNITS[bound.unit]}, at most."
    )


def is_refuted(model: ModelAudit) -> bool:
    """Whether the lower bound lies above the upper one. Only bounds for a patient can be compared."""
    lower, upper = model.one_run, model.upper_bound
    return bool(lower and upper and upper.unit == "patient" and lower.patient_level_lower_bound > upper.value)


def extraction_sentences(facts: ExtractionFacts) -> list[str]:
    """What came out of the model, where most was given: what does not come out then does not with less."""
    last = {row.what: row for row in facts.rows}
    found = []
    if "included" in last:
        row, control = last["included"], last.get("left_out")
        beside = f", and {control.extracted:,} of {control.tried:,} that were left out" if control else ""
        found.append(
            f"Given {row.known} of a secret's six words, the model writes out the rest of {row.extracted:,} of "
            f"{row.tried:,} secrets in training{beside}."
        )
    if "planted" in last:
        row = last["planted"]
        found.append(
            f"Given the {row.known} tokens before it, the model writes out {row.extracted:,} of {row.tried:,} strings "
            "that were planted in notes."
        )
    if facts.samples:
        found.append(
            f"In {plural(facts.samples, 'sampled text')} it wrote {plural(facts.sampled_secrets, 'secret')} in "
            "training without being given any of them."
        )
    return found


def verdict(report: AuditReport) -> str:
    """The one sentence to read first."""
    refuted = [m.name for m in report.models if is_refuted(m)]
    if refuted:
        return f"The audit refutes the privacy claim of {' and '.join(refuted)}: do not release."
    leaking = [m.name for m in report.models if leaks(m)]
    if len(leaking) == len(report.models):
        return (
            f"{_both(leaking)} remember{'s' if len(leaking) == 1 else ''} training patients, and this audit can see it."
        )
    if leaking:
        rest = [m.name for m in report.models if m.name not in leaking]
        return f"{_both(leaking)} remembers training patients; no trace of that was found in {_both(rest)}."
    if not any(m.one_run or m.membership for m in report.models):
        return "Nothing could be measured; the remarks below say why."
    return f"No trace of training patients was found in {_both([m.name for m in report.models])}. That is no proof."


def leaks(model: ModelAudit) -> bool:
    """Whether any part of the audit is beyond chance."""
    rows = model.extraction.rows if model.extraction else ()
    return bool(
        (model.one_run and model.one_run.patient_level_lower_bound > 0)
        or (model.membership and model.membership.auc_low > 0.5)
        or any(r.extracted for r in rows if r.what == "included")
    )


def _both(names: list[str]) -> str:
    return " and ".join(names)
