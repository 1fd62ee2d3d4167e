from __future__ import annotations

import csv
import gzip
import io
import random
from pathlib import Path

import pytest

from protocols.errors import UsageError, WorkError
from site_client.notes import sources
from site_client.notes.mapping import PRESETS, ColumnMapping
from site_client.notes.quarantine import Quarantine
from site_client.notes.reader import read_notes

HEADER = b"note_id,patient_id,text\n"


def write_csv(path: Path, header: list[str], rows: list[list[str]], delimiter: str = ",") -> Path:
    content = io.StringIO(newline="")
    csv.writer(content, delimiter=delimiter).writerows([header, *rows])
    encoded = content.getvalue().encode()
    path.write_bytes(gzip.compress(encoded) if path.suffix == ".gz" else encoded)
    return path


def faults(quarantine: Quarantine) -> list[tuple[int, str]]:
    assert all(row.unit == "line" for row in quarantine.rows)
    return [(row.position, row.reason) for row in quarantine.rows]


@pytest.mark.parametrize(("name", "delimiter"), [("n.csv", ","), ("n.csv", ";"), ("n.csv", "\t"), ("n.tsv", "\t")])
@pytest.mark.parametrize("packed", [False, True])
def test_csv_and_tsv_are_read_plain_and_packed(tmp_path: Path, read, name: str, delimiter: str, packed: bool) -> None:
    rows = [["1", "a", 'first line\r\nsecond, "quoted"; line\t'], ["2", "b", "naïve café"]]
    path = write_csv(tmp_path / (name + ".gz" * packed), ["note_id", "patient_id", "text"], rows, delimiter)
    notes, quarantine = read(path)
    assert [[note.note_id, note.patient_id, note.text] for note in notes] == rows
    assert [(note.source, note.position) for note in notes] == [(path.name, 1), (path.name, 2)]
    assert quarantine.counts() == {}


def test_a_packed_file_is_recognised_without_the_gz_suffix(tmp_path: Path, read) -> None:
    path = tmp_path / "notes.csv"
    path.write_bytes(gzip.compress(HEADER + b"1,a,cough\n"))
    assert [note.text for note in read(path)[0]] == ["cough"]


def test_mimic3_rows_marked_as_error_are_dropped_and_the_date_stands_in_for_the_time(tmp_path: Path, read) -> None:
    header = ["ROW_ID", "SUBJECT_ID", "HADM_ID", "CHARTDATE", "CHARTTIME", "CATEGORY", "ISERROR", "TEXT"]
    rows = [
        ["1", "7", "70.0", "2101-01-01", "", "Discharge summary", "", "went home"],
        ["2", "7", "70", "2101-01-02", "2101-01-02 10:00:00", "Nursing", "1", "wrong patient"],
        ["3", "8", "", "2101-01-03", "2101-01-03 11:00:00", "Nursing", "", "slept well"],
    ]
    path = write_csv(tmp_path / "NOTEEVENTS.csv.gz", header, rows)
    for mapping in (PRESETS["mimic3"], None):
        notes, quarantine = read(path, mapping=mapping)
        assert [(note.note_id, note.time, note.encounter_id) for note in notes] == [
            ("1", "2101-01-01", "70"),
            ("3", "2101-01-03 11:00:00", None),
        ]
        assert faults(quarantine) == [(3, "marked_as_error")]


def test_a_note_without_identifier_is_named_by_its_place(tmp_path: Path, read) -> None:
    notes, _ = read(write_csv(tmp_path / "n.csv", ["text"], [["one"], ["two"]]))
    assert [note.note_id for note in notes] == ["n.csv:1", "n.csv:2"]


def test_files_of_one_name_give_distinct_note_identifiers(tmp_path: Path, read) -> None:
    for ward in ("a", "b"):
        (tmp_path / ward).mkdir()
        write_csv(tmp_path / ward / "n.csv", ["text"], [[ward]])
    notes, _ = read(tmp_path / "a" / "n.csv", tmp_path / "b" / "n.csv")
    assert [note.note_id for note in notes] == ["n.csv:1", "n#2.csv:1"]


def test_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path, read) -> None:
    path = tmp_path / "n.csv"
    path.write_bytes(b"\xef\xbb\xbf" + HEADER + b"1,a,cough\n")
    assert read(path)[0][0].note_id == "1"


@pytest.mark.parametrize(
    "broken", [b"2,b,caf\xe9 au lait\n", b"2,\xff,fine\n", b'2,b,"cut \xe2\x82"\n', b"2,b,\xed\xa0\x80\n"]
)
def test_a_broken_byte_costs_its_record_alone(tmp_path: Path, read, broken: bytes) -> None:
    path = tmp_path / "n.csv"
    path.write_bytes(HEADER + b'1,a,"two\nlines"\n' + broken + "3,c,café\n".encode())
    notes, quarantine = read(path)
    assert [note.text for note in notes] == ["two\nlines", "café"]
    assert faults(quarantine) == [(4, "bad_utf8")]


@pytest.mark.parametrize("row", [b"2,b\n", b"2,b,cough,fever\n", b'2,b,"co"ugh\n'])
def test_a_malformed_row_costs_its_record_alone(tmp_path: Path, read, row: bytes) -> None:
    path = tmp_path / "n.csv"
    path.write_bytes(HEADER + b"1,a,one\n" + row + b"3,c,three\n")
    notes, quarantine = read(path)
    assert [(note.text, note.position) for note in notes] == [("one", 1), ("three", 3)]
    assert faults(quarantine) == [(3, "malformed_row")]


