"""What differential privacy has cost: the only place where an epsilon is computed.

The number that counts is an upper bound from privacy loss distributions (PLD, Google's dp-accounting); a bound from
Renyi differential privacy (RDP) stands beside it and is larger. ``privacy/witness.py`` has a second, independent
implementation check it. Accounting by the central limit theorem (Gaussian DP) is not used: it gives a number *below*
the true one where steps are few or noise is small.

All of it assumes Poisson sampling: each unit enters a step by a coin of its own.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Literal, Protocol

from protocols.errors import UsageError

SpendUnit = Literal["patient", "note", "record", "site"]
Accountant = Literal["pld", "rdp"]

# Width of the grid on which losses are rounded up, by the largest RDP bound it serves. A coarser grid is as valid and
# gives a larger number: 0.001 more at epsilon 8 on the second one. Finer ones than needed cost 7 s at epsilon 300.
_GRIDS = ((20.0, 1e-4), (200.0, 1e-3), (2_000.0, 1e-2))
_MANY_EVENTS = 6  # from so many different mechanisms on, the finest grid costs seconds and wins nothing

NOISE_FLOOR, NOISE_CEILING = 0.1, 10_000.0


@dataclass(frozen=True, slots=True)
class PrivacyEvent:
    """Some steps of the subsampled Gaussian mechanism.

    Attributes:
        sampling_rate: chance of a unit to enter a step, in (0, 1]; 1 is the plain Gaussian mechanism.
        noise_multiplier: standard deviation of the noise over the clipping bound; 0 is no privacy at all.
        steps: how often.

    Raises:
        ValueError: a value is outside its range.
    """

    sampling_rate: float
    noise_multiplier: float
    steps: int

    def __post_init__(self) -> None:
        if not 0 < self.sampling_rate <= 1:
            raise ValueError(f"sampling_rate is {self.sampling_rate}, not in (0, 1]")
        if not 0 <= self.noise_multiplier < math.inf:
            raise ValueError(f"noise_multiplier is {self.noise_multiplier}, not finite or below 0")
        if self.steps < 0:
            raise ValueError(f"steps is {self.steps}, below 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivacySpend:
    """What the releases so far can tell about one unit, at most.

    Attributes:
        unit: whose addition or removal is hidden.
        delta: at which the bounds hold.
        num_releases: steps, each of which released one noisy sum.
        accountant: which bound ``pld_bound`` is; "rdp" where the PLD cannot be computed (noise far too small).
        pld_bound: the epsilon that counts, an upper bound.
        rdp_bound: the larger one beside it.
    """

    unit: SpendUnit
    delta: float
    num_releases: int
    accountant: Accountant
    pld_bound: float
    rdp_bound: float

    def named(self) -> dict[str, float | int | str]:
        """The numbers by name, the unit in the name: epsilons for different units cannot be compared."""
        return {
            f"{self.unit}_level_epsilon": self.pld_bound,
            f"{self.unit}_level_epsilon_rdp": self.rdp_bound,
            "delta": self.delta,
            "num_releases": self.num_releases,
            "accountant": self.accountant,
        }

    def in_words(self) -> str:
        """One line for a person."""
        return (
            f"{self.unit}-level epsilon {self.pld_bound:.3f} (RDP {self.rdp_bound:.3f}) at delta {self.delta:g} "
            f"after {self.num_releases:,} releases"
        )


def merged(events: Iterable[PrivacyEvent]) -> tuple[PrivacyEvent, ...]:
    """Add up the steps of equal mechanisms, in an order of their own: composition does not know the order.

    20 equal segments take 8 s to compose one by one and 0.3 s as one.
    """
    steps: dict[tuple[float, float], int] = {}
    for event in events:
        key = (event.sampling_rate, event.noise_multiplier)
        steps[key] = steps.get(key, 0) + event.steps
    return tuple(PrivacyEvent(rate, noise, count) for (rate, noise), count in sorted(steps.items()) if count)


def spend(events: Iterable[PrivacyEvent], delta: float, unit: SpendUnit) -> PrivacySpend:
    """Compose events and bound what they can tell about a unit.

    Args:
        events: everything released on this data set; none is a spend of 0.
        delta: in (0, 1).
        unit: written beside the number.

    Raises:
        ValueError: delta is outside (0, 1).

    Example:
        >>> spend([PrivacyEvent(1.0, 1.0, 1)], 1e-5, "patient").in_words()
        'patient-level epsilon 4.377 (RDP 4.729) at delta 1e-05 after 1 releases'
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta is {delta}, not in (0, 1)")
    together = merged(events)
    accountant, bound, rdp_bound = _bounds(together, delta)
    return PrivacySpend(
        unit=unit,
        delta=delta,
        num_releases=sum(event.steps for event in together),
        accountant=accountant,
        pld_bound=bound,
        rdp_bound=rdp_bound,
    )


