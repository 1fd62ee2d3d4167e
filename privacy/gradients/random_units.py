"""Units of random tokens: for checking and timing a model without a patient's text."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from privacy.gradients.architectures import inner_model
from privacy.unit_batch import IGNORED, UnitBatch


def random_units(model: nn.Module, *, records: Sequence[int], tokens: int, seed: int) -> UnitBatch:
    """Make a batch of units with random inputs and targets, a fifth of the targets left out.

    Args:
        model: gives vocabulary and device.
        records: of each unit.
        tokens: of each record.
        seed: of a generator of its own; torch's global one is left alone.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (sum(records), tokens)
    vocabulary = int(inner_model(model).config.vocab_size)
    targets = torch.randint(0, vocabulary, shape, generator=generator)
    targets[torch.rand(shape, generator=generator) < 0.2] = IGNORED
    inputs = torch.randint(0, vocabulary, shape, generator=generator)
    device = next(model.parameters()).device
    return UnitBatch(
        inputs={"input_ids": inputs.to(device)},
        targets=targets.to(device),
        unit=torch.arange(len(records)).repeat_interleave(torch.tensor(records)).to(device),
        num_units=len(records),
    )
