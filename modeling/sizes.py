"""Decoder sizes by name, as Hugging Face Llama configurations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from protocols.errors import UsageError

if TYPE_CHECKING:
    from transformers import LlamaConfig


@dataclass(frozen=True, kw_only=True)
class Size:
    """Shape of a decoder.

    Attributes:
        width: hidden size.
        layers: transformer blocks.
        heads: attention heads.
        context: longest row [tokens].
    """

    width: int
    layers: int
    heads: int
    context: int


SIZES = {
    "pico": Size(width=64, layers=2, heads=2, context=256),
    "nano": Size(width=128, layers=2, heads=4, context=256),
    "micro": Size(width=256, layers=4, heads=4, context=512),
    "mini": Size(width=384, layers=6, heads=6, context=1024),
    "125m": Size(width=768, layers=12, heads=12, context=1024),
    "1b": Size(width=2048, layers=16, heads=32, context=2048),
}


def decoder_config(
    size: str, vocab_size: int, eos_token_id: int, pad_token_id: int, context: int | None = None
) -> LlamaConfig:
    """Give the Llama configuration of a named size.

    Args:
        size: a key of ``SIZES``.
        vocab_size: of the tokenizer.
        eos_token_id: ends a note, and begins the next one.
        pad_token_id: fills a row.
        context: longest row [tokens]; the size's own when None.

    Raises:
        UsageError: for an unknown size.
    """
    if size not in SIZES:
        raise UsageError(f"There is no model size {size!r}.", hint=f"choose one of: {', '.join(SIZES)}")
    from transformers import LlamaConfig  # slow to load; listing the sizes does not need it

    shape = SIZES[size]
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=shape.width,
        # SwiGLU has three matrices where a plain MLP has two; 8/3 keeps the parameter count (arXiv 2002.05202).
        intermediate_size=shape.width * 8 // 3 // 32 * 32,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=context or shape.context,
        tie_word_embeddings=True,
        bos_token_id=eos_token_id,
        eos_token_id=eos_token_id,
        pad_token_id=pad_token_id,
    )
