from __future__ import annotations

import pytest

from protocols.errors import UsageError
from site_client.notes.mapping import PRESETS, ColumnMapping, complete, guess, resolve

MIMIC3 = [
    *("ROW_ID", "SUBJECT_ID", "HADM_ID", "CHARTDATE", "CHARTTIME", "STORETIME", "CATEGORY", "DESCRIPTION"),
    *("CGID", "ISERROR", "TEXT"),
]
MIMIC4 = ["note_id", "subject_id", "hadm_id", "note_type", "note_seq", "charttime", "storetime", "text"]
OMOP = [
    *("note_id", "person_id", "note_date", "note_datetime", "note_type_concept_id", "note_class_concept_id"),
    *("note_title", "note_text", "encoding_concept_id", "visit_occurrence_id"),
]


@pytest.mark.parametrize(("preset", "columns"), [("mimic3", MIMIC3), ("mimic4", MIMIC4), ("omop", OMOP)])
def test_every_preset_fits_the_columns_of_its_export(preset: str, columns: list[str]) -> None:
    located = resolve(PRESETS[preset], columns)
    missing = {field for field, found in located.items() if not found}
    assert missing == ({"group"} if preset == "mimic3" else {"group", "error_flag"})


@pytest.mark.parametrize(("preset", "columns"), [("mimic3", MIMIC3), ("mimic4", MIMIC4), ("omop", OMOP)])
@pytest.mark.parametrize("spelling", [str.lower, str.upper])
def test_known_exports_are_recognised_without_naming_the_preset(preset: str, columns: list[str], spelling) -> None:
    respelled = [spelling(column) for column in columns]
    assert resolve(guess(respelled), respelled) == resolve(PRESETS[preset], columns)


def test_guess_names_columns_as_the_export_spells_them() -> None:
    mapping = guess(["MRN", "Note Type", "Transcription", "Ward"])
    assert (mapping.patient_id, mapping.note_type, mapping.text) == ("MRN", "Note Type", "Transcription")
    assert mapping.time is mapping.encounter_id is mapping.note_id is mapping.group is None


def test_note_text_is_preferred_over_a_column_that_may_be_text() -> None:
    assert guess(["content", "note", "text"]).text == "text"


def test_group_is_checked_and_never_guessed() -> None:
    assert guess(["text", "hospital"]).group is None
    assert guess(["text", "hospital"], group="HOSPITAL").group == "HOSPITAL"
    with pytest.raises(UsageError, match='no column "ward"'):
        guess(["text", "hospital"], group="ward")


def test_a_column_named_as_text_is_not_also_guessed_as_note_type() -> None:
    assert complete(ColumnMapping(text="category"), ["category", "id"]).note_type is None


def test_group_may_share_a_column_with_the_note_type() -> None:
    mapping = complete(ColumnMapping(group="specialty"), ["text", "specialty"])
    assert mapping.group == mapping.note_type == "specialty"


def test_unknown_column_error_lists_the_columns() -> None:
    with pytest.raises(UsageError) as caught:
        resolve(ColumnMapping(text="txt"), ["subject_id", "Note Text"], source="notes.csv")
    assert caught.value.message == (
        'notes.csv has no column "txt" (asked for as text). Its columns are: subject_id, Note Text'
    )
    assert caught.value.exit_status == 2


def test_missing_text_column_error_lists_the_columns_and_names_the_option() -> None:
    with pytest.raises(UsageError) as caught:
        guess(["subject_id", "gender"])
    assert "subject_id, gender" in caught.value.message
    assert "--text-column" in str(caught.value)


@pytest.mark.parametrize(
    "first_line",
    [
        ["7", "Zebedee", "Zebedee has a cough"],
        ["Zebedee has had a cough for the last two weeks."],
        ["Zebedee", "2101-04-05"],
        ["Zebedee\ncoughs"],
    ],
)
def test_a_line_of_data_in_place_of_a_header_is_not_shown(first_line: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        guess(first_line)
    assert "Zebedee" not in str(caught.value)
    assert "header missing" in str(caught.value)


def test_alternatives_count_as_found_when_one_of_them_exists() -> None:
    assert resolve(ColumnMapping(text="a|b"), ["b", "c"])["text"] == (0,)
    assert resolve(ColumnMapping(text="a|b"), ["b", "a"])["text"] == (1, 0)


def test_a_column_whose_own_name_has_a_bar_is_found() -> None:
    assert resolve(ColumnMapping(text="a|b"), ["a", "a|b"])["text"] == (1,)


def test_of_two_columns_of_one_name_the_first_counts() -> None:
    assert resolve(ColumnMapping(text="text"), ["Text", "text"])["text"] == (0,)
