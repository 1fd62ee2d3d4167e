from __future__ import annotations

import shutil
import stat
from pathlib import Path

import pytest

from protocols.errors import UsageError
from simulations.options import Options
from simulations.run_folder import RunFolder

THIS, OTHER = Options(seed=1), Options(seed=2)


def take(path: Path, options: Options = THIS, *, resume: bool = False, overwrite: bool = False) -> None:
    RunFolder.open(path, options, resume=resume, overwrite=overwrite).close()


def options_in(path: Path) -> Options:
    return Options.model_validate_json((path / "run.json").read_bytes())


def fill(path: Path, *names: str) -> Path:
    """Put files and, where a name ends in a slash, folders with a file into a run's folder."""
    take(path)
    for name in names:
        if name.endswith("/"):
            (path / name).mkdir()
            (path / name / "file").write_text("x")
        else:
            (path / name).write_text("x")
    return path


def test_new_folder_is_for_its_owner_alone_and_knows_its_options(tmp_path):
    take(tmp_path / "a" / "run")
    assert stat.S_IMODE((tmp_path / "a" / "run").stat().st_mode) == 0o700
    assert options_in(tmp_path / "a" / "run") == THIS


@pytest.mark.parametrize("leftovers", [[], [".lock"], [".lock", ".run.json.partial"]])
def test_folder_with_nothing_but_our_leftovers_counts_as_empty(tmp_path, leftovers):
    for name in leftovers:
        (tmp_path / name).touch()
    take(tmp_path)
    assert options_in(tmp_path) == THIS


@pytest.mark.parametrize("overwrite", [False, True])
def test_folder_of_other_files_is_refused_and_left_as_it_is(tmp_path, overwrite):
    (tmp_path / "thesis.txt").write_text("three years")
    with pytest.raises(UsageError, match="no run of fednotes"):
        take(tmp_path, overwrite=overwrite)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file"):
        take(tmp_path / "file")


def test_folder_that_cannot_be_made_is_wrong_usage(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written: Not a directory"):
        take(tmp_path / "file" / "run")


@pytest.mark.parametrize("options", [THIS, OTHER])
def test_prepared_run_is_kept_unless_told_otherwise(tmp_path, options):
    fill(tmp_path, "prepared.json")
    with pytest.raises(UsageError, match="holds a run already"):
        take(tmp_path, options)
    assert (tmp_path / "prepared.json").exists()
    assert options_in(tmp_path) == THIS


def test_resume_takes_equal_options_and_refuses_others_by_name(tmp_path):
    fill(tmp_path, "prepared.json")
    take(tmp_path, THIS, resume=True)
    with pytest.raises(UsageError, match="other options: seed differ"):
        take(tmp_path, OTHER, resume=True)
    assert (tmp_path / "prepared.json").exists()


def test_refusal_lets_go_of_the_lock(tmp_path):
    fill(tmp_path, "prepared.json")
    with pytest.raises(UsageError):
        take(tmp_path, OTHER, resume=True)
    take(tmp_path, resume=True)


def test_second_process_is_refused_while_the_first_one_works(tmp_path):
    run = RunFolder.open(tmp_path, THIS, resume=False, overwrite=False)
    try:
        for overwrite in (False, True):
            with pytest.raises(UsageError, match="Another process"):
                take(tmp_path, OTHER, overwrite=overwrite)
    finally:
        run.close()
    assert options_in(tmp_path) == THIS


def test_overwrite_clears_a_run_and_no_file_that_no_run_wrote(tmp_path):
    names = ["prepared.json", "rephrased.json", "timing.json", "results.json", "report.html", ".report.html.partial"]
    fill(
        tmp_path, *names, "sites/", "sets/", "initial/", ".model.old/", "studies/", "arms/", "logs/", "model/", "my.txt"
    )
    take(tmp_path, OTHER, overwrite=True)
    assert {p.name for p in tmp_path.iterdir()} - {".lock"} == {"run.json", "my.txt"}
    assert options_in(tmp_path) == OTHER


def test_run_killed_while_it_is_cleared_can_be_overwritten_again(tmp_path, monkeypatch):
    fill(tmp_path, "prepared.json", "results.json", "sites/", "arms/", "studies/")
    whole = shutil.rmtree
    cleared: list[str] = []

    def die_at_the_last_folder(path: Path) -> None:
        if len(cleared) == 2:
            raise KeyboardInterrupt
        cleared.append(path.name)
        whole(path)

    monkeypatch.setattr(shutil, "rmtree", die_at_the_last_folder)
    with pytest.raises(KeyboardInterrupt):
        take(tmp_path, OTHER, overwrite=True)
    monkeypatch.undo()
    assert len([p for p in tmp_path.iterdir() if p.is_dir()]) == 1
    assert (tmp_path / "run.json").exists()
    take(tmp_path, OTHER, overwrite=True)
    assert {p.name for p in tmp_path.iterdir()} - {".lock"} == {"run.json"}
    assert options_in(tmp_path) == OTHER


def test_run_that_prepared_nothing_gives_way_to_other_options(tmp_path):
    fill(tmp_path, "timing.json", "notes.csv", "planted.json", ".prepared.json.partial", "sites/", "sets/", "initial/")
    take(tmp_path, OTHER)
    assert {p.name for p in tmp_path.iterdir()} - {".lock"} == {"run.json"}
    assert options_in(tmp_path) == OTHER


@pytest.mark.parametrize("name", ["arms/", "studies/", "rephrased.json", "results.json", "thesis.txt"])
def test_folder_with_anything_to_lose_never_gives_way(tmp_path, name):
    fill(tmp_path, name)
    with pytest.raises(UsageError, match="holds a run already"):
        take(tmp_path, OTHER)
    assert (tmp_path / name).exists()


def test_run_file_of_another_program_never_gives_way(tmp_path):
    (tmp_path / "run.json").write_text('{"tool": "another"}')
    with pytest.raises(UsageError, match="holds a run already"):
        take(tmp_path)
    assert (tmp_path / "run.json").read_text() == '{"tool": "another"}'
