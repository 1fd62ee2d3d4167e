from __future__ import annotations

import stat

import pytest

from privacy.note_types import CleanNote
from protocols.errors import UsageError
from site_client.store import read_split, write_notes


def note(key: str, patient: str) -> CleanNote:
    return CleanNote(note_key=key, patient_key=patient, text=f"Text of {key}: ä\n2", note_type="Consult")


NOTES = [note("n1", "a"), note("n2", "b"), note("n3", "a")]
SPLITS = {"a": "train", "b": "test"}


def test_notes_come_back_equal_in_the_split_of_their_patient(tmp_path):
    path = tmp_path / "store" / "notes.parquet"
    write_notes(path, NOTES, SPLITS)
    assert read_split(path, "train") == [NOTES[0], NOTES[2]]
    assert read_split(path, "test") == [NOTES[1]]
    assert read_split(path, "validation") == []


def test_store_is_replaced_and_for_its_owner_alone(tmp_path):
    path = tmp_path / "notes.parquet"
    write_notes(path, NOTES, SPLITS)
    write_notes(path, NOTES[:1], SPLITS)
    assert read_split(path, "train") == NOTES[:1]
    assert read_split(path, "test") == []
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_note_without_a_split_keeps_the_old_store(tmp_path):
    path = tmp_path / "notes.parquet"
    write_notes(path, NOTES, SPLITS)
    with pytest.raises(KeyError):
        write_notes(path, [note("n9", "c")], SPLITS)
    assert read_split(path, "train") == [NOTES[0], NOTES[2]]


def test_empty_store_reads_as_no_notes(tmp_path):
    write_notes(tmp_path / "n.parquet", [], {})
    assert read_split(tmp_path / "n.parquet", "train") == []


def test_reading_before_ingest_is_wrong_usage(tmp_path):
    with pytest.raises(UsageError, match="no notes in") as caught:
        read_split(tmp_path / "notes.parquet", "train")
    assert caught.value.hint == "fednotes site ingest PATH..."
