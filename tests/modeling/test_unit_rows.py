from __future__ import annotations

import numpy as np
import pytest

from modeling.packing import IGNORED, Document
from modeling.unit_rows import UnitRows

END, PAD = 0, 1


def document(unit: str, *tokens: int) -> Document:
    return Document(unit=unit, tokens=np.array(tokens, np.int32))


def rows_of(*documents: Document, **changes: bool) -> UnitRows:
    return UnitRows(documents, row_length=4, end_of_note=END, padding=PAD, **changes)


def test_every_row_belongs_to_one_unit():
    rows = rows_of(document("a", 10, 11), document("b", 20), document("a", 12, 13, 14))
    assert rows.num_units == 2
    for unit, first in ((0, 1), (1, 2)):
        inputs = rows.records(unit, np.arange(rows.num_records(unit)))[:, 0]
        assert {int(t) // 10 for t in inputs.flatten() if t not in (END, PAD)} == {first}


def test_a_units_rows_hold_every_token_once_and_padding_is_ignored():
    rows = rows_of(document("a", 10, 11), document("a", 12, 13, 14))
    records = rows.records(0, np.arange(rows.num_records(0)))
    assert records.shape == (2, 3, 4)
    targets = records[:, 1].flatten()
    assert sorted(int(t) for t in targets if t != IGNORED) == [END, END, 10, 11, 12, 13, 14]
    assert (targets == IGNORED).sum() == 1
    assert list(records[1, 2]) == [0, 1, 2, 0]  # the second row starts anew, the padding attends to itself


def test_records_may_be_units_of_their_own():
    rows = rows_of(document("a", *range(10, 20)), document("b", 20), each_row_alone=True)
    assert rows.num_units == 4
    assert [rows.num_records(unit) for unit in range(4)] == [1] * 4


def test_chosen_records_are_given():
    rows = rows_of(document("a", *range(10, 20)))
    assert np.array_equal(rows.records(0, np.array([2]))[0], rows.records(0, np.arange(3))[2])


@pytest.mark.parametrize(("rate", "most", "expected"), [(1.0, 9, 13), (0.5, 9, 6.5), (1.0, 1, 11 / 3 + 2)])
def test_expected_tokens_of_a_step(rate, most, expected):
    rows = rows_of(document("a", *range(10, 20)), document("b", 20))
    assert rows.expected_tokens(rate, most) == pytest.approx(expected)
