"""Random bytes into every reader that parses bytes itself: only our own errors, and no input in their messages."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import FednotesError
from site_client.notes.quarantine import Quarantine
from site_client.notes.reader import read_notes

MARKER = b"Zq7Xw9Kv"
CSV_HEADER = b"note_id,text\n"

csv_like = st.lists(
    st.sampled_from([b",", b'"', b"\n", b"\r", b"\r\n", b"\0", b"\xff", b"\xe2\x82", MARKER, b"1,a\n", b"\xef\xbb\xbf"])
    | st.binary(max_size=8),
    max_size=60,
).map(b"".join)
json_like = st.lists(
    st.sampled_from(
        [
            *(b"{", b"}", b"[", b"]", b'"', b":", b",", b"\n", b"\\", b"\\ud800", b"\0", b"\xff", b"1e999", b"NaN"),
            *(
                b'{"text": "' + MARKER + b'"}\n',
                b'{"text": 1}\n',
                b'{"patient_id": ["' + MARKER + b'"], "text": "a"}\n',
            ),
        ]
    )
    | st.binary(max_size=8),
    max_size=40,
).map(b"".join)


def read_bytes(name: str, content: bytes, *, strict: bool) -> str:
    """Read to the end or to the first error; returns every message that came of it."""
    quarantine = Quarantine(strict=strict)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        try:
            for note in read_notes([path], quarantine=quarantine):
                note.text.encode()  # what is yielded can be written
        except FednotesError as error:
            return f"{error} {error!r} {error.__cause__!r} {quarantine.rows}"
    return str(quarantine.rows)


@pytest.mark.parametrize("strict", [False, True])
@given(content=csv_like)
@settings(max_examples=150, deadline=None)
def test_random_csv_records_raise_nothing_foreign_and_never_show_in_a_message(strict: bool, content: bytes) -> None:
    assert MARKER.decode() not in read_bytes("n.csv", CSV_HEADER + content, strict=strict)


@pytest.mark.parametrize("strict", [False, True])
@given(content=json_like)
@settings(max_examples=150, deadline=None)
def test_random_json_lines_raise_nothing_foreign_and_never_show_in_a_message(strict: bool, content: bytes) -> None:
    whole = b'{"text": "a note"}\n' + content
    assert MARKER.decode() not in read_bytes("n.jsonl", whole, strict=strict)


@pytest.mark.parametrize("name", ["n.csv", "n.tsv", "n.jsonl", "n.txt", "n.csv.gz", "n.dat"])
@given(content=st.binary(max_size=200) | csv_like | json_like)
@settings(max_examples=60, deadline=None)
def test_random_files_raise_nothing_foreign(name: str, content: bytes) -> None:
    read_bytes(name, content, strict=False)


@given(content=csv_like, cut=st.integers(min_value=0, max_value=200), flip=st.integers(min_value=0, max_value=200))
@settings(max_examples=150, deadline=None)
def test_cut_and_flipped_archives_raise_nothing_foreign(content: bytes, cut: int, flip: int) -> None:
    packed = bytearray(gzip.compress(CSV_HEADER + content))
    packed[flip % len(packed)] ^= 0x55
    read_bytes("n.csv.gz", bytes(packed[: max(len(packed) - cut, 0)]), strict=False)


@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
@settings(max_examples=150, deadline=None)
def test_any_text_comes_out_of_a_quoted_csv_as_it_went_in(text: str) -> None:
    content = CSV_HEADER + b'1,"' + text.replace('"', '""').encode() + b'"\n'
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "n.csv"
        path.write_bytes(content)
        notes = list(read_notes([path], quarantine=Quarantine()))
    assert [note.text for note in notes] == ([] if text.isspace() else [text])
