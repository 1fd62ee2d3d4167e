from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pyarrow as pa
import pytest
from safetensors import SafetensorError

from protocols.durable import whole_file, whole_folder, write_text
from protocols.errors import UsageError, WorkError


def disk_is_full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_file_appears_with_its_content_and_for_its_owner_alone(tmp_path):
    before = os.umask(0)
    try:
        write_text(tmp_path / "new" / "a.txt", "süß")
    finally:
        os.umask(before)
    path = tmp_path / "new" / "a.txt"
    assert path.read_text(encoding="utf-8") == "süß"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_file_is_not_there_before_the_block_ends(tmp_path):
    with whole_file(tmp_path / "a") as partial:
        partial.write_text("x")
        assert not (tmp_path / "a").exists()
    assert (tmp_path / "a").exists()


def test_exception_in_the_block_leaves_the_old_file_and_no_partial(tmp_path):
    write_text(tmp_path / "a", "old")
    with pytest.raises(KeyError), whole_file(tmp_path / "a") as partial:
        partial.write_text("half of the n")
        raise KeyError
    assert (tmp_path / "a").read_text() == "old"
    assert names(tmp_path) == ["a"]


def test_partial_of_a_killed_process_does_no_harm(tmp_path):
    (tmp_path / ".a.partial").write_text("left over and longer than the new text")
    write_text(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "new"
    assert names(tmp_path) == ["a"]


def test_full_disk_is_a_work_error_and_leaves_the_old_file(tmp_path, monkeypatch):
    write_text(tmp_path / "a", "old")
    monkeypatch.setattr(os, "fsync", disk_is_full)
    with pytest.raises(WorkError) as caught:
        write_text(tmp_path / "a", "new")
    assert "could not be written: No space left on device" in caught.value.message
    assert caught.value.hint is not None
    assert (tmp_path / "a").read_text() == "old"
    assert names(tmp_path) == ["a"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_write_that_the_kernel_refuses_is_a_work_error(tmp_path):
    with pytest.raises(WorkError, match="No space left"), whole_file(tmp_path / "a"):
        Path("/dev/full").write_text("x")
    assert names(tmp_path) == []


def test_folder_that_cannot_be_made_is_a_work_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WorkError, match="could not be written"):
        write_text(tmp_path / "file" / "a", "x")


def test_folder_is_replaced_whole(tmp_path):
    for name in ("one", "two"):
        with whole_folder(tmp_path / "f") as partial:
            (partial / name).write_text(name)
            (partial / "sub").mkdir()
            (partial / "sub" / "deep").write_text(name)
    assert names(tmp_path / "f") == ["sub", "two"]
    assert (tmp_path / "f" / "sub" / "deep").read_text() == "two"
    assert names(tmp_path) == ["f"]
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o700


def test_exception_in_the_block_leaves_the_old_folder_and_no_partial(tmp_path):
    with whole_folder(tmp_path / "f") as partial:
        (partial / "old").touch()
    with pytest.raises(KeyError), whole_folder(tmp_path / "f") as partial:
        (partial / "new").touch()
        raise KeyError
    assert names(tmp_path / "f") == ["old"]
    assert names(tmp_path) == ["f"]


def test_full_disk_leaves_the_old_folder(tmp_path, monkeypatch):
    with whole_folder(tmp_path / "f") as partial:
        (partial / "old").touch()
    monkeypatch.setattr(os, "fsync", disk_is_full)
    with pytest.raises(WorkError, match="No space left"), whole_folder(tmp_path / "f") as partial:
        (partial / "new").touch()
    assert names(tmp_path / "f") == ["old"]
    assert names(tmp_path) == ["f"]


def test_rename_that_fails_half_way_brings_the_old_folder_back(tmp_path, monkeypatch):
    with whole_folder(tmp_path / "f") as partial:
        (partial / "old").touch()
    replace = Path.replace

    def fail_for_the_partial(self: Path, target: Path) -> Path:
        if self.name.endswith(".partial"):
            disk_is_full()
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail_for_the_partial)
    with pytest.raises(WorkError), whole_folder(tmp_path / "f") as partial:
        (partial / "new").touch()
    assert names(tmp_path / "f") == ["old"]
    assert names(tmp_path) == ["f"]


FULL_IN_OTHER_WORDS = [
    SafetensorError("Error while serializing: IoError: No space left on device (os error 28)"),
    pa.ArrowException("Error writing bytes to file. Detail: [errno 28] No space left on device"),
    OSError("Error writing bytes to file. Detail: [errno 28] No space left on device"),
]


@pytest.mark.parametrize("block", [whole_file, whole_folder])
@pytest.mark.parametrize("error", FULL_IN_OTHER_WORDS, ids=lambda error: type(error).__name__)
def test_full_disk_in_the_words_of_a_library_is_the_same_work_error(tmp_path, block, error):
    with pytest.raises(WorkError) as caught, block(tmp_path / "a"):
        raise error
    assert caught.value.message == f"{tmp_path / 'a'} could not be written: No space left on device."
    assert caught.value.hint is not None
    assert names(tmp_path) == []


@pytest.mark.parametrize("block", [whole_file, whole_folder])
@pytest.mark.parametrize(
    "error", [ValueError("wrong"), SafetensorError("header too large"), UsageError("No space left on device?")]
)
def test_other_exceptions_pass_unchanged(tmp_path, block, error):
    with pytest.raises(type(error)) as caught, block(tmp_path / "a"):
        raise error
    assert caught.value is error
