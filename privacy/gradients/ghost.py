"""Ghost clipping: all units in one forward, a backward for their norms alone, and a backward of the clipped sum.

Shapes: U units, N positions of a unit, d width, V vocabulary. No tensor of units x parameters exists; what grows is
N^2 per unit, so few long records of a patient beat many.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from privacy.gradients.clipped import ClippedSum, clip_factors, full_precision, squared_norm, trainable
from privacy.gradients.layer_hooks import LayerHooks, layer_gradients, layer_hooks, quiet_grad
from privacy.gradients.layers import kind_of, own_parameters
from privacy.gradients.loss import record_losses
from privacy.gradients.samplers import squares_by_unit, without_padding
from privacy.gradients.slots import pad_units, pick_units
from privacy.unit_batch import UnitBatch


class GhostBackend:
    """Norms without gradients, exact for tied embeddings too."""

    name = "ghost"

    def clipped_sum(self, model: nn.Module, batch: UnitBatch, max_grad_norm: float) -> ClippedSum:
        """See :class:`privacy.gradients.clipped.Backend`."""
        parameters = [parameter for _, parameter in trainable(model)]
        padded, weights = pad_units(batch)
        seen = _Norms(model, batch.num_units)
        with full_precision(batch):
            with layer_hooks(model, batch.num_units, seen.visit) as hooks:
                seen.hooks = hooks
                losses = (record_losses(model, padded) * weights).view(batch.num_units, -1).sum(1)
                hooks.backward(losses)
            norms = seen.squares().sqrt()
            factors = clip_factors(norms, max_grad_norm)
            if not (finite := factors > 0).all():
                return self._without(model, batch, max_grad_norm, finite, norms, losses.detach())
            found = quiet_grad((factors * losses).sum(), parameters)
        gradients = [torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True)]
        return ClippedSum(gradients=gradients, norms=norms, losses=losses.detach())

    def _without(
        self, model: nn.Module, batch: UnitBatch, max_grad_norm: float, finite: Tensor, norms: Tensor, losses: Tensor
    ) -> ClippedSum:
        """Start again without the units whose gradient is not finite.

        The others' norms are taken anew as well: dropout differs in the new forward, and a norm of the old one would
        not bound the gradient of the new one.
        """
        if not finite.any():
            return ClippedSum(gradients=[torch.zeros_like(p) for _, p in trainable(model)], norms=norms, losses=losses)
        again = self.clipped_sum(model, pick_units(batch, finite), max_grad_norm)
        norms, losses = norms.clone(), losses.clone()
        norms[finite], losses[finite] = again.norms, again.losses
        return ClippedSum(gradients=again.gradients, norms=norms, losses=losses)


class _Norms:
    """Adds up the squared norms of the layers as the backward passes them."""

    hooks: LayerHooks

    def __init__(self, model: nn.Module, units: int) -> None:
        self._units = units
        self._found: list[Tensor] = []
        self._tied = _tied_embeddings(model)
        self._head: dict[nn.Parameter, tuple[Tensor, Tensor]] = {}
        self._shared: dict[nn.Parameter, Tensor] = {}
        self._left: dict[nn.Parameter, int] = {}

    def squares(self) -> Tensor:
        """(U,) squared norms over all parameters."""
        return torch.stack(self._found).sum(0).clamp(min=0)

    def visit(self, layer: nn.Module, inputs: Tensor, backprops: Tensor) -> None:
        parameters = own_parameters(layer).values()
        if any(self._is_shared(p) for p in parameters) or (kind := kind_of(layer)) in (None, "other_norm"):
            for parameter, gradients in layer_gradients(layer, inputs, backprops).items():
                self._collect(parameter, gradients)
            return
        assert kind is not None  # noqa: S101 - tells mypy what the test above showed
        self._found += squares_by_unit(layer, kind, inputs, backprops).values()
        for parameter in parameters:
            if parameter in self._tied:
                self._cross(layer, parameter, inputs, backprops)

    def _is_shared(self, parameter: nn.Parameter) -> bool:
        """Whether several calls add to the gradient, other than one embedding and one head."""
        calls = self.hooks.calls[parameter]
        return calls > 1 and not (parameter in self._tied and calls == 2)

    def _collect(self, parameter: nn.Parameter, gradients: Tensor) -> None:
        """Add up the calls' gradients of every unit, and take the norm behind the last one."""
        before = self._shared.pop(parameter, None)
        total = gradients if before is None else before.add_(gradients)
        left = self._left.get(parameter, self.hooks.calls[parameter]) - 1
        self._left[parameter] = left
        if left == 0:
            self._found.append(squared_norm(total))
        else:
            self._shared[parameter] = total

    def _cross(self, layer: nn.Module, parameter: nn.Parameter, inputs: Tensor, backprops: Tensor) -> None:
        """Twice the product of the embedding's and the head's part of a tied gradient.

        2 * sum over positions t, s of <b_t, h_s> * g_s[id_t]: b the gradient at the embedding's output, h the head's
        input, g the gradient at the logits. The head comes first on the way back; of its V columns only those of
        the unit's own tokens matter.
        """
        embedding = self._tied[parameter]
        if layer is not embedding:
            ids = self.hooks.inputs[embedding][0]  # (U, N)
            self._head[parameter] = (inputs, backprops.gather(2, ids[:, None].expand(-1, inputs.shape[1], -1)))
            return
        head_inputs, own_columns = self._head.pop(parameter)
        products = head_inputs @ without_padding(embedding, inputs, backprops).mT  # (U, N, N)
        self._found.append(2 * (products * own_columns).sum((1, 2)))


def _tied_embeddings(model: nn.Module) -> dict[nn.Parameter, nn.Embedding]:
    """Weights that an embedding shares with a linear layer."""
    embeddings: dict[nn.Parameter, nn.Embedding] = {}
    for module in model.modules():
        if isinstance(module, nn.Embedding) and module.weight.requires_grad:
            embeddings[cast(nn.Parameter, module.weight)] = module
    heads = {module.weight for module in model.modules() if isinstance(module, nn.Linear)}
    return {weight: embedding for weight, embedding in embeddings.items() if weight in heads}
