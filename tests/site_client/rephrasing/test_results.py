"""The results file: whole batches or nothing, whatever happens to the file."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from site_client.rephrasing.results import Result, ResultsFile, contains, job_keys


def result(number: int, text: str = "The patient coughs.") -> Result:
    return Result(
        job=hashlib.sha256(str(number).encode()).hexdigest(),
        chunk_key=f"note{number}-0",
        note_key=f"note{number}",
        patient_key=f"patient{number % 3}",
        text=text,
        finish_reason="stop",
        prompt_tokens=5,
        output_tokens=4,
        reasons=["copy"] if number % 2 else [],
    )


@pytest.fixture
def file(tmp_path: Path) -> ResultsFile:
    """Three batches of four results."""
    made = ResultsFile(tmp_path / "arm" / "results")
    for start in (0, 4, 8):
        made.append([result(n) for n in range(start, start + 4)])
    return made


def test_what_was_written_is_read_in_order(file: ResultsFile) -> None:
    assert list(file.read()) == [result(n) for n in range(12)]
    assert file.repair() == 0


def test_a_file_that_is_not_there_is_empty(tmp_path: Path) -> None:
    none = ResultsFile(tmp_path / "results")
    assert list(none.read()) == [] and none.repair() == 0 and len(none.jobs()) == 0
    none.append([])
    assert not none.path.exists()


def test_text_of_any_kind_survives(tmp_path: Path) -> None:
    file = ResultsFile(tmp_path / "results")
    texts = ['line\nbreak {"batch": 3}\n', "\u2028\x00\x1b[31m", "\ud800 lone surrogate", "caf\u00e9 \U0001f600", ""]
    file.append([result(n, text) for n, text in enumerate(texts)])
    assert [r.text for r in file.read()] == texts


@pytest.mark.parametrize("kept", [0, 1, 30, 0.2, 0.34, 0.5, 0.67, 0.99])
def test_a_cut_file_is_read_and_repaired_to_its_last_whole_batch(file: ResultsFile, kept: float) -> None:
    content = file.path.read_bytes()
    size = kept if isinstance(kept, int) else int(len(content) * kept)
    file.path.write_bytes(content[:size])
    survived = list(file.read())
    assert len(survived) % 4 == 0 and survived == [result(n) for n in range(len(survived))]
    assert (file.repair() > 0) == (size > 0 and size not in _ends(content))
    assert list(file.read()) == survived and file.repair() == 0
    file.append([result(99)])
    assert list(file.read()) == [*survived, result(99)]


def _ends(content: bytes) -> list[int]:
    """Where whole batches end."""
    ends, at = [], 0
    while at < len(content):
        line = content.index(b"\n", at) + 1
        at = line + int(content[at:line].split(b'"bytes": ')[1].split(b",")[0])
        ends.append(at)
    return ends


@given(place=st.integers(0, 10_000), byte=st.integers(0, 255))
@example(place=1153, byte=0)  # the line end before the next header
@settings(max_examples=150, deadline=None)
def test_a_changed_byte_costs_at_most_its_own_batch(tmp_path_factory, place: int, byte: int) -> None:
    file = ResultsFile(tmp_path_factory.mktemp("results") / "results")
    for start in (0, 4, 8):
        file.append([result(n) for n in range(start, start + 4)])
    content = bytearray(file.path.read_bytes())
    place %= len(content)
    if content[place] == byte:
        return
    content[place] = byte
    file.path.write_bytes(content)
    survived = list(file.read())
    assert len(survived) in (8, 12)  # 12 where white space of a header changed
    assert all(r in [result(n) for n in range(12)] for r in survived)
    file.repair()
    assert list(file.read()) == survived


def test_a_batch_that_was_damaged_in_the_middle_is_taken_out_and_the_rest_stays(file: ResultsFile) -> None:
    content = file.path.read_bytes()
    first, second, _ = _ends(content)
    file.path.write_bytes(content[: first + 20] + b"!" + content[second - 50 :])
    kept = [result(n) for n in (0, 1, 2, 3, 8, 9, 10, 11)]
    assert list(file.read()) == kept
    assert file.repair() > 0 and list(file.read()) == kept
    assert file.repair() == 0


def test_rewriting_is_all_or_nothing(file: ResultsFile) -> None:
    def stops():
        yield result(1)
        raise KeyboardInterrupt

    before = file.path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        file.rewrite(stops())
    assert file.path.read_bytes() == before
    file.rewrite((result(n) for n in range(3)), batch=2)
    assert list(file.read()) == [result(n) for n in range(3)]


def test_jobs_are_found_among_sorted_keys(file: ResultsFile) -> None:
    jobs = file.jobs()
    assert all(contains(jobs, result(n).job) for n in range(12))
    assert not any(contains(jobs, result(n).job) for n in range(12, 200))
    assert not contains(job_keys(iter([])), result(1).job)
    ends_in_zero = "ab" * 15 + "00" + "0" * 32
    assert contains(job_keys(iter([ends_in_zero])), ends_in_zero)


@pytest.mark.slow
def test_a_full_disk_costs_no_batch_that_was_there(tmp_path: Path) -> None:
    """On a real file system of 1 MB."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("needs root and a mount namespace for a small disk")
    script = """
import sys
from pathlib import Path
from protocols.errors import StorageError
from rephrasing_results import result
from site_client.rephrasing.results import ResultsFile
file = ResultsFile(Path(sys.argv[1]) / "results")
written = 0
try:
    while True:
        file.append([result(written + n, "word " * 2000) for n in range(4)])
        written += 4
except StorageError as error:
    print(error)
assert written > 0 and [r.job for r in file.read()] == [result(n).job for n in range(written)]
assert file.repair() > 0 and file.repair() == 0
assert [r.job for r in file.read()] == [result(n).job for n in range(written)]
"""
    (tmp_path / "rephrasing_results.py").write_text(Path(__file__).read_text())
    (tmp_path / "disk").mkdir()
    command = 'mount -t tmpfs -o size=1m tmpfs "$1/disk" && exec "$2" -c "$3" "$1/disk"'
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{Path.cwd()}:{Path.cwd() / 'tests'}"}
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", command, "sh", tmp_path, sys.executable, script],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert "No space left on device" in done.stdout and "free some space" in done.stdout
