from __future__ import annotations

import os
from pathlib import Path

import pytest

from site_client.notes.mapping import ColumnMapping

DATA = Path(os.environ.get("FEDNOTES_DATA", Path(__file__).parents[3] / ".." / "shared" / "data"))

pytestmark = [
    pytest.mark.shared_data,
    pytest.mark.skipif(not DATA.is_dir(), reason="no public clinical text here; set FEDNOTES_DATA"),
]


def test_mtsamples_has_4999_records_of_which_33_have_no_text(read) -> None:
    notes, quarantine = read(DATA / "mtsamples" / "mtsamples.csv.gz", mapping=ColumnMapping(group="medical_specialty"))
    assert quarantine.counts() == {"empty_text": 33}
    assert len(notes) == 4999 - 33
    assert len({note.note_id for note in notes}) == len(notes)
    assert len({note.group for note in notes}) == 40


def test_medcat_has_1088_notes_of_182_patients(read) -> None:
    notes, quarantine = read(DATA / "medcat_mimiclike_csv" / "pt_notes.csv")
    assert (len(notes), len({note.patient_id for note in notes})) == (1088, 182)
    assert len({note.note_id for note in notes}) == 1088
    assert not quarantine.rows
    assert all(note.time and note.note_type for note in notes)


def test_medcat_folder_sets_the_table_of_patients_aside(read) -> None:
    notes, quarantine = read(DATA / "medcat_mimiclike_csv")
    assert len(notes) == 1088
    assert {row.source: row.reason for row in quarantine.rows}["patients.csv"] == "no_text_column"


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("train", 67),
        ("valid", 20),
        ("clinicalnlp_taskB_test1", 40),
        ("clinicalnlp_taskC_test2", 40),
        ("clef_taskC_test3", 40),
    ],
)
def test_aci_bench_is_read_with_note_as_its_text(read, name: str, count: int) -> None:
    notes, quarantine = read(DATA / "aci_bench" / f"{name}.csv")
    assert len(notes) == count
    assert all("\n" in note.text and note.encounter_id for note in notes)
    assert not quarantine.rows
