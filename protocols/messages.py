"""Every message that crosses the line between a hospital and the coordinator. Read this file first.

Requests come in: their fields are bounded so that a site can check them. Replies go out: each field of an ``Outbound``
model is listed with its bound and, in its description, the reason why it has to leave. The arrays that travel beside a
message are listed by a ``ParameterManifest``. ``tests/architecture/test_outbound_fields.py`` freezes the list, so that
a new field is a visible choice in a diff.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Context, Decimal
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

CONTRACT_VERSION = 1

Corpus = Literal["real", "synthetic", "real+synthetic", "real-repeated"]
StudyName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Round = Annotated[int, Field(ge=1, le=100_000)]
SiteNumber = Annotated[int, Field(ge=0, le=9_999)]
PrivacyUnit = Literal["patient", "note", "record"]
"""Whose addition or removal differential privacy hides: a patient with everything that is theirs, a note with its
rephrasings, or one packed row. Numbers for different units cannot be compared."""


class Message(BaseModel):
    """Base of all messages: frozen, no unlisted field, no NaN, and never a field's value in an error text."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)


class InnerRecipe(Message):
    """How a site trains between two exchanges; part of the plan, the same at every site.

    Attributes:
        steps: optimizer steps per round.
        rows: packed rows per step.
        row_length: tokens per packed row.
        peak_lr: AdamW learning rate after the warmup.
        warmup_steps: linear warmup, counted over all rounds.
        final_lr_fraction: cosine decay ends at this fraction of the peak, at the last step of the last round.
        weight_decay: decoupled weight decay on matrices.
        max_grad_norm: L2 bound on the gradient of a step.
        packing: "stream" fills every row; "patient" never lets two patients share a row.
        seed: of data order; never of privacy noise.
    """

    steps: Annotated[int, Field(ge=1, le=1_000_000)]
    rows: Annotated[int, Field(ge=1, le=65_536)]
    row_length: Annotated[int, Field(ge=16, le=131_072)]
    peak_lr: Annotated[float, Field(gt=0, le=1)]
    warmup_steps: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    final_lr_fraction: Annotated[float, Field(ge=0, le=1)] = 0.1
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.1
    max_grad_norm: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    packing: Literal["stream", "patient"] = "stream"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    @property
    def tokens_per_step(self) -> int:
        """Tokens of a step whose rows are all full."""
        return self.rows * self.row_length


class PrivacyRecipe(Message):
    """Differential privacy that a plan asks for. The site's own policy bounds it and fixes unit and delta.

    Attributes:
        unit: what the plan believes to be protected; a site whose account is for another unit refuses.
        target_epsilon: what one unit may lose over all rounds of the study, at the site's delta; noise is calibrated
            for it. Rounds that are asked for again from other weights cost more, up to the site's own limit.
        sampling_rate: chance of a unit to enter a step, independently of all others (Poisson sampling).
        max_records: packed rows of a unit used in a step; more are sampled, fewer all used.
        max_grad_norm: L2 bound on the gradient of a unit (clipping).
    """

    unit: PrivacyUnit = "patient"
    target_epsilon: Annotated[float, Field(gt=0, le=1_000)]
    sampling_rate: Annotated[float, Field(gt=0, le=1)]
    max_records: Annotated[int, Field(ge=1, le=65_536)] = 4
    max_grad_norm: Annotated[float, Field(gt=0, le=1e6)] = 1.0


def require_units_apart(recipe: InnerRecipe, corpus: Corpus, privacy: PrivacyRecipe | None) -> None:
    """Refuse differential privacy where one patient's rows depend on another's: clipping could not tell them apart.

    Raises:
        ValueError: the packing, or a corpus whose repetitions are dealt out over all patients.
    """
    if privacy is None:
        return
    if recipe.packing != "patient":
        raise ValueError("differential privacy needs packing 'patient'")
    if corpus == "real-repeated":
        raise ValueError("corpus 'real-repeated' makes one patient's rows depend on others': no differential privacy")


class TrainRequest(Message):
    """Coordinator to site: train from these weights for one round. The weights travel beside it."""

    study: StudyName
    round: Round
    rounds: Round
    corpus: Corpus
    recipe: InnerRecipe
    privacy: PrivacyRecipe | None = None

    @model_validator(mode="after")
    def _round_is_planned(self) -> Self:
        if self.round > self.rounds:
            raise ValueError("round is behind the last one")
        return self

    @model_validator(mode="after")
    def _patients_share_no_row(self) -> Self:
        require_units_apart(self.recipe, self.corpus, self.privacy)
        return self


class HelloRequest(Message):
    """Coordinator to site: who are you, and do we speak the same contract?"""

    contract_version: Annotated[int, Field(ge=1, le=1_000)] = CONTRACT_VERSION


class Outbound(Message):
    """Base of everything that a site says. Numbers only: text fields would be a way out for text."""


def _four_digits(value: float) -> float:
    # The rest of a float's digits is room for a hidden message.
    return round(value, 4)


