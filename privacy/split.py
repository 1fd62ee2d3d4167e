"""Splitting by patient: all that comes from one patient lies on one side, today and after the next export."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal

Split = Literal["train", "validation", "test"]

TEST_SHARE = 0.15
VALIDATION_SHARE = 0.15


def split_patients(patients: Iterable[str], salt: str) -> dict[str, Split]:
    """Assign each patient to a split by a hash of its key.

    The assignment of a patient does not depend on who else is there, so a later export moves nobody, with one
    exception: where chance left a split empty (few patients), a patient with one of the lowest hashes (test,
    validation) or the highest (train) is taken for it.

    Args:
        patients: patient keys.
        salt: names the split, e.g. the study's seed.

    Returns:
        The split of each patient. With three patients or more, no split is empty; with six, two are test patients.

    Example:
        >>> sorted(split_patients(["a", "b", "c"], "0").values())
        ['test', 'train', 'validation']
    """
    places = {p: _place(p, salt) for p in set(patients)}
    ranked = sorted(places, key=lambda p: (places[p], p))
    splits: dict[str, Split] = {p: _split_at(places[p]) for p in ranked}
    if len(ranked) >= 3:
        # The lowest hashes are test, the next ones validation, the rest train. An interval needs two test patients.
        held_out = 2 if len(ranked) >= 6 else 1
        splits |= dict.fromkeys(ranked[:held_out], "test")
        if "train" not in splits.values():
            splits[ranked[-1]] = "train"
        if "validation" not in splits.values():
            splits[ranked[held_out]] = "validation"
    return splits


def _split_at(place: float) -> Split:
    if place < TEST_SHARE:
        return "test"
    return "validation" if place < TEST_SHARE + VALIDATION_SHARE else "train"


def _place(patient: str, salt: str) -> float:
    """A number in [0, 1) that looks random and never changes."""
    digest = hashlib.sha256(f"{salt}\0{patient}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
