"""The facts about one model: it is confronted with canaries, alternatives, planted strings and patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from privacy.policy import PrivacyPolicy
from site_client.audit.canaries import Canary, CanaryFile
from site_client.audit.exposure import CHANCE_BITS, ceiling, exposures
from site_client.audit.extraction import (
    KNOWN_WORDS,
    PREFIX_TOKENS,
    Tried,
    extract_canaries,
    extract_planted,
    sample_secrets,
)
from site_client.audit.membership import Roster, tell_apart
from site_client.audit.one_run import CONFIDENCE, audit_ceiling, empirical_lower_bound, guess
from site_client.audit.report import (
    ExposureFacts,
    ExtractionFacts,
    ExtractionRow,
    MembershipFacts,
    ModelAudit,
    OneRunFacts,
    Spread,
    UpperBound,
)
from site_client.audit.target import Target
from site_client.progress import Steps


@dataclass(frozen=True, kw_only=True)
class AuditOptions:
    """How much is measured.

    Attributes:
        patients: looked at on either side of the membership test, at most.
        notes_per_patient: read, at most.
        alternatives: random secrets that each canary is ranked among.
        samples: texts sampled in search of secrets; 0 for none.
        delta: at which the lower bound is stated where no account says so.
        planted: strings that were planted in real notes; None without any.
    """

    patients: int = 200
    notes_per_patient: int = 4
    alternatives: int = 1023
    samples: int = 0
    delta: float = PrivacyPolicy().delta
    planted: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Material:
    """What every model is confronted with.

    Attributes:
        canaries: of the site; None without any.
        alternatives: sentences with fresh secrets.
        trained: patients of the training split, canaries left out.
        held_out: patients of the test split.
        places: planted strings with the text before them.
        min_patients: groups below are not reported.
        options: how much is measured.
    """

    canaries: CanaryFile | None
    alternatives: list[str]
    trained: Roster
    held_out: Roster
    places: list[tuple[str, str]]
    min_patients: int
    options: AuditOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What a model without these patients needs for the same texts: how hard they are by themselves.

    Attributes:
        canaries: bits of each canary's sentence.
        patients: bits per byte of the training patients, then of the held-out ones.
    """

    canaries: np.ndarray
    patients: np.ndarray


def measure_baseline(target: Target, material: Material, steps: Steps) -> Baseline:
    """Read the audit's texts with a reference model.

    Args:
        target: the reference.
        material: names canaries and patients.
        steps: shows how far it is.
    """
    canaries = material.canaries.canaries if material.canaries else ()
    with steps.step("audit", f"Canaries, {target.name} (reference)", total=len(canaries)) as advance:
        bits = np.array([s.bits for s in target.score([c.sentence for c in canaries], advance)])
    return Baseline(canaries=bits, patients=_patient_bits(target, material, steps))


def audit_model(
    target: Target, upper: UpperBound | None, material: Material, baseline: Baseline | None, steps: Steps
) -> ModelAudit:
    """Measure everything about one model.

    Args:
        target: the model.
        upper: what the accountant vouches for.
        material: what it is confronted with.
        baseline: of a reference model; None without one.
        steps: shows how far it is.
    """
    one_run, exposure = None, None
    if material.canaries is not None:
        texts = [c.sentence for c in material.canaries.canaries] + material.alternatives
        with steps.step("audit", f"Canaries, {target.name}", total=len(texts)) as advance:
            bits = np.array([s.bits for s in target.score(texts, advance)])
        coins = [c.included for c in material.canaries.canaries]
        exposure = _exposure_facts(bits[: len(coins)], bits[len(coins) :], coins, material.min_patients)
        if exposure.included and exposure.left_out:
            gained = (0.0 if baseline is None else baseline.canaries) - bits[: len(coins)]
            one_run = _one_run_facts(gained, coins, upper.delta if upper else material.options.delta)
    return ModelAudit(
        name=target.name,
        parameters=target.parameters,
        upper_bound=upper,
        one_run=one_run,
        exposure=exposure,
        extraction=_extraction_facts(target, material, steps),
        membership=_membership_facts(target, material, baseline, steps),
    )


