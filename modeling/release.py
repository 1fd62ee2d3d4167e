"""A model as a folder that plain transformers loads: configuration, weights, tokenizer and card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoTokenizer,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils.logging import disable_progress_bar

from modeling.arrays import load_arrays, to_arrays
from modeling.sizes import decoder_config
from protocols.durable import whole_folder
from protocols.errors import UsageError
from protocols.manifest import MANIFEST_FILE, ParameterManifest

# A library's bar for a load of milliseconds would only break the command's own bars.
disable_progress_bar()


def new_model(size: str, tokenizer: PreTrainedTokenizerFast, seed: int, context: int | None = None) -> LlamaForCausalLM:
    """Make a decoder with fresh weights, reproducibly.

    Args:
        size: a key of ``modeling.sizes.SIZES``.
        tokenizer: gives vocabulary size and special tokens.
        seed: of the initial weights.
        context: longest row that it will be trained on [tokens]; the size's own when None.

    Raises:
        UsageError: for an unknown size.
    """
    config = decoder_config(size, len(tokenizer), int(tokenizer.eos_token_id), int(tokenizer.pad_token_id), context)
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
        manifest = ParameterManifest.of(to_arrays(model))
        (partial / MANIFEST_FILE).write_text(manifest.model_dump_json(), encoding="utf-8")
        (partial / "README.md").write_text(card, encoding="utf-8")


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Load the tokenizer of a model folder.

    Raises:
        UsageError: there is none, or it is not a fast one.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder} holds no tokenizer that loads: {error}") from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise UsageError(f"{folder} holds no fast tokenizer (tokenizer.json).")
    return tokenizer


def load_model(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Load a causal model and its tokenizer from a folder; no hub is asked.

    Raises:
        UsageError: the folder is missing or holds no model.
    """
    if not (folder / "config.json").is_file():
        raise UsageError(f"{folder} holds no model (no config.json).", hint="make one with: fednotes model new DIR")
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    except (OSError, ValueError, SafetensorError) as error:
        raise UsageError(f"{folder} cannot be loaded as a causal language model: {error}") from error
    return cast(PreTrainedModel, model), load_tokenizer(folder)


def load_language_model(folder: Path) -> PreTrainedModel:
    """Load a causal or masked language model, as its configuration says; no hub is asked.

    Raises:
        UsageError: the folder is missing or holds no language model.
    """
    if not (folder / "config.json").is_file():
        raise UsageError(f"{folder} holds no model (no config.json).", hint="make one with: fednotes model new DIR")
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        masked = any("MaskedLM" in name for name in config.architectures or ())
        kind = AutoModelForMaskedLM if masked else AutoModelForCausalLM
        model = kind.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    except (OSError, ValueError, SafetensorError) as error:
        raise UsageError(f"{folder} cannot be loaded as a language model: {error}") from error
    return cast(PreTrainedModel, model)


def empty_model(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Build the model that a folder describes, with weights yet to be filled in, and load its tokenizer.

    Raises:
        UsageError: the folder is missing or holds no model configuration.
    """
    if not (folder / "config.json").is_file():
        raise UsageError(f"{folder} holds no model (no config.json).", hint="make one with: fednotes model new DIR")
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    return cast(PreTrainedModel, AutoModelForCausalLM.from_config(config)), load_tokenizer(folder)


def model_with(folder: Path, arrays: Mapping[str, NDArray[np.float32]]) -> PreTrainedModel:
    """Load the model of a folder and put other weights into it."""
    model, _ = empty_model(folder)
    load_arrays(model, arrays)
    return model
