"""White-box checks of a private step: is the noise there, as large as it was charged for, and is every unit clipped?

Faults of differential privacy do not crash: training without noise works better, not worse. Both checks go through
the step object that training uses, release and all. A flag that says "noise: on", or a norm computed beside the step,
would pass while the step itself is wrong.

They find gross faults within a second. They do not prove the guarantee: sampling, accounting and the randomness of
the noise are outside of what they see.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn

from privacy.mechanism import Mechanism
from privacy.unit_batch import UnitBatch

NOISE_ERRORS = 4.5
"""Standard errors that the noise ratio may lie off: one honest check in 150,000 fails by chance."""

SENSITIVITY_SLACK = 1e-4
"""Rounding that is forgiven: sums of float32 gradients."""

_POWER = 0.9
_TIGHTER = 1e-4


class Step(Protocol):
    """What :class:`privacy.private_step.PrivateStep` does."""

    def release(self, batches: Iterable[UnitBatch]) -> object:
        """Put the gradient of one step into ``.grad`` of the trainable parameters."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WhiteBox:
    """What the checks saw.

    Attributes:
        noise_ratio: standard deviation of the noise, by that of the mechanism; 1 is right, 0 is no noise.
        noise_standard_error: of the ratio.
        sensitivity_ratio: how far one unit with a gradient far beyond the bound moved the release, by the bound.
    """

    noise_ratio: float
    noise_standard_error: float
    sensitivity_ratio: float

    @property
    def noise_is_right(self) -> bool:
        """Whether the ratio is 1 within ``NOISE_ERRORS`` standard errors."""
        return abs(self.noise_ratio - 1) <= NOISE_ERRORS * self.noise_standard_error

    @property
    def units_are_clipped(self) -> bool:
        """Whether one unit moves the release by the bound at most."""
        return self.sensitivity_ratio <= 1 + SENSITIVITY_SLACK

    @property
    def sensitivity_was_tested(self) -> bool:
        """Whether the unit reached the bound at all; a unit without a gradient would pass any clipping."""
        return self.sensitivity_ratio >= _POWER

    @property
    def passed(self) -> bool:
        """All of the above."""
        return self.noise_is_right and self.units_are_clipped and self.sensitivity_was_tested


def white_box(
    model: nn.Module,
    mechanism: Mechanism,
    make_step: Callable[[Mechanism], Step],
    batches: Sequence[UnitBatch],
) -> WhiteBox:
    """Check noise and clipping of the step that a mechanism makes.

    Noise: the difference of two releases on the same units is noise alone, with sqrt(2) times its deviation.
    Sensitivity: without noise and with a bound so tight that every gradient is far beyond it, the release with and
    without the last batch's unit.

    Args:
        model: whose ``.grad`` the step fills; it is None afterwards.
        mechanism: as charged for, with noise.
        make_step: makes the step of training for a mechanism; called with the given one and with a variant of it.
        batches: two or more; the last one holds one unit, best with several records, since clipping each record on
            its own shows only there.

    Raises:
        ValueError: the mechanism has no noise, or the batches are not as said.

    Example:
        >>> white_box(model, mechanism, lambda m: PrivateStep(model, m, backend, random), batches)  # doctest: +SKIP
    """
    if mechanism.noise_multiplier <= 0:
        raise ValueError("the mechanism has no noise to check")
    if len(batches) < 2 or batches[-1].num_units != 1:
        raise ValueError("give two batches or more, the last one with one unit")
    try:
        step = make_step(mechanism)
        first, second = _release(model, step, batches), _release(model, step, batches)
        deviation = float((first - second).square().mean().sqrt())
        expected = math.sqrt(2) * mechanism.noise_multiplier * mechanism.max_grad_norm / mechanism.expected_units
        return WhiteBox(
            noise_ratio=deviation / expected,
            noise_standard_error=1 / math.sqrt(2 * first.numel()),
            sensitivity_ratio=_sensitivity(model, mechanism, make_step, batches),
        )
    finally:
        model.zero_grad(set_to_none=True)


def _sensitivity(
    model: nn.Module, mechanism: Mechanism, make_step: Callable[[Mechanism], Step], batches: Sequence[UnitBatch]
) -> float:
    # Lowering the bound makes the same gradient huge in its units, without weights that no training has.
    bound = mechanism.max_grad_norm * _TIGHTER
    step = make_step(replace(mechanism, noise_multiplier=0.0, max_grad_norm=bound))
    difference = _release(model, step, batches) - _release(model, step, batches[:-1])
    return float(difference.norm()) * mechanism.expected_units / bound


def _release(model: nn.Module, step: Step, batches: Sequence[UnitBatch]) -> Tensor:
    """One release as a vector in float64."""
    step.release(batches)
    gradients = [p.grad for p in model.parameters() if p.requires_grad]
    if any(g is None for g in gradients):
        raise ValueError("the step left a trainable parameter without a gradient, and so without noise")
    return torch.cat([g.detach().double().flatten() for g in gradients if g is not None])


def random_units(vocab_size: int, *, units: int, records: int, tokens: int, seed: int = 0) -> UnitBatch:
    """Make units of random tokens for a causal model; nobody's text.

    Args:
        vocab_size: of the model.
        units: how many.
        records: of each.
        tokens: of each record.
        seed: equal seeds give equal units.
    """
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(vocab_size, (units * records, tokens + 1), generator=generator)
    return UnitBatch(
        inputs={"input_ids": ids[:, :-1].contiguous()},
        targets=ids[:, 1:].contiguous(),
        unit=torch.arange(units).repeat_interleave(records),
        num_units=units,
    )
