"""A second accountant, written by other people: Opacus' PRV must agree before a number is believed.

A wrong formula looks plausible, so nothing that is published rests on one implementation. PRV states an upper bound
that is about 0.01 above the PLD's, its own margin for error.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from privacy.accountant import PrivacyEvent, PrivacySpend, merged
from protocols.errors import WorkError

ABOVE = 0.02
"""PRV may say so much more than PLD. It adds 0.01 by construction, whatever the epsilon, so this does not scale."""
BELOW, BELOW_SHARE = 0.001, 0.01
"""PRV may say so much less, the larger of the two. PLD is then looser, on a coarse grid, which is the safe side."""
LARGEST = 1_000.0
"""Beyond it PRV takes minutes, and no such number is worth a witness."""

_RDP_SLACK = 1e-3  # RDP's bound meets PLD's where both are nearly 0, and PLD rounds up


def prv_epsilon(events: Iterable[PrivacyEvent], delta: float) -> float:
    """Epsilon after Opacus' accountant of privacy loss random variables, an upper bound.

    Args:
        events: everything released.
        delta: in (0, 1).

    Raises:
        WorkError: it gives no number for these events.
    """
    together = merged(events)
    if not together:
        return 0.0
    if any(event.noise_multiplier == 0 for event in together):
        return math.inf
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = [(event.noise_multiplier, event.sampling_rate, event.steps) for event in together]
    try:
        return float(accountant.get_epsilon(delta))
    except Exception as error:  # whatever it is: without a witness there is no number
        raise WorkError(
            f"Opacus' PRV accountant gives no number for {len(together)} mechanisms at delta {delta:g}: "
            f"{type(error).__name__}.",
            hint="check noise multiplier and sampling rate: one of them is far from usual",
        ) from error


def require_agreement(spent: PrivacySpend, events: Iterable[PrivacyEvent]) -> float:
    """Stop unless a second accountant confirms a spend.

    Args:
        spent: from :func:`privacy.accountant.spend`.
        events: what it was computed from.

    Returns:
        The PRV number.

    Raises:
        WorkError: the accountants differ, or one of them has no number.
    """
    together = merged(events)
    if sum(event.steps for event in together) != spent.num_releases:
        raise _differ(spent, f"{spent.num_releases} releases were accounted for, but the events have others")
    if not max(spent.pld_bound, spent.rdp_bound) < math.inf or spent.pld_bound > LARGEST:
        raise _differ(spent, f"numbers above {LARGEST:g} have no witness")
    if not spent.rdp_bound >= spent.pld_bound - _RDP_SLACK:
        raise _differ(spent, "RDP is a looser bound and must not be smaller")
    prv = prv_epsilon(together, spent.delta)
    # PLD falls back to RDP where it fails; that is far above PRV and still a bound.
    below = math.inf if spent.accountant == "rdp" else max(BELOW, BELOW_SHARE * spent.pld_bound)
    if not -below <= prv - spent.pld_bound <= ABOVE:
        raise _differ(spent, f"PRV says {prv:.4f}")
    return prv


def _differ(spent: PrivacySpend, why: str) -> WorkError:
    return WorkError(
        f"Two privacy accountants do not agree on {spent.unit}-level epsilon at delta {spent.delta:g}: "
        f"{spent.accountant.upper()} says {spent.pld_bound:.4f}, RDP {spent.rdp_bound:.4f}; {why}.",
        hint="do not publish either number; check the versions of dp-accounting and opacus (constraints.txt) and "
        "report it",
    )
