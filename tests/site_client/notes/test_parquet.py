from __future__ import annotations

import datetime as dt
import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from protocols.errors import UsageError
from site_client.notes.parquet import BATCH

MANY = 2 * BATCH + 5


def write_parquet(path: Path, row_group_size: int = 200, **columns: object) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size)
    return path


@pytest.mark.parametrize("name", ["n.parquet", "n.pq", "part-0000"])
def test_parquet_is_read_by_name_and_by_content_over_many_row_groups(tmp_path: Path, read, name: str) -> None:
    path = write_parquet(tmp_path / name, note_id=range(MANY), Text=[f"note {i}\ncafé" for i in range(MANY)])
    notes, quarantine = read(path)
    assert [note.note_id for note in notes] == [str(i) for i in range(MANY)]
    assert [note.position for note in notes] == list(range(1, MANY + 1))
    assert notes[-1].text == f"note {MANY - 1}\ncafé"
    assert not quarantine.rows


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string())])
def test_every_type_of_text_column_is_read(tmp_path: Path, read, kind: pa.DataType) -> None:
    path = write_parquet(tmp_path / "n.parquet", text=pa.array(["one", None, "café"]).cast(kind))
    notes, quarantine = read(path)
    assert [note.text for note in notes] == ["one", "café"]
    assert [(row.position, row.unit, row.reason) for row in quarantine.rows] == [(2, "record", "empty_text")]


def test_identifiers_and_times_of_any_type_become_strings(tmp_path: Path, read) -> None:
    when = dt.datetime(2101, 2, 3, 4, 5, 6)
    path = write_parquet(
        tmp_path / "n.parquet",
        text=["a", "b", "c"],
        subject_id=pa.array([7, 8, None], pa.int64()),
        hadm_id=pa.array([70.0, math.nan, None], pa.float64()),
        charttime=pa.array([when, when, None], pa.timestamp("ns")),
    )
    notes, _ = read(path)
    assert [(note.patient_id, note.encounter_id) for note in notes] == [("7", "70"), ("8", None), (None, None)]
    assert notes[0].time is not None
    assert notes[0].time.startswith("2101-02-03 04:05:06")


def test_a_broken_byte_costs_its_record_alone(tmp_path: Path, read) -> None:
    broken = pa.array([b"one", b"caf\xe9", b"three"]).view(pa.string())
    notes, quarantine = read(write_parquet(tmp_path / "n.parquet", text=broken))
    assert [note.text for note in notes] == ["one", "three"]
    assert [(row.position, row.reason) for row in quarantine.rows] == [(2, "bad_utf8")]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1 and then nothing of the kind PAR1", b"text\ncough\n"])
def test_a_file_that_is_no_parquet_is_quarantined(tmp_path: Path, read, content: bytes) -> None:
    path = tmp_path / "n.parquet"
    path.write_bytes(content)
    notes, quarantine = read(path)
    assert not notes
    assert len(quarantine.rows) == 1
    assert quarantine.rows[0].position == 0


def test_a_truncated_parquet_file_is_quarantined_and_the_next_is_read(tmp_path: Path, read) -> None:
    cut = write_parquet(tmp_path / "cut.parquet", text=["x"] * 50)
    cut.write_bytes(cut.read_bytes()[:-20])
    after = write_parquet(tmp_path / "after.parquet", text=["here"])
    notes, quarantine = read(cut, after)
    assert [note.source for note in notes] == ["after.parquet"]
    assert quarantine.counts() == {"damaged_parquet": 1}


def test_a_damaged_row_group_ends_the_file_at_its_record(tmp_path: Path, read) -> None:
    path = write_parquet(tmp_path / "n.parquet", text=[f"{i} " * 50 for i in range(MANY)])
    place = pq.ParquetFile(path).metadata.row_group(2).column(0)
    content = bytearray(path.read_bytes())
    start = place.dictionary_page_offset or place.data_page_offset
    content[start : start + place.total_compressed_size] = b"\xff" * place.total_compressed_size
    path.write_bytes(content)
    notes, quarantine = read(path)
    (row,) = quarantine.rows
    assert (row.reason, row.position) == ("damaged_parquet", len(notes) + 1)
    assert notes[-1].text.startswith(f"{len(notes) - 1} ")


def test_a_damaged_column_name_is_quarantined(tmp_path: Path, read) -> None:
    path = write_parquet(tmp_path / "n.parquet", text=["cough"], patient=["p"])
    path.write_bytes(path.read_bytes().replace(b"patient", b"pati\xffnt"))
    assert read(path)[1].counts() == {"damaged_parquet": 1}


def test_of_two_columns_of_one_name_the_first_counts(tmp_path: Path, read) -> None:
    table = pa.Table.from_arrays([pa.array(["one"]), pa.array(["two"]), pa.array(["p"])], ["text", "text", "mrn"])
    pq.write_table(table, tmp_path / "n.parquet")
    (note,) = read(tmp_path / "n.parquet")[0]
    assert (note.text, note.patient_id) == ("one", "p")


def test_a_column_name_with_a_dot_is_found(tmp_path: Path, read) -> None:
    pq.write_table(pa.table({"note.text": ["one"]}), tmp_path / "n.parquet")
    assert [note.text for note in read(tmp_path / "n.parquet")[0]] == ["one"]


def test_a_nested_column_is_wrong_usage(tmp_path: Path, read) -> None:
    path = write_parquet(tmp_path / "n.parquet", text=[["a", "b"]], id=[1])
    with pytest.raises(UsageError, match='column "text" holds lists'):
        read(path)


def test_a_file_without_text_column_is_wrong_usage(tmp_path: Path, read) -> None:
    with pytest.raises(UsageError, match="--text-column"):
        read(write_parquet(tmp_path / "n.parquet", subject_id=[1]))
