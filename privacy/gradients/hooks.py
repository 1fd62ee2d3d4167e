"""All units in one forward and backward; every unit's gradient exists at once (memory: units x parameters)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from privacy.gradients.clipped import ClippedSum, clip_factors, full_precision, squared_norm, trainable
from privacy.gradients.layer_hooks import layer_gradients, layer_hooks
from privacy.gradients.loss import record_losses
from privacy.gradients.slots import pad_units
from privacy.unit_batch import UnitBatch


class HooksBackend:
    """Gradients of all units by hooks on the layers; a tied parameter simply collects from both of its layers."""

    name = "hooks"

    def clipped_sum(self, model: nn.Module, batch: UnitBatch, max_grad_norm: float) -> ClippedSum:
        """See :class:`privacy.gradients.clipped.Backend`."""
        samples: dict[nn.Parameter, Tensor] = {}

        def visit(layer: nn.Module, inputs: Tensor, backprops: Tensor) -> None:
            for parameter, gradients in layer_gradients(layer, inputs, backprops).items():
                before = samples.get(parameter)
                samples[parameter] = gradients if before is None else before.add_(gradients)

        padded, weights = pad_units(batch)
        with full_precision(batch):
            with layer_hooks(model, batch.num_units, visit) as hooks:
                losses = (record_losses(model, padded) * weights).view(batch.num_units, -1).sum(1)
                hooks.backward(losses)
            norms = torch.stack([squared_norm(gradients) for gradients in samples.values()]).sum(0).sqrt()
            factors = clip_factors(norms, max_grad_norm)
            kept = factors > 0
            if not kept.all():
                factors = factors[kept]
                samples = {parameter: gradients[kept] for parameter, gradients in samples.items()}
            return ClippedSum(
                gradients=[
                    torch.tensordot(factors, samples[p], 1) if p in samples else torch.zeros_like(p)
                    for _, p in trainable(model)
                ],
                norms=norms,
                losses=losses.detach(),
            )