def _exposure_facts(
    own: np.ndarray, alternatives: np.ndarray, coins: Sequence[bool], min_patients: int
) -> ExposureFacts:
    groups = [own[np.array(coins) == wanted] for wanted in (True, False)]
    included, left_out = (_spread(group.tolist(), alternatives.tolist(), min_patients) for group in groups)
    return ExposureFacts(
        alternatives=len(alternatives),
        ceiling=ceiling(len(alternatives)),
        chance=CHANCE_BITS,
        included=included,
        left_out=left_out,
    )


def _one_run_facts(scores: np.ndarray, coins: Sequence[bool], delta: float) -> OneRunFacts:
    found = guess(scores.tolist(), coins, len(coins) // 2)
    return OneRunFacts(
        canaries=found.canaries,
        guesses=found.guesses,
        correct=found.correct,
        confidence=CONFIDENCE,
        delta=delta,
        patient_level_lower_bound=empirical_lower_bound(found.correct, found.guesses, found.canaries, delta),
        patient_level_ceiling=audit_ceiling(found.guesses, found.canaries, delta),
    )


def _spread(secret_bits: Sequence[float], alternative_bits: Sequence[float], min_patients: int) -> Spread | None:
    if len(secret_bits) < min_patients:
        return None
    values = np.array(exposures(secret_bits, alternative_bits))
    bins = max(1, int(np.ceil(ceiling(len(alternative_bits)))))
    histogram = np.histogram(np.clip(values, 0, bins - 1e-9), bins=bins, range=(0, bins))[0]
    return Spread(
        count=len(values),
        mean=float(values.mean()),
        median=float(np.median(values)),
        max=float(values.max()),
        histogram=tuple(map(int, histogram)),
    )


def _extraction_facts(target: Target, material: Material, steps: Steps) -> ExtractionFacts | None:
    canaries = material.canaries.canaries if material.canaries else ()
    groups: dict[str, list[Canary]] = {
        "included": [c for c in canaries if c.included],
        "left_out": [c for c in canaries if not c.included],
    }
    rows, sampled = [], 0
    samples = material.options.samples if len(groups["included"]) >= material.min_patients else 0
    total = len(KNOWN_WORDS) * len(canaries) + len(PREFIX_TOKENS) * len(material.places) + samples
    with steps.step("audit", f"Extraction, {target.name}", total=total) as advance:
        for what, group in groups.items():
            if len(group) >= material.min_patients:
                rows += [_row(what, tried) for tried in extract_canaries(target, group, advance)]
        if samples:
            sampled = sample_secrets(target, groups["included"], samples, advance)
        if material.places:
            rows += [_row("planted", tried) for tried in extract_planted(target, material.places, advance)]
    return ExtractionFacts(rows=tuple(rows), samples=samples, sampled_secrets=sampled) if rows else None


def _row(what: str, tried: Tried) -> ExtractionRow:
    return ExtractionRow.model_validate({"what": what, **asdict(tried)})


def _membership_facts(
    target: Target, material: Material, baseline: Baseline | None, steps: Steps
) -> MembershipFacts | None:
    sizes = [len(material.trained.notes), len(material.held_out.notes)]
    if min(sizes) < material.min_patients:
        return None
    bits = _patient_bits(target, material, steps)
    if baseline is not None:
        bits = bits - baseline.patients
    curve = tell_apart(bits[: sizes[0]], bits[sizes[0] :])
    return MembershipFacts(
        training_patients=sizes[0],
        held_out_patients=sizes[1],
        notes_per_patient=material.options.notes_per_patient,
        reference=baseline is not None,
        **asdict(curve),
    )


def _patient_bits(target: Target, material: Material, steps: Steps) -> np.ndarray:
    """Bits per byte of the training patients, then of the held-out ones."""
    parts = []
    with steps.step("audit", f"Membership, {target.name}") as advance:
        for roster in (material.trained, material.held_out):
            parts.append(roster.per_patient(target.score(roster.texts, advance)))
    return np.concatenate(parts)