@lru_cache(maxsize=256)
def calibrate(
    target: float, delta: float, sampling_rate: float, steps: int, spent: tuple[PrivacyEvent, ...] = ()
) -> float:
    """The smallest noise multiplier with which planned steps, on top of what is spent, stay within a target.

    Args:
        target: epsilon that must not be passed, at ``delta``.
        delta: in (0, 1).
        sampling_rate: of the planned steps, in (0, 1].
        steps: planned, at least 1.
        spent: what was released before.

    Returns:
        A multiple of 0.0001 (from 10 on five significant digits), rounded up, and at least 0.1: below, accountants
        lose their precision.

    Raises:
        UsageError: what is spent, or the steps with any noise, passes the target.
    """
    before = merged(spent)
    already = _bounds(before, delta)[1]
    if already > target:
        raise UsageError(
            f"What is spent passes the target before the first step: epsilon {already:.4f} of {target:g} "
            f"at delta {delta:g}.",
            hint="no noise can take back what was released; the target has to be larger, or the plan cannot run",
        )

    def bound(noise: float, grid: float | None = None) -> float:
        events = merged((*before, PrivacyEvent(sampling_rate, noise, steps)))
        return _pld_bound(events, delta, grid) if grid else _bounds(events, delta)[1]

    enough = max(1.0, 5 * math.sqrt(steps) / target)  # approached from above, where grids are short and thus quick
    while enough < NOISE_CEILING and bound(enough, 1e-2) > target:
        enough = min(4 * enough, NOISE_CEILING)
    if bound(enough) > target:
        raise UsageError(
            f"No noise multiplier up to {NOISE_CEILING:,.0f} keeps {steps:,} steps at sampling rate "
            f"{sampling_rate:g} within epsilon {target:g} at delta {delta:g}: {already:.4f} is spent.",
            hint="plan fewer steps, a lower sampling rate or a larger target",
        )
    return _smallest(bound, target, enough)


class _Bound(Protocol):
    def __call__(self, noise: float, grid: float | None = None) -> float:
        """Epsilon with that noise, on the grid that will be charged if none is given."""


def _smallest(bound: _Bound, target: float, enough: float) -> float:
    """Find the noise on coarse grids, each of which gives larger numbers than the next, and prove it on the last."""
    slope = -1.0
    for grid, shrink, width in ((1e-2, 0.5, 0.01), (1e-3, 0.9, 0.002)):
        if bound(enough, grid) > target:
            continue  # with very many steps, what this grid adds is more than the target
        low = shrink * enough
        while low >= NOISE_FLOOR and bound(low, grid) <= target:
            enough, low = low, shrink * low
        if low < NOISE_FLOOR and bound(NOISE_FLOOR) <= target:
            return NOISE_FLOOR
        enough, slope = _root(partial(bound, grid=grid), target, max(low, NOISE_FLOOR), enough, width)
    # What rounding up to a grid adds goes with the square of its width: that tells the number on the next grid, which
    # is costly. Then one step of Newton's method, if that was not near enough, and ticks of the fifth digit.
    coarse, middle = bound(enough, 1e-2), bound(enough, 1e-3)
    expected = max(middle - (coarse - middle) / 100, middle / 2) if middle <= target else target
    per_one: float = 10.0 ** (4 - max(0, math.floor(math.log10(enough))))
    tick: int = math.ceil(per_one * enough * (expected / target) ** (-1 / slope))
    tick = max(math.ceil(tick * (bound(tick / per_one) / target) ** (-1 / slope)), math.ceil(NOISE_FLOOR * per_one))
    while bound(tick / per_one) > target:
        tick += 1
    one_less = (tick / (tick - 1)) ** (-0.9 * slope)  # at the least; where that is too much, a costly look is spared
    while (
        tick / per_one > NOISE_FLOOR
        and bound(tick / per_one) * one_less <= target
        and bound((tick - 1) / per_one) <= target
    ):
        tick -= 1
    return tick / per_one


