"""The records of some privacy units as tensors: what one step under differential privacy computes on.

Shapes: R records (packed rows) of a batch, T tokens of a record, U units (patients).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

IGNORED = -100
"""Target of a position without a loss, as in torch's cross entropy."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class UnitBatch:
    """Records of U units, those of one unit side by side.

    Attributes:
        inputs: keyword arguments of the model's forward, each (R, T): ``input_ids``, and ``position_ids``,
            ``attention_mask`` or ``token_type_ids`` where the model takes them.
        targets: (R, T) int64; the token that the logits at the same position should give, ``IGNORED`` for no loss.
        unit: (R,) int64 from 0 to U - 1, ascending; every unit has a record.
        num_units: U.
    """

    inputs: Mapping[str, Tensor]
    targets: Tensor
    unit: Tensor
    num_units: int

    def __repr__(self) -> str:
        return f"UnitBatch({tuple(self.targets.shape)})"  # its tokens are a patient's text
