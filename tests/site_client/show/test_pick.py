from __future__ import annotations

import tracemalloc
from collections import Counter

import pytest

from protocols.errors import UsageError
from site_client.show.example import Example
from site_client.show.pick import pick, pick_and_count

from .invented import corpus

REASONS = ("numbers", "negation", "laterality", "length")
# Nine of ten are accepted, as by a good model.
MIXED = [[REASONS[i // 10 % 4]] if i % 10 == 0 else [] for i in range(120)]


def keys(examples: list[Example]) -> list[str]:
    return [example.chunk.chunk_key for example in examples]


def test_every_arm_and_both_verdicts_are_shown_and_many_reasons(tmp_path):
    found = pick(corpus(tmp_path, {"soap": MIXED, "professional": MIXED[5:]}), 8)
    assert len(found) == 8
    assert all(len(example.rephrasings) >= 1 for example in found)
    shown = [r for example in found for r in example.rephrasings]
    assert {r.arm.prompt for r in shown} == {"soap", "professional"}
    assert 3 <= sum(not r.accepted for r in shown) <= 10
    assert {reason for r in shown for reason in r.result.reasons} == set(REASONS)


def test_a_rare_arm_and_a_rare_reason_are_found_among_many(tmp_path):
    rare = [[] for _ in range(119)] + [["medications"]]
    found = pick(corpus(tmp_path, {"soap": rare, "timeline": [["length"]]}), 4)
    shown = [r for example in found for r in example.rephrasings]
    assert {r.arm.prompt for r in shown} == {"soap", "timeline"}
    assert {reason for r in shown for reason in r.result.reasons} == {"medications", "length"}


def test_examples_come_from_different_patients_while_there_are_some(tmp_path):
    found = pick(corpus(tmp_path, {"soap": MIXED}, chunks_a_patient=12), 10)
    assert set(Counter(example.chunk.patient_key for example in found).values()) == {1}
    found = pick(corpus(tmp_path / "few", {"soap": MIXED[:8]}, chunks_a_patient=4), 2)
    assert len({example.chunk.patient_key for example in found}) == 2


def test_equal_seeds_choose_equal_examples_in_whatever_order_they_were_finished(tmp_path):
    made = corpus(tmp_path, {"soap": MIXED, "professional": MIXED})
    found = pick(made, 6, seed=3)
    for arm in made.current_arms():
        arm.results.rewrite(iter(sorted(arm.results.read(), key=lambda r: r.job)))
    assert keys(pick(made, 6, seed=3)) == keys(found)
    assert keys(pick(made, 6, seed=4)) != keys(found)


def test_each_example_holds_its_source_and_what_every_arm_made_of_it(tmp_path):
    for example in pick(corpus(tmp_path, {"soap": MIXED, "professional": MIXED}), 5):
        assert example.chunk.header == "Note type: Progress note"
        written = {r.arm.prompt: r.result.text for r in example.rephrasings}
        assert written == {name: f"{name} {example.chunk.text}" for name in ("professional", "soap")}


def test_fewer_chunks_than_asked_for_are_all_given(tmp_path):
    assert len(pick(corpus(tmp_path, {"soap": [[], ["numbers"], []]}), 50)) == 3


def test_results_of_notes_that_are_gone_are_not_shown(tmp_path):
    made = corpus(tmp_path, {"soap": MIXED})
    smaller = corpus(tmp_path / "other", {"soap": MIXED[:3]})
    (tmp_path / "store" / "notes.parquet").write_bytes((tmp_path / "other" / "store" / "notes.parquet").read_bytes())
    assert sorted(keys(pick(made, 50))) == sorted(keys(pick(smaller, 50)))


def test_a_job_that_was_done_again_is_shown_once(tmp_path):
    made = corpus(tmp_path, {"soap": [[], []]})
    (arm,) = made.current_arms()
    arm.results.append(list(arm.results.read()))
    assert [len(example.rephrasings) for example in pick(made, 2)] == [1, 1]


def test_nothing_rephrased_is_wrong_usage(tmp_path):
    empty = corpus(tmp_path, {})
    with pytest.raises(UsageError, match="Nothing was rephrased yet") as caught:
        pick(empty, 5)
    assert caught.value.hint == "fednotes site rephrase"


def test_an_arm_without_results_is_nothing_too(tmp_path):
    with pytest.raises(UsageError, match="Nothing was rephrased yet"):
        pick(corpus(tmp_path, {"soap": []}), 5)


def test_less_than_one_example_is_wrong_usage(tmp_path):
    with pytest.raises(UsageError, match="0 examples cannot be shown"):
        pick(corpus(tmp_path, {"soap": MIXED}), 0)


def test_verdicts_of_every_current_arm_are_counted(tmp_path):
    _, totals = pick_and_count(corpus(tmp_path, {"soap": MIXED, "professional": MIXED[:20], "timeline": []}), 2)
    assert [(t.arm.prompt, t.judged, t.accepted) for t in totals] == [
        ("professional", 20, 18),
        ("soap", 120, 108),
        ("timeline", 0, 0),
    ]


def test_memory_hardly_grows_with_the_corpus(tmp_path):
    def peak(notes: int) -> int:
        made = corpus(tmp_path / str(notes), {"soap": [["length"] if i % 3 else [] for i in range(notes)]})
        tracemalloc.start()
        pick(made, 5)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(300)
    # 2,700 results more would be some 3 MB if they were held; their keys are 43 kB.
    assert peak(3_000) < peak(301) + 1_000_000