def _root(bound: Callable[[float], float], target: float, low: float, high: float, width: float) -> tuple[float, float]:
    """False position with the Illinois rule: an epsilon over its noise is nearly a line in logarithms.

    Returns:
        The smallest noise known to keep to the target, within a relative ``width``, and the slope of that line.
    """
    x_low, x_high = math.log(low), math.log(high)
    y_low, y_high = (_log_ratio(bound(noise), target) for noise in (low, high))
    slope = (y_high - y_low) / (x_high - x_low)
    weight_low, weight_high = y_low, y_high
    while x_high - x_low > width:
        middle = x_low + (x_high - x_low) * weight_low / (weight_low - weight_high)
        middle = min(max(middle, x_low + width / 2), x_high - width / 2)
        y = _log_ratio(bound(math.exp(middle)), target)
        if y > 0:
            slope = (y_high - y) / (x_high - middle)
            x_low, y_low, weight_low, weight_high = middle, y, y, weight_high / 2
        else:
            slope = (y - y_low) / (middle - x_low)
            x_high, y_high, weight_high, weight_low = middle, y, y, weight_low / 2
    return math.exp(x_high), min(slope, -0.1)


def _log_ratio(bound: float, target: float) -> float:
    return min(max(math.log(bound / target), -10.0), 10.0) if bound > 0 else -10.0


@lru_cache(maxsize=1024)
def _bounds(events: tuple[PrivacyEvent, ...], delta: float) -> tuple[Accountant, float, float]:
    """Which bound counts, that bound, and the RDP bound."""
    if not events:
        return "pld", 0.0, 0.0
    if any(event.noise_multiplier == 0 for event in events):
        return "pld", math.inf, math.inf
    rdp_bound = _rdp_bound(events, delta)
    grids = [grid for largest, grid in _GRIDS if rdp_bound <= largest]
    if not grids:
        return "rdp", rdp_bound, rdp_bound
    grid = max(grids[0], 1e-3) if len(events) >= _MANY_EVENTS else grids[0]
    try:
        bound = _pld_bound(events, delta, grid)
    except (ArithmeticError, ValueError, MemoryError):
        return "rdp", rdp_bound, rdp_bound
    if not math.isfinite(bound):
        return "rdp", rdp_bound, rdp_bound
    return "pld", bound, rdp_bound


def _pld_bound(events: tuple[PrivacyEvent, ...], delta: float, grid: float) -> float:
    total: Any = None
    for event in events:
        loss = _loss(event, grid)
        total = loss if total is None else total.compose(loss)
    return float(total.get_epsilon_for_delta(delta))


@lru_cache(maxsize=16)
def _loss(event: PrivacyEvent, grid: float) -> Any:
    """The distribution of the privacy loss of an event, rounded up to a grid."""
    if event.sampling_rate == 1:  # so many Gaussians are one
        return _loss_of_one(1.0, event.noise_multiplier / math.sqrt(event.steps), grid)
    return _loss_of_one(event.sampling_rate, event.noise_multiplier, grid).self_compose(event.steps)


@lru_cache(maxsize=16)
def _loss_of_one(sampling_rate: float, noise_multiplier: float, grid: float) -> Any:
    """That of one step: three quarters of the work, and the same for every round of a study."""
    from dp_accounting.pld.privacy_loss_distribution import from_gaussian_mechanism

    return from_gaussian_mechanism(noise_multiplier, value_discretization_interval=grid, sampling_prob=sampling_rate)


def _rdp_bound(events: tuple[PrivacyEvent, ...], delta: float) -> float:
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
    from dp_accounting.rdp import RdpAccountant

    accountant = RdpAccountant()
    with _quiet():
        for event in events:
            noise = GaussianDpEvent(event.noise_multiplier)
            accountant.compose(
                noise if event.sampling_rate == 1 else PoissonSampledDpEvent(event.sampling_rate, noise), event.steps
            )
        bound = float(accountant.get_epsilon(delta))
    return math.inf if math.isnan(bound) else bound


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep orders that do not converge to ourselves: without them the bound is larger, which is safe."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
