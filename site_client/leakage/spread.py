"""How a measure is spread over rephrasings, kept as counts of whole numbers: exact, and small for any corpus."""

from __future__ import annotations

from collections import Counter

from pydantic import BaseModel, ConfigDict


class Spread(BaseModel):
    """Three places of a distribution.

    Attributes:
        p50: half of all values are no greater.
        p95: likewise 95 of 100.
        max: the greatest value; all are 0 when there is none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    p50: int
    p95: int
    max: int


class Tally:
    """Counts of the values of a whole-numbered measure with few different values."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add(self, value: int) -> None:
        """Count one value."""
        self._counts[value] += 1

    def share_above(self, bound: int) -> float:
        """Share of values that are greater than a bound; 0 when there is no value."""
        return sum(n for value, n in self._counts.items() if value > bound) / max(1, self._counts.total())

    def spread(self) -> Spread:
        """The distribution so far."""
        return Spread(p50=self._place(50), p95=self._place(95), max=max(self._counts, default=0))

    def _place(self, percent: int) -> int:
        """Smallest value such that so many percent of all are no greater."""
        below = 0
        for value, n in sorted(self._counts.items()):
            below += n
            if 100 * below >= percent * self._counts.total():
                return value
        return 0
