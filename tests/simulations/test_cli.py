from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from protocols.errors import UsageError
from simulations.cli import _print_summary, evaluate
from simulations.results import Arm, GateFacts, Interval, Results, WireFacts


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """Four notes that can be read, and three that cannot."""
    path = tmp_path / "notes.csv"
    rows = [[f"p{i}", f"Patient {i} was seen in clinic and slept well."] for i in range(4)]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["patient_id", "text"], *rows, ["p5", " "], ["p6", ""], ["p7", "a", "b"]])
    return path


def results_with(dropped: dict[str, int]) -> Results:
    score = Interval(value=2.0, ci_low=1.9, ci_high=2.1)
    arm = Arm(name="federated", corpus="real", bits_per_byte={"all": score}, train_tokens=1, corpus_tokens=1, seconds=1)
    return Results(
        fednotes_version="0.1.0",
        scenario="smoke",
        created="2026-11-20T17:00:00Z",
        seed=0,
        model="pico",
        parameters=1,
        arms=[arm],
        sites=[],
        dropped=dropped,
        gates=GateFacts(engine="rules", judged=0, accepted=0, rejected={}, by_site={}),
        wire=WireFacts(bytes_up_per_round=0, bytes_down_per_round=0),
        timing_seconds={},
    )


def test_summary_tells_on_one_line_what_was_left_out_and_where(tmp_path, capsys):
    _print_summary(results_with({"empty_text": 1033, "duplicate_text": 2}), tmp_path / "run")
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "left out" in line]
    assert line.startswith("Records left out: empty_text 1,033, duplicate_text 2;")
    assert line.endswith(str(tmp_path / "run" / "prepared.json"))


def test_summary_of_a_run_that_left_nothing_out_says_nothing_of_it(tmp_path, capsys):
    _print_summary(results_with({}), tmp_path / "run")
    assert "left out" not in capsys.readouterr().out


def test_evaluation_tells_what_was_left_out_beside_its_json(export, model_folder, capsys):
    evaluate(model_folder, [export], as_json=True)
    printed = capsys.readouterr()
    assert set(json.loads(printed.out)) == {"all", "unknown type"}
    assert printed.err == "Records left out: empty_text 2, malformed_row 1\n"


def test_evaluation_without_a_single_note_still_tells_why(tmp_path, model_folder, capsys):
    path = tmp_path / "notes.csv"
    path.write_text("patient_id,text\np1,\np2,\n")
    with pytest.raises(UsageError, match="No note"):
        evaluate(model_folder, [path], as_json=True)
    assert "Records left out: empty_text 2\n" in capsys.readouterr().err
