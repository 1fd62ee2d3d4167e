"""Which trainable layers act on every position on its own, and so have a known gradient per unit.

A backend with hooks sees a layer's input and the gradient at its output, and joins all records of a unit into one
long row. That gives the unit's gradient only where no position of a row reaches another *inside the layer*.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from torch import nn

Kind = Literal["linear", "conv1d", "embedding", "layer_norm", "rms_norm", "other_norm"]

# weight * x / sqrt(mean(x^2) + variance_epsilon); other classes scale otherwise, (1 + weight) for one.
_RMS_NORMS = {"LlamaRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm"}

# Parameters that a container holds beside its layers, but that only its layers use or nobody does: the head's bias
# of BERT is the decoder's own tensor when tied, and dead weight when not.
_UNUSED = {("BertLMPredictionHead", "bias")}


def kind_of(layer: nn.Module) -> Kind | None:
    """Tell how a layer's gradient per unit is found, None when it is not known to act on every position on its own.

    Args:
        layer: a module with parameters of its own.
    """
    # A subclass may compute something else; one that keeps the forward computes the same.
    forward = type(layer).forward
    if isinstance(layer, nn.Linear) and forward is nn.Linear.forward:
        return "linear"
    if isinstance(layer, nn.Embedding) and forward is nn.Embedding.forward:
        return "embedding" if layer.max_norm is None and not (layer.scale_grad_by_freq or layer.sparse) else None
    if isinstance(layer, nn.LayerNorm) and forward is nn.LayerNorm.forward:
        return "layer_norm" if len(layer.normalized_shape) == 1 else None
    name = type(layer).__name__
    if name == "Conv1D" and type(layer).__module__ == "transformers.pytorch_utils":
        return "conv1d"  # GPT-2's name for a linear layer with its weight transposed; no convolution
    if name in _RMS_NORMS:
        return "rms_norm"
    return "other_norm" if name.endswith("RMSNorm") and _only_a_weight(layer) else None


def own_parameters(layer: nn.Module) -> dict[str, nn.Parameter]:
    """Give the trainable parameters that a module uses itself, not through the modules inside it.

    Args:
        layer: any module.
    """
    return {
        name: parameter
        for name, parameter in layer.named_parameters(recurse=False, remove_duplicate=False)
        if parameter.requires_grad and (type(layer).__name__, name) not in _UNUSED
    }


def trainable_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Give every module that has trainable parameters of its own, with its dotted path.

    Args:
        model: any.
    """
    for path, module in model.named_modules():
        if own_parameters(module):
            yield path, module


def _only_a_weight(layer: nn.Module) -> bool:
    parameters = dict(layer.named_parameters())
    return list(parameters) == ["weight"] and parameters["weight"].dim() == 1 and not list(layer.buffers())
