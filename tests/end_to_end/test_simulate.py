"""The main job from the command line: what it writes, what it refuses, and how it survives a kill.

Runs are shared where tests only look at them: a run on three generated hospitals (``finished``), one of five rounds
(``undisturbed``), one on an export with all that exports suffer from (``messy``), and one on a single hospital
(``mapped``).
"""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests_support import command, fednotes, fednotes_here

from privacy.note_types import CleanNote
from simulations.options import Options
from simulations.results import Results
from simulations.run_folder import RunFolder
from simulations.scenarios import SCENARIOS
from site_client.folder import SiteFolder
from site_client.receipts import ReceiptBook
from site_client.store import read_split

pytestmark = pytest.mark.slow

SPLITS = ("train", "validation", "test")
ROUNDS = 10  # so many that the signal arrives before the last one, on a busy machine too


def simulate_words(export: Path, out: Path, *more: object) -> list[object]:
    return ["simulate", "--notes", export, "--site-by", "hospital", "--scenario", "smoke", "--out", out, *more]


def refused(done: subprocess.CompletedProcess[str], status: int = 2) -> str:
    """What a command that failed properly said."""
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr and "unexpected" not in done.stderr, done.stderr
    return done.stderr


def finish(*words: object) -> Results:
    """Run a command to its end, and give what it found."""
    done = fednotes(*words, "--json")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return Results.model_validate_json(done.stdout)


def notes_by_side(run: Path) -> Iterator[tuple[str, CleanNote]]:
    """All notes of all hospitals of a run, with their side of the split."""
    for site in sorted((run / "sites").iterdir()):
        for split in SPLITS:
            for note in read_split(SiteFolder(site).notes, split):
                yield split, note


def test_results_follow_the_schema_and_name_every_hospital(finished: Path) -> None:
    results = Results.model_validate_json((finished / "results.json").read_bytes())
    assert len(results.sites) == 3
    (arm,) = results.arms
    assert arm.name == "federated" and len(arm.rounds) == 2
    assert set(arm.bits_per_byte) == {"all", *(s.name for s in results.sites)}
    recipe = SCENARIOS["smoke"].recipe
    assert arm.train_tokens == len(arm.rounds) * recipe.steps * recipe.tokens_per_step * len(results.sites)
    for score in arm.bits_per_byte.values():
        assert 0.5 < score.ci_low <= score.value <= score.ci_high < 8.5
    assert results.wire.bytes_up_per_round > 3 * results.parameters * 4
    assert all(not r.refused for r in arm.rounds)


