"""The plan of a study: everything that the coordinator decides beforehand and the sites can read and approve."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from protocols.messages import (
    Corpus,
    Digest,
    InnerRecipe,
    Message,
    PrivacyRecipe,
    Round,
    SiteNumber,
    StudyName,
    require_units_apart,
)
from protocols.signing import canonical, is_signed, public_key, sign

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


class OuterRecipe(Message):
    """How the coordinator turns the averaged update into new weights.

    Attributes:
        name: "fedavg" adds ``lr`` times the average; "nesterov" is DiLoCo's outer optimizer (arXiv 2311.08105, sec. 2).
        lr: outer learning rate.
        momentum: Nesterov momentum; unused by "fedavg".
        weights: "tokens" weighs a site by the size of its corpus, "equal" counts every site once.
    """

    name: Literal["fedavg", "nesterov"] = "nesterov"
    lr: Annotated[float, Field(gt=0, le=10)] = 0.7
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weights: Literal["tokens", "equal"] = "tokens"


class CentralNoise(Message):
    """Noise that the coordinator adds to the average, to hide whether a *hospital* took part.

    It protects hospitals from whoever sees the model, not from the coordinator, and it is no part of what protects
    patients: its epsilon is hospital-level, stands in a column of its own, and is never joined with theirs.

    Attributes:
        max_site_norm: L2 bound on a site's update; longer ones are scaled down on arrival.
        noise_multiplier: standard deviation of the noise on the sum, in units of ``max_site_norm``.
        delta: at which the hospital-level epsilon is stated.
    """

    max_site_norm: Annotated[float, Field(gt=0, le=1e9)]
    noise_multiplier: Annotated[float, Field(gt=0, le=1e6)]
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5


class Plan(Message):
    """One study.

    Attributes:
        study: name; replies, checkpoints and receipts carry it.
        rounds: exchanges in all.
        corpus: what the sites train on.
        manifest_digest: of the parameters that travel.
        recipe: local training.
        outer: aggregation.
        sites: how many sites are expected; the loop waits for them, at most ``join_s``.
        quorum: fewer accepted replies than this in a round stop the study (its checkpoint stays).
        join_s: how long to wait for sites before the first round [s].
        deadline_s: how long a round may take; later replies are not used [s].
        rejoin_s: how long a round waits for a site that was lost in its middle, to ask it again once it is back [s].
        max_update_norm: L2 bound on a whole update, checked again on arrival.
        privacy: differential privacy at the sites, or none.
        central: noise on the average, or none.
        invited: numbers of the sites that may take part; every enrolled one when empty.
    """

    study: StudyName
    rounds: Round
    corpus: Corpus
    manifest_digest: Digest
    recipe: InnerRecipe
    outer: OuterRecipe = OuterRecipe()
    sites: Annotated[int, Field(ge=1, le=10_000)]
    quorum: Annotated[int, Field(ge=1, le=10_000)]
    join_s: Annotated[float, Field(gt=0, le=86_400)] = 120.0
    deadline_s: Annotated[float, Field(gt=0, le=2_592_000)] = 3_600.0
    rejoin_s: Annotated[float, Field(ge=0, le=2_592_000)] = 300.0
    max_update_norm: Annotated[float, Field(gt=0, le=1e9)] = 1_000.0
    privacy: PrivacyRecipe | None = None
    central: CentralNoise | None = None
    invited: Annotated[tuple[SiteNumber, ...], Field(max_length=10_000)] = ()

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON form (hex)."""
        return hashlib.sha256(canonical(self.model_dump(mode="json"))).hexdigest()

    @model_validator(mode="after")
    def _quorum_is_reachable(self) -> Self:
        if self.quorum > self.sites:
            raise ValueError("quorum is larger than the number of sites")
        return self

    @model_validator(mode="after")
    def _privacy_fits(self) -> Self:
        require_units_apart(self.recipe, self.corpus, self.privacy)
        # The size of a corpus is a fact about its patients that nobody accounted for, and one heavy site would carry
        # more than its bound into a noised sum.
        if (self.privacy or self.central) and self.outer.weights != "equal":
            raise ValueError("differential privacy needs outer weights 'equal'")
        return self


class SignedPlan(Message):
    """A plan as the coordinator hands it to the sites.

    Attributes:
        plan: what is to be done.
        fednotes_version: that the coordinator runs.
        bundle_hash: of the Flower app that the runs of this study will name.
        signature: Ed25519 over plan, version and hash, with the coordinator's plan key (hex).
    """

    plan: Plan
    fednotes_version: Annotated[str, Field(max_length=40)]
    bundle_hash: Digest
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]

    @classmethod
    def sign(cls, plan: Plan, key: Ed25519PrivateKey, *, fednotes_version: str, bundle_hash: str) -> Self:
        """Sign a plan with the coordinator's plan key."""
        signature = sign(_signed_part(plan, fednotes_version, bundle_hash), key)
        return cls(plan=plan, fednotes_version=fednotes_version, bundle_hash=bundle_hash, signature=signature)

    def is_from(self, plan_key: str) -> bool:
        """Whether the owner of the plan key (PEM) signed exactly this."""
        part = _signed_part(self.plan, self.fednotes_version, self.bundle_hash)
        return is_signed(part, self.signature, public_key(plan_key))


def _signed_part(plan: Plan, fednotes_version: str, bundle_hash: str) -> dict[str, object]:
    return {
        "kind": "fednotes plan",
        "plan": plan.model_dump(mode="json"),
        "fednotes_version": fednotes_version,
        "bundle_hash": bundle_hash,
    }
