"""The byte-level BPE tokenizer that travels with a model release.

It is trained on text that no patient wrote into (the project's generator by default): a vocabulary learnt from notes
would itself be a release of notes. Byte-level means that nothing is ever out of vocabulary.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from importlib.resources import files

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

END_OF_NOTE = "<|end_of_note|>"
PADDING = "<|padding|>"


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Learn a byte-level BPE vocabulary.

    Args:
        texts: public or synthetic texts; never notes.
        vocab_size: at least 258 (256 bytes and two special tokens).
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_NOTE, PADDING],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _wrap(tokenizer)


def default_tokenizer() -> PreTrainedTokenizerFast:
    """Load the vocabulary that ships with the package (made by ``python -m simulations.make_tokenizer``)."""
    return _wrap(Tokenizer.from_str(files("modeling").joinpath("tokenizer.json").read_text("utf-8")))


def tokenizer_digest(tokenizer: PreTrainedTokenizerFast) -> str:
    """SHA-256 over vocabulary and merges (hex); equal digests tokenize equally."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    canonical = json.dumps([state["model"], state["pre_tokenizer"]], sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _wrap(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_NOTE,
        eos_token=END_OF_NOTE,
        pad_token=PADDING,
        clean_up_tokenization_spaces=False,
    )
