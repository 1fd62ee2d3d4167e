"""The bound against published values, its closed form, and mechanisms whose epsilon is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from site_client.audit.one_run import Guesses, audit_ceiling, empirical_lower_bound, guess, p_value


@pytest.mark.parametrize(("guesses", "expected"), [(32, 2.32), (64, 3.04), (128, 3.74)])
def test_all_right_gives_the_closed_form(guesses, expected):
    p = 0.05 ** (1 / guesses)
    assert audit_ceiling(guesses, 256, 0.0) == pytest.approx(math.log(p / (1 - p)), abs=1e-5)
    assert audit_ceiling(guesses, 256, 0.0) == pytest.approx(expected, abs=0.005)


def test_sixty_of_sixty_four_gives_the_known_bound():
    assert empirical_lower_bound(60, 64, 256, 1e-5) == pytest.approx(1.835, abs=0.0005)
    assert empirical_lower_bound(60, 64, 256, 0.0) == pytest.approx(1.8376, abs=0.0001)


def published_p_value(m, r, v, eps, delta):
    """Appendix D of arXiv 2305.08846, line by line."""
    from scipy.stats import binom

    q = 1 / (1 + math.exp(-eps))
    beta = binom.sf(v - 1, r, q)
    alpha, total = 0.0, 0.0
    for i in range(1, v + 1):
        total += binom.pmf(v - i, r, q)
        if total > i * alpha:
            alpha = total / i
    return min(beta + alpha * delta * 2 * m, 1)


@given(st.integers(1, 120), st.floats(0, 8), st.floats(0, 0.01), st.data())
def test_p_value_equals_the_published_program(guesses, epsilon, delta, data):
    correct = data.draw(st.integers(0, guesses))
    found = Guesses(canaries=2 * guesses, guesses=guesses, correct=correct)
    expected = published_p_value(2 * guesses, guesses, correct, epsilon, delta)
    assert p_value(found, epsilon, delta) == pytest.approx(expected, abs=1e-12)


def test_delta_lowers_the_bound():
    bounds = [empirical_lower_bound(60, 64, 256, delta) for delta in (0.0, 1e-5, 1e-3, 1e-2)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[0] - bounds[1] < 0.05
    assert bounds[-1] < bounds[0] - 0.2


def test_chance_and_worse_give_no_bound():
    assert empirical_lower_bound(32, 64, 256, 1e-5) == 0.0
    assert empirical_lower_bound(0, 64, 256, 1e-5) == 0.0
    assert empirical_lower_bound(0, 0, 256, 1e-5) == 0.0


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("guesses", [64, 200])
def test_bound_of_randomized_response_is_exceeded_in_one_of_twenty_runs_at_most(epsilon, guesses):
    """Warner's mechanism tells each coin truly with probability e^eps / (1 + e^eps): exactly eps-DP."""
    rng = np.random.default_rng(1)
    runs, canaries = 2_000, 256
    bounds: dict[int, float] = {}
    exceeded = 0
    for _ in range(runs):
        coins = rng.random(canaries) < 0.5
        told = np.where(rng.random(canaries) < 1 / (1 + math.exp(-epsilon)), coins, ~coins)
        found = guess((told + 0.01 * rng.random(canaries)).tolist(), coins.tolist(), guesses)
        if found.correct not in bounds:
            bounds[found.correct] = empirical_lower_bound(found.correct, guesses, canaries, 0.0)
        exceeded += bounds[found.correct] > epsilon
    error = math.sqrt(0.05 * 0.95 / runs)
    assert exceeded / runs <= 0.05 + 3 * error


def test_perfect_scores_are_guessed_right_and_odd_numbers_are_rounded_down():
    coins = [True, False] * 20
    assert guess([float(c) for c in coins], coins, 21) == Guesses(canaries=40, guesses=20, correct=20)
    assert guess([-float(c) for c in coins], coins, 20).correct == 0


@pytest.mark.parametrize("numbers", [(65, 64, 256), (10, 300, 256), (-1, 64, 256)])
def test_impossible_numbers_are_refused(numbers):
    with pytest.raises(ValueError, match="guesses"):
        empirical_lower_bound(*numbers, 0.0)


def test_more_guesses_than_canaries_are_refused():
    with pytest.raises(ValueError, match="guesses"):
        guess([0.0], [True], 2)
