"""The packed rows of every privacy unit, for training that samples units instead of rows.

Shapes: T tokens of a row; a unit has as many rows as its documents fill, the last one padded.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from modeling.packing import IGNORED, Document, by_unit, cut_rows, fill_up, frame


class UnitRows:
    """All rows of a corpus, unit by unit; no row holds tokens of two units.

    Args:
        documents: the corpus.
        row_length: T.
        end_of_note: token that frames notes.
        padding: token that fills a unit's last row.
        each_row_alone: every row is a unit of its own (record-level privacy).
    """

    def __init__(
        self,
        documents: Sequence[Document],
        *,
        row_length: int,
        end_of_note: int,
        padding: int,
        each_row_alone: bool = False,
    ) -> None:
        ordered = sorted(documents, key=lambda d: (d.unit, d.tokens.tobytes()))
        self._rows = [
            cut_rows(fill_up(frame(of_one, end_of_note), row_length, padding), row_length)
            for of_one in by_unit(ordered).values()
        ]
        if each_row_alone:
            self._rows = [row[None] for rows in self._rows for row in rows]

    @property
    def num_units(self) -> int:
        """How many units there are."""
        return len(self._rows)

    def num_records(self, unit: int) -> int:
        """Rows of a unit.

        Args:
            unit: counted from 0.
        """
        return len(self._rows[unit])

    def expected_tokens(self, sampling_rate: float, max_records: int) -> float:
        """Tokens that a step trains on, on average over the draw.

        Args:
            sampling_rate: chance of a unit to be drawn.
            max_records: rows of a unit that are used.
        """
        per_unit = ((rows[:, 1] != IGNORED).sum() * min(1.0, max_records / len(rows)) for rows in self._rows)
        return sampling_rate * float(sum(per_unit))

    def records(self, unit: int, picked: NDArray[np.intp]) -> NDArray[np.int32]:
        """Give some rows of a unit.

        Args:
            unit: counted from 0.
            picked: which rows.

        Returns:
            (len(picked), 3, T): inputs, targets, positions.
        """
        chosen: NDArray[np.int32] = self._rows[unit][picked]
        return chosen
