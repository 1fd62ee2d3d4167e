from __future__ import annotations

import dataclasses
import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import BaseModel
from tests_support import REPOSITORY

import privacy.accountant
import privacy.ledger
import privacy.ledger_entries
import privacy.statement
import privacy.witness
from privacy.accountant import PrivacyEvent, spend
from privacy.ledger import BudgetError, Ledger
from privacy.mechanism import Mechanism
from privacy.policy import PrivacyPolicy
from protocols.errors import FednotesError, UsageError, WorkError

DATASET = "d" * 32
POLICY = PrivacyPolicy(public_units=2000, max_epsilon=10.0)
MECHANISM = Mechanism(sampling_rate=0.05, noise_multiplier=1.5, max_grad_norm=1.0, max_records=4, expected_units=100.0)


def ledger_in(folder: Path, **settings) -> Ledger:
    return Ledger(folder / "ledger", folder / "keys" / "ledger-head.json", **settings)


def begin(ledger: Ledger, study: str = "s", mechanism: Mechanism = MECHANISM, policy: PrivacyPolicy = POLICY) -> None:
    ledger.begin_study(study, target=8.0, mechanism=mechanism, planned_steps=50, policy=policy, dataset=DATASET)


def charge(ledger: Ledger, round_number: int = 1, study: str = "s", mechanism=MECHANISM, policy=POLICY, steps=10):
    return ledger.charge(study, round_number, mechanism, steps, policy, DATASET)


@pytest.fixture
def folder(tmp_path) -> Path:
    ledger = ledger_in(tmp_path)
    ledger.open(dataset=DATASET, unit="patient", delta=1e-5, public_units=2000)
    begin(ledger)
    return tmp_path


def lines(folder: Path) -> list[bytes]:
    return (folder / "ledger" / "ledger.jsonl").read_bytes().splitlines()


def rewrite(folder: Path, content: list[bytes]) -> None:
    (folder / "ledger" / "ledger.jsonl").write_bytes(b"".join(line + b"\n" for line in content))


CHILD = """
import os, signal, sys, time
from pathlib import Path
sys.path[:0] = [{repository!r}, {tests!r}]
import importlib.util
spec = importlib.util.spec_from_file_location("ledger_tests", {file!r})
t = importlib.util.module_from_spec(spec); spec.loader.exec_module(t)
folder = Path(sys.argv[1])
ledger = t.ledger_in(folder)
"""


def child(folder: Path, code: str, **options) -> subprocess.Popen[str]:
    """Start a real process that works on the ledger."""
    start = CHILD.format(repository=str(REPOSITORY), tests=str(REPOSITORY / "tests"), file=__file__)
    return subprocess.Popen(
        [sys.executable, "-c", start + code, str(folder)], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY, **options
    )


def expected(steps: int) -> float:
    return spend([PrivacyEvent(0.05, 1.5, steps)], 1e-5, "patient").pld_bound


# ---------------------------------------------------------------------------------------------------------------------
# Charging
# ---------------------------------------------------------------------------------------------------------------------


def test_opened_ledger_has_nothing_spent(folder):
    account = ledger_in(folder).account()
    assert (account.dataset, account.unit, account.delta) == (DATASET, "patient", 1e-5)
    assert account.spent().pld_bound == 0
    assert account.left(10.0) == 10.0


def test_charges_add_up_by_study_and_in_total(folder):
    ledger = ledger_in(folder)
    other = dataclasses.replace(MECHANISM, noise_multiplier=2.0)
    begin(ledger, "other", other)
    charge(ledger, 1)
    charged = charge(ledger, 1, "other", other)
    account = ledger.account()
    assert charged.study == account.spent_by("other")
    assert charged.total == account.spent()
    assert account.spent_by("s").pld_bound == expected(10)
    assert account.spent_by("s").pld_bound < charged.total.pld_bound
    assert account.spent_by("unknown").num_releases == 0
    assert account.left(10.0) == 10.0 - charged.total.pld_bound
    assert account.left(0.001) == 0
    assert charged.total.num_releases == 20


