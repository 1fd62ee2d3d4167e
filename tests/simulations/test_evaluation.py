"""Intervals resample patients, not notes: by hand where that is possible, by comparison where it is not."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeling.bits_per_byte import Score
from modeling.release import new_model
from privacy.note_types import CleanNote
from simulations.evaluation import ALL, bootstrap, evaluate

PAIRS = st.lists(
    st.tuples(
        st.sampled_from("abcdef"),
        st.builds(Score, bits=st.floats(0, 1e5), num_bytes=st.integers(1, 10_000)),
    ),
    min_size=1,
    max_size=20,
)


def test_constant_scores_give_an_interval_of_no_width() -> None:
    found = bootstrap([(f"p{i % 4}", Score(bits=150.0, num_bytes=100)) for i in range(12)])
    assert (found.value, found.ci_low, found.ci_high) == (1.5, 1.5, 1.5)


def test_one_patient_gives_an_interval_of_no_width_at_the_ratio_of_the_sums() -> None:
    found = bootstrap([("p", Score(bits=100.0, num_bytes=100)), ("p", Score(bits=500.0, num_bytes=200))])
    assert (found.value, found.ci_low, found.ci_high) == (2.0, 2.0, 2.0)


def test_two_patients_give_the_interval_that_is_known_by_hand() -> None:
    """Resamples are {a,a}, {a,b}, {b,b} with chances 1/4, 1/2, 1/4, so both tails reach a single patient."""
    found = bootstrap([("a", Score(bits=100.0, num_bytes=100)), ("b", Score(bits=300.0, num_bytes=100))])
    assert (found.value, found.ci_low, found.ci_high) == (2.0, 1.0, 3.0)


def test_the_interval_is_wider_when_the_notes_belong_to_few_patients() -> None:
    scores = [Score(bits=100.0 + 20 * (i % 10), num_bytes=100) for i in range(100)]
    many = bootstrap([(f"p{i}", s) for i, s in enumerate(scores)])
    few = bootstrap([(f"p{i % 10}", s) for i, s in enumerate(scores)])  # a patient's notes are all alike
    assert many.value == few.value
    assert few.ci_high - few.ci_low > 2 * (many.ci_high - many.ci_low)


def test_the_interval_is_wider_when_one_patient_holds_most_of_the_notes() -> None:
    scores = [Score(bits=200.0 if i < 60 else 100.0, num_bytes=100) for i in range(100)]
    even = bootstrap([(f"p{i}", s) for i, s in enumerate(scores)])
    uneven = bootstrap([("heavy" if i < 60 else f"p{i}", s) for i, s in enumerate(scores)])
    assert uneven.ci_high - uneven.ci_low > 2 * (even.ci_high - even.ci_low)


def test_equal_scores_give_equal_intervals_at_every_call() -> None:
    pairs = [(f"p{i % 7}", Score(bits=10.0 * i, num_bytes=50 + i)) for i in range(40)]
    assert bootstrap(pairs) == bootstrap(list(pairs))
    assert bootstrap(pairs, seed=1) != bootstrap(pairs, seed=2)


@given(PAIRS)
def test_the_interval_lies_within_the_patients_own_ratios(pairs: list[tuple[str, Score]]) -> None:
    found = bootstrap(pairs, resamples=50)
    units = {p: [s for q, s in pairs if q == p] for p, _ in pairs}
    ratios = [sum(s.bits for s in unit) / sum(s.num_bytes for s in unit) for unit in units.values()]
    slack = 1e-5 + 1e-9 * max(ratios)
    assert min(ratios) - slack <= found.ci_low <= found.ci_high <= max(ratios) + slack
    assert min(ratios) - slack <= found.value <= max(ratios) + slack


def test_the_joined_set_is_the_union_of_the_hospitals_and_leaves_further_sets_out(tokenizer) -> None:
    def notes(prefix: str, text: str) -> list[CleanNote]:
        return [
            CleanNote(note_key=f"{prefix}{i}", patient_key=f"{prefix}{i}", text=text * (i + 1), note_type="")
            for i in range(3)
        ]

    model = new_model("pico", tokenizer, seed=0)
    sets = {"A": notes("a", "Blood pressure was 142/88. "), "B": notes("b", "No fever. "), "extra": notes("c", "zzz ")}
    found = evaluate(model, tokenizer, sets, ["A", "B"])
    assert list(found) == [ALL, "A", "B", "extra"]
    alone = evaluate(model, tokenizer, {"AB": [*sets["A"], *sets["B"]]}, ["AB"])
    assert found[ALL].value == pytest.approx(alone["AB"].value, abs=1e-4)
    # An untrained model needs about log2(vocabulary) bits a token, over the bytes of a token.
    assert all(math.isfinite(score.value) and score.value > 0 for score in found.values())
