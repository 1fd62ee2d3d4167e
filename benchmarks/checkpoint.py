"""A random Llama with the project's own vocabulary: what it writes is noise, how it is run is the real thing."""

from __future__ import annotations

from pathlib import Path

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def make_checkpoint(folder: Path, *, hidden: int, layers: int, template: str | None = CHAT_TEMPLATE) -> Path:
    """Write a checkpoint folder that vLLM and transformers load.

    Args:
        folder: made if it is not there.
        hidden: width, a multiple of 128.
        layers: depth.
        template: chat template; None for a base model.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from modeling.tokenizer import default_tokenizer

    tokenizer = default_tokenizer()
    tokenizer.chat_template = template
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=hidden * 11 // 4,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 32,
        num_key_value_heads=hidden // 64,
        max_position_embeddings=4096,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
