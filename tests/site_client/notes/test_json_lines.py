from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from protocols.errors import UsageError, WorkError
from site_client.notes import sources
from site_client.notes.mapping import ColumnMapping
from site_client.notes.quarantine import Quarantine
from site_client.notes.reader import read_notes


def write_lines(path: Path, *lines: object) -> Path:
    encoded = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    content = b"\n".join(encoded) + b"\n"
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("name", ["n.jsonl", "n.ndjson", "n.jsonl.gz", "export.dat"])
def test_json_lines_are_read_plain_and_packed_and_known_by_content(tmp_path: Path, read, name: str) -> None:
    path = write_lines(tmp_path / name, {"note_id": 1, "mrn": "a", "text": "naïve\ncafé"})
    (note,) = read(path)[0]
    assert (note.note_id, note.patient_id, note.text, note.source) == ("1", "a", "naïve\ncafé", name)


def test_each_fault_is_quarantined_with_its_line_and_the_rest_is_read(tmp_path: Path, read) -> None:
    faulty: list[tuple[object, str]] = [
        (b'{"text": "caf\xe9"}', "bad_utf8"),
        (b'{"text": "half', "malformed_json"),
        (b'["text"]', "malformed_json"),
        (b"[" * 100_000, "malformed_json"),
        (b'{"text": "x", "id": ' + b"9" * 5000 + b"}", "malformed_json"),
        ({"note_id": "7"}, "missing_text_field"),
        ({"text": None}, "empty_text"),
        ({"text": " \n "}, "empty_text"),
        ({"text": 12}, "malformed_row"),
        ({"text": "x", "patient_id": {"reference": "x"}}, "malformed_row"),
        ({"text": "a\0b"}, "embedded_nul"),
        (b'{"text": "half a pair \\ud800"}', "bad_utf8"),
        ({"text": "x", "patient_id": "a\0b"}, "embedded_nul"),
    ]
    path = write_lines(tmp_path / "n.jsonl", {"text": "first"}, *(line for line, _ in faulty), b"", {"text": "last"})
    notes, quarantine = read(path)
    assert [(row.position, row.unit, row.reason) for row in quarantine.rows] == [
        (number, "line", reason) for number, (_, reason) in enumerate(faulty, start=2)
    ]
    assert [(note.text, note.position) for note in notes] == [("first", 1), ("last", len(faulty) + 3)]


def test_a_key_that_the_first_records_leave_out_is_still_found(tmp_path: Path, read) -> None:
    path = write_lines(tmp_path / "n.jsonl", *[{"text": "x"}] * 300, {"patient_id": "p", "text": "y"})
    notes, _ = read(path)
    assert notes[-1].patient_id == "p"


def test_one_patient_has_one_spelling_whether_number_or_string(tmp_path: Path, read) -> None:
    path = write_lines(
        tmp_path / "n.jsonl", *({"text": "x", "patient_id": spelled} for spelled in (7, 7.0, "7.0", " 7 "))
    )
    assert {note.patient_id for note in read(path)[0]} == {"7"}


def test_a_missing_number_is_no_identifier(tmp_path: Path, read) -> None:
    path = write_lines(tmp_path / "n.jsonl", {"text": "x", "patient_id": float("nan")})
    assert read(path)[0][0].patient_id is None


def test_a_key_that_no_record_has_is_wrong_usage(tmp_path: Path, read) -> None:
    path = write_lines(tmp_path / "n.jsonl", {"id": 1, "text": "x"}, {"text": "y", "ward": "z"})
    with pytest.raises(UsageError, match="id, text, ward"):
        read(path, mapping=ColumnMapping(patient_id="pid"))


def test_a_line_above_the_limit_is_quarantined_and_counted_as_one_line(tmp_path: Path, read) -> None:
    long = b'{"text": "' + b"x" * (2 * sources.FIELD_LIMIT) + b'"}'
    notes, quarantine = read(write_lines(tmp_path / "n.jsonl", {"text": "a"}, long, {"text": "b"}))
    assert [(row.position, row.reason) for row in quarantine.rows] == [(2, "field_too_large")]
    assert [(note.text, note.position) for note in notes] == [("a", 1), ("b", 3)]


def test_byte_order_mark_and_windows_line_ends_are_accepted(tmp_path: Path, read) -> None:
    path = tmp_path / "n.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "a"}\r\n{"text": "b"}\r\n')
    notes, quarantine = read(path)
    assert [note.text for note in notes] == ["a", "b"]
    assert not quarantine.rows


def test_truncated_gzip_is_quarantined_with_its_line(tmp_path: Path, read) -> None:
    path = write_lines(tmp_path / "n.jsonl.gz", *({"text": f"note {i} {i * 7919 % 1009}"} for i in range(5000)))
    path.write_bytes(path.read_bytes()[:-2000])
    notes, quarantine = read(path)
    assert [note.position for note in notes] == list(range(1, len(notes) + 1))
    assert 1000 < len(notes) < 5000
    assert [(row.position, row.reason) for row in quarantine.rows] == [(len(notes) + 1, "truncated_archive")]


def test_strict_reading_names_the_line_and_not_the_text(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "n.jsonl", {"text": "a"}, b'{"text": "secret')
    with pytest.raises(WorkError) as caught:
        list(read_notes([path], quarantine=Quarantine(strict=True)))
    assert caught.value.message.startswith("n.jsonl, line 2: malformed_json")
    assert "secret" not in str(caught.value)
