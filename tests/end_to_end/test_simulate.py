"""The main job from the command line: what it writes, what it refuses, and how it survives a kill."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests_support import command, fednotes

from simulations.results import Results
from site_client.folder import SiteFolder
from site_client.receipts import ReceiptBook

pytestmark = pytest.mark.slow


def simulate(export: Path, out: Path, *more: object) -> subprocess.CompletedProcess[str]:
    return fednotes("simulate", "--notes", export, "--site-by", "hospital", "--scenario", "smoke", "--out", out, *more)


def test_results_follow_the_schema_and_name_every_hospital(finished: Path) -> None:
    results = Results.model_validate_json((finished / "results.json").read_bytes())
    assert len(results.sites) == 3
    (arm,) = results.arms
    assert arm.name == "federated" and len(arm.rounds) == 2
    assert set(arm.bits_per_byte) == {"all", *(s.name for s in results.sites)}
    assert arm.train_tokens == 2 * 2 * 4 * 128 * 3  # rounds x steps x rows x row length x sites
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
    done = simulate(export, finished)
    assert done.returncode == 2
    assert "holds a run already" in done.stderr and "--resume" in done.stderr
    other = simulate(export, finished, "--resume", "--seed", "7")
    assert other.returncode == 2
    assert "seed differ" in other.stderr
    assert (finished / "results.json").read_bytes() == before


def test_a_folder_with_other_files_is_never_overwritten(export: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("three years of work")
    done = simulate(export, tmp_path, "--overwrite")
    assert done.returncode == 2
    assert (tmp_path / "thesis.txt").read_text() == "three years of work"


def test_a_run_killed_between_rounds_goes_on_and_does_no_round_twice(export: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    words = ["simulate", "--notes", export, "--site-by", "hospital", "--scenario", "smoke", "--rounds", "5"]
    first = subprocess.Popen(command(*words, "--out", out), stderr=subprocess.DEVNULL, start_new_session=True)
    checkpoints = out / "studies" / "federated-real-plus-synthetic" / "checkpoints"
    _wait_for(lambda: (checkpoints / "round-0002").exists(), first)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert not (out / "results.json").exists()

    done = fednotes(*words, "--out", out, "--resume", "--json")
    assert done.returncode == 0, done.stderr
    arm = Results.model_validate_json(done.stdout).arms[0]
    assert [r.round for r in arm.rounds] == [1, 2, 3, 4, 5]

    undisturbed = fednotes(*words, "--out", tmp_path / "undisturbed", "--json")
    other = Results.model_validate_json(undisturbed.stdout).arms[0]
    assert arm.train_tokens == other.train_tokens
    assert arm.bits_per_byte["all"].value == pytest.approx(other.bits_per_byte["all"].value, abs=1e-4)


def test_ctrl_c_stops_cleanly_and_the_run_can_go_on(export: Path, tmp_path: Path) -> None:
    out = tmp_path / "stopped"
    words = ["simulate", "--notes", export, "--site-by", "hospital", "--scenario", "smoke", "--rounds", "40"]
    process = subprocess.Popen(command(*words, "--out", out), stderr=subprocess.PIPE, text=True)
    checkpoints = out / "studies" / "federated-real-plus-synthetic" / "checkpoints"
    _wait_for(lambda: (checkpoints / "round-0002").exists(), process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Stopped by Ctrl-C" in errors and "--resume" in errors
    assert "Traceback" not in errors
    assert len(list(checkpoints.glob("round-*"))) == 2
    assert not list(out.rglob("*.partial"))


def _wait_for(condition, process: subprocess.Popen, seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the run ended before it could be disturbed"
        assert time.monotonic() < end, "timed out"
        time.sleep(0.02)


def test_two_processes_never_work_in_one_folder(export: Path, tmp_path: Path) -> None:
    from simulations.options import Options
    from simulations.run_folder import RunFolder

    run = RunFolder.open(tmp_path / "run", Options(), resume=False, overwrite=False)
    try:
        done = simulate(export, tmp_path / "run", "--overwrite")
    finally:
        run.close()
    assert done.returncode == 2
    assert "Another process" in done.stderr


def test_one_single_hospital_works(export: Path, tmp_path: Path) -> None:
    done = fednotes(
        "simulate", "--notes", export, "--sites", "1", "--scenario", "smoke", "--out", tmp_path / "o", "--json"
    )
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["sites"]) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
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
        (["--notes", "blank.csv"], ["No note"]),
        (["--notes", "broken.jsonl", "--strict"], ["broken.jsonl", "line 2"]),
    ],
)
def test_wrong_usage_exits_with_two_and_says_what_to_do(
    arguments: list[str], said: list[str], export: Path, tmp_path: Path
) -> None:
    (tmp_path / "notes.csv").write_bytes(export.read_bytes())
    (tmp_path / "other.csv").write_text("alpha,beta\n1,2\n")
    (tmp_path / "blank.csv").write_text('note_id,text\n1,\n2,"   "\n')
    (tmp_path / "broken.jsonl").write_text('{"text": "fine"}\n{"text": "SECRETTEXT\n')
    done = fednotes("simulate", *arguments, "--out", tmp_path / "out", cwd=tmp_path)
    assert done.returncode in (1, 2) if "--strict" in arguments else done.returncode == 2
    for part in said:
        assert part in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert "SECRETTEXT" not in done.stderr


def test_damaged_records_are_counted_by_reason_and_the_run_goes_on(export: Path, tmp_path: Path) -> None:
    folder = tmp_path / "exports"
    folder.mkdir()
    good = [
        json.dumps({"text": f"Note {i}. Pt c/o CP x{i} days.", "patient_id": i, "hospital": "x"}) for i in range(200)
    ]
    lines = [*good[:100], '{"text": "half', *good[100:], '{"text": "   ", "patient_id": 1, "hospital": "x"}']
    (folder / "a.jsonl").write_text("\n".join(lines))
    whole = gzip.compress("\n".join(good).replace("Note", "Memo").encode())
    (folder / "b.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    (folder / "c.jsonl").write_bytes(b'{"text": "caf\xe9", "patient_id": 5, "hospital": "x"}\n')
    done = fednotes(
        "simulate", "--notes", folder, "--sites", "1", "--scenario", "smoke", "--out", tmp_path / "o", "--json"
    )
    assert done.returncode == 0, done.stderr
    dropped = json.loads(done.stdout)["dropped"]
    assert dropped["malformed_json"] == 1
    assert dropped["empty_text"] == 1
    assert dropped["bad_utf8"] == 1
    assert dropped["truncated_archive"] == 1
    places = json.loads((tmp_path / "o" / "prepared.json").read_text())["quarantined"]
    assert any("a.jsonl, line 101: malformed_json" in p for p in places)


def test_small_hospitals_are_left_out_when_asked_and_counted(tmp_path: Path) -> None:
    rows = [f'{i},{i % 60},big,"Patient {i} seen. BP 1{i % 60}/80. No pain in limb {i}."' for i in range(240)]
    rows += [f'{900 + i},{900 + i},tiny,"A short tale number {i} of a cold."' for i in range(4)]
    (tmp_path / "n.csv").write_text("note_id,patient_id,hospital,text\n" + "\n".join(rows) + "\n")
    refused = simulate(tmp_path / "n.csv", tmp_path / "a")
    assert refused.returncode == 2
    assert ("'tiny'" in refused.stderr and "4 patients" in refused.stderr) or "patients left" in refused.stderr
    done = simulate(tmp_path / "n.csv", tmp_path / "b", "--skip-small-sites", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert [s["name"] for s in facts["sites"]] == ["big"]
    assert facts["dropped"]["site_too_small"] == 4


def test_a_patient_of_two_hospitals_lies_on_one_side_everywhere(tmp_path: Path) -> None:
    from site_client.store import read_split

    rows = [
        f'{h}{i},{i},{h},"Seen at {h}: visit {i}, BP 1{i:02d}/80, weight {50 + i} kg."' for h in "ab" for i in range(90)
    ]
    (tmp_path / "n.csv").write_text("note_id,patient_id,hospital,text\n" + "\n".join(rows) + "\n")
    done = simulate(tmp_path / "n.csv", tmp_path / "o")
    assert done.returncode == 0, done.stderr
    sides: dict[str, set[str]] = {}
    for site in (tmp_path / "o" / "sites").iterdir():
        for split in ("train", "validation", "test"):
            for note in read_split(SiteFolder(site).notes, split):
                sides.setdefault(note.patient_key, set()).add(split)
    assert len(sides) == 90
    assert all(len(s) == 1 for s in sides.values())


def test_a_full_disk_stops_cleanly_and_leaves_no_half_file(export: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", small], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root can mount a small disk")
    try:
        done = simulate(export, small / "run")
        assert done.returncode == 1
        assert "could not be written" in done.stderr and "Traceback" not in done.stderr
        assert not list(small.rglob("*.partial"))
    finally:
        subprocess.run(["umount", small], check=True)
