from __future__ import annotations

from privacy.note_types import RawNote
from site_client.duplicates import unique_notes


def raw(text: str, position: int, group: str | None = None) -> RawNote:
    return RawNote(text=text, note_id=str(position), patient_id=None, source="a.csv", position=position, group=group)


def test_first_record_of_a_text_wins_and_copies_are_counted():
    found = unique_notes([raw("a b", 1), raw("c", 2), raw("a b", 3), raw("a b", 4)])
    assert [(u.note.position, u.copies) for u in found] == [(1, 2), (2, 0)]


def test_white_space_alone_makes_no_other_text_but_case_does():
    found = unique_notes(
        [raw("No fever.\n\nNo pain.", 1), raw(" No  fever. No pain. ", 2), raw("no fever. No pain.", 3)]
    )
    assert [(u.note.position, u.copies) for u in found] == [(1, 1), (3, 0)]
    assert found[0].note.text == "No fever.\n\nNo pain."  # kept as it was


def test_groups_of_all_copies_are_known_in_order_of_appearance():
    (unique,) = unique_notes([raw("a", 1, "Surgery"), raw("a", 2), raw("a", 3, "Cardiology"), raw("a", 4, "Surgery")])
    assert unique.groups == ("Surgery", "Cardiology")
    assert unique.copies == 3


def test_bytes_that_were_no_utf8_do_not_stop_the_search():
    assert len(unique_notes([raw("a\udc80", 1), raw("a\udc80", 2)])) == 1


def test_nothing_gives_nothing():
    assert unique_notes([]) == []
