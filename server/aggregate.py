"""The one place where updates are averaged: a running weighted sum that holds one accumulator and one reply."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from protocols.errors import WorkError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from protocols.manifest import Arrays


class WeightedMean:
    """Average of updates that arrive one at a time, summed in float64.

    Memory is one float64 accumulator whatever the number of sites, and the order of arrival changes the result only by
    float64 rounding.

    Example:
        >>> mean = WeightedMean()
        >>> mean.add({"w": np.array([1.0, 0.0], np.float32)}, weight=1.0)
        >>> mean.add({"w": np.array([4.0, 3.0], np.float32)}, weight=2.0)
        >>> mean.result()["w"].tolist()
        [3.0, 2.0]
    """

    def __init__(self) -> None:
        self._sums: dict[str, NDArray[np.float64]] = {}
        self._weight = 0.0

    def add(self, update: Arrays, weight: float) -> None:
        """Count one update.

        Args:
            update: arrays by name; the same names and shapes every time (ingress has checked them).
            weight: positive and finite.

        Raises:
            ValueError: the weight is not positive and finite, or the names differ from the first update's.
        """
        if not 0.0 < weight < float("inf"):
            raise ValueError(f"weight {weight} is not positive and finite")
        if not self._sums:
            self._sums = {name: np.zeros(array.shape, np.float64) for name, array in update.items()}
        if update.keys() != self._sums.keys():
            raise ValueError("the update has other arrays than the first one")
        for name, array in update.items():
            self._sums[name] += np.multiply(array, weight, dtype=np.float64)
        self._weight += weight

    def result(self) -> dict[str, NDArray[np.float32]]:
        """Give the average.

        Raises:
            WorkError: nothing was added.
        """
        if not self._weight:
            raise WorkError("There is no update to average.")
        return {name: (total / self._weight).astype(np.float32) for name, total in self._sums.items()}
