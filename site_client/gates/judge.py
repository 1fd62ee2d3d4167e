"""All gates in order, and the counts of their verdicts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from site_client.gates.candidate import Candidate
from site_client.gates.fidelity import FIDELITY_GATES
from site_client.gates.form import FORM_GATES

GATES = (*FORM_GATES, *FIDELITY_GATES)
VERSION = " ".join(f"{gate.name}:{gate.version}" for gate in GATES)


@dataclass
class GateCounts:
    """Verdicts so far.

    Attributes:
        judged: rephrasings seen.
        accepted: rephrasings that passed every gate.
        rejected: by name of the first failed gate.
    """

    judged: int = 0
    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: GateCounts) -> GateCounts:
        """Counts of both."""
        return GateCounts(self.judged + other.judged, self.accepted + other.accepted, self.rejected + other.rejected)

    def add(self, reasons: tuple[str, ...]) -> None:
        """Count one verdict."""
        self.judged += 1
        if reasons:
            self.rejected[reasons[0]] += 1
        else:
            self.accepted += 1


def judge(candidate: Candidate) -> tuple[str, ...]:
    """Name the gates that a rephrasing fails, in their order; empty when it is accepted."""
    return tuple(gate.name for gate in GATES if not gate.passes(candidate))
