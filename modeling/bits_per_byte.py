"""How well a causal model predicts a text, in bits per UTF-8 byte: comparable over tokenizers and note lengths.

The number of bits is the sum of the negative log-likelihoods of the text's own tokens (special tokens cost nothing and
count nothing); the number of bytes is that of the raw text before any normalisation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerFast


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What one text cost.

    Attributes:
        bits: of the whole text.
        num_bytes: UTF-8 length of the raw text.
    """

    bits: float
    num_bytes: int


@dataclass(frozen=True, slots=True)
class _Window:
    text: int  # index of the text it belongs to
    tokens: list[int]
    first_scored: int  # index in `tokens` of the first token whose bits count


def score_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    texts: Sequence[str],
    *,
    rows: int = 16,
    context: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[Score]:
    """Score each text on its own.

    A text longer than the context is read in windows that advance by three quarters of a context: each token is scored
    once, with at least a quarter of a context before it except at the start of the text. Every window begins with the
    end-of-note token.

    Args:
        model: causal language model, in evaluation mode on return.
        tokenizer: the model's own.
        texts: raw texts.
        rows: windows per forward pass.
        context: window length [tokens]; the model's own limit by default.
        progress: called with the number of windows just scored.
    """
    length = context or int(model.config.max_position_embeddings)
    windows = [w for i, ids in enumerate(_encode(tokenizer, texts)) for w in _windows(i, ids, tokenizer, length)]
    windows.sort(key=lambda w: len(w.tokens))  # rows of one pass are about equally long: little padding
    bits = [0.0] * len(texts)
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(windows), rows):
            batch = windows[start : start + rows]
            for window, value in zip(batch, _window_bits(model, batch), strict=True):
                bits[window.text] += value
            if progress is not None:
                progress(len(batch))
    return [Score(bits=b, num_bytes=len(t.encode())) for b, t in zip(bits, texts, strict=True)]


def bits_per_byte(scores: Sequence[Score]) -> float:
    """Ratio of the sums; NaN for no bytes."""
    num_bytes = sum(s.num_bytes for s in scores)
    return sum(s.bits for s in scores) / num_bytes if num_bytes else math.nan


def _encode(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[list[int]]:
    if not texts:
        return []
    ids: list[list[int]] = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    return ids


def _windows(text: int, ids: list[int], tokenizer: PreTrainedTokenizerFast, length: int) -> list[_Window]:
    start_token = int(tokenizer.bos_token_id)
    stride = length - length // 4
    windows, scored = [], 0
    while scored < len(ids):
        # The first window has no history to repeat, so it scores a whole context at once.
        begin = 0 if scored == 0 else scored - (length - stride)
        end = min(begin + length, len(ids))
        windows.append(_Window(text, [start_token, *ids[begin:end]], scored - begin + 1))
        scored = end
    return windows


def _window_bits(model: PreTrainedModel, batch: Sequence[_Window]) -> list[float]:
    longest = max(len(w.tokens) for w in batch)
    tokens = torch.zeros(len(batch), longest, dtype=torch.long)
    counts = torch.zeros(len(batch), longest - 1)
    for row, window in enumerate(batch):
        tokens[row, : len(window.tokens)] = torch.tensor(window.tokens)
        counts[row, window.first_scored - 1 : len(window.tokens) - 1] = 1.0
    tokens, counts = tokens.to(model.device), counts.to(model.device)
    # Padding stands on the right: a causal model never looks at it, so no attention mask is needed.
    logits = model(input_ids=tokens[:, :-1], use_cache=False).logits.float()
    # Flat, the vocabulary stays the last axis in memory; (N, V, T) takes three times as long on a CPU.
    nats = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none").view_as(counts)
    totals: list[float] = ((nats * counts).double().sum(1) / math.log(2)).tolist()
    return totals
