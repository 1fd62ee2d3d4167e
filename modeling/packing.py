"""Packing tokenized notes into full rows, and serving them in an order that depends on (seed, step) alone.

Shapes: R rows of a batch, T tokens of a row. A note is framed as ``<eon> text <eon>``; inputs are all but its last
token, targets all but its first, so every input position has its own target and no loss crosses from note to note.
Positions restart with every note: transformers reads note boundaries from them and lets no note attend to another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from protocols.errors import WorkError

IGNORED = -100
"""Target of a padded position; the loss skips it."""


_NO_UNIT = -1  # padding belongs to nobody


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TokenBatch:
    """One batch of packed rows.

    Attributes:
        input_ids: (R, T) int64.
        targets: (R, T) int64, ``IGNORED`` where padded.
        position_ids: (R, T) int64, restarting at 0 with every note.
    """

    input_ids: Tensor
    targets: Tensor
    position_ids: Tensor

    @property
    def num_tokens(self) -> int:
        """Positions that count in the loss."""
        return int((self.targets != IGNORED).sum())

    def __repr__(self) -> str:
        return f"TokenBatch{tuple(self.input_ids.shape)}"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Document:
    """One text as tokens, with the unit it belongs to.

    Attributes:
        unit: key of the privacy unit (the patient).
        tokens: (length,) int32, without special tokens.
    """

    unit: str
    tokens: NDArray[np.int32]

    def __repr__(self) -> str:
        return f"Document({len(self.tokens)} tokens)"


class RowStream:
    """An endless, reproducible stream of packed rows over a corpus.

    Args:
        documents: the corpus.
        row_length: T.
        packing: "stream" fills every row to the last token, cutting a note where the row ends; "patient" starts a new
            row with every patient and pads the last one.
        end_of_note: token that frames notes.
        padding: token that fills rows.
        seed: of the order.

    Raises:
        WorkError: the corpus does not fill a single row.
    """

    def __init__(
        self,
        documents: Sequence[Document],
        *,
        row_length: int,
        packing: Literal["stream", "patient"],
        end_of_note: int,
        padding: int,
        seed: int,
    ) -> None:
        self._documents = sorted(documents, key=lambda d: (d.unit, d.tokens.tobytes()))
        self._row_length = row_length
        self._packing = packing
        self._end_of_note = end_of_note
        self._padding = padding
        self._seed = seed
        self._epoch = -1
        self._rows: NDArray[np.int32] = np.empty((0, 4, row_length), np.int32)
        self._unit_numbers = {unit: i for i, unit in enumerate(sorted({d.unit for d in documents}))}
        if packing == "stream":
            self.rows_per_epoch = self.num_tokens // row_length
        else:
            self.rows_per_epoch = sum(-(-sum(map(_length, docs)) // row_length) for docs in self._by_unit().values())
        if self.rows_per_epoch == 0:
            raise WorkError(
                f"The training corpus has {self.num_tokens} tokens, fewer than one row of {row_length}.",
                hint="give the site more notes or choose a shorter row length",
            )

    @property
    def num_tokens(self) -> int:
        """Targets in one pass over the corpus."""
        return sum(map(_length, self._documents))

    def batch(self, step: int, rows: int) -> TokenBatch:
        """Give the batch of a global step; the same step always gives the same batch.

        Args:
            step: counted from 0 over all rounds.
            rows: R.
        """
        first = step * rows
        picked = np.stack([self._row(index) for index in range(first, first + rows)])  # (R, 4, T)
        tensor = torch.from_numpy(picked.astype(np.int64))
        return TokenBatch(input_ids=tensor[:, 0], targets=tensor[:, 1], position_ids=tensor[:, 2])

    def num_units(self, first_step: int, steps: int, rows: int) -> int:
        """Count the privacy units whose tokens are in the batches of some steps.

        Args:
            first_step: as in :meth:`batch`.
            steps: how many.
            rows: R.
        """
        indices = range(first_step * rows, (first_step + steps) * rows)
        seen = {int(u) for index in indices for u in np.unique(self._row(index)[3])}
        return len(seen - {_NO_UNIT})

    def _row(self, index: int) -> NDArray[np.int32]:
        epoch, within = divmod(index, self.rows_per_epoch)
        if epoch != self._epoch:
            self._rows, self._epoch = self._pack_epoch(epoch), epoch
        row: NDArray[np.int32] = self._rows[within]
        return row

    def _pack_epoch(self, epoch: int) -> NDArray[np.int32]:
        """Pack one shuffled pass; (rows_per_epoch, 4, T): inputs, targets, positions, units."""
        rng = np.random.default_rng([self._seed, epoch])
        if self._packing == "stream":
            order = rng.permutation(len(self._documents))
            stream = self._stream([self._documents[i] for i in order])
            packed = cut_rows(stream[:, : self.rows_per_epoch * self._row_length], self._row_length)
        else:
            streams = [self._stream(documents) for documents in self._by_unit().values()]
            packed = np.concatenate(
                [cut_rows(fill_up(s, self._row_length, self._padding), self._row_length) for s in streams]
            )
        # Rows are shuffled too: neighbours of one long note would fill a batch with one patient.
        shuffled: NDArray[np.int32] = packed[rng.permutation(len(packed))]
        return shuffled

    def _by_unit(self) -> dict[str, list[Document]]:
        return by_unit(self._documents)

    def _stream(self, documents: Sequence[Document]) -> NDArray[np.int32]:
        """Frame documents and say whose every position is; (4, tokens)."""
        lengths = [_length(d) for d in documents]
        units = np.repeat(np.array([self._unit_numbers[d.unit] for d in documents], np.int32), lengths)
        return np.concatenate([frame(documents, self._end_of_note), units[None]])


def by_unit(documents: Sequence[Document]) -> dict[str, list[Document]]:
    """Documents by privacy unit, in the order of their first one."""
    units: dict[str, list[Document]] = {}
    for document in documents:
        units.setdefault(document.unit, []).append(document)
    return units


def frame(documents: Sequence[Document], end_of_note: int) -> NDArray[np.int32]:
    """Concatenate documents: inputs, targets, and flags of first positions; (3, tokens)."""
    end = np.array([end_of_note], np.int32)
    inputs = np.concatenate([part for d in documents for part in (end, d.tokens)])
    targets = np.concatenate([part for d in documents for part in (d.tokens, end)])
    first = np.zeros_like(inputs)
    first[np.cumsum([0, *map(_length, documents)])[:-1]] = 1
    return np.stack([inputs, targets, first])


def fill_up(stream: NDArray[np.int32], row_length: int, padding: int) -> NDArray[np.int32]:
    """Fill a framed stream up to whole rows; the padding attends to itself alone and belongs to nobody.

    Args:
        stream: (3 or 4, tokens), as :func:`frame` makes it, with units behind.
        row_length: T.
        padding: the token that fills.
    """
    missing = -stream.shape[1] % row_length
    fill = np.zeros((len(stream), missing), np.int32)
    fill[0], fill[1], fill[2, :1] = padding, IGNORED, 1
    fill[3:] = _NO_UNIT
    return np.concatenate([stream, fill], axis=1)


def cut_rows(stream: NDArray[np.int32], row_length: int) -> NDArray[np.int32]:
    """Cut a stream of whole rows and turn its flags into positions; (rows, 3 or 4, T)."""
    inputs, targets, first, *units = stream.reshape(len(stream), -1, row_length)
    first[:, 0] = 1  # the rest of a cut note starts anew: what came before lies in another row
    index = np.arange(row_length, dtype=np.int32)
    positions = index - np.maximum.accumulate(np.where(first, index, 0), axis=1)
    return np.stack([inputs, targets, positions, *units], axis=1)


def _length(document: Document) -> int:
    """Inputs (and targets) that a document takes in a row."""
    return len(document.tokens) + 1
