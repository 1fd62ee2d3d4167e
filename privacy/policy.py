"""Table ``[privacy]`` of ``site.toml``: the site's word on differential privacy, which no run can overrule."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from protocols.messages import PrivacyUnit


class PrivacyPolicy(BaseModel):
    """What a site demands and allows.

    Attributes:
        required: refuse to train without differential privacy.
        unit: whose privacy the account is about. Fixed for the life of the ledger.
        max_epsilon: limit of the account over all studies, restarts and runs on this data set.
        delta: at which epsilon is stated. Below 1 / patients, and fixed for the life of the ledger.
        public_units: number of patients (or notes, records) that the hospital states publicly, in round figures. It
            stands below the sum of gradients, so it must not be the exact count, which one patient changes.
        max_sampling_rate: upper bound on the sampling rate of a plan.
        max_records: upper bound on the records of a unit in a step.
        min_noise_multiplier: below it accountants lose precision and the mechanism hides little.
        backend: how gradients by unit are computed; "auto" measures.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)

    required: bool = False
    unit: PrivacyUnit = "patient"
    max_epsilon: Annotated[float, Field(gt=0, le=1_000)] = 10.0
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    public_units: Annotated[int, Field(ge=0, le=10**9)] = 0
    max_sampling_rate: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_records: Annotated[int, Field(ge=1, le=65_536)] = 64
    min_noise_multiplier: Annotated[float, Field(gt=0, le=1_000)] = 0.4
    backend: Annotated[str, Field(pattern=r"^(auto|loop|hooks|ghost)$")] = "auto"
