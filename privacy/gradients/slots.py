"""Giving every unit of a batch the same number of rows, so that one forward serves all units.

Shapes: R records, T tokens, U units, k slots (rows) of a unit.
"""

from __future__ import annotations

import torch
from torch import Tensor

from privacy.unit_batch import IGNORED, UnitBatch


def pad_units(batch: UnitBatch) -> tuple[UnitBatch, Tensor]:
    """Fill every unit up to as many rows as the largest one has.

    A row that fills up is a copy of the unit's own first record without targets: its loss is 0, its inputs are valid
    tokens, and it never shows one unit another one's text.

    Args:
        batch: R records.

    Returns:
        The batch with U * k records, and the weight of each record in its unit's loss, (U * k,): one over the unit's
        records, 0 where filled up.
    """
    counts = torch.bincount(batch.unit, minlength=batch.num_units)
    slots = int(counts.max())
    weights = (1.0 / counts).repeat_interleave(slots)
    if len(batch.unit) == batch.num_units * slots:
        return batch, weights
    first = counts.cumsum(0) - counts
    slot = torch.arange(slots, device=counts.device)
    real = slot < counts[:, None]  # (U, k)
    rows = (first[:, None] + torch.where(real, slot, 0)).flatten()
    filled = ~real.flatten()
    padded = UnitBatch(
        inputs={name: tensor[rows] for name, tensor in batch.inputs.items()},
        targets=batch.targets[rows].masked_fill(filled[:, None], IGNORED),
        unit=torch.arange(batch.num_units, device=counts.device).repeat_interleave(slots),
        num_units=batch.num_units,
    )
    return padded, weights.masked_fill(filled, 0.0)


def pick_units(batch: UnitBatch, picked: Tensor) -> UnitBatch:
    """Make a batch of some of the units.

    Args:
        batch: U units.
        picked: (U,) bool, at least one of them true.
    """
    rows = picked[batch.unit]
    number = picked.cumsum(0) - 1
    return UnitBatch(
        inputs={name: tensor[rows] for name, tensor in batch.inputs.items()},
        targets=batch.targets[rows],
        unit=number[batch.unit[rows]],
        num_units=int(picked.sum()),
    )


def by_unit(tensor: Tensor, units: int) -> Tensor:
    """Join the rows of every unit into one long row.

    Args:
        tensor: (U * k, T, ...) of tokens or activations, or (U * k, width) without positions.
        units: U.

    Returns:
        (U, k * T, ...), or (U, k, width).
    """
    if tensor.dim() > 2 or not tensor.is_floating_point():
        return tensor.reshape(units, -1, *tensor.shape[2:])
    return tensor.reshape(units, -1, tensor.shape[-1])
