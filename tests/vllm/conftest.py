"""Real vLLM on the CPU, with tiny random checkpoints: what they write is noise, how they are run is the real thing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs vLLM, and loading it takes most of a minute."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.vllm)
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(900))


def make_checkpoint(folder: Path, *, hidden: int = 128, layers: int = 2, template: str | None = CHAT_TEMPLATE) -> Path:
    """Write a random Llama with the project's own vocabulary."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from modeling.tokenizer import default_tokenizer

    tokenizer = default_tokenizer()
    tokenizer.chat_template = template
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["model_type"] == "llama"
    return folder


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model that fits into every machine."""
    return make_checkpoint(tmp_path_factory.mktemp("models") / "tiny-llama")