def test_three_rounds_and_two_in_another_process_equal_five(folder):
    for number in (1, 2, 3):
        charge(ledger_in(folder), number)
    done = child(folder, "for n in (4, 5): t.charge(ledger, n)\n")
    assert done.wait(120) == 0
    assert ledger_in(folder).account().spent().pld_bound == expected(50)


def test_a_retry_of_a_round_is_charged_again(folder):
    ledger = ledger_in(folder)
    charge(ledger, 1)
    assert charge(ledger, 1).study.pld_bound == expected(20)


def test_a_study_that_goes_on_is_not_written_twice(folder):
    before = lines(folder)
    begin(ledger_in(folder))
    assert lines(folder) == before


def test_the_limit_is_kept_with_numbers_and_nothing_is_charged(folder):
    ledger = ledger_in(folder)
    charge(ledger)
    before, tight = lines(folder), POLICY.model_copy(update={"max_epsilon": round(expected(15), 3)})
    with pytest.raises(BudgetError) as caught:
        charge(ledger, 2, policy=tight)
    assert isinstance(caught.value, WorkError)
    for part in (f"{expected(20):.4f}", f"{tight.max_epsilon:g}", f"{expected(10):.4f}", "Round 2 of study s"):
        assert part in caught.value.message
    assert "patient-level epsilon" in caught.value.message
    assert lines(folder) == before
    assert charge(ledger, 2, policy=tight, steps=4).total.pld_bound <= tight.max_epsilon


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"noise_multiplier": 1.6}, "noise_multiplier 1.5 -> 1.6"),
        ({"sampling_rate": 0.04}, "sampling_rate 0.05 -> 0.04"),
        ({"max_grad_norm": 2.0}, "max_grad_norm 1 -> 2"),
        ({"max_records": 5}, "max_records 4 -> 5"),
        ({"expected_units": 99.0}, "expected_units 100 -> 99"),
    ],
)
def test_a_study_has_one_mechanism(folder, change, named):
    other = dataclasses.replace(MECHANISM, **change)
    for call in (charge, begin):
        with pytest.raises(UsageError, match="began with another mechanism") as caught:
            call(ledger_in(folder), mechanism=other)
        assert named in caught.value.message


def test_the_policy_bounds_the_mechanism(folder):
    for change in ({"min_noise_multiplier": 1.6}, {"max_sampling_rate": 0.04}, {"max_records": 3}):
        with pytest.raises(UsageError, match=f"{next(iter(change)).split('_', 1)[1]} is"):
            charge(ledger_in(folder), policy=POLICY.model_copy(update=change))


def test_no_noise_is_never_charged(folder):
    with pytest.raises(UsageError, match="noise_multiplier is 0"):
        begin(ledger_in(folder), "bare", dataclasses.replace(MECHANISM, noise_multiplier=0.0))


def test_a_study_that_was_not_begun_pays_nothing(folder):
    with pytest.raises(UsageError, match="Study unknown is not in the privacy ledger"):
        charge(ledger_in(folder), study="unknown")


# ---------------------------------------------------------------------------------------------------------------------
# Whose ledger it is
# ---------------------------------------------------------------------------------------------------------------------


def test_another_data_set_is_refused(folder):
    with pytest.raises(UsageError, match=f"is for data set {DATASET}, not {'e' * 32}"):
        ledger_in(folder).charge("s", 1, MECHANISM, 10, POLICY, "e" * 32)


def test_another_unit_or_delta_is_refused(folder):
    with pytest.raises(UsageError, match="is for unit patient, not note"):
        charge(ledger_in(folder), policy=POLICY.model_copy(update={"unit": "note"}))
    with pytest.raises(UsageError, match="is for delta 1e-05, not 1e-06") as caught:
        charge(ledger_in(folder), policy=POLICY.model_copy(update={"delta": 1e-6}))
    assert "one delta for the ledger's life" in str(caught.value.hint)


