"""The loss of a unit: the mean over its records of each record's mean cross entropy, in nats per token.

Shapes: R records of a batch, T tokens of a record, V vocabulary, U units.

The loss that transformers computes from ``labels`` is a mean over all tokens of the batch: a record's share then
depends on the other patients' lengths, clipping one patient no longer bounds what that patient changes, and the
reported epsilon is false. Hence the losses here, which never look beyond the record.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from privacy.gradients.architectures import inner_model
from privacy.unit_batch import IGNORED, UnitBatch


def unit_losses(model: nn.Module, batch: UnitBatch) -> Tensor:
    """Compute the loss of every unit.

    Args:
        model: a Hugging Face causal or masked language model.
        batch: its units.

    Returns:
        (U,) float32; a record without any target counts as 0.
    """
    counts = torch.bincount(batch.unit, minlength=batch.num_units)
    weights = (1.0 / counts)[batch.unit]
    losses = record_losses(model, batch) * weights
    return losses.new_zeros(batch.num_units).index_add(0, batch.unit, losses)


def record_losses(model: nn.Module, batch: UnitBatch) -> Tensor:
    """Compute the mean cross entropy of every record over its own targets.

    Args:
        model: a Hugging Face causal or masked language model.
        batch: its units.

    Returns:
        (R,) float32; 0 for a record without any target.
    """
    logits = model(**model_inputs(model, batch)).logits.float()  # (R, T, V)
    token_losses = F.cross_entropy(
        logits.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORED, reduction="none"
    ).view_as(batch.targets)
    counts = (batch.targets != IGNORED).sum(1)
    return token_losses.sum(1) / counts.clamp(min=1)


def model_inputs(model: nn.Module, batch: UnitBatch) -> dict[str, Any]:
    """Give the keyword arguments of the model's forward, positions and segments filled in where it takes them.

    The models' own defaults have one row for all records, which leaves a layer without a record to assign its
    gradient to; values are what the model would have taken itself.

    Args:
        model: a Hugging Face model, or one wrapped by peft.
        batch: its inputs.
    """
    inner = inner_model(model)
    taken = inspect.signature(inner.forward).parameters
    records, tokens = batch.targets.shape
    inputs: dict[str, Any] = dict(batch.inputs)
    # Models of the RoBERTa kind count positions from the padding on; theirs cannot be filled in from outside.
    own_positions = any(hasattr(m, "create_position_ids_from_input_ids") for m in inner.modules())
    if "position_ids" in taken and "position_ids" not in inputs and not own_positions:
        inputs["position_ids"] = torch.arange(tokens, device=batch.targets.device).repeat(records, 1)
    # GPT-2 takes segments too, but reads their embedding from the words' table: not giving any is its default.
    if "token_type_ids" in taken and "token_type_ids" not in inputs and hasattr(inner.config, "type_vocab_size"):
        inputs["token_type_ids"] = torch.zeros_like(batch.targets)
    if "use_cache" in taken:
        inputs["use_cache"] = False
    return inputs
