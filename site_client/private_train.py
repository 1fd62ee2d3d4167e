"""Local training under differential privacy: sample units, release a noisy gradient, let the optimizer move."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim import AdamW
from transformers import PreTrainedModel

from modeling.unit_rows import UnitRows
from privacy.mechanism import Mechanism
from privacy.private_step import PrivateStep, StepFacts
from privacy.randomness import SecureRandom
from privacy.sampling import draw_records, draw_units
from privacy.unit_batch import UnitBatch
from protocols.messages import InnerRecipe
from site_client.train import learning_rate

_ROWS_AT_A_TIME = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundFacts:
    """What the steps of a round saw, without any noise: for the site's own file, never for a reply.

    Attributes:
        units: drawn in a step, on average.
        loss: mean over the steps that drew any [nats/token]; None where none did.
        clipped: share of the drawn units whose gradient was longer than the bound.
    """

    units: float
    loss: float | None
    clipped: float


def private_steps(
    model: PreTrainedModel,
    optimizer: AdamW,
    step: PrivateStep,
    rows: UnitRows,
    mechanism: Mechanism,
    recipe: InnerRecipe,
    random: SecureRandom,
    *,
    first_step: int,
    steps: int,
    total_steps: int,
) -> RoundFacts:
    """Take optimizer steps on noisy gradients.

    Args:
        model: trained in place.
        optimizer: of this model.
        step: makes the noisy gradients, with the mechanism that was charged for.
        rows: the corpus by unit.
        mechanism: says how units and their records are drawn.
        recipe: learning rate and its schedule; ``rows`` and ``max_grad_norm`` of it are not used.
        random: of the operating system; draws the units.
        first_step: number of the first step, counted from 0 over all rounds.
        steps: how many.
        total_steps: over all rounds; the schedule ends there.
    """
    model.train()
    seen: list[StepFacts] = []
    for number in range(first_step, first_step + steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, number, total_steps)
        drawn = draw_units(rows.num_units, mechanism.sampling_rate, random)
        seen.append(step.release(unit_batches(rows, drawn, mechanism.max_records, random, model.device)))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return _summary(seen)


def unit_batches(
    rows: UnitRows, drawn: NDArray[np.intp], max_records: int, random: SecureRandom, device: torch.device
) -> Iterator[UnitBatch]:
    """Give the records of the drawn units in batches of whole units; none where nobody was drawn.

    Args:
        rows: the corpus by unit.
        drawn: indices of units.
        max_records: of a unit.
        random: draws the records of a unit that has more.
        device: of the model.
    """
    waiting: list[NDArray[np.int32]] = []
    for unit in drawn:
        records = rows.records(unit, draw_records(rows.num_records(unit), max_records, random))
        if waiting and sum(map(len, waiting)) + len(records) > _ROWS_AT_A_TIME:
            yield _batch(waiting, device)
            waiting = []
        waiting.append(records)
    if waiting:
        yield _batch(waiting, device)


def _batch(units: Sequence[NDArray[np.int32]], device: torch.device) -> UnitBatch:
    tensor = torch.from_numpy(np.concatenate(units).astype(np.int64)).to(device)  # (R, 3, T)
    owners = np.repeat(np.arange(len(units)), [len(records) for records in units])
    return UnitBatch(
        inputs={"input_ids": tensor[:, 0].contiguous(), "position_ids": tensor[:, 2].contiguous()},
        targets=tensor[:, 1].contiguous(),
        unit=torch.from_numpy(owners).to(device),
        num_units=len(units),
    )


def _summary(seen: Sequence[StepFacts]) -> RoundFacts:
    units = sum(s.units for s in seen)
    losses = [s.loss for s in seen if math.isfinite(s.loss)]
    return RoundFacts(
        units=units / len(seen),
        loss=sum(losses) / len(losses) if losses else None,
        clipped=sum(s.clipped for s in seen) / units if units else 0.0,
    )
