"""What a simulation found, as typed facts: the schema of ``results.json`` and the only input of the report page."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from protocols.messages import Corpus as Corpus  # the charts take it from here
from protocols.messages import PrivacyUnit

SCHEMA_VERSION: Literal[1] = 1
PRIVATE = "federated-dp"
"""Name of the arm under differential privacy."""


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Interval(_Facts):
    """A point estimate with its 95 % interval, bootstrapped over patients."""

    value: float
    ci_low: float
    ci_high: float


class RoundFacts(_Facts):
    """What one round of a federated arm did.

    Attributes:
        round: counted from 1.
        train_loss: token-weighted mean over the sites [nats/token]; None under differential privacy, where no site
            may tell.
        bits_per_byte: of the model that *entered* the round on each site's validation notes, by site, and "all" for
            the sites that reported together; empty where no site had enough patients to report.
        refused: error code by site, for the replies that were not used.
        bytes_up: payload of the accepted replies of all sites together, without framing [bytes].
        bytes_down: payload of the requests to all sites together, without framing [bytes].
        seconds: wall time of the round.
        patient_level_epsilon: spent by this study after the round, by site; empty without differential privacy.
        note_level_epsilon: the same where the unit is the note.
        record_level_epsilon: the same where the unit is the packed row.
        noise_multiplier: by site; empty without differential privacy.
        site_level_epsilon: what central noise promises hospitals after the round; None without central noise.
    """

    round: int
    train_loss: float | None
    bits_per_byte: dict[str, float]
    refused: dict[str, str]
    bytes_up: int
    bytes_down: int
    seconds: float
    patient_level_epsilon: dict[str, float] = {}
    note_level_epsilon: dict[str, float] = {}
    record_level_epsilon: dict[str, float] = {}
    noise_multiplier: dict[str, float] = {}
    site_level_epsilon: float | None = None


class Arm(_Facts):
    """One trained model: who trained it, on which corpus, and how well it predicts notes that nobody trained on.

    Attributes:
        name: "federated", "federated-dp", "pooled" or "site:<name>".
        corpus: what was trained on. "real-repeated" is the control of "real+synthetic": each rephrasing is replaced
            by the real chunk that it was made from.
        bits_per_byte: by evaluation set: each site's held-out notes by site name, "all" (their union), and the files
            given by ``--eval`` under their own names.
        train_tokens: tokens that contributed to the loss. Equal over arms when rows are packed as a stream; with
            patient packing the number of rows is equal, and how much of them is padding differs. Under differential
            privacy, the expected number: the true one is secret.
        corpus_tokens: size of the training corpus, counted once [tokens].
        seconds: training time.
        loss_curve: (train tokens so far, loss in nats/token) pairs.
        rounds: by round; empty for arms that are not federated.
    """

    name: str
    corpus: Corpus
    bits_per_byte: dict[str, Interval]
    train_tokens: int
    corpus_tokens: int
    seconds: float
    loss_curve: list[tuple[int, float]] = Field(default_factory=list)
    rounds: list[RoundFacts] = Field(default_factory=list)


class SiteFacts(_Facts):
    """One simulated hospital.

    Attributes:
        notes: kept notes by split ("train", "validation", "test").
        patients: patients by split.
        note_types: kept notes by note type.
        real_tokens: training tokens of real notes.
        synthetic_tokens: training tokens of accepted rephrasings.
        dropped: records that were left out, by reason.
    """

    name: str
    notes: dict[str, int]
    patients: dict[str, int]
    note_types: dict[str, int]
    real_tokens: int
    synthetic_tokens: int
    dropped: dict[str, int]


class GateFacts(_Facts):
    """Verdicts of the quality gates over all sites.

    Attributes:
        engine: which engine wrote the rephrasings ("rules" is no language model).
        judged: rephrasings judged.
        accepted: rephrasings that passed every gate.
        rejected: by gate name; a rephrasing counts for the first gate that it fails.
        by_site: {site: {"judged", "accepted"}}.
        by_arm: the same by model and prompt.
    """

    engine: str
    judged: int
    accepted: int
    rejected: dict[str, int]
    by_site: dict[str, dict[str, int]]
    by_arm: dict[str, dict[str, int]] = Field(default_factory=dict)


class WireFacts(_Facts):
    """Payload that crossed the hospitals' borders, averaged over the rounds of all federated arms [bytes].

    Without framing; upwards, of accepted replies.
    """

    bytes_up_per_round: int
    bytes_down_per_round: int


class PrivacyFacts(_Facts):
    """What differential privacy promised in this run, and what it cost.

    Numbers for patients (or notes, or rows) and numbers for hospitals are about different things and are never joined.

    Attributes:
        unit: whose privacy: "patient", "note" or "record".
        target_epsilon: asked for, for one unit at its hospital over the whole study.
        delta: at which.
        patient_level_epsilon: spent at the hospital that spent most; None where the unit is another.
        note_level_epsilon: the same for notes.
        record_level_epsilon: the same for packed rows.
        by_site: spent at each hospital, for the same unit.
        noise_multiplier: by hospital.
        sampling_rate: chance of a unit to enter a step.
        max_records: rows of a unit in a step.
        max_grad_norm: bound on a unit's gradient.
        steps: in all rounds together.
        site_level_epsilon: what central noise promises a *hospital*; None without central noise.
        site_level_delta: at which.
    """

    unit: PrivacyUnit
    target_epsilon: float
    delta: float
    patient_level_epsilon: float | None = None
    note_level_epsilon: float | None = None
    record_level_epsilon: float | None = None
    by_site: dict[str, float]
    noise_multiplier: dict[str, float]
    sampling_rate: float
    max_records: int
    max_grad_norm: float
    steps: int
    site_level_epsilon: float | None = None
    site_level_delta: float | None = None


class Results(_Facts):
    """Everything that ``fednotes simulate`` found."""

    schema_version: Literal[1] = SCHEMA_VERSION
    fednotes_version: str
    scenario: str
    created: str = Field(description="UTC time, ISO 8601")
    seed: int
    model: str = Field(description="size name of the model")
    parameters: int = Field(description="number of trained weights")
    arms: list[Arm]
    sites: list[SiteFacts]
    dropped: dict[str, int] = Field(description="records left out of the whole run, by reason")
    gates: GateFacts
    wire: WireFacts
    privacy: PrivacyFacts | None = None
    timing_seconds: dict[str, float] = Field(description="wall time by stage")