def test_delta_that_lets_one_patient_go_is_refused(tmp_path, folder):
    for units in (100_000, 200_000):
        with pytest.raises(UsageError, match="is not below 1 /"):
            ledger_in(tmp_path / "new").open(dataset=DATASET, unit="patient", delta=1e-5, public_units=units)
        with pytest.raises(UsageError, match="is not below 1 /"):
            charge(ledger_in(folder), policy=POLICY.model_copy(update={"public_units": units}))
    with pytest.raises(UsageError, match="public number of units is not set"):
        ledger_in(tmp_path / "new").open(dataset=DATASET, unit="patient", delta=1e-5, public_units=0)
    assert not (tmp_path / "new").exists()


def test_a_ledger_is_opened_once(folder):
    with pytest.raises(UsageError, match="There is a privacy ledger already"):
        ledger_in(folder).open(dataset=DATASET, unit="patient", delta=1e-5, public_units=2000)
    shutil.rmtree(folder / "ledger")
    with pytest.raises(UsageError, match="or its head"):
        ledger_in(folder).open(dataset=DATASET, unit="patient", delta=1e-5, public_units=2000)


def test_no_ledger_is_no_empty_history(tmp_path):
    for call in (Ledger.account, begin, charge):
        with pytest.raises(UsageError, match="There is no privacy ledger"):
            call(ledger_in(tmp_path))


# ---------------------------------------------------------------------------------------------------------------------
# Files that somebody or something changed
# ---------------------------------------------------------------------------------------------------------------------


def refused(folder: Path, match: str) -> None:
    for call in (Ledger.account, charge):
        with pytest.raises(WorkError, match=match):
            call(ledger_in(folder))


@pytest.fixture
def charged(folder) -> Path:
    for number in (1, 2, 3):
        charge(ledger_in(folder), number)
    return folder


def test_deleted_ledger_is_refused(charged):
    shutil.rmtree(charged / "ledger")
    refused(charged, "is missing; its head")


def test_emptied_or_cut_ledger_is_refused(charged):
    whole = lines(charged)
    for kept in (0, 1, 2, 4):
        rewrite(charged, whole[:kept])
        refused(charged, f"broken at line {kept + 1}")


def test_ledger_cut_inside_its_last_line_is_refused(charged):
    file = charged / "ledger" / "ledger.jsonl"
    file.write_bytes(file.read_bytes()[:-30])
    refused(charged, "broken at line 5")


def test_changed_line_is_refused(charged):
    changed = lines(charged)
    changed[3] = changed[3].replace(b'"steps":10', b'"steps":1')
    rewrite(charged, changed)
    refused(charged, "broken at line 4 or 5")


def test_changed_last_line_is_refused(charged):
    changed = lines(charged)
    changed[-1] = changed[-1].replace(b'"steps":10', b'"steps":1')
    rewrite(charged, changed)
    refused(charged, "broken at line")


def test_reordered_lines_are_refused(charged):
    swapped = lines(charged)
    swapped[3], swapped[4] = swapped[4], swapped[3]
    rewrite(charged, swapped)
    refused(charged, "broken at line 4")


def test_ledger_put_back_from_an_old_copy_is_refused(charged, tmp_path):
    copy = (charged / "ledger" / "ledger.jsonl").read_bytes()
    for number in (4, 5):
        charge(ledger_in(charged), number)
    (charged / "ledger" / "ledger.jsonl").write_bytes(copy)
    refused(charged, "broken at line 6")


def test_another_ledger_in_its_place_is_refused(charged, tmp_path):
    other = tmp_path / "other"
    ledger_in(other).open(dataset=DATASET, unit="patient", delta=1e-5, public_units=2000)
    begin(ledger_in(other), "t")
    for number in (1, 2, 3):
        charge(ledger_in(other), number, "t")
    shutil.copy(other / "ledger" / "ledger.jsonl", charged / "ledger" / "ledger.jsonl")
    refused(charged, "broken at line")