# A privacy bound is never rounded to the better side.
def _four_digits_up(value: float) -> float:
    return float(Decimal(repr(value)).quantize(Decimal("0.0001"), rounding=ROUND_CEILING))


def _two_digits_up(value: float) -> float:
    return float(Context(prec=2, rounding=ROUND_CEILING).create_decimal(repr(value)))


Epsilon = Annotated[float, Field(ge=0, le=1e6), AfterValidator(_four_digits_up)]


class HelloReply(Outbound):
    """Site to coordinator: the answer to HelloRequest."""

    site: SiteNumber = Field(description="Ties the connection to an enrolled site, so that refusals can be named.")
    contract_version: Annotated[int, Field(ge=1, le=1_000)] = Field(
        description="A site with another contract is left out instead of misunderstood."
    )


class TrainReply(Outbound):
    """Site to coordinator: what one round of local training gave. The update travels beside it."""

    round: Round = Field(description="A late reply must not be counted in another round.")
    train_tokens: Annotated[int, Field(ge=0, le=10**12)] = Field(
        description="Tokens trained on in this round, to compare arms at equal tokens; set by the recipe, or else "
        "rounded to the nearest 1,000."
    )
    corpus_tokens: Annotated[int, Field(ge=0, le=10**15, multiple_of=1_000)] = Field(
        description="Size of the training corpus, the weight in the average; rounded to the nearest 1,000 tokens."
    )
    train_loss: Annotated[float, Field(ge=0, le=100), AfterValidator(_four_digits)] = Field(
        description="Mean loss of the round [nats/token], to see divergence; rounded to 4 digits."
    )
    validation_bits: Annotated[int, Field(ge=0, le=10**13)] = Field(
        description="Bits that the received weights need for so many bytes of validation notes; 0 if withheld."
    )
    validation_bytes: Annotated[int, Field(ge=0, le=10**13, multiple_of=1_000)] = Field(
        description="UTF-8 bytes of those notes, below the bits in bits per byte; rounded to the nearest 1,000."
    )


class PrivateTrainReply(Outbound):
    """Site to coordinator: what one round under differential privacy gave. The update travels beside it.

    Nothing in it depends on the notes: the numbers follow from the plan and the site's public settings. Loss, token
    counts and validation do depend on them; they were not paid for and stay at the site.
    """

    round: Round = Field(description="A late reply must not be counted in another round.")
    noise_multiplier: Annotated[float, Field(gt=0, le=1e6), AfterValidator(_four_digits)] = Field(
        description="Noise of a step over the clipping norm, to see how noisy the average is; rounded to 4 digits."
    )
    delta: Annotated[float, Field(gt=0, lt=1), AfterValidator(_two_digits_up)] = Field(
        description="Delta at which epsilon is stated; set by the site's policy; rounded up to 2 digits."
    )


class PatientLevelReply(PrivateTrainReply):
    """The unit is the patient."""

    patient_level_epsilon: Epsilon = Field(
        description="Spent by this study so far at this site: what one patient may lose; rounded up to 4 digits."
    )


class NoteLevelReply(PrivateTrainReply):
    """The unit is the note: a patient with many notes is protected less."""

    note_level_epsilon: Epsilon = Field(
        description="Spent by this study so far at this site: what one note may lose; rounded up to 4 digits."
    )


class RecordLevelReply(PrivateTrainReply):
    """The unit is the packed row: the weakest promise."""

    record_level_epsilon: Epsilon = Field(
        description="Spent by this study so far at this site: what one packed row may lose; rounded up to 4 digits."
    )


PRIVATE_REPLIES: dict[PrivacyUnit, type[PrivateTrainReply]] = {
    "patient": PatientLevelReply,
    "note": NoteLevelReply,
    "record": RecordLevelReply,
}


def reply_kind(privacy: PrivacyRecipe | None) -> type[TrainReply] | type[PrivateTrainReply]:
    """Which reply belongs to a request; the unit is part of the kind, so that numbers for two units cannot be mixed."""
    return TrainReply if privacy is None else PRIVATE_REPLIES[privacy.unit]


def outbound_kinds() -> list[type[Outbound]]:
    """Every kind of message that a site may send, by name."""

    def leaves(kind: type[Outbound]) -> list[type[Outbound]]:
        below = kind.__subclasses__()
        return [leaf for sub in below for leaf in leaves(sub)] if below else [kind]

    return sorted(leaves(Outbound), key=lambda kind: kind.__name__)


class SiteLimits(Message):
    """What a site allows to leave, from its own configuration; a run cannot loosen it.

    Attributes:
        min_patients: no update is made from the notes of fewer patients, and no number about fewer leaves.
        max_update_norm: L2 bound on a whole update.
    """

    min_patients: Annotated[int, Field(ge=1, le=1_000_000)] = 11
    max_update_norm: Annotated[float, Field(gt=0, le=1e9)] = 1_000.0
