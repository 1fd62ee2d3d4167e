from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from protocols.errors import FednotesError, UsageError, WorkError
from site_client.notes.mapping import ColumnMapping
from site_client.notes.quarantine import Quarantine
from site_client.notes.reader import read_notes


def write(root: Path, **files: str) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def test_text_files_are_one_note_each_in_a_fixed_order(tmp_path: Path, read) -> None:
    write(tmp_path, **{"b/2.txt": "two", "b/1.TXT": "one", "a/x/3.txt": "three", "0.txt": "zero"})
    notes, quarantine = read(tmp_path)
    assert [(note.note_id, note.source, note.text) for note in notes] == [
        ("0", "0.txt", "zero"),
        ("a/x/3", "a/x/3.txt", "three"),
        ("b/1", "b/1.TXT", "one"),
        ("b/2", "b/2.txt", "two"),
    ]
    assert {note.group for note in notes} == {note.patient_id for note in notes} == {None}
    assert not quarantine.rows


def test_subfolders_stand_for_hospitals_and_patients_when_asked(tmp_path: Path, read) -> None:
    write(tmp_path, **{"north/p1/a.txt": "x", "north/n.csv": "text\ny\n", "south/p1/b.txt": "z", "loose.txt": "w"})
    notes, _ = read(tmp_path, mapping=ColumnMapping(group="folder", patient_id="folder"))
    assert [(note.text, note.group, note.patient_id) for note in notes] == [
        ("w", None, None),
        ("y", "north", "north"),
        ("x", "north", "north/p1"),
        ("z", "south", "south/p1"),
    ]


def test_a_folder_may_mix_kinds_and_what_cannot_be_read_is_quarantined(tmp_path: Path, read) -> None:
    write(tmp_path, **{"a.csv": "text\none\n", "b.jsonl": '{"text": "two"}\n', "c.pdf": "%PDF", ".DS_Store": "x"})
    write(tmp_path, **{"patients.csv": "subject_id,gender\n1,F\n", "e.txt": "   "})
    pq.write_table(pa.table({"text": ["three"]}), tmp_path / "d.parquet")
    notes, quarantine = read(tmp_path)
    assert [note.text for note in notes] == ["one", "two", "three"]
    assert [(row.source, row.reason) for row in quarantine.rows] == [
        ("c.pdf", "unsupported_file"),
        ("e.txt", "empty_text"),
        ("patients.csv", "no_text_column"),
    ]


def test_a_mistyped_column_is_wrong_usage_when_no_file_of_the_folder_has_it(tmp_path: Path, read) -> None:
    write(tmp_path, **{"a.csv": "text\none\n", "b.csv": "text\ntwo\n"})
    with pytest.raises(UsageError, match='no column "txet"'):
        read(tmp_path, mapping=ColumnMapping(text="txet"))


def test_a_folder_without_any_readable_file_is_wrong_usage(tmp_path: Path, read) -> None:
    with pytest.raises(UsageError, match="no file that can be read as notes"):
        read(write(tmp_path, **{"a.pdf": "%PDF"}))


def test_links_are_quarantined_and_neither_loops_nor_leave_the_folder(tmp_path: Path, read) -> None:
    outside = write(tmp_path / "outside", **{"secret.txt": "elsewhere"})
    inside = write(tmp_path / "inside", **{"a/note.txt": "here"})
    (inside / "a" / "loop").symlink_to(inside)
    (inside / "away").symlink_to(outside)
    (inside / "file.txt").symlink_to(outside / "secret.txt")
    notes, quarantine = read(inside)
    assert [note.text for note in notes] == ["here"]
    assert {row.source for row in quarantine.rows} == {"a/loop", "away", "file.txt"}
    assert quarantine.counts() == {"link_not_followed": 3}


def test_a_broken_byte_costs_its_text_file_alone(tmp_path: Path, read) -> None:
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbfcaf\xc3\xa9")
    notes, quarantine = read(tmp_path)
    assert [note.text for note in notes] == ["café"]
    assert [(row.source, row.position, row.reason) for row in quarantine.rows] == [("a.txt", 0, "bad_utf8")]


def test_a_file_name_that_is_no_utf8_still_gives_a_printable_source(tmp_path: Path, read) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt")).write_text("x")
    (note,) = read(tmp_path)[0]
    assert note.source.encode() == b"caf\\xe9.txt"


def test_a_pipe_in_a_folder_is_not_waited_for(tmp_path: Path, read) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    write(tmp_path, **{"a.txt": "x"})
    assert read(tmp_path)[1].counts() == {"unsupported_file": 1}


@pytest.mark.parametrize("name", ["notes.xlsx", "notes.xml", "notes.csv.zip", "notes.json"])
def test_a_named_file_of_unsupported_kind_is_refused_before_anything_is_read(tmp_path: Path, name: str) -> None:
    write(tmp_path, **{name: "<x>", "good.csv": "text\none\n"})
    with pytest.raises(UsageError, match="of no kind that can be read"):
        read_notes([tmp_path / "good.csv", tmp_path / name], quarantine=Quarantine())


