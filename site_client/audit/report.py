"""The facts of a privacy audit: counts, shares and bounds. No text, no key, no secret and no identifier is in them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from privacy.accountant import PrivacySpend, SpendUnit
from protocols.durable import write_text
from protocols.errors import UsageError, WorkError

REPORT_FILE = "audit.json"


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)


class UpperBound(_Facts):
    """What the accountant vouches for.

    Attributes:
        unit: whose privacy it is about.
        value: epsilon for one such unit, over everything that the model was trained on.
        delta: at which it is stated.
    """

    unit: SpendUnit
    value: float
    delta: float

    @classmethod
    def of(cls, spend: PrivacySpend) -> Self:
        """Take the number that counts from an account.

        Args:
            spend: of everything that the model was trained on.
        """
        return cls(unit=spend.unit, value=spend.pld_bound, delta=spend.delta)


class OneRunFacts(_Facts):
    """The lower bound from canaries (arXiv 2305.08846).

    Attributes:
        canaries: that had a coin.
        guesses: ventured; half the canaries, fixed in advance.
        correct: of these.
        confidence: of the bound.
        delta: at which epsilon is stated.
        patient_level_lower_bound: epsilon that the guesses rule out anything below of, for one canary patient.
        patient_level_ceiling: what an audit of this size can show at most.
    """

    canaries: int
    guesses: int
    correct: int
    confidence: float
    delta: float
    patient_level_lower_bound: float
    patient_level_ceiling: float


class Spread(_Facts):
    """How exposures of a group of canaries are spread [bits].

    Attributes:
        count: canaries in the group.
        mean: of all.
        median: of all.
        max: of all.
        histogram: canaries with 0 to 1, 1 to 2, ... bits; the last bin holds the ceiling.
    """

    count: int
    mean: float
    median: float
    max: float
    histogram: tuple[int, ...]


class ExposureFacts(_Facts):
    """Exposure of canaries (Carlini et al. 2019).

    Attributes:
        alternatives: random secrets of the same form that each is ranked among.
        ceiling: largest exposure that can be seen [bits].
        chance: mean exposure of what the model does not know [bits].
        included: canaries in the training notes; None for a group below the minimum.
        left_out: the control; likewise.
    """

    alternatives: int
    ceiling: float
    chance: float
    included: Spread | None
    left_out: Spread | None


class ExtractionRow(_Facts):
    """Attempts to have strings written out.

    Attributes:
        what: secrets of included canaries, of those left out, or strings that were planted in real notes.
        known: what was given: words of a secret; for planted strings, tokens of the note before.
        tried: attempts.
        extracted: strings that came out verbatim.
    """

    what: Literal["included", "left_out", "planted"]
    known: int
    tried: int
    extracted: int


class ExtractionFacts(_Facts):
    """What the model writes out verbatim.

    Attributes:
        rows: greedy attempts, by what was given.
        samples: texts sampled without any part of a secret; 0 when left out.
        sampled_secrets: different secrets of included canaries among them.
    """

    rows: tuple[ExtractionRow, ...]
    samples: int
    sampled_secrets: int


class MembershipFacts(_Facts):
    """Telling training patients from held-out ones.

    Attributes:
        training_patients: looked at.
        held_out_patients: likewise.
        notes_per_patient: at most.
        reference: whether bits of a reference model were subtracted.
        auc: 0.5 is guessing, 1 is certainty.
        auc_low: 95 % interval, bootstrapped over patients.
        auc_high: likewise.
        tpr_at_1: share of training patients found with false alarms for 1 % of the others.
        tpr_at_10: likewise 10 %.
        roc: share found at false alarms of 0, 1, ... 100 %.
    """

    training_patients: int
    held_out_patients: int
    notes_per_patient: int
    reference: bool
    auc: float
    auc_low: float
    auc_high: float
    tpr_at_1: float
    tpr_at_10: float
    roc: tuple[float, ...]


class ModelAudit(_Facts):
    """Everything about one model; a part that could not be measured is None, and a remark says why.

    Attributes:
        name: of its folder.
        parameters: number of weights.
        upper_bound: of the accountant; None without differential privacy, or where no account says so.
        one_run: lower bound.
        exposure: of canaries.
        extraction: of canaries and planted strings.
        membership: of patients.
    """

    name: str
    parameters: int
    upper_bound: UpperBound | None = None
    one_run: OneRunFacts | None = None
    exposure: ExposureFacts | None = None
    extraction: ExtractionFacts | None = None
    membership: MembershipFacts | None = None


class CorpusFacts(_Facts):
    """What the rephrasings of the site carry on.

    Attributes:
        rephrasings: accepted ones.
        canaries_rephrased: canary patients with a rephrasing.
        secrets_surviving: secrets of included canaries that stand in some rephrasing, all words in a row.
        left_out_surviving: likewise of canaries that were left out; anything but 0 is a fault of this audit.
        planted: other strings that were looked for; None without any.
        planted_surviving: of these.
    """

    rephrasings: int
    canaries_rephrased: int
    secrets_surviving: int
    left_out_surviving: int
    planted: int | None
    planted_surviving: int | None


class AuditReport(_Facts):
    """Contents of ``audit.json``.

    Attributes:
        schema_version: of this form.
        created: UTC, ISO 8601.
        min_patients: groups below are not reported.
        canaries: planted at this site; 0 for none.
        repeats: notes of each canary.
        reference: name of the model whose bits were subtracted.
        models: the audited one, and the one beside it.
        corpus: synthetic text; None without any, or for too few patients.
        remarks: what was left out and why, in plain words.
    """

    schema_version: Literal[1] = 1
    created: str
    min_patients: int
    canaries: int
    repeats: int
    reference: str | None
    models: tuple[ModelAudit, ...]
    corpus: CorpusFacts | None
    remarks: tuple[str, ...]


def write_report(folder: Path, report: AuditReport) -> Path:
    """Write a report in the place of the one before.

    Args:
        folder: of the audit.
        report: to write.

    Returns:
        The file.

    Raises:
        StorageError: the disk is full.
    """
    path = folder / REPORT_FILE
    write_text(path, report.model_dump_json(indent=2) + "\n")
    return path


def read_report(folder: Path) -> AuditReport:
    """Read the report of an audit.

    Raises:
        UsageError: there is none.
        WorkError: it cannot be read.
    """
    path = folder / REPORT_FILE
    try:
        return AuditReport.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise UsageError(
            f"There is no audit in {folder}.", hint="make one with: fednotes site privacy audit MODEL"
        ) from None
    except (OSError, ValidationError):
        raise WorkError(f"The audit {path} cannot be read.", hint="make it anew") from None
