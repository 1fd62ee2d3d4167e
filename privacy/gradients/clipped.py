"""What a backend gives for a step: the sum of the units' gradients, each clipped on its own.

Shapes: U units (patients) of a batch. A gradient means the gradient of one unit's loss with respect to all trainable
parameters together; its norm is the L2 norm over all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from privacy.unit_batch import UnitBatch


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ClippedSum:
    """Clipped gradients of U units, added up; nothing here is noised, so nothing here may leave the site.

    Attributes:
        gradients: one per trainable parameter, in the order of :func:`trainable`, without a graph.
        norms: (U,) norm of each unit's gradient before clipping.
        losses: (U,) loss of each unit [nats/token].
    """

    gradients: list[Tensor]
    norms: Tensor
    losses: Tensor

    def __repr__(self) -> str:
        return f"ClippedSum({len(self.norms)} units)"  # norms and losses are private


class Backend(Protocol):
    """A way to compute clipped gradients; all ways give the same numbers up to rounding.

    Attributes:
        name: as :func:`privacy.gradients.choose.backend_named` takes it.
    """

    name: str

    def clipped_sum(self, model: nn.Module, batch: UnitBatch, max_grad_norm: float) -> ClippedSum:
        """Clip each unit's gradient and add them up; the sums of batches with different units may be added.

        Args:
            model: left as it was: weights, ``grad``, hooks and attributes.
            batch: at least one unit.
            max_grad_norm: L2 bound on a unit's gradient.
        """
        ...


def trainable(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """List the parameters that training changes; a tied one stands once, under its first name.

    Args:
        model: any; frozen parameters (LoRA's base) are left out.
    """
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def clip_factors(norms: Tensor, max_grad_norm: float) -> Tensor:
    """Give the factor of each unit's gradient: 1 within the bound, smaller beyond it.

    A norm that is not finite gets 0, which says that the gradient must be left out of the sum: times 0 it would
    still be NaN, and one patient's records would wipe out everyone's.

    Args:
        norms: (U,).
        max_grad_norm: the bound.

    Returns:
        (U,) factors in [0, 1].
    """
    factors = (max_grad_norm / (norms + 1e-6)).clamp(max=1.0)
    return torch.where(norms.isfinite(), factors, torch.zeros_like(factors))


def total_norm(gradients: Sequence[Tensor]) -> Tensor:
    """Norm of a gradient that is spread over several tensors.

    Args:
        gradients: at least one tensor, none empty.

    Returns:
        () the L2 norm.
    """
    norm: Tensor = torch.stack([squared_norm(gradient[None])[0] for gradient in gradients]).sum().sqrt()
    return norm


def squared_norm(gradients: Tensor) -> Tensor:
    """Squared L2 norm of each unit's part of a tensor.

    torch adds up a whole float32 tensor in float32: for an embedding of 50,000 x 768 the norm comes out 0.3 % short,
    and clipping would be as much too weak. Rows are short enough, and are added up in float64.

    Args:
        gradients: (U, ...).

    Returns:
        (U,) in the tensor's dtype.
    """
    rows = torch.linalg.vector_norm(gradients, dim=-1) if gradients.dim() > 2 else gradients
    return rows.flatten(1).double().square().sum(1).to(gradients.dtype)


def full_precision(batch: UnitBatch) -> torch.autocast:
    """Switch autocast off, for the backward and the sums as much as for the forward.

    Under bfloat16 autocast norms come out wrong by parts in a thousand, and the bound with them.

    Args:
        batch: tells the device.
    """
    return torch.autocast(batch.targets.device.type, enabled=False)
