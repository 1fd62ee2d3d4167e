"""Tiny random models of every checked architecture, batches of units, and gradients one record at a time."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    ModernBertConfig,
    ModernBertForMaskedLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from privacy.unit_batch import IGNORED, UnitBatch

VOCABULARY, TOKENS, WIDTH = 61, 16, 32
_SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_QWEN = _SHAPE | {"num_key_value_heads": 2}
_MODELS = {
    "llama": (LlamaForCausalLM, LlamaConfig, _QWEN),
    "gpt2": (GPT2LMHeadModel, GPT2Config, {"vocab_size": VOCABULARY, "n_embd": WIDTH, "n_layer": 2, "n_head": 4}),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, _QWEN),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, _QWEN | {"head_dim": 8}),
    "bert": (BertForMaskedLM, BertConfig, _SHAPE),
    "modernbert": (
        ModernBertForMaskedLM,
        ModernBertConfig,
        _SHAPE | {"cls_token_id": 3, "sep_token_id": 4, "local_attention": 8, "global_attn_every_n_layers": 2},
    ),
}
FAMILIES = tuple(_MODELS)
_LORA_LAYERS = {"gpt2": ["c_attn", "c_fc"], "bert": ["query", "value", "dense"], "modernbert": ["Wqkv", "Wo"]}


def tiny_model(family: str, *, tied: bool = True, lora: bool = False, dropout: float = 0.0) -> nn.Module:
    model_class, config_class, shape = _MODELS[family]
    extra = {"n_positions": 32, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0} if family == "gpt2" else {}
    rates = {name: dropout for name in vars(config_class()) if "dropout" in name or name.endswith("pdrop")}
    rates.pop("classifier_dropout", None)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = model_class(config_class(**shape, **extra, **rates, tie_word_embeddings=tied))
        if lora:
            layers = _LORA_LAYERS.get(family, ["q_proj", "v_proj", "down_proj"])
            settings = LoraConfig(r=4, target_modules=layers, lora_dropout=dropout, init_lora_weights=False)
            model = get_peft_model(model, settings, autocast_adapter_dtype=False)
    return model.train()


def unit_batch(records=(1, 2, 3, 1), *, seed=0, tokens=TOKENS, padded=False, vocabulary=VOCABULARY) -> UnitBatch:
    generator = torch.Generator().manual_seed(seed)
    rows = sum(records)
    draw = lambda: torch.randint(0, vocabulary, (rows, tokens), generator=generator)  # noqa: E731
    inputs, targets = {"input_ids": draw()}, draw()
    targets[torch.rand(targets.shape, generator=generator) < 0.3] = IGNORED
    if padded:
        inputs["attention_mask"] = torch.ones_like(targets)
        inputs["attention_mask"][::2, -5:] = 0
        targets[::2, -5:] = IGNORED
    unit = torch.repeat_interleave(torch.arange(len(records)), torch.tensor(records))
    return UnitBatch(inputs=inputs, targets=targets, unit=unit, num_units=len(records))


def one_at_a_time(model: nn.Module, batch: UnitBatch, max_grad_norm: float) -> tuple[Tensor, list[Tensor]]:
    """Norms and clipped sum by one forward and backward per record, in double precision: nothing of the product."""
    exact = copy.deepcopy(model).double()
    parameters = [p for p in exact.parameters() if p.requires_grad]
    norms, total = [], [torch.zeros_like(p) for p in parameters]
    for unit in range(batch.num_units):
        rows = (batch.unit == unit).nonzero().flatten().tolist()
        mean = [torch.zeros_like(p) for p in parameters]
        for row in rows:
            logits = exact(**{name: t[row : row + 1] for name, t in batch.inputs.items()}).logits[0]
            if (batch.targets[row] == IGNORED).all():
                continue
            loss = F.cross_entropy(logits, batch.targets[row], ignore_index=IGNORED)
            found = torch.autograd.grad(loss, parameters, allow_unused=True)
            mean = [m if g is None else m + g / len(rows) for m, g in zip(mean, found, strict=True)]
        norm = torch.sqrt(sum((m**2).sum() for m in mean))
        norms.append(norm)
        total = [t + m * min(1.0, max_grad_norm / (float(norm) + 1e-6)) for t, m in zip(total, mean, strict=True)]
    return torch.stack(norms), total


def relative_error(found: list[Tensor], expected: list[Tensor]) -> float:
    """Norm of the difference over the norm of what was expected."""
    difference = sum(((f.double() - e.double()) ** 2).sum() for f, e in zip(found, expected, strict=True))
    return float(torch.sqrt(difference / sum((e.double() ** 2).sum() for e in expected)))
