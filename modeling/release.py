"""A model as a folder that plain transformers loads: configuration, weights, tokenizer and card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from modeling.arrays import load_arrays
from modeling.sizes import decoder_config
from protocols.durable import whole_folder
from protocols.errors import UsageError


def new_model(size: str, tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """Make a decoder with fresh weights, reproducibly.

    Args:
        size: a key of ``modeling.sizes.SIZES``.
        tokenizer: gives vocabulary size and special tokens.
        seed: of the initial weights.

    Raises:
        UsageError: for an unknown size.
    """
    config = decoder_config(size, len(tokenizer), int(tokenizer.eos_token_id), int(tokenizer.pad_token_id))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def save_model(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, card: str) -> None:
    """Write a model folder; it appears whole or not at all.

    Args:
        folder: replaced if it is there.
        model: its weights are written as safetensors.
        tokenizer: travels with them.
        card: README.md of the folder.
    """
    with whole_folder(folder) as partial:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        (partial / "README.md").write_text(card, encoding="utf-8")


def load_model(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Load a causal model and its tokenizer from a folder; no hub is asked.

    Raises:
        UsageError: the folder is missing or holds no model.
    """
    if not (folder / "config.json").is_file():
        raise UsageError(f"{folder} holds no model (no config.json).", hint="make one with: fednotes model new DIR")
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder} cannot be loaded as a causal language model: {error}") from error
    if not isinstance(model, PreTrainedModel) or not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise UsageError(f"{folder} holds no model with a fast tokenizer (tokenizer.json).")
    return model, tokenizer


def model_with(folder: Path, arrays: Mapping[str, NDArray[np.float32]]) -> PreTrainedModel:
    """Load the model of a folder and put other weights into it."""
    model, _ = load_model(folder)
    load_arrays(model, arrays)
    return model
