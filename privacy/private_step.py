"""One step under differential privacy: the subsampled Gaussian mechanism on the gradients of units.

In order: the gradient of each sampled unit is clipped to ``max_grad_norm``, the clipped gradients are added up, noise
is added to the sum, and the sum is divided by a public number (Abadi et al. 2016, arXiv 1607.00133, algorithm 1, with
a unit in the place of an example). What the optimizer does with the result needs no further thought: it is
post-processing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from privacy.gradients.clipped import Backend, trainable
from privacy.mechanism import Mechanism
from privacy.randomness import SecureRandom
from privacy.unit_batch import UnitBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFacts:
    """What a step saw. It depends on the patients without any noise: it is for the site's own eyes and never leaves.

    Attributes:
        units: sampled.
        loss: mean over them [nats/token]; NaN for none.
        clipped: how many were longer than the bound.
    """

    units: int
    loss: float
    clipped: int


class PrivateStep:
    """Turns the sampled units of a step into ``.grad`` of a model's trainable parameters.

    Args:
        model: its weights stay as they are; the optimizer moves them.
        mechanism: the constants that were charged for.
        backend: how gradients by unit are computed.
        random: of the operating system.
    """

    def __init__(self, model: nn.Module, mechanism: Mechanism, backend: Backend, random: SecureRandom) -> None:
        self._model = model
        self._mechanism = mechanism
        self._backend = backend
        self._random = random
        self._parameters = [parameter for _, parameter in trainable(model)]

    def release(self, batches: Iterable[UnitBatch]) -> StepFacts:
        """Compute the noisy gradient of one step into ``.grad``, in the place of what was there.

        A step that drew no unit is a step of noise alone: leaving it out would show that nobody was drawn.

        Args:
            batches: the step's units in parts that fit into memory; a unit lies in one part whole.
        """
        bound = self._mechanism.max_grad_norm
        sums = [torch.zeros_like(p, dtype=torch.float32) for p in self._parameters]
        units, clipped, loss = 0, 0, 0.0
        for batch in batches:
            part = self._backend.clipped_sum(self._model, batch, bound)
            for total, gradient in zip(sums, part.gradients, strict=True):
                total += gradient
            units += batch.num_units
            clipped += int((part.norms > bound).sum())
            loss += float(part.losses.sum())
        for parameter, total in zip(self._parameters, sums, strict=True):
            parameter.grad = self._noised(total).to(parameter.dtype)
        return StepFacts(units=units, loss=loss / units if units else float("nan"), clipped=clipped)

    def _noised(self, total: Tensor) -> Tensor:
        """Add the noise in float64 and divide; rounded to float32 only at the end."""
        std = self._mechanism.noise_multiplier * self._mechanism.max_grad_norm
        noise = torch.from_numpy(self._random.normal(total.numel())).view(total.shape) * std
        released: Tensor = (total.double() + noise.to(total.device)) / self._mechanism.expected_units
        return released.float()
