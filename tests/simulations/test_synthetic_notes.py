"""The synthetic export: deterministic, uneven, rich enough to learn from, and honest about what it planted."""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import re
import time
from collections import Counter, defaultdict
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from protocols.errors import UsageError
from simulations.synthetic_grammar import conditions, drugs, lexicon
from simulations.synthetic_notes import COLUMNS, PlantedFacts, iter_training_text, write_export

Rows = list[dict[str, str]]


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> tuple[PlantedFacts, Rows]:
    path = tmp_path_factory.mktemp("export") / "notes.csv"
    return write_export(path), _rows(path)


def _rows(path: Path) -> Rows:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_equal_seeds_give_equal_bytes_and_seeds_differ(tmp_path: Path) -> None:
    for name, seed in (("a", 4), ("b", 4), ("c", 5)):
        write_export(tmp_path / f"{name}.csv", notes=60, seed=seed)
    first, again, other = ((tmp_path / f"{name}.csv").read_bytes() for name in "abc")
    assert first == again != other


def test_csv_and_parquet_hold_the_same_rows(tmp_path: Path) -> None:
    assert write_export(tmp_path / "x.csv", notes=80) == write_export(tmp_path / "x.parquet", notes=80)
    rows = _rows(tmp_path / "x.csv")
    assert tuple(rows[0]) == COLUMNS
    assert pq.read_table(tmp_path / "x.parquet").to_pylist() == rows


@pytest.mark.parametrize("hospitals", [1, 2, 7, 64])
def test_any_number_of_hospitals_adds_up(tmp_path: Path, hospitals: int) -> None:
    planted = write_export(tmp_path / "x.csv", hospitals=hospitals, notes=200)
    rows = _rows(tmp_path / "x.csv")
    assert len(rows) == 200
    sizes = Counter(row["hospital"] for row in rows)
    assert {name: counts.notes for name, counts in planted.counts.items()} == sizes
    assert len(sizes) == hospitals
    assert len({row["note_id"] for row in rows}) == 200


def test_hospitals_are_of_uneven_size(export: tuple[PlantedFacts, Rows]) -> None:
    shares = [counts.notes / 1500 for counts in export[0].counts.values()]
    assert shares == pytest.approx([0.34, 0.26, 0.18, 0.13, 0.09], abs=0.01)


def test_each_tracer_stands_in_the_notes_of_one_patient_of_its_hospital(export: tuple[PlantedFacts, Rows]) -> None:
    planted, rows = export
    tracers = [(hospital, tracer) for hospital, listed in planted.tracers.items() for tracer in listed]
    assert {hospital for hospital, _ in tracers} == {row["hospital"] for row in rows}
    for hospital, tracer in tracers:
        holders = {(row["hospital"], row["patient_id"]) for row in rows if tracer in row["text"]}
        assert len(holders) == 1
        assert next(iter(holders))[0] == hospital
    assert len(re.findall("zqx7-", " ".join({row["text"] for row in rows}))) == len(tracers)


def test_planted_identifiers_are_in_the_text_and_their_record_is_json(export: tuple[PlantedFacts, Rows]) -> None:
    planted, rows = export
    everything = "\n".join(row["text"] for row in rows)
    assert set(planted.identifiers) == {"name", "phone", "ssn", "mrn", "email", "street", "birth_date"}
    assert all(value in everything for values in planted.identifiers.values() for value in values)
    assert min(map(len, planted.identifiers.values())) > 20
    assert json.loads(planted.to_json())["identifiers"] == planted.identifiers


def test_copied_and_empty_notes_are_few_and_counted(export: tuple[PlantedFacts, Rows]) -> None:
    planted, rows = export
    empty = sum(row["text"] == "" for row in rows)
    seen = Counter((row["patient_id"], row["text"]) for row in rows if row["text"])
    copies = sum(count - 1 for count in seen.values())
    assert 1 <= empty == sum(counts.empty for counts in planted.counts.values()) <= 20
    assert 0.015 < copies / len(rows) < 0.035
    assert copies == sum(counts.duplicates for counts in planted.counts.values())
    owners = defaultdict(set)
    for row in rows:
        owners[row["text"]].add(row["patient_id"])
    assert all(len(patients) == 1 for text, patients in owners.items() if text)


def test_notes_are_long_and_varied_enough_to_learn_from(export: tuple[PlantedFacts, Rows]) -> None:
    texts = [row["text"] for row in export[1]]
    raw = "\n".join(texts).encode()
    assert 120 <= sum(len(text.split()) for text in texts) / len(texts) <= 300
    assert len(raw) / len(gzip.compress(raw)) < 5.3
    assert len({row["note_type"] for row in export[1]}) >= 6


def test_lexicons_are_broad_and_consistent() -> None:
    assert len(conditions()) >= 60
    assert len(drugs()) >= 120
    for condition in conditions():
        assert set(condition["drugs"].split(";")) <= set(drugs())
        assert set(condition["labs"].split(";")) <= set(lexicon()["labs"])


def test_a_patient_keeps_one_side_and_one_condition(export: tuple[PlantedFacts, Rows]) -> None:
    shown = {row["patient_id"]: [] for row in export[1]}
    for row in export[1]:
        shown[row["patient_id"]] += re.findall(r"displaced subcapital fracture of the (\w+) femur", row["text"])
    sides = [set(found) for found in shown.values() if len(found) > 1]
    assert sides
    assert all(len(found) == 1 for found in sides)


def test_hospitals_write_in_their_own_way(export: tuple[PlantedFacts, Rows]) -> None:
    by_hospital = defaultdict(list)
    for row in export[1]:
        by_hospital[row["hospital"]].append(row["text"])
    per_thousand = {
        mark: {
            name: 1000 * sum(t.count(mark) for t in texts) / sum(map(len, texts)) for name, texts in by_hospital.items()
        }
        for mark in (".,", "\n", "h/o", "- ")
    }
    assert max(per_thousand[".,"], key=per_thousand[".,"].__getitem__) == "hospital_d"
    assert min(per_thousand["\n"], key=per_thousand["\n"].__getitem__) == "hospital_d"
    assert per_thousand["h/o"]["hospital_a"] > per_thousand["h/o"]["hospital_b"]
    assert max(per_thousand["- "], key=per_thousand["- "].__getitem__) == "hospital_e"


def test_training_text_holds_nothing_planted_and_no_note_of_an_export(export: tuple[PlantedFacts, Rows]) -> None:
    planted, rows = export
    texts = list(itertools.islice(iter_training_text(0), 400))
    assert texts == list(itertools.islice(iter_training_text(0), 400))
    assert not {row["text"] for row in rows if row["text"]} & set(texts)
    together = "\n".join(texts)
    assert "zqx7-" not in together
    assert not any(value in together for values in planted.identifiers.values() for value in values)


def test_no_template_mark_is_left_in_a_note(export: tuple[PlantedFacts, Rows]) -> None:
    assert not any(re.search(r"[{}|]", row["text"]) for row in export[1])


def test_the_default_export_takes_seconds_at_most(tmp_path: Path) -> None:
    start = time.process_time()
    write_export(tmp_path / "x.parquet")
    assert time.process_time() - start < 3


@pytest.mark.parametrize(
    ("name", "hospitals", "notes"), [("x.txt", 5, 50), ("x.csv", 0, 50), ("x.csv", 65, 90), ("x.csv", 5, 4)]
)
def test_impossible_exports_are_refused(tmp_path: Path, name: str, hospitals: int, notes: int) -> None:
    with pytest.raises(UsageError):
        write_export(tmp_path / name, hospitals=hospitals, notes=notes)
    assert not (tmp_path / name).exists()
