from __future__ import annotations

from typing import get_args

import pytest

from protocols.errors import WorkError
from site_client.notes.quarantine import DROPS, EXPLANATIONS, Quarantine, Reason


def test_every_reason_is_explained() -> None:
    assert set(EXPLANATIONS) == set(get_args(Reason))


def test_counts_stay_exact_while_stored_rows_are_capped_per_reason() -> None:
    quarantine = Quarantine(max_rows_per_reason=3)
    for position in range(1, 1001):
        quarantine.add("notes.csv", position, "empty_text", "line")
    quarantine.add("notes.csv", 1001, "bad_utf8", "line")
    assert quarantine.counts() == {"bad_utf8": 1, "empty_text": 1000}
    assert [row.position for row in quarantine.rows] == [1, 2, 3, 1001]


@pytest.mark.parametrize("reason", sorted(set(get_args(Reason)) - DROPS))
def test_strict_reading_stops_at_the_first_fault_and_names_its_place(reason: Reason) -> None:
    with pytest.raises(WorkError) as caught:
        Quarantine(strict=True).add("notes.csv", 17, reason, "line")
    assert caught.value.message == f"notes.csv, line 17: {reason}: {EXPLANATIONS[reason]}."


def test_strict_reading_goes_on_after_drops() -> None:
    quarantine = Quarantine(strict=True)
    for reason in DROPS:
        quarantine.add("notes.csv", 1, reason)
    assert quarantine.counts() == {"empty_text": 1, "marked_as_error": 1}


def test_a_fault_of_a_whole_file_is_named_by_the_file_alone() -> None:
    quarantine = Quarantine()
    quarantine.add("notes.csv", 0, "empty_file", "file")
    assert quarantine.rows[0].where == "notes.csv"


def test_an_unknown_reason_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown reason"):
        Quarantine().add("notes.csv", 1, "because")  # type: ignore[arg-type]
