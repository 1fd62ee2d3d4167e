from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from privacy.split import TEST_SHARE, VALIDATION_SHARE, split_patients

KEYS = st.sets(st.integers(0, 10**6).map(lambda n: f"{n:032x}"), min_size=20, max_size=80)


@pytest.mark.parametrize("salt", [str(i) for i in range(60)])
def test_three_patients_give_three_splits(salt):
    splits = split_patients(["a", "b", "c"], salt)
    assert sorted(splits.values()) == ["test", "train", "validation"]


@given(
    patients=st.sets(st.text(max_size=8).filter(str.isascii), min_size=3, max_size=12), salt=st.text("ab", max_size=6)
)
def test_no_split_is_empty_from_three_patients_on(patients, salt):
    assert set(split_patients(patients, salt).values()) == {"train", "validation", "test"}


@given(before=KEYS, added=KEYS, salt=st.sampled_from(["0", "1"]))
def test_adding_patients_moves_nobody(before, added, salt):
    old = split_patients(before, salt)
    # Where chance leaves a split empty, one patient is moved into it on purpose; those cases are left out by looking at
    # patients one at a time, which shows where the hash alone puts them.
    assume(all(old[p] == split_patients([p], salt)[p] for p in before))
    new = split_patients(before | added, salt)
    assert {p: new[p] for p in before} == old


def test_order_and_repetition_of_patients_do_not_matter():
    keys = [str(i) for i in range(30)]
    assert split_patients(keys, "0") == split_patients([*reversed(keys), *keys], "0")


def test_another_salt_is_another_split():
    keys = [str(i) for i in range(200)]
    assert split_patients(keys, "0") != split_patients(keys, "1")


def test_shares_are_about_right_on_ten_thousand_patients():
    counts = Counter(split_patients((f"{i:032x}" for i in range(10_000)), "study").values())
    # Four standard deviations of a binomial count.
    assert counts["test"] == pytest.approx(10_000 * TEST_SHARE, abs=4 * 36)
    assert counts["validation"] == pytest.approx(10_000 * VALIDATION_SHARE, abs=4 * 30)
    assert counts.total() == 10_000


def test_fewer_than_three_patients_are_split_by_their_hash_alone():
    assert split_patients([], "0") == {}
    assert set(split_patients(["a", "b"], "0")) == {"a", "b"}


@given(
    patients=st.sets(st.text(max_size=8).filter(str.isascii), min_size=6, max_size=30), salt=st.text("ab", max_size=6)
)
def test_six_patients_give_two_to_test_on(patients, salt):
    splits = Counter(split_patients(patients, salt).values())
    assert splits["test"] >= 2
    assert splits["train"] and splits["validation"]