@pytest.mark.parametrize("name", ["absent.csv", "good.csv/below.csv", "nul\0.csv"])
def test_a_missing_path_is_refused_before_anything_is_read(tmp_path: Path, name: str) -> None:
    write(tmp_path, **{"good.csv": "text\none\n"})
    with pytest.raises(UsageError, match="There is no file or folder"):
        read_notes([tmp_path / "good.csv", tmp_path / name], quarantine=Quarantine())


@pytest.fixture
def guarded() -> Iterator[Path]:
    """A folder that an ordinary user may list, read as such a user: permissions do not bind the superuser."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        write(folder, **{"a.csv": "text\none\n", "b.csv": "text\ntwo\n", "c.parquet": "PAR1", "shut/d.txt": "x"})
        for shut in ("b.csv", "c.parquet", "shut"):
            (folder / shut).chmod(0)
        was = os.geteuid()
        if was == 0:
            os.seteuid(65534)
        try:
            yield folder
        finally:
            os.seteuid(was)
            (folder / "shut").chmod(0o700)


def test_what_may_not_be_read_is_quarantined_and_the_rest_is_read(guarded: Path, read) -> None:
    notes, quarantine = read(guarded)
    assert [note.text for note in notes] == ["one"]
    assert [(row.source, row.reason) for row in quarantine.rows] == [
        ("b.csv", "unreadable_file"),
        ("c.parquet", "unreadable_file"),
        ("shut", "unreadable_file"),
    ]


def test_a_named_file_that_may_not_be_read_is_quarantined(guarded: Path, read) -> None:
    assert read(guarded / "b.csv")[1].counts() == {"unreadable_file": 1}
    assert read(guarded / "shut" / "d.txt")[1].counts() == {"unreadable_file": 1}


def test_strict_reading_stops_at_an_unsupported_file(tmp_path: Path) -> None:
    write(tmp_path, **{"a.txt": "x", "b.pdf": "%PDF"})
    with pytest.raises(WorkError, match=r"b\.pdf: unsupported_file"):
        list(read_notes([tmp_path], quarantine=Quarantine(strict=True)))


PATIENTS = ColumnMapping(patient_id="folder")


def test_files_of_patient_folders_are_named_by_their_order_and_never_by_their_path(tmp_path: Path, read) -> None:
    write(tmp_path, **{"Zebedee/a.txt": "x", "Zebedee/b.txt": " ", "Zebedee/n.csv": "text\none\n,\n"})
    write(tmp_path, **{"Yeti/c.pdf": "%PDF", "Yeti/d.csv": "mrn\n1\n", "Yeti/e.txt": "y"})
    (tmp_path / "Yeti" / "Zebedee").symlink_to(tmp_path / "Zebedee")
    notes, quarantine = read(tmp_path, mapping=PATIENTS)
    assert [(note.source, note.patient_id, note.text) for note in notes] == [
        ("file 4", "Yeti", "y"),
        ("file 5", "Zebedee", "x"),
        ("file 7", "Zebedee", "one"),
    ]
    assert [(row.where, row.reason) for row in quarantine.rows] == [
        ("file 1", "link_not_followed"),
        ("file 2", "unsupported_file"),
        ("file 3", "no_text_column"),
        ("file 6", "empty_text"),
        ("file 7, line 3", "malformed_row"),
    ]


def test_note_identifiers_of_patient_folders_outlive_a_new_patient(tmp_path: Path, read) -> None:
    write(tmp_path, **{"p2/a.txt": "x", "p3/a.txt": "y", "p3/n.csv": "text\none\ntwo\n"})
    before = {note.note_id for note in read(tmp_path, mapping=PATIENTS)[0]}
    write(tmp_path, **{"p1/a.txt": "z"})
    after = [note.note_id for note in read(tmp_path, mapping=PATIENTS)[0]]
    assert len(before) == 4 and len(set(after)) == len(after) == 5
    assert before < set(after)


def test_order_goes_on_over_several_patient_folders_and_files(tmp_path: Path, read) -> None:
    write(tmp_path, **{"north/p1/a.txt": "x", "south/p1/a.txt": "y", "Zebedee.txt": "z"})
    notes, _ = read(tmp_path / "north", tmp_path / "south", tmp_path / "Zebedee.txt", mapping=PATIENTS)
    assert [note.source for note in notes] == ["file 1", "file 2", "file 3"]
    assert len({note.note_id for note in notes}) == 3


@pytest.mark.parametrize("content", [b"text\ncaf\xe9\n", b"mrn\n1\n"])
def test_errors_about_patient_folders_hold_no_path(tmp_path: Path, content: bytes) -> None:
    write(tmp_path, **{"Zebedee/n.csv": ""})
    (tmp_path / "Zebedee" / "n.csv").write_bytes(content)
    with pytest.raises(FednotesError, match="file 1") as caught:
        list(read_notes([tmp_path], mapping=PATIENTS, quarantine=Quarantine(strict=True)))
    assert "Zebedee" not in str(caught.value)


def test_a_closed_patient_folder_is_set_aside_without_its_name(guarded: Path, read) -> None:
    quarantine = read(guarded, mapping=PATIENTS)[1]
    assert [(row.source, row.reason) for row in quarantine.rows] == [
        ("file 2", "unreadable_file"),
        ("file 3", "unreadable_file"),
        ("file 4", "unreadable_file"),
    ]
