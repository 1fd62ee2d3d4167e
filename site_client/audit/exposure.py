"""Exposure of a secret: by how many bits a model narrows it down among random alternatives of the same form.

Carlini et al. 2019, "The Secret Sharer: Evaluating and Testing Unintended Memorization in Neural Networks", section 4
(definition 5 with the sampling of section 4.3): log2 of the number of candidates minus log2 of the secret's rank by
likelihood. A model that knows nothing ranks at random: 1.44 bits (log2 e) in the mean, 1 bit in the median.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

CHANCE_BITS = math.log2(math.e)
"""Mean exposure of a secret that the model knows nothing about, for many candidates."""


def exposures(secret_bits: Sequence[float], alternative_bits: Sequence[float]) -> list[float]:
    """Rank each secret among the alternatives.

    Args:
        secret_bits: what each secret costs the model [bits].
        alternative_bits: likewise of fresh secrets that nobody was trained on, one set for all [bits].

    Returns:
        Exposure of each secret [bits], from 0 to :func:`ceiling`.
    """
    ordered = np.sort(np.asarray(alternative_bits, float))
    # A tie counts against the secret: a broken model that finds everything equally likely has memorised nothing.
    ranks = 1 + np.searchsorted(ordered, np.asarray(secret_bits, float), side="right")
    return [ceiling(len(ordered)) - math.log2(rank) for rank in ranks]


def ceiling(alternatives: int) -> float:
    """The largest exposure that so many alternatives can show [bits]; the secret itself is one more candidate."""
    return math.log2(alternatives + 1)
