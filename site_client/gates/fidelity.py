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


def _times_kept(candidate: Candidate) -> bool:
    return dates_kept(candidate) and opposites_kept(candidate, "dates")


def _counts_kept(candidate: Candidate) -> bool:
    return numbers_kept(candidate) and opposites_kept(candidate, "numbers")


def _severity_kept(candidate: Candidate) -> bool:
    return opposites_kept(candidate, "severity")


FIDELITY_GATES = (
    Gate(name="numbers", version=2, passes=_counts_kept),
    Gate(name="units", version=1, passes=units_kept),
    Gate(name="dates", version=1, passes=_times_kept),
    Gate(name="frequency", version=1, passes=frequencies_kept),
    Gate(name="laterality", version=2, passes=laterality_kept),
    Gate(name="medications", version=1, passes=medications_kept),
    Gate(name="negation", version=2, passes=negation_kept),
    Gate(name="attribution", version=1, passes=attribution_kept),
    Gate(name="certainty", version=1, passes=certainty_kept),
    Gate(name="severity", version=1, passes=_severity_kept),
    Gate(name="omission", version=1, passes=findings_kept),
    Gate(name="invention", version=1, passes=nothing_invented),
)
