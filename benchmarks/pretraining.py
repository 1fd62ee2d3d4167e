"""Local pretraining: useful tokens per second of packed rows against one padded note per row.

Hugging Face's Trainer needs a further package (accelerate) that fednotes does not install. What stands here is the
same recipe: notes cut at the context, a batch padded to its longest note, the model's own loss, the same AdamW.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from statistics import mean

import torch
from torch import Tensor
from transformers import PreTrainedModel

from benchmarks.notes import generated_notes
from benchmarks.table import Row
from benchmarks.timing import side_by_side
from modeling.release import new_model
from modeling.tokenizer import default_tokenizer
from protocols.messages import InnerRecipe
from site_client.corpus import tokenize
from site_client.train import make_optimizer, make_rows, train_steps

_SIZE = "pico"
_STEPS = 10
_RECIPE = InnerRecipe(steps=_STEPS, rows=8, row_length=256, peak_lr=1e-3)
_IGNORED = -100


def rows() -> list[Row]:
    """Ratio of useful tokens per second."""
    torch.set_num_threads(1)
    tokenizer = default_tokenizer()
    documents = tokenize(generated_notes(), tokenizer)
    counted: dict[str, list[int]] = {"ours": [], "theirs": []}  # useful tokens of every call

    model = new_model(_SIZE, tokenizer, seed=0)
    optimizer, packed = make_optimizer(model, _RECIPE), make_rows(documents, _RECIPE, tokenizer)

    def ours() -> None:
        _, tokens = train_steps(model, optimizer, packed, _RECIPE, first_step=0, steps=_STEPS, total_steps=_STEPS)
        counted["ours"].append(tokens)

    plain = new_model(_SIZE, tokenizer, seed=0)
    plain_optimizer = make_optimizer(plain, _RECIPE)
    notes = [[tokenizer.bos_token_id, *d.tokens.tolist(), tokenizer.eos_token_id] for d in documents]
    batches = _padded(notes, int(tokenizer.pad_token_id))

    def theirs() -> None:
        counted["theirs"].append(sum(_plain_step(plain, plain_optimizer, *next(batches)) for _ in range(_STEPS)))

    our_seconds, their_seconds = side_by_side(ours, theirs, repeats=5)
    our_speed, their_speed = mean(counted["ours"]) / our_seconds, mean(counted["theirs"]) / their_seconds
    return [
        Row(
            what="local pretraining",
            against="one padded note per row (the Trainer's recipe, without accelerate)",
            measured=our_speed / their_speed,
            bound="at least",
            target=1.3,
            unit="x",
            detail=f"{our_speed:,.0f} against {their_speed:,.0f} useful tok/s; {_SIZE}, {_RECIPE.rows} rows, one core",
        )
    ]


def _padded(notes: list[list[int]], padding: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Endless shuffled batches (input_ids, attention_mask, labels), each padded to its longest note."""
    rng = random.Random(0)
    while True:
        order = rng.sample(notes, len(notes))
        for start in range(0, len(order) - _RECIPE.rows + 1, _RECIPE.rows):
            batch = [note[: _RECIPE.row_length] for note in order[start : start + _RECIPE.rows]]
            longest = max(map(len, batch))
            fill = [longest - len(note) for note in batch]
            yield (
                torch.tensor([note + [padding] * n for note, n in zip(batch, fill, strict=True)]),
                torch.tensor([[1] * len(note) + [0] * n for note, n in zip(batch, fill, strict=True)]),
                torch.tensor([note + [_IGNORED] * n for note, n in zip(batch, fill, strict=True)]),
            )


def _plain_step(
    model: PreTrainedModel, optimizer: torch.optim.Optimizer, inputs: Tensor, mask: Tensor, labels: Tensor
) -> int:
    """One step; returns the tokens that counted in the loss."""
    model.train()
    model(input_ids=inputs, attention_mask=mask, labels=labels, use_cache=False).loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), _RECIPE.max_grad_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return int((labels[:, 1:] != _IGNORED).sum())