def test_deleted_or_damaged_head_is_refused(charged):
    head = charged / "keys" / "ledger-head.json"
    head.write_text("{}")
    refused(charged, "broken at its head")
    head.unlink()
    refused(charged, "broken at line")


def chain_anew(folder: Path, entries: list[dict]) -> None:
    """Write entries with a chain that holds: what somebody with all rights could do."""
    import hashlib

    previous, made = "0" * 64, []
    for number, entry in enumerate(entries, start=1):
        made.append(json.dumps(entry | {"number": number, "previous": previous}).encode())
        previous = hashlib.sha256(made[-1]).hexdigest()
    rewrite(folder, made)
    (folder / "keys" / "ledger-head.json").write_text(json.dumps({"count": len(made), "sha256": previous}))


@pytest.mark.parametrize(
    "how", ["time goes back", "time of no zone", "no time", "opened twice", "study twice", "noise"]
)
def test_entries_that_fednotes_does_not_write_are_refused(charged, how):
    entries = [json.loads(line) for line in lines(charged)]
    match how:
        case "time goes back":
            entries[3]["time"] = "2020-01-01T00:00:00+00:00"
        case "time of no zone":
            entries[3]["time"] = "2036-01-01T00:00:00"
        case "no time":
            entries[3]["time"] = "yesterday"
        case "opened twice":
            entries.insert(2, entries[0])
        case "study twice":
            entries.insert(2, entries[1])
        case "noise":
            entries[3]["noise_multiplier"] = 9.0
    chain_anew(charged, entries)
    refused(charged, "broken at line")


def test_ledger_of_a_later_version_is_refused(charged):
    entries = [json.loads(line) for line in lines(charged)]
    entries[0]["schema_version"] = 2
    chain_anew(charged, entries)
    refused(charged, "schema version 2; this fednotes reads 1")


def test_entries_hold_nothing_that_depends_on_the_notes(charged):
    for line in lines(charged):
        assert not {"seed", "batch_size", "loss", "patients", "tokens"} & set(json.loads(line))


# ---------------------------------------------------------------------------------------------------------------------
# The clock
# ---------------------------------------------------------------------------------------------------------------------


def at(folder: Path, time: datetime) -> Ledger:
    return ledger_in(folder, clock=lambda: time)


def test_a_clock_set_back_is_refused_with_both_times(folder):
    now = datetime.now(UTC).replace(microsecond=0)
    charge(at(folder, now + timedelta(hours=1)))
    before = lines(folder)
    with pytest.raises(WorkError) as caught:
        charge(at(folder, now), 2)
    assert now.isoformat() in caught.value.message
    assert (now + timedelta(hours=1)).isoformat() in caught.value.message
    assert lines(folder) == before


def test_a_clock_a_little_behind_takes_the_time_of_the_last_entry(folder):
    now = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    charge(at(folder, now))
    charge(at(folder, now - timedelta(minutes=4)), 2)
    times = [json.loads(line)["time"] for line in lines(folder)]
    assert times == sorted(times)
    assert times[-1] == now.isoformat()


# ---------------------------------------------------------------------------------------------------------------------
# Kills and races, with real processes
# ---------------------------------------------------------------------------------------------------------------------


def test_killed_between_charge_and_step_the_charge_stands(folder):
    process = child(folder, "t.charge(ledger, 1); print('charged', flush=True); time.sleep(60); print('step')\n")
    assert process.stdout is not None
    assert process.stdout.readline() == "charged\n"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert ledger_in(folder).account().spent().pld_bound == expected(10)
    assert charge(ledger_in(folder), 1).total.pld_bound == expected(20)


