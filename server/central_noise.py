"""Noise on the average, at the coordinator: hides from readers of the model whether a *hospital* took part.

This is the Gaussian mechanism over hospitals (McMahan et al. 2018, arXiv 1710.06963, with every site in every round).
It promises patients nothing that their own hospital's account does not promise already, and it asks hospitals to trust
the coordinator. Pure, apart from the randomness that is passed in: arrays in, arrays out.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from privacy.accountant import PrivacyEvent, spend

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from privacy.randomness import SecureRandom
    from protocols.manifest import Arrays
    from protocols.plan import CentralNoise


def bound_norm(update: Arrays, max_norm: float) -> dict[str, NDArray[np.float32]]:
    """Scale an update down to an L2 norm over all its arrays; a shorter one stays as it is.

    Args:
        update: of one site, finite (ingress has checked it).
        max_norm: the bound.
    """
    squares = sum(float(np.vdot(a, a)) for a in (array.astype(np.float64) for array in update.values()))
    factor = min(1.0, max_norm / (math.sqrt(squares) + 1e-6))
    return {name: (array * factor).astype(np.float32) for name, array in update.items()}


def add_noise(average: Arrays, std: float, random: SecureRandom) -> dict[str, NDArray[np.float32]]:
    """Add Gaussian noise to every coordinate, in float64, and round.

    Args:
        average: of the bounded updates, over a public number of sites.
        std: standard deviation of the noise on a coordinate.
        random: of the operating system.
    """
    return {
        name: (array + std * random.normal(array.size).reshape(array.shape)).astype(np.float32)
        for name, array in average.items()
    }


def site_level_epsilon(central: CentralNoise, rounds: int) -> float:
    """What the noise promises a hospital after some rounds, all sites taking part in each.

    Args:
        central: noise multiplier and delta.
        rounds: so far.
    """
    event = PrivacyEvent(sampling_rate=1.0, noise_multiplier=central.noise_multiplier, steps=rounds)
    return spend([event], central.delta, "site").pld_bound
