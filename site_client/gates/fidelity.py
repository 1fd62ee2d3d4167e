"""Gates of fidelity: does the rephrasing say what the source says, of whom, where, how much and how surely?"""

from __future__ import annotations

from site_client.gates.candidate import Candidate
from site_client.gates.certainty import certainty_kept
from site_client.gates.contrasts import laterality_kept, opposites_kept
from site_client.gates.coverage import findings_kept, nothing_invented
from site_client.gates.gate import Gate
from site_client.gates.measures import dates_kept, frequencies_kept, numbers_kept, units_kept
from site_client.gates.medications import medications_kept
from site_client.gates.people import attribution_kept
from site_client.gates.polarity import negation_kept


def _severity_kept(candidate: Candidate) -> bool:
    return opposites_kept(candidate, "severity")


FIDELITY_GATES = (
    Gate(name="numbers", version=3, passes=numbers_kept),
    Gate(name="units", version=2, passes=units_kept),
    Gate(name="dates", version=2, passes=dates_kept),
    Gate(name="frequency", version=2, passes=frequencies_kept),
    Gate(name="laterality", version=3, passes=laterality_kept),
    Gate(name="medications", version=2, passes=medications_kept),
    Gate(name="negation", version=3, passes=negation_kept),
    Gate(name="attribution", version=2, passes=attribution_kept),
    Gate(name="certainty", version=2, passes=certainty_kept),
    Gate(name="severity", version=1, passes=_severity_kept),
    Gate(name="omission", version=2, passes=findings_kept),
    Gate(name="invention", version=2, passes=nothing_invented),
)