def test_the_released_model_loads_with_plain_transformers(finished: Path) -> None:
    code = (
        "import sys; from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "m = AutoModelForCausalLM.from_pretrained(sys.argv[1]); t = AutoTokenizer.from_pretrained(sys.argv[1])\n"
        "ids = t('The patient denies chest pain.', return_tensors='pt')\n"
        "assert t.decode(ids['input_ids'][0]) == 'The patient denies chest pain.'\n"
        "assert m(**ids).logits.shape[-1] == len(t)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, finished / "model"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_site_trained_every_round_once_and_has_receipts(finished: Path) -> None:
    sites = sorted((finished / "sites").iterdir())
    assert len(sites) == 3
    for site in sites:
        receipts = ReceiptBook(SiteFolder(site).receipts).read()
        assert [(r.kind, r.round) for r in receipts] == [("HelloReply", 0), ("TrainReply", 1), ("TrainReply", 2)]


def test_nothing_in_the_output_folder_is_readable_by_others(finished: Path) -> None:
    open_to_others = [p for p in (finished / "sites").rglob("*") if p.is_file() and p.stat().st_mode & 0o077]
    assert not open_to_others


def test_a_folder_with_another_run_is_refused(export: Path, finished: Path) -> None:
    before = (finished / "results.json").read_bytes()
    said = refused(fednotes(*simulate_words(export, finished)))
    assert "holds a run already" in said and "--resume" in said
    other = refused(fednotes_here(*simulate_words(export, finished, "--resume", "--seed", "7")))
    assert "seed differ" in other
    assert (finished / "results.json").read_bytes() == before


def test_a_folder_with_other_files_is_never_overwritten(export: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("three years of work")
    refused(fednotes_here(*simulate_words(export, tmp_path, "--overwrite")))
    assert (tmp_path / "thesis.txt").read_text() == "three years of work"


def test_two_processes_never_work_in_one_folder(export: Path, tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path / "run", Options(), resume=False, overwrite=False)
    try:
        done = fednotes(*simulate_words(export, tmp_path / "run", "--overwrite"))
    finally:
        run.close()
    assert "Another process" in refused(done)


@pytest.fixture(scope="module")
def undisturbed(export: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """A study that nobody disturbed."""
    return finish(*simulate_words(export, tmp_path_factory.mktemp("runs") / "undisturbed", "--rounds", ROUNDS))


def test_a_run_killed_between_rounds_goes_on_and_does_no_finished_round_twice(
    export: Path, undisturbed: Results, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    words = simulate_words(export, out, "--rounds", ROUNDS)
    first = subprocess.Popen(command(*words), stderr=subprocess.DEVNULL, start_new_session=True)
    _wait_for(lambda: _last_checkpoint(out) >= 2, first)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    done = _last_checkpoint(out)
    assert not (out / "results.json").exists()

    _require_equal(finish(*words, "--resume"), undisturbed)
    sites = sorted((out / "sites").iterdir())
    assert len(sites) == 3
    for site in sites:
        sent = _updates_by_round(site)
        assert set(sent) == set(range(1, ROUNDS + 1))
        # The kill may fall between a site's reply and the checkpoint of its round; that round alone is done again.
        interrupted = sent.pop(done + 1, 1)
        assert interrupted in (1, 2)
        assert set(sent.values()) == {1}, f"a finished round was done twice: {dict(sent)}"


def test_ctrl_c_stops_cleanly_and_the_run_goes_on_to_its_end(
    export: Path, undisturbed: Results, tmp_path: Path
) -> None:
    out = tmp_path / "stopped"
    words = simulate_words(export, out, "--rounds", ROUNDS)
    process = subprocess.Popen(command(*words), stderr=subprocess.PIPE, text=True)
    _wait_for(lambda: _last_checkpoint(out) >= 2, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Stopped by Ctrl-C" in errors and "--resume" in errors
    assert "Traceback" not in errors
    assert 2 <= _last_checkpoint(out) < ROUNDS
    assert not list(out.rglob("*.partial"))

    _require_equal(finish(*words, "--resume"), undisturbed)


def _require_equal(results: Results, undisturbed: Results) -> None:
    (arm,), (other,) = results.arms, undisturbed.arms
    assert [r.round for r in arm.rounds] == list(range(1, ROUNDS + 1))
    assert arm.train_tokens == other.train_tokens
    assert arm.bits_per_byte["all"].value == pytest.approx(other.bits_per_byte["all"].value, abs=1e-4)


def _last_checkpoint(out: Path) -> int:
    """Number of the last round whose checkpoint is complete; 0 before the first."""
    folder = out / "studies" / "federated-real-plus-synthetic" / "checkpoints"
    return max((int(p.name.removeprefix("round-")) for p in folder.glob("round-[0-9][0-9][0-9][0-9]")), default=0)


def _updates_by_round(site: Path) -> Counter[int]:
    return Counter(r.round for r in ReceiptBook(SiteFolder(site).receipts).read() if r.kind == "TrainReply")


def _wait_for(condition: Callable[[], bool], process: subprocess.Popen, seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the run ended before it could be disturbed"
        assert time.monotonic() < end, "timed out"
        time.sleep(0.02)


WRONG = [
    (["--notes", "absent.csv"], ["no file or folder absent.csv"]),
    (["--notes", "notes.csv", "--site-by", "ward"], ["ward", "hospital", "note_type"]),
    (["--notes", "other.csv"], ["--text-column"]),
    (["--notes", "notes.csv", "--text-column", "body"], ["body", "hospital"]),
    (["--notes", "notes.csv", "--site-by", "hospital", "--sites", "9"], ["9 sites", "3 different values"]),
    (["--notes", "notes.csv", "--sites", "200"], ["patients", "--skip-small-sites"]),
    (["--notes", "notes.csv", "--preset", "epic"], ["epic", "mimic3"]),
    (["--notes", "notes.csv", "--scenario", "moon"], ["moon", "demo"]),
    (["--notes", "notes.csv", "--size", "giant"], ["giant", "nano"]),
    (["--notes", "notes.csv", "--engine", "magic"], ["engine"]),
    (["--notes", "notes.csv", "--eval", "oops"], ["NAME=PATH"]),
    (["--notes", "notes.csv", "--site-map", "five-hospitals"], ["--site-by"]),
    (["--notes", "notes.csv", "--resume", "--overwrite"], ["exclude"]),
    (["--notes", "notes.csv", "--nonsense"], ["--nonsense"]),
    (["--notes", "blank.csv"], ["No note"]),
]


@pytest.fixture
def exports(export: Path, tmp_path: Path) -> Path:
    """A folder with a good export and some bad ones."""
    (tmp_path / "notes.csv").write_bytes(export.read_bytes())
    (tmp_path / "other.csv").write_text("alpha,beta\n1,2\n")
    (tmp_path / "blank.csv").write_text('note_id,text\n1,\n2,"   "\n')
    (tmp_path / "broken.jsonl").write_text('{"text": "fine"}\n{"text": "SECRETTEXT\n')
    return tmp_path


@pytest.mark.parametrize(("arguments", "said"), WRONG)
def test_wrong_usage_exits_with_two_and_says_what_to_do(arguments: list[str], said: list[str], exports: Path) -> None:
    heard = refused(fednotes_here("simulate", *arguments, "--out", "out", cwd=exports))
    for part in said:
        assert part in heard


@pytest.mark.parametrize(("arguments", "said"), [WRONG[0], WRONG[4], WRONG[13]])
def test_wrong_usage_in_a_process_of_its_own_does_the_same(
    arguments: list[str], said: list[str], exports: Path
) -> None:
    heard = refused(fednotes("simulate", *arguments, "--out", "out", cwd=exports))
    for part in said:
        assert part in heard


def test_strict_reading_stops_at_the_first_fault_and_quotes_nothing(exports: Path) -> None:
    words = ["simulate", "--notes", "broken.jsonl", "--strict", "--out", "out"]
    heard = refused(fednotes_here(*words, cwd=exports), status=1)
    assert "broken.jsonl" in heard and "line 2" in heard
    assert "SECRETTEXT" not in heard


def _row(number: object, patient: object, hospital: str, text: str) -> dict[str, object]:
    return {"note_id": f"n{number}", "patient_id": f"p{patient}", "hospital": hospital, "text": text}


@pytest.fixture(scope="module")
def messy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on damaged files, a tiny hospital, patients of two hospitals, and notes that differ in a number.

    The further evaluation set has 20 patients of the export and 20 strangers.
    """
    folder = tmp_path_factory.mktemp("messy")
    (folder / "exports").mkdir()
    both = [
        _row(f"{h}{i}", i, h, f"Seen at {h}: visit {i}, BP 1{i:02d}/80, weight {50 + i} kg.")
        for h in "ab"
        for i in range(90)
    ]
    # Patients that no other row has; the texts of a pair differ in the telephone number alone.
    pairs = [
        _row(f"{side}{i}", f"{side}{i}", "a", f"Pair {i} of limb {i}: no pain. Call {200 + i + k}-555-01{k}{i % 10}.")
        for i in range(40)
        for k, side in enumerate(("left", "right"))
    ]
    tiny = [_row(f"t{i}", f"t{i}", "tiny", f"A short tale number {i} of a cold.") for i in range(4)]
    good = [json.dumps(row) for row in [*both, *pairs, *tiny]]
    lines = [*good[:100], '{"text": "half', *good[100:], json.dumps(_row("e", 1, "a", "   "))]
    (folder / "exports" / "a.jsonl").write_text("\n".join(lines))
    more = [json.dumps(_row(f"z{i}", i, "b", f"Memo {i}. Pt c/o CP x{i} days.")) for i in range(90)]
    whole = gzip.compress("\n".join(more).encode())
    (folder / "exports" / "b.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    (folder / "exports" / "c.jsonl").write_bytes(b'{"text": "caf\xe9", "patient_id": 5, "hospital": "x"}\n')
    known = [_row(f"k{i}", i, "a", f"Letter about visit {i}: weight is stable.") for i in range(20)]
    strangers = [_row(f"s{i}", f"stranger{i}", "a", f"Letter about stranger {i}: all is well.") for i in range(20)]
    (folder / "letters.jsonl").write_text("\n".join(json.dumps(row) for row in [*known, *strangers]))
    words = simulate_words(folder / "exports", folder / "run", "--skip-small-sites")
    finish(*words, "--eval", f"letters={folder / 'letters.jsonl'}")
    return folder / "run"


def _results(run: Path) -> Results:
    return Results.model_validate_json((run / "results.json").read_bytes())


def test_damaged_records_are_counted_by_reason_and_the_run_goes_on(messy: Path) -> None:
    dropped = _results(messy).dropped
    assert dropped["malformed_json"] == 1
    assert dropped["empty_text"] == 1
    assert dropped["bad_utf8"] == 1
    assert dropped["truncated_archive"] == 1
    places = json.loads((messy / "prepared.json").read_text())["quarantined"]
    assert any("a.jsonl, line 101: malformed_json" in p for p in places)


def test_small_hospitals_are_left_out_when_asked_and_counted(messy: Path) -> None:
    results = _results(messy)
    assert sorted(s.name for s in results.sites) == ["a", "b"]
    assert results.dropped["site_too_small"] == 4


def test_small_hospitals_are_refused_otherwise(tmp_path: Path) -> None:
    rows = [_row(i, i % 60, "big", f"Patient {i} seen. BP 1{i % 60}/80. No pain in limb {i}.") for i in range(240)]
    rows += [_row(f"t{i}", f"t{i}", "tiny", f"A short tale number {i} of a cold.") for i in range(4)]
    (tmp_path / "n.jsonl").write_text("\n".join(map(json.dumps, rows)))
    said = refused(fednotes_here(*simulate_words(tmp_path / "n.jsonl", tmp_path / "o")))
    assert "Hospital 2 of 2 has" in said and "--skip-small-sites" in said


def test_a_patient_of_two_hospitals_lies_on_one_side_everywhere(messy: Path) -> None:
    sides: dict[str, set[str]] = {}
    for split, note in notes_by_side(messy):
        sides.setdefault(note.patient_key, set()).add(split)
    assert len(sides) >= 90
    assert all(len(s) == 1 for s in sides.values())


def test_notes_that_differ_in_a_telephone_number_are_one_text_on_one_side(messy: Path) -> None:
    found: dict[str, list[str]] = {}
    for split, note in notes_by_side(messy):
        if note.text.startswith("Pair"):
            assert "555" not in note.text
            found.setdefault(note.text, []).append(split)
    assert len(found) == 40
    assert all(len(sides) == 1 for sides in found.values()), "a copy was kept"
    assert _results(messy).dropped["duplicate_text_after_cleaning"] == 40


def test_a_patient_of_an_evaluation_file_is_in_nobodys_training_notes(messy: Path) -> None:
    trained = {note.patient_key for split, note in notes_by_side(messy) if split != "test"}
    letters = read_split(RunFolder(messy).set_file(0), "test")
    known = [n for n in letters if "stranger" not in n.text]
    assert len(letters) - len(known) == 20, "strangers stay"
    assert not {n.patient_key for n in letters} & trained
    assert _results(messy).dropped["eval_patient_in_training"] == 20 - len(known) > 0


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of one hospital by a map that holds the letters out; every letter's patient has reports too."""
    folder = tmp_path_factory.mktemp("mapped")
    rows = [_row(i, i % 80, "report", f"Report {i}: BP 1{i % 80:02d}/80, weight {50 + i % 40} kg.") for i in range(240)]
    rows += [_row(f"l{i}", i, "letter", f"Letter {i}: the patient of visit {i} is well.") for i in range(0, 80, 4)]
    (folder / "n.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "map.toml").write_text('[hold_out]\nletters = ["letter"]\n\n[hospitals]\nOnly = ["report"]\n')
    finish(*simulate_words(folder / "n.jsonl", folder / "run", "--site-map", folder / "map.toml"))
    return folder / "run"


def test_one_single_hospital_works(mapped: Path) -> None:
    results = _results(mapped)
    assert [s.name for s in results.sites] == ["Only"]
    assert set(results.arms[0].bits_per_byte) == {"all", "Only", "letters"}


def test_a_patient_who_is_held_out_by_a_map_is_in_nobodys_training_notes(mapped: Path) -> None:
    trained = {note.patient_key for split, note in notes_by_side(mapped) if split != "test"}
    letters = read_split(RunFolder(mapped).set_file(0), "test")
    assert letters and trained
    assert not {n.patient_key for n in letters} & trained


@pytest.mark.parametrize("megabytes", [2, 4, 8])
def test_a_full_disk_stops_cleanly_and_leaves_no_half_file(export: Path, tmp_path: Path, megabytes: int) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", small]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root can mount a small disk")
    try:
        said = refused(fednotes(*simulate_words(export, small / "run")), status=1)
        # Where the sites fill it up, the coordinator hears a code and no path.
        assert "could not be written" in said or "SITE_DISK_FULL" in said
        assert not list(small.rglob("*.partial"))
    finally:
        subprocess.run(["umount", small], check=True)
