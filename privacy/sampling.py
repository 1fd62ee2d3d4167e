"""Who takes part in a step: Poisson sampling of units, and of few records of each.

The accountant's theorem needs every unit to enter every step independently with the same public probability. Shuffled
batches of a fixed size, or dropping units that do not fit, would not have the epsilon that is reported.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from privacy.randomness import SecureRandom


def draw_units(num_units: int, sampling_rate: float, random: SecureRandom) -> NDArray[np.intp]:
    """Draw each unit with the same probability, independently; there may be none.

    Args:
        num_units: how many there are.
        sampling_rate: the public probability.
        random: of the operating system.

    Returns:
        Indices in ascending order.
    """
    return np.flatnonzero(random.uniform(num_units) <= sampling_rate)


def draw_records(num_records: int, max_records: int, random: SecureRandom) -> NDArray[np.intp]:
    """Draw records of one unit without replacement; all of them where there are no more than asked for.

    The choice looks at this unit alone: a rule that looked at others would spread one patient's influence.

    Args:
        num_records: that the unit has.
        max_records: to use at most.
        random: of the operating system.
    """
    if num_records <= max_records:
        return np.arange(num_records)
    return np.sort(np.argsort(random.uniform(num_records))[:max_records])
