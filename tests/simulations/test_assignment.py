from __future__ import annotations

import pytest

from privacy.note_types import RawNote
from protocols.errors import UsageError
from simulations.assignment import by_group
from site_client.duplicates import UniqueNote


def notes_of(*groups: str | None) -> list[UniqueNote]:
    return [
        UniqueNote(
            note=RawNote(text=f"note {i}", note_id=str(i), patient_id=None, source="n.csv", position=i + 1),
            groups=() if group is None else (group,),
            copies=0,
        )
        for i, group in enumerate(groups)
    ]


def sizes(*groups: str | None, sites: int | None = None) -> dict[str, int]:
    return {name: len(notes) for name, notes in by_group(notes_of(*groups), sites).hospitals.items()}


def test_every_value_is_a_hospital_and_notes_without_one_are_counted():
    assignment = by_group(notes_of("north", "south", " north ", None, " "), None)
    assert {name: len(notes) for name, notes in assignment.hospitals.items()} == {"north": 2, "south": 1}
    assert assignment.dropped == {"no_group": 2}


def test_fewer_sites_than_values_share_the_values_out_evenly():
    assert sizes("a", "a", "a", "b", "b", "c", sites=2) == {"a": 3, "b and 1 more": 3}


def test_more_sites_than_values_are_refused():
    with pytest.raises(UsageError, match="4 sites are asked for, but the column has 2 different values"):
        by_group(notes_of("a", "b"), 4)


@pytest.mark.parametrize("sites", [None, 3])
def test_column_without_any_value_is_refused_by_its_name_and_not_by_a_number_of_sites(sites):
    with pytest.raises(UsageError) as caught:
        by_group(notes_of(None, "", " \t"), sites)
    assert caught.value.message == "The column of --site-by is empty in all 3 notes: it does not hold hospitals."
    assert "--sites" not in str(caught.value)


@pytest.mark.parametrize("sites", [None, 5])
def test_column_of_a_thousand_values_holds_no_hospitals(sites):
    assert len(sizes(*(f"ward {i}" for i in range(999)))) == 999
    with pytest.raises(UsageError) as caught:
        by_group(notes_of(*(f"Zebedee {i}" for i in range(1_000))), sites)
    assert "has 1,000 different values" in caught.value.message
    assert "Zebedee" not in str(caught.value)


def test_column_of_texts_is_refused_without_showing_one():
    assert sizes("x" * 80) == {"x" * 80: 1}
    with pytest.raises(UsageError) as caught:
        by_group(notes_of("north", "Zebedee coughs. " * 6), None)
    assert "has 1 values that are longer than 80 characters" in caught.value.message
    assert "Zebedee" not in str(caught.value)
