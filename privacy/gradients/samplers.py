"""The gradient of every unit, or its squared norm alone, from a layer's input and the gradient at its output.

Shapes: U units, N positions of a unit (all its records in one row), i and o widths of input and output, V vocabulary.
These stand in for Opacus' own samplers: those know no RMSNorm of transformers and no Conv1D, need a LayerNorm's bias,
and count the padding token's embedding, which torch never trains.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from privacy.gradients.clipped import squared_norm
from privacy.gradients.layers import Kind, own_parameters


def gradients_by_unit(layer: nn.Module, kind: Kind, inputs: Tensor, backprops: Tensor) -> dict[nn.Parameter, Tensor]:
    """Compute the gradient of every unit for the trainable parameters of one call of a layer.

    Args:
        layer: of any kind but "other_norm".
        kind: as ``kind_of`` tells.
        inputs: (U, N, ..., i), or (U, N) token ids.
        backprops: (U, N, ..., o) gradient of the sum of all units' losses at the layer's output.

    Returns:
        (U, *parameter.shape) of each parameter.
    """
    found: dict[str, Tensor] = {}
    wanted = own_parameters(layer)
    if "weight" in wanted:
        found["weight"] = _weight_by_unit(layer, kind, inputs, backprops)
    if "bias" in wanted:
        found["bias"] = _positions_summed(backprops)
    return {wanted[name]: gradient for name, gradient in found.items()}


def squares_by_unit(layer: nn.Module, kind: Kind, inputs: Tensor, backprops: Tensor) -> dict[nn.Parameter, Tensor]:
    """Compute the squared norm of every unit's gradient, without the gradient itself where that is large.

    Args:
        layer: as for :func:`gradients_by_unit`, likewise the rest.
        kind: as ``kind_of`` tells.
        inputs: (U, N, ..., i), or (U, N) token ids.
        backprops: (U, N, ..., o).

    Returns:
        (U,) of each parameter.
    """
    wanted = own_parameters(layer)
    found: dict[str, Tensor] = {}
    if "weight" in wanted:
        if kind in ("linear", "conv1d"):
            found["weight"] = _product_square(_flat(inputs), _flat(backprops))
        elif isinstance(layer, nn.Embedding):
            found["weight"] = _embedding_square(layer, inputs, backprops)
        else:
            found["weight"] = squared_norm(_weight_by_unit(layer, kind, inputs, backprops))
    if "bias" in wanted:
        found["bias"] = squared_norm(_positions_summed(backprops))
    return {wanted[name]: squares for name, squares in found.items()}


def without_padding(layer: nn.Embedding, ids: Tensor, backprops: Tensor) -> Tensor:
    """Set the gradient to 0 where the token is the padding one, whose embedding torch leaves alone.

    Args:
        layer: the embedding.
        ids: (U, N).
        backprops: (U, N, o).
    """
    if layer.padding_idx is None:
        return backprops
    return backprops.masked_fill((ids == layer.padding_idx)[..., None], 0.0)


def _weight_by_unit(layer: nn.Module, kind: Kind, inputs: Tensor, backprops: Tensor) -> Tensor:
    if kind == "linear":
        return _flat(backprops).mT @ _flat(inputs)
    if kind == "conv1d":
        return _flat(inputs).mT @ _flat(backprops)
    if isinstance(layer, nn.Embedding):
        units, width = len(inputs), layer.embedding_dim
        backprops = without_padding(layer, inputs, backprops)
        rows = inputs + torch.arange(units, device=inputs.device)[:, None] * layer.num_embeddings
        table = backprops.new_zeros(units * layer.num_embeddings, width)
        return table.index_add_(0, rows.flatten(), backprops.reshape(-1, width)).view(units, -1, width)
    if isinstance(layer, nn.LayerNorm):
        return _positions_summed(F.layer_norm(inputs, layer.normalized_shape, eps=layer.eps) * backprops)
    epsilon = float(cast(float, layer.variance_epsilon))
    scale = torch.rsqrt(inputs.square().mean(-1, keepdim=True) + epsilon)
    return _positions_summed(inputs * scale * backprops)


def _flat(tensor: Tensor) -> Tensor:
    """Join all axes between the first and the last one: (U, N, o)."""
    return tensor.flatten(1, -2)


def _positions_summed(tensor: Tensor) -> Tensor:
    return _flat(tensor).sum(1)


def _product_square(inputs: Tensor, backprops: Tensor) -> Tensor:
    """Squared norm of backprops^T @ inputs of every unit, the smaller way: two N x N tensors or one o x i."""
    positions, size = inputs.shape[1], inputs.shape[2] * backprops.shape[2]
    if 2 * positions**2 > size:
        return squared_norm(backprops.mT @ inputs)
    # Rounding may take a sum that is 0 a little below, whose root would be NaN; clamp keeps a true NaN.
    return ((inputs @ inputs.mT) * (backprops @ backprops.mT)).sum((1, 2)).clamp(min=0)


def _embedding_square(layer: nn.Embedding, ids: Tensor, backprops: Tensor) -> Tensor:
    """Add up the gradients at equal ids of a unit, then square: no U x V x o tensor."""
    backprops = without_padding(layer, ids, backprops)
    units = torch.arange(len(ids), device=ids.device)[:, None]
    present, where = torch.unique(ids + units * layer.num_embeddings, return_inverse=True)
    rows = backprops.new_zeros(len(present), backprops.shape[-1])
    rows.index_add_(0, where.flatten(), backprops.reshape(-1, backprops.shape[-1]))
    owner = torch.div(present, layer.num_embeddings, rounding_mode="floor")
    return backprops.new_zeros(len(ids)).index_add_(0, owner, rows.square().sum(1))
