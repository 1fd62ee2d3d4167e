"""Local training: a model, a stream of packed rows, a recipe; AdamW steps with warmup and cosine decay.

The same loop trains a round at a hospital and, in a simulation, the pooled and the single-hospital arms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch.optim import AdamW
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from modeling.packing import IGNORED, Document, RowStream, TokenBatch
from protocols.errors import WorkError
from protocols.messages import InnerRecipe

_BETAS = (0.9, 0.95)
_ROWS_AT_A_TIME = 16


def make_rows(documents: Sequence[Document], recipe: InnerRecipe, tokenizer: PreTrainedTokenizerFast) -> RowStream:
    """Pack a corpus the way the recipe says."""
    return RowStream(
        documents,
        row_length=recipe.row_length,
        packing=recipe.packing,
        end_of_note=int(tokenizer.eos_token_id),
        padding=int(tokenizer.pad_token_id),
        seed=recipe.seed,
    )


def make_optimizer(model: PreTrainedModel, recipe: InnerRecipe) -> AdamW:
    """AdamW with weight decay on matrices only; norms and biases are not decayed."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    rest = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return AdamW(groups, lr=recipe.peak_lr, betas=_BETAS)


def learning_rate(recipe: InnerRecipe, step: int, total_steps: int) -> float:
    """Linear warmup, then cosine decay to ``final_lr_fraction`` at the last step.

    Args:
        recipe: the constants.
        step: counted from 0 over all rounds.
        total_steps: over all rounds.
    """
    if step < recipe.warmup_steps:
        return recipe.peak_lr * (step + 1) / recipe.warmup_steps
    done = (step - recipe.warmup_steps) / max(1, total_steps - 1 - recipe.warmup_steps)
    cosine = (1 + math.cos(math.pi * min(1.0, done))) / 2
    return recipe.peak_lr * (recipe.final_lr_fraction + (1 - recipe.final_lr_fraction) * cosine)


def train_steps(
    model: PreTrainedModel,
    optimizer: AdamW,
    rows: RowStream,
    recipe: InnerRecipe,
    *,
    first_step: int,
    steps: int,
    total_steps: int,
    on_step: Callable[[int, float], None] | None = None,
) -> tuple[float, int]:
    """Take optimizer steps.

    Args:
        model: trained in place.
        optimizer: of this model.
        rows: gives the batch of each step.
        recipe: constants.
        first_step: number of the first step, counted from 0 over all rounds.
        steps: how many.
        total_steps: over all rounds; the schedule ends there.
        on_step: told (tokens, loss) of each step.

    Returns:
        Mean loss over the tokens [nats/token], and the number of tokens.

    Raises:
        WorkError: the loss is not finite; names the step.
    """
    model.train()
    total_loss, total_tokens = 0.0, 0
    for step in range(first_step, first_step + steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step, total_steps)
        batch = rows.batch(step, recipe.rows)
        loss, tokens = _accumulate(model, batch), batch.num_tokens
        if not math.isfinite(loss):
            raise WorkError(f"The loss is not finite at step {step}.", hint="lower peak_lr")
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        total_loss, total_tokens = total_loss + loss * tokens, total_tokens + tokens
        if on_step is not None:
            on_step(tokens, loss)
    return total_loss / max(1, total_tokens), total_tokens


def _accumulate(model: PreTrainedModel, batch: TokenBatch) -> float:
    """Add the gradient of the batch's mean token loss, a few rows at a time; memory does not grow with the batch."""
    tokens, total = batch.num_tokens, 0.0
    for start in range(0, len(batch.input_ids), _ROWS_AT_A_TIME):
        part = slice(start, start + _ROWS_AT_A_TIME)
        inputs, targets, positions = (
            t[part].to(model.device) for t in (batch.input_ids, batch.targets, batch.position_ids)
        )
        logits = model(input_ids=inputs, position_ids=positions, use_cache=False).logits.float()  # (R, T, V)
        nats = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum")
        loss = nats / tokens
        loss.backward()
        total += float(loss.detach())
    return total