def test_killed_between_line_and_head_the_charge_stands(folder):
    code = (  # the head of the entry before is written first, then the line, then its head
        "import protocols.hash_chain as h\n"
        "write, calls = h.write_text, []\n"
        "def die(path, text):\n"
        "    calls.append(path)\n"
        "    os.kill(os.getpid(), signal.SIGKILL) if len(calls) == 2 else write(path, text)\n"
        "h.write_text = die\n"
        "t.charge(ledger, 1)\n"
    )
    assert child(folder, code).wait(120) == -signal.SIGKILL
    assert len(lines(folder)) == 3
    assert ledger_in(folder).account().spent().pld_bound == expected(10)
    assert charge(ledger_in(folder), 2).total.pld_bound == expected(20)
    assert ledger_in(folder).account().spent().num_releases == 20


def test_killed_while_writing_the_line_nothing_had_begun(folder):
    code = (
        "import protocols.hash_chain as h\n"
        "real = h.Path.open\n"
        "class Cut:\n"
        "    def __init__(self, file): self.file = file\n"
        "    def __enter__(self): return self\n"
        "    def __exit__(self, *_): pass\n"
        "    def truncate(self, size): self.file.truncate(size)\n"
        "    def write(self, data):\n"
        "        self.file.write(data[:40]); self.file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
        "h.Path.open = lambda p, mode='r', **k: Cut(real(p, mode)) if mode == 'ab' else real(p, mode, **k)\n"
        "t.charge(ledger, 1); print('step')\n"
    )
    process = child(folder, code)
    assert process.communicate(timeout=120)[0] == ""
    assert process.returncode == -signal.SIGKILL
    assert not (folder / "ledger" / "ledger.jsonl").read_bytes().endswith(b"\n")
    assert ledger_in(folder).account().spent().num_releases == 0
    assert charge(ledger_in(folder), 1).total.pld_bound == expected(10)


def test_two_processes_charge_at_once_and_nothing_is_lost(folder):
    processes = [child(folder, "for n in (1, 2, 3): t.charge(ledger, n)\n") for _ in range(2)]
    assert [p.wait(200) for p in processes] == [0, 0]
    account = ledger_in(folder).account()
    assert [c.number for c in account.charges] == list(range(3, 9))
    assert account.spent().pld_bound == expected(60)


def test_a_lock_that_another_run_holds_is_told(folder):
    code = "\nwith ledger._chain.locked():\n    print('locked', flush=True)\n    time.sleep(60)\n"
    process = child(folder, code)
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    try:
        with pytest.raises(WorkError, match=r"Another run works on the .*ledger.* for more than 0.2 s"):
            charge(ledger_in(folder, lock_timeout_s=0.2))
    finally:
        process.kill()
        process.communicate()
    assert charge(ledger_in(folder, lock_timeout_s=5)).total.num_releases == 10  # a dead process holds no lock


# ---------------------------------------------------------------------------------------------------------------------
# Names
# ---------------------------------------------------------------------------------------------------------------------


def keys_in(value: object) -> set[str]:
    if isinstance(value, dict):
        return set(value) | {k for v in value.values() for k in keys_in(v)}
    return {k for v in value for k in keys_in(v)} if isinstance(value, list) else set()


def test_no_field_is_called_epsilon_without_its_unit(charged):
    names: set[str] = set()
    for module in (privacy.accountant, privacy.witness, privacy.ledger, privacy.ledger_entries, privacy.statement):
        for _, found in inspect.getmembers(module, inspect.isclass):
            if dataclasses.is_dataclass(found):
                names |= {f.name for f in dataclasses.fields(found)}
            if issubclass(found, BaseModel):
                names |= set(found.model_fields)
    for line in lines(charged):
        names |= keys_in(json.loads(line))
    names |= set(ledger_in(charged).account().spent().named())
    assert "pld_bound" in names
    bare = {n for n in names if "epsilon" in n.lower() or n == "eps"}
    assert all("_level_epsilon" in n for n in bare - {"max_epsilon"}), bare  # max_epsilon: the site's own setting


def test_every_error_has_a_message_and_a_hint(tmp_path):
    with pytest.raises(FednotesError) as caught:
        ledger_in(tmp_path).account()
    assert "fednotes site privacy open" in str(caught.value.hint)
