"""The constants of the subsampled Gaussian mechanism, in one object that is both charged for and carried out."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Mechanism:
    """One step: sample units, clip each unit's gradient, add them up, add noise, divide by a public number.

    The ledger charges these values and the step uses these values: they cannot differ.

    Attributes:
        sampling_rate: chance of a unit to enter the step, in (0, 1].
        noise_multiplier: standard deviation of the noise, in units of ``max_grad_norm``.
        max_grad_norm: L2 bound on a unit's gradient.
        max_records: records of a unit used in a step.
        expected_units: public denominator: sampling rate times the *public* number of units, never the true one.

    Raises:
        ValueError: a value is outside its range; zero noise is allowed for the audit's own checks alone.
    """

    sampling_rate: float
    noise_multiplier: float
    max_grad_norm: float
    max_records: int
    expected_units: float

    def __post_init__(self) -> None:
        if not 0 < self.sampling_rate <= 1:
            raise ValueError(f"sampling_rate is {self.sampling_rate}, not in (0, 1]")
        for name in ("max_grad_norm", "max_records", "expected_units"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}, not positive and finite")
        if not 0 <= self.noise_multiplier < math.inf:
            raise ValueError(f"noise_multiplier is {self.noise_multiplier}, not finite or below 0")
