"""How much privacy loss one training run shows: a lower bound on epsilon from canaries that a coin put in or left out.

The accountant's epsilon is an upper bound that a faulty implementation does not keep. This is the other side: an
auditor guesses which canaries the model was trained on, and no (epsilon, delta)-private training lets anybody guess
much better than by flipping a coin. Source: Steinke, Nasr and Jagielski 2023, "Privacy Auditing with One (1) Training
Run", arXiv 2305.08846, theorem 5.2; the computation of the tail with delta is their appendix D.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95
_LARGEST = 100.0  # end of the search; no audit of any size comes near it


@dataclass(frozen=True, slots=True, kw_only=True)
class Guesses:
    """What an auditor made of the scores.

    Attributes:
        canaries: all that had a coin, those without a guess too.
        guesses: for how many a guess was ventured.
        correct: of these.
    """

    canaries: int
    guesses: int
    correct: int


def guess(scores: Sequence[float], included: Sequence[bool], guesses: int) -> Guesses:
    """Guess "in" for the highest scores and "out" for the lowest, and compare with the coins.

    Args:
        scores: of each canary; higher where the model knows it better.
        included: its coin.
        guesses: how many to venture, half at either end. Fix it before looking at any score: the best of several
            numbers is no valid test.

    Raises:
        ValueError: the lengths differ, or more guesses than canaries.
    """
    if len(scores) != len(included) or not 0 <= guesses <= len(scores):
        raise ValueError(f"{len(scores)} scores, {len(included)} coins, {guesses} guesses")
    # Ties keep the order of the canaries, which was drawn before the coins and tells nothing about them.
    order = np.argsort(np.asarray(scores, float), kind="stable")
    half = guesses // 2
    coins = np.asarray(included, bool)
    correct = int((~coins[order[:half]]).sum()) + int(coins[order[len(order) - half :]].sum())
    return Guesses(canaries=len(scores), guesses=2 * half, correct=correct)


def p_value(found: Guesses, epsilon: float, delta: float) -> float:
    """Chance that (epsilon, delta)-private training gives an auditor so many correct guesses, or more.

    Args:
        found: the guesses.
        epsilon: of the claim to be tested.
        delta: likewise.
    """
    from scipy.stats import binom  # here, as it takes a second to load

    accuracy = 1.0 / (1.0 + math.exp(-epsilon))  # of randomized response, the best that epsilon allows
    r, v = found.guesses, found.correct
    if v <= 0:
        return 1.0
    tail = float(binom.sf(v - 1, r, accuracy))
    # delta lets each canary be given away outright with a small chance; i of them would explain i correct guesses.
    lifted = np.arange(1, v + 1)
    explained = float((np.cumsum(binom.pmf(v - lifted, r, accuracy)) / lifted).max())
    return min(1.0, tail + 2 * found.canaries * delta * explained)


def empirical_lower_bound(
    correct: int, guesses: int, canaries: int, delta: float, confidence: float = CONFIDENCE
) -> float:
    """The largest epsilon that the guesses rule out.

    Args:
        correct: guesses that were right.
        guesses: how many were ventured; fixed in advance.
        canaries: how many had a coin.
        delta: at which epsilon is stated.
        confidence: chance that the bound is true.

    Returns:
        Epsilon for the unit that a canary was (here a patient). 0 when nothing can be ruled out.

    Raises:
        ValueError: numbers that cannot be.

    Example:
        >>> round(empirical_lower_bound(60, 64, 256, 1e-5), 3)
        1.835
    """
    if not 0 <= correct <= guesses <= canaries or not 0 <= delta < 1 or not 0 < confidence < 1:
        raise ValueError(f"{correct} of {guesses} guesses about {canaries} canaries, delta {delta}, {confidence}")
    found = Guesses(canaries=canaries, guesses=guesses, correct=correct)
    low, high = 0.0, _LARGEST
    if guesses == 0 or p_value(found, 0.0, delta) > 1 - confidence:
        return 0.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if p_value(found, middle, delta) <= 1 - confidence else (low, middle)
    return low


def audit_ceiling(guesses: int, canaries: int, delta: float, confidence: float = CONFIDENCE) -> float:
    """The largest bound that an audit of this size can show: every guess right.

    A training run without any privacy reaches it, so a claim above it cannot be refuted.

    Args:
        guesses: how many are ventured.
        canaries: how many have a coin.
        delta: at which epsilon is stated.
        confidence: of the bound.
    """
    return empirical_lower_bound(guesses, guesses, canaries, delta, confidence)
