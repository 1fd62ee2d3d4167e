from __future__ import annotations

import random

import numpy as np
import pytest

from site_client.leakage import run_index
from site_client.leakage.run_index import MANY, NOBODY, RunIndexBuilder


def build(folder, records):
    builder = RunIndexBuilder(folder / "table", n=1)
    for runs, patient in records:
        builder.add(np.array(runs, np.uint64), patient)
    return builder.finish()


def owners(index, *runs):
    found = index.owners(np.array(runs, np.uint64))
    return list(zip(found.first.tolist(), found.second.tolist(), found.only.tolist(), strict=True))


def test_one_two_and_many_owners_are_told_apart(tmp_path):
    high = 2**64 - 1
    index = build(tmp_path, [([7, 7, 8, high], 0), ([8, high], 5), ([high, 9], 6), ([7], 0)])
    assert len(index) == 4
    assert owners(index, 7, 8, high, 9, 10) == [
        (0, NOBODY, 0),
        (0, 5, MANY),
        (MANY, MANY, MANY),
        (6, NOBODY, 6),
        (NOBODY, NOBODY, NOBODY),
    ]
    assert index.count(lambda o: o.only < MANY) == 2


def test_empty_table_knows_nobody(tmp_path):
    index = build(tmp_path, [])
    assert owners(index, 1) == [(NOBODY, NOBODY, NOBODY)]
    assert index.count(lambda o: o.first == NOBODY) == 0


@pytest.mark.parametrize("held", [1, 7, 10_000])
def test_table_is_that_of_a_dictionary_however_little_is_held_in_memory(tmp_path, monkeypatch, held):
    monkeypatch.setattr(run_index, "_HELD", held)
    draw = random.Random(held)
    pool = [draw.getrandbits(64) for _ in range(150)]
    records = [([draw.choice(pool) for _ in range(9)], patient) for patient in range(40)]
    expected: dict[int, set[int]] = {}
    for runs, patient in records:
        for run in runs:
            expected.setdefault(run, set()).add(patient)
    index = build(tmp_path, records)
    assert len(index) == len(expected)
    for run, patients in expected.items():
        [(first, second, only)] = owners(index, run)
        codes = [int(c) for c in (NOBODY, MANY)]
        assert {p for p in (first, second) if p not in codes} == (patients if len(patients) < 3 else set())
        assert only == (next(iter(patients)) if len(patients) == 1 else MANY)
    assert index.count(lambda o: o.first == MANY) == sum(len(p) > 2 for p in expected.values())


def test_parts_are_gone_when_the_table_is_there(tmp_path):
    build(tmp_path, [([1, 2**63], 0)])
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".first", ".runs", ".second"]