def test_a_quote_that_is_never_closed_is_quarantined_where_it_opens(tmp_path: Path, read) -> None:
    path = tmp_path / "n.csv"
    path.write_bytes(HEADER + b'1,a,one\n2,b,"never\nclosed\n')
    notes, quarantine = read(path)
    assert [note.text for note in notes] == ["one"]
    assert faults(quarantine) == [(3, "malformed_row")]


def test_blank_text_nul_and_blank_lines_are_told_apart(tmp_path: Path, read) -> None:
    path = tmp_path / "n.csv"
    path.write_bytes(HEADER + b'1,a," \t "\n\n2,b,co\0ugh\n3,c,fine\n\n')
    notes, quarantine = read(path)
    assert [(note.text, note.position) for note in notes] == [("fine", 3)]
    assert faults(quarantine) == [(2, "empty_text"), (4, "embedded_nul")]


@pytest.mark.parametrize("quote", [b'"', b""])
def test_a_field_above_the_limit_is_quarantined(tmp_path: Path, read, quote: bytes) -> None:
    path = tmp_path / "n.csv"
    text = quote + b"x" * (sources.FIELD_LIMIT + 10) + quote
    path.write_bytes(HEADER + b"1,a,one\n2,b," + text + b"\n3,c,three\n")
    notes, quarantine = read(path)
    assert [(len(note.text), note.position) for note in notes] == [(3, 1), (5, 3)]
    assert faults(quarantine) == [(3, "field_too_large")]


def test_a_long_note_below_the_limit_is_read(tmp_path: Path, read) -> None:
    text = "cough " * 1_000_000  # forty times the csv module's own limit
    notes, _ = read(write_csv(tmp_path / "n.csv", ["text"], [[text]]))
    assert notes[0].text == text


def cut_archive(folder: Path) -> tuple[Path, list[str]]:
    letters = random.Random(3)
    texts = ["".join(letters.choices("abcdefgh \n", k=400)) for _ in range(500)]
    path = write_csv(folder / "cut.csv.gz", ["note_id", "text"], [[str(i), text] for i, text in enumerate(texts)])
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return path, texts


def test_truncated_gzip_is_quarantined_with_its_line_and_the_next_file_is_read(tmp_path: Path, read) -> None:
    path, texts = cut_archive(tmp_path)
    after = write_csv(tmp_path / "after.csv", ["text"], [["still here"]])
    notes, quarantine = read(path, after)
    assert notes[-1].text == "still here"
    salvaged = [note.text for note in notes[:-1]]
    assert 200 < len(salvaged) < 300
    assert salvaged == texts[: len(salvaged)]
    (row,) = quarantine.rows
    assert (row.source, row.reason, row.unit) == ("cut.csv.gz", "truncated_archive", "line")
    lines_before = 1 + sum(text.count("\n") + 1 for text in salvaged)
    assert lines_before < row.position <= lines_before + texts[len(salvaged)].count("\n") + 1


def test_strict_reading_of_a_truncated_gzip_stops_at_the_line(tmp_path: Path) -> None:
    path, _ = cut_archive(tmp_path)
    with pytest.raises(WorkError, match=r"cut\.csv\.gz, line \d+: truncated_archive"):
        list(read_notes([path], quarantine=Quarantine(strict=True)))


def test_a_damaged_gzip_is_quarantined(tmp_path: Path, read) -> None:
    path = write_csv(tmp_path / "n.csv.gz", ["text"], [[random.Random(1).randbytes(3000).hex()] for _ in range(50)])
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 200] = b"\xff" * 200
    path.write_bytes(content)
    assert read(path)[1].counts() == {"damaged_archive": 1}


@pytest.mark.parametrize("content", [b"", gzip.compress(b""), b"\n\n"], ids=["nothing", "gzip of nothing", "lines"])
def test_an_empty_file_is_quarantined(tmp_path: Path, read, content: bytes) -> None:
    path = tmp_path / "n.csv"
    path.write_bytes(content)
    notes, quarantine = read(path)
    assert not notes
    assert quarantine.counts() == {"empty_file": 1}


def test_utf16_is_quarantined_as_a_whole(tmp_path: Path, read) -> None:
    path = tmp_path / "n.csv"
    path.write_text("text\ncough\n", encoding="utf-16")
    assert read(path)[1].counts() == {"bad_utf8": 1}


def test_strict_reading_names_the_physical_line(tmp_path: Path) -> None:
    path = tmp_path / "n.csv"
    path.write_bytes(HEADER + b'1,a,"two\nlines"\n2,b,caf\xe9 secret\n')
    with pytest.raises(WorkError) as caught:
        list(read_notes([path], quarantine=Quarantine(strict=True)))
    assert caught.value.message.startswith("n.csv, line 4: bad_utf8")
    assert "secret" not in str(caught.value)


def test_a_named_column_that_is_missing_is_wrong_usage(tmp_path: Path, read) -> None:
    path = write_csv(tmp_path / "n.csv", ["id", "body"], [["1", "cough"]])
    with pytest.raises(UsageError, match=r'n\.csv has no column "text".*id, body'):
        read(path, mapping=ColumnMapping(text="text"))


def test_fields_left_open_are_guessed_beside_named_ones(tmp_path: Path, read) -> None:
    path = write_csv(tmp_path / "n.csv", ["mrn", "letter", "site"], [["9", "Dear colleague", "north"]])
    (note,) = read(path, mapping=ColumnMapping(text="LETTER", group="Site"))[0]
    assert (note.text, note.patient_id, note.group) == ("Dear colleague", "9", "north")
