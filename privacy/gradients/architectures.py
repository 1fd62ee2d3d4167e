"""Which models may train under differential privacy: what was checked, and what can never be right.

A model whose records touch each other has no gradient of one patient alone. It trains without an error and reports an
epsilon that is false, so it is refused here, by the name of the layer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, NoReturn

import torch
from torch import nn

from privacy.gradients.layers import kind_of, trainable_layers
from protocols.errors import UsageError

CHECKED = (
    "BertForMaskedLM",
    "GPT2LMHeadModel",
    "LlamaForCausalLM",
    "ModernBertForMaskedLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
)
"""Classes that the tests compare with one record at a time, tied and untied, all weights and LoRA by peft."""

_CHECK = "fednotes site privacy check-model MODEL"


def architecture_of(model: nn.Module) -> str:
    """Name a model's class, that of the model inside for one wrapped by peft.

    Args:
        model: any.
    """
    return type(inner_model(model)).__name__


def inner_model(model: nn.Module) -> Any:
    """Give the Hugging Face model itself.

    Args:
        model: it, or peft's wrapper around it.
    """
    inner: Any = model  # peft is not imported for its type
    return inner.get_base_model() if hasattr(inner, "get_base_model") else inner


def require_checked(model: nn.Module, also: Collection[str] = ()) -> None:
    """Refuse a model that nobody compared with one record at a time.

    Args:
        model: a Hugging Face model, with or without peft's LoRA.
        also: classes that this site checked itself.

    Raises:
        UsageError: its class is in neither list, or it is refused by :func:`refuse_unsupported`.
    """
    refuse_unsupported(model)
    name = architecture_of(model)
    if name not in CHECKED and name not in also:
        raise UsageError(
            f"{name} was not checked for differential privacy; checked are {', '.join(sorted({*CHECKED, *also}))}.",
            hint=f"check it with: {_CHECK}",
        )


def refuse_unsupported(model: nn.Module) -> None:
    """Refuse a model in which patients touch each other, or whose gradient per patient is not known to be right.

    Args:
        model: a Hugging Face model, with or without peft's LoRA.

    Raises:
        UsageError: names the layer, says why and what to do.
    """
    for path, layer in model.named_modules():
        for fault in _faults(layer):
            _refuse(path, layer, fault)
    for path, layer in trainable_layers(model):
        if kind_of(layer) is None:
            _refuse(path, layer, _why_not(layer))
        for name, parameter in layer.named_parameters(recurse=False):
            if parameter.requires_grad and parameter.dtype in (torch.float16, torch.bfloat16):
                _refuse(path, layer, f"its {name} is {parameter.dtype}, too coarse for the norms; load it in float32")
    if getattr(inner_model(model).config, "output_router_logits", False):
        _refuse("config", inner_model(model).config, "output_router_logits adds a balancing loss over all patients")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UsageError("The model has no trainable parameter.", hint="unfreeze some, or add LoRA")


def _faults(layer: nn.Module) -> Iterator[str]:
    """What is wrong with a module even where it is frozen."""
    name = type(layer).__name__.lower()
    if isinstance(layer, nn.modules.batchnorm._BatchNorm):
        yield "batch norm averages over all patients of a batch; take a model with layer norm"
    if _scales_by_the_batch(layer):
        yield "its rotary positions are scaled by the longest row of the batch; take a model with default rope"
    if "dora" in name:
        yield "DoRA has no gradient per patient; use LoRA (use_dora=False)"
    if getattr(layer, "gradient_checkpointing", False):
        yield "gradient checkpointing hides its layers; call gradient_checkpointing_disable() on the model"
    if "moe" in name or "router" in name or "experts" in name:
        yield "a mixture of experts is balanced by a loss over all patients of a batch; take a dense model"


def _scales_by_the_batch(layer: nn.Module) -> bool:
    """Whether rotary frequencies follow the longest row seen: one patient's length changes another's gradient."""
    kinds = getattr(layer, "rope_type", "default")
    return any(k in ("dynamic", "longrope") for k in (kinds.values() if isinstance(kinds, dict) else [kinds]))


def _why_not(layer: nn.Module) -> str:
    """Say why a trainable layer has no known gradient per patient."""
    if isinstance(layer, nn.modules.conv._ConvNd):
        return (
            "a convolution reaches over several positions, and so from one record of a patient into the next; freeze it"
        )
    if isinstance(layer, nn.RNNBase | nn.RNNCellBase):
        return "a recurrent layer reaches from one record of a patient into the next; freeze it"
    if isinstance(layer, nn.Embedding) and type(layer).forward is nn.Embedding.forward:
        return "max_norm, scale_grad_by_freq and sparse make its gradient depend on other patients; switch them off"
    return "no gradient per patient is known for a trainable layer of this class; freeze it"


def _refuse(path: str, layer: object, why: str) -> NoReturn:
    raise UsageError(
        f"{path or 'the model'} ({type(layer).__name__}) cannot train under differential privacy: {why}.",
        hint=f"see what a model needs with: {_CHECK}",
    )
